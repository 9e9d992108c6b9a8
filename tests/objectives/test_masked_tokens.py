"""overture.objectives.masked_tokens: how many tokens are taken, what becomes of them, and that no batch changes it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.objectives.masked_tokens import Corruption, MaskedTokens, others

from .toys_text import SPECIAL, model, text

ALL = (40, 64, 9, 17)
MODEL = model()
SLM = Corruption(mask=0.0, random=1.0)


def free(batch: Batch) -> torch.Tensor:
    return batch.valid & ~torch.isin(batch.x, torch.tensor(SPECIAL.ids))


@pytest.mark.parametrize("unit", ["token", "span"])
@pytest.mark.parametrize("triple", [(0.8, 0.1), (0.0, 1.0), (1.0, 0.0), (0.5, 0.25)])
def test_counts_are_exact(unit: str, triple: tuple[float, float]) -> None:
    corruption = Corruption(share=0.3, mask=triple[0], random=triple[1], unit=unit)  # type: ignore[arg-type]
    batch = text(*ALL)
    x, taken = corruption(MODEL, batch, Draws(0, 3))
    for own, line, some, before in zip(free(batch), x, taken, batch.x):
        count = round(0.3 * int(own.sum()))
        assert int(some.sum()) == count and not (some & ~own).any()
        masked = round(triple[0] * count)
        changed = round((triple[0] + triple[1]) * count)
        assert int((line == SPECIAL.mask).sum()) == masked
        assert int((line != before).sum()) == changed  # a random token is never the original
        assert torch.equal(line[~some], before[~some])


def test_one_token_at_least_is_taken() -> None:
    _, taken = Corruption(share=0.01)(MODEL, text(4, 30), Draws(0, 0))
    assert taken.sum(1).tolist() == [1, 1]


def test_no_special_token_is_taken_or_made_and_slm_has_no_mask() -> None:
    batch = text(*ALL)
    for update in range(20):
        x, taken = replace(SLM, share=1.0)(MODEL, batch, Draws(0, update))
        assert torch.equal(taken, free(batch))
        assert not torch.isin(x[taken], torch.tensor(SPECIAL.ids)).any()  # of which [MASK] is one
        assert torch.equal(x[~taken], batch.x[~taken])


@given(st.integers(2, 30), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_others_are_all_alike_and_never_the_same(size: int, seed: int) -> None:
    among = np.sort(np.random.default_rng(seed).choice(1000, size, replace=False))
    own = among[seed % size]
    found = others(np.full(3000, own), among, np.random.default_rng(seed))
    assert set(found) <= set(among) - {own}
    counts = np.array([(found == a).sum() for a in among if a != own])
    assert abs(counts - 3000 / (size - 1)).max() < 6 * np.sqrt(3000 / (size - 1)) + 1e-9


def test_a_mask_is_the_same_in_any_batch_and_another_in_the_next_update() -> None:
    whole, marks = Corruption()(MODEL, text(*ALL), Draws(0, 5))
    for row, n in enumerate(ALL):
        alone, mark = Corruption()(MODEL, text(n, rows=(row,)), Draws(0, 5))
        assert torch.equal(alone[0], whole[row, :n]) and torch.equal(mark[0], marks[row, :n])
    later, _ = Corruption()(MODEL, text(*ALL), Draws(0, 6))
    assert not torch.equal(later, whole)


def test_spans_are_runs_of_their_width() -> None:
    """Tokens in one piece: where few are taken, runs are of `width` tokens, but one that the count cuts or that overlaps."""
    batch = text(64)
    batch = replace(batch, x=batch.x.masked_fill(torch.isin(batch.x, torch.tensor(SPECIAL.ids)), 299))
    found = []
    for update in range(200):
        _, taken = Corruption(share=0.1, unit="span", width=3)(MODEL, batch, Draws(0, update))
        edges = np.diff(np.pad(taken[0].numpy().astype(int), 1))
        found += (np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)).tolist()
    assert np.mean(np.array(found) >= 3) > 0.85 and sum(found) == 200 * 6
    singles = []
    for update in range(200):
        _, taken = Corruption(share=0.1)(MODEL, batch, Draws(0, update))
        edges = np.diff(np.pad(taken[0].numpy().astype(int), 1))
        singles += (np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)).tolist()
    assert np.mean(np.array(singles) >= 3) < 0.1


def with_words(*lengths: int) -> Batch:
    """Words of one to four tokens."""
    batch = text(*lengths)
    sizes = torch.randint(1, 5, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1))
    word = torch.stack([torch.repeat_interleave(torch.arange(len(row)), row)[: max(lengths)] for row in sizes])
    return replace(batch, channels={"word": word})


def test_whole_words_are_taken_as_many_as_fit() -> None:
    batch = with_words(*ALL)
    own, word = free(batch), batch.channels["word"]
    seen = torch.zeros_like(own)
    for update in range(60):
        _, taken = Corruption(share=0.3, unit="word")(MODEL, batch, Draws(0, update))
        seen |= taken
        for line, some, numbers in zip(own, taken, word):
            count = round(0.3 * int(line.sum()))
            assert not (some & ~line).any()
            assert count - 3 <= int(some.sum()) <= max(count, 1)
            for number in numbers[some].unique():
                assert torch.equal(some[line & (numbers == number)], torch.ones_like(some[line & (numbers == number)]))
    assert torch.equal(seen, own)  # any word may be


def test_one_word_is_taken_where_none_fits() -> None:
    batch = replace(text(8), channels={"word": torch.tensor([[0, 1, 1, 1, 1, 2, 2, 3]])})
    _, taken = Corruption(share=0.1, unit="word")(MODEL, batch, Draws(0, 0))
    assert taken[0].nonzero()[:, 0].tolist() == [5, 6]  # the shortest
    with pytest.raises(OvertureError, match="PackWords"):
        Corruption(unit="word")(MODEL, text(8), Draws(0, 0))


def test_the_loss_is_of_the_originals_at_what_was_taken() -> None:
    batch, draws = text(*ALL), Draws(0, 1)
    for corruption in (Corruption(), SLM):
        loss = MaskedTokens(corruption=corruption)(MODEL, batch, draws)
        x, taken = corruption(MODEL, batch, draws)
        logits = MODEL.logits(MODEL.hidden(x, batch.lengths))
        by_hand = F.cross_entropy(logits[taken], batch.x[taken], reduction="sum")
        torch.testing.assert_close(loss.sum, by_hand)
        assert int(loss.targets) == int(taken.sum())
        torch.testing.assert_close(loss.watch["nats"], by_hand.detach() / taken.sum())


def test_shares_that_cannot_be_and_tokens_without_a_mask_are_told() -> None:
    for wrong in ({"share": 0.0}, {"mask": 0.8, "random": 0.3}, {"random": -0.1}):
        with pytest.raises(OvertureError, match="corruption"):
            Corruption(**wrong)
    without = model()
    without.special = replace(SPECIAL, mask=-1)
    with pytest.raises(OvertureError, match=r"no \[MASK\]"):
        Corruption()(without, text(9), Draws(0, 0))
    SLM(without, text(9), Draws(0, 0))
