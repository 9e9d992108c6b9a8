"""The page of one run: what it is, how it learned, whether it was healthy, what it cost, what it was made of."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from overture.errors import OvertureError
from overture.report.charts import Chart, Curve, line_chart, smoothed
from overture.report.page import RunLog, write_page
from overture.report.sounds import players
from overture.report.words import counted, decimals_for, duration, finite, fixed, flat, heard, hours, number, scaled


def write_run_report(
    run_folder: Path,
    out: Path | None = None,
    *,
    defaults: Mapping[str, Any] | None = None,
    reference: Mapping[str, Sequence[float]] | None = None,
) -> Path:
    """Writes one self-contained HTML page about a run and returns its path, by default `report.html` in the run folder.

    `defaults`: the config of the recipe at this size, nested as in run.json, to show what was changed. `reference`: the loss of earlier runs of
    the recipe as {"update": [...], "low": [...], "high": [...]}. What `overture.report.sounds` finds in the run folder can be listened to.
    Probes are read from `probes/*.json` in the run folder: objects or lists of objects with "task", "metric", "value" and, where known, "ci95",
    "n", "update", "control" (the value of the control).

    Raises OvertureError if the folder holds no readable run, or a sample is no sound file.
    """
    run = RunLog(run_folder)
    config, standard = flat(run.about.get("config", {})), flat(dict(defaults)) if defaults is not None else None
    changed = (
        []
        if standard is None
        else [(k, v, standard.get(k, "not there")) for k, v in config.items() if k not in standard or v != standard[k]]
    )
    values = {
        "run": run,
        "about": run.about,
        "state": _state(run),
        "summary": _summary(run),
        "tiles": _tiles(run),
        "loss": _loss_chart(run, reference),
        "charts": _charts(run),
        "health": _health(run),
        "watch": sorted((_watch_chart(run, name) for name in run.watched), key=lambda c: isinstance(c, str)),
        "probes": _probes(run),
        "players": players({run.name: run.folder}),
        "config": config,
        "changed": changed,
        "compared": standard is not None,
        "data": described(run.about.get("data", {})),
        "facts": _facts(run),
        "command": _command(run, changed),
    }
    return write_page("run.html.j2", out or run.folder / "report.html", values)


def _state(run: RunLog) -> tuple[str, str]:
    """(tone, words): finished, on its way, or stopped and why."""
    done, planned = run.last.get("update", 0), run.last.get("updates")
    if run.stopped_by:
        return "bad", f"Stopped at update {number(run.stopped_by['update'])}: {run.stopped_by['rule']}"
    if not run.updates:
        return "open", "No update yet"
    if planned and done < planned:
        return "open", f"At update {number(done)} of {number(planned)}"
    return "good", "Finished"


def _summary(run: RunLog) -> str:
    if not run.updates:
        return "The run has logged no update yet, so there is nothing to draw."
    words = [f"{duration(run.last.get('seconds')).capitalize()} on {run.about.get('device', 'an unnamed device')}"]
    words[0] += f", {heard(run.last)}."
    loss = run.column("loss")
    smooth = smoothed(loss)[np.isfinite(loss)]
    if len(smooth) > 1:
        first, last = float(loss[np.isfinite(loss)][0]), float(smooth[-1])
        way = "fell" if last < first else "rose" if last > first else "stayed"
        words.append(f"The loss {way} from {number(first)} to {number(last)}.")
    broken = len(run.updates) - len(smooth)
    if broken:
        words.append(f"It was not finite in {counted(broken, 'logged update')}.")
    if run.stopped_by:
        return " ".join([*words, _sentence(run.stopped_by["message"])])
    rules = sorted({str(e["rule"]) for e in run.events})
    words.append(f"Health rules fired: {', '.join(rules)}." if rules else "No health rule fired.")
    return " ".join(words)


def _sentence(text: Any) -> str:
    words = str(text).strip()
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")


def _tiles(run: RunLog) -> list[tuple[str, str, str]]:
    """(label, value, small print)."""
    last, loss = run.last, run.column("loss")
    start = loss[np.isfinite(loss)][:1]
    loss = smoothed(loss)[np.isfinite(loss)]
    speed = run.column("targets_per_s")
    typical = float(np.median(speed[np.isfinite(speed)])) if np.isfinite(speed).any() else None
    planned, epoch, done = last.get("updates"), last.get("epoch"), last.get("update", 0)
    seconds = last.get("seconds")
    tiles = [
        (
            "Loss",
            number(float(loss[-1])) if len(loss) else "–",
            f"from {number(float(start[0]))}" if len(start) else "",
        ),
        ("Updates", number(done), f"of {number(planned)}" if planned else ""),
        ("Time", duration(seconds), f"{duration(seconds / done)} an update" if finite(seconds) and done else ""),
        (*_seen(last), f"in epoch {epoch}" if epoch is not None else ""),
        ("Speed", scaled(typical), "targets a second" if typical else ""),
        ("Parameters", scaled(run.about.get("parameters")), str(run.about.get("size", ""))),
    ]
    return [(label, value, note) for label, value, note in tiles if value != "–"]


def _seen(last: Mapping[str, Any]) -> tuple[str, str]:
    if last.get("tokens"):
        return "Tokens read", scaled(last["tokens"])
    return "Audio heard", hours(last.get("audio_hours"))


def _loss_chart(run: RunLog, reference: Mapping[str, Sequence[float]] | None) -> Chart | None:
    if reference is not None:
        lacking = [key for key in ("update", "low", "high") if key not in reference]
        if (
            lacking
            or len({len(reference[key]) for key in ("update", "low", "high")}) != 1
            or not len(reference["update"])
        ):
            raise OvertureError("a reference curve needs the lists update, low and high, of one length and not empty")
    x, y = run.column("update"), run.column("loss")
    if reference is not None and len(x):
        near = [i for i, update in enumerate(reference["update"]) if x[0] <= update <= x[-1]]
        range_ = [np.array([reference[key][i] for i in near], dtype=np.float64) for key in ("update", "low", "high")]
        band = (range_[0], range_[1], range_[2]) if len(near) > 1 else None
    else:
        band = None
    marks = {str(e["rule"]): float(e["update"]) for e in reversed(run.events)}  # where each rule fired first
    if not np.isfinite(y).all():
        marks.setdefault("not finite", float(x[~np.isfinite(y)][0]))
    smooth = len(y) >= 20
    return line_chart(
        [Curve(x=x, y=y, smooth=smooth)],
        title="Loss",
        unit="per target",
        band=band,
        marks=[(at, rule) for rule, at in marks.items()],
    )


def _charts(run: RunLog) -> list[Chart]:
    x = run.column("update")
    smooth = len(x) >= 20
    drawn = [
        line_chart([Curve(x=x, y=run.column("lr"))], title="Learning rate", zero=True),
        line_chart(
            [Curve(x=x, y=run.column("grad_norm"), smooth=smooth)], title="Gradient norm", unit="before clipping"
        ),
        line_chart(
            [Curve(x=x, y=run.column("targets_per_s"), smooth=smooth)],
            title="Throughput",
            unit="targets/s",
            zero=True,
        ),
        line_chart(
            [Curve(x=x, y=run.column("padding") * 100, smooth=smooth)], title="Padding", unit="% of audio", zero=True
        ),
    ]
    others = [
        name for name in dict.fromkeys(key for r in run.updates for key in r) if "/" in name
    ]  # of a second player: "critic/loss"
    drawn += [
        line_chart([Curve(x=x, y=run.column(n), smooth=smooth)], title=n.replace("/", " ").replace("_", " "))
        for n in others
    ]
    return [chart for chart in drawn if chart is not None]


def _watch_chart(run: RunLog, name: str) -> Chart | str:
    """A watched number's chart; a few words where there is no curve to draw."""
    y, title = run.column(name, watched=True), name.replace("_", " ")
    chart = line_chart([Curve(x=run.column("update"), y=y, smooth=len(y) >= 20)], title=title)
    if chart is None:
        return f"{title}: never finite"
    if len(y) > 1 and np.isfinite(y).all() and (y == y[0]).all():
        return f"{title}: {number(float(y[0]))} throughout"
    return chart


def _health(run: RunLog) -> list[dict[str, Any]]:
    """Every rule: those that run.json lists under "rules" ({rule: {"watch", "limit", "fires": "below" | "above"}}) and those that fired."""
    rules: Mapping[str, Mapping[str, Any]] = run.about.get("rules", {})
    rows = []
    seen = {**(run.last.get("watch") or {}), **run.last}
    for rule in dict.fromkeys([*rules, *(str(e["rule"]) for e in run.events)]):
        events = [e for e in run.events if e["rule"] == rule]
        about = rules.get(rule, {})
        watch = about.get("watch")
        if watch not in seen and not events:
            continue  # this run has no such thing: a codebook, say
        last = seen.get(watch)
        limit = about.get("limit")
        rows.append(
            {
                "rule": rule,
                "tone": "bad" if any(e.get("stopped") for e in events) else "open" if events else "good",
                "word": "stopped the run"
                if any(e.get("stopped") for e in events)
                else "warned"
                if events
                else "healthy",
                "watch": str(watch).replace("_", " ") if watch else "",
                "last": number(last),
                "limit": f"fires {about.get('fires', 'beyond')} {number(limit)}" if finite(limit) else "",
                "events": events,
            }
        )
    return rows


def _probes(run: RunLog) -> list[dict[str, Any]]:
    rows = []
    for path in sorted((run.folder / "probes").glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf8"))
        except (OSError, ValueError) as error:
            raise OvertureError(f"{path} cannot be read ({error}). Delete it and probe again.") from error
        for item in content if isinstance(content, list) else [content]:
            low, high = item.get("ci95") or (None, None)
            digits = decimals_for((high - low) / 10) if finite(low) and finite(high) and high > low else 3
            rows.append(
                {
                    "task": item.get("task", path.stem),
                    "metric": item.get("metric", ""),
                    "update": number(item.get("update")),
                    "value": fixed(item.get("value"), digits),
                    "interval": f"{fixed(low, digits)} to {fixed(high, digits)}"
                    if finite(low) and finite(high)
                    else "–",
                    "control": fixed(item.get("control"), digits),
                    "n": number(item.get("n")),
                }
            )
    return rows


def described(data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The data's fields with their units: (name, text or lines by name). Of a list of objects each is a line, named by its first field."""
    shown: list[tuple[str, Any]] = []
    for key, value in data.items():
        name = key.replace("_", " ")
        if isinstance(value, dict):
            shown.append((name, {k.replace("_", " "): _quantity(k, v) for k, v in value.items() if v is not None}))
        elif isinstance(value, list) and value and all(isinstance(item, dict) and item for item in value):
            lines = {}
            for item in value:
                (_, head), *rest = item.items()
                lines[str(head)] = "; ".join(
                    f"{k.replace('_', ' ')} {_quantity(k, v)}" for k, v in rest if v is not None
                )
            shown.append((name, lines))
        elif value is not None:
            shown.append((name, _quantity(key, value)))
    return shown


def _quantity(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_quantity(k, item)}" for k, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_quantity(key, item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return hours(value) if key == "hours" else number(value)


def _facts(run: RunLog) -> list[tuple[str, str]]:
    """Cost and provenance."""
    about, last = run.about, run.last
    targets = run.column("targets")
    targets = targets[np.isfinite(targets)]
    facts = [
        ("Training time", duration(last.get("seconds"))),
        _seen(last),
        ("Targets an update", scaled(float(np.median(targets))) if len(targets) else "–"),
        ("Device", str(about.get("device", "–"))),
        ("Precision", str(about.get("precision", "–"))),
        ("Parameters", number(about.get("parameters"))),
        ("Checkpoints", number(len(run.checkpoints)) if run.checkpoints else "–"),
        ("Started", str(about.get("started", "–"))),
        ("Run fingerprint", str(about.get("fingerprint", "–"))),
        ("Versions", ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items()) or "–"),
    ]
    return [(name, text) for name, text in facts if text != "–"]


def _command(run: RunLog, changed: Sequence[tuple[str, Any, Any]]) -> str:
    """What to type to repeat the run."""
    if run.about.get("command"):
        return str(run.about["command"])
    recipe, size = run.about.get("recipe", "RECIPE"), run.about.get("size", "default")
    parts = ["overture", "run", str(recipe) + (f":{size}" if size != "default" else "")]
    if run.about.get("data", {}).get("corpus"):
        parts += ["--data", str(run.about["data"]["corpus"])]
    for key, value, _ in changed:
        if key == "data.corpus":  # --data says it
            continue
        parts += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(parts)
