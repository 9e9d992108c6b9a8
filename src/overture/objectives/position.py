"""Position prediction (MP3, arXiv 2207.07611): from which place of the clip does each token come?

The network knows no positions, and its attention may read only a random part of the tokens, the context, the same in every layer.
All tokens ask. Tokens of equal content, such as silence, cannot be told apart, so loud tokens are watched apart.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.lengths import windows
from overture.data.masks import RandomKeep
from overture.errors import OvertureError
from overture.objectives import Loss

if TYPE_CHECKING:
    from overture.models.modeling_patch import PatchModel


@dataclass(frozen=True, kw_only=True)
class PositionPrediction:
    """Cross-entropy over the N places of a clip, for all of its tokens. `context` keeps a share of 1 - eta of them."""

    context: RandomKeep = field(default_factory=RandomKeep)

    def __call__(self, model: "PatchModel", batch: Batch, draws: Draws) -> Loss:
        """Raises OvertureError for a model that knows positions, or a batch with clips of other lengths than the model's."""
        shape = self._check(model, batch)  # F', T'
        tokens = shape[0] * shape[1]  # N
        context = torch.zeros(len(batch.rows), tokens, dtype=torch.bool)
        for b, row in enumerate(batch.rows.tolist()):
            context[b, torch.from_numpy(self.context.draw(tokens, draws.example(row)))] = True
        # Any order of tokens would do: a subset is as likely as any other of its size.
        output = model(batch.x, batch.valid, context=context.unflatten(1, shape).to(batch.x.device))
        states = model.tokens(output.patch_states)  # (B, N, D)
        logits = model.head.position(states).float()  # (B, N, N)
        labels = torch.arange(tokens, device=logits.device).expand(len(logits), tokens)  # (B, N)
        with torch.no_grad():
            guess = logits.argmax(-1)  # (B, N)
            times = model.tokens(torch.arange(shape[1], device=logits.device).expand(1, *shape))[
                0
            ]  # (N,) time of a place
            error = (times[guess] - times[labels]).abs().float()  # (B, N) time steps
            loudness = model.tokens(model.patches(batch.x, batch.lengths)).float().mean(-1)  # (B, N)
            loud = loudness > loudness.median(1, keepdim=True).values
        return Loss(
            sum=F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum"),
            targets=torch.tensor(labels.numel(), device=logits.device),
            watch={
                "accuracy": (guess == labels).float().mean(),
                "chance": torch.tensor(1 / tokens),
                "position_error": error.mean(),
                "position_error_loud": (error * loud).sum() / loud.sum().clamp(min=1),
            },
            frames=states.detach().flatten(0, 1).float(),
        )

    def _check(self, model: "PatchModel", batch: Batch) -> tuple[int, int]:
        config = model.config
        if "position" not in config.pretext:
            raise OvertureError(
                f"the objective needs a position head, the model has {tuple(config.pretext)}: set model.pretext"
            )
        if config.positions != "none":
            raise OvertureError(
                f"model.positions={config.positions!r} tell the network what it has to find out: set 'none'"
            )
        if config.patch != config.stride:
            raise OvertureError(
                f"patches of {tuple(config.patch)} at strides of {tuple(config.stride)} overlap, so neighbours know each other by what they "
                "share: pre-train with model.stride = model.patch"
            )
        rows, columns = config.position_grid
        steps: Tensor = windows(batch.lengths, config.patch[1], config.stride[1])
        if not bool((steps == columns).all()):
            other = batch.rows[(steps != columns).to(batch.rows.device)].tolist()
            seconds = columns * config.patch[1] / config.frame_rate
            raise OvertureError(
                f"position prediction needs clips of {columns} time steps ({seconds:g} s) exactly, because their number would tell where "
                f"one ends; rows {other[:5]} have {sorted(set(steps.tolist()) - {columns})}. Set data.min_seconds and data.max_seconds to "
                f"{seconds:g}, or model.frames"
            )
        return rows, columns
