"""Pretext tasks, one a file. Each is a frozen dataclass called with `(model, batch, draws)` that returns a `Loss`.

A loss is a *sum* over targets and the number of them. The loop divides once, by the number over all micro-batches and devices,
so accumulation, ranks and padding cannot change the gradient (laws 2, 3 and 5).
"""

from typing import NamedTuple

from torch import Tensor


class Loss(NamedTuple):
    """What an objective returns."""

    sum: Tensor  # () differentiable, summed over targets
    targets: Tensor  # () how many
    watch: dict[str, Tensor]  # detached numbers to watch
    frames: Tensor  # (N, D) detached valid states of the encoder's output: health looks at their variance and rank
    counts: Tensor | None = (
        None  # (B,) targets of each example, where an objective tells: what is learnt beside it can be weighed by them
    )
