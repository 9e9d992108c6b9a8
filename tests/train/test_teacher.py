"""overture.train.teacher: who it is, that it stays as it was, and that a run with one goes on to the bit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from overture.errors import OvertureError
from overture.models.origin import heard, taught_by, weights_fingerprint
from overture.models.start import continued
from overture.objectives.distillation import Distillation
from overture.recipes import get
from overture.run import Run
from overture.train.engine import Engine
from overture.train.examples import Training
from overture.train.loop import Trainer, train
from overture.train.state import checkpoints, read_weights, stored

TINY = get("self-distillation:tiny")


def having(run: Run, **changes: object) -> Run:
    (player,) = run.players
    assert isinstance(player.objective, Distillation)
    return replace(run, players=(replace(player, objective=replace(player.objective, **changes)),))  # type: ignore[arg-type]


def trained(run: Run, home: Path) -> Run:
    with Engine.start() as engine:
        train(run, home / run.folder_name, engine=engine)
    return run


def last(run: Run, home: Path) -> dict[str, torch.Tensor]:
    return read_weights(checkpoints(home / run.folder_name)[-1])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def base(home: Path) -> Run:
    return trained(having(TINY, weight=0.0), home)


@pytest.fixture(scope="module")
def gone_on(base: Run, home: Path) -> Run:
    return trained(continued(replace(having(TINY, weight=0.0), seed=1), base.folder_name, home), home)


def test_the_student_begins_with_the_original_weights_and_its_teacher_with_those_of_its_run(
    base: Run, gone_on: Run, home: Path
) -> None:
    run = taught_by(continued(TINY, base.folder_name, home), gone_on.folder_name, home)
    with Engine.start() as engine:
        model = Trainer(run, engine, home).state.model
    teacher: Any = model.teacher
    assert weights_fingerprint(stored(model)) == weights_fingerprint(last(base, home)) == run.start_weights
    assert (
        weights_fingerprint(stored(teacher.network)) == weights_fingerprint(last(gone_on, home)) == run.teacher_weights
    )
    assert run.fingerprint != continued(TINY, base.folder_name, home).fingerprint
    trained(run, home)
    about = json.loads((home / run.folder_name / "run.json").read_text())
    assert about["teacher"]["path"] == gone_on.folder_name and about["teacher"]["weights"] == run.teacher_weights
    tables, unknown = heard(home / run.folder_name)
    assert len(tables) == 4 and not unknown  # its own, its start's, its teacher's and that of its teacher's start


def test_without_a_run_to_teach_it_the_teacher_is_the_network_as_it_began(base: Run, home: Path) -> None:
    run = replace(continued(TINY, base.folder_name, home), seed=2)
    with Engine.start() as engine:
        teacher: Any = Trainer(run, engine, home).state.model.teacher
    assert weights_fingerprint(stored(teacher.network)) == run.start_weights


def test_the_average_teaches_and_follows(home: Path) -> None:
    run = replace(having(TINY, averaged=True), loop=replace(TINY.loop, ema=0.5, updates=3))
    with Engine.start() as engine:
        trainer, training = Trainer(run, engine, home), Training.prepare(run)
        teacher: Any = trainer.state.model.teacher
        stream = training.stream(0, trainer.state.position, engine)
        _, batches = next(stream)
        begun = {n: p.clone() for n, p in trainer.state.model.named_parameters()}
        trainer.step(batches)
        stream.close()  # type: ignore[attr-defined]
    now = dict(trainer.state.model.named_parameters())
    for name, parameter in teacher.network.named_parameters():
        torch.testing.assert_close(parameter, begun[name].lerp(now[name].detach(), 0.5))
    assert any(not torch.equal(begun[n], p) for n, p in now.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run, other: replace(having(run, weight=0.0), teacher=other), "nothing in it learns from a teacher"),
        (lambda run, other: replace(having(run, averaged=True), teacher=other), "listens to the run's own average"),
        (lambda run, other: having(run, averaged=True), "none is kept: set loop.ema"),
        (lambda run, other: replace(run, teacher="nowhere-000000"), "no run with a checkpoint of that name"),
        (lambda run, other: replace(run, teacher=other), "start from what the teacher started from"),
        (
            lambda run, other: replace(run, teacher=other, teacher_weights="0" * 12, frontend=None),
            "it has changed since",
        ),
    ],
)
def test_what_cannot_teach_is_told(base: Run, home: Path, change: Callable[[Run, str], Run], message: str) -> None:
    run = change(TINY, base.folder_name)
    if run.frontend is None:
        run = replace(run, frontend=continued(TINY, base.folder_name, home).frontend)
    with Engine.start() as engine, pytest.raises(OvertureError, match=message):
        Trainer(run, engine, home)
