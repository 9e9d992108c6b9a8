"""AdamW whose moments are stored in 8 bits, with a scale for each 256 numbers (Dettmers et al. 2022, arXiv:2110.02861), by bitsandbytes' kernels.

Its own optimizer keeps the number of steps outside of tensors, updates a matrix in one piece, which on a CPU takes six times its memory, and
compiles what it does with small tensors. Here the state is tensors alone, so it is stored and goes on to the bit, and a large tensor is
updated piece by piece.
"""

from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim.adamw import adamw

from overture.errors import MissingExtra, OvertureError
from overture.run import Optim

SMALLEST = 4096  # numbers of a tensor below which its moments stay in fp32, as in the paper
BLOCK, PIECE = 256, 2**20  # numbers of one scale, and that are updated at once


class AdamW8bit(torch.optim.Optimizer):
    """Its state is made at once, so that a checkpoint can be read into it."""

    def __init__(self, groups: list[dict[str, Any]], config: Optim) -> None:
        """Raises MissingExtra without bitsandbytes, OvertureError for sharded parameters."""
        try:
            from bitsandbytes import functional
        except ImportError as error:
            raise MissingExtra("bits", "optim.states=8bit") from error
        super().__init__(groups, {"lr": config.lr, "betas": config.betas, "eps": config.eps})
        self.update = functional.optimizer_update_8bit_blockwise
        tables = [functional.create_dynamic_map(signed=signed) for signed in (True, False)]
        self.tables: dict[torch.device, list[torch.Tensor]] = {}  # code -> number, of both moments
        for parameter in (p for group in self.param_groups for p in group["params"]):
            if isinstance(parameter, DTensor):
                raise OvertureError("optim.states=8bit cannot be sharded: use --engine ddp, or leave optim.states out")
            device, count = parameter.device, parameter.numel()
            if count < SMALLEST:
                self.state[parameter] = {
                    "step": torch.zeros((), device=device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
                continue
            self.tables.setdefault(device, [table.to(device) for table in tables])
            self.state[parameter] = {"step": torch.zeros(())} | {
                name: torch.zeros(size, dtype=kind, device=device)
                for i in (1, 2)
                for name, size, kind in (
                    (f"codes{i}", count, torch.uint8),
                    (f"scales{i}", -(-count // BLOCK), torch.float32),
                )
            }

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of the parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    (self._small if parameter.numel() < SMALLEST else self._large)(parameter, group)

    def _small(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        adamw(
            [parameter],
            [gradient],
            [state["exp_avg"]],
            [state["exp_avg_sq"]],
            [],
            [state["step"]],
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
        )

    def _large(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        state, tables = self.state[parameter], self.tables[parameter.device]
        state["step"] += 1
        flat, gradient = parameter.view(-1), parameter.grad.reshape(-1)
        for first in range(0, len(flat), PIECE):
            of, scales = slice(first, first + PIECE), slice(first // BLOCK, (first + PIECE) // BLOCK)
            self.update(
                "adam",  # decay as AdamW's
                gradient[of],
                flat[of],
                state["codes1"][of],
                state["codes2"][of],
                *group["betas"],
                0.0,
                0.0,
                group["eps"],
                int(state["step"]),
                group["lr"],
                *tables,
                state["scales1"][scales],
                state["scales2"][scales],
                group["weight_decay"],
            )
