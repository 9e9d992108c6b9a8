"""Answers: of a sample of speech and text, the tokens that are learnt are predicted from all that stands before them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.objectives import Loss
from overture.objectives.vocabulary import token_losses

if TYPE_CHECKING:
    from overture.models.speech_text import SpeechTextModel


@dataclass(frozen=True, kw_only=True)
class Answers:
    """-log p of every learnt token, in nats (BLSP, arXiv:2309.00916, section 3.3: the language model's own continuation)."""

    def __call__(self, model: "SpeechTextModel", batch: Batch, draws: Draws) -> Loss:
        hidden = model.hidden(batch)  # (B, T, D)
        loss, each = answer_losses(model, hidden, batch)
        learnt = learnt_next(batch)
        return Loss(
            sum=loss, targets=learnt.sum(), watch={"nats": each.mean()}, frames=hidden.detach()[batch.valid].float()
        )


def answer_losses(model: "SpeechTextModel", hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """() sum of -log p over learnt tokens, and (M,) each, row by row, detached. hidden: (B, T, D)."""
    learnt = learnt_next(batch)
    before, weight, bias = model.output
    return token_losses(before(hidden[:, :-1][learnt]), weight, bias, batch.x[:, 1:][learnt])


def learnt_next(batch: Batch) -> Tensor:
    """(B, T - 1) bool: which tokens, from the second on, are learnt."""
    return torch.as_tensor((batch.channels["learnt"][:, 1:] > 0) & batch.valid[:, 1:])
