"""overture.train.health: each rule fires on its illness, planted in a real run, and on nothing else."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from overture.objectives.reconstruction import MaskedReconstruction
from overture.recipes import get
from overture.run import Run
from overture.train import health
from overture.train.engine import Engine
from overture.train.loop import train
from overture.train.track import read_metrics


@dataclass(frozen=True, kw_only=True)
class Ill(MaskedReconstruction):
    """The objective of TERA with an illness planted in what it returns."""

    illness: str = ""

    def __call__(self, model: Any, batch: Any, draws: Any) -> Any:
        loss = super().__call__(model, batch, draws)
        frames = loss.frames
        if self.illness == "variance":  # all frames are one vector, as after a collapse
            frames = frames[:1].expand(len(frames), -1) + 1e-6 * frames
        if self.illness == "rank":  # all frames lie on one line
            frames = frames[:, :1] * torch.linspace(-1, 1, frames.shape[1])
        if self.illness == "unused":  # the head is left out of the loss, its parameters never learn
            output = model(batch.x, batch.valid)
            return loss._replace(sum=output.last_hidden_state.square().sum())
        if self.illness == "nan" and draws.update == 3:
            return loss._replace(sum=loss.sum * float("nan"))
        return loss._replace(frames=frames)


def run(illness: str, updates: int = 60) -> Run:
    tiny = get("tera:tiny")
    player = replace(tiny.players[0], objective=Ill(illness=illness))
    return replace(
        tiny, players=(player,), loop=replace(tiny.loop, updates=updates, log_every=5, checkpoint_every=1000)
    )


@pytest.mark.parametrize(
    ("illness", "rule", "words"),
    [
        ("variance", "vanished variance", "collapsed"),
        ("rank", "vanished rank", "one line"),
        ("unused", "no gradient", "head"),
        ("nan", "not finite", "weights were not touched"),
    ],
)
def test_a_planted_illness_stops_the_run_with_its_cause(illness: str, rule: str, words: str, tmp_path: Path) -> None:
    with Engine.start() as engine, pytest.raises(health.IllRun, match=words):
        train(run(illness), tmp_path, engine=engine)
    (finding,) = [r for r in read_metrics(tmp_path) if r["kind"] == "health"]
    assert finding["rule"] == rule and finding["stopped"]
    assert json.loads((tmp_path / "bad_update.json").read_text())["rows"]


def test_a_healthy_run_has_no_finding(tmp_path: Path) -> None:
    with Engine.start() as engine:
        assert train(run(""), tmp_path, engine=engine).finished
    assert [r for r in read_metrics(tmp_path) if r["kind"] == "health"] == []


def test_spread_measures_rank_and_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    full = torch.randn(512, 8, generator=generator)
    assert health.spread(full)["rank"] == pytest.approx(8, abs=0.2)
    assert health.spread(full * 3)["variance"] == pytest.approx(3, abs=0.2)
    assert health.spread(full + 100)["variance"] == pytest.approx(1, abs=0.1)  # a shift is no variance
    plane = full[:, :2] @ torch.randn(2, 8, generator=generator)
    assert health.spread(plane)["rank"] <= 2.01
    assert health.spread(torch.ones(100, 8)) == {"variance": 0.0, "rank": 0.0, "dim": 8.0}


def test_every_rule_is_described_for_the_report() -> None:
    assert {r.name for r in health.RULES} == set(health.WATCHED)
