"""How a run ended, kept in its folder as `outcome.json`: whoever asks again needs neither torch nor the features.

A run ends by having made its updates, or by a health rule that stopped it; a study does neither a second time.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from overture import jsonfile
from overture.config import to_dict
from overture.data.mixture import rows_of
from overture.run import Run
from overture.train.track import read_metrics

if TYPE_CHECKING:
    from overture.train.loop import Outcome


def keep(outcome: "Outcome") -> None:
    """Write what a finished run came to; written whole or not at all."""
    _write(outcome.folder, {k: v for k, v in to_dict(outcome).items() if k not in ("folder", "finished")})


def keep_stopped(folder: Path) -> None:
    """Write what a run came to that a health rule has stopped, as its metrics tell; time and audio are of its last logged update."""
    records = read_metrics(folder)
    stops = [r for r in records if r["kind"] == "health" and r["stopped"]]
    event = next(
        r for r in stops if r["update"] == stops[-1]["update"]
    )  # rules that fired together: the first is raised
    last = next((r for r in reversed(records) if r["kind"] == "update"), {"seconds": 0.0})
    stopped = {"update": event["update"], "cause": event["rule"], "message": event["message"]}
    _write(
        folder,
        {
            "updates": event["update"],
            "seconds": last["seconds"],
            "audio_hours": last.get("audio_hours", 0.0),
            "tokens": last.get("tokens", 0.0),
            "stopped": stopped,
        },
    )


def kept(folder: Path) -> dict[str, Any] | None:
    """What the run in `folder` came to (updates, seconds, audio_hours, flops); None where it has not ended, or its last checkpoint is gone."""
    found = _read(folder)
    if found is None or "stopped" in found:
        return None
    last = folder / "checkpoints" / f"update-{found['updates']:08d}" / "state.json"
    return found if last.exists() else None


def stopped(folder: Path) -> dict[str, Any] | None:
    """What the run in `folder` came to before a health rule stopped it (updates, seconds, audio_hours), and under `stopped` the update,
    the cause and the rule's message; None where none has."""
    found = _read(folder)
    return found if found is not None and "stopped" in found else None


def _write(folder: Path, ended: dict[str, Any]) -> None:
    jsonfile.write(folder / "outcome.json", ended)


def _read(folder: Path) -> dict[str, Any] | None:
    path = folder / "outcome.json"
    if not path.exists():
        return None
    return jsonfile.read_object(path)


def same_data(run: Run, folder: Path) -> bool:
    """Whether the corpus of `run` is still what the run in `folder` was trained on."""
    from overture.data.table import Table

    table = Table.open(run.data.corpus, run.data.where) if run.on_text else rows_of(run.data)[0]
    about = jsonfile.read_object(folder / "run.json")
    return bool(about["data"]["fingerprint"] == table.fingerprint)
