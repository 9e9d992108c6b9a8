"""Yes or no: the loss of one logit a question, and what is watched of it. F1 beside accuracy, which is high where "no" is always right."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F


class Answers(NamedTuple):
    """Of (N,) questions."""

    losses: Tensor  # (N,) float32, nats
    wrong: Tensor  # (N,) bool
    f1: Tensor  # () of "yes"; 0 where neither is there any nor any found
    accuracy: Tensor  # ()


def answers(logits: Tensor, truth: Tensor) -> Answers:
    """(N,) logits of "yes", (N,) bool -> their losses, and how good they are as answers (detached)."""
    losses = F.binary_cross_entropy_with_logits(logits.float(), truth.float(), reduction="none")
    said = logits.detach() > 0
    hits, errors = (said & truth).sum(), said != truth
    f1 = 2 * hits / (2 * hits + errors.sum()).clamp_min(1)
    return Answers(losses, errors, f1, 1 - errors.float().mean())


def watched(found: Answers, prefix: str = "") -> dict[str, Tensor]:
    """What a run logs of them."""
    nats = found.losses.detach().mean()
    return {
        f"{prefix}{name}": value for name, value in (("nats", nats), ("f1", found.f1), ("accuracy", found.accuracy))
    }
