"""How a run ended, kept in its folder as `outcome.json`: whoever asks again needs neither torch nor the features."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from overture.config import to_dict
from overture.data.table import Table
from overture.run import Run

if TYPE_CHECKING:
    from overture.train.loop import Outcome


def keep(outcome: "Outcome") -> None:
    """Write what a finished run came to; written whole or not at all."""
    path = outcome.folder / "outcome.json"
    part = path.with_suffix(".part")
    kept = {k: v for k, v in to_dict(outcome).items() if k not in ("folder", "finished")}
    part.write_text(json.dumps(kept), encoding="utf8")
    part.replace(path)


def kept(folder: Path) -> dict[str, Any] | None:
    """What the run in `folder` came to (updates, seconds, audio_hours, flops); None where it has not ended, or its last checkpoint is gone."""
    path = folder / "outcome.json"
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
    last = folder / "checkpoints" / f"update-{found['updates']:08d}" / "state.json"
    return found if last.exists() else None


def same_data(run: Run, folder: Path) -> bool:
    """Whether the corpus of `run` is still what the run in `folder` was trained on."""
    whole = Table.open(run.data.corpus, run.data.where)
    table = whole.take(np.flatnonzero(whole.numpy("duration") >= run.data.min_seconds))
    about = json.loads((folder / "run.json").read_text(encoding="utf8"))
    return bool(about["data"]["fingerprint"] == table.fingerprint)
