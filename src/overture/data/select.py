"""Choosing rows under a budget: the best, the worst, or any, of a given size.

Thresholds, inverse filters, cuts by date and leaving a source out are SQL (`--where`) and need no class. A budget is not: "the 5 h with the
highest SNR", "as many characters of the least hateful texts as of the most hateful ones", and the control that such a choice has to beat,
rows of the same size at random (a pre-trainer's guide, Longpre et al. 2023, arXiv:2305.13169, reports filters without it).
A smaller budget is the beginning of a larger one.
"""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overture.errors import OvertureError

if TYPE_CHECKING:  # a `Run` holds a `Select`, and must stay light
    import numpy as np

    from overture.data.table import Table


@dataclass(frozen=True, kw_only=True)
class Select:
    """Rows in the order of a column until the budget is spent, to the nearest row. Name one of `hours`, `characters` and `like`.

    Rows of equal value come in an order drawn from (seed, id), which is also the order where no column is named. Rows without a value are
    never chosen by it.
    """

    column: str | None = None  # of numbers; None: at random
    descending: bool = True  # the highest first; the inverse choice is false
    hours: float | None = None  # of speech
    characters: int | None = None  # of text
    like: str | None = None  # as much as the rows for which this SQL is true: the size-matched control of a filter
    seed: int = 0

    def __post_init__(self) -> None:
        given = {name: value for name in ("hours", "characters", "like") if (value := getattr(self, name)) is not None}
        if len(given) > 1:
            raise OvertureError(f"select: {', '.join(given)}: a budget is one of hours, characters and like")
        if any(not isinstance(value, str) and value <= 0 for value in given.values()):
            raise OvertureError(f"select: a budget is above 0, not {next(iter(given.values()))}")

    def rows(self, table: "Table", longest: float = float("inf")) -> "np.ndarray":
        """(M,) row numbers within `table`, ascending; `longest`: s, rows above it count as that. Raises OvertureError, see `ranked`."""
        import numpy as np

        return np.sort(self.ranked(table, longest))

    def ranked(self, table: "Table", longest: float = float("inf")) -> "np.ndarray":
        """(M,) row numbers within `table`, in the order in which they are chosen.

        Raises OvertureError when a corpus of speech is asked for characters or one of text for hours, when the column is not there or is none
        of numbers, and when the rows that have a value are fewer than asked for.
        """
        import numpy as np

        from overture.data.mixture import sizes

        size = sizes(table, longest)
        budget = self._budget(table, size, longest)
        order = self._order(table)
        ends = np.cumsum(size[order])
        have = float(ends[-1]) if len(ends) else 0.0
        last = float(size[order[-1]]) if len(order) else 0.0
        if budget > have + last / 2:
            unit = 1 if table.is_text else 3600
            among = f" with a {self.column}" if self.column else ""
            what = "characters" if table.is_text else "h"
            raise OvertureError(
                f"data.select: {budget / unit:,.6g} {what} were asked for, the rows of {table.name!r}{among} have {have / unit:,.6g}"
            )
        count = int(np.abs(np.append(0.0, ends) - budget).argmin())
        return order[: max(1, count)]

    def _budget(self, table: "Table", size: "np.ndarray", longest: float) -> float:
        """In the unit of `size`."""
        from overture.data.mixture import sizes

        if self.like is not None:
            if not len(like := table.where(self.like)):
                raise OvertureError(
                    f"data.select.like: no row of {table.name!r} has {self.like}, so there is no size to match"
                )
            return float(sizes(like, longest).sum())
        if self.hours is None and self.characters is None:
            raise OvertureError("data.select has no budget: set one of hours, characters and like")
        if (self.characters is None) == table.is_text:
            way_out = "characters" if table.is_text else "hours"
            raise OvertureError(f"data.select: {table.name!r} is measured in {way_out}: set select.{way_out}")
        return float(self.hours * 3600 if self.hours is not None else self.characters or 0)

    def _order(self, table: "Table") -> "np.ndarray":
        """(K,) the rows that can be chosen, the first choice first."""
        import numpy as np

        luck = np.array([_hash(f"{self.seed}:{name}") for name in table.numpy("id")])
        order = np.argsort(luck, kind="stable")
        if self.column is None:
            return order
        score = numbers(table, self.column)[order]
        order, score = order[~np.isnan(score)], score[~np.isnan(score)]
        return np.asarray(order[np.argsort(-score if self.descending else score, kind="stable")])


def are_numbers(table: "Table", column: str) -> bool:
    """Whether rows can be ranked by a column that is there."""
    import pyarrow as pa

    kind = table.columns.schema.field(column).type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def numbers(table: "Table", column: str) -> "np.ndarray":
    """(N,) float64 of a column, NaN where a row has none. Raises OvertureError when there is no such column, or it holds no numbers."""
    import numpy as np

    values = table.numpy(column)  # of a column that is not there it says so
    if not are_numbers(table, column):
        kind = table.columns.schema.field(column).type
        raise OvertureError(
            f"column {column!r} of {table.name!r} holds {kind}, not numbers: rows cannot be ranked by it"
        )
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
