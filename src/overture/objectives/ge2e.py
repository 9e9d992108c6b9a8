"""GE2E: each utterance has to find its own speaker among those of its batch (Wan et al. 2018, arXiv:1710.10467, section 2.1, softmax).

    L(e_ji) = -S_ji,j + log sum_k exp S_ji,k        S_ji,k = w cos(e_ji, c_k) + b

c_k is the mean of the vectors of speaker k; where k = j, of the other utterances of j alone, without which the answer would be in the question.
The bias b is the same in all scores of an utterance and cancels, so it is not here (the paper's other loss, of contrasts, needs it).

An utterance's loss depends on the others. Batches are grids (`data.grid`), devices exchange their vectors and gradients, so that an update on two
devices is that on one as long as each computes its share at once. Accumulated micro-batches are smaller grids, with fewer speakers to tell apart.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from overture.data.batch import Batch, valid_mask
from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.objectives import Loss

if TYPE_CHECKING:
    from overture.models.modeling_speaker import SpeakerModel

# Gradient of w, as in the paper (section 3) and the released re-implementation. AdamW steps as far whatever it is; the clipped norm does not.
SLOWER = 0.01
LEAST = 1e-6  # w stays above 0: vectors of one speaker are to come together


@dataclass(frozen=True, kw_only=True)
class GE2E:
    """-log p of an utterance's own speaker, in nats."""

    column: str = "speaker"

    def encode(self, value: str, row: str) -> list[int]:
        """A number of 63 bits for each speaker, the same in every corpus. Raises OvertureError for a row without one."""
        if not str(value).strip():
            raise OvertureError(
                f'row {row!r} has no {self.column}: leave such rows out with --where "{self.column} IS NOT NULL"'
            )
        return [int.from_bytes(hashlib.sha256(str(value).encode()).digest()[:8], "big") >> 1]

    def __call__(self, model: "SpeakerModel", batch: Batch, draws: Draws) -> Loss:
        """Raises OvertureError where a speaker has one utterance only."""
        assert batch.labels is not None  # of `encode`
        hidden, lengths = model.states(batch.x, batch.lengths)
        own = model.vectors(hidden[-1], lengths)  # (B, E)
        vectors, labels = from_all_ranks(own), from_all_ranks(batch.labels[:, 0])
        begin = len(own) * _rank()
        with torch.autocast(own.device.type, enabled=False):
            found, of = similarities(vectors, labels)
            found, of = found[begin : begin + len(own)], of[begin : begin + len(own)]  # (B, N), (B,)
            w = model.similarity_weight.clamp_min(LEAST)
            scores = found * (w * SLOWER + w.detach() * (1 - SLOWER))
            loss = F.cross_entropy(scores, of, reduction="sum")
        right = found.detach().gather(1, of[:, None])
        return Loss(
            sum=loss,
            targets=torch.tensor(len(own), device=own.device),
            watch={
                "accuracy": (found.detach().argmax(1) == of).float().mean(),
                "own_cosine": right.mean(),
                "other_cosine": (found.detach().sum() - right.sum()) / max(1, found.numel() - len(own)),
                "scale": w.detach()[0],
            },
            frames=hidden[-1].detach()[valid_mask(lengths, hidden[-1].shape[1])].float(),
        )


def similarities(vectors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(B, E) of length 1, (B,) int64 -> (B, N) cosines with the centroid of each speaker, and (B,) which of them is an utterance's own.

    The own centroid is without the utterance. Raises OvertureError where that leaves nothing.
    """
    names, of, counts = labels.unique(return_inverse=True, return_counts=True)  # (N,), (B,), (N,)
    if bool((counts < 2).any()):
        raise OvertureError(
            f"GE2E compares utterances of one speaker, and {int((counts < 2).sum())} of {len(names)} speakers of a batch have one only: "
            "set data.grid"
        )
    sums = vectors.new_zeros(len(names), vectors.shape[1]).index_add(0, of, vectors)  # (N, E)
    found = vectors @ F.normalize(sums, dim=-1, eps=1e-6).T  # (B, N)
    own = (vectors * F.normalize(sums[of] - vectors, dim=-1, eps=1e-6)).sum(-1)  # (B,)
    return found.scatter(1, of[:, None], own[:, None]), of


def from_all_ranks(x: Tensor) -> Tensor:
    """(B, ...) -> (world * B, ...), rank after rank. The gradient is that of the sum of all ranks' losses. B must be the same on each."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return x
    found: Tensor = _Gather.apply(x)  # type: ignore[no-untyped-call]
    return found


def _rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _Gather(torch.autograd.Function):
    """`torch.distributed.nn.all_gather` does this and is deprecated; what stands in its place is private."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        found = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(found, x.contiguous())
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]
