"""Updates of N speakers with M utterances each, for objectives that compare the rows of an update with one another.

Batches of GE2E (Wan et al. 2018, arXiv:1710.10467, section 2.1), and of all metric learning that needs positives in its batch. Speakers come alike
often, however much there is of each, as in the released re-implementation (CorentinJ/Real-Time-Voice-Cloning, `encoder/data_objects`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from overture.errors import OvertureError

if TYPE_CHECKING:  # a `Run` holds a `Grid`, and must stay light
    import numpy as np

    from overture.data.table import Table

GRID = 17  # purpose of a draw


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Each update has `rows` rows of each of `values` values of a column."""

    column: str = "speaker"
    values: int = 64  # N
    rows: int = 10  # M

    def __post_init__(self) -> None:
        if self.values < 2 or self.rows < 2:
            raise OvertureError(f"data.grid: {self.values} values with {self.rows} rows each: two of both at least")


class Grids:
    """The updates of each epoch: a function of (table, seed, epoch).

    An epoch hears each value once, in an order drawn anew: floor(V / N) updates of the V values that have M rows, and V mod N of them wait for
    another epoch. Which M rows of a value are heard is drawn anew too, without replacement. Values with fewer rows are left out.
    """

    def __init__(self, grid: Grid, table: "Table", seed: int) -> None:
        """Raises OvertureError when the table lacks the column, rows have no value in it, or fewer than N values have M rows."""
        import numpy as np

        from overture.data.mixture import classes

        values, codes = classes(table, grid.column)
        if None in values:
            raise OvertureError(
                f"data.grid: {int((codes == values.index(None)).sum())} of {len(table)} rows of {table.name!r} have no {grid.column}: leave "
                f'them out with --where "{grid.column} IS NOT NULL"'
            )
        groups = [np.flatnonzero(codes == c) for c in range(len(values))]
        self.grid, self.seed = grid, seed
        self.members = [rows for rows in groups if len(rows) >= grid.rows]  # (V,) of each value its rows
        self.left_out = len(table) - sum(len(rows) for rows in self.members)  # rows
        if len(self.members) < grid.values:
            raise OvertureError(
                f"data.grid: {len(self.members)} of {len(values)} values of {grid.column} in {table.name!r} have {grid.rows} rows or more, and an "
                f"update takes {grid.values}: lower data.grid.values or data.grid.rows"
            )

    def __call__(self, epoch: int) -> "list[np.ndarray]":
        """Updates of (N * M,) row numbers, those of one value side by side."""
        import numpy as np

        from overture.data.draws import Draws

        draws, (count, each) = Draws(self.seed, epoch), (self.grid.values, self.grid.rows)
        order = draws.example(-1, GRID).permutation(len(self.members))
        chosen = [draws.example(v, GRID).choice(rows, each, replace=False) for v, rows in enumerate(self.members)]
        return [
            np.concatenate([chosen[v] for v in order[first : first + count]])
            for first in range(0, len(order) - count + 1, count)
        ]

    def largest(self, lengths: "np.ndarray") -> "np.ndarray":
        """(N * M,) rows of an update that could be: the longest of each of the values with the longest. `lengths`: of all rows."""
        import numpy as np

        longest = [rows[np.argsort(-lengths[rows], kind="stable")[: self.grid.rows]] for rows in self.members]
        return np.concatenate(sorted(longest, key=lambda rows: -float(lengths[rows[0]]))[: self.grid.values])

    def share(self, rows: "np.ndarray", fits: int, rank: int, world: int) -> "list[np.ndarray]":
        """Of an update what one device of `world` computes: grids of N / parts values by M rows, in as few parts as hold `fits` rows at most.

        Raises OvertureError where N values cannot be dealt equally, two at least to each part.
        """
        lines = rows.reshape(-1, self.grid.rows)  # (N, M)
        for parts in range(world, len(lines) // 2 + 1, world):
            if len(lines) % parts == 0 and len(rows) // parts <= fits:
                return [lines[p::parts].ravel() for p in range(rank, parts, world)]
        raise OvertureError(
            f"an update of {len(lines)} values of {self.grid.column} with {self.grid.rows} rows each cannot be dealt equally to {world} device(s) "
            f"in micro-batches of {fits} rows at most, with two values or more in each: raise plan.micro and plan.longest_squared, or choose "
            "another data.grid.values"
        )
