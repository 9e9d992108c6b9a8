"""overture.recipes.bert2bert: the published sizes, what the arms of the claim share, and growth from the command line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from overture.cli import app
from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.models.axes import axes
from overture.models.surgery import Maps
from overture.models.text import Bert
from overture.models.wav2vec2 import Wav2Vec2
from overture.objectives.submodels import SubModels
from overture.recipes import get
from overture.recipes.bert2bert import HALF, SOURCE, UPDATES, claim, claim_speech, published_source
from overture.run import Grow, Run
from overture.study import Arm
from overture.train.engine import Engine
from overture.train.loop import Trainer


@pytest.fixture(scope="module")
def arms() -> dict[str, Arm]:
    return {a.name: a for a in claim().study.arms}


@pytest.mark.parametrize(("size", "d", "f"), [("published", 768, 3072), ("source", 512, 2048)])
def test_the_published_sizes(size: str, d: int, f: int) -> None:
    """BERT-base and S(12,512), counted by hand; heads are of 64 in both, so that the one can become the other."""
    run = published_source() if size == "source" else get("bert2bert:published")
    with torch.device("meta"):
        model = run.model.build(run.frontend)
    layer = 4 * (d * d + d) + (d * f + f) + (f * d + d) + 4 * d
    embeddings = 30_522 * d + 512 * d + 2 * d + 2 * d
    head = d * d + d + 2 * d + 30_522  # its weights are the embedding's
    assert sum(p.numel() for p in model.parameters()) == embeddings + 12 * layer + head
    assert size == "source" or sum(p.numel() for p in model.parameters()) == 109_514_298
    assert isinstance(run.model, Bert) and run.model.dim // run.model.heads == 64
    Maps.drawn(axes(HALF), axes(run.model), 0)  # fits


def test_arms_see_the_same_in_as_many_updates_and_begin_anew(arms: dict[str, Arm]) -> None:
    assert list(arms) == ["scratch", "DirectCopy", "stack", "FPI", "AKI", "AKI, two stages"]
    assert {a.rates for a in arms.values()} == {(5e-4, 1e-3)}  # the baselines are tuned as ours are
    for arm in arms.values():
        own = [r for r in (*arm.stages, arm.run) if r.model == arms["scratch"].run.model]
        assert sum(r.loop.updates for r in own) == UPDATES
        assert all(r.data == arms["scratch"].run.data and r.plan == own[0].plan for r in own)
        assert all(r.players[0].optim == own[0].players[0].optim and r.players[0].optim.warmup > 0 for r in own)
        assert [r.grow for r in own if r.grow] == [r.grow for r in own[:1] if r.grow]  # what grows is the first of them


def test_one_small_network_is_grown_in_all_ways_and_stacking_has_one_of_full_width(arms: dict[str, Arm]) -> None:
    """A study trains a stage that arms share once a seed: those of one fingerprint."""
    small = {a.stages[0].fingerprint for n, a in arms.items() if n in ("DirectCopy", "FPI", "AKI", "AKI, two stages")}
    assert len(small) == 1 and arms["AKI"].stages[0].loop.updates == SOURCE
    (shallow,) = arms["stack"].stages
    assert shallow.model == replace(arms["stack"].run.model, layers=2)  # type: ignore[type-var]
    assert {n: a.run.grow and a.run.grow.method for n, a in arms.items()} == {
        "scratch": None,
        "DirectCopy": "copy",
        "stack": "stack",
        "FPI": "fpi",
        "AKI": "aki",
        "AKI, two stages": None,
    }
    _, bottom_up = arms["AKI, two stages"].stages
    assert bottom_up.grow == Grow(method="aki") and bottom_up.players[0].objective == SubModels(block=2)


def test_arms_are_looked_at_after_as_many_updates(arms: dict[str, Arm]) -> None:
    looks = arms["scratch"].run.loop.keep_at
    assert looks is not None and looks[0] == 0 and looks[-1] == UPDATES and len(looks) == 10
    assert all(a.run.loop.keep_at == looks for n, a in arms.items() if n != "AKI, two stages")
    two = arms["AKI, two stages"]
    first = two.stages[-1].loop.updates
    assert two.run.loop.keep_at == tuple(u - first for u in looks if u >= first)


def test_a_small_run_grows_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["--set", "loop.updates=2", "--set", "loop.log_every=1"]
    app(
        ["run", "bert2bert:tiny", "--set", "model.layers=1", "--set", "model.dim=16", "--set", "model.heads=1", *quick],
        standalone_mode=False,
    )
    (small,) = Path("runs").iterdir()
    app(["run", "bert2bert:tiny", "--start", str(small), "--set", "grow.method=fpi", *quick], standalone_mode=False)
    (large,) = set(Path("runs").iterdir()) - {small}
    about = json.loads((large / "run.json").read_text())
    assert about["config"]["model"] | {"layers": 2, "dim": 32, "heads": 2, "ffn": 64} == about["config"]["model"]
    assert about["start"]["grown"]["of"] == {"layers": 1, "dim": 16, "heads": 1, "ffn": 64}
    app(
        ["run", "bert2bert:tiny", "--start", str(large), "--set", "loop.updates=3"], standalone_mode=False
    )  # and on from there
    (on,) = set(Path("runs").iterdir()) - {small, large}
    assert json.loads((on / "run.json").read_text())["start"]["grown"] is None


@pytest.fixture(scope="module")
def spoken() -> dict[str, Arm]:
    return {a.name: a for a in claim_speech().study.arms}


def test_on_speech_arms_share_all_but_how_they_begin(spoken: dict[str, Arm]) -> None:
    """The smaller network that two arms grow is one run, and an arm of its own: a study trains it once a seed."""
    scratch, small = spoken["scratch"].run, spoken["small"].run
    assert {a.run.fingerprint for a in (spoken["untrained"], spoken["scratch"])} == {scratch.fingerprint}
    for name, method in (("DirectCopy", "copy"), ("AKI", "aki")):
        (stage,) = spoken[name].stages
        assert stage.fingerprint == small.fingerprint
        assert replace(spoken[name].run, grow=None) == scratch and spoken[name].run.grow == Grow(method=method)  # type: ignore[arg-type]
    assert replace(small, model=scratch.model) == scratch and isinstance(scratch.model, Wav2Vec2)
    Maps.drawn(axes(small.model), axes(scratch.model), 0)  # fits
    assert small.model.dim // small.model.position_groups >= 16  # type: ignore[attr-defined]  # wide enough for bf16


def flops(run: Run) -> int:
    """Of forward and backward of two seconds."""
    with Engine.start() as engine, FlopCounterMode(display=False) as counter:
        batch = Batch(rows=torch.arange(1), x=torch.zeros(1, 32_000), lengths=torch.tensor([32_000]))
        Trainer(run, engine).backward(0, [(batch, True)], Draws(0, 0))
    return int(counter.get_total_flops())


def test_on_speech_one_arm_costs_what_growing_and_the_smaller_network_cost_together(spoken: dict[str, Arm]) -> None:
    small, scratch, both = (spoken[n].run for n in ("small", "scratch", "scratch, for both"))
    assert replace(both, loop=scratch.loop) == scratch
    spent = small.loop.updates * flops(small) + scratch.loop.updates * flops(scratch)
    assert both.loop.updates * flops(scratch) == pytest.approx(spent, rel=0.02)
