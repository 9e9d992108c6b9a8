"""The laws hold for every recipe in the index: each test here runs once a recipe, at its tiny size, on an embedded corpus."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from overture.cli import app
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


class Crew:
    """So many gloo processes that do `overture` commands together, one after the other."""

    def __init__(self, processes: int, folder: Path) -> None:
        self.processes, self.folder, self.number = processes, folder, 0
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.log = (folder / "log").open("w+")
        self.running = subprocess.Popen(
            [*command, "-m", "tests.laws.crew", str(folder)],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=Path(__file__).parents[2],
        )

    def __call__(self, words: list[str]) -> None:
        self._ask(words)
        answers = [self.folder / f"{self.number}.{rank}.done" for rank in range(self.processes)]
        self.number += 1
        until = time.monotonic() + 120
        while not all(a.exists() for a in answers):
            wrong = [a.read_text(encoding="utf8") for a in answers if a.exists()]
            if any(wrong) or self.running.poll() is not None or time.monotonic() > until:
                time.sleep(0.5)  # for the others to say what they found
                break
            time.sleep(0.02)
        said = {a.name: a.read_text(encoding="utf8") if a.exists() else "no answer" for a in answers}
        if any(said.values()):  # no AssertionError: an exempt law is broken by numbers, not by a crash
            log = (self.folder / "log").read_text(encoding="utf8")[-2000:]
            raise RuntimeError("\n".join([*(f"{name}: {text}" for name, text in said.items()), log]))

    def _ask(self, words: list[str]) -> None:
        part = self.folder / ".part"
        part.write_text(json.dumps(words), encoding="utf8")
        part.replace(self.folder / f"{self.number}.json")

    def dismiss(self) -> None:
        self._ask([])
        try:
            self.running.wait(20)
        except subprocess.TimeoutExpired:  # one hangs in a collective that another has left
            self.running.kill()
        self.log.close()


@pytest.fixture(scope="session")
def torchrun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    """Run `overture run` on several gloo processes; those of two stay for the next test."""
    crews: dict[int, Crew] = {}

    def go(processes: int, *arguments: str) -> None:
        if processes == 1:
            app(["run", *arguments], standalone_mode=False)
            return
        if processes not in crews:
            crews[processes] = Crew(processes, tmp_path_factory.mktemp(f"crew-{processes}"))
        try:
            crews[processes](["run", *arguments])
        except BaseException:
            crews.pop(processes).dismiss()  # the next test gets a fresh one
            raise

    yield go
    for crew in crews.values():
        crew.dismiss()


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
