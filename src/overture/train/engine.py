"""Devices: one process, or several under `torchrun` with DDP or FSDP2.

The loop asks four things of an engine: where am I, wrap this, sum that over all, and do not synchronise yet.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.objectives import Loss
from overture.run import Objective

Kind = Literal["ddp", "fsdp"]


class TrainStep(nn.Module):
    """A model and its objective as one module, so that DDP and FSDP see every forward pass."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch, draws: Draws) -> Loss:
        loss: Loss = self.objective(self.model, batch, draws)
        return loss


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for the next update instead of giving it back to the system.

    Each update allocates the same large tensors; without this every one of them is mapped and zeroed by the kernel anew (30,000
    page faults and 8 % of the time of an update of 60 s at H=256). Does nothing where the C library is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: no allocation by mmap
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


@dataclass(frozen=True)
class Engine:
    """This process among `world` of them."""

    rank: int
    world: int
    device: torch.device
    kind: Kind = "ddp"

    @classmethod
    @contextmanager
    def start(cls, kind: Kind = "ddp") -> Iterator["Engine"]:
        """Join the processes that `torchrun` started, if it did, and leave them at the end; not where whoever calls has joined them."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        local = int(os.environ.get("LOCAL_RANK", "0"))
        cuda = torch.cuda.is_available()
        device = torch.device("cuda", local) if cuda else torch.device("cpu")
        keep_freed_memory()
        if cuda:
            torch.cuda.set_device(device)
        if world == 1:
            yield cls(0, 1, device, kind)
            return
        joins = not dist.is_initialized()
        if joins:
            dist.init_process_group("nccl" if cuda else "gloo")
        try:
            yield cls(dist.get_rank(), world, device, kind)
        finally:
            if joins:
                dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """True on the one process that writes and prints."""
        return self.rank == 0

    def shard(self, model: nn.Module) -> None:
        """Under FSDP2, split the parameters of `model` over all processes, in place, one group a Transformer layer."""
        if self.world > 1 and self.kind == "fsdp":
            for layer in getattr(model, "layers", []):
                fully_shard(layer)

    def wrap(self, step: TrainStep) -> nn.Module:
        """`step` with gradients averaged over all processes."""
        if self.world == 1:
            return step
        if self.kind == "fsdp":
            fully_shard(step)
            return step
        return DistributedDataParallel(step, broadcast_buffers=False)

    @contextmanager
    def accumulate(self, wrapped: nn.Module, *, last: bool) -> Iterator[None]:
        """A forward and backward pass whose gradients are exchanged only when it is the `last` of an update."""
        if isinstance(wrapped, DistributedDataParallel) and not last:
            with wrapped.no_sync():
                yield
            return
        if isinstance(wrapped, FSDPModule):
            wrapped.set_requires_gradient_sync(last)
        yield

    def sum(self, tensor: Tensor) -> Tensor:
        """`tensor` summed over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def barrier(self) -> None:
        if self.world > 1:
            dist.barrier()

    def bf16(self, precision: str) -> bool:
        """Whether to multiply in bf16: as asked, or where the machine has instructions for it."""
        if precision != "auto":
            return precision == "bf16"
        if self.device.type == "cuda":
            return bool(torch.cuda.is_bf16_supported())
        cpu: Any = torch.cpu
        return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())
