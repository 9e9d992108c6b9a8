"""The page of a claim or a comparison: the verdict, every seed, the differences, the cost, the curves, and how to repeat it."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from overture.report.charts import Chart, Curve, line_chart, nice, smoothed
from overture.report.page import RunLog, write_page
from overture.report.run import described
from overture.report.sounds import players
from overture.report.verdict import Difference, Measured, also_measured, colours, controls, measured, need, verdict
from overture.report.way import ways
from overture.report.words import counted, decimals_for, duration, finite, fixed, listed, number, p_value, scaled, seen


def write_comparison_report(
    result: Mapping[str, Any],
    run_folders: Mapping[str, Sequence[Path]],
    out: Path,
    sounds: Mapping[str, Path] | None = None,
) -> Path:
    """Writes one self-contained HTML page about a claim's or a comparison's JSON and returns its path.

    `run_folders`: the runs of each arm, one a seed, for the curves; an arm without training (log-Mel, chance) has none.
    `sounds`: the folder of each arm that made recordings to listen to (`overture.report.sounds`).
    Raises OvertureError if a field is missing, a comparison names an unknown arm, or a folder holds no readable run.
    """
    main = measured(result)
    runs = {arm: [RunLog(folder) for folder in folders] for arm, folders in run_folders.items()}
    colour = colours(result)
    comparison = result.get("kind") == "comparison"
    data = result.get("data", {})
    values = {
        "result": result,
        "title": _title(result, main, comparison),
        "kicker": "Comparison" if comparison else "Claim",
        "lead": _lead(result, main, comparison),
        "verdict": verdict(result),
        "parts": [_dots(part, controls(result, part)) for part in (main, *also_measured(result))],
        "costs": _costs(result, runs, main),
        "learning": _learning((main, *also_measured(result))),
        "ways": ways(
            list(zip((result, *result.get("also", {}).values()), (main, *also_measured(result)), strict=True))
        ),
        "total": _total(result),
        "watched": _watched(result),
        "groups": _groups(result.get("groups", {}), main),
        "also_groups": [
            _groups(source.get("groups", {}), part)
            for source, part in zip(result.get("also", {}).values(), also_measured(result), strict=True)
        ],
        "players": players(sounds or {}),
        "overlay": _overlay(runs, colour, by_time=comparison),
        "panels": _panels(runs, colour),
        "runs": _run_rows(runs, colour),
        "data": described(data),
        "deviations": list(result.get("deviations", ())),
        "command": _command(result, runs, comparison),
        "repeat": [
            (name, str(value))
            for name, value in (("commit", result.get("commit")), ("data fingerprint", data.get("fingerprint")))
            if value
        ],
    }
    return write_page("comparison.html.j2", out, values)


def _title(result: Mapping[str, Any], main: Measured, comparison: bool) -> str:
    if not comparison:
        return str(need(result, "recipe"))
    names = list(colours(result))
    extra = set(controls(result, main))
    return ", ".join([n for n in names if n not in extra] or names)


def _lead(result: Mapping[str, Any], main: Measured, comparison: bool) -> str:
    """Under the title: the claim, or what was compared on what."""
    if not comparison:
        return str(need(result, "claim"))
    words = [counted(len(main.arms) + len(main.stopped), "arm")]
    if main.stopped:
        words.append(f"{len(main.stopped)} of them stopped by a health rule")
    if result.get("task"):
        words.append(f"task {result['task']}")
    if result.get("data", {}).get("corpus"):
        words.append(f"on {result['data']['corpus']}")
    if result.get("budget"):
        words.append(f"with a budget of {result['budget']} a run")
    return ", ".join(words) + "."


def _dots(part: Measured, control_names: Sequence[str]) -> dict[str, Any]:
    """One metric's dot-and-interval plot and its differences, as places in percent of the track."""
    values = [v for arm in part.arms for v in (*arm.seeds, arm.mean, arm.low, arm.high) if v is not None]
    digits = part.decimals
    arms: list[dict[str, Any]] = []
    ticks: list[tuple[float, str]] = []
    if values:
        place, ticks = _axis(values, False)
        for arm in part.arms:
            arms.append(
                {
                    "arm": arm,
                    "control": arm.name in control_names,
                    "text": fixed(arm.mean, digits),
                    "interval": "" if arm.low is None else f"{fixed(arm.low, digits)} to {fixed(arm.high, digits)}",
                    "mean": None if arm.mean is None else place(arm.mean),
                    "low": None if arm.low is None else place(arm.low),
                    "width": None
                    if arm.low is None or arm.high is None
                    else round(place(arm.high) - place(arm.low), 2),
                    "seeds": [(place(v), fixed(v, digits + 1)) for v in arm.seeds],
                }
            )
    return {
        "part": part,
        "arms": arms,
        "ticks": ticks,
        "seeded": any(len(a.seeds) > 1 for a in part.arms),
        "differences": _forest(part),
    }


def _learning(parts: Sequence[Measured]) -> list[Chart]:
    """Of each task that was tried with several amounts of labels, its metric over the minutes or rows of labels, an arm a curve."""
    charts = []
    for task in dict.fromkeys(p.of_task for p in parts):
        minutes, rows = (
            [(a, p) for p in parts if p.of_task == task and (a := getattr(p, f"label_{unit}"))]
            for unit in ("minutes", "rows")
        )
        asked = sorted(minutes or rows, key=lambda at: at[0])
        if len(asked) < 2:
            continue
        curves = []
        for arm in asked[0][1].arms:
            there = [(amount, part.arm(arm.name)) for amount, part in asked]
            values = np.array([[v if v is not None else np.nan for v in (a.mean, a.low, a.high)] for _, a in there])
            banded = bool(np.isfinite(values).all())
            curves.append(
                Curve(
                    x=np.log([amount for amount, _ in there]),  # what matters is how many times more
                    y=values[:, 0],
                    name=arm.name,
                    colour=arm.colour,
                    low=values[:, 1] if banded else None,
                    high=values[:, 2] if banded else None,
                )
            )
        first = asked[0][1]
        chart = line_chart(
            curves,
            title=first.metric[:1].upper() + first.metric[1:],
            unit=first.direction,
            x_label=f"{'minutes of labels' if minutes else 'labelled rows'}, {task}",
            x_ticks=[(float(np.log(amount)), number(amount)) for amount, _ in asked],
            zero=True,
            value=False,
        )
        charts += [chart] if chart is not None else []
    return charts


def _forest(part: Measured) -> dict[str, Any]:
    spread = [v for d in part.differences for v in (d.value, d.low, d.high) if v is not None]
    if not spread:
        return {"rows": [], "ticks": [], "zero": 0.0}
    place, ticks = _axis([*spread, 0.0], True)
    digits = part.decimals
    tone = {"real": "good", "the other way round": "bad"}

    def row(d: Difference) -> dict[str, Any]:
        return {
            "better": d.better,
            "worse": d.worse,
            "value": fixed(d.value, digits, sign=True),
            "interval": "–"
            if d.low is None
            else f"{fixed(d.low, digits, sign=True)} to {fixed(d.high, digits, sign=True)}",
            "p": p_value(d.p),
            "reading": d.reading,
            "tone": tone.get(d.reading, "open"),
            "at": None if d.value is None else place(d.value),
            "low": None if d.low is None else place(d.low),
            "width": None if d.low is None or d.high is None else round(place(d.high) - place(d.low), 2),
        }

    return {"rows": [row(d) for d in part.differences], "ticks": ticks, "zero": place(0.0)}


def _axis(values: Sequence[float], sign: bool) -> tuple[Any, list[tuple[float, str]]]:
    """A function from values to percent of a track that holds them all, and the track's ticks."""
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 0.5
    low, high = low - room, high + room
    ticks = nice(low, high, 5)
    decimals = decimals_for(ticks[1] - ticks[0]) if len(ticks) > 1 else 3

    def place(value: float) -> float:
        return round((value - low) / (high - low) * 100, 2)

    return place, [
        (place(t), fixed(t if abs(t) > 1e-12 else 0.0, decimals, sign=sign and abs(t) > 1e-12)) for t in ticks
    ]


def _costs(result: Mapping[str, Any], runs: Mapping[str, Sequence[RunLog]], main: Measured) -> dict[str, Any]:
    """What a run of each arm cost, averaged over its seeds; columns that no arm fills are left out."""
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("time", lambda c: duration(c.get("seconds"))),
        ("updates", lambda c: number(c.get("updates"))),
        ("heard or read", seen),
        ("parameters", lambda c: scaled(c.get("parameters"))),
        ("compute", lambda c: scaled(c.get("flops"), "FLOP")),
        ("weights moved (L2)", lambda c: number(c.get("moved"))),
    ]
    moved = {arm: {"moved": float(np.mean(seeds))} for arm, seeds in result.get("moved", {}).items()}
    given = {arm: {**cost, **moved.get(arm, {})} for arm, cost in result.get("cost_by_arm", {}).items()}
    rows = [(arm.name, [text(given[arm.name]) for _, text in columns]) for arm in main.arms if arm.name in given]
    keep = [i for i in range(len(columns)) if any(cells[i] != "–" for _, cells in rows)]
    return {
        "columns": [columns[i][0] for i in keep],
        "rows": [(name, [cells[i] for i in keep]) for name, cells in rows],
    }


def _watched(result: Mapping[str, Any]) -> dict[str, Any]:
    """What pre-training watched, at the end of each arm's runs, averaged over its seeds; rows and columns that nothing fills are left out."""
    given: Mapping[str, Sequence[Mapping[str, Any]]] = result.get("pretraining_watch", {})
    names = list(dict.fromkeys(name for seeds in given.values() for numbers in seeds for name in numbers))
    rows = []
    for arm, seeds in given.items():
        found = [[n[name] for n in seeds if finite(n.get(name))] for name in names]
        if any(found):
            rows.append((arm, [number(float(np.mean(values))) if values else "–" for values in found]))
    return {"columns": [name.replace("_", " ") for name in names], "rows": rows}


def _total(result: Mapping[str, Any]) -> str:
    cost = result.get("cost", {})
    if not cost:
        return ""
    updates = f" and {number(cost['updates'])} updates" if finite(cost.get("updates")) else ""
    return f"All arms and seeds together took {duration(cost.get('seconds'))}{updates} on {cost.get('device', 'an unnamed device')}."


def _groups(given: Mapping[str, Sequence[Mapping[str, Any]]], main: Measured) -> list[dict[str, Any]]:
    """Group-wise rows as one table a column: values down, arms across. A column with one value says nothing that the main table does not."""
    names = [arm.name for arm in main.arms if arm.name in given]
    digits = main.decimals
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for name in names:
        for row in given[name]:
            value = "not given" if row["value"] is None else str(row["value"])
            tables.setdefault(str(row["column"]), {}).setdefault(value, {})[name] = row
    out = []
    for column, values in tables.items():
        if len(values) < 2:
            continue
        rows = []
        for value, by_arm in values.items():
            cells = [_group_cell(by_arm.get(name), digits) for name in names]
            rows.append(
                (value, number(max((r["n"] for r in by_arm.values() if finite(r.get("n"))), default=None)), cells)
            )
        gaps = []
        for name in names:
            found = [
                by_arm[name]["metric"]
                for by_arm in values.values()
                if name in by_arm and finite(by_arm[name]["metric"])
            ]
            gaps.append(fixed(max(found) - min(found), digits) if len(found) > 1 else "–")
        out.append({"column": column, "arms": names, "rows": rows, "gaps": gaps})
    return out


def _group_cell(row: Mapping[str, Any] | None, digits: int) -> tuple[str, str]:
    if row is None:
        return "–", ""
    low, high = row.get("ci95") or (None, None)
    return fixed(row["metric"], digits), f"{fixed(low, digits)} to {fixed(high, digits)}" if finite(low) and finite(
        high
    ) else ""


def _overlay(runs: Mapping[str, Sequence[RunLog]], colours: Mapping[str, int], *, by_time: bool) -> Chart | None:
    """The loss of every run in one chart. Losses of different recipes are on different scales: then each is shown as a share of its start."""
    recipes = {log.about.get("recipe") for logs in runs.values() for log in logs}
    relative = len(recipes) > 1
    longest = max((float(log.last.get("seconds") or 0) for logs in runs.values() for log in logs), default=0.0)
    unit, seconds = ("hours", 3600.0) if longest > 7200 else ("minutes", 60.0) if longest > 120 else ("seconds", 1.0)
    curves = []
    for arm, logs in runs.items():
        for log in logs:
            loss = smoothed(log.column("loss"))
            start = loss[np.isfinite(loss)][:1]
            if not len(start) or (relative and start[0] == 0):
                continue
            x = log.column("seconds") / seconds if by_time else log.column("update")
            there = np.isfinite(x)
            curves.append(
                Curve(
                    x=x[there],
                    y=(loss / start[0] * 100 if relative else loss)[there],
                    name=arm,
                    colour=colours.get(arm, 0),
                )
            )
    title = "Loss, share of its start" if relative else "Loss"
    unit_y = "%" if relative else "per target"
    return line_chart(curves, title=title, unit=unit_y, x_label=unit if by_time else "updates", value=False)


def _panels(runs: Mapping[str, Sequence[RunLog]], colours: Mapping[str, int]) -> list[Chart]:
    """The loss of each arm in its own units, when the arms are different recipes."""
    if len({log.about.get("recipe") for logs in runs.values() for log in logs}) < 2:
        return []
    charts = []
    for arm, logs in runs.items():
        curves = [
            Curve(x=log.column("update"), y=smoothed(log.column("loss")), colour=colours.get(arm, 0))
            for log in logs
            if log.updates
        ]
        charts.append(line_chart(curves, title=arm, unit="loss per target", value=False))
    return [chart for chart in charts if chart is not None]


def _run_rows(runs: Mapping[str, Sequence[RunLog]], colours: Mapping[str, int]) -> list[dict[str, Any]]:
    rows = []
    for arm, logs in runs.items():
        for log in logs:
            loss = smoothed(log.column("loss"))
            loss = loss[np.isfinite(loss)]
            fired = list(dict.fromkeys(str(e["rule"]) for e in log.events))
            rows.append(
                {
                    "arm": arm,
                    "colour": colours.get(arm, 0),
                    "name": log.name,
                    "updates": number(log.last.get("update", 0)),
                    "time": duration(log.last.get("seconds")),
                    "audio": seen(log.last),
                    "loss": number(float(loss[-1])) if len(loss) else "–",
                    "tone": "bad" if log.stopped_by else "open" if fired else "good",
                    "health": f"stopped: {log.stopped_by['rule']}"
                    if log.stopped_by
                    else f"warned: {listed(fired)}"
                    if fired
                    else "healthy",
                }
            )
    return rows


def _labels(result: Mapping[str, Any]) -> str | None:
    """`0.5m,15m`, `50rows`: the amounts of labels of the task that decides, in the order they were tried in."""
    parts = [p for p in (result, *result.get("also", {}).values()) if p.get("of_task") == result.get("of_task")]
    amounts = [(p.get("label_minutes"), p.get("label_rows")) for p in parts]
    return ",".join(f"{m:g}m" if m else f"{rows}rows" for m, rows in amounts) if all(map(any, amounts)) else None


def _command(result: Mapping[str, Any], runs: Mapping[str, Sequence[RunLog]], comparison: bool) -> str:
    """What to type to repeat it."""
    if result.get("command"):
        return str(result["command"])
    if not comparison:
        return shlex.join(["overture", "check", str(result["recipe"])])
    trained = [arm for arm, logs in runs.items() if logs] or list(need(result, "arms"))
    parts = ["overture", "compare", *trained]
    for flag, value in (
        ("--data", result.get("data", {}).get("corpus")),
        ("--task", result.get("of_task", result.get("task"))),
        ("--labels", _labels(result)),
        ("--budget", result.get("budget")),
    ):
        parts += [flag, str(value)] if value else []
    return shlex.join(parts)
