"""The CTC loss on a CPU, for many utterances at once: same loss and gradient as `torch.nn.functional.ctc_loss`.

torch's takes one logarithm of three exponentials a state and frame, one after the other. Here all states of all utterances advance
together, in probabilities (float64, rescaled as it goes), forward and backward in one recursion: the backward pass is the forward pass
of the reversed utterance.

Probabilities underflow where the log domain does not, so the recursion is tilted. Each advance by one state is multiplied by r; every
complete path advances equally far, so losses and posteriors do not change, but with r chosen so that the mass walks from the first state
to the last at the pace of the utterance, nothing that matters becomes small. Whether it worked is known exactly: the likelihood read off
at every frame must be the same. Where it is not (or no path exists at all), torch's own result is used.
"""

from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BLANK = 0
_CELLS = 6_000_000  # float64 cells of one recursion, bounds memory to about 200 MB
_RESCALE = 4  # frames


def _reversed(lengths: Tensor, size: int) -> Tensor:
    """(N,) -> (N, size): n - 1 - i before each length n, i after it."""
    i = torch.arange(size)
    return torch.where(i < lengths[:, None], lengths[:, None] - 1 - i, i)


def _forward_backward(
    log_probs: Tensor, lengths: Tensor, targets: Tensor, sizes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(N, T, C), (N,), (N, S), (N,) -> losses (N,), their gradients (N, T, C), and whether each can be trusted (N,)."""
    n, steps, classes = log_probs.shape
    states = 2 * targets.shape[1] + 1
    last = 2 * sizes  # (N,) the closing blank
    labels = torch.full((n, states), BLANK)  # blank, first character, blank, ...
    labels[:, 1::2] = targets
    inside = torch.arange(states) <= last[:, None]  # (N, S')
    labels = labels.where(inside, BLANK)
    valid = torch.arange(steps) < lengths[:, None]  # (N, T)

    log_p = log_probs.double().gather(2, labels[:, None].expand(n, steps, states))  # (N, T, S')
    frames = lengths.clamp(min=1).double()
    blank = (log_p[:, :, 0] * valid).sum(1) / frames
    others = (log_p[:, :, 1::2] * (valid[:, :, None] & inside[:, None, 1::2])).sum((1, 2)) / (
        frames * sizes.clamp(min=1)
    )
    pace = ((lengths - sizes).clamp(min=1) / sizes.clamp(min=1)).double().log()
    tilt = ((blank - others - pace) / 2).nan_to_num(0, 0, 0).clamp(-25, 25)  # (N,) log r

    p = log_p.exp().where(valid[:, :, None], 1.0) * inside[:, None]
    turn, flip = _reversed(lengths, steps), _reversed(last + 1, states)
    back = p.gather(1, turn[:, :, None].expand_as(p)).gather(2, flip[:, None].expand_as(p))
    emit = torch.cat([p, back]).transpose(0, 1).contiguous()  # (T, 2N, S')
    both = torch.cat([labels, labels.gather(1, flip)])
    skip = torch.zeros(both.shape, dtype=torch.float64)
    skip[:, 2:] = ((both[:, 2:] != BLANK) & (both[:, 2:] != both[:, :-2])).double()
    one = tilt.exp().repeat(2)[:, None]  # (2N, 1)
    two = skip * one.square()  # (2N, S')

    reach = torch.zeros(steps, 2 * n, states + 2, dtype=torch.float64)  # two empty states before the first
    reach[0, :, 2:4] = emit[0, :, :2] * torch.cat([torch.ones_like(one), one], 1)[:, :states]
    scale = torch.zeros(steps, 2 * n, dtype=torch.float64)
    for t in range(1, steps):
        before, now = reach[t - 1], reach[t, :, 2:]
        torch.addcmul(before[:, 2:], before[:, 1:-1], one, out=now)
        now.addcmul_(before[:, :-2], two).mul_(emit[t])
        if t % _RESCALE == 0:
            largest = now.amax(1).clamp_(min=1e-300)
            now.div_(largest[:, None])
            scale[t] = largest.log_()
    scale = scale.cumsum(0).T  # (2N, T)
    reach = reach[:, :, 2:].transpose(0, 1)  # (2N, T, S')

    end = reach[:n][torch.arange(n), lengths - 1]  # (N, S')
    closing = end.gather(1, last[:, None])[:, 0]
    open_ended = end.gather(1, (last - 1).clamp(min=0)[:, None])[:, 0] * one[:n, 0] * (sizes > 0)
    ends_at = scale[:n].gather(1, (lengths - 1)[:, None])[:, 0]
    likelihood = (closing + open_ended).log() + ends_at - last * tilt  # (N,)

    later = reach[n:].gather(2, flip[:, None].expand_as(p)).gather(1, turn[:, :, None].expand_as(p))
    posterior = (reach[:n] * later / p.clamp(min=1e-300)).nan_to_num(0, 0, 0) * valid[:, :, None]
    mass = posterior.sum(2)  # (N, T)
    read = mass.log() + scale[:n] + scale[n:].gather(1, turn) - (last * tilt)[:, None]
    trusted = (((read - likelihood[:, None]).abs() < 1e-4) | ~valid).all(1) & likelihood.isfinite()

    weights = (posterior / mass.clamp(min=1e-300)[:, :, None]).float()
    one_hot = F.one_hot(labels, classes).float() * inside[:, :, None]  # (N, S', C)
    return -likelihood.float(), -torch.bmm(weights, one_hot), trusted


class _Lattice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, lengths: Tensor, targets: Tensor, sizes: Tensor) -> Tensor:
        cells = 2 * log_probs.shape[1] * (2 * targets.shape[1] + 1)
        parts = ceil(len(log_probs) * cells / _CELLS)
        found = [
            _forward_backward(*part)
            for part in zip(*(a.tensor_split(parts) for a in (log_probs.detach(), lengths, targets, sizes)))
        ]
        losses, gradients, trusted = (torch.cat(each) for each in zip(*found))
        if not bool(trusted.all()):
            bad = (~trusted).nonzero()[:, 0]
            with torch.enable_grad():
                inputs = log_probs.detach()[bad].requires_grad_()
                exact = reference(inputs, lengths[bad], targets[bad], sizes[bad])
                (gradients[bad],) = torch.autograd.grad(exact.sum(), inputs)
            losses[bad] = exact.detach()
        ctx.save_for_backward(gradients)
        return losses

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (gradients,) = ctx.saved_tensors
        return gradient[:, None, None] * gradients, None, None, None


def reference(log_probs: Tensor, lengths: Tensor, targets: Tensor, sizes: Tensor) -> Tensor:
    """torch's own, with the arguments of `ctc`."""
    return F.ctc_loss(log_probs.transpose(0, 1), targets, lengths, sizes, blank=BLANK, reduction="none")


def ctc(log_probs: Tensor, lengths: Tensor, targets: Tensor, sizes: Tensor) -> Tensor:
    """Negative log likelihoods: (N, T, C) float32 log probabilities, (N,) frames, (N, S) padded ids, (N,) their number -> (N,)."""
    if log_probs.device.type != "cpu":
        return reference(
            log_probs, lengths, targets, sizes
        )  # there a step is a launch, and torch's kernels are the faster
    losses: Tensor = _Lattice.apply(log_probs, lengths, targets, sizes)  # type: ignore[no-untyped-call]
    return losses
