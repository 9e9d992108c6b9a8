"""Causal language modelling that minds a score of every token, of which less is better: unlikelihood, and two kinds of weights.

Three of the five objectives of "Pretraining Language Models with Human Preferences" (Korbak et al. 2023, arXiv:2302.08582, section 2; the fourth and
best, conditional training, is `Causal` on text with control tokens, and filtering is a choice of rows). The score of a token is that of its
segment, the channel `score` of `data.segments`; its reward R is the score's negative. What is scored is the token that is *predicted*, from
the state at the one before.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.objectives import Loss
from overture.objectives.causal import next_tokens
from overture.objectives.vocabulary import token_losses

if TYPE_CHECKING:
    from overture.models.text import TextModel

LARGEST = 1000.0  # weight
LEAST = 1e-20  # 1 - p, where its logarithm is taken


@dataclass(frozen=True, kw_only=True)
class Unlikelihood:
    """-log p of the tokens whose score is `threshold` or less; of the others -`alpha` log(1 - p), and nothing else (Welleck et al. 2020)."""

    threshold: float = 0.0
    alpha: float = 1.0

    def __call__(self, model: "TextModel", batch: Batch, draws: Draws) -> Loss:
        frames, states, targets, scores = _predicted(model, batch)
        flagged = scores > self.threshold  # (M,)
        loss = _unlikelihood(model, states, targets, flagged, self.alpha)
        return Loss(loss, _count(targets), {"flagged": flagged.float().mean()}, frames)


@dataclass(frozen=True, kw_only=True)
class RewardWeighted:
    """w (-log p) with w = exp(R / `beta`), 1000 at most (RWR, Peters and Schaal 2007). Weights are not normalised: the loss is per token."""

    beta: float = 1.0

    def __call__(self, model: "TextModel", batch: Batch, draws: Draws) -> Loss:
        frames, states, targets, scores = _predicted(model, batch)
        weights = torch.exp(-scores / self.beta).clamp(max=LARGEST)  # (M,)
        loss, nats = _losses(model, states, targets, weights)
        return Loss(loss, _count(targets), {"nats": nats.mean(), "weight": weights.mean()}, frames)


@dataclass(frozen=True, kw_only=True)
class AdvantageWeighted:
    """`alpha` w (-log p) + (1 - `alpha`) (V - R)^2 with w = exp((R - V) / `beta`), 1000 at most (AWR, Peng et al. 2019).

    V = -sigmoid of a linear layer `value` without bias that begins at zero, so that all V begin at -1/2: of what came before the token that is
    predicted. In the weight V is a constant; through its own loss it also teaches the network.
    """

    beta: float = 1.0
    alpha: float = 0.5

    def __call__(self, model: "TextModel", batch: Batch, draws: Draws) -> Loss:
        if "value" not in model.heads:
            raise OvertureError(
                "AdvantageWeighted needs a head for its values: model.extra=(Head(name='value', deep=False, bias=False, zero=True),)"
            )
        frames, states, targets, scores = _predicted(model, batch)
        values = -torch.sigmoid(model.heads["value"](states).float()[:, 0])  # (M,)
        error = values + scores  # V - R
        weights = torch.exp(-error.detach() / self.beta).clamp(max=LARGEST)
        loss, nats = _losses(model, states, targets, weights)
        watch = {"nats": nats.mean(), "weight": weights.mean(), "value": values.detach().mean()}
        return Loss(self.alpha * loss + (1 - self.alpha) * error.square().sum(), _count(targets), watch, frames)


def _predicted(model: "TextModel", batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(N, D) detached states; of M predicted tokens (M, D) states before them, (M,) ids, (M,) scores. Raises OvertureError without scores."""
    if "score" not in batch.channels:
        raise OvertureError("the objective minds scores, and the examples have none: set data.text to PackSegments")
    hidden = model.hidden(batch.x, batch.lengths)  # (B, T, D)
    predicted = next_tokens(batch, apart=False)  # (B, T - 1) bool
    frames = hidden.detach()[batch.valid].float()
    return (
        frames,
        hidden[:, :-1][predicted],
        batch.x[:, 1:][predicted],
        batch.channels["score"][:, 1:][predicted].float(),
    )


def _losses(model: "TextModel", states: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    before, weight, bias = model.output
    return token_losses(before(states), weight, bias, targets, weights)


def _unlikelihood(model: "TextModel", states: Tensor, targets: Tensor, flagged: Tensor, alpha: float) -> Tensor:
    """() sum of -log p, and of -alpha log(1 - p) where `flagged` (M,).

    The logits' gradient of -log(1 - p) is that of -log p times -p / (1 - p). So flagged tokens are cross-entropy with a weight, in chunks as all
    cross-entropy is; what they weigh is found by a first pass over them alone, without a gradient.
    """
    with torch.no_grad():
        _, nats = _losses(model, states[flagged], targets[flagged], None)
        rest = -torch.expm1(-nats)  # 1 - p
        odds = torch.where(rest > LEAST, torch.exp(-nats) / rest, 0.0)  # where it is clamped it has no gradient
        weights = torch.ones_like(targets, dtype=torch.float32).masked_scatter(flagged, -alpha * odds)
        value = -alpha * rest.clamp(min=LEAST).log().sum()
    loss, each = _losses(model, states, targets, weights)
    return loss + (value + each[~flagged].sum() - loss).detach()  # its gradient, and its own value


def _count(targets: Tensor) -> Tensor:
    return torch.tensor(len(targets), device=targets.device)
