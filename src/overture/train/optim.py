"""Optimizers and their rate. A parameter belongs to at most one player; one that belongs to none is frozen."""

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from overture.errors import OvertureError
from overture.run import Optim, Player


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


def build_optimizer(parameters: dict[str, nn.Parameter], config: Optim) -> torch.optim.AdamW:
    """AdamW with its state made at once (zeros), so that a checkpoint can be read into it. Only matrices decay."""
    groups = [
        {"params": [p for p in parameters.values() if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=config.lr, betas=config.betas, eps=config.eps, fused=True
    )
    for parameter in parameters.values():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }
    return optimizer


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


def clip_(parameters: Sequence[Tensor], largest: float) -> Tensor:
    """The norm of all gradients, which are scaled down to `largest` when it is above."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    return norm
