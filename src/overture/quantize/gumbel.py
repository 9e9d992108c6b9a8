"""The Gumbel product codebook of wav2vec 2.0 (arXiv 2006.11477, section 2; Jang et al. 2017, arXiv 1611.01144).

In each of G groups one of V codes is chosen by a softmax with Gumbel noise, hard in the forward and soft in the backward pass;
the codes of all groups stand side by side. Parameter names, shapes and initialisation are those of transformers'
`Wav2Vec2GumbelVectorQuantizer`, so weights go both ways. That class draws its noise from the global generator and keeps the ids
to itself; here noise is handed in and ids come out.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from overture.quantize import Quantized, Randomness

NOISE = 3  # purpose of a draw


@dataclass(frozen=True, kw_only=True)
class Annealing:
    """The temperature of the Gumbel softmax: `first`, times `factor` an update, never under `least`."""

    first: float = 2.0
    least: float = 0.5
    factor: float = 0.999995

    def at(self, update: int) -> float:
        """In update `update`, from 0."""
        return max(self.least, self.first * self.factor**update)

    @property
    def still(self) -> bool:
        """Whether it begins at its least and so never moves, as in a run that goes on from one that had come there."""
        return self.first <= self.least


class GumbelCodebook(nn.Module):
    """Frames of `dim` channels to one of `entries` codes in each of `groups`; together they have `code_dim` channels."""

    def __init__(self, dim: int, groups: int, entries: int, code_dim: int) -> None:
        """Fresh weights from torch's current generator. Raises ValueError when the groups do not divide `code_dim`."""
        super().__init__()
        if code_dim % groups:
            raise ValueError(f"{code_dim} channels cannot be shared by {groups} groups")
        self.groups, self.entries = groups, entries
        self.codevectors = nn.Parameter(torch.empty(1, groups * entries, code_dim // groups))
        self.weight_proj = nn.Linear(dim, groups * entries)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As transformers initialises them."""
        nn.init.normal_(self.weight_proj.weight)
        nn.init.zeros_(self.weight_proj.bias)
        nn.init.uniform_(self.codevectors)

    def forward(self, x: Tensor, temperature: float = 1.0, noise: Tensor | None = None) -> Quantized:
        """(N, dim) frames, Gumbel noise (N, G, V) -> codes chosen with the noise, at `temperature` in the backward pass.

        Without noise the most likely codes (evaluation): then only the codes get a gradient. `ids` and `probabilities` never
        see the noise: the most likely code, and the softmax of the logits at temperature 1.
        """
        logits = self.weight_proj(x).float().view(len(x), self.groups, self.entries)  # (N, G, V)
        ids = logits.argmax(-1)  # (N, G)
        codes = self.codevectors.view(self.groups, self.entries, -1)  # (G, V, D/G)
        drawn = None
        if noise is None:
            vectors = codes[torch.arange(self.groups, device=x.device), ids]  # (N, G, D/G)
        else:
            soft = torch.softmax((logits + noise) / temperature, -1)
            drawn = soft.argmax(-1)
            hard = nn.functional.one_hot(drawn, self.entries).to(soft.dtype)
            choice = (hard - soft.detach() + soft).to(codes.dtype)  # (N, G, V), straight through
            vectors = torch.einsum("ngv,gvd->ngd", choice, codes)
        return Quantized(vectors.flatten(1), ids, torch.softmax(logits, -1), drawn)


def gumbel_noise(draws: Randomness, rows: Tensor, counts: Tensor, groups: int, entries: int) -> Tensor:
    """Noise for `counts` (B,) frames of each of the utterances `rows` (B,) -> (N, G, V) float32, N the sum of the counts."""
    parts = [
        draws.example(row, NOISE).standard_exponential((count, groups, entries), dtype=np.float32)
        for row, count in zip(rows.tolist(), counts.tolist())
    ]
    waits = np.maximum(np.concatenate(parts), np.finfo(np.float32).tiny)  # -log of an exponential draw is a Gumbel draw
    return torch.from_numpy(-np.log(waits)).to(rows.device)
