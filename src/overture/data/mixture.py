"""Which rows of a corpus a run hears, and how often: languages in balance, fixed shares, and parts of equal hours.

A `Rule` says which share of an epoch each value of a column gets. `Mixture` gives a value l p_l ~ (h_l / sum h)^alpha, h its size, as
IndicWav2Vec samples its languages (Javed et al. 2021, arXiv:2111.03945). `Fixed` gives the shares it is told, drawn anew each epoch or once (the
"rate-fixed-data-dynamic" and "-fixed" of Guo et al. 2024, arXiv:2406.14833), and so also replay. A rule may look at the losses so far,
as Skill-it's does (Chen et al. 2023, arXiv:2307.14430). `Epochs` draws the rows. Sizes are what the caller counts: seconds, tokens, characters.

`Matched` keeps as many hours of each of some values, as a study of what one factor does has to (Boito et al. 2022, arXiv:2204.01397).
Rows without a value (None, NaN, empty) are a class of their own: a mixture draws them as such, and `Matched` never takes them for a named value.
Sizes are of what an epoch hears: rows longer than a run's `max_seconds` count as that.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

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
class Mix:
    """What a rule may look at."""

    values: tuple[str | None, ...]  # (C,) of the column, in order; None: rows without one
    sizes: "np.ndarray"  # (C,) of all rows of each, above 0
    step: int = 0  # updates, or whatever the caller counts
    losses: "np.ndarray | None" = None  # (C,) of each value, as they were last measured; None: not yet


class Rule(Protocol):
    """How often the values of a column are heard. A frozen dataclass; `weights` is a pure function."""

    @property
    def column(self) -> str: ...

    @property
    def exact(self) -> bool: ...  # true: sizes are drawn; false: numbers of rows, independently

    @property
    def redraw(self) -> bool: ...  # other rows in each epoch

    def weights(self, mix: Mix) -> "np.ndarray": ...  # (C,) shares of an epoch, 0 or above; they sum to 1


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Temperature. alpha = 1: as the corpus has them; 0: all alike."""

    column: str = "language"
    alpha: float = 0.7

    exact: ClassVar[bool] = False
    redraw: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise OvertureError(
                f"mix.alpha={self.alpha:g}: between 0 (all values alike) and 1 (as the corpus has them)"
            )

    def weights(self, mix: Mix) -> "np.ndarray":
        """(C,) p, the share of an epoch of each value."""
        weight = (mix.sizes / mix.sizes.sum()) ** self.alpha
        return weight / weight.sum()  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """The shares of some values; the others divide what is left as the corpus has them, and nothing is left where the shares sum to 1.

    Replay: `Fixed(column="corpus", shares=(("old", 0.1),))` hears a tenth of what was there before beside the new.
    """

    column: str = "source"
    shares: tuple[tuple[str, float], ...] = ()  # value and share
    redraw: bool = True  # other rows in each epoch; false: those of the first one in all

    exact: ClassVar[bool] = True

    def __post_init__(self) -> None:
        names = [value for value, _ in self.shares]
        total = sum(share for _, share in self.shares)
        if len(set(names)) < len(names) or any(share < 0 for _, share in self.shares):
            raise OvertureError(f"mix.shares={list(self.shares)}: each value once, with a share of 0 or above")
        if total > 1 + EQUAL:
            raise OvertureError(f"mix.shares sum to {total:g}, which is more than 1")

    def weights(self, mix: Mix) -> "np.ndarray":
        """(C,) the share of an epoch of each value.

        Raises OvertureError for a value that no row has, and for shares that leave something for nobody.
        """
        import numpy as np

        named = dict(self.shares)
        if lacking := [value for value in named if value not in mix.values]:
            known = [v for v in mix.values if v is not None]
            raise OvertureError(f"mix.shares: no row has {self.column}={lacking[0]!r}. {near(lacking[0], known)}")
        left = max(0.0, 1 - sum(named.values()))
        others = np.array([value not in named for value in mix.values])
        if left > EQUAL and not others.any():
            raise OvertureError(
                f"mix.shares sum to {1 - left:g}, and no other {self.column} is there for the rest: they must sum to 1"
            )
        rest = np.where(others, mix.sizes, 0.0)
        given = np.array([named.get(value, 0.0) if value is not None else 0.0 for value in mix.values])
        return np.asarray(given / given.sum() if left <= EQUAL else given + left * rest / rest.sum())


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
    """The rows of each epoch of a mixture: a function of (table, seed, epoch), and of the weights where a rule changes them.

    An epoch is as long as the table. Of class l, of size h_l, it takes r_l = p_l sum(h) / h_l times what is there. Where the rule is not `exact`
    these are r_l n_l of its n_l rows, to the nearest whole number and one at least: with replacement where r_l >= 1, else without. Where it is,
    they are floor(r_l) times all rows and some others, as many as come nearest to p_l sum(h): no further from it than half a row.
    """

    def __init__(self, rule: Rule, table: "Table", sizes: "np.ndarray", seed: int) -> None:
        """`sizes`: (N,) of each row of `table`. Raises OvertureError when it lacks the column, or a class of it has no size."""
        import numpy as np

        self.values, codes = classes(table, rule.column)
        self.rule, self.seed, self.of = rule, seed, sizes
        self.rows = [np.flatnonzero(codes == c) for c in range(len(self.values))]
        self.sizes = np.array([sizes[rows].sum() for rows in self.rows])  # (C,)
        if not (self.sizes > 0).all():
            nothing = self.values[int(np.argmin(self.sizes))]
            raise OvertureError(
                f"data.mix: the rows with {rule.column}={nothing!r} have no length: leave them out with --where"
            )
        self.shares = self.weights()  # (C,)
        self.ratios = self.shares * self.sizes.sum() / self.sizes  # (C,)
        self.counts = np.array([len(rows) for rows in self._drawn(0, self.ratios)])  # (C,) rows of epoch 0

    def weights(self, step: int = 0, losses: Mapping[str | None, float] | None = None) -> "np.ndarray":
        """(C,) what the rule gives at `step`, of these losses by value.

        Raises OvertureError when the losses are not of all values, and when the rule gives no shares.
        """
        import numpy as np

        if losses is not None and set(losses) != set(self.values):
            raise OvertureError(
                f"losses of {sorted(map(str, losses))}, but the values of {self.rule.column} are {sorted(map(str, self.values))}"
            )
        measured = None if losses is None else np.array([losses[value] for value in self.values])
        found = np.asarray(
            self.rule.weights(Mix(values=tuple(self.values), sizes=self.sizes, step=step, losses=measured))
        )
        if (
            found.shape != self.sizes.shape
            or not np.isfinite(found).all()
            or (found < 0).any()
            or abs(found.sum() - 1) > 1e-6
        ):
            raise OvertureError(
                f"{type(self.rule).__name__} gave {found.tolist()} at step {step}: expected {len(self.sizes)} shares that sum to 1"
            )
        return found

    def __call__(self, epoch: int, shares: "np.ndarray | None" = None) -> "np.ndarray":
        """(M,) row numbers, some of them more than once. `shares`: (C,) of this epoch, where they are no longer those of the start."""
        import numpy as np

        return np.concatenate(
            self._drawn(epoch, self.ratios if shares is None else shares * self.sizes.sum() / self.sizes)
        )

    def _drawn(self, epoch: int, ratios: "np.ndarray") -> "list[np.ndarray]":
        from overture.data.draws import Draws

        draws = Draws(self.seed, epoch if self.rule.redraw else 0)
        draw = self._filled if self.rule.exact else _counted
        return [
            draw(rows, float(ratio), draws.example(number, MIX))
            for number, (rows, ratio) in enumerate(zip(self.rows, ratios))
        ]

    def _filled(self, rows: "np.ndarray", ratio: float, rng: "np.random.Generator") -> "np.ndarray":
        import numpy as np

        whole = int(ratio + EQUAL)
        order = rng.permutation(rows)
        ends = np.append(0.0, np.cumsum(self.of[order]))
        some = int(np.abs(ends - (ratio - whole) * ends[-1]).argmin())
        return np.concatenate([np.tile(rows, whole), order[:some]])


def _counted(rows: "np.ndarray", ratio: float, rng: "np.random.Generator") -> "np.ndarray":
    count = max(1, int(ratio * len(rows) + 0.5 + EQUAL))
    return rng.choice(rows, count, replace=bool(ratio >= 1 - EQUAL))


def sizes(table: "Table", longest: float = float("inf")) -> "np.ndarray":
    """(N,) of each row: s of speech, rows above `longest` counting as that; characters of text."""
    import numpy as np
    import pyarrow.compute as pc

    if table.is_text:
        return np.asarray(pc.fill_null(pc.utf8_length(table.columns.column("text")), 0).to_numpy())
    return np.asarray(np.minimum(table.numpy("duration"), longest))


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
    if data.phones:
        whole = whole.take(data.phones.rows(whole))
    fastest = data.augment.fastest if data.augment else 1.0
    table = whole.take(np.flatnonzero(whole.numpy("duration") / fastest >= data.min_seconds))
    if len(table) == 0:
        raise OvertureError(
            f"no row of corpus {data.corpus!r} is left to train on: --where {data.where!r} and data.min_seconds="
            f"{data.min_seconds:g} leave none of {len(Table.open(data.corpus))}"
        )
    too_short = len(whole) - len(table)
    if data.select:
        table = table.take(data.select.rows(table, data.max_seconds))
    return (table.take(data.matched.rows(table, data.max_seconds)) if data.matched else table), too_short


def composition(data: "Data", table: "Table") -> list[dict[str, Any]]:
    """What each value of the columns that `data` is matched and mixed by comes to in `table`, its `rows_of`.

    In order: `column`, `value` (None: unknown), `rows`, `hours`, `speakers` (None where the corpus names none); where it is mixed also
    `share` of an epoch, `ratio` to what is there, `drawn` rows an epoch. Empty where `data` is neither matched nor mixed.
    """
    import numpy as np

    seconds = sizes(table, data.max_seconds)
    voices = table.numpy("speaker") if "speaker" in table.columns.column_names else None
    parts: list[Matched | Mixture | Fixed] = [data.mix] if data.mix else []
    if data.matched and (data.mix is None or data.mix.column != data.matched.column):
        parts.insert(0, data.matched)
    found: list[dict[str, Any]] = []
    for part in parts:
        values, codes = classes(table, part.column)
        mixed = None if isinstance(part, Matched) else Epochs(part, table, seconds, 0)
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
