"""Length arithmetic, in one place: seconds to samples, samples to frames, frames to the steps behind a stride.

Works on whole numbers and on integer arrays and tensors alike. Imports nothing, so an exported model may carry a copy.
"""

from typing import Any, TypeVar

N = TypeVar("N")  # int, or an integer array or tensor


def samples(seconds: float, rate: float) -> int:
    """How many samples (or frames, with a frame rate) `seconds` are, to the nearest."""
    return round(seconds * rate)


def windows(steps: N, size: int, hop: int, padding: int = 0) -> N:
    """How many whole windows of `size` steps, `hop` apart, fit into `steps` with `padding` added on both sides.

    Kaldi's framing, a strided convolution and a row of patches all count so. Never negative.
    """
    known: Any = steps
    count = (known + 2 * padding - size) // hop + 1
    fitting: N = count * (count > 0)
    return fitting
