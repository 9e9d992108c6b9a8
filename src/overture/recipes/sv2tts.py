"""SV2TTS: a synthesiser that is told who speaks by a vector, and so may speak as anybody of whom there are a few seconds.

Jia et al., "Transfer Learning from Speaker Verification to Multispeaker Text-To-Speech Synthesis", NeurIPS 2018, arXiv:1806.04558. Three networks
are trained apart: an encoder that learns to tell speakers apart from recordings without text (recipe `ge2e`, or the published one: `overture models
get ge2e`), this synthesiser, and a vocoder of its mel (recipe `hifi-gan`) that knows of no speakers. The encoder is frozen and its vectors are data
(`data.voices`): in training of the utterance itself, later of any recording (`overture.models.free_running`).

Good for: the voice of somebody unseen, from recordings of many speakers who each say little. Needs a corpus with phones (`overture data score
CORPUS --with phones`, English alone) and many speakers: the voices that it can make are as varied as those it has heard, the encoder's above all.

Deviations, in all sizes:
- A Transformer in the place of Tacotron 2's LSTMs (transformers' SpeechT5, after Li et al. 2019, arXiv:1809.08895), with guided attention.
- The vector is joined to each frame that enters the decoder, not to each state of the text's encoder: so transformers' class has it.
- The postnet's batch norms learn scale and shift alone, so that no utterance depends on its batch. The last frame's end counts five times.
- Phones without stress; silence is one of them, and is where the aligner heard it.
Deviations of `default()`, a size for a laptop: 4 layers of D=256; 16 kHz and 80 mels every 16 ms, as of the vocoders there are; two frames a step.
"""

from dataclasses import replace
from typing import Any

from overture.data.normal_mel import NormalMel
from overture.data.voices import MeanMel, SpeakerVectors
from overture.models.synthesiser import Synthesiser
from overture.objectives.synthesis import Synthesis
from overture.recipes import ge2e
from overture.run import Data, Loop, Optim, Plan, Player, Run
from overture.study import Arm, Claim, Study, Trial

UPDATES = 800  # of the claim's arms
EXEMPT = {
    6: "it reads phones and hears nothing, so AutoModel has no states to give: it is exported as what AutoModelForTextToSpectrogram opens",
}


def published() -> Run:
    """On LibriSpeech clean (436 h of 1,172 speakers) as in section 3: 16 kHz, 80 mels of 50 ms every 12.5 ms, a frame a step, batches of 64 (of up to
    12 s here), the paper's prenet (2 x 256), postnet (5 x 512) and vectors (256).

    The paper's synthesiser is Tacotron 2, so layers (6 and 6), D=512 and FFN=2048 are those of Li et al. 2019. Rate, its schedule and the number of
    updates are not in the paper: 1e-3 in a warm-up of 4,000 and linear decay to 1e-5 are a re-implementation's in spirit. Mean and deviation of the
    mel are the embedded corpus's, to be measured by `overture.data.level`.
    """
    return Run(
        recipe="sv2tts",
        size="published",
        data=Data(
            corpus="librispeech-clean",
            where="phones IS NOT NULL AND duration BETWEEN 1 AND 12",
            max_seconds=12.0,
            voices=SpeakerVectors(),
        ),
        frontend=NormalMel(window=800, hop=200),
        model=Synthesiser(layers=6, dim=512, heads=8, ffn=2048, postnet=512, reduction=1),
        players=(Player(objective=Synthesis(), optim=Optim(lr=1e-3, warmup=0.02, final=0.01, clip=1.0)),),
        plan=Plan(update=768.0, micro=192.0),
        loop=Loop(updates=200_000, log_every=100, checkpoint_every=5_000),
    )


def default() -> Run:
    """For a laptop: 4 layers, D=256, 8.9 M parameters; the published encoder says who speaks."""
    return Run(
        recipe="sv2tts",
        size="default",
        data=Data(
            where="phones IS NOT NULL AND duration BETWEEN 0.5 AND 8",
            max_seconds=8.0,
            voices=SpeakerVectors(),
        ),
        frontend=NormalMel(),
        model=Synthesiser(),
        players=(Player(objective=Synthesis(), optim=Optim(lr=1e-3, warmup=0.1, clip=1.0)),),
        plan=Plan(update=60.0, micro=60.0),
        loop=Loop(updates=4000, log_every=40, checkpoint_every=400),
    )


def tiny() -> Run:
    """For tests: seconds on one core. The mean spectrum says who speaks, which needs no encoder and is none."""
    return replace(
        default(),
        size="tiny",
        data=Data(where="phones IS NOT NULL AND duration BETWEEN 0.5 AND 2", max_seconds=2.0, voices=MeanMel()),
        model=Synthesiser(layers=2, dim=32, heads=2, ffn=64, prenet=16, postnet=16, voice=80),
        plan=Plan(update=12.0, micro=6.0),
        loop=Loop(updates=12, log_every=2, checkpoint_every=4, precision="fp32"),
    )


def claim() -> Claim:
    """Synthesisers that differ in nothing but who tells them the voice (SV2TTS, table 5: the more speakers an encoder has heard, the more alike are
    voices that nobody has heard). Published GE2E judges; so the arm that is told by it says how much there is to gain, and decides nothing.

    The encoders are those of `ge2e`'s claim: 4 voices or 12 at equal hours. The mean spectrum of the reference is what needs no encoder.
    """
    base = default()
    data = replace(
        base.data,
        corpus="amazon-queen",
        where="phones IS NOT NULL AND speaker IS NOT NULL AND duration BETWEEN 1 AND 6",
        max_seconds=6.0,
    )
    base = replace(base, data=data, plan=Plan(update=30.0, micro=30.0), loop=replace(base.loop, updates=UPDATES))
    encoders = {a.name: replace(a.run, data=replace(a.run.data, corpus=data.corpus)) for a in ge2e.claim().study.arms}

    def arm(name: str, voices: MeanMel | SpeakerVectors, size: int, encoder: Run | None = None) -> Arm:
        model = Synthesiser(layers=3, dim=192, heads=4, ffn=768, voice=size)
        return Arm(name=name, run=replace(base, data=replace(data, voices=voices), model=model), encoder=encoder)

    published = arm("published encoder", SpeakerVectors(), 256)
    said = "duration BETWEEN 1.5 AND 5 AND phones IS NOT NULL"
    learnt = (("train", "speaker = 'ian'"), ("dev", "speaker = 'henry'"))  # nothing is learnt or tuned
    unheard = (*learnt, ("test", ge2e.of(ge2e.TEST)))
    heard = (*learnt, ("test", f"{ge2e.of(ge2e.TWELVE[:-3])} AND id LIKE '%7__'"))
    voice: dict[str, Any] = {"task": "synthesis-voice", "where": said, "outside": ("recording",)}
    told: dict[str, Any] = {"where": said, "parts": unheard, "outside": ("recording", "piper")}
    return Claim(
        recipe="sv2tts",
        text="A synthesiser that is told voices by a GE2E encoder of 12 speakers comes nearer to voices that neither has heard than one that is told "
        "them by an encoder of 4 speakers, and than one that is told the mean spectrum of the reference.",
        study=Study(
            corpus=data.corpus,
            where="speaker IS NOT NULL",
            arms=(
                replace(published, name="griffin-lim of recordings", kind="input"),
                arm("mean spectrum", MeanMel(), 80),
                arm("encoder of 4 voices", SpeakerVectors(), 128, encoders["4 voices"]),
                arm("encoder of 12 voices", SpeakerVectors(), 128, encoders["12 voices"]),
                published,
            ),
            trials=(
                Trial(parts=unheard, **voice),
                Trial(parts=heard, called="voices heard in training", heard=True, **voice),
                Trial(task="synthesis", **told),
                Trial(task="synthesis-sound", **told),
            ),
        ),
        expected=(("encoder of 12 voices", "encoder of 4 voices"), ("encoder of 12 voices", "mean spectrum")),
        expected_also=(("synthesis-voice", "published encoder", "mean spectrum"),),
        deviations=(
            "4 and 12 characters of a game stand for 1,200 to 18,000 speakers, and Griffin-Lim for a trained vocoder.",
            "2.0 h of acted dialogue, 11 kHz MP3 brought to 16 kHz, stand for 44 to 436 h of read speech.",
            f"{UPDATES:,} updates of 30 s by 4.6 M parameters; the paper's number of updates is not known.",
            "GE2E, Whisper and DNSMOS stand for listeners. The published encoder is the judge itself, so that arm is compared with no other encoder.",
        ),
        corpora=("overture data get amazon-queen", "overture data score amazon-queen --with phones"),
    )
