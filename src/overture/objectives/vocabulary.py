"""Cross-entropy over a vocabulary, some positions at a time: the logits of all of them are never in memory together.

The forward pass computes the gradient of what goes in and of the weights on the way, as each chunk's logits are there; so
nothing is computed twice, and memory is one chunk's logits and one gradient of the weights (as in torchtune's
`LinearCrossEntropyLoss` and liger-kernel's fused loss).
"""

from typing import Any

import torch
from torch import Tensor

CHUNK = 1 << 24  # logits in memory at a time


def token_losses(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(M, D) states, (V, D), (V,) or None, (M,) int64 ids -> () sum of `weights` (M,) x -log p(target), and (M,) -log p, detached.

    The products are made in the precision of autocast, the softmax in float32. `weights` have no gradient.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        kind = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(kind), weight.to(kind)
        bias = None if bias is None else bias.to(kind)
    found: tuple[Tensor, Tensor] = _Chunked.apply(hidden, weight, bias, targets, weights)  # type: ignore[no-untyped-call]
    return found


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        rows = max(1, CHUNK // weight.shape[0])
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        of_hidden = torch.empty_like(hidden) if needs_hidden else None
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        of_bias = torch.zeros_like(bias, dtype=torch.float32) if needs_bias and bias is not None else None
        losses = hidden.new_empty(len(hidden), dtype=torch.float32)
        for first in range(0, len(hidden), rows):
            part = slice(first, first + rows)
            logits = torch.nn.functional.linear(hidden[part], weight, bias).float()  # (m, V)
            top = logits.logsumexp(-1, keepdim=True)
            own = targets[part, None]
            losses[part] = (top - logits.gather(1, own))[:, 0]
            if not any(ctx.needs_input_grad):
                continue
            slope = torch.exp(logits - top)  # d loss / d logits
            slope.scatter_add_(1, own, slope.new_full(own.shape, -1.0))
            if weights is not None:
                slope *= weights[part, None]
            if of_bias is not None:
                of_bias += slope.sum(0)
            slope = slope.to(hidden.dtype)
            if of_hidden is not None:
                torch.mm(slope, weight, out=of_hidden[part])
            if of_weight is not None:
                of_weight += slope.T @ hidden[part]
        ctx.save_for_backward(of_hidden, of_weight, of_bias)
        ctx.kinds = (weight.dtype, None if bias is None else bias.dtype)
        ctx.mark_non_differentiable(losses)
        total = losses.sum() if weights is None else (losses * weights).sum()
        return total, losses

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        scale = upstream[0]
        of_hidden, of_weight, of_bias = ctx.saved_tensors
        weight_kind, bias_kind = ctx.kinds
        return (
            None if of_hidden is None else of_hidden * scale.to(of_hidden.dtype),
            None if of_weight is None else (of_weight * scale).to(weight_kind),
            None if of_bias is None else (of_bias * scale).to(bias_kind),
            None,
            None,
        )
