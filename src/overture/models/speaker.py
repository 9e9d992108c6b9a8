"""The speaker encoder of GE2E: an LSTM over log-mel frames whose last output is a vector of the voice.

Wan et al. 2018, "Generalized End-to-End Loss for Speaker Verification" (arXiv:1710.10467), as Jia et al. 2018 use it for cloning (SV2TTS,
arXiv:1806.04558, section 2.1): 40 log-mel channels, three layers of 768 cells, each projected to 256, the last frame's output scaled to length 1.
Resemblyzer and Real-Time-Voice-Cloning have 256 cells without projections, and a linear layer with ReLU behind the last frame.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from overture.data.batch import States
from overture.data.lengths import samples
from overture.run import Frontend

WINDOW = 1.6  # s that are embedded at once, as long as the crops of the training
SCALE = 10.0  # w of the loss, at first


@dataclass(frozen=True, kw_only=True)
class SpeakerLstm:
    """Sizes of the encoder."""

    layers: int = 3
    dim: int = 768  # cells of a layer
    embedding: int = 256  # of the vector of a voice
    # projection: each layer is projected to `embedding`, and the last frame of the last one is the vector; relu: no layer is, and a linear layer
    # with ReLU makes the vector, so that none of its numbers is below 0
    head: Literal["projection", "relu"] = "projection"

    def build(self, frontend: Frontend) -> "SpeakerModel":
        """The network with fresh weights from torch's current generator."""
        return SpeakerModel(self, frontend.dim, frontend.frame_rate)


class SpeakerModel(nn.Module):
    """See `SpeakerLstm`."""

    def __init__(self, spec: SpeakerLstm, features: int, frame_rate: float) -> None:
        """`features`: F of the front end; `frame_rate`: Hz."""
        super().__init__()
        projected = spec.embedding if spec.head == "projection" else 0
        self.frame_rate, self.dim = frame_rate, projected or spec.dim
        self.layers = nn.ModuleList(
            nn.LSTM(self.dim if i else features, spec.dim, proj_size=projected, batch_first=True)
            for i in range(spec.layers)
        )
        self.head = nn.Identity() if projected else nn.Sequential(nn.Linear(spec.dim, spec.embedding), nn.ReLU())
        self.similarity_weight = nn.Parameter(torch.tensor([SCALE]))  # w of the loss (`overture.objectives.ge2e`)

    def steps(self, lengths: Tensor) -> Tensor:
        """(B,) frames -> (B,) states: as many."""
        return lengths

    def states(self, x: Tensor, lengths: Tensor) -> States:
        """(B, T, F), (B,) valid frames -> L of (B, T, D), one a layer, and their lengths. No state sees what comes after it, padding included."""
        hidden = []
        for layer in self.layers:
            x, _ = layer(x)  # (B, T, D)
            hidden.append(x)
        return States(tuple(hidden), lengths)

    def vectors(self, last: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) states of the last layer, (B,) -> (B, E) float32 of length 1: what is known at the last frame."""
        end = last[torch.arange(len(last), device=last.device), lengths - 1]  # (B, D)
        with torch.autocast(end.device.type, enabled=False):
            return F.normalize(self.head(end.float()), dim=-1, eps=1e-6)

    def embed(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, F), (B,) valid frames -> (B, E) float32 of length 1.

        Utterances above 1.6 s are cut into windows of that length, half overlapping, the last of which ends where they end; their vectors are
        averaged, and the mean scaled to length 1 (SV2TTS, section 2.1, has windows of .8 s).
        """
        size = samples(WINDOW, self.frame_rate)
        starts = [window_starts(n, size) for n in lengths.tolist()]
        owner = torch.tensor([i for i, own in enumerate(starts) for _ in own], device=x.device)  # (W,)
        first = torch.tensor([s for own in starts for s in own], device=x.device)
        places = first[:, None] + torch.arange(min(size, x.shape[1]), device=x.device)  # (W, S)
        pieces = x[owner[:, None], places.clamp_max(x.shape[1] - 1)]  # (W, S, F)
        hidden, ends = self.states(pieces, (lengths[owner] - first).clamp_max(size))
        found = self.vectors(hidden[-1], ends)  # (W, E)
        return F.normalize(found.new_zeros(len(x), found.shape[1]).index_add(0, owner, found), dim=-1, eps=1e-6)


def window_starts(steps: int, size: int) -> list[int]:
    """Where windows of `size` steps begin in `steps` of them: every half window, and one that ends at the end. One where there is no second."""
    if steps <= size:
        return [0]
    starts = list(range(0, steps - size + 1, max(1, size // 2)))
    return starts if starts[-1] + size == steps else [*starts, steps - size]
