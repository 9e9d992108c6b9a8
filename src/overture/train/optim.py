"""Optimizers and their rate. A parameter belongs to at most one player; one that belongs to none is frozen."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from overture.errors import OvertureError
from overture.objectives import Loss
from overture.run import Optim, Player
from overture.train.health import GradientWatch
from overture.train.low_bit import AdamW8bit


def share_parameters(model: nn.Module, players: Sequence[Player]) -> list[dict[str, nn.Parameter]]:
    """Name -> parameter of each player, frozen ones left out; parameters that no player names become frozen.

    Raises OvertureError when two players claim one parameter or a player has none.
    """
    owner: dict[str, str] = {}
    shares = []
    for player in players:
        own = {n: p for n, p in model.named_parameters() if re.search(player.parameters, n) and p.requires_grad}
        if not own:
            raise OvertureError(f"player {player.name!r}: no trainable parameter matches {player.parameters!r}")
        for name in own:
            if name in owner:
                raise OvertureError(f"parameter {name!r} is claimed by players {owner[name]!r} and {player.name!r}")
            owner[name] = player.name
        if player.frozen_updates and len(_frozen(player, own)) in (0, len(own)):
            raise OvertureError(
                f"player {player.name!r}: {player.frozen!r} freezes {len(_frozen(player, own))} of its {len(own)} parameters for "
                f"{player.frozen_updates} updates; name some of them, and leave some to learn"
            )
        shares.append(own)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in owner)
    return shares


def _frozen(player: Player, own: dict[str, nn.Parameter]) -> list[nn.Parameter]:
    return [p for n, p in own.items() if re.search(player.frozen, n)]


def frozen_now(player: Player, own: dict[str, nn.Parameter], update: int) -> list[nn.Parameter]:
    """Those of a player's `own` parameters that do not learn in update `update` (from 0): no gradient, no decay, no moments."""
    return _frozen(player, own) if update < player.frozen_updates else []


def build_optimizer(parameters: dict[str, nn.Parameter], config: Optim) -> torch.optim.Optimizer:
    """AdamW with its state made at once (zeros), so that a checkpoint can be read into it. Only matrices decay.

    Raises OvertureError where its states are to be of 8 bits and cannot.
    """
    groups = [
        {"params": [p for p in parameters.values() if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if config.states == "8bit":
        return AdamW8bit(groups, config)
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
    for parameter in parameters.values():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }
    return optimizer


class InBackward:
    """Lets each parameter of an optimizer step as soon as its gradient is whole and frees that gradient, so that there is never more than one."""

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        config: Optim,
        world: int,
        watch: GradientWatch,
    ) -> None:
        """Raises OvertureError for what needs all gradients at once: clipping, and several processes."""
        if config.clip is not None:
            raise OvertureError(
                f"optim.in_backward knows no norm of the whole gradient to clip it by (optim.clip={config.clip:g}): set optim.clip=none"
            )
        if world > 1:
            raise OvertureError("optim.in_backward works on one device: leave it out, and shard with --engine fsdp")
        self.optimizer, self.watch = optimizer, watch
        self.steps = False  # else gradients are computed, and freed
        self.scale = 1.0
        self.finite = True
        self.square = torch.zeros(())  # of the norm of the gradients so far
        for parameter in parameters.values():
            parameter.register_post_accumulate_grad_hook(self._arrived)

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """Parameters step in the backward passes within."""
        self.steps = True
        try:
            yield
        finally:
            self.steps = False

    def begin(self, loss: Loss) -> None:
        """Call before the backward pass of `loss`, whose gradient is divided by its number of targets."""
        self.scale = 1.0 / max(float(loss.targets), 1.0)
        self.square = torch.zeros((), device=loss.sum.device)
        self.finite = math.isfinite(float(loss.sum.detach()))

    @property
    def norm(self) -> float:
        """Of the gradient of the last backward pass."""
        return float(self.square.sqrt())

    @torch.no_grad()
    def _arrived(self, parameter: Tensor) -> None:
        assert isinstance(parameter, nn.Parameter) and parameter.grad is not None
        parameter.grad.mul_(self.scale)
        square = parameter.grad.float().square().sum()
        self.square += square
        self.watch.saw(parameter)
        if self.steps and self.finite and math.isfinite(float(square)):
            self.optimizer.step()  # of the one parameter that has a gradient
        parameter.grad = None


def rate(config: Optim, update: int, updates: int) -> float:
    """Learning rate of update `update` (from 0) of `updates`: linear warm-up, hold, linear or exponential decay.

    Raises OvertureError for an exponential decay to nothing.
    """
    if config.decay == "exponential" and config.final <= 0:
        raise OvertureError("optim.decay=exponential never comes to 0: set optim.final above it, as in 0.05")
    done = (update + 1) / updates
    if done < config.warmup:
        return config.lr * done / config.warmup
    decay = 1.0 - config.warmup - config.hold
    if decay <= 0 or done <= config.warmup + config.hold:
        return config.lr
    # The last update still learns: the rate reaches `final` one update after it.
    left = min(1.0, (1.0 - done + 1.0 / updates) / (decay + 1.0 / updates))
    if config.decay == "exponential":
        return config.lr * math.pow(config.final, 1.0 - left)
    return config.lr * (config.final + (1.0 - config.final) * left)


def clip_(parameters: Sequence[Tensor], largest: float | None) -> Tensor:
    """The norm of all gradients, which are scaled down to `largest` when it is above; None: they are left as they are."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if largest is None:
        return norm
    torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    return norm
