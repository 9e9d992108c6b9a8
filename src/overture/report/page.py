"""What both kinds of page share: the templates, reading run folders, writing the file."""

import math
import os
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from overture import __version__, jsonfile
from overture.report import words
from overture.train.track import read_metrics

if TYPE_CHECKING:
    from jinja2 import Environment


class RunLog:
    """A run folder as reports see it: `run.json` and `metrics.jsonl`."""

    def __init__(self, folder: Path) -> None:
        """Raises OvertureError if the folder holds no readable run."""
        self.folder, self.name = folder, folder.resolve().name
        self.about: dict[str, Any] = jsonfile.read_object(
            folder / "run.json", "It is written when a run starts: is this a run folder?"
        )
        records = read_metrics(folder)
        self.updates = [r for r in records if r.get("kind") == "update"]
        self.events = [r for r in records if r.get("kind") == "health"]
        self.checkpoints = [r for r in records if r.get("kind") == "checkpoint"]

    @property
    def last(self) -> dict[str, Any]:
        """The newest update's record; empty if there was none."""
        return self.updates[-1] if self.updates else {}

    @property
    def stopped_by(self) -> dict[str, Any] | None:
        """The health event that ended the run, if one did and the run did not go on after it."""
        event = next((e for e in reversed(self.events) if e.get("stopped")), None)
        return event if event and event["update"] >= self.last.get("update", 0) else None

    def column(self, name: str, *, watched: bool = False) -> np.ndarray:
        """(N,) float64: one number of every update, or a watched one; NaN where it is missing."""
        rows = [r.get("watch") or {} for r in self.updates] if watched else self.updates
        return np.array([row.get(name) if words.finite(row.get(name)) else math.nan for row in rows], dtype=np.float64)

    @property
    def watched(self) -> list[str]:
        """Names of the watched numbers, in the order they first came."""
        return list(dict.fromkeys(key for r in self.updates for key in r.get("watch") or {}))


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("number", "scaled", "duration", "hours", "p_value", "fixed", "listed", "counted"):
        env.filters[name] = getattr(words, name)
    env.filters["plain"] = _plain
    env.globals["version"] = __version__
    return env


def write_page(template: str, out: Path, values: Mapping[str, Any]) -> Path:
    """Renders a template into `out`, which is replaced only when all is written."""
    html = _environment().get_template(template).render(**values)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf8", dir=out.parent, suffix=".part", delete=False) as file:
        file.write(html)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(out)
    return out


def _plain(value: Any) -> str:
    """A config or data value as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_plain(v)}" for k, v in value.items()) or "none"
    return str(value)
