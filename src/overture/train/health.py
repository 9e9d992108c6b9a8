"""Health: rules that stop a run and name the cause.

A collapse often looks like success (the loss falls to zero because nothing is left to tell apart), so each rule watches a
cause and not the loss. A rule sees one record of numbers a logged update; every rule has a test that plants its illness.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from overture.errors import OvertureError

SAMPLE = 512  # frames that variance and rank are measured on


class IllRun(OvertureError):
    """A rule stopped the run."""


@dataclass(frozen=True)
class Finding:
    """What a rule found. A finding that does not stop the run is shown and recorded."""

    rule: str
    message: str
    stop: bool


@dataclass(frozen=True)
class Rule:
    """`check` gets the numbers of an update and returns what is wrong, or nothing."""

    name: str
    check: Callable[[Mapping[str, float]], str | None]
    stop: bool = True


def _not_finite(n: Mapping[str, float]) -> str | None:
    if math.isfinite(n["loss"]) and math.isfinite(n["grad_norm"]):
        return None
    return (
        f"loss {n['loss']}, gradient norm {n['grad_norm']}: the weights were not touched by this update. "
        "Lower optim.lr, or set loop.precision=fp32; the rows of the update stand in bad_update.json"
    )


def _vanished_variance(n: Mapping[str, float]) -> str | None:
    if n["update"] < 50 or n["variance"] > VARIANCE:
        return None
    return (
        f"the encoder gives nearly the same vector for every frame (standard deviation {n['variance']:.1e}): it has collapsed. "
        "Lower optim.lr or lengthen optim.warmup"
    )


def _vanished_rank(n: Mapping[str, float]) -> str | None:
    if n["update"] < 50 or n["rank"] > RANK:
        return None
    return (
        f"the encoder's output has effective rank {n['rank']:.2f} of {n['dim']:.0f}: all frames lie on one line. "
        "Lower optim.lr or lengthen optim.warmup"
    )


VARIANCE, RANK = 1e-4, 1.5

RULES = (
    Rule("not finite", _not_finite),
    Rule("vanished variance", _vanished_variance, stop=False),
    Rule("vanished rank", _vanished_rank, stop=False),
)


# What each rule watches, for the report.
WATCHED = {
    "not finite": {"watch": "loss"},
    "vanished variance": {"watch": "variance", "limit": VARIANCE, "fires": "below"},
    "vanished rank": {"watch": "rank", "limit": RANK, "fires": "below"},
}


def check(numbers: Mapping[str, float]) -> list[Finding]:
    """What the rules find in the numbers of an update (loss, grad_norm, update, and variance, rank, dim where measured)."""
    spread_known = "variance" in numbers
    rules = RULES if spread_known else RULES[:1]
    return [Finding(rule.name, message, rule.stop) for rule in rules if (message := rule.check(numbers))]


@torch.no_grad()
def spread(frames: Tensor) -> dict[str, float]:
    """(N, D) -> `variance` (mean standard deviation of the channels), `rank` (effective, Roy & Vetterli 2007) and `dim`.

    Layer normalisation hides a collapse from a channel's mean square, so each channel is centred first.
    """
    x = frames[:: max(1, len(frames) // SAMPLE)][:SAMPLE].float()
    x = x - x.mean(0)
    values = torch.linalg.svdvals(x)
    total = values.sum()
    share = values / total.clamp_min(1e-12)
    entropy = -(share * share.clamp_min(1e-12).log()).sum()
    rank = float(entropy.exp()) if float(total) > 1e-6 else 0.0
    return {"variance": float(x.std(0, unbiased=False).mean()), "rank": rank, "dim": float(x.shape[1])}


class GradientWatch:
    """Which trainable parameters have not had a gradient yet. Looks only until all had one, or `patience` updates."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], patience: int = 20) -> None:
        self.waiting, self.patience, self.seen = dict(parameters), patience, 0

    def look(self) -> Finding | None:
        """Call after each backward pass; a finding when patience is over and parameters are still without gradient."""
        if not self.waiting:
            return None
        self.seen += 1
        self.waiting = {n: p for n, p in self.waiting.items() if p.grad is None or not bool(p.grad.any())}
        if self.seen < self.patience or not self.waiting:
            return None
        names, self.waiting = sorted(self.waiting), {}
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        return Finding(
            "no gradient",
            f"{shown} had no gradient in {self.seen} updates. Leave them out with players.0.parameters, or mend the objective",
            stop=True,
        )
