"""overture.data.words: every token knows its word, in any tokenizer, and across stretches and documents."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overture.data.draws import Draws
from overture.data.encoded import Encoded
from overture.data.table import Table
from overture.data.text import Pack
from overture.data.tokens import Tokens, train
from overture.data.words import PackWords, words

TEXTS = ["The unhappiest of words, don't count: naïveté 日本 x2.", "Un mot\n\nau milieu", "a", ""]


def test_words_by_hand() -> None:
    text = "An unkind, word"
    # An | un kind | , | word, as pieces with the space before them
    assert words(text, np.array([0, 2, 5, 9, 10, 13])).tolist() == [0, 1, 1, 2, 3, 3]
    assert words("日本", np.array([0, 0, 0, 1, 1])).tolist() == [
        0,
        0,
        0,
        0,
        0,
    ]  # bytes of characters, one run of letters
    assert words("ab", np.array([1])).tolist() == [0] and len(words("", np.zeros(0, np.int64))) == 0


@given(st.text(st.sampled_from("abé1 ,.\n日"), max_size=40))
@settings(max_examples=60, deadline=None)
def test_a_word_is_a_run_or_one_character(text: str) -> None:
    """With a token a character: two are of one word where both are letters or digits side by side."""
    found = words(text, np.arange(len(text)))
    for i in range(1, len(text)):
        assert (found[i] == found[i - 1]) == (text[i].isalnum() and text[i - 1].isalnum())
    assert len(text) == 0 or found[0] == 0


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_pieces_of_a_word_are_together_in_every_tokenizer(kind: str) -> None:
    front = Tokens(kind=kind, vocabulary=300)  # type: ignore[arg-type]
    encoding = train(front, iter(TEXTS)).encode(TEXTS[0], add_special_tokens=False)
    starts = np.array([a for a, _ in encoding.offsets])
    number = words(TEXTS[0], starts)
    at = [TEXTS[0].index(w) for w in ("unhappiest", "words", "count", "naïveté")]
    for begin, length in zip(at, (10, 5, 5, 7)):
        inside = [n for n, (a, b) in zip(number, encoding.offsets) if a >= begin and b <= begin + length and b > a]
        assert len(inside) >= 1 and len(set(inside)) == 1
    assert len(set(number[[int(np.searchsorted(starts, a, "right")) - 1 for a in at]])) == 4


@pytest.mark.parametrize("framed", [True, False])
def test_stretches_are_those_of_pack_and_no_special_token_is_of_a_word(framed: bool) -> None:
    table = Table(pa.table({"id": list("abcd"), "text": TEXTS}), name="tiny", root=Path())
    front = Tokens(vocabulary=300)
    encoded = Encoded.open(table, front)
    plain = Pack(length=12, framed=framed).prepare(encoded, table, front.special, 0)
    found = PackWords(length=12, framed=framed).prepare(encoded, table, front.special, 0)
    assert np.array_equal(plain.lengths, found.lengths)
    for index in range(len(found.lengths)):
        a, b = plain.fetch(index, Draws(0, 0)), found.fetch(index, Draws(0, 0))
        assert np.array_equal(a.ids, b.ids) and np.array_equal(a.channels["document"], b.channels["document"])
        word = b.channels["word"]
        assert np.array_equal(word < 0, np.isin(b.ids, front.special.ids))
        own, document = word[word >= 0], b.channels["document"][word >= 0]
        assert (np.diff(own) >= 0).all() and (np.diff(own) <= 1).all() and own[:1].sum() == 0
        for first, second in zip(range(len(own)), range(1, len(own))):
            assert own[first] != own[second] or document[first] == document[second]  # no word is of two documents
