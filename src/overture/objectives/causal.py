"""Causal language modelling: each token is predicted from those before it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.objectives import Loss
from overture.objectives.vocabulary import token_losses

if TYPE_CHECKING:
    from overture.models.text import TextModel


@dataclass(frozen=True, kw_only=True)
class Causal:
    """-log p of every token but the first of an example, in nats."""

    apart: bool = False  # attention stays within a document; the first token of one is then predicted from nothing, and is left out

    def __call__(self, model: "TextModel", batch: Batch, draws: Draws) -> Loss:
        document = batch.channels["document"] if self.apart else None
        hidden = model.hidden(batch.x, batch.lengths, document)  # (B, T, D)
        predicted = next_tokens(batch, apart=self.apart)  # (B, T - 1) bool
        before, weight, bias = model.output
        loss, each = token_losses(before(hidden[:, :-1][predicted]), weight, bias, batch.x[:, 1:][predicted])
        return Loss(
            sum=loss, targets=predicted.sum(), watch={"nats": each.mean()}, frames=hidden.detach()[batch.valid].float()
        )


def next_tokens(batch: Batch, *, apart: bool) -> Tensor:
    """(B, T - 1) bool: which tokens, from the second on, are predicted by the one before them; with `apart` none across documents."""
    found = batch.valid[:, 1:]
    if apart:
        document = batch.channels["document"]
        found = found & (document[:, 1:] == document[:, :-1])
    return torch.as_tensor(found)
