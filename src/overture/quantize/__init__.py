"""Quantizers: continuous frames to ids of a finite vocabulary, learnt with the model (Gumbel product codebook), moved by averages
(EMA-VQ), drawn once (random projection) or fitted beforehand (k-means).

Each is a module called with the valid frames of a batch, flattened to (N, D), so padding can enter no statistic, and returns a
`Quantized`. Nothing here draws from a global generator: noise and restarts come from `Draws`, by utterance. The files import only torch,
numpy and each other, so an exported model may carry a copy of those it needs.
"""

from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

CHUNK = 8192  # frames compared with all codes at once


class Quantized(NamedTuple):
    """N frames in a codebook of G groups with V entries each."""

    vectors: Tensor  # (N, D) codes; where the quantizer learns, differentiable
    ids: Tensor  # (N, G) int64, the best code of each frame: what is predicted and metered
    probabilities: Tensor | None = None  # (N, G, V) float32, where codes are chosen by a softmax
    drawn: Tensor | None = None  # (N, G) int64, the codes in `vectors` where noise chose them, else None


class Randomness(Protocol):
    """`overture.data.draws.Draws`, as seen from here."""

    def example(self, row: int, purpose: int = 0) -> np.random.Generator: ...


@torch.no_grad()
def nearest(x: Tensor, codes: Tensor) -> Tensor:
    """Frames (N, D) and codes (V, D) -> (N,) int64, the closest code of each by Euclidean distance; in float32, whatever autocast says.

    Raises ValueError when the frames are not (N, D) or have another number of channels than the codes.
    """
    if x.ndim != 2 or x.shape[1] != codes.shape[1]:
        raise ValueError(
            f"frames {tuple(x.shape)} for codes {tuple(codes.shape)}: valid frames (N, {codes.shape[1]}) are wanted"
        )
    with torch.autocast(x.device.type, enabled=False):
        codes = codes.float()
        offset = (
            codes.square().sum(1) / 2
        )  # (V,); |x - c|^2 is twice this, less twice the product, and |x|^2, which is the same for all
        return torch.cat([(offset - part.float() @ codes.T).argmin(1) for part in x.split(CHUNK)])
