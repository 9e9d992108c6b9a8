"""Clusters of a vocabulary, and how often a token of one put in place of a token of another fools the network (for C-RTS, `objectives.replaced`).

The counts are buffers of the model, hence in its checkpoints. What the micro-batches of an update gather takes effect at the first batch of the
next, on all ranks alike, as in `quantize.ema`: within an update every token meets the same counts, so neither accumulation nor ranks change
what is learnt.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from overture.data.tokens import Special, Tokens
from overture.errors import OvertureError
from overture.models.text import Bert

if TYPE_CHECKING:
    from overture.models.text import TextModel
    from overture.objectives.masked_tokens import Swap


@dataclass(frozen=True, kw_only=True)
class ClusteredBert(Bert):
    """BERT, and among its heads, since only this pre-training needs them, `clusters` of its vocabulary."""

    clusters: int = 100

    def build(self, frontend: Tokens) -> "TextModel":
        model = super().build(frontend)
        model.heads["clusters"] = Clusters(bands(model.vocabulary, frontend.special, self.clusters), self.clusters)
        return model


def bands(vocabulary: int, special: Special, clusters: int) -> Tensor:
    """(V,) int64: `clusters` bands of successive ids, of like size, as clusters; -1 for special ids.

    A trained vocabulary goes from characters and frequent pieces to rare ones, so tokens of a band are about as frequent, and a network can
    not find a replacement of the same band by its frequency alone. Raises OvertureError for more clusters than tokens.
    """
    ordinary = np.setdiff1d(np.arange(vocabulary), special.ids)
    if not 1 < clusters <= len(ordinary):
        raise OvertureError(
            f"model.clusters={clusters} must be from 2 to the {len(ordinary):,} tokens that are not special"
        )
    of = np.full(vocabulary, -1)
    of[ordinary] = np.arange(len(ordinary)) * clusters // len(ordinary)
    return torch.from_numpy(of)


class Clusters(nn.Module):
    """`counts[c, k]`: how much more often tokens of k in place of tokens of c were taken for originals than found, plus one."""

    of: Tensor  # (V,) int64 cluster of each id; -1: special
    counts: Tensor  # (K, K) int64, rows: of the original
    new: Tensor  # (K, K) int64 of the update `gathered`
    gathered: Tensor  # () int64, an update's number; -1 before the first

    def __init__(self, of: Tensor, clusters: int) -> None:
        super().__init__()
        self.register_buffer("of", of)
        self.register_buffer("counts", torch.ones(clusters, clusters, dtype=torch.int64))
        self.register_buffer("new", torch.zeros(clusters, clusters, dtype=torch.int64))
        self.register_buffer("gathered", torch.tensor(-1))

    @torch.no_grad()
    def begin(self, update: int) -> None:
        """With the first batch of an update, what the last one gathered takes effect."""
        if update != int(self.gathered):
            self.counts += self.new
            self.new.zero_()
            self.gathered.fill_(update)

    @torch.no_grad()
    def gather(self, before: Tensor, after: Tensor, fooled: Tensor) -> None:
        """A micro-batch, of all ranks: (n,) ids, what stands in their place, and whether that was taken for an original."""
        size = len(self.counts)
        pairs = self.of[before] * size + self.of[after]  # a pair may come many times, and counts as often
        found = torch.zeros(size * size, dtype=torch.int64, device=pairs.device)
        found.index_add_(0, pairs, torch.where(fooled, 1, -1))
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(found)
        self.new += found.view(size, size)

    def probabilities(self, beta: float) -> np.ndarray:
        """(K, K) float64: of a cluster (column) to replace a token of a cluster (row)."""
        counts = self.counts.cpu().numpy().astype(np.float64)
        low, high = counts.min(1, keepdims=True), counts.max(1, keepdims=True)
        weights = np.exp(beta * (counts - low) / np.maximum(high - low, 1))
        return np.asarray(weights / weights.sum(1, keepdims=True))

    def swap(self, beta: float) -> "Swap":
        """Draws for each of some ids another one: first the cluster, then one of its tokens, all of these alike."""
        of = self.of.cpu().numpy()
        order = np.argsort(of, kind="stable")  # ids by cluster, special ones first
        starts = np.searchsorted(of[order], np.arange(len(self.counts) + 1))  # where each cluster begins
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        sizes, chances = np.diff(starts), self.probabilities(beta)

        def draw(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            own = of[ids]  # (n,)
            chance = chances[own]  # (n, K)
            alone = np.flatnonzero(sizes[own] == 1)
            chance[alone, own[alone]] = 0.0  # a token that is its whole cluster cannot be replaced from there
            upto = chance.cumsum(1)
            to = (upto <= rng.random((len(ids), 1)) * upto[:, -1:]).sum(1)  # (n,)
            many = sizes[to] - (to == own)
            found = starts[to] + (rng.random(len(ids)) * many).astype(np.int64)
            return np.asarray(order[found + ((to == own) & (found >= place[ids]))])

        return draw
