"""The geometry of the charts: ticks, curves, smoothing. The templates draw it as SVG lines under HTML labels.

A curve lives in a box of 1000 x 1000 that the page stretches to any width while line widths and letters keep their size, so the same chart is
legible on paper, on a wide screen and on a telephone; colours come from the page's style, so it follows the dark mode.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from overture.report.words import decimals_for, fixed, number, ten_to

BOX = 1000.0
POINTS = 360  # drawn along a curve; more cannot be seen
Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line: numbers `y` (N,) over `x` (N,), ascending. What is not finite is a gap."""

    x: Array
    y: Array
    name: str = ""
    colour: int = 0  # index into the palette of the page
    smooth: bool = False  # draw it faint, its moving average over it
    low: Array | None = None  # (N,) and `high`: an interval, drawn as a band
    high: Array | None = None


@dataclass(frozen=True)
class Tick:
    at: float  # percent of the axis
    label: str


@dataclass(frozen=True)
class Path:
    d: str
    colour: int
    kind: str  # "line", "faint", "area"


@dataclass(frozen=True)
class Chart:
    """What the template draws."""

    title: str
    unit: str
    x_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    paths: tuple[Path, ...]
    band: str  # path of the reference band, or nothing
    marks: tuple[Tick, ...]  # places on the x axis worth a vertical line
    legend: tuple[tuple[str, int], ...]
    value: str  # the last value, for the heading
    summary: str  # what a screen reader says
    numbers: tuple[
        tuple[str, ...], ...
    ]  # a few points as text: the header row, then x and each curve's (smoothed) value


def line_chart(
    curves: Sequence[Curve],
    *,
    title: str,
    unit: str = "",
    x_label: str = "updates",
    zero: bool = False,
    band: tuple[Array, Array, Array] | None = None,
    marks: Sequence[tuple[float, str]] = (),
    x_ticks: Sequence[tuple[float, str]] = (),
    value: bool = True,
) -> Chart | None:
    """A chart of `curves`; None if none has a finite point.

    `zero`: the axis reaches down to 0. `band`: a reference range as x, low, high. `marks`: places on the x axis with a word.
    `x_ticks`: labels of the x axis, where round numbers will not do.
    Values over more than two decades, all positive, get a logarithmic axis.
    """
    curves = [c for c in curves if np.isfinite(c.y).any()]
    if not curves:
        return None
    shown = [smoothed(c.y) if c.smooth else c.y for c in curves]
    x_all = np.concatenate([c.x for c in curves])
    edges = [e for c in curves for e in (c.low, c.high) if e is not None]
    y_all = np.concatenate([c.y for c in curves] + edges + ([band[1], band[2]] if band else []))
    y_all = y_all[np.isfinite(y_all)]
    log = not zero and y_all.min() > 0 and y_all.max() / y_all.min() > 100
    x_low, x_high = float(x_all.min()), float(x_all.max())
    if 0 < x_low < x_high / 10:
        x_low = 0.0
    if x_low == x_high:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    scale = np.log10 if log else np.asarray
    y_low, y_high = _range(scale(y_all), zero)
    across = _to_box(x_low, x_high)
    down = _to_box(y_high, y_low)

    paths = []
    for curve in curves:
        if curve.low is not None and curve.high is not None:
            area = _area(across(curve.x), down(scale(curve.low)), down(scale(curve.high)))
            paths.append(Path(area, curve.colour, "area"))
        if curve.smooth:
            paths.append(
                Path(
                    _path(*_thin(across(curve.x), down(scale(_positive(curve.y, log))), extremes=True)),
                    curve.colour,
                    "faint",
                )
            )
    for curve, line in zip(curves, shown, strict=True):
        paths.append(Path(_path(*_thin(across(curve.x), down(scale(_positive(line, log))))), curve.colour, "line"))

    y_ticks, factor = _y_ticks(y_low, y_high, log)
    labelled = x_ticks or [(t, number(int(t) if t == int(t) else t)) for t in nice(x_low, x_high, 5)]
    places = tuple(Tick(round(float(across(np.array(t))) / 10, 2), label) for t, label in labelled)
    named = [c for c in curves if c.name]
    legend = tuple(dict.fromkeys((c.name, c.colour) for c in named))
    last = float(shown[0][np.isfinite(shown[0])][-1])
    first = float(shown[0][np.isfinite(shown[0])][0])
    spoken = (
        f"{title}: from {number(first)} to {number(last)}" if len(curves) == 1 else f"{title} of {len(curves)} curves"
    )
    return Chart(
        title=title,
        unit=", ".join(word for word in (unit, factor, "logarithmic" if log else "") if word),
        x_label=x_label,
        x_ticks=places,
        y_ticks=y_ticks,
        paths=tuple(paths),
        band=_area(across(band[0]), down(scale(band[1])), down(scale(band[2]))) if band else "",
        marks=tuple(Tick(round(float(across(np.array(x))) / 10, 2), word) for x, word in marks),
        legend=legend,
        value=number(last) if value and len(curves) == 1 else "",
        summary=f"{spoken}, over {x_ticks[0][1] if x_ticks else number(x_low)} to {x_ticks[-1][1] if x_ticks else number(x_high)} {x_label}.",
        numbers=_numbers(curves, shown, x_label, x_ticks),
    )


def smoothed(y: Array) -> Array:
    """(N,) -> (N,): moving average with a kernel that decays to both sides over a fortieth of the curve, so it does not lag; gaps stay gaps."""
    finite = np.isfinite(y)
    keep = 1 - 1 / max(1.0, len(y) / 40)
    totals, weights = _decaying_sum(np.where(finite, y, 0.0), keep), _decaying_sum(finite.astype(float), keep)
    out = np.full(len(y), np.nan)
    out[finite] = totals[finite] / weights[finite]
    return out


def _decaying_sum(y: Array, keep: float) -> Array:
    """(N,) -> (N,): the sum of all values, each weighted by `keep` to the power of its distance."""
    from scipy.signal import lfilter

    forth, back = (lfilter([1.0], [1.0, -keep], v) for v in (y, y[::-1])) if len(y) else (y, y)
    return np.asarray(forth + back[::-1] - y)


def _positive(y: Array, log: bool) -> Array:
    return np.where(np.isfinite(y) & ((y > 0) | (not log)), y, np.nan)


def _range(y: Array, zero: bool) -> tuple[float, float]:
    low, high = float(y.min()), float(y.max())
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    room = (high - low) * 0.05 or abs(high) * 0.1 or 0.5
    return (low if zero and low == 0 else low - room), high + room


def _to_box(low: float, high: float) -> Callable[[Array], Array]:
    return lambda v: (v - low) / (high - low) * BOX


def nice(low: float, high: float, most: int) -> list[float]:
    """Round numbers in [low, high], at most `most`."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _y_ticks(low: float, high: float, log: bool) -> tuple[tuple[Tick, ...], str]:
    """Ticks and what all labels are multiplied by ("× 10⁻⁴"), so that labels stay short."""
    down = _to_box(high, low)
    if log:
        found = [
            (p, m)
            for p in range(math.floor(low), math.ceil(high) + 1)
            for m in (1, 2, 5)
            if low <= p + math.log10(m) <= high
        ]
        if len(found) > 7:
            powers = [p for p, m in found if m == 1]
            found = [(p, 1) for p in powers[:: -(-len(powers) // 6)]]
        tens = all(m == 1 for _, m in found) and any(not -3 <= p < 5 for p, _ in found)
        labels = [ten_to(p) if tens else number(m * 10.0**p) for p, m in found]
        places = [round(float(down(np.array(p + math.log10(m)))) / 10, 2) for p, m in found]
        return tuple(Tick(at, label) for at, label in zip(places, labels, strict=True)), ""
    ticks = nice(low, high, 5)
    largest = max(abs(t) for t in ticks) if ticks else 0.0
    power = math.floor(math.log10(largest)) if largest else 0
    power = 0 if -2 <= power < 4 else power // 3 * 3 if power > 0 else power
    factor = {0: "", 3: "thousands", 6: "millions"}.get(power, f"× {ten_to(power)}")
    gap = (ticks[1] - ticks[0]) / 10.0**power if len(ticks) > 1 else 1.0
    decimals = next(d for d in range(7) if d == 6 or abs(round(gap, d) - gap) < gap * 1e-6)
    return tuple(Tick(round(float(down(np.array(t))) / 10, 2), fixed(t / 10.0**power, decimals)) for t in ticks), factor


def _thin(x: Array, y: Array, *, extremes: bool = False) -> tuple[Array, Array]:
    """At most about POINTS of a curve: evenly, or the lowest and the highest of each stretch so that no spike is lost."""
    if len(x) <= POINTS:
        return x, y
    if not extremes:
        keep = np.unique(
            np.concatenate(
                [np.linspace(0, len(x) - 1, POINTS).round().astype(int), np.flatnonzero(~np.isfinite(y))[:POINTS]]
            )
        )
        return x[keep], y[keep]
    picked: list[int] = []
    for part in np.array_split(np.arange(len(x)), POINTS // 2):
        values = y[part]
        if not np.isfinite(values).all():
            picked.append(int(part[~np.isfinite(values)][0]))
        if np.isfinite(values).any():
            picked += [int(part[np.nanargmin(values)]), int(part[np.nanargmax(values)])]
    keep = np.unique(picked)
    return x[keep], y[keep]


def _path(x: Array, y: Array) -> str:
    """SVG path data; a gap at each y that is not finite, a dot where a point has no neighbour."""
    finite = np.isfinite(y)
    words = []
    for i in np.flatnonzero(finite):
        alone = (i == 0 or not finite[i - 1]) and (i + 1 == len(y) or not finite[i + 1])
        start = i == 0 or not finite[i - 1]
        words.append(f"{'M' if start else 'L'}{x[i]:.1f} {y[i]:.1f}" + ("h0" if alone else ""))
    return "".join(words)


def _area(x: Array, low: Array, high: Array) -> str:
    there = np.concatenate([x, x[::-1]])
    edge = np.concatenate([low, high[::-1]])
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(there, edge, strict=True)) + "Z"


def _numbers(
    curves: Sequence[Curve], shown: Sequence[Array], x_label: str, labelled: Sequence[tuple[float, str]]
) -> tuple[tuple[str, ...], ...]:
    """About ten points of each curve as text, or those at the places that are `labelled`."""
    longest = max(curves, key=lambda c: float(c.x[-1]))
    places = longest.x[np.unique(np.linspace(0, len(longest.x) - 1, 11).round().astype(int))]
    labelled = labelled or [(float(x), number(int(x) if x == int(x) else float(x))) for x in places]
    spread = float(np.ptp(np.concatenate([s[np.isfinite(s)] for s in shown])))
    decimals = decimals_for(spread / 200)
    rows = [(x_label, *((c.name or "value") for c in curves))]
    for place, label in labelled:
        cells = []
        for curve, line in zip(curves, shown, strict=True):
            at = int(np.searchsorted(curve.x, place, side="right")) - 1
            ended = at < 0 or place > curve.x[-1]
            cells.append(fixed(None if ended else float(line[at]), decimals))
        rows.append((label, *cells))
    return tuple(rows)
