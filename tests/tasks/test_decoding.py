"""overture.tasks.decoding: the development rows choose a language model, or none, and no held row's text gets into it."""

from typing import Any

import numpy as np
import pytest

from overture.errors import OvertureError
from overture.recognise import lm as language
from overture.recognise.lm import NGram
from overture.recognise.recogniser import best_text
from overture.recognise.units import Characters
from overture.tasks import decoding

UNITS = Characters(" abeht")
WORDS = ("the", "bat", "hat", "heat", "tab")


def spoken(text: str, wrong: dict[str, str]) -> np.ndarray:
    """(T, C): each character and a blank, where the ear slightly prefers `wrong` characters to the right ones."""
    rows = []
    for c in text:
        p = np.full(len(UNITS), 1e-4)
        (i,) = UNITS.encode(c, row="") if c != " " else (1,)
        p[i] = 0.45 if c in wrong else 0.95
        if c in wrong:
            p[UNITS.encode(wrong[c], row="")[0]] = 0.5
        blank = np.full(len(UNITS), 1e-4)
        blank[0] = 0.95
        rows += [p, blank]
    scores = np.array(rows)
    return np.log(scores / scores.sum(1, keepdims=True)).astype(np.float32)


@pytest.fixture
def texts() -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=3)) for _ in range(60)]


def chosen(texts: list[str], dev: list[str], wrong: dict[str, str], held: list[str] | None = None) -> Any:
    outputs = [spoken(t, wrong) for t in dev]
    greedy = [best_text(o, UNITS) for o in outputs]
    return decoding.choose(outputs, dev, greedy, UNITS, texts, held=held or dev, tell=lambda record: None), greedy


def test_a_language_model_that_helps_is_chosen(texts: list[str]) -> None:
    dev = ["bat hat the tab", "heat the bat hat"]
    found, greedy = chosen(texts, dev, {"a": "e"})
    assert greedy == [t.replace("a", "e") for t in dev] and found.cer == 0 and found.lm is not None
    assert found.level in ("words", "units") and found.lm.order == decoding.ORDERS[found.level]
    assert found.cer == min(t["cer"] for t in found.tried) and len(found.tried) == (
        14 if found.level == "words" else 11
    )
    assert {t["weight"] for t in found.tried[:8]} == set(decoding.WEIGHTS)
    test = ["tab heat bat"]
    assert decoding.transcripts([spoken(t, {"a": "e"}) for t in test], UNITS, found.lm, found.beam) == test
    assert decoding.transcripts([np.zeros((0, len(UNITS)), np.float32)], UNITS, found.lm, found.beam) == [""]


def test_one_that_does_not_is_not(texts: list[str]) -> None:
    dev = ["beta eta", "abba thea"]  # clear speech of words that no text has
    found, greedy = chosen(texts, dev, {})
    assert greedy == dev and found.lm is None and found.level is None and found.cer == 0 and len(found.tried) == 8


def test_held_lines_and_lines_that_cannot_be_written_are_left_out(
    texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[str]] = []
    estimate = NGram.estimate.__func__

    def spy(cls: type[NGram], lines: Any, order: int = 3) -> NGram:
        read.append(list(lines))
        return estimate(cls, read[-1], order)

    monkeypatch.setattr(language.NGram, "estimate", classmethod(spy))
    dev, test = ["bat hat the tab"], ["tab heat bat"]
    bad = ["Bat, hat -- the tab!", "tab heat bat", "жук", "..."]
    found, _ = chosen([*texts, *bad], dev, {"a": "e"}, held=[*dev, *test])
    assert found.left_out == 4 + sum(t in (*dev, *test) for t in texts)
    words = read[0]
    assert len(words) == len(texts) + 4 - found.left_out and not {*dev, *test} & set(words)
    assert not any("\u0436" in line for lines in read for line in lines)
    with pytest.raises(OvertureError, match="no line of text is left"):
        chosen(["bat hat the tab"], dev, {})


def test_no_more_of_the_development_rows_is_searched_than_asked(
    texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[int] = []
    search = decoding.beam_search

    def spy(scores: np.ndarray, *rest: Any) -> Any:
        searched.append(len(scores))
        return search(scores, *rest)

    monkeypatch.setattr(decoding, "beam_search", spy)
    monkeypatch.setattr(decoding, "TUNED_ON", 60)
    dev = ["bat hat the tab", "heat the bat hat", "heat the bat hat"]  # of 30, 32 and 32 frames
    chosen(texts, dev, {})
    assert set(searched) == {30}
