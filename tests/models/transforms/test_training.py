"""Runs whose linear layers are under a transform: what they leave, and what reads it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.export import export, load_run
from overture.models.origin import Origin
from overture.models.transforms import Lora, LowRank, Masked, SparseLowRank
from overture.models.transforms.apply import merge
from overture.models.transforms.linear import Factored
from overture.recipes import get
from overture.run import Run
from overture.train.engine import Engine
from overture.train.examples import Training
from overture.train.loop import Trainer, train
from overture.train.state import checkpoints, load_weights, read_weights

SLTRAIN = SparseLowRank(rank=4, alpha=2.0, density=0.1)
MASKED = Masked(sparsity=0.75)


def small(recipe: str, transform: object, **changes: object) -> Run:
    run = get(f"{recipe}:tiny")
    return replace(run, transform=transform, loop=replace(run.loop, updates=4, checkpoint_every=2), **changes)  # type: ignore[arg-type]


def trained(run: Run, folder: Path, *, die_after: int | None = None) -> dict[str, torch.Tensor]:
    class Killed(Exception): ...

    def on_record(record: dict[str, object]) -> None:
        if record["kind"] == "checkpoint" and record["update"] == die_after:
            raise Killed

    with Engine.start() as engine:
        try:
            train(run, folder, engine=engine, on_record=on_record)
        except Killed:
            return {}
    return read_weights(checkpoints(folder)[-1])


def layers(model: torch.nn.Module) -> dict[str, Factored]:
    return {n: m for n, m in model.named_modules() if isinstance(m, Factored)}


@pytest.mark.parametrize("transform", [SLTRAIN, MASKED])
def test_stopped_and_resumed_is_never_stopped(transform: object, tmp_path: Path) -> None:
    run = small("stability-gap", transform)
    whole = trained(run, tmp_path / "whole")
    trained(run, tmp_path / "parts", die_after=2)
    parts = trained(run, tmp_path / "parts")
    assert whole.keys() == parts.keys() and all(torch.equal(whole[n], parts[n]) for n in whole)


def test_supports_stay_and_are_stored(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    run = small("stability-gap", SLTRAIN)
    with Engine.start() as engine:
        fresh = layers(Trainer(run, engine).state.model)
    trained(run, tmp_path)
    stored = {n: t for f in checkpoints(tmp_path)[-1].glob("*.safetensors") for n, t in load_file(f).items()}
    for name, layer in fresh.items():
        assert layer.support is not None and layer.values is not None
        assert torch.equal(stored[f"model/{name}.support"], layer.support)
        assert not torch.equal(stored[f"model/{name}.values"], layer.values)
    dense = [n for n in stored if n.startswith("model/") and n.endswith("_proj.weight")]
    assert not dense  # neither as a parameter nor as a buffer


def test_masked_weights_stay_zero_to_the_count(tmp_path: Path) -> None:
    """After every step, with weight decay and moments; before it and after a restart."""
    optim = replace(get("tera:tiny").players[0].optim, weight_decay=0.1)
    run = small("tera", MASKED)
    run = replace(run, players=(replace(run.players[0], optim=optim),))
    with Engine.start() as engine:
        training, trainer = Training.prepare(run), Trainer(run, engine)
        before = {n: m.dense().weight.detach().clone() for n, m in layers(trainer.state.model).items()}  # type: ignore[operator, union-attr]
        for number in range(3):
            trainer.step(training.batches(training.plan.updates(0)[number], number, engine))
            trainer.state.update += 1
            for name, layer in layers(trainer.state.model).items():
                weight = layer.dense().weight
                assert isinstance(weight, torch.Tensor)
                assert int((weight == 0).sum()) == weight.numel() - int(weight.numel() * 0.25)
                assert torch.equal(weight == 0, before[name] == 0) and not torch.equal(weight, before[name])
        for parameter in trainer.state.model.parameters():  # moments for what is active alone
            assert all(
                v.numel() in (1, parameter.numel()) for v in trainer.state.optimizers["model"].state[parameter].values()
            )


@pytest.mark.parametrize("recipe", ["stability-gap", "tera"])
def test_what_reads_the_weights_sees_a_dense_network(recipe: str, tmp_path: Path) -> None:
    run = small(recipe, SLTRAIN)
    weights = trained(run, tmp_path / "run")
    with Engine.start() as engine:
        under = Trainer(run, engine).state.model
    assert layers(under)
    load_weights(checkpoints(tmp_path / "run")[-1], under)  # into a network under the same transform as it is
    dense = merge(under).state_dict()
    assert all(torch.equal(dense[n], weights[n]) for n in weights)
    _, model = load_run(tmp_path / "run")
    assert not layers(model) and all(torch.equal(v, dense[n]) for n, v in model.state_dict().items())
    assert Origin.open("run", tmp_path).weights().keys() == weights.keys()
    export(tmp_path / "run", tmp_path / "hf")  # refuses where outputs differ
    other = replace(run.model, layers=3)  # type: ignore[call-arg, type-var]
    with pytest.raises(OvertureError, match="of another model"):
        load_weights(checkpoints(tmp_path / "run")[-1], other.build(run.frontend))


def test_averages_are_merged(tmp_path: Path) -> None:
    run = small("tera", SLTRAIN)
    run = replace(run, loop=replace(run.loop, ema=0.5))
    weights = trained(run, tmp_path)
    _, model = load_run(tmp_path)
    assert all(torch.equal(v, weights[n]) for n, v in model.state_dict().items())


def test_sparse_then_dense(tmp_path: Path) -> None:
    """What was zero begins at exactly zero, and learns."""
    first = small("stability-gap", MASKED)
    sparse = trained(first, tmp_path / first.folder_name)
    second = replace(
        first,
        transform=None,
        start=first.folder_name,
        frontend=Origin.open(first.folder_name, tmp_path).tokens(first.frontend),
    )
    with Engine.start() as engine:
        begun = Trainer(second, engine, tmp_path).state.model.state_dict()
    dense = trained(second, tmp_path / "dense")
    again = replace(second, transform=MASKED, seed=5)
    still = trained(again, tmp_path / "sparse")
    for name in (n for n in sparse if n.endswith("_proj.weight")):
        zero = sparse[name] == 0
        assert float(zero.float().mean()) == pytest.approx(0.75, abs=0.001)
        assert torch.equal(begun[name], sparse[name])
        assert float((dense[name][zero] != 0).float().mean()) > 0.99
        assert torch.equal(
            still[name] == 0, zero
        )  # sparse fine-tuning keeps the support of its start, whatever its seed


def test_lora_adapts_a_start_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    first = small("stability-gap", None)
    old = trained(first, tmp_path / first.folder_name)
    tokens = Origin.open(first.folder_name, tmp_path).tokens(first.frontend)
    player = replace(first.players[0], parameters=r"\.(left|right)$")
    run = replace(first, transform=Lora(rank=4), start=first.folder_name, frontend=tokens, players=(player,))
    new = trained(run, tmp_path / "lora")
    for name, value in new.items():
        change = value - old[name]
        if name.endswith("_proj.weight"):
            assert bool(change.any()) and int(torch.linalg.matrix_rank(change, rtol=1e-4)) <= 4
        else:
            assert torch.equal(value, old[name]), name
    with pytest.raises(OvertureError, match="--transform lora"), Engine.start() as engine:
        Trainer(replace(run, transform=SLTRAIN, players=first.players), engine, tmp_path)


def test_bf16_and_accumulation() -> None:
    """Gradients of four micro-batches are those of one; in bf16 they are close."""
    run = small("stability-gap", SLTRAIN)
    run = replace(run, plan=replace(run.plan, update=512.0, micro=512.0, longest_squared=1e9))

    def gradients(run: Run) -> tuple[torch.Tensor, int]:
        with Engine.start() as engine:
            training, trainer = Training.prepare(run), Trainer(run, engine)
            batches = training.batches(training.plan.updates(0)[0], 0, engine)
            trainer.backward(0, batches, Draws(0, 0))
        return torch.cat([p.grad.flatten() for p in trainer.parameters[0].values() if p.grad is not None]), len(batches)

    once, one = gradients(run)
    parts, four = gradients(replace(run, plan=replace(run.plan, micro=128.0)))
    assert one == 1 and four >= 4
    torch.testing.assert_close(once, parts, rtol=1e-3, atol=1e-6)
    rounded, _ = gradients(replace(run, loop=replace(run.loop, precision="bf16")))
    assert float((rounded - once).norm() / once.norm()) < 0.05


def test_low_rank_learns(tmp_path: Path) -> None:
    """No deadlock of zeros: every factor has a gradient at the first update."""
    with Engine.start() as engine:
        run = small("stability-gap", LowRank(rank=4))
        training, trainer = Training.prepare(run), Trainer(run, engine)
        trainer.step(training.batches(training.plan.updates(0)[0], 0, engine))
        assert all(p.grad is not None and bool(p.grad.any()) for p in trainer.state.model.parameters())
