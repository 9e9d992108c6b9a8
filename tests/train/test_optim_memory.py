"""Optimizers that need less memory: parameters that step in the backward pass, states of 8 bits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from overture.errors import OvertureError
from overture.models.text import Llama
from overture.recipes import get
from overture.run import Optim, Run
from overture.train import low_bit
from overture.train.engine import Engine
from overture.train.examples import Training
from overture.train.health import GradientWatch
from overture.train.loop import Trainer, train
from overture.train.optim import InBackward
from overture.train.state import checkpoints, read_weights


def small(**optim: Any) -> Run:
    """A Llama whose embeddings and feed-forward matrices are large enough for states of 8 bits."""
    run = get("stability-gap:tiny")
    return replace(
        run,
        model=Llama(layers=2, dim=64, heads=2, ffn=160, positions=64),
        players=(replace(run.players[0], optim=Optim(lr=1e-2, clip=None, weight_decay=0.1, **optim)),),
        plan=replace(run.plan, update=256.0, micro=256.0, longest_squared=1e9),
        loop=replace(run.loop, updates=6, checkpoint_every=3, log_every=1),
    )


def updates(run: Run, count: int = 3) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]], int, int]:
    """Weights after `count` updates, records, the most bytes of gradients that were alive at once, and of all parameters."""
    with Engine.start() as engine:
        training, trainer = Training.prepare(run), Trainer(run, engine)
        parameters = list(trainer.state.model.parameters())
        most = 0

        def look(_: torch.Tensor) -> None:
            nonlocal most
            most = max(most, sum(p.grad.numel() * 4 for p in parameters if p.grad is not None))

        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(look)
            # after the optimizer's own, so what is left here is what lives on
        records = []
        flops = trainer.try_largest(training)
        assert flops > 0
        for number in range(count):
            record, _, findings = trainer.step(training.batches(training.plan.updates(0)[number], number, engine))
            assert not findings
            records.append(record)
            trainer.state.update += 1
        assert all(p.grad is None for p in parameters) is bool(run.players[0].optim.in_backward)
        assert bool(trainer.gradients.waiting) is False  # every parameter was seen to have a gradient
        weights = {n: p.detach().clone() for n, p in trainer.state.model.named_parameters()}
    return weights, records, most, sum(p.numel() * 4 for p in parameters)


def test_stepping_in_the_backward_pass_gives_the_same_weights_with_fewer_gradients() -> None:
    ordinary, records, most, whole = updates(small())
    early, same_records, fewer, _ = updates(small(in_backward=True))
    for name, value in ordinary.items():
        assert torch.equal(value, early[name]), name
    assert most == whole and fewer < whole / 3, (most, fewer, whole)  # ordinary: all at once
    for a, b in zip(records, same_records, strict=True):
        assert (
            a["loss"] == b["loss"] and a["lr"] == b["lr"] and a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-5)
        )


def test_what_needs_whole_gradients_is_refused() -> None:
    run = small(in_backward=True)
    with Engine.start() as engine:
        with pytest.raises(OvertureError, match=r"optim\.clip=none"):
            Trainer(replace(run, players=(replace(run.players[0], optim=Optim(in_backward=True)),)), engine)
        parts = replace(run, plan=replace(run.plan, micro=64.0))
        with pytest.raises(OvertureError, match=r"this update has \d+: raise plan.micro"):
            Trainer(parts, engine).try_largest(Training.prepare(parts))
    parameters = {"p": torch.nn.Parameter(torch.ones(2))}
    with pytest.raises(OvertureError, match="one device"):
        InBackward(
            parameters, torch.optim.AdamW(parameters.values()), run.players[0].optim, 2, GradientWatch(parameters)
        )


def test_nothing_steps_where_the_loss_is_not_finite() -> None:
    run = small(in_backward=True)
    with Engine.start() as engine:
        training, trainer = Training.prepare(run), Trainer(run, engine)
        with torch.no_grad():
            next(iter(trainer.state.model.parameters())).fill_(torch.nan)
        before = {n: p.detach().clone() for n, p in trainer.state.model.named_parameters()}
        _, _, findings = trainer.step(training.batches(training.plan.updates(0)[0], 0, engine))
        assert findings[0].rule == "not finite"
        for name, parameter in trainer.state.model.named_parameters():
            torch.testing.assert_close(parameter.detach(), before[name], rtol=0, atol=0, equal_nan=True)


def test_states_of_8_bits_are_smaller_and_go_on_to_the_bit(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")

    class Killed(Exception): ...

    def on_record(record: dict[str, Any]) -> None:
        if record["kind"] == "checkpoint":
            raise Killed

    run = small(states="8bit", in_backward=True)
    with Engine.start() as engine:
        train(run, tmp_path / "whole", engine=engine)
        with pytest.raises(Killed):
            train(run, tmp_path / "parts", engine=engine, on_record=on_record)
        train(run, tmp_path / "parts", engine=engine)
        sizes = {}
        for this in (run, small()):
            state = Trainer(this, engine).state
            moments = [v for values in state.optimizers["model"].state.values() for v in values.values()]
            sizes[this.players[0].optim.states] = sum(v.numel() * v.element_size() for v in moments)
    whole, parts = (read_weights(checkpoints(tmp_path / f)[-1]) for f in ("whole", "parts"))
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    assert sizes["8bit"] < 0.3 * sizes[None]


def test_a_large_tensor_is_updated_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces change nothing; steps are nearly those of AdamW, and of small tensors exactly."""
    pytest.importorskip("bitsandbytes")
    found = []
    for piece in (2**20, 512):
        monkeypatch.setattr(low_bit, "PIECE", piece)
        parameters = [torch.nn.Parameter(torch.linspace(-1, 1, n).view(-1, 5)) for n in (5_000, 40)]
        exact = [torch.nn.Parameter(p.detach().clone()) for p in parameters]
        optim = Optim(lr=0.1, weight_decay=0.5)
        groups = [{"params": parameters, "weight_decay": 0.5}]
        ours, theirs = low_bit.AdamW8bit(groups, optim), torch.optim.AdamW(exact, lr=0.1, weight_decay=0.5)
        for _ in range(3):
            for a, b in zip(parameters, exact):
                a.grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(len(a)))
                b.grad = a.grad.clone()
            ours.step()
            theirs.step()
        assert torch.equal(parameters[1], exact[1])  # small: fp32
        assert float((parameters[0] - exact[0]).detach().abs().mean()) < 0.01  # of steps of 0.1
        found.append(parameters[0])
    assert torch.equal(*found)


def test_states_of_8_bits_learn_nearly_the_same() -> None:
    pytest.importorskip("bitsandbytes")
    _, exact, _, _ = updates(small(), 6)
    _, rounded, _, _ = updates(small(states="8bit"), 6)
    fallen = exact[0]["loss"] - exact[-1]["loss"]
    assert fallen > 0.3 and rounded[-1]["loss"] == pytest.approx(exact[-1]["loss"], abs=0.1 * fallen)
