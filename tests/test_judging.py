"""overture.judging: what an arm is judged by is the trial's, whatever arm it is."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from overture import judging, recipes
from overture.data.table import Table
from overture.study import Arm, Trial
from overture.tasks import finetune_ctc
from overture.trials import Labelled


def given(arm: Arm, trial: Trial, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the fine-tuning of one arm is told, and where its encoder starts."""
    told: dict[str, Any] = {}
    patch.setattr(finetune_ctc, "finetune", lambda run, start, table, **given: told.update(given, start=start))
    labelled = cast(Labelled, SimpleNamespace(task=trial.definition, trial=trial))
    weights = None if arm.kind == "untrained" else Path("runs/weights")
    where: dict[str, Any] = {"weights": weights, "cache": Path("cache"), "home": Path("runs"), "tell": print}
    judging.judge(arm, arm.run, 0, labelled, Table.open("embedded"), {"train": [0], "dev": [1], "test": [2]}, **where)
    return told


@pytest.mark.parametrize("recipe", ["hykist", "ainu", "gender-ssl"])
def test_all_arms_are_fine_tuned_alike(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many updates at the same rates for baselines too: nothing but where the encoder starts may differ."""
    study = recipes.claim(recipe).study
    (trial,) = (t for t in study.trials if t.definition.features == "finetune")
    told = {arm.name: given(arm, trial, monkeypatch) for arm in study.arms}
    assert {name for name, one in told.items() if one.pop("start") is None} == {
        arm.name for arm in study.arms if arm.kind == "untrained"
    }
    assert all(one == told["scratch"] for one in told.values())
    assert told["scratch"]["rates"] == trial.rates != () and "updates" not in told["scratch"]  # the task's own


def test_a_trial_without_rates_has_those_of_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = recipes.claim("ainu").study.arms[0]
    assert "rates" not in given(arm, Trial(task="asr-finetune"), monkeypatch)
    with pytest.raises(ValueError, match="fine-tunes nothing, so it has no rates"):
        Trial(task="asr", rates=(1e-3,))
