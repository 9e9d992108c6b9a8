"""Ainu: a multilingual wav2vec 2.0 goes on with the recordings of one small language, and learns to write from its few labels and others'.

Nowakowski, Ptaszynski, Murasaki, Nieuważny, "Adapting Multilingual Speech Representation Model for a New, Underresourced Language
through Multilingual Fine-tuning and Continued Pretraining", Information Processing & Management 60(2) 103148, 2023, arXiv:2301.07295.
Two ways to help a language with hardly any labels: continue pre-training on its untranscribed recordings, and fine-tune on its
labels together with those of a related language, or of an unrelated one that sounds alike. The first is what helps; the second only when labels
are very few. Neither adds a parameter: the quantizer goes on where it was.

Good for: a small or endangered language, field recordings, few narrators, with `--start` a wav2vec 2.0 of other languages (one of
ours, or a published XLSR-53). Labels of several scripts are brought to one alphabet by 'overture data join --latin'.

Deviations, in all sizes:
- Linear warm-up and decay of the rate; diversity is of a micro-batch, so laws 2 and 5 hold without it, as for wav2vec2.
Deviations of `default()`, a size for a laptop: wav2vec2's own, half its rate and half its updates.
"""

from dataclasses import replace

from overture.data.features import Waveform
from overture.objectives.wav2vec2 import Contrastive
from overture.quantize.gumbel import Annealing
from overture.recipes import hykist, wav2vec2
from overture.recipes.hykist import FIRST, LARGE, MULTILINGUAL, ON, RATES, SLIM
from overture.recipes.wav2vec2 import EXEMPT
from overture.run import Data, Loop, Optim, Plan, Player, Run
from overture.study import Arm, Claim, Study, Trial

__all__ = ["EXEMPT", "claim", "default", "published", "tiny"]
LEADS = (
    "language = 'cs' AND gender IS NOT NULL AND duration BETWEEN 0.5 AND 10"  # the two voices with 85 of 104 minutes
)
PARTS = (  # by sentence, so each is in one part only
    ("train", "substr(md5(text), 1, 1) NOT IN ('0', '1', '2', '3')"),
    ("dev", "substr(md5(text), 1, 1) = '0'"),
    ("test", "substr(md5(text), 1, 1) IN ('1', '2', '3')"),
)


def published() -> Run:
    """XLSR-53 (LARGE: 24 layers, H=1024, 16 heads), 100,000 updates on 234 h of Hokkaido and Sakhalin Ainu (model card of
    `wav2vec2-large-xlsr-53-pretrain-ain`). Spans of 10 from .065 of the frames, 100 negatives, diversity .1: XLSR-53's.

    Rate, batch and schedule are not known here: as in `hykist`, of LeBenchmark's published continuation.
    """
    return Run(
        recipe="ainu",
        size="published",
        data=Data(corpus="ainu-234", min_seconds=2.0, max_seconds=20.0, cache=False),
        frontend=Waveform(),
        model=LARGE,
        players=(
            Player(
                objective=Contrastive(temperature=Annealing(least=0.1)),
                optim=Optim(lr=5e-5, betas=(0.9, 0.98), eps=1e-6, warmup=0.1, clip=1e9),
            ),
        ),
        plan=Plan(update=16 * 87.5, micro=87.5, longest_squared=1750.0),
        loop=Loop(updates=100_000, log_every=100, checkpoint_every=10_000),
    )


def default() -> Run:
    """For a laptop: 4 layers, H=256, 4.4 M parameters."""
    base = wav2vec2.default()
    player = replace(base.players[0], optim=replace(base.players[0].optim, lr=5e-4))
    return replace(base, recipe="ainu", players=(player,), loop=replace(base.loop, updates=1000))


def tiny() -> Run:
    """For tests: seconds on one core."""
    return replace(wav2vec2.tiny(), recipe="ainu")


def claim() -> Claim:
    """The factorial: continued or not, times labels of the target, with a related language, with an unrelated one.

    Czech is the target; Russian and Bulgarian, in Latin letters, are the related languages and Spanish and Greek the others, 38 minutes
    each by two voices of one corpus. Every fine-tuning makes the same updates of the same length.

    About an hour on two cores (6,900 CPU-s, counted from single timings: 3 x 400 updates of 32 s, 3 x 7 fine-tunings of 900 updates of 20 s,
    and 1,200 more where `hykist`, whose start it is, has not been checked in the same folder of runs). For that, against the sheet: five
    minutes of labels and not fifteen beside them, one rate of fine-tuning, narrower convolutions.
    """
    on = replace(default(), model=SLIM, loop=replace(default().loop, updates=ON))
    languages = {"": None, " + related": ("ru", "bg"), " + unrelated": ("es", "el")}

    def arm(name: str, kind: str, others: tuple[str, ...] | None) -> Arm:
        also = None if others is None else f"corpus = 'tuxpaint' AND language IN {others}"
        return Arm(
            name=name, run=on, kind="trained" if kind == "continued" else "start", stages=(MULTILINGUAL,), also=also
        )

    return Claim(
        recipe="ainu",
        text="Fine-tuned on 5 minutes of transcribed speech, a wav2vec 2.0 of other languages that goes on with unlabelled speech of the target "
        "makes fewer character errors than one that does not, and gains more by that than by labels of a related language.",
        corpora=hykist.CORPORA,
        study=Study(
            corpus="multilingual",
            where="language = 'cs'",
            arms=(
                Arm(name="scratch", run=on, kind="untrained"),
                *(
                    arm(f"{kind}{name}", kind, others)
                    for kind in ("base", "continued")
                    for name, others in languages.items()
                ),
            ),
            trials=(
                Trial(
                    task="asr-finetune",
                    corpus="multilingual",
                    where=LEADS,
                    parts=PARTS,
                    label_minutes=5.0,
                    outside=("whisper-base",),
                    rates=RATES,
                ),
            ),
        ),
        expected=(("continued", "base"), ("continued", "base + related")),
        expected_also=tuple(
            ("asr-finetune", better, worse)
            for better, worse in (
                ("base", "scratch"),
                ("base + related", "base"),
                ("base + unrelated", "base"),
                ("base + related", "base + unrelated"),
                ("continued + related", "continued"),
                ("continued + related", "base + related"),
            )
        ),
        deviations=(
            f"{FIRST:,} updates of 32 s on 5.8 h of thirteen languages, and {ON} more on 1.4 h of Czech, stand for XLSR-53 and 100,000 on 234 h.",
            "One size of labels, 5 minutes, and one rate of fine-tuning, 1e-3, for all arms.",
            "Acted Czech of a game, two voices that train, development and test rows share, as narrators are shared in field recordings.",
            "The base has heard the related and the unrelated languages too, without their texts.",
            "Letters are those of ISO/R 9 for Cyrillic and ELOT 743 for Greek; greedy CTC without a language model.",
        ),
    )
