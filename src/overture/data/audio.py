"""Reading recordings: any file libsndfile knows, cut, averaged to mono and resampled (soundfile + soxr, no FFmpeg).

Both libraries release Python's lock while they work, so threads read in parallel.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from overture.errors import OvertureError


class UnreadableAudio(OvertureError):
    """A recording cannot be decoded. The message names the file and the decoder's own words."""


def read_native(path: str | Path, *, start: float = 0.0, duration: float | None = None) -> tuple[np.ndarray, int]:
    """Samples as the file has them: (N, channels) float32 and the rate in Hz. `start`, `duration` in seconds.

    Raises UnreadableAudio if the file is missing, damaged or not audio.
    """
    try:
        with sf.SoundFile(str(path)) as file:
            rate = int(file.samplerate)
            if start:
                file.seek(round(start * rate))
            frames = -1 if duration is None else round(duration * rate)
            return file.read(frames, dtype="float32", always_2d=True), rate
    except (sf.LibsndfileError, OSError, RuntimeError) as error:
        raise UnreadableAudio(f"{path}: cannot be read as audio ({error})") from error


def read(path: str | Path, *, rate: int, start: float = 0.0, duration: float | None = None) -> np.ndarray:
    """One utterance as (N,) float32 mono at `rate` Hz. N = round(duration * rate) up to one sample of resampling."""
    samples, native = read_native(path, start=start, duration=duration)
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    return resample(mono, native, rate)


def blocks(
    path: str | Path, *, rate: int, start: float = 0.0, duration: float | None = None, seconds: float = 20.0
) -> Iterator[np.ndarray]:
    """The samples that `read` gives, one part of about `seconds` s after the other: an hour takes no more memory than a minute.

    Raises UnreadableAudio where the file is missing, damaged or not audio; a part that holds NaN is passed on.
    """
    try:
        with sf.SoundFile(str(path)) as file:
            native = int(file.samplerate)
            if start:
                file.seek(round(start * native))
            left = int(file.frames) - file.tell() if duration is None else round(duration * native)
            stream = None if native == rate else soxr.ResampleStream(native, rate, 1, dtype="float32", quality="HQ")
            while left > 0:
                part = file.read(min(round(seconds * native), left), dtype="float32", always_2d=True)  # (N, channels)
                if len(part) == 0:
                    break
                left -= len(part)
                mono = np.ascontiguousarray(part[:, 0] if part.shape[1] == 1 else part.mean(axis=1))
                yield mono if stream is None else stream.resample_chunk(mono)
            if stream is not None:
                yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
    except (sf.LibsndfileError, OSError, RuntimeError) as error:
        raise UnreadableAudio(f"{path}: cannot be read as audio ({error})") from error


def resample(samples: np.ndarray, native: int, rate: int) -> np.ndarray:
    """(N,) at `native` Hz -> (round(N * rate / native),) at `rate` Hz, soxr 'HQ'."""
    if native == rate or len(samples) == 0:
        return np.ascontiguousarray(samples)
    return np.asarray(soxr.resample(samples, native, rate, quality="HQ"), dtype=np.float32)


@lru_cache(maxsize=1)
def formats() -> tuple[str, ...]:
    """File endings that libsndfile reads here, lower case with the dot."""
    return tuple(sorted({"." + f.lower() for f in sf.available_formats()} | {".oga", ".opus"}))
