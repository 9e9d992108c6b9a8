"""overture.rates: an arm's rate is chosen with one seed on development rows, and is then that of all seeds."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from overture.laboratory import Laboratory, check
from overture.pretraining import Trained
from overture.rates import FURTHER, beyond, chosen
from overture.recipes import get
from overture.study import Arm, Claim, Study, Trial

RUN = get("tera:tiny")
LOWEST, LOW, HIGH, HIGHEST = 3e-5, 1e-4, 2e-3, 1e-2  # the outer ones are tried where an inner one is best
VOICES = "speaker in ('joe', 'bob', 'tam') and duration between 0.6 and 2"


def rate(arm: Arm) -> float:
    return arm.run.players[0].optim.lr


class Room:
    """A laboratory that trains nothing: `scores` by arm and rate, None for one that a health rule stops."""

    def __init__(self, study: Study, scores: dict[tuple[str, float], float | None]) -> None:
        self.study, self.scores, self.looks = study, scores, list[tuple[int, int, str]]()
        self.trials = [SimpleNamespace(task=t.definition) for t in study.trials]
        self.pretraining = self

    def train(self, arm: Arm, seed: int) -> Trained:
        assert not arm.rates
        ill = self.scores[arm.name.split(" at ")[0], rate(arm)] is None
        return Trained(runs=(arm.run,), costs=({"seconds": 2.0} | ({"stopped": {"update": 1}} if ill else {}),))

    def judge(self, arm: Arm, seed: int, number: int, on: str) -> Any:
        self.looks.append((seed, number, on))
        return SimpleNamespace(value=self.scores[arm.name.split(" at ")[0], rate(arm)])


def study(task: str, *arms: Arm) -> Study:
    return Study(corpus="embedded", arms=arms, trials=(Trial(task=task), Trial(task="keyword")), seeds=(5, 6))


@pytest.mark.parametrize(
    ("best", "following"), [(1e-3, [3e-3]), (1e-4, [3e-5]), (3e-4, [])], ids=["highest", "lowest", "between"]
)
def test_the_next_rate_lies_beyond_the_best_where_that_is_outermost(best: float, following: list[float]) -> None:
    assert beyond((1e-4, 3e-4, 1e-3), best) == following


@pytest.mark.parametrize(("task", "best"), [("speaker-id", HIGH), ("asr", LOW)])
def test_each_arm_gets_its_best_rate_whichever_way_the_metric_goes(task: str, best: float) -> None:
    arms = (
        Arm(name="a", run=RUN, rates=(LOW, HIGH)),
        Arm(name="b", run=RUN, rates=(LOW, HIGH)),
        Arm(name="c", run=RUN),
    )
    scores = {("a", LOW): 0.3, ("a", HIGH): 0.4, ("b", LOW): 0.9, ("b", HIGH): None}
    further = {("a", LOWEST): None, ("a", HIGHEST): None, ("b", LOWEST): None}
    room = Room(study(task, *arms), scores | further)
    found, tried = chosen(room.study, lambda: room)  # type: ignore[arg-type,return-value]
    assert [rate(arm) for arm in found.arms] == [best, LOW, rate(arms[2])]  # one that falls ill is out
    assert [(a.name, a.rates) for a in found.arms] == [("a", ()), ("b", ()), ("c", ())]
    assert replace(found, arms=()) == replace(room.study, arms=())
    beside = {"0.0001": 0.3, "0.002": 0.4, f"{beyond((LOW, HIGH), best)[0]:g}": None}
    assert tried["a"] == {"chosen": best, "dev": beside, "seed": 5, "seconds": 6.0}
    assert tried["b"]["dev"]["0.002"] is None and set(tried) == {"a", "b"}
    assert set(room.looks) == {(5, 0, "dev")} and len(room.looks) == 3


def test_a_sweep_goes_on_beyond_its_ends_but_not_for_ever() -> None:
    arms = (Arm(name="a", run=RUN, rates=(LOW, HIGH)), Arm(name="b", run=RUN, rates=(LOW, HIGH)))
    rising = {("a", LOW): 0.1, ("a", HIGH): 0.2, ("a", HIGHEST): 0.3, ("a", 3e-2): 0.4, ("a", 0.1): 0.5}
    falling = {("b", LOW): 0.2, ("b", HIGH): 0.1, ("b", LOWEST): 0.3, ("b", 1e-5): 0.2}
    room = Room(study("speaker-id", *arms), rising | falling)
    found, tried = chosen(room.study, lambda: room)  # type: ignore[arg-type,return-value]
    assert [rate(arm) for arm in found.arms] == [3e-2, LOWEST]
    assert len(tried["a"]["dev"]) == len(tried["b"]["dev"]) == 2 + FURTHER


def test_an_arm_that_falls_ill_at_every_rate_keeps_the_first() -> None:
    room = Room(study("asr", Arm(name="a", run=RUN, rates=(HIGH, LOW))), {("a", LOW): None, ("a", HIGH): None})
    (arm,) = chosen(room.study, lambda: room)[0].arms  # type: ignore[arg-type,return-value]
    assert rate(arm) == HIGH


def test_a_study_without_rates_opens_no_laboratory_and_a_control_has_none() -> None:
    one = study("asr", Arm(name="a", run=RUN))
    assert chosen(one, lambda: pytest.fail("opened")) == (one, {})
    with pytest.raises(ValueError, match="'a' is untrained, so it has no rate"):
        Arm(name="a", run=RUN, kind="untrained", rates=(LOW,))


def test_a_claim_trains_all_seeds_at_the_rate_that_development_rows_chose(tmp_path: Path) -> None:
    run = replace(RUN, data=replace(RUN.data, where=None), loop=replace(RUN.loop, updates=2))
    arms = (Arm(name="untrained", run=run, kind="untrained"), Arm(name="tera", run=run, rates=(LOW, HIGH)))
    tuned = Study(arms=arms, trials=(Trial(task="speaker-id"),), corpus="embedded", where=VOICES, seeds=(0, 1))
    claim = Claim(recipe="tera", text="", study=tuned, expected=(("tera", "untrained"),))
    result = check(claim, tmp_path, lambda _: None)
    best = result["rates"]["tera"]["chosen"]
    dev = [float(r) for r in result["rates"]["tera"]["dev"]]
    assert {LOW, HIGH} <= set(dev) and best in dev and len(dev) <= 2 + FURTHER
    trained = {p.parent.name: json.loads(p.read_text())["config"] for p in tmp_path.glob("tera-*/run.json")}
    assert sorted((c["seed"], c["players"][0]["optim"]["lr"]) for c in trained.values()) == sorted(
        [*((0, r) for r in dev), (1, best)]
    )
    assert [trained[name]["players"][0]["optim"]["lr"] for name in result["runs"]["tera"]] == [best, best]
    (split,) = (t.split.rows for t in Laboratory(tuned, tmp_path, lambda _: None).trials)
    scored = [pq.read_table(p).num_rows for p in tmp_path.glob("judged/**/predictions.parquet")]
    assert sorted(scored) == sorted([len(split["dev"]) // 2] * len(dev) + [len(split["test"])] * 4)
