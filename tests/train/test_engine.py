"""overture.train.engine: several processes (gloo), sharded checkpoints read on another number of them, more ranks than rows."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from overture.train.engine import Engine, keep_freed_memory
from overture.train.state import checkpoints
from overture.train.track import read_metrics

from ..laws.conftest import tensors

SETTINGS = [x for s in ("model.dropout=0", "loop.updates=8", "loop.log_every=1") for x in ("--set", s)]


def test_a_sharded_checkpoint_goes_on_with_one_process(tmp_path: Path, torchrun: Callable[..., None]) -> None:
    torchrun(2, "tera:tiny", *SETTINGS, "--out", str(tmp_path), "--engine", "fsdp")
    (folder,) = tmp_path.iterdir()
    assert len(list(checkpoints(folder)[-1].glob("*.safetensors"))) == 2  # a shard a process
    two = tensors(folder)
    before = {r["update"]: r["loss"] for r in read_metrics(folder) if r["kind"] == "update"}
    shutil.rmtree(checkpoints(folder)[-1])  # as if it had been killed after update 4
    torchrun(1, "tera:tiny", *SETTINGS, "--out", str(tmp_path))
    one = tensors(folder)
    after = {r["update"]: r["loss"] for r in read_metrics(folder) if r["kind"] == "update"}
    assert one.keys() == two.keys() and after.keys() == before.keys()
    assert all(after[u] == pytest.approx(before[u], rel=1e-3) for u in before)
    for name in (n for n in one if n.startswith("model/")):
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=2e-4, msg=name)


def test_more_processes_than_utterances(tmp_path: Path, torchrun: Callable[..., None]) -> None:
    few = [
        *SETTINGS,
        "--where",
        "duration between 1.4 and 1.6 and language = 'en-US'",
        "--set",
        "plan.update=1.7",
    ]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=3", "--standalone", "-m", "overture"]
    done = subprocess.run(  # as a person starts it
        [*command, "run", "tera:tiny", *few, "--out", str(tmp_path / "three")],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    torchrun(1, "tera:tiny", *few, "--out", str(tmp_path / "one"))
    (three,), (one,) = list((tmp_path / "three").iterdir()), list((tmp_path / "one").iterdir())
    losses = [[r["loss"] for r in read_metrics(f) if r["kind"] == "update"] for f in (three, one)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3) and len(losses[0]) == 8


def test_precision_follows_the_machine_unless_asked() -> None:
    engine = Engine(0, 1, torch.device("cpu"))
    assert engine.bf16("bf16") and not engine.bf16("fp32")
    assert engine.bf16("auto") == bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    keep_freed_memory()  # has no effect but on speed, and must not fail
    assert float(engine.sum(torch.tensor(2.0))) == 2.0 and engine.first
