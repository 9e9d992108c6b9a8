"""A small encoder of samples, with a stride and with a part that only its pre-training would use."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from overture.data.alteration import Alteration
from overture.data.batch import Batch, valid_mask
from overture.data.draws import Draws
from overture.data.features import Waveform
from overture.data.lengths import windows
from overture.objectives import Loss
from overture.run import Data, Frontend, Loop, Optim, Plan, Player, Run

WINDOW, HOP = 400, 320  # samples: 50 Hz of 16,000


class StridedEncoder(nn.Module):
    """One convolution and one layer."""

    def __init__(self, dim: int, rate: int, deep: bool) -> None:
        super().__init__()
        self.dim, self.frame_rate = dim, rate / HOP
        self.convolve = nn.Conv1d(1, dim, WINDOW, HOP)
        self.mix = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.quantizer = nn.Linear(dim, 4)  # of pre-training
        if deep:
            self.deeper = nn.Linear(dim, dim)

    def steps(self, lengths: Tensor) -> Tensor:
        return windows(lengths, WINDOW, HOP)

    def states(self, x: Tensor, lengths: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        first = self.convolve(x[:, None]).transpose(1, 2)  # (B, T, D)
        last = first + self.mix(first)
        return (first, self.deeper(last) if hasattr(self, "deeper") else last), self.steps(lengths)


@dataclass(frozen=True, kw_only=True)
class Strided:
    """Its sizes."""

    dim: int = 16
    deep: bool = False

    def build(self, frontend: Frontend) -> StridedEncoder:
        return StridedEncoder(self.dim, frontend.rate, self.deep)


@dataclass(frozen=True, kw_only=True)
class Loudness:
    """A pretext: the loudness of each frame."""

    alteration: Alteration | None = None

    def __call__(self, model: Any, batch: Batch, draws: Draws) -> Loss:
        (_, last), steps = model.states(batch.x, batch.lengths)
        valid = valid_mask(steps, last.shape[1])
        loud = batch.x.unfold(1, WINDOW, HOP).square().mean(-1)[:, : last.shape[1]]
        guess = model.quantizer(last).mean(-1)
        error = (guess - loud).square()[valid]
        share = torch.tensor(0.25)
        return Loss(
            error.sum(), valid.sum(), {"codes_used": share, "top_code": share * torch.inf}, last.detach()[valid]
        )


def waves(updates: int = 2, where: str | None = None) -> Run:
    """A pre-training run on samples."""
    return Run(
        recipe="waves",
        size="tiny",
        data=Data(where=where, max_seconds=2.0),
        frontend=Waveform(),
        model=Strided(),
        players=(Player(objective=Loudness()),),
        plan=Plan(update=12.0, micro=12.0),
        loop=Loop(updates=updates, log_every=1, precision="fp32"),
    )


def exploding(updates: int = 2) -> Run:
    """The same at a learning rate at which no weight stays finite."""
    run = waves(updates)
    optim = Optim(lr=1e30, warmup=0.0, clip=1e30)
    return replace(run, players=(replace(run.players[0], optim=optim),))
