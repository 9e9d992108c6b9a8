"""overture.train.optim and the loop's players: the rate's shape, who owns a parameter, alternating optimizers."""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from overture.errors import OvertureError
from overture.objectives import Loss
from overture.objectives.reconstruction import MaskedReconstruction
from overture.recipes import get
from overture.run import Optim, Player
from overture.train.engine import Engine
from overture.train.loop import Trainer, Training, train
from overture.train.optim import rate, share_parameters


def test_the_rate_warms_up_holds_and_decays_to_its_end() -> None:
    config = Optim(lr=1.0, warmup=0.1, hold=0.4, final=0.05)
    curve = [rate(config, u, 100) for u in range(100)]
    assert curve[:3] == pytest.approx([0.1, 0.2, 0.3]) and curve[9:50] == [1.0] * 41
    assert all(a > b for a, b in pairwise(curve[49:])) and 0.05 < curve[-1] < 0.1
    assert rate(Optim(lr=1.0, warmup=0.0, hold=1.0), 99, 100) == 1.0
    assert all(rate(Optim(lr=1.0), u, n) > 0 for n in (1, 2, 12, 100) for u in range(n))  # every update learns


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
