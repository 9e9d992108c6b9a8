"""State: everything that decides the next number, and its checkpoints.

Random draws are functions of (seed, update, row), so no generator is kept. A checkpoint is a folder of safetensors (written
through torch's distributed checkpoint, hence readable on any number of devices) and a `state.json`; nothing is pickled. It is
written beside the last one and renamed when it is whole and on disk, so a kill at any moment leaves a whole one behind.
"""

import json
import os
import re
import shutil
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn

from overture.data.plan import Position
from overture.errors import OvertureError
from overture.models.transforms.linear import factored, merged
from overture.train.engine import Engine


@dataclass
class State:
    """A run between two updates."""

    model: nn.Module
    optimizers: dict[str, torch.optim.Optimizer]  # by player
    ema: dict[str, Tensor] | None = None  # by parameter name
    update: int = 0  # updates done
    position: Position = field(default_factory=Position)
    seconds: float = 0.0  # of training, over all starts
    seen: float = 0.0  # s of audio or tokens, without padding
    targets: float = 0.0

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state by a flat name; the very tensors, so reading into them restores the state."""
        flat = {f"model/{name}": value for name, value in stored(self.model).items()}
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.model.named_parameters()}
        for player, optimizer in self.optimizers.items():
            for parameter, values in optimizer.state.items():
                flat |= {f"optim/{player}/{names[parameter]}/{key}": value for key, value in values.items()}
        flat |= {f"ema/{name}": value for name, value in (self.ema or {}).items()}
        return flat

    def numbers(self) -> dict[str, Any]:
        return {
            "update": self.update,
            "position": asdict(self.position),
            "seconds": self.seconds,
            "seen": self.seen,
            "targets": self.targets,
        }

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """Move the average of the weights towards the weights."""
        if self.ema is not None:
            for name, parameter in self.model.named_parameters():
                if name in self.ema:
                    self.ema[name].lerp_(parameter.detach(), 1 - decay)


def stored(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a model by name, each once: of parameters that are tied the first name alone; nothing of a published network
    that does not learn, and is found again where it is."""
    once = {name for name, _ in model.named_parameters()}
    again = {name for name, _ in model.named_parameters(remove_duplicate=False)} - once
    elsewhere = tuple(f"{name}." for name, m in model.named_modules() if getattr(m, "kept_elsewhere", False))
    return {
        name: value
        for name, value in model.state_dict().items()
        if name not in again and not name.startswith(elsewhere)
    }


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints of a run, oldest first."""
    found = [
        p
        for p in (folder / "checkpoints").glob("update-*")
        if re.fullmatch(r"update-\d{8}", p.name) and (p / "state.json").exists()
    ]
    return sorted(found)


def update_of(path: Path) -> int:
    """How many updates a checkpoint is of."""
    return int(path.name.removeprefix("update-"))


def save(state: State, folder: Path, engine: Engine, *, keep: int, always: Collection[int] = ()) -> Path:
    """Write a checkpoint under `folder`; older ones than the `keep` newest are removed afterwards, but for those of the updates `always`.

    Raises OvertureError when it cannot be written (disk full, no permission); earlier checkpoints stay as they were.
    """
    home = folder / "checkpoints"
    final = home / f"update-{state.update:08d}"
    part = home / f".part-{state.update:08d}"
    try:
        if engine.first:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        engine.barrier()
        with _quiet():
            dcp.save(state.tensors(), storage_writer=dcp.HuggingFaceStorageWriter(str(part), save_distributed=True))
        engine.barrier()
        if engine.first:
            (part / "state.json").write_text(json.dumps(state.numbers(), indent=1), encoding="utf8")
            for file in part.iterdir():
                _sync(file)
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
            _sync(home)
            for old in [path for path in checkpoints(folder) if update_of(path) not in always][:-keep]:
                shutil.rmtree(old, ignore_errors=True)
    except (OSError, dcp.CheckpointException) as error:
        shutil.rmtree(part, ignore_errors=True)
        last = checkpoints(folder)
        kept = f"{last[-1]} is whole" if last else "there is no earlier one"
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise OvertureError(
            f"the checkpoint of update {state.update} could not be written to {home}: {reason}. {kept}. Make room and give the same command again."
        ) from error
    engine.barrier()
    return final


def restore(state: State, folder: Path) -> bool:
    """Read the newest whole checkpoint of the run in `folder` into `state`; False when there is none.

    Raises OvertureError when it is damaged or of another model.
    """
    found = checkpoints(folder)
    if not found:
        return False
    path = found[-1]
    try:
        with _quiet():
            dcp.load(state.tensors(), storage_reader=dcp.HuggingFaceStorageReader(str(path)))
        numbers = json.loads((path / "state.json").read_text(encoding="utf8"))
        state.position = Position(**numbers.pop("position"))
        for name, value in numbers.items():
            setattr(state, name, value)
    except (OSError, ValueError, KeyError, dcp.CheckpointException) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise OvertureError(
            f"{path} cannot be read ({reason}). Remove that folder to go on from the one before."
        ) from error
    return True


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint by name (the averaged ones where the run kept an average), of whatever model; nothing of an optimizer.
    Of layers under a transform the dense matrices that they make.

    Raises OvertureError when it is damaged.
    """
    from safetensors import SafetensorError

    try:
        with _quiet():
            known = dcp.HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
            names = [n.removeprefix("model/") for n in known if n.startswith("model/")]
            source = {n: (f"ema/{n}" if f"ema/{n}" in known else f"model/{n}") for n in names}
            stored: dict[str, Any] = {s: known[s] for s in source.values()}
            weights = {s: torch.empty(about.size, dtype=about.properties.dtype) for s, about in stored.items()}
            dcp.load(weights, storage_reader=dcp.HuggingFaceStorageReader(str(path)), no_dist=True)
    except (OSError, ValueError, KeyError, dcp.CheckpointException, SafetensorError) as error:
        raise OvertureError(f"{path} cannot be read ({type(error).__name__}: {error})") from error
    return merged({n: weights[s] for n, s in source.items()})


def load_weights(path: Path, model: nn.Module) -> None:
    """The weights of a checkpoint (the averaged ones where the run kept an average) into `model`, all of them or an error; into a dense
    network also those that were trained under a transform."""
    from safetensors import safe_open

    names = set()
    for file in path.glob("*.safetensors"):
        with safe_open(file, framework="pt") as shard:
            names |= set(shard.keys())
    own = stored(model)
    if factored({n.removeprefix("model/"): None for n in names}) and not factored(own):
        _copy(read_weights(path), own, path)
        return
    source = {n: (f"ema/{n}" if f"ema/{n}" in names else f"model/{n}") for n in own}
    if missing := [n for n, s in source.items() if s not in names]:
        raise OvertureError(f"{path} has no weights for {', '.join(missing[:5])}: it is of another model")
    with _quiet():
        weights = {s: own[n] for n, s in source.items()}
        try:
            dcp.load(weights, storage_reader=dcp.HuggingFaceStorageReader(str(path)), no_dist=True)
        except (ValueError, dcp.CheckpointException) as error:
            raise OvertureError(f"{path} has weights of other sizes: it is of another model") from error


@torch.no_grad()
def _copy(weights: dict[str, Tensor], own: dict[str, Tensor], path: Path) -> None:
    """`weights` into the tensors of a network, all of them or an error."""
    if wrong := [n for n, v in own.items() if n not in weights or weights[n].shape != v.shape]:
        raise OvertureError(f"{path} has no weights of that size for {', '.join(wrong[:5])}: it is of another model")
    for name, value in own.items():
        value.copy_(weights[name])


@contextmanager
def _quiet() -> Iterator[None]:
    """torch warns at each single-process checkpoint that it is single-process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
