"""The laws hold for every recipe in the index: each test here runs once a recipe, at its tiny size, on the embedded corpus."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from overture.config import flatten, override
from overture.recipes import INDEX, get
from overture.run import Run


@pytest.fixture(params=sorted(INDEX))
def recipe(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(recipe: str) -> Run:
    return get(f"{recipe}:tiny")


@pytest.fixture
def still(run: Run) -> Run:
    """The run without dropout, whose masks depend on how a batch is laid out."""
    return override(run, {name: "0" for name in flatten(run) if name.endswith("dropout")})


@pytest.fixture(scope="session")
def torchrun() -> Callable[..., str]:
    """Run `overture run` on several gloo processes; returns what they printed."""

    def go(processes: int, *arguments: str) -> str:
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            f"--nproc-per-node={processes}",
            "--standalone",
            "-m",
            "overture",
            "run",
            *arguments,
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return go


def tensors(folder: Path) -> dict[str, "object"]:
    """All tensors of the newest checkpoint of a run, whole also where they were written in shards."""
    import torch.distributed.checkpoint as dcp
    from safetensors import safe_open

    from overture.train.state import checkpoints

    path = checkpoints(folder)[-1]
    import torch

    shapes = {}
    for file in path.glob("*.safetensors"):
        with safe_open(file, "pt") as shard:
            meta = json.loads((shard.metadata() or {}).get("DCP_SHARDING_INFO", "{}"))
            for name in shard.keys():  # noqa: SIM118
                piece = shard.get_slice(name)
                at = meta.get(name, {}).get("saved_offsets", [0] * len(piece.get_shape()))
                end = [a + n for a, n in zip(at, piece.get_shape())]
                shapes[name] = [max(p) for p in zip(shapes.get(name, end), end)]
    found = {name: torch.zeros(shape) for name, shape in shapes.items()}
    dcp.load(found, storage_reader=dcp.HuggingFaceStorageReader(str(path)), no_dist=True)
    return found


__all__ = ["replace", "tensors"]
