"""In which order an epoch's updates come: at random, or for the first epochs by a column, as in a curriculum.

Short before long, clean before noisy, likely before unlikely: whatever a scorer has put into a column.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from overture.errors import OvertureError

if TYPE_CHECKING:  # a `Run` holds an `Order`, and must stay light
    import numpy as np

    from overture.data.table import Table


@dataclass(frozen=True, kw_only=True)
class Order:
    """The updates of the first `epochs` by the mean of a column over their rows; those after them at random."""

    by: str = "length"  # a column of numbers, or "length": what the plan counts, seconds or tokens
    descending: bool = False
    epochs: int = 1

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise OvertureError(f"order.epochs={self.epochs}: one or more; data.order=none for an order at random")

    def keys(self, table: "Table", lengths: "np.ndarray") -> "np.ndarray":
        """(N,) a number of each row of `table`, the lowest first. Raises OvertureError where rows have none, or the column is none of numbers."""
        import numpy as np

        from overture.data.select import numbers

        found = np.asarray(lengths, dtype=np.float64) if self.by == "length" else numbers(table, self.by)
        if lacking := int(np.isnan(found).sum()):
            raise OvertureError(
                f"data.order: {lacking} of {len(table)} rows of {table.name!r} have no {self.by}, so they cannot be put in order: "
                f'leave them out with --where "{self.by} IS NOT NULL"'
            )
        return -found if self.descending else found
