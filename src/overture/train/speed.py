"""How fast a run is on this machine, without leaving a trace of it: what `overture bench` shows and `compare` budgets by."""

import statistics
import time
from typing import Any

import torch

from overture.run import Run
from overture.train.engine import Engine
from overture.train.examples import Training
from overture.train.loop import Trainer


def measure(run: Run, updates: int) -> dict[str, Any]:
    """Seconds and FLOPs of `updates` updates after a first one to warm up, and rates that follow from them."""
    with Engine.start() as engine:
        training = Training.prepare(run)
        trainer = Trainer(run, engine)
        flops = trainer.try_largest(training)
        largest = training.plan.largest()
        per_second = flops / (len(largest) * float(training.plan.lengths[largest].max()))
        stream = training.stream(0, trainer.state.position, engine)
        seconds, padded, real, targets = [], 0.0, 0.0, 0.0
        try:
            for number in range(updates + 1):
                begun = time.perf_counter()
                rows, batches = next(stream)
                _, result, _ = trainer.step(batches)
                trainer.state.update += 1
                if number:
                    seconds.append(time.perf_counter() - begun)
                    padded += len(rows) * float(training.plan.lengths[rows].max())
                    real += float(training.plan.lengths[rows].sum())
                    targets += result.targets
        finally:
            stream.close()  # type: ignore[attr-defined]
        total = sum(seconds)
        unit = "audio seconds" if training.examples.unit == "seconds" else "tokens"
        peak = matrix_peak(engine, trainer.bf16)
        return {
            "device": str(engine.device),
            "precision": "bf16" if trainer.bf16 else "fp32",
            "parameters": sum(p.numel() for p in trainer.state.model.parameters()),
            "seconds per update": statistics.median(seconds),
            f"{unit} per update": real / updates,
            f"{unit} per second": real / total,
            "targets per second": targets / total,
            "padding": 1 - real / padded,
            "GFLOP per update": per_second * padded / updates / 1e9,
            "GFLOP/s": per_second * padded / total / 1e9,
            "matrix product peak GFLOP/s": peak / 1e9,
            "share of peak": per_second * padded / total / peak,
        }


def matrix_peak(engine: Engine, bf16: bool, seconds: float = 0.5) -> float:
    """FLOP/s of a 2048-cube matrix product on this device in the run's precision."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    a, b = (torch.randn(2048, 2048, device=engine.device).to(dtype) for _ in range(2))

    def sync() -> None:
        if engine.device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        a @ b
    sync()
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        a @ b
        sync()
        count += 1
    return 2 * 2048**3 * count / (time.perf_counter() - begun)
