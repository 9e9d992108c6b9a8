"""overture.train.optim and the loop's players: the rate's shape, who owns a parameter, alternating optimizers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from overture.config import override
from overture.errors import OvertureError
from overture.objectives import Loss
from overture.objectives.reconstruction import MaskedReconstruction
from overture.recipes import get
from overture.run import Optim, Player, Run
from overture.train.engine import Engine
from overture.train.examples import Training
from overture.train.loop import Trainer, train
from overture.train.optim import rate, share_parameters

from ..laws.conftest import tensors


def test_the_rate_warms_up_holds_and_decays_to_its_end() -> None:
    config = Optim(lr=1.0, warmup=0.1, hold=0.4, final=0.05)
    curve = [rate(config, u, 100) for u in range(100)]
    assert curve[:3] == pytest.approx([0.1, 0.2, 0.3]) and curve[9:50] == [1.0] * 41
    assert all(a > b for a, b in pairwise(curve[49:])) and 0.05 < curve[-1] < 0.1
    assert rate(Optim(lr=1.0, warmup=0.0, hold=1.0), 99, 100) == 1.0
    assert all(rate(Optim(lr=1.0), u, n) > 0 for n in (1, 2, 12, 100) for u in range(n))  # every update learns


def test_three_stages_end_in_an_exponential_decay() -> None:
    """Warm-up, hold and decay of .1, .4 and .5 to .05, as fairseq fine-tunes: each step of the last stage is the same factor."""
    config = Optim(lr=1e-4, warmup=0.1, hold=0.4, final=0.05, decay="exponential")
    curve = [rate(config, u, 200) for u in range(201)]
    assert curve[0] == pytest.approx(1e-4 / 20) and curve[19:100] == [1e-4] * 81
    factors = [b / a for a, b in pairwise(curve[99:])]
    assert factors == pytest.approx([0.05 ** (1 / 101)] * 101) and curve[200] == pytest.approx(5e-6)
    with pytest.raises(OvertureError, match=r"set optim\.final above it"):
        rate(replace(config, final=0.0), 0, 200)


@dataclass(frozen=True, kw_only=True)
class Sum(MaskedReconstruction):
    """A second objective: the head's output near zero."""

    def __call__(self, model: Any, batch: Any, draws: Any) -> Loss:
        loss = super().__call__(model, batch, draws)
        output = model(batch.x, batch.valid).reconstruction
        return loss._replace(sum=output.square().sum(), targets=torch.tensor(float(output.numel())))


def two_players() -> Any:
    tiny = get("tera:tiny")
    encoder = Player(
        name="encoder", objective=MaskedReconstruction(), parameters=r"^(project|norm|layers)", optim=Optim(lr=1e-3)
    )
    head = Player(name="head", objective=Sum(), parameters=r"^head", optim=Optim(lr=1e-2), every=2)
    return replace(tiny, players=(encoder, head))


def test_two_players_step_their_own_parameters_in_turn() -> None:
    run = two_players()
    with Engine.start() as engine:
        training, trainer = Training.prepare(run), Trainer(run, engine)
        for number, moves in enumerate((True, False, True, False)):
            before = {n: p.detach().clone() for n, p in trainer.state.model.named_parameters()}
            record, _, findings = trainer.step(training.batches(training.plan.updates(0)[number], number, engine))
            trainer.state.update += 1
            moved = {n for n, p in trainer.state.model.named_parameters() if not torch.equal(p, before[n])}
            assert findings == [] and ("head/loss" in record) == moves
            assert any(n.startswith("head") for n in moved) == moves
            assert {n for n in before if not n.startswith("head")} <= moved
        assert all(p.requires_grad for p in trainer.state.model.parameters())


def test_two_players_train_and_resume(tmp_path: Path) -> None:
    with Engine.start() as engine:
        assert train(two_players(), tmp_path, engine=engine).finished
        assert train(two_players(), tmp_path, engine=engine).updates == 12


def test_a_parameter_has_one_owner_or_is_frozen() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    objective = MaskedReconstruction()
    share_parameters(model, [Player(objective=objective, parameters=r"^0\.")])
    assert [p.requires_grad for p in model.parameters()] == [True, True, False, False]
    with pytest.raises(OvertureError, match="claimed by players"):
        share_parameters(
            nn.Linear(2, 2), [Player(objective=objective, name="a"), Player(objective=objective, name="b")]
        )
    with pytest.raises(OvertureError, match="no trainable parameter matches 'nothing'"):
        share_parameters(nn.Linear(2, 2), [Player(objective=objective, parameters="nothing")])


FREEZE = {"frozen": r"^(project|norm|layers)", "frozen_updates": 6}


def half_frozen() -> Run:
    """A run of 12 updates in which the head learns alone for the first 6; a decay that would move what is frozen."""
    tiny = get("tera:tiny")
    player = replace(tiny.players[0], **FREEZE, optim=Optim(lr=1e-2, weight_decay=0.5))
    return replace(tiny, players=(player,), loop=replace(tiny.loop, log_every=1))


def test_what_is_frozen_does_not_move_and_then_learns() -> None:
    run = half_frozen()
    with Engine.start() as engine:
        training, trainer = Training.prepare(run), Trainer(run, engine)
        assert trainer.try_largest(training) > 0
        assert all(p.requires_grad for p in trainer.state.model.parameters())  # and memory was tried with all of them
        optimizer = trainer.state.optimizers["model"]
        names = {p: n for n, p in trainer.state.model.named_parameters()}
        for number in range(8):
            before = {n: p.detach().clone() for n, p in trainer.state.model.named_parameters()}
            record, _, findings = trainer.step(training.batches(training.plan.updates(0)[number], number, engine))
            trainer.state.update += 1
            moved = {n for n, p in trainer.state.model.named_parameters() if not torch.equal(p, before[n])}
            heads = {n for n in before if n.startswith("head")}
            assert moved == (heads if number < 6 else set(before)), number
            assert findings == [] and record["grad_norm"] > 0
            moments = {names[p] for p, s in optimizer.state.items() if s["step"] > 0 or bool(s["exp_avg"].any())}
            assert moments == moved


def test_the_gradient_of_what_learns_is_that_of_the_whole() -> None:
    """Freezing leaves out parameters and changes nothing for the others."""
    from overture.data.draws import Draws

    run = half_frozen()
    found = []
    with Engine.start() as engine:
        for rest in (False, True):
            training, trainer = Training.prepare(run), Trainer(run, engine)
            own = trainer.parameters[0]
            resting = [p for n, p in own.items() if not n.startswith("head")] if rest else []
            player = replace(run.players[0], optim=Optim(clip=1e9))
            trainer.run = replace(run, players=(player,))
            trainer.backward(0, training.batches(training.plan.updates(0)[0], 0, engine), Draws(0, 0), resting)
            found.append({n: p.grad for n, p in own.items() if n.startswith("head")})
            assert all((p.grad is None) == rest for n, p in own.items() if not n.startswith("head"))
    assert found[0] and all(torch.equal(found[0][n], found[1][n]) for n in found[0])


def test_a_parameter_that_is_frozen_for_long_is_not_taken_for_one_without_gradient(tmp_path: Path) -> None:
    run = half_frozen()
    run = replace(
        run,
        players=(replace(run.players[0], frozen_updates=24),),
        loop=replace(run.loop, updates=26, checkpoint_every=100),
    )
    with Engine.start() as engine:
        assert train(run, tmp_path, engine=engine).finished


def test_law_1_in_a_freeze_schedule(tmp_path: Path) -> None:
    """Killed while frozen and again while thawed, and resumed: to the bit what was never killed."""

    class Killed(Exception):
        pass

    def go(folder: Path, die_after: int | None) -> None:
        def on_record(record: dict[str, Any]) -> None:
            if record["kind"] == "checkpoint" and record["update"] == die_after:
                raise Killed

        with Engine.start() as engine:
            if die_after is None:
                train(half_frozen(), folder, engine=engine, on_record=on_record)
            else:
                with pytest.raises(Killed):
                    train(half_frozen(), folder, engine=engine, on_record=on_record)

    go(tmp_path / "whole", None)
    for die_after in (4, 8, None):
        go(tmp_path / "parts", die_after)
    whole, parts = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert whole.keys() == parts.keys() and [n for n in whole if not torch.equal(whole[n], parts[n])] == []
    steps = {n: float(v) for n, v in whole.items() if n.endswith("/step")}
    assert set(steps.values()) == {12.0, 6.0}  # AdamW has counted the updates that each parameter learnt in


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_law_5_in_a_freeze_schedule(engine: str, tmp_path: Path, torchrun: Callable[..., None]) -> None:
    given = {"players.0.frozen": FREEZE["frozen"], "players.0.frozen_updates": "2", "loop.updates": "4"}
    given["model.dropout"] = "0"
    settings = [x for item in given.items() for x in ("--set", "=".join(item))]
    torchrun(2, "tera:tiny", *settings, "--out", str(tmp_path / "two"), "--engine", engine)
    with Engine.start() as alone:
        train(override(get("tera:tiny"), given), tmp_path / "one", engine=alone)
    (two,) = (tmp_path / "two").iterdir()
    first, second = tensors(tmp_path / "one"), tensors(two)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=2e-4, msg=name)


def test_a_freeze_of_nothing_or_of_everything_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    for frozen, said in (("nothing", "freezes 0 of its 4"), ("", "freezes 4 of its 4")):
        player = Player(objective=MaskedReconstruction(), frozen=frozen, frozen_updates=3)
        with pytest.raises(OvertureError, match=said):
            share_parameters(model, [player])
