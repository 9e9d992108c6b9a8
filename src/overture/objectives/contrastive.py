"""Parts of contrastive objectives: negatives, the loss, codebook diversity (wav2vec 2.0, arXiv:2006.11477, section 3.2).

Each masked frame has to find its own target among those of other masked frames of its utterance. The usual code gathers K
target *vectors* for every frame of the batch; here all scores of an utterance come from one product of its masked frames with
their targets, and K *scalars* are gathered from it: the same loss and gradient at a fraction of time and memory.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from overture.data.draws import Draws

NONE = -1  # in a table of negatives: no negative here


class Contrast(NamedTuple):
    """What `contrastive_loss` gives."""

    sum: Tensor  # () differentiable: cross-entropy in nats, summed over the M frames
    accuracy: (
        Tensor  # () detached: share of frames whose own target scores above every live negative, of which it has one
    )
    live: Tensor  # () detached: share of negatives whose codes are not the positive's; 0 is a collapsed codebook


def sample_negatives(draws: Draws, rows: Tensor, counts: Tensor, number: int | None) -> Tensor:
    """Negatives of each masked frame, uniform with replacement over the *other* masked frames of the same utterance.

    rows: (B,) row numbers. counts: (B,) masked frames of each utterance. Frames are numbered through the batch, utterance
    after utterance: M = counts.sum(). Returns (M, number) int64 on the device of `rows`; with `number` None every other
    masked frame once, (M, max(counts) - 1). `NONE` stands where there is no negative: all along the only masked frame of an
    utterance, and at the end of the lines of those with fewer.
    """
    sizes: list[int] = counts.tolist()
    width = max(max(sizes, default=0) - 1, 0) if number is None else number
    found = np.full((sum(sizes), width), NONE, dtype=np.int64)
    start = 0
    for row, count in zip(rows.tolist(), sizes):
        if count > 1:
            if number is None:
                others = np.broadcast_to(np.arange(count - 1), (count, count - 1))
            else:
                others = draws.example(row, purpose=2).integers(0, count - 1, size=(count, number))
            # Numbers from the frame's own on move up by one: uniform over all but itself.
            others = others + (others >= np.arange(count)[:, None])
            found[start : start + count, : others.shape[1]] = start + others
        start += count
    return torch.from_numpy(found).to(rows.device)


def contrastive_loss(
    context: Tensor,
    targets: Tensor,
    negatives: Tensor,
    *,
    counts: Sequence[int] | None = None,
    ids: Tensor | None = None,
    temperature: float = 0.1,
    identical: Literal["mask", "keep"] = "mask",
) -> Contrast:
    """Cross-entropy of cosine similarities over `temperature`: the frame's own target against those of its negatives.

    context: (M, D) predictions. targets: (M, D). negatives: (M, K) int64 numbers of frames, `NONE` where there is none.
    counts: frames of each utterance, where no negative is of another: one product an utterance instead of (M, M).
    ids: (M, G) or (M,) codes of the targets. identical: what becomes of negatives that have the codes of the positive. "mask"
    takes them out of the sum, as fairseq and transformers do, which makes a codebook that has collapsed to one code a zero of
    the loss; "keep" leaves them in, where they can only cost. Computed in float32 whatever autocast says.

    Raises ValueError for "mask" without ids.
    """
    m = len(negatives)
    absent = negatives == NONE  # (M, K)
    index = negatives.clamp_min(0)
    with torch.autocast(context.device.type, enabled=False):
        c, t = F.normalize(context.float(), dim=-1, eps=1e-8), F.normalize(targets.float(), dim=-1, eps=1e-8)
        positive = (c * t).sum(-1) / temperature  # (M,)
        if counts is None or len(counts) < 2:
            scores = c @ t.T  # (M, M)
            columns = index
        else:
            scores, columns = _by_utterance(c, t, index, counts)  # (M, L), (M, K)
        others = scores.gather(1, columns) / temperature  # (M, K)
        same = torch.full_like(absent, ids is not None)
        for group in () if ids is None else ids.view(m, -1).unbind(1):  # one at a time: (M, K) and never (M, K, G)
            same &= group[:, None] == group[index]
        if identical == "mask" and ids is None:
            raise ValueError("identical='mask' needs the codes of the targets")
        dead = absent | same
        counted = others.masked_fill(dead if identical == "mask" else absent, -torch.inf)
        total = (torch.logsumexp(torch.cat([positive[:, None], counted], 1), 1) - positive).sum()
    with torch.no_grad():
        found = (positive[:, None] > others) | dead  # (M, K)
        correct = found.all(1) & ~dead.all(1)  # (M,)
        return Contrast(
            sum=total,
            accuracy=correct.sum() / max(m, 1),
            live=(~dead).sum() / (~absent).sum().clamp_min(1),
        )


def _by_utterance(c: Tensor, t: Tensor, index: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Scores of each frame with all frames of its own utterance, (M, L), and where in it the frames `index` (M, K) stand."""
    size = torch.tensor(counts, device=c.device)
    first = torch.cumsum(size, 0) - size  # (B,) number of the first frame of each utterance
    longest = max(counts)
    inside = torch.arange(longest, device=c.device) < size[:, None]  # (B, L)
    places = (first[:, None] + torch.arange(longest, device=c.device)).clamp_max(max(len(c) - 1, 0))  # (B, L)
    scores = torch.bmm(c[places], t[places].transpose(1, 2))  # (B, L, L)
    start = torch.repeat_interleave(first, size, output_size=len(c))  # (M,)
    return scores[inside], (index - start[:, None]).clamp_min(0)


def diversity(probabilities: Tensor) -> Tensor:
    """(M, G, V) code probabilities -> (): 0 when the mean over frames uses all codes alike, near 1 when it uses one a group.

    (G V - sum of the groups' perplexities) / (G V), as in fairseq and transformers.
    """
    mean = probabilities.float().sum(0) / max(len(probabilities), 1)  # (G, V)
    perplexity = torch.exp(-torch.special.xlogy(mean, mean).sum(-1)).sum()
    entries = mean.numel()
    return (entries - perplexity) / entries
