"""Negatives are lawful, and the loss is transformers' loss: value and gradient."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from overture.data.draws import Draws
from overture.objectives.contrastive import NONE, Contrast, contrastive_loss, diversity, sample_negatives


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.sampled_from([None, 1, 7]), st.integers(0, 99))
def test_a_negative_is_another_masked_frame_of_the_same_utterance(
    counts: list[int], number: int | None, update: int
) -> None:
    rows = torch.arange(len(counts)) + 3
    found = sample_negatives(Draws(5, update), rows, torch.tensor(counts), number)
    assert found.dtype == torch.int64
    assert found.shape == (sum(counts), max(max(counts) - 1, 0) if number is None else number)
    start = 0
    for count in counts:
        for frame in range(start, start + count):
            line = found[frame]
            if count == 1 or number is None:
                line = line[: count - 1]
                assert (found[frame, count - 1 :] == NONE).all()
            assert ((line >= start) & (line < start + count) & (line != frame)).all()
            if number is None:
                assert sorted(line.tolist()) == [i for i in range(start, start + count) if i != frame]
        start += count


def test_negatives_are_uniform_and_depend_on_seed_update_and_row_alone() -> None:
    found = sample_negatives(Draws(0, 1), torch.tensor([4]), torch.tensor([5]), 8000)
    for frame, line in enumerate(found):
        share = torch.bincount(line, minlength=5) / 8000
        assert share[frame] == 0
        assert share[torch.arange(5) != frame].sub(0.25).abs().max() < 0.02
    alone = sample_negatives(Draws(0, 1), torch.tensor([9]), torch.tensor([6]), 10)
    beside = sample_negatives(Draws(0, 1), torch.tensor([2, 9]), torch.tensor([3, 6]), 10)
    assert torch.equal(alone + 3, beside[3:])
    assert not torch.equal(alone, sample_negatives(Draws(0, 2), torch.tensor([9]), torch.tensor([6]), 10))
    assert not torch.equal(alone, sample_negatives(Draws(1, 1), torch.tensor([9]), torch.tensor([6]), 10))


def example(counts: Sequence[int], number: int = 11, entries: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Contexts and targets that need gradients, ids with many ties, negatives."""
    generator = torch.Generator().manual_seed(0)
    m = sum(counts)
    ids = torch.randint(0, entries, (m, 2), generator=generator)
    books = torch.randn(2, entries, 8, generator=generator)
    targets = torch.cat([books[g][ids[:, g]] for g in range(2)], 1)
    context = torch.randn(m, 16, generator=generator)
    negatives = sample_negatives(Draws(0, 0), torch.arange(len(counts)), torch.tensor(counts), number)
    return context.requires_grad_(), targets.requires_grad_(), ids, negatives


def theirs(context: Tensor, targets: Tensor, negatives: Tensor, *, mask: bool) -> Tensor:
    """transformers' loss over the same vectors, every line a frame (its own code for logits and the masking of ties)."""
    from transformers import Wav2Vec2ForPreTraining

    gathered = targets[negatives].permute(1, 0, 2)  # (K, M, D)
    logits = Wav2Vec2ForPreTraining.compute_contrastive_logits(targets[None], gathered, context, 0.1)  # (K + 1, M)
    if mask:
        same = (targets == gathered).all(-1)
        assert same.any()
        logits[1:][same] = float("-inf")
    return F.cross_entropy(logits.T, torch.zeros(len(context), dtype=torch.int64), reduction="sum")


@pytest.mark.parametrize("by_utterance", [True, False])
@pytest.mark.parametrize("identical", ["mask", "keep"])
def test_loss_and_gradients_are_those_of_transformers(identical: str, by_utterance: bool) -> None:
    counts = [9, 14, 2]
    context, targets, ids, negatives = example(counts)
    wanted = theirs(context, targets, negatives, mask=identical == "mask")
    expected = torch.autograd.grad(wanted, [context, targets])
    found = contrastive_loss(
        context,
        targets,
        negatives,
        ids=ids,
        counts=counts if by_utterance else None,
        identical=identical,  # type: ignore[arg-type]
    )
    torch.testing.assert_close(found.sum, wanted, rtol=1e-6, atol=1e-6)
    for a, b in zip(torch.autograd.grad(found.sum, [context, targets]), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_collapsed_codebook_is_a_zero_of_the_loss_only_where_identical_negatives_are_masked() -> None:
    context, _, _, negatives = (x.detach() for x in example([6, 7]))
    targets, ids = torch.ones(13, 16), torch.zeros(13, 2, dtype=torch.int64)

    def loss(identical: str) -> Contrast:
        return contrastive_loss(context, targets, negatives, ids=ids, identical=identical)  # type: ignore[arg-type]

    masked, kept = loss("mask"), loss("keep")
    assert float(masked.sum) == 0
    torch.testing.assert_close(kept.sum, 13 * torch.tensor(12.0).log())  # the positive is one of 12 alike
    assert float(masked.accuracy) == float(kept.accuracy) == 0  # nothing was told apart
    assert float(masked.live) == float(kept.live) == 0


def test_accuracy_counts_frames_that_beat_every_live_negative() -> None:
    targets = torch.eye(4)[torch.tensor([0, 1, 1, 2])]
    ids = torch.tensor([0, 1, 1, 2])
    negatives = torch.tensor([[1, 3], [2, 0], [1, 1], [0, 1]])
    context = torch.eye(4)[torch.tensor([0, 1, 1, 0])]  # the third has no live negative, the last is wrong
    for identical in ("mask", "keep"):
        found = contrastive_loss(context, targets, negatives, ids=ids, identical=identical)  # type: ignore[arg-type]
        assert float(found.accuracy) == 0.5 and float(found.live) == 5 / 8
    with_gap = negatives.clone()
    with_gap[0] = NONE
    found = contrastive_loss(context, targets, with_gap, identical="keep")
    assert float(found.accuracy) == 0.0 and float(found.live) == 1  # without codes every negative is live


def test_masking_needs_the_codes() -> None:
    context, targets, _, negatives = example([4])
    with pytest.raises(ValueError, match="codes"):
        contrastive_loss(context, targets, negatives)
    contrastive_loss(context, targets, negatives, identical="keep")


def test_a_lonely_frame_costs_nothing_and_no_frame_is_no_loss() -> None:
    context, targets = torch.randn(1, 4, requires_grad=True), torch.randn(1, 4)
    negatives = sample_negatives(Draws(0, 0), torch.tensor([0]), torch.tensor([1]), 3)
    found = contrastive_loss(context, targets, negatives, identical="keep")
    assert float(found.sum.detach()) == 0
    found.sum.backward()
    assert context.grad is not None and bool((context.grad == 0).all())
    empty = contrastive_loss(
        torch.zeros(0, 4), torch.zeros(0, 4), torch.zeros(0, 3, dtype=torch.int64), identical="keep"
    )
    assert float(empty.sum) == 0 and float(empty.accuracy) == 0


def test_an_utterance_alone_gives_what_it_gives_beside_others() -> None:
    counts = [5, 8]
    context, targets, ids, negatives = example(counts)
    whole = contrastive_loss(context, targets, negatives, ids=ids, counts=counts)
    parts = [
        contrastive_loss(context[a:b], targets[a:b], negatives[a:b] - a, ids=ids[a:b]).sum for a, b in ((0, 5), (5, 13))
    ]
    torch.testing.assert_close(whole.sum, parts[0] + parts[1], rtol=1e-6, atol=1e-6)


def test_autocast_does_not_lower_the_precision() -> None:
    context, targets, ids, negatives = example([20])
    plain = contrastive_loss(context, targets, negatives, ids=ids)
    with torch.autocast("cpu", torch.bfloat16):
        cast = contrastive_loss(context, targets, negatives, ids=ids)
    assert torch.equal(plain.sum, cast.sum) and cast.sum.dtype == torch.float32


def test_diversity_is_that_of_transformers() -> None:
    from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer

    probabilities = torch.randn(30, 2, 7, generator=torch.Generator().manual_seed(0)).softmax(-1)
    perplexity = Wav2Vec2GumbelVectorQuantizer._compute_perplexity(probabilities)
    torch.testing.assert_close(diversity(probabilities), (14 - perplexity) / 14)
    one_hot = torch.zeros(30, 2, 7)
    one_hot[..., 0] = 1
    torch.testing.assert_close(diversity(one_hot), torch.tensor(12 / 14))
    torch.testing.assert_close(diversity(torch.full((30, 2, 7), 1 / 7)), torch.tensor(0.0), atol=1e-6, rtol=0)
