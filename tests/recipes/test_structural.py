"""overture.recipes.structural: the published sizes, the sheet's traps that are about the recipe itself, and the claim's arms."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from overture.config import override
from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.relations import Groups, Pairs
from overture.models.clusters import ClusteredBert
from overture.objectives.masked_tokens import MaskedTokens
from overture.objectives.relations import Related
from overture.objectives.replaced import ClusterReplacedTokens, ReplacedTokens
from overture.recipes import get
from overture.recipes.structural import EQUAL, claim, published_joint
from overture.run import Run
from overture.study import Arm
from overture.train.engine import Engine
from overture.train.examples import Training
from overture.train.loop import Trainer, train
from overture.train.state import checkpoints, read_weights
from overture.train.track import read_metrics


@pytest.fixture(scope="module")
def arms() -> dict[str, Arm]:
    return {a.name: a for a in claim().study.arms}


def in_small(arm: Arm, **loop: object) -> Run:
    """An arm of the claim on the tiny recipe's documents, as tiny as that."""
    tiny = get("structural:tiny")
    sizes = {"layers": 2, "dim": 32, "heads": 2, "ffn": 64, "positions": 32, "dropout": 0.0}
    sizes |= {"clusters": 8} if isinstance(arm.run.model, ClusteredBert) else {}
    return replace(
        arm.run,
        data=replace(tiny.data, text=replace(arm.run.data.text, length=32)),
        frontend=tiny.frontend,
        model=replace(arm.run.model, **sizes),  # type: ignore[type-var]
        plan=tiny.plan,
        loop=replace(tiny.loop, **loop),  # type: ignore[arg-type]
    )


def test_the_published_size() -> None:
    run = get("structural:published")
    with torch.device("meta"):
        model = run.model.build(run.frontend)
    d, f, v = 768, 3072, 30_522
    layer = 4 * (d * d + d) + (d * f + f) + (f * d + d) + 4 * d
    embeddings = v * d + 512 * d + 2 * d + 2 * d
    vocabulary_head = d * d + d + 2 * d + v  # its weights are the embedding's; replaced tokens do not teach it
    assert (
        sum(p.numel() for p in model.network.parameters()) == embeddings + 12 * layer + vocabulary_head == 109_514_298
    )
    assert sum(p.numel() for p in model.heads.parameters()) == d + 1
    with Engine.start() as engine:
        small = replace(run, model=replace(run.model, layers=1, dim=12, ffn=24, heads=12))
        own = Trainer(small, engine).parameters[0]
    assert not [n for n in own if n.startswith("network.cls")] and "heads.replaced.0.weight" in own
    task, optim, stretch = run.players[0].objective, run.players[0].optim, run.data.text.length
    assert isinstance(task, ReplacedTokens) and task.weight == 50 and task.corruption.share == 0.15
    assert (optim.lr, optim.warmup * run.loop.updates, optim.weight_decay, optim.clip) == (1e-4, 10_000, 0.01, 1.0)
    assert (run.plan.update / stretch, stretch, run.loop.updates) == (256, 512, 1_000_000)


def test_the_published_joint_model() -> None:
    run = published_joint()
    with torch.device("meta"):
        model = run.model.build(run.frontend)
    assert 124e6 < sum(p.numel() for p in model.network.parameters()) < 126e6  # RoBERTa-base
    assert isinstance(run.data.text, Groups) and (run.data.text.slot, run.data.text.candidates) == (64, 5)
    assert run.data.text.length <= model.positions and run.plan.update / run.data.text.length == 4096
    task = run.players[0].objective
    assert isinstance(task, Related) and task.kind == "AE_k" and task.slot == 64
    assert model.heads["relation"][0].in_features == 2 * 768
    assert (run.players[0].optim.lr, run.loop.updates) == (1e-4, 100_000)


def test_the_claims_arms_differ_in_what_they_say(arms: dict[str, Arm]) -> None:
    assert {a.kind for a in arms.values()} == {"trained", "untrained", "input"}
    trained = {n: a.run for n, a in arms.items() if a.kind == "trained"}
    on = {n: r for n, r in trained.items() if arms[n].stages}
    assert set(on) == {"MLM, MLM", "MLM, MLM + SSP", "MLM, MLM + random"}
    assert all(arms[n].stages == (trained["MLM"],) for n in on)  # trained once a seed
    for group in (set(trained) - set(on), set(on)):  # the same batch, length, tokens and rate
        assert len({(trained[n].frontend, trained[n].plan, trained[n].players[0].optim) for n in group}) == 1
    networks = {replace(r.model, extra=()) for n, r in trained.items() if n != "C-RTS"}
    assert len(networks) == 1
    assert {**vars(trained["C-RTS"].model), "clusters": 0, "extra": ()} == {**vars(networks.pop()), "clusters": 0}
    random, ssp, plain = on["MLM, MLM + random"], on["MLM, MLM + SSP"], on["MLM, MLM"]
    assert random.data.text == Pairs(random_labels=True)
    assert {r.data.text for r in trained.values() if r is not random} == {Pairs()}
    assert replace(random, data=ssp.data) == ssp
    assert replace(ssp, model=plain.model, players=plain.players) == plain
    alone = plain.players[0].objective
    assert isinstance(alone, MaskedTokens) and ssp.players[0].objective.corruption == alone.corruption  # added to it
    assert trained["RTS"].loop.updates == trained["C-RTS"].loop.updates == round(EQUAL * trained["MLM"].loop.updates)
    assert [t.label_rows for t in claim().study.trials] == [50, 500, None]
    assert {c[0] for c in claim().expected_also} <= set(claim().study.names)


def test_equal_cost_is_equal_flops(arms: dict[str, Arm]) -> None:
    """Measured on pairs of the mean length, 58 tokens, that those of package descriptions have, the longest of 128."""
    cost = {}
    draw = torch.Generator().manual_seed(0)
    batch = Batch(
        rows=torch.arange(8),
        x=torch.randint(6, 8192, (8, 128), generator=draw),
        lengths=torch.tensor([128, *[48] * 7]),
        labels=torch.ones(8, 1, dtype=torch.int64),
    )
    for name in ("MLM", "RTS", "C-RTS", "MLM, MLM + SSP"):
        run = arms[name].run
        model = run.model.build(run.frontend)
        with FlopCounterMode(display=False) as counter:
            run.players[0].objective(model, batch, Draws(0, 0)).sum.backward()
        cost[name] = counter.get_total_flops()
    for name in ("RTS", "C-RTS"):
        assert cost["MLM"] / cost[name] == pytest.approx(EQUAL, abs=0.02)
    assert cost["MLM, MLM + SSP"] / cost["MLM"] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", ["MLM", "RTS", "C-RTS", "MLM, MLM + SSP"])
def test_every_arm_trains_just_what_its_losses_teach(arms: dict[str, Arm], name: str) -> None:
    run = in_small(arms[name])
    with Engine.start() as engine:
        training, trainer = Training.prepare(run), Trainer(run, engine)
        rows = training.plan.updates(0)[0]
        trainer.backward(0, training.batches(rows, 0, engine), Draws(run.seed, 0))
        own = trainer.parameters[0]
        assert {n for n, p in own.items() if p.grad is not None and bool(p.grad.any())} == set(own)
        model = trainer.state.model.requires_grad_(True)
        model.zero_grad(set_to_none=True)
        batch, _ = training.batches(rows, 0, engine)[0]
        run.players[0].objective(model, batch, Draws(run.seed, 0)).sum.backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())} == set(own)


class Killed(Exception):
    """Stands for a process that dies."""


@pytest.fixture(scope="module")
def crts(arms: dict[str, Arm], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of C-RTS that was never stopped, one that died and went on, and one in micro-batches of two pairs."""
    folder = tmp_path_factory.mktemp("crts")
    run = in_small(arms["C-RTS"], updates=12, log_every=1, checkpoint_every=4)
    assert isinstance(run.players[0].objective, ClusterReplacedTokens)
    with Engine.start() as engine:
        train(run, folder / "whole", engine=engine)

        def die(record: dict[str, object]) -> None:
            if record["kind"] == "checkpoint" and record["update"] == 8:
                raise Killed

        with pytest.raises(Killed):
            train(run, folder / "parts", engine=engine, on_record=die)
        train(run, folder / "parts", engine=engine)
        few = override(run, {"plan.micro": "64", "loop.updates": "4"})
        train(few, folder / "few", engine=engine)
        train(override(run, {"loop.updates": "4"}), folder / "many", engine=engine)
    yield folder


def test_what_a_device_has_for_company_only_is_not_counted(arms: dict[str, Arm]) -> None:
    """One pair for two devices: the second has it too, lest it do less, and says so."""
    training = Training.prepare(in_small(arms["C-RTS"]))
    row = training.plan.updates(0)[0][:1]
    for rank in (0, 1):
        ((batch, real),) = training.batches(row, 0, Engine(rank, 2, torch.device("cpu")))
        assert batch.real is real is (rank == 0)


def counts(folder: Path) -> torch.Tensor:
    return read_weights(checkpoints(folder)[-1])["heads.clusters.counts"]


def test_the_counts_of_c_rts_change_and_are_in_the_checkpoint(crts: Path) -> None:
    found = counts(crts / "whole")
    assert found.shape == (8, 8) and (found != 1).any(1).all()


def test_c_rts_obeys_laws_1_and_2(crts: Path) -> None:
    """Stopped and resumed = never stopped, to the bit; accumulated = at once. (Law 5 of the counts: tests/objectives/test_replaced.py.)"""
    whole, parts = (read_weights(checkpoints(crts / f)[-1]) for f in ("whole", "parts"))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[n], parts[n]) for n in whole)
    assert torch.equal(counts(crts / "few"), counts(crts / "many"))
    curves = [[r["loss"] for r in read_metrics(crts / f) if r["kind"] == "update"] for f in ("few", "many")]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


def test_f1_is_watched_and_not_accuracy_alone(crts: Path) -> None:
    watched = [r["watch"] for r in read_metrics(crts / "whole") if r["kind"] == "update"]
    assert all({"f1", "accuracy"} <= w.keys() for w in watched)
    assert json.loads((crts / "whole" / "run.json").read_text())["recipe"] == "structural"
