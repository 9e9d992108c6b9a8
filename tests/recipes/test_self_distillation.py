"""overture.recipes.self_distillation: the published size, and the sheet's traps that are about the recipe and its claims."""

from dataclasses import replace

import pytest
import torch

from overture.objectives.distillation import Distillation
from overture.recipes import claim, get
from overture.run import Run
from overture.train.examples import Training


def weight(run: Run) -> float:
    objective = run.players[0].objective
    assert isinstance(objective, Distillation)
    return objective.weight


def test_the_published_size() -> None:
    run = get("self-distillation:published")
    with torch.device("meta"):
        model = run.model.build(run.frontend)
    assert 124e6 < sum(p.numel() for p in model.parameters()) < 126e6  # RoBERTa-base
    optim = run.players[0].optim
    assert (optim.lr, optim.betas, optim.warmup, optim.weight_decay) == (1.5e-4, (0.9, 0.95), 0.0, 0.01)
    assert (run.loop.updates, weight(run)) == (20_000, 1.0)


@pytest.mark.parametrize("name", ["self-distillation", "self-distillation:speech"])
def test_arms_differ_in_who_teaches_and_how_long_alone(name: str) -> None:
    study = claim(name).study
    arms = {a.name: a for a in study.arms}
    student, alone, twice, held = (
        arms[n] for n in ("self-distilled", "further pre-trained", "twice as long", "held by the original")
    )
    assert len({a.stages for a in arms.values()}) == 1  # all, the student too, go on from the one base
    assert student.teacher == (*student.stages, alone.run) and not held.teacher and held.run == student.run
    assert twice.run == replace(alone.run, loop=replace(alone.run.loop, updates=2 * student.run.loop.updates))
    assert (weight(alone.run), weight(student.run), weight(student.stages[0])) == (0.0, 1.0, 0.0)
    assert alone.run.loop == student.run.loop and alone.run.data == student.run.data
    assert student.run.data.where == study.where and student.run.data.corpus == study.corpus  # as its teacher has heard


def test_recordings_longer_than_are_heard_are_cropped_and_not_refused() -> None:
    """The field that says how states are pooled is not the mark of objectives that need all of a recording."""
    run = claim("self-distillation:speech").study.arms[-1].run
    objective = run.players[0].objective
    assert isinstance(objective, Distillation) and objective.whole == "mean"
    longer = replace(run, data=replace(run.data, corpus="embedded", where="duration between 2.6 and 4", cache=False))
    assert len(Training.prepare(longer).examples.lengths) > 0
