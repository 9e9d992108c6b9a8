"""Random-projection quantizer: ids from a projection and codes that are drawn once and never learn (BEST-RQ, arXiv 2202.01855).

Both are functions of `seed` and travel in the checkpoint. The frames should have mean 0 and variance 1 in each channel, else few
codes are used (section 3.1 there).
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from overture.quantize import Quantized, nearest


class RandomProjection(nn.Module):
    """Frames of `dim` channels to one of `entries` codes of `code_dim` channels, in each of `groups` independent codebooks."""

    projection: Tensor  # (G, dim, code_dim)
    codes: Tensor  # (G, V, code_dim), of length 1

    def __init__(self, dim: int, entries: int, code_dim: int, groups: int = 1, seed: int = 0) -> None:
        super().__init__()
        rng = np.random.Generator(np.random.Philox(seed))
        bound = (6 / (dim + code_dim)) ** 0.5  # Xavier
        projection = rng.uniform(-bound, bound, (groups, dim, code_dim))
        codes = rng.standard_normal((groups, entries, code_dim))
        codes /= np.linalg.norm(codes, axis=-1, keepdims=True)
        self.register_buffer("projection", torch.from_numpy(projection).float())
        self.register_buffer("codes", torch.from_numpy(codes).float())

    @torch.no_grad()
    def forward(self, x: Tensor) -> Quantized:
        """(N, dim) -> the nearest codes of the projected frames brought to length 1; `vectors` (N, G * code_dim). No gradient."""
        with torch.autocast(x.device.type, enabled=False):
            projected = F.normalize(torch.einsum("nd,gdc->gnc", x.float(), self.projection), dim=-1)  # (G, N, code_dim)
        ids = torch.stack([nearest(p, c) for p, c in zip(projected, self.codes)], dim=1)  # (N, G)
        vectors = torch.cat([c[i] for c, i in zip(self.codes, ids.T)], dim=1)
        return Quantized(vectors, ids)
