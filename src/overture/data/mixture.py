"""Which rows of a corpus a run hears, and how often: languages in balance, and parts of equal hours.

`Mixture` draws each epoch anew so that a value l of a column gets p_l ~ (h_l / sum h)^alpha of it, h in hours, as IndicWav2Vec
samples its languages (Javed et al. 2021, arXiv:2111.03945). `Matched` keeps as many hours of each of some values, as a study of
what one factor does has to (Boito et al. 2022, arXiv:2204.01397). Rows without a value (None, NaN, empty) are a class of their own: a mixture
draws them as such, and `Matched` never takes them for a named value. Hours are of what an epoch hears: rows longer than a run's
`max_seconds` count as that.
"""

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from overture.errors import OvertureError, near

if TYPE_CHECKING:  # a `Run` holds these, and must stay light
    import numpy as np

    from overture.data.table import Table
    from overture.run import Data

MIX = 9  # purpose of a draw
WITHIN = 0.005  # of the hours asked for, so that two values differ by 1 % at most
LOOK = 500  # rows on either side that are tried for the last place
EQUAL = 1e-9  # two numbers of hours that differ by less are the same but for rounding


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """How often the values of a column are heard. alpha = 1: as the corpus has them; 0: all alike."""

    column: str = "language"
    alpha: float = 0.7

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise OvertureError(
                f"mix.alpha={self.alpha:g}: between 0 (all values alike) and 1 (as the corpus has them)"
            )

    def shares(self, hours: "np.ndarray") -> "np.ndarray":
        """(C,) hours of each class, above 0 -> (C,) p, its share of an epoch; they sum to 1."""
        weight = (hours / hours.sum()) ** self.alpha
        return weight / weight.sum()  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Matched:
    """`hours` of each of `values`, drawn from the rows that have it. What is drawn of one value depends on (seed, value) alone."""

    column: str = "gender"
    values: tuple[str, ...] = ()
    hours: float = 1.0
    seed: int = 0

    def rows(self, table: "Table", longest: float = float("inf")) -> "np.ndarray":
        """(M,) row numbers within `table`, ascending; `longest`: s, rows above it count as that. Raises OvertureError, see `matched`."""
        return matched(table, self.column, self.values, self.hours, self.seed, longest=longest)


class Epochs:
    """The rows of each epoch of a mixture: a function of (table, seed, epoch).

    Of class l, which has n_l rows, r_l n_l are drawn, to the nearest whole number and one at least, where r_l = p_l sum(h) / h_l:
    with replacement where r_l >= 1, else without.
    """

    def __init__(self, mixture: Mixture, table: "Table", seconds: "np.ndarray", seed: int) -> None:
        """`seconds`: (N,) of each row of `table`. Raises OvertureError when it lacks the column, or a class of it has no length."""
        import numpy as np

        self.values, codes = classes(table, mixture.column)
        self.seed = seed
        self.rows = [np.flatnonzero(codes == c) for c in range(len(self.values))]
        hours = np.array([seconds[rows].sum() for rows in self.rows]) / 3600
        if not (hours > 0).all():
            nothing = self.values[int(np.argmin(hours))]
            raise OvertureError(
                f"data.mix: the rows with {mixture.column}={nothing!r} last 0 s: leave them out with --where"
            )
        self.shares = mixture.shares(hours)  # (C,)
        self.ratios = self.shares * hours.sum() / hours  # (C,)
        sizes = np.array([len(rows) for rows in self.rows])
        self.counts = np.maximum(1, np.floor(self.ratios * sizes + 0.5 + EQUAL)).astype(np.int64)  # (C,) rows an epoch

    def __call__(self, epoch: int) -> "np.ndarray":
        """(M,) row numbers, some of them more than once."""
        import numpy as np

        from overture.data.draws import Draws

        drawn = []
        for number, (rows, ratio, count) in enumerate(zip(self.rows, self.ratios, self.counts)):
            rng = Draws(self.seed, epoch).example(number, MIX)
            drawn.append(rng.choice(rows, int(count), replace=bool(ratio >= 1 - EQUAL)))
        return np.concatenate(drawn)


def classes(table: "Table", column: str) -> "tuple[list[str | None], np.ndarray]":
    """The values of a column as text, in order, None last where rows have none; and (N,) int64, the place of each row's in that list.

    Raises OvertureError, with near names, when there is no such column.
    """
    import numpy as np

    words = [None if v is None or v != v or not str(v).strip() else str(v) for v in table.numpy(column)]
    known: list[str | None] = [*sorted({w for w in words if w is not None})]
    values = known + [None] * (None in words)
    at = {value: i for i, value in enumerate(values)}
    return values, np.array([at[w] for w in words], dtype=np.int64)


def matched(
    table: "Table",
    column: str,
    values: "tuple[str, ...] | list[str]",
    hours: float,
    seed: int = 0,
    *,
    longest: float = float("inf"),
) -> "np.ndarray":
    """(M,) row numbers within `table`, ascending: `hours` of each of `values`, to within half a percent, so any two are equal to 1 %.

    `longest`: s, longer rows count as that, since a run crops them. Raises OvertureError for a value that no row has, with near
    names, or of which there is less.
    """
    import numpy as np

    if not values or len(set(values)) < len(values) or hours <= 0:
        raise OvertureError(
            f"data.matched: values {list(values)} and hours {hours:g}: name one value or more, each once, and hours above 0"
        )
    known, codes = classes(table, column)
    seconds = np.minimum(table.numpy("duration"), longest)
    found = []
    for value in values:
        if value not in known:
            raise OvertureError(
                f"data.matched: no row of {table.name!r} has {column}={value!r}. {near(value, [v for v in known if v is not None])}"
            )
        rng = np.random.default_rng([seed, zlib.crc32(value.encode())])
        rows = rng.permutation(np.flatnonzero(codes == known.index(value)))
        chosen = rows[_fill(seconds[rows], hours * 3600)]
        total = float(seconds[chosen].sum()) / 3600
        if abs(total - hours) > WITHIN * hours:
            there = float(seconds[rows].sum()) / 3600
            lacking = there < hours
            raise OvertureError(
                f"data.matched: {hours:g} h of {column}={value!r} were asked for, "
                + (
                    f"{table.name!r} has {there:.4g}"
                    if lacking
                    else f"and its {len(rows)} rows come no nearer than {total:.4g}: ask for more hours"
                )
            )
        found.append(chosen)
    return np.sort(np.concatenate(found))


def _fill(seconds: "np.ndarray", target: float) -> "np.ndarray":
    """(M,) places in `seconds` (N,): the first ones that together last no longer than `target`, and one or two exchanged to come near it."""
    import numpy as np

    end = int(np.searchsorted(np.cumsum(seconds), target * (1 + EQUAL), side="right"))
    taken, left = list(range(end)), list(range(end, len(seconds)))
    gap = target - float(seconds[:end].sum())
    for _ in range(2):
        if not left or abs(gap) <= WITHIN * target / 2:
            break
        out, new = np.array(taken[-LOOK:], dtype=np.int64), np.array(left[:LOOK])
        change = np.append(0.0, seconds[out])[:, None]  # (K + 1, 1): none, or one of those taken last
        error = np.abs(gap - (seconds[new] - change))  # (K + 1, L)
        i, j = np.unravel_index(int(error.argmin()), error.shape)
        if error[i, j] >= abs(gap):
            break
        gap -= float(seconds[new[j]] - change[i, 0])
        left.remove(int(new[j]))
        taken.append(int(new[j]))
        if i:
            taken.remove(int(out[i - 1]))
            left.append(int(out[i - 1]))
    return np.array(taken, dtype=np.int64)


def rows_of(data: "Data") -> "tuple[Table, int]":
    """The rows of a corpus that a run trains on, and how many were too short for it (at the highest speed of `data.augment`).

    Raises OvertureError when none is left.
    """
    import numpy as np

    from overture.data.table import Table

    whole = Table.open(data.corpus, data.where)
    fastest = data.augment.fastest if data.augment else 1.0
    table = whole.take(np.flatnonzero(whole.numpy("duration") / fastest >= data.min_seconds))
    if len(table) == 0:
        raise OvertureError(
            f"no row of corpus {data.corpus!r} is left to train on: --where {data.where!r} and data.min_seconds="
            f"{data.min_seconds:g} leave none of {len(Table.open(data.corpus))}"
        )
    too_short = len(whole) - len(table)
    return (table.take(data.matched.rows(table, data.max_seconds)) if data.matched else table), too_short


def composition(data: "Data", table: "Table") -> list[dict[str, Any]]:
    """What each value of the columns that `data` is matched and mixed by comes to in `table`, its `rows_of`.

    In order: `column`, `value` (None: unknown), `rows`, `hours`, `speakers` (None where the corpus names none); where it is mixed also
    `share` of an epoch, `ratio` to what is there, `drawn` rows an epoch. Empty where `data` is neither matched nor mixed.
    """
    import numpy as np

    seconds = np.minimum(table.numpy("duration"), data.max_seconds)
    voices = table.numpy("speaker") if "speaker" in table.columns.column_names else None
    parts: list[Matched | Mixture] = [data.mix] if data.mix else []
    if data.matched and (data.mix is None or data.mix.column != data.matched.column):
        parts.insert(0, data.matched)
    found: list[dict[str, Any]] = []
    for part in parts:
        values, codes = classes(table, part.column)
        mixed = Epochs(part, table, seconds, 0) if isinstance(part, Mixture) else None
        for c, value in enumerate(values):
            rows = np.flatnonzero(codes == c)
            line: dict[str, Any] = {
                "column": part.column,
                "value": value,
                "rows": len(rows),
                "hours": float(seconds[rows].sum()) / 3600,
                "speakers": None if voices is None else len({v for v in voices[rows] if v is not None}),
            }
            if mixed is not None:
                line |= {
                    "share": float(mixed.shares[c]),
                    "ratio": float(mixed.ratios[c]),
                    "drawn": int(mixed.counts[c]),
                }
            found.append(line)
    return found
