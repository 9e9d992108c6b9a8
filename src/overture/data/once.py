"""Folders that are made once, whole or not at all: whoever asks meanwhile, another process or rank, waits and finds them made."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from overture.errors import OvertureError

DONE = "source.json"  # says what a folder was made of


def made_once(folder: Path, write: Callable[[Path], None], what: str) -> Path:
    """`folder`, which `write` fills (its `DONE` too) where it is not there yet. Raises OvertureError, naming `what`, when nothing can be written."""
    if (folder / DONE).exists():
        return folder
    part = folder.with_name(f"{folder.name}.part-{os.getpid()}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not (folder / DONE).exists():
                part.mkdir(exist_ok=True)
                write(part)
                part.rename(folder)
    except OSError as error:
        raise OvertureError(f"{what} {folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder
