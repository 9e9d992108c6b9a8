"""Reading a recogniser's frames with a language model, whose kind and weight the development rows choose. Test rows choose nothing.

The model is made of training transcripts, and of further text where somebody gives it; a line that says what a held row says is left out.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from overture.errors import OvertureError
from overture.recognise.decode import Beam, beam_search
from overture.recognise.lm import NGram, sentences
from overture.recognise.units import Phones, Units
from overture.tasks import metrics

ORDERS = {"words": 3, "units": 6}  # of the language models that are tried
WEIGHTS = (0.25, 0.5, 1.0, 1.5)
BONUSES = (0.0, 0.75, 3.0)  # nats for a token, tried beside the beam's own at the best weight
UNKNOWN = (0.0, 3.0, 12.0)  # nats for an unknown word, tried beside the beam's own at the best weight and bonus
TUNED_ON = 15_000  # frames of the development rows at most (5 minutes at 50 Hz): a search sees them a dozen times
NARROW = Beam(width=8)  # of those searches; a quarter of the time of the beam that is then used


@dataclass(frozen=True)
class Chosen:
    """What did best on the development rows."""

    lm: NGram | None  # None: no language model did better than the likeliest path
    level: str | None  # words or units
    beam: Beam
    cer: float  # of the development rows it was chosen on
    tried: list[dict[str, Any]]  # level, weight, bonus, unknown, cer
    left_out: int  # lines of text that say what a held row says, or that the units cannot write


def transcripts(outputs: Iterable[np.ndarray], units: Units, lm: NGram | None, beam: Beam) -> list[str]:
    """The best hypothesis of each utterance's log-probabilities (T, C)."""
    found = (beam_search(scores, units, lm, beam) for scores in outputs)
    return [hypotheses[0].text if hypotheses else "" for hypotheses in found]


def choose(
    outputs: Sequence[np.ndarray],
    references: Sequence[str],
    greedy: Sequence[str],
    units: Units,
    texts: Sequence[str],
    *,
    held: Iterable[str],
    tell: Callable[[dict[str, Any]], None],
) -> Chosen:
    """The language model, its weight, bonus and price of unknown words with the lowest character error rate on development rows.

    outputs, references, greedy: log-probabilities, normalised transcripts and likeliest paths of the development rows; texts: to
    estimate language models of; held: normalised transcripts of all rows that are tuned or scored on.
    Raises OvertureError when no line of text is left.
    """
    lengths = np.cumsum([len(o) for o in outputs])
    some = max(1, int(np.searchsorted(lengths, TUNED_ON, side="right")))
    outputs, references, greedy = outputs[:some], references[:some], greedy[:some]
    secret, kept = set(held), []
    for text in texts:
        if units.normalise(text) not in secret and _writable(units, text):
            kept.append(text)
    if not kept:
        raise OvertureError(
            "no line of text is left for a language model: all are those of held rows or cannot be written"
        )
    tried: list[dict[str, Any]] = []
    best = Chosen(None, None, Beam(), metrics.cer(references, greedy).value, tried, len(texts) - len(kept))

    def attempt(lm: NGram, level: str, beam: Beam) -> None:
        nonlocal best
        cer = metrics.cer(references, transcripts(outputs, units, lm, beam)).value
        what = {"weight": beam.lm_weight, "bonus": beam.word_bonus, "unknown": beam.unknown}
        tried.append({"level": level, **what, "cer": cer})
        if cer < best.cer:
            best = replace(best, lm=lm, level=level, beam=beam, cer=cer)

    for level, order in ORDERS.items():
        if level == "words" and isinstance(units, Phones):
            continue  # a phone is a word of its own
        tell({"kind": "stage", "text": f"language model over {level}, order {order}, of {len(kept)} lines"})
        lm = NGram.estimate(sentences(kept, units, "words" if level == "words" else "units"), order)
        for weight in WEIGHTS:
            attempt(lm, level, replace(NARROW, lm_weight=weight))
    if best.lm is not None and best.level is not None:
        lm, level = best.lm, best.level
        for beam in [replace(best.beam, word_bonus=bonus) for bonus in BONUSES]:
            attempt(lm, level, beam)
        if level == "words":  # every unit is known
            for beam in [replace(best.beam, unknown=price) for price in UNKNOWN]:
                attempt(lm, level, beam)
    return replace(best, beam=replace(best.beam, width=Beam().width))


def _writable(units: Units, text: str) -> bool:
    try:
        return bool(units.encode(text, row=""))
    except OvertureError:
        return False
