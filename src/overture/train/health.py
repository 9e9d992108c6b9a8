"""Health: rules that stop a run and name the cause.

A collapse often looks like success (the loss falls to zero because nothing is left to tell apart), so each rule watches a
cause and not the loss. Every rule has a test that plants its illness. A rule that `loop.tolerate` names is recorded and does not
stop, for the arm of a claim that is meant to fall ill.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from overture.errors import OvertureError, near

SAMPLE = 512  # frames that variance and rank are measured on
SETTLED = 50  # updates before which no collapse is looked for
VARIANCE, RANK = 1e-4, 1.5
PERPLEXITY, TOP = 1.5, 0.98
UNTOLD = 1.0  # what least squares cost a critic that gives everything the answer for what was made

Numbers = Mapping[str, float]


class IllRun(OvertureError):
    """A rule stopped the run."""


@dataclass(frozen=True)
class Finding:
    """What a rule found."""

    rule: str
    message: str


@dataclass(frozen=True)
class Rule:
    """`check` gets the numbers of a logged update and of the logged update before, and returns what is wrong, or nothing."""

    name: str
    watch: str  # the number it needs; silent where that is not measured
    check: Callable[[Numbers, Numbers], str | None]
    limit: float | None = None
    fires: Literal["below", "above"] = "below"  # its limit


def _vanished_variance(n: Numbers, before: Numbers) -> str | None:
    if n["update"] < SETTLED or n["variance"] > VARIANCE:
        return None
    return (
        f"the encoder gives nearly the same vector for every frame (standard deviation {n['variance']:.1e}): it has collapsed. "
        "Lower optim.lr or lengthen optim.warmup"
    )


def _vanished_rank(n: Numbers, before: Numbers) -> str | None:
    if n["update"] < SETTLED or n["rank"] > RANK:
        return None
    return (
        f"the encoder's output has effective rank {n['rank']:.2f} of {n['dim']:.0f}: all frames lie on one line. "
        "Lower optim.lr or lengthen optim.warmup"
    )


def _collapsed_codebook(n: Numbers, before: Numbers) -> str | None:
    """Twice in a row: one micro-batch of few frames may have one code by chance."""

    def collapsed(numbers: Numbers) -> bool:
        few = numbers.get("code_perplexity", math.inf) < PERPLEXITY or numbers.get("top_code", 0.0) > TOP
        return numbers.get("update", 0) >= SETTLED and few

    if not (collapsed(n) and collapsed(before)):
        return None
    return (
        f"nearly all frames have one code (perplexity {n['code_perplexity']:.2f}): nothing is left to tell apart, and a loss near zero "
        "means nothing. Keep negatives that equal the positive, raise the weight of the diversity loss, anneal the temperature more "
        "slowly, or lower optim.lr"
    )


def _stuck_temperature(n: Numbers, before: Numbers) -> str | None:
    """Only the first two logged updates are compared: later the schedule may have reached its least value."""
    if before.get("update") != 1 or n["temperature"] != before.get("temperature"):
        return None
    return (
        f"the Gumbel temperature is {n['temperature']:g} at update {n['update']:.0f} as at update 1: its schedule does not move. "
        "Compute it from draws.update; where it is meant to stay, say so in loop.tolerate"
    )


def _diverging_discriminator(n: Numbers, before: Numbers) -> str | None:
    """Twice in a row: one micro-batch may be an odd one."""

    def lost(numbers: Numbers) -> bool:
        return numbers.get("update", 0) >= SETTLED and numbers.get("discriminator_loss", 0.0) > UNTOLD

    if not (lost(n) and lost(before)):
        return None
    return (
        f"the discriminators' loss is {n['discriminator_loss']:.2f} each, and one that always says no would have {UNTOLD:g}: they diverge, and "
        "the generator follows them. Lower optim.lr of their player, or clip its gradient with optim.clip"
    )


STUCK = "stuck temperature"
RULES = (
    Rule("vanished variance", "variance", _vanished_variance, VARIANCE),
    Rule("vanished rank", "rank", _vanished_rank, RANK),
    Rule("collapsed codebook", "code_perplexity", _collapsed_codebook, PERPLEXITY),
    Rule(STUCK, "temperature", _stuck_temperature),
    Rule("diverging discriminator", "discriminator_loss", _diverging_discriminator, UNTOLD, "above"),
)
NOT_FINITE, NO_GRADIENT, FROZEN = "not finite", "no gradient", "frozen codebook"

# What each rule on numbers watches, for the report.
WATCHED: dict[str, dict[str, str | float]] = {NOT_FINITE: {"watch": "loss"}}
for _rule in RULES:
    WATCHED[_rule.name] = {"watch": _rule.watch}
    if _rule.limit is not None:
        WATCHED[_rule.name] |= {"limit": _rule.limit, "fires": _rule.fires}


def check_tolerated(names: Iterable[str]) -> None:
    """Raises OvertureError for a name in `loop.tolerate` that is no rule, or of the one without which nothing would be left to train."""
    known = {r.name for r in RULES} | {NO_GRADIENT, FROZEN}
    for name in names:
        if name not in known:
            raise OvertureError(f"loop.tolerate: {name!r} is no rule that can be tolerated. {near(name, known)}")


def check_finite(loss: float, norm: float) -> Finding | None:
    """A finding when the loss of an update or the norm of its gradient is not finite."""
    if math.isfinite(loss) and math.isfinite(norm):
        return None
    return Finding(
        NOT_FINITE,
        f"loss {loss}, gradient norm {norm}: the weights were not touched by this update. "
        "Lower optim.lr, or set loop.precision=fp32; the rows of the update stand in bad_update.json",
    )


class Watch:
    """Holds the numbers of each logged update against the rules, and remembers those of the one before."""

    def __init__(self, resting: Collection[str] = ()) -> None:
        """`resting`: rules that are not asked, since what they watch is not meant to move in this run."""
        self.before: Numbers = {}
        self.rules = [rule for rule in RULES if rule.name not in resting]

    def check(self, numbers: Numbers) -> list[Finding]:
        """What the rules find in the numbers of a logged update: `update` (from 1), those of `spread`, and what the objective watches."""
        known = [rule for rule in self.rules if rule.watch in numbers]
        found = [Finding(r.name, message) for r in known if (message := r.check(numbers, self.before))]
        self.before = numbers
        return found


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


def _any(tensor: Tensor) -> bool:
    """Whether an element is not zero, on whichever device: a shard may be empty, and all devices must come to one verdict."""
    if not isinstance(tensor, DTensor):
        return bool(tensor.any())
    found = tensor.to_local().any().float()
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found)


class GradientWatch:
    """Which trainable parameters have not had a gradient yet. Looks only until all had one, or `patience` updates."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], patience: int = 20) -> None:
        self.waiting, self.patience, self.seen = dict(parameters), patience, 0

    def saw(self, parameter: nn.Parameter) -> None:
        """Call for a parameter whose gradient will be gone when `look` is called."""
        if self.waiting and parameter.grad is not None and _any(parameter.grad):
            self.waiting = {n: p for n, p in self.waiting.items() if p is not parameter}

    def look(self) -> Finding | None:
        """Call after each backward pass; a finding when patience is over and parameters are still without gradient."""
        if not self.waiting:
            return None
        self.seen += 1
        self.waiting = {n: p for n, p in self.waiting.items() if p.grad is None or not _any(p.grad)}
        if self.seen < self.patience or not self.waiting:
            return None
        names, self.waiting = sorted(self.waiting), {}
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        return Finding(
            NO_GRADIENT,
            f"{shown} had no gradient in {self.seen} updates. Leave them out with players.0.parameters, or mend the objective",
        )


class MotionWatch:
    """Whether the codebooks move: the parameters and buffers of `model` in whose names one of `patterns` is found.

    A gradient is not enough (a codebook may be in no optimizer) and not needed (one of moving averages has none), so the values
    themselves are compared, once, `patience` updates after the first look.
    """

    def __init__(self, model: nn.Module, patterns: Iterable[str], patience: int = 20) -> None:
        """Raises OvertureError when nothing in the model has such a name."""
        self.model, self.patience, self.seen = model, patience, 0
        self.names: set[str] = set()
        self.first: dict[str, Tensor] = {}
        tensors = self._tensors()
        for pattern in patterns:
            found = {name for name in tensors if re.search(pattern, name)}
            if not found:
                raise OvertureError(
                    f"the objective says that {pattern!r} learns, but no parameter or buffer has such a name"
                )
            self.names |= found

    def _tensors(self) -> dict[str, Tensor]:
        return {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}

    @torch.no_grad()
    def look(self) -> Finding | None:
        """Call after each update; a finding when patience is over and one of the tensors is what it was at the first look."""
        if not self.names or self.seen > self.patience:
            return None
        self.seen += 1
        if self.seen == 1:
            tensors = self._tensors()
            self.first = {name: tensors[name].detach().clone() for name in self.names}
        if self.seen <= self.patience:
            return None
        tensors, first, self.first = self._tensors(), self.first, {}
        still = [name for name in sorted(self.names) if not _any(tensors[name] != first[name])]
        if not still:
            return None
        return Finding(
            FROZEN,
            f"{', '.join(still)} did not change in {self.patience} updates, though the objective learns it. "
            "See whether players.0.parameters names it, whether its targets are detached, and whether its updates are called",
        )
