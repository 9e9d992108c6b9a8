"""A wave to a sound file, whole or not at all, which says of itself that it is synthetic."""

from pathlib import Path

import numpy as np
import soundfile as sf

from overture.errors import OvertureError


def write(path: Path, wave: np.ndarray, rate: int, comment: str) -> None:
    """(N,) float32 at `rate` Hz -> 16 bits or the format's own, with a `comment` that players show. Makes the folder.

    Raises OvertureError where it cannot be written, and for a rate that the format does not know.
    """
    kind = {".opus": ("OGG", "OPUS"), ".ogg": ("OGG", "VORBIS")}.get(
        path.suffix.lower(), (path.suffix[1:].upper(), "PCM_16")
    )
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with sf.SoundFile(partial, "w", rate, 1, kind[1], format=kind[0]) as file:
            file.comment = comment
            file.write(np.clip(wave, -1.0, 1.0))
        partial.replace(path)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        partial.unlink(missing_ok=True)
        raise OvertureError(f"{path} cannot be written: {error}") from error
