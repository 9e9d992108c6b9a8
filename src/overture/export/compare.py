"""What an export is refused by: a weight or an output that differs from the run's."""

from pathlib import Path
from typing import Any

import torch

import overture
from overture.errors import OvertureError

TOLERANCE = 1e-4  # of the largest value: how far another order of additions may lead


def near(
    name: str, theirs: torch.Tensor, ours: torch.Tensor, tolerance: float, out: Path, valid: torch.Tensor | None = None
) -> None:
    """Raises OvertureError unless both are alike (where `valid`, when given), to `tolerance` of the largest value of ours."""
    if theirs.shape != ours.shape:
        raise OvertureError(
            f"not exported: the model loaded from {out} gives {name} of shape {tuple(theirs.shape)}, the run {tuple(ours.shape)}"
        )
    if valid is not None:
        theirs, ours = theirs[valid], ours[valid]
    difference = float((theirs - ours).abs().max())
    if not difference <= tolerance * float(ours.abs().max()):  # so that what is not a number is not near
        raise OvertureError(
            f"not exported: the model loaded from {out} differs from the run by up to {difference:.3g} in {name}"
        )


def same_weights(theirs: Any, ours: Any, out: Path) -> None:
    """Raises OvertureError unless both networks have the same weights under the same names, to the bit."""
    kept, given = theirs.state_dict(), ours.state_dict()
    if missing := kept.keys() ^ given.keys():
        raise OvertureError(f"not exported: {', '.join(sorted(missing))} did not survive; {overture.__version__}")
    for name, value in given.items():
        near(name, kept[name], value, 0.0, out)
