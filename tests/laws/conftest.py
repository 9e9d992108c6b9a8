"""The laws hold for every recipe in the index: each test here runs once a recipe, at its tiny size, on an embedded corpus."""

import json
import re
from pathlib import Path

import pytest

from overture.config import flatten, override
from overture.recipes import INDEX, get, load
from overture.run import Run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where a recipe says `EXEMPT = {5: "reason"}`, its law 5 must be broken: the day it holds, the test asks to say so no more."""
    for item in items:
        law, spec = re.match(r"test_law_(\d+)_", item.name), getattr(item, "callspec", None)
        if law and spec and "recipe" in spec.params:
            reason = getattr(load(spec.params["recipe"]), "EXEMPT", {}).get(int(law[1]))
            if reason:
                item.add_marker(pytest.mark.xfail(strict=True, reason=reason, raises=AssertionError))


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


def tensors(folder: Path) -> dict[str, "object"]:
    """All tensors of the newest checkpoint of a run, whole also where they were written in shards."""
    import torch
    import torch.distributed.checkpoint as dcp
    from safetensors import safe_open

    from overture.train.state import checkpoints

    path = checkpoints(folder)[-1]
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
