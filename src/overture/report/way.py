"""What the arms knew on their way: the trajectories that `tasks.trajectory` records, as charts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from overture.report.charts import Chart, Curve, line_chart
from overture.report.verdict import Measured
from overture.report.words import number

APART = 0.1  # of the width, between labels
Points = Sequence[Mapping[str, Any]]


def ways(parts: Sequence[tuple[Mapping[str, Any], Measured]]) -> list[Chart]:
    """Of each task that followed its arms (its JSON, and what was measured), the development rows' metric over updates, an arm a line; and the
    same by each value of the trial's column.

    A line is the mean over seeds, its band reaches from the lowest to the highest. Updates are log-spaced; an arm that has gone no way is level.
    """
    charts = []
    for source, part in parts:
        found = {
            arm: [seed["trajectory"] for seed in seeds]
            for arm, seeds in source.get("probes", {}).items()
            if _followed(seeds)
        }
        updates = sorted({point["update"] for ways in found.values() for way in ways for point in way})
        if len(updates) < 2:
            continue
        groups = dict.fromkeys(g for ways in found.values() for way in ways for point in way for g in point["groups"])
        for group in [None, *sorted(groups)]:
            curves = [
                c for arm in part.arms if arm.name in found and (c := _curve(arm, found[arm.name], group, updates))
            ]
            chart = line_chart(
                curves,
                title=part.title + (f", {group}" if group is not None else ""),
                unit=part.direction,
                x_label="updates",
                x_ticks=_ticks(updates),
                value=False,
            )
            charts += [chart] if chart is not None else []
    return charts


def _followed(seeds: Sequence[Mapping[str, Any]]) -> bool:
    return bool(seeds) and all(seed.get("trajectory") for seed in seeds)


def _curve(arm: Any, seeds: Sequence[Points], group: str | None, updates: Sequence[int]) -> Curve | None:
    """One arm over the updates that all its seeds have."""
    ways = [{p["update"]: p["value"] if group is None else p["groups"].get(group) for p in way} for way in seeds]
    there = [u for u in ways[0] if all(way.get(u) is not None for way in ways)]
    if not there:
        return None
    values = np.array([[way[u] for u in there] for way in ways], dtype=float)  # (S, N)
    at = there
    if len(there) == 1:  # it has not moved
        at, values = [updates[0], updates[-1]], np.repeat(values, 2, axis=1)
    banded = len(seeds) > 1
    return Curve(
        x=place(at),
        y=values.mean(axis=0),
        name=arm.name,
        colour=arm.colour,
        low=values.min(axis=0) if banded else None,
        high=values.max(axis=0) if banded else None,
    )


def place(updates: Sequence[int]) -> np.ndarray:
    """(N,) -> (N,) along the axis: equal steps are so many times more, and update 0 has a place."""
    return np.asarray(np.log1p(np.asarray(updates, dtype=float)))


def _ticks(updates: Sequence[int]) -> list[tuple[float, str]]:
    """Labels at the updates that were looked at, the first and the last always, as far as there is room."""
    places = place(updates)
    room = APART * (places[-1] - places[0])
    kept = [0]
    for i in range(1, len(updates) - 1):
        if places[i] - places[kept[-1]] >= room and places[-1] - places[i] >= room:
            kept.append(i)
    return [(float(places[i]), number(updates[i])) for i in [*kept, len(updates) - 1]]
