"""overture.data.spans: labelled spans of characters, as tags of words and of tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overture.data.draws import Draws
from overture.data.encoded import Encoded
from overture.data.spans import Span, Tagged, first_tokens, read, spans_of, tags, words
from overture.data.table import Table
from overture.data.tokens import Tokens
from overture.errors import OvertureError

LABELS = ("class", "func")
TEXT = "Call os.path.join() on a Path()."
SPANS = [Span(5, 19, "func"), Span(25, 31, "class")]


def table(spans: Any, text: str = TEXT) -> Table:
    return Table(pa.table({"id": ["a"], "text": [text], "spans": [spans]}), name="one", root=Path())


def as_rows(spans: list[Span]) -> list[dict[str, Any]]:
    return [s._asdict() for s in spans]


def test_words_have_the_tags_of_their_spans_and_give_them_back() -> None:
    cut = words(TEXT)
    assert [TEXT[a:b] for a, b in cut] == [
        "Call",
        "os",
        ".",
        "path",
        ".",
        "join",
        "(",
        ")",
        "on",
        "a",
        "Path",
        "(",
        ")",
        ".",
    ]
    found = tags(cut, SPANS, LABELS)
    assert found.tolist() == [0, 3, 4, 4, 4, 4, 4, 4, 0, 0, 1, 2, 2, 0]
    assert spans_of(cut, found, LABELS) == SPANS
    assert tags(cut, SPANS, ("func",)).tolist() == [
        0,
        1,
        2,
        2,
        2,
        2,
        2,
        2,
        0,
        0,
        0,
        0,
        0,
        0,
    ]  # a label that is not known is outside
    assert words(" \n").shape == (0, 2) and spans_of(words(""), np.array([]), LABELS) == []


def test_what_goes_on_from_nothing_begins() -> None:
    cut = words("a b c d")
    assert spans_of(cut, np.array([2, 2, 4, 3]), LABELS) == [
        Span(0, 3, "class"),
        Span(4, 5, "func"),
        Span(6, 7, "func"),
    ]
    assert spans_of(cut, np.array([1, 1, 0, 2]), LABELS) == [
        Span(0, 1, "class"),
        Span(2, 3, "class"),
        Span(6, 7, "class"),
    ]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_spans_of_whole_words_survive(drawn: list[int]) -> None:
    cut = words(" ".join("abcde"[d] * (1 + d) for d in drawn))
    once = spans_of(cut, np.array(drawn), LABELS)
    assert spans_of(cut, tags(cut, once, LABELS), LABELS) == once


def test_of_a_word_its_first_token_is_asked() -> None:
    # " os" as two tokens, "." as one, two line ends and "path" as three, and of "é" the last byte that begins in it
    starts, piece = np.array([0, 2, 0, 0, 1, 2, 0, 0]), np.array([0, 0, 1, 2, 2, 2, 3, 3])
    assert first_tokens(starts, piece, np.array([1, 0, 2, 0])).tolist() == [0, 2, 5, 7]
    assert first_tokens(starts[:0], piece[:0], np.zeros(0)).tolist() == []


@pytest.mark.parametrize("framed", [True, False])
def test_every_word_is_asked_for_once_in_windows(framed: bool) -> None:
    text = f"{TEXT} " * 9
    spans = [Span(s.start + i * (len(TEXT) + 1), s.end + i * (len(TEXT) + 1), s.label) for i in range(9) for s in SPANS]
    rows = table(as_rows(spans), text)
    tokens = Tokens(vocabulary=300)
    encoded = Encoded.open(rows, tokens)
    windows = Tagged(length=16, framed=framed, labels=LABELS).prepare(encoded, rows, tokens.special, 0)
    found = [windows.fetch(i, Draws(0, 0)) for i in windows.within(0)]
    assert [len(e.ids) for e in found] == windows.lengths.tolist() and max(windows.lengths) == 16
    inner = slice(1, -1) if framed else slice(None)
    ids = np.concatenate([e.ids[inner] for e in found])
    assert encoded.tokenizer.decode(ids.tolist()) == text.rstrip()
    whole = [i for i in range(len(ids)) if encoded.tokenizer.id_to_token(int(ids[i])) == "()."]
    assert not whole and "()." in encoded.tokenizer.get_vocab()  # or no span could end between
    if framed:
        assert all(e.ids[0] == tokens.special.cls and e.ids[-1] == tokens.special.sep for e in found)
        assert not any(e.channels["tag"][0] or e.channels["tag"][-1] for e in found)
    asked = np.concatenate([e.channels["tag"][inner] for e in found])
    asked = asked[asked > 0] - 1
    assert spans_of(words(text), asked, LABELS) == spans and len(asked) == len(words(text))
    assert windows.documents(3).tolist() == [0]


def test_what_a_user_can_get_wrong() -> None:
    def refused(spans: Any, match: str) -> None:
        with pytest.raises(OvertureError, match=match):
            read(table(spans), "spans")

    refused(
        [1, 2],
        r"holds list<.*int64>, not a list of spans \{start, end, label\} a row: end, label, start missing",
    )
    refused([{"start": 0, "end": 4}], "label missing")
    refused(
        [{"start": 0, "end": 99, "label": "func"}],
        "row 'a': the func from 0 to 99 in spans is none of its text of 32 characters",
    )
    refused([{"start": 4, "end": 4, "label": "func"}], "from 4 to 4")
    refused([{"start": 0, "end": 4, "label": None}], "lacks a start, an end or a label")
    refused(
        [{"start": 5, "end": 9, "label": "a"}, {"start": 8, "end": 10, "label": "b"}],
        "the b from 8 to 10 in spans begins before 9",
    )
    kind = pa.list_(pa.struct({"start": pa.int64(), "end": pa.int64(), "label": pa.string()}))
    rows = Table(pa.table({"id": ["a"], "text": ["x"], "spans": pa.array([None], kind)}), name="one", root=Path())
    with pytest.raises(OvertureError, match=r"row 'a': no spans\. Leave such rows away"):
        read(rows, "spans")
    assert read(table(as_rows(SPANS)), "spans") == [SPANS]
