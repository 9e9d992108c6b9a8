"""Which frames or patches are hidden: spans (wav2vec 2.0), clusters of patches (SSAST), a random part kept (position prediction).

Each policy draws for one utterance from its own generator and counts exactly. Spans are given in seconds, so a front end
with another frame rate hides the same stretch of speech.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from overture.data.draws import Draws
from overture.data.lengths import samples


@dataclass(frozen=True, kw_only=True)
class SpanMask:
    """Spans that may overlap (wav2vec 2.0, arXiv 2006.11477, section 3.1). The defaults hide 49 % of long utterances at 50 Hz."""

    start: float = 0.065  # of the frames begin a span
    seconds: float = 0.2  # of a span
    at_least: int = 1  # spans of an utterance, however short

    def draw(self, steps: int, rate: float, rng: np.random.Generator, weights: np.ndarray | None = None) -> np.ndarray:
        """(steps,) bool, true where hidden; `rate` in Hz.

        round(start * steps) spans begin at different frames, from each of which a span fits into the utterance: uniform, or
        one after the other in proportion to `weights` (steps,), and only where those are positive. A span is shorter than its
        utterance, so that something is left to see; a single frame stays visible.
        Raises ValueError for weights that are negative, not finite, of another number, or zero wherever a span can begin.
        """
        mask = np.zeros(steps, dtype=bool)
        width = min(max(1, samples(self.seconds, rate)), steps - 1)
        if width < 1:
            return mask
        places = steps - width + 1
        spans = min(max(self.at_least, round(self.start * steps)), places)
        chances = None
        if weights is not None:
            chances = np.asarray(weights, dtype=np.float64)
            if chances.shape != (steps,) or not np.isfinite(chances).all() or (chances < 0).any():
                raise ValueError(
                    f"weights must be {steps} finite numbers from 0 on, one a frame; shape {chances.shape}"
                )
            chances = chances[:places]
            if not chances.any():
                raise ValueError("no frame that a span can begin at has a positive weight")
            spans, chances = min(spans, int(np.count_nonzero(chances))), chances / chances.sum()
        starts = rng.choice(places, spans, replace=False, p=chances)
        mask[starts[:, None] + np.arange(width)] = True
        return mask


@dataclass(frozen=True, kw_only=True)
class PatchClusters:
    """Square clusters of patches, and always the same number of patches (SSAST, arXiv 2110.09784, section 2.3).

    Sizes of (1,) hide single patches, each set of them equally likely. Blocks leave the grid at one side and come back at the
    other, so every patch is hidden equally often. The published code instead runs on at the end of a row, never hides the
    first patch and cuts the highest indices off: `faithful` does as it does, and hides the rows of an 8 x 64 grid at rates of
    .42 .67 .81 .87 .89 .89 .89 .82.
    """

    share: float = 400 / 512  # of the patches
    sizes: tuple[int, ...] = (3, 4, 5)  # patches along the side of a cluster, one size drawn for each clip
    faithful: bool = False

    def draw(self, grid: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """(F', T') patches along frequency and time -> (F', T') bool with exactly round(share * F' * T') true ones."""
        size = int(rng.choice(self.sizes))
        tokens = grid[0] * grid[1]
        turn = rng.permutation(
            tokens
        )  # when each patch begins a block; a second block from one patch would add nothing
        if self.faithful:
            order = self._published_order(grid, size, turn)
        else:
            blocks = turn.reshape(grid)
            first = blocks  # the turn of the first block that covers a patch
            for i in range(min(size, grid[0])):
                for j in range(min(size, grid[1])):
                    first = np.minimum(first, np.roll(blocks, (i, j), axis=(0, 1)))
            order = np.lexsort((rng.random(tokens), first.ravel()))  # the last block is cut at random
        mask = np.zeros(tokens, dtype=bool)
        mask[order[: round(self.share * tokens)]] = True
        return mask.reshape(grid)

    def _published_order(self, grid: tuple[int, int], size: int, turn: np.ndarray) -> np.ndarray:
        """`gen_maskid_patch` of the published code: blocks until more than enough are hidden, then the lowest indices."""
        tokens = len(turn)
        enough = round(self.share * tokens)
        hidden: set[int] = set()
        for start in np.argsort(turn).tolist():
            if len(hidden) > enough:
                break
            block = (start + grid[1] * i + j for i in range(size) for j in range(size))
            hidden.update(token for token in block if 0 < token < tokens)
        return np.array(sorted(hidden) + sorted(set(range(tokens)) - hidden))


@dataclass(frozen=True, kw_only=True)
class RandomKeep:
    """A random part of the frames stays, and only it can be attended to (position prediction, arXiv 2207.07611, section 3)."""

    share: float = 0.5  # of the frames

    def draw(self, steps: int, rng: np.random.Generator) -> np.ndarray:
        """(K,) int64, rising indices of the max(1, round(share * steps)) frames that stay. Raises ValueError for no steps."""
        if steps < 1:
            raise ValueError("an utterance without frames")
        kept = rng.choice(steps, min(steps, max(1, round(self.share * steps))), replace=False)
        return np.sort(kept).astype(np.int64)


def batch_mask(
    policy: SpanMask, rows: Tensor, steps: Tensor, total: int, rate: float, draws: Draws, purpose: int = 0
) -> Tensor:
    """Spans of a batch: row numbers (B,), valid steps (B,), padded steps, Hz -> (B, total) bool, false on padding."""
    mask = np.zeros((len(rows), total), dtype=bool)
    for b, (row, length) in enumerate(zip(rows.tolist(), steps.tolist())):
        mask[b, :length] = policy.draw(length, rate, draws.example(row, purpose))
    return torch.from_numpy(mask).to(rows.device)  # (B, T)
