"""overture.objectives.vocabulary: in chunks or at once, it is torch's cross-entropy."""

import pytest
import torch
from torch.nn import functional as F

from overture.objectives import vocabulary
from overture.objectives.vocabulary import token_losses

M, D, V = 13, 8, 40


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    hidden, weight, bias = (torch.randn(*size, generator=draw, requires_grad=True) for size in ((M, D), (V, D), (V,)))
    return hidden, weight, bias, torch.randint(V, (M,), generator=draw), torch.rand(M, generator=draw) - 0.3


@pytest.mark.parametrize("chunk", [1, 3 * V, 5 * V + 7, M * V, 1 << 24])  # one row at a time, three, five, all
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_value_and_gradients_are_torchs(
    monkeypatch: pytest.MonkeyPatch, chunk: int, biased: bool, weighted: bool
) -> None:
    monkeypatch.setattr(vocabulary, "CHUNK", chunk)
    hidden, weight, bias, targets, weights = inputs()
    learnt = [hidden, weight, *([bias] if biased else [])]
    loss, each = token_losses(hidden, weight, bias if biased else None, targets, weights if weighted else None)
    found = torch.autograd.grad(3.0 * loss, learnt)  # whatever comes behind it scales the gradient
    by_hand = F.cross_entropy(F.linear(hidden, weight, bias if biased else None), targets, reduction="none")
    total = (by_hand * weights).sum() if weighted else by_hand.sum()
    torch.testing.assert_close(loss, total)
    torch.testing.assert_close(each, by_hand.detach())
    assert not each.requires_grad
    for a, b in zip(found, torch.autograd.grad(3.0 * total, learnt), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_only_what_learns_gets_a_gradient() -> None:
    hidden, weight, bias, targets, _ = inputs()
    loss, _ = token_losses(hidden.detach(), weight, bias.detach(), targets)
    loss.backward()
    assert weight.grad is not None and hidden.grad is None and bias.grad is None
    still, _ = token_losses(hidden.detach(), weight.detach(), None, targets)
    assert not still.requires_grad


def test_no_target_is_no_loss() -> None:
    hidden, weight, bias, targets, _ = inputs()
    loss, each = token_losses(hidden[:0], weight, bias, targets[:0])
    loss.backward()
    assert float(loss.detach()) == 0.0 and len(each) == 0 and not weight.grad.any()


def test_half_precision_logits_are_summed_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "CHUNK", 4 * V)
    hidden, weight, bias, targets, _ = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        loss, each = token_losses(hidden, weight, bias, targets)
    loss.backward()
    assert loss.dtype == each.dtype == torch.float32 and hidden.grad.dtype == weight.grad.dtype == torch.float32
    by_hand = F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="sum")
    torch.testing.assert_close(loss, by_hand, rtol=1e-2, atol=0)
    torch.testing.assert_close(weight.grad, torch.autograd.grad(by_hand, weight)[0], rtol=0.05, atol=0.05)
