"""Gender in self-supervised speech: does it matter whose voices a wav2vec 2.0 is pre-trained on, and for whom?

Boito, Besacier, Tomashenko, Estève, "A Study of Gender Impact in Self-supervised Models for Speech-to-Text Systems", Interspeech 2022,
arXiv:2204.01397. Models of women's speech only, of men's only, and of both in balance, of equal hours, are fine-tuned end to end or
give frozen features. Fine-tuned, models of one gender are worse for everybody; as features there is no simple order; the gap between
women and men hardly depends on it. A gap is never shown without the errors themselves: equal and bad would be "fair".

Good for: asking what any column of a corpus (gender, dialect, age, channel) does, with all else equal: `data.matched` takes as many hours of
each of its values. Not for: guessing who speaks; rows without a value belong to no group.

Deviations, in all sizes: those of wav2vec2.
Deviations of `default()`, a size for a laptop: wav2vec2's own, balanced by the two genders.
"""

from dataclasses import replace

from overture.data.mixture import Matched
from overture.recipes import hykist, wav2vec2
from overture.recipes.ainu import LEADS, PARTS
from overture.recipes.hykist import COOLED, RATES, SLIM
from overture.recipes.wav2vec2 import EXEMPT
from overture.run import Data, Run
from overture.study import Arm, Claim, Study, Trial

__all__ = ["EXEMPT", "claim", "default", "published", "tiny"]
HOURS = 2.3  # of each arm of the claim
UPDATES = 600  # of each arm of the claim
# One reader of prompts a gender (there are five), so that each corpus gives women and men alike; Czech is kept for recognition.
POOL = "language <> 'cs' AND gender IS NOT NULL AND (corpus <> 'asterisk-16k' OR gender = 'm' OR language = 'ru-RU') AND rate >= 16000"


def published() -> Run:
    """BASE, by fairseq's recipe, on 1,000 h of French of which half is by women, half by men (section 3.1); `data.matched.values=["f"]` with
    1,000 hours is the women's model, `["m"]` the men's.
    """
    base = wav2vec2.published()
    matched = Matched(values=("f", "m"), hours=500.0)
    return replace(base, recipe="gender-ssl", data=replace(base.data, corpus="lebenchmark", matched=matched))


def default() -> Run:
    """For a laptop: 4 layers, H=256, 4.4 M parameters; as many minutes by women as by men."""
    return replace(
        wav2vec2.default(),
        recipe="gender-ssl",
        data=Data(min_seconds=0.5, matched=Matched(values=("f", "m"), hours=0.06)),
    )


def tiny() -> Run:
    """For tests: seconds on one core."""
    base = wav2vec2.tiny()
    return replace(base, recipe="gender-ssl", data=replace(base.data, matched=Matched(values=("f", "m"), hours=0.03)))


def claim() -> Claim:
    """Women only, men only, both: equal hours and updates, voices of the same three corpora. Fine-tuned on half an hour of Czech by one
    woman and one man, whom no arm has heard before; and as frozen features.

    About an hour on two cores (7,000 CPU-s, counted from single timings: 3 x 3 x 600 updates of 32 s, 3 x 4 fine-tunings of 900 updates of
    20 s, 3 x 4 probes). For that: half the updates of before, one rate of fine-tuning, narrower convolutions.
    """
    base = wav2vec2.default()
    base = replace(base, model=SLIM, players=(COOLED,), loop=replace(base.loop, updates=UPDATES))

    def arm(name: str, *values: str) -> Arm:
        matched = Matched(values=values, hours=HOURS / len(values))
        return Arm(name=name, run=replace(base, recipe="gender-ssl", data=replace(base.data, matched=matched)))

    rows = Trial(
        task="asr-finetune",
        corpus="multilingual",
        where=LEADS,
        parts=PARTS,
        label_minutes=30.0,
        gap=("gender", "f", "m"),
        rates=RATES,
    )
    return Claim(
        recipe="gender-ssl",
        text="Fine-tuned end to end, a wav2vec 2.0 that was pre-trained on women and men in balance makes fewer character errors than one "
        "of women only and than one of men only, at equal hours.",
        corpora=hykist.CORPORA,
        study=Study(
            corpus="multilingual",
            where=POOL,
            arms=(
                Arm(name="scratch", run=base, kind="untrained"),
                arm("women", "f"),
                arm("men", "m"),
                arm("balanced", "f", "m"),
            ),
            trials=(rows, replace(rows, task="asr", rates=())),
        ),
        expected=(("balanced", "women"), ("balanced", "men")),
        expected_also=(
            ("asr-finetune", "balanced", "scratch"),
            ("asr", "balanced", "women"),
            ("asr", "balanced", "men"),
        ),
        deviations=(
            f"2.3 h by six women or seven men stand for 1,000 h; {UPDATES} updates of 32 s for 200,000.",
            "All arms are fine-tuned at one rate, 1e-3; frozen, at the best of five each.",
            "Who is a woman or a man is what the credits of the packages say, and in the game which fish speaks.",
            "Two voices are recognised, one a gender, so a gap between them is as much one of two people as of women and men.",
            "A linear CTC head on frozen frames stands for the hybrid system and for translation.",
        ),
    )
