"""Samples as ids and slots: what is learnt is exactly what was said to be, and nothing of a recording."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from overture.data.render import Continuous, Discrete, SpokenText, packed
from overture.data.sample import Heard, Segment, code, text
from overture.data.tokens import Special, Tokens, train
from overture.errors import OvertureError

BLOCKS = ("<|en|>", *(code(i) for i in range(8)))
TOKENS = Tokens(vocabulary=320, blocks=BLOCKS)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(TOKENS, iter(["where is the key that was here", "it was here"] * 3))


def slots(heard: Heard) -> int:
    return 3 + heard.row


def test_each_segment_takes_its_place(tokenizer: Tokenizer) -> None:
    render = Continuous(tokenizer, TOKENS.special, slots)
    found = render((Segment("tag", "<|en|>"), text("key"), Segment("audio", Heard(1)), text("here", learnt=True)))
    before, after = (tokenizer.encode(t, add_special_tokens=False).ids for t in ("key", "here"))
    special = TOKENS.special
    assert found.ids.tolist() == [
        special.begin,
        special.block("<|en|>"),
        *before,
        *[special.pad] * 4,
        *after,
        special.end,
    ]
    n, m = 2 + len(before), len(after) + 1
    assert found.learnt.tolist() == [False] * (n + 4) + [True] * m  # the end too
    assert found.audio.tolist() == [-1] * n + [0] * 4 + [-1] * m
    assert found.heard == (Heard(1),)


def test_a_prompt_has_no_end(tokenizer: Tokenizer) -> None:
    found = Continuous(tokenizer, TOKENS.special, slots)((text("where is"),))
    assert found.ids[-1] != TOKENS.special.end and not found.learnt.any()


def test_the_same_sample_as_units(tokenizer: Tokenizer) -> None:
    render = Discrete(tokenizer, TOKENS.special, {4: np.array([5, 6, 7, 0])}, rate=2.0)
    whole = render((Segment("audio", Heard(4)), text("it", learnt=True)))
    special = TOKENS.special
    assert whole.ids[1:5].tolist() == [special.block(code(u)) for u in (5, 6, 7, 0)]
    assert whole.heard == () and (whole.audio == -1).all() and not whole.learnt[:5].any()
    part = render((Segment("audio", Heard(4, start=0.5, stop=1.5)),))
    assert part.ids[1:].tolist() == [special.block(code(u)) for u in (6, 7)]
    with pytest.raises(OvertureError, match="row 9 has no units"):
        render((Segment("audio", Heard(9)),))


def test_a_name_that_the_tokens_lack(tokenizer: Tokenizer) -> None:
    with pytest.raises(OvertureError, match=r"<\|de\|>.*frontend.blocks"):
        Continuous(tokenizer, TOKENS.special, slots)((Segment("tag", "<|de|>"),))


@given(st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=4))
def test_packed_samples_keep_their_slots_and_numbers(rows: list[list[int]]) -> None:
    render = Continuous(Tokenizer.from_str(train_once()), Special(), slots)
    parts = [render((*(Segment("audio", Heard(r)) for r in heard), text("a", learnt=True))) for heard in rows]
    whole, document = packed(parts)
    assert len(whole.ids) == len(document) == sum(len(p.ids) for p in parts)
    assert [h.row for h in whole.heard] == [r for heard in rows for r in heard]
    for number, heard in enumerate(whole.heard):
        assert (whole.audio == number).sum() == slots(heard)
    for number, part in enumerate(parts):
        np.testing.assert_array_equal(whole.ids[document == number], part.ids)
        np.testing.assert_array_equal(whole.learnt[document == number], part.learnt)


CACHE: list[str] = []


def train_once() -> str:
    if not CACHE:
        CACHE.append(train(Tokens(vocabulary=270), iter(["a b c"])).to_str())
    return CACHE[0]


def test_the_front_end_is_that_of_the_recordings() -> None:
    from overture.data.features import LogMel
    from overture.run import Frontend

    audio = LogMel(mels=20)
    both = SpokenText(audio=audio, tokens=TOKENS)
    assert isinstance(both, Frontend)
    wave = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    assert (both.rate, both.frame_rate, both.dim, both.steps(4000)) == (16_000, 100.0, 20, len(audio(wave)))
    np.testing.assert_array_equal(both(wave), audio(wave))
