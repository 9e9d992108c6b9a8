"""overture.objectives.masked_prediction: the formula, its gradient, and who gets a gradient."""

import math

import pytest
import torch
from torch.nn import functional as F

from overture.objectives.masked_prediction import masked_cross_entropy, straight_through


def logits_and_ids(frames: int = 7, entries: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(frames, entries, generator=generator, requires_grad=True)
    return logits, torch.randint(entries, (frames,), generator=generator)


def test_the_sum_is_the_written_formula() -> None:
    logits, ids = logits_and_ids()
    found = masked_cross_entropy(logits, ids)
    by_hand = 0.0
    for row, right in zip(logits.tolist(), ids.tolist()):
        by_hand += math.log(sum(math.exp(v) for v in row)) - row[right]
    assert float(found.sum) == pytest.approx(by_hand, rel=1e-5)
    hits = [max(range(5), key=row.__getitem__) == right for row, right in zip(logits.tolist(), ids.tolist())]
    assert float(found.accuracy) == pytest.approx(sum(hits) / 7) and 0 < sum(hits) < 7
    assert not found.accuracy.requires_grad


def test_the_gradient_is_softmax_minus_one_hot() -> None:
    logits, ids = logits_and_ids()
    masked_cross_entropy(logits, ids).sum.backward()
    torch.testing.assert_close(logits.grad, logits.detach().softmax(-1) - F.one_hot(ids, 5))


def test_frames_add_up_so_the_loop_can_divide_once() -> None:
    logits, ids = logits_and_ids(10)
    parts = sum(masked_cross_entropy(logits[a:b], ids[a:b]).sum for a, b in ((0, 3), (3, 4), (4, 10)))
    torch.testing.assert_close(parts, masked_cross_entropy(logits, ids).sum)
    nothing = masked_cross_entropy(logits[:0], ids[:0])
    assert float(nothing.sum) == 0.0 and float(nothing.accuracy) == 0.0


def test_straight_through_is_one_hot_forwards_and_the_probabilities_backwards() -> None:
    logits, ids = logits_and_ids()
    own = torch.randn(7, 5, generator=torch.Generator().manual_seed(2), requires_grad=True)
    target = straight_through(ids, own.softmax(-1))
    torch.testing.assert_close(target, F.one_hot(ids, 5).float())
    plain = masked_cross_entropy(logits, ids).sum
    through = masked_cross_entropy(logits, ids, target).sum
    torch.testing.assert_close(plain, through)
    through.backward()
    torch.testing.assert_close(logits.grad, logits.detach().softmax(-1) - F.one_hot(ids, 5))
    expected = own.detach().clone().requires_grad_()
    (-(expected.softmax(-1) * logits.detach().log_softmax(-1)).sum()).backward()
    torch.testing.assert_close(own.grad, expected.grad)


def test_half_precision_logits_are_summed_in_full() -> None:
    logits, ids = logits_and_ids(600)
    with torch.autocast("cpu", torch.bfloat16):
        found = masked_cross_entropy(logits.bfloat16(), ids)
    assert found.sum.dtype == torch.float32
    torch.testing.assert_close(found.sum, masked_cross_entropy(logits, ids).sum, rtol=2e-3, atol=0)
