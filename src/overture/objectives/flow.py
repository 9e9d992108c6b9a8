"""Conditional flow matching: the velocity from noise to the hidden frames of an utterance, given the others and what is said.

Lipman et al. 2023, arXiv:2210.02747, section 4.1, with optimal-transport paths: x_t = (1 - (1 - s) t) x_0 + t x_1 has the velocity
x_1 - (1 - s) x_0, and the mean square of what is missing to it is the loss. Hidden is one span of the utterance's own length, as in Voicebox
(Le et al. 2023, arXiv:2306.15687, section 3.3), or all of it; what is not hidden is context, what is hidden is target, and padding is neither.
For guidance without a classifier (Ho and Salimans 2022, arXiv:2207.12598) some examples are told nothing at all: each by a die of its own.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.objectives import Loss

if TYPE_CHECKING:
    from overture.models.modeling_flow import FlowModel

FLOW = 18  # purpose of a draw


class Drawn(NamedTuple):
    """What chance decides of a batch."""

    noise: Tensor  # (B, T, F), 0 on padding
    time: Tensor  # (B,) from 0 to 1
    hidden: Tensor  # (B, T) bool, false on padding
    untold: Tensor  # (B,) bool: no context, no phones, no streams


@dataclass(frozen=True, kw_only=True)
class FlowMatching:
    """Mean squared error a channel of a hidden frame. Defaults: Voicebox's."""

    least: float = 1e-5  # s, the deviation that is left at time 1
    span: tuple[float, float] = (0.7, 1.0)  # share of an utterance's frames that is hidden, drawn between
    alone: float = 0.3  # probability that all frames are hidden
    untold: float = 0.2  # probability that nothing is told, the phones neither
    phones: str = "phone"  # the channel that says which phone each frame has
    streams: tuple[str, ...] = ()  # further channels, of the network's streams

    def draw(self, batch: Batch, draws: Draws) -> Drawn:
        """By row: what an example gets does not depend on its neighbours."""
        b, t, channels = batch.x.shape
        noise = np.zeros((b, t, channels), dtype=np.float32)
        time, untold = np.zeros(b, dtype=np.float32), np.zeros(b, dtype=bool)
        hidden = np.zeros((b, t), dtype=bool)
        for i, (row, length) in enumerate(zip(batch.rows.tolist(), batch.lengths.tolist())):
            rng = draws.example(row, FLOW)
            time[i] = rng.random()
            untold[i] = rng.random() < self.untold
            alone = rng.random() < self.alone
            width = max(1, round(rng.uniform(*self.span) * length))
            start = int(rng.integers(length - width + 1))
            hidden[i, 0 if alone or untold[i] else start : length if alone or untold[i] else start + width] = True
            noise[i, :length] = rng.standard_normal((length, channels), dtype=np.float32)
        device = batch.x.device
        return Drawn(*(torch.from_numpy(x).to(device) for x in (noise, time, hidden, untold)))

    def __call__(self, model: "FlowModel", batch: Batch, draws: Draws) -> Loss:
        from overture.models.modeling_flow import Condition

        if missing := {self.phones, *self.streams} - batch.channels.keys():
            raise ValueError(f"flow matching needs a batch that says of each frame its {', '.join(sorted(missing))}")
        x1, valid = batch.x, batch.valid  # (B, T, F), (B, T)
        x0, time, hidden, untold = self.draw(batch, draws)
        t = time[:, None, None]
        on_its_way = (1 - (1 - self.least) * t) * x0 + t * x1
        velocity = x1 - (1 - self.least) * x0
        told = Condition(
            x1.masked_fill(hidden[..., None], 0.0),
            batch.channels[self.phones],
            {name: batch.channels[name].float() for name in self.streams},
        ).without(untold, model.null)
        output = model(on_its_way, valid, time=time, condition=told)
        error = (output.velocity.float() - velocity).square() * hidden[..., None]  # (B, T, F)
        counts = hidden.sum(1) * x1.shape[2]  # (B,)
        return Loss(
            sum=error.sum(),
            targets=counts.sum(),
            watch={"hidden": hidden.sum() / valid.sum(), "untold": untold.float().mean()},
            frames=output.last_hidden_state.detach()[valid].float(),
            counts=counts,
        )
