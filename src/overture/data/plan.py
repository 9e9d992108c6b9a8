"""The batch plan: which rows make which update, a pure function of (lengths, seed, epoch), and of what a mixture draws and an order sorts.

An *update* is a set of utterances of like length whose padded size stays under a bound. Updates know nothing of machines:
they are dealt out to devices and accumulated micro-batches only afterwards, equally by construction. So a run on two
devices sees the same updates as on one, and the state of the data is two numbers, (epoch, index).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from overture.errors import OvertureError

if TYPE_CHECKING:
    from overture.data.grid import Grids

# Utterances are sorted by length x (1 + JITTER * uniform): neighbours differ from epoch to epoch, at the price of about half of it as padding.
JITTER = 0.04
EQUAL = 1e-9  # of a bound, for rounding
STAGES = 10  # an ordered epoch at most; within one of them updates are made of rows of like length, whatever their place in the order


@dataclass(frozen=True)
class MicroBatch:
    """What one device computes at once."""

    rows: np.ndarray  # (B,) int64 indices into the table
    real: bool  # false: there were fewer utterances than devices, this one repeats another's and counts for nothing


class BatchPlan:
    """Deals the rows of a table into updates, epoch after epoch."""

    def __init__(
        self,
        lengths: np.ndarray,
        *,
        update: float,
        micro: float,
        longest_squared: float = np.inf,
        longest: float = np.inf,
        seed: int = 0,
        draw: Callable[[int], np.ndarray] | None = None,
        keys: np.ndarray | None = None,
        ordered: int = 0,
        grids: "Grids | None" = None,
    ) -> None:
        """`lengths`: (N,) of each row, in any unit; bounds in that unit, all counting padding.

        update: of one update. micro: of one micro-batch. longest_squared: on (rows x longest^2) of a micro-batch.
        longest: rows are cropped to it when they are fetched. draw: the rows of an epoch, by its number, some perhaps more than once
        (`overture.data.mixture`); None: each row once. keys: (N,) of each row; the updates of the first `ordered` epochs come by the mean of
        it, the lowest first (`overture.data.order`). grids: makes the updates instead, of rows that belong together (`overture.data.grid`).
        Raises OvertureError when there is no row.
        """
        if len(lengths) == 0:
            raise OvertureError("no utterance is left to train on: look at data.where and data.min_seconds")
        self.lengths = np.minimum(np.asarray(lengths, dtype=np.float64), longest)
        self.update, self.micro, self.longest_squared, self.seed, self.draw = update, micro, longest_squared, seed, draw
        self.keys, self.ordered, self.grids = keys, ordered, grids
        if (top := float(self.lengths.max())) > min(update, micro) or top * top > longest_squared:
            raise OvertureError(
                f"the longest utterance ({top:g}) does not fit a batch (plan.update {update:g}, plan.micro {micro:g}, "
                f"plan.longest_squared {longest_squared:g}): lower data.max_seconds or raise these"
            )
        if grids is not None:
            if draw is not None or keys is not None:
                raise OvertureError("data.grid says which rows make an update: set neither data.mix nor data.order")
            if (size := grids.grid.values * grids.grid.rows) * top > update * (1 + EQUAL):
                raise OvertureError(
                    f"an update of data.grid is {size} rows of up to {top:g}, which is more than plan.update {update:g}"
                )
        self.updates = lru_cache(maxsize=2)(self._updates)

    def _updates(self, epoch: int) -> list[np.ndarray]:
        """All updates of one epoch, each an array of row indices, longest first. Every row is in exactly one, unless rows are drawn or make grids."""
        if self.grids is not None:
            return self.grids(epoch)
        rows = np.arange(len(self.lengths)) if self.draw is None else self.draw(epoch)
        return (
            self._deal(rows, epoch)
            if self.keys is None or epoch >= self.ordered
            else self._ordered(rows, epoch, self.keys)
        )

    def _deal(self, rows: np.ndarray, epoch: int) -> list[np.ndarray]:
        rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        groups = self._groups(rows, rng)
        return [groups[i] for i in rng.permutation(len(groups))]

    def _ordered(self, rows: np.ndarray, epoch: int, keys: np.ndarray) -> list[np.ndarray]:
        """Updates made within stages of the order, so that their means span it: of rows chosen by length alone they would all be alike."""
        rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        updates = self.lengths[rows].sum() / self.update  # about
        stages = int(np.clip(updates / 2, 1, STAGES))  # each ends in an update that is not full
        rows = rows[np.argsort(keys[rows], kind="stable")]
        groups = [group for stage in np.array_split(rows, stages) for group in self._groups(stage, rng)]
        return sorted(groups, key=lambda group: float(keys[group].mean()))

    def _groups(self, rows: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        upper = self.lengths[rows] * (1 + JITTER * rng.random(len(rows)))
        order = np.argsort(-upper, kind="stable")
        groups, start, top = [], 0, float(self.lengths.max())
        while start < len(order):
            # The first has the largest jittered length, which bounds every true length behind it.
            longest = min(float(upper[order[start]]), top)
            count = max(1, int(self.update / longest))
            groups.append(rows[order[start : start + count]])
            start += count
        return groups

    def micro_batches(self, rows: np.ndarray, *, rank: int = 0, world: int = 1) -> list[MicroBatch]:
        """The share of one device in an update: as many micro-batches as every other device has, in the same order."""
        longest = float(self.lengths[rows].max())
        room = min(self.micro / longest, self.longest_squared / longest**2)
        if self.grids is not None:
            return [MicroBatch(r, True) for r in self.grids.share(rows, int(room * (1 + EQUAL)), rank, world)]
        fits = int(room)
        each = -(-len(rows) // world)  # rows a device, rounded up
        parts = -(-each // max(1, fits)) * world
        share = [rows[p::parts] for p in range(rank, parts, world)]
        return [MicroBatch(r, True) if len(r) else MicroBatch(rows[:1], False) for r in share]

    def largest(self) -> np.ndarray:
        """The update of epoch 0, were every row in it, with most padded audio: what is tried first, to fail at second 10 and not in hour 9."""
        if self.grids is not None:
            return self.grids.largest(self.lengths)
        updates = self._deal(np.arange(len(self.lengths)), 0)
        return max(updates, key=lambda rows: (len(rows) * self.lengths[rows].max(), self.lengths[rows].max()))

    def padding(self, epoch: int = 0) -> float:
        """Share of an epoch's padded audio that is padding."""
        updates = self.updates(epoch)
        padded = sum(len(rows) * float(self.lengths[rows].max()) for rows in updates)
        return 1 - sum(float(self.lengths[rows].sum()) for rows in updates) / padded


@dataclass(frozen=True)
class Position:
    """Where a run is in its plan: `index` updates of `epoch` are done."""

    epoch: int = 0
    index: int = 0

    def next(self, plan: BatchPlan) -> "Position":
        if self.index + 1 < len(plan.updates(self.epoch)):
            return Position(self.epoch, self.index + 1)
        return Position(self.epoch + 1, 0)
