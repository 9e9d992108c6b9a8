"""overture.data.score.text: segments are the text, words keep their vowel signs, lengths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overture.data.score import SCORERS, scorer
from overture.data.score.annotate import score
from overture.data.score.text import Segments, ends, segments, words
from overture.data.table import Table
from overture.errors import OvertureError


@given(st.text(alphabet="aB.!? \n\"'。5é", max_size=60), st.booleans())
def test_segments_are_the_text_without_gap(text: str, code: bool) -> None:
    stops = ends(text, code)
    assert stops == sorted(set(stops)) and (stops[-1] == len(text) if text else stops == [])
    assert "".join(segments(text, code)) == text
    if text.strip() and not code:
        assert all(part.strip() for part in segments(text))
    if code:
        assert len(stops) == len(text.split("\n")) - text.endswith("\n") - (not text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Dr. Who came. He saw!  'Then' he left... or so. 3.5 is no end.", 4),
        ('He said "Go." She went.', 2),
        ("你好。再见！好", 3),
        ("यह अच्छी है। हाँ।", 2),
        ("One line\nand one\n\nA paragraph.", 3),
    ],
)
def test_sentences(text: str, parts: int) -> None:
    assert len(segments(text)) == parts


def test_words_keep_their_marks() -> None:
    assert words("कि मराठी, naïve_1 don't") == ["कि", "मराठी", "naïve_1", "don", "t"]


def test_length_and_segments_of_a_corpus(notes: Table) -> None:
    found = score(scorer("length"), notes)
    assert found["characters"].to_pylist() == [len(t) for t in notes.numpy("text")]
    at = notes.numpy("id").tolist().index("contact")
    assert found["words"][at].as_py() == 17  # jo example org, 49 30 901820, 10 0 0 1, and seven others
    stops = score(Segments(), notes)["segments"]
    assert stops[at].as_py() == [25, 48, 69]  # by hand
    assert stops[notes.numpy("id").tolist().index("clean")].as_py() == [25, 51, 77]


def test_the_index_names_scorers_that_keep_to_what_they_promise(notes: Table) -> None:
    for name in SCORERS:
        of = scorer(name)
        assert len(set(of.columns)) == len(of.columns) > 0
    with pytest.raises(OvertureError, match=r"no scorer 'ngrma'\. Did you mean 'ngram'"):
        scorer("ngrma")
