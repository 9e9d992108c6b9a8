"""What the verbs take as a start: a run folder, a checkpoint folder of transformers, or the name of a recipe."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from overture.errors import OvertureError

if TYPE_CHECKING:
    from overture.run import Run


def is_checkpoint(path: Path) -> bool:
    return (path / "config.json").exists() and not (path / "run.json").exists()


def started(start: str, out: Path | None) -> tuple["Run", str | None, Path]:
    """What a person names as a start: its run; what `Run.start` says of it (None for a recipe: from scratch); where run folders are made.

    `start`: a run folder, a checkpoint folder of transformers, or a recipe. Raises OvertureError for anything else, and for a fine-tuned model.
    """
    from overture import recipes

    path = Path(start)
    if is_checkpoint(path):
        from overture.models.start import published_run

        home = out or Path("runs")
        return published_run(path), os.path.relpath(path, home), home
    if path.is_dir():
        from overture.export import read_run

        _no_head(path / "run.json")
        home = out or path.parent
        return replace(read_run(path)[0], grow=None), os.path.relpath(path, home), home  # it has grown
    if path.exists() or len(path.parts) > 1:
        raise OvertureError(
            f"{start} is no run folder, no checkpoint folder of transformers (with config.json) and no recipe: 'overture list' shows those"
        )
    return recipes.get(start), None, out or Path("runs")


def _no_head(file: Path) -> None:
    """Raises OvertureError for the run of a fine-tuning. What is wrong with a file is left to be said by who reads it whole."""
    try:
        about = json.loads(file.read_text(encoding="utf8"))
        size, start = about["size"], about["config"]["start"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if size == "finetune":
        raise OvertureError(
            f"{file.parent} is a fine-tuned model with a head of its own task. Start from what it was made of: "
            f"{start or 'a fresh network, so name its recipe'}"
        )
