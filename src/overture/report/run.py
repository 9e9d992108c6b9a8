"""The page of one run: what it is, how it learned, whether it was healthy, what it cost, what it was made of."""

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from overture.errors import OvertureError
from overture.report.charts import Chart, Curve, line_chart, smoothed
from overture.report.page import RunLog, write_page
from overture.report.words import counted, decimals_for, duration, finite, fixed, flat, hours, number, scaled

SOUNDS = {b"RIFF": "audio/wav", b"OggS": "audio/ogg", b"fLaC": "audio/flac"}


def write_run_report(
    run_folder: Path,
    out: Path | None = None,
    *,
    defaults: Mapping[str, Any] | None = None,
    reference: Mapping[str, Sequence[float]] | None = None,
    audio: Sequence[tuple[str, bytes]] = (),
) -> Path:
    """Writes one self-contained HTML page about a run and returns its path, by default `report.html` in the run folder.

    `defaults`: the config of the recipe at this size, nested as in run.json, to show what was changed. `reference`: the loss of earlier runs of
    the recipe as {"update": [...], "low": [...], "high": [...]}. `audio`: captions and the bytes of WAV, FLAC or Ogg files to listen to.
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
        "watch": [_watch_chart(run, name) for name in run.watched],
        "probes": _probes(run),
        "audio": [(caption, _data_uri(caption, content)) for caption, content in audio],
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
    heard = run.last.get("audio_hours")
    words = [f"{duration(run.last.get('seconds')).capitalize()} on {run.about.get('device', 'an unnamed device')}"]
    words[0] += f", {hours(heard)} of audio heard." if finite(heard) else "."
    loss = run.column("loss")
    smooth = smoothed(loss)[np.isfinite(loss)]
    if len(smooth) > 1:
        first, last = float(smooth[0]), float(smooth[-1])
        way = "fell" if last < first else "rose" if last > first else "stayed"
        words.append(f"The loss {way} from {number(first)} to {number(last)}.")
    broken = len(run.updates) - len(smooth)
    if broken:
        words.append(f"It was not finite in {counted(broken, 'logged update')}.")
    rules = sorted({str(e["rule"]) for e in run.events})
    words.append(f"Health rules fired: {', '.join(rules)}." if rules else "No health rule fired.")
    return " ".join(words)


def _tiles(run: RunLog) -> list[tuple[str, str, str]]:
    """(label, value, small print)."""
    last, loss = run.last, run.column("loss")
    loss = smoothed(loss)[np.isfinite(loss)]
    speed = run.column("targets_per_s")
    typical = float(np.median(speed[np.isfinite(speed)])) if np.isfinite(speed).any() else None
    planned, epoch, done = last.get("updates"), last.get("epoch"), last.get("update", 0)
    seconds = last.get("seconds")
    tiles = [
        ("Loss", number(float(loss[-1])) if len(loss) else "–", f"from {number(float(loss[0]))}" if len(loss) else ""),
        ("Updates", number(done), f"of {number(planned)}" if planned else ""),
        ("Time", duration(seconds), f"{duration(seconds / done)} an update" if finite(seconds) and done else ""),
        ("Audio heard", hours(last.get("audio_hours")), f"in epoch {epoch}" if epoch is not None else ""),
        ("Speed", scaled(typical), "targets a second" if typical else ""),
        ("Parameters", scaled(run.about.get("parameters")), str(run.about.get("size", ""))),
    ]
    return [(label, value, note) for label, value, note in tiles if value != "–"]


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
    marks = [(float(e["update"]), str(e["rule"])) for e in run.events]
    marks += [(float(u), "not finite") for u in x[~np.isfinite(y)][:5]] if len(y) else []
    smooth = len(y) >= 20
    return line_chart([Curve(x=x, y=y, smooth=smooth)], title="Loss", unit="per target", band=band, marks=marks)


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
            unit="targets a second",
            zero=True,
        ),
        line_chart(
            [Curve(x=x, y=run.column("padding") * 100, smooth=smooth)],
            title="Padding",
            unit="% of the batch",
            zero=True,
        ),
    ]
    return [chart for chart in drawn if chart is not None]


def _watch_chart(run: RunLog, name: str) -> Chart | str:
    """A watched number's chart, or its name if it never was finite."""
    y = run.column(f"watch.{name}")
    chart = line_chart([Curve(x=run.column("update"), y=y, smooth=len(y) >= 20)], title=name.replace("_", " "))
    return chart if chart is not None else name


def _health(run: RunLog) -> list[dict[str, Any]]:
    """Every rule: those that run.json lists under "rules" ({rule: {"watch", "limit", "fires": "below" | "above"}}) and those that fired."""
    rules: Mapping[str, Mapping[str, Any]] = run.about.get("rules", {})
    rows = []
    for rule in dict.fromkeys([*rules, *(str(e["rule"]) for e in run.events)]):
        events = [e for e in run.events if e["rule"] == rule]
        about = rules.get(rule, {})
        watch = about.get("watch")
        series = run.column(watch if watch in run.last else f"watch.{watch}") if watch else np.array([])
        series = series[np.isfinite(series)]
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
                "last": number(float(series[-1])) if len(series) else "–",
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
    """The data's fields with their units: (name, text or a mapping to be listed)."""
    shown = []
    for key, value in data.items():
        if value is None:
            continue
        if key == "hours":
            value = hours(value)
        elif finite(value):
            value = number(value)
        shown.append((key.replace("_", " "), value))
    return shown


def _facts(run: RunLog) -> list[tuple[str, str]]:
    """Cost and provenance."""
    about, last = run.about, run.last
    targets = run.column("targets")
    facts = [
        ("Training time", duration(last.get("seconds"))),
        ("Audio heard", hours(last.get("audio_hours"))),
        ("Targets in logged updates", scaled(float(np.nansum(targets))) if np.isfinite(targets).any() else "–"),
        ("Device", str(about.get("device", "–"))),
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
        parts += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(parts)


def _data_uri(caption: str, content: bytes) -> str:
    kind = SOUNDS.get(content[:4])
    if kind is None:
        raise OvertureError(f"the sample {caption!r} is no WAV, FLAC or Ogg file")
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
