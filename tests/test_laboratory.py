"""The laboratory: fair splits, honest verdicts, studies that go on where they were."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from overture import outcome, provenance
from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.features import LogMel
from overture.data.split import normal
from overture.data.table import Table
from overture.errors import OvertureError
from overture.judging import frontend_of
from overture.laboratory import Laboratory, check, compare
from overture.objectives import Loss
from overture.objectives.distillation import Distillation
from overture.recipes import get
from overture.run import Run
from overture.study import Arm, Claim, Study, Trial
from overture.tasks import find_task, finetune_classes
from overture.tasks.finetune_classes import finetune as finetune_classes_finetune
from overture.train.engine import Engine
from overture.train.loop import train
from overture.train.state import checkpoints, read_weights
from overture.train.track import read_metrics
from overture.trials import Labelled
from overture.verdicts import Score, compare_arms, verdict

from .tasks.toys import Loudness, Strided, exploding, waves

SPEAKERS = "speaker in ('joe', 'bob', 'tam') and duration between 0.6 and 2"
ENGLISH = "language = 'en' and duration between 0.6 and 4"


def small(updates: int = 2) -> Run:
    run = get("tera:tiny")
    return replace(run, data=replace(run.data, where=None), loop=replace(run.loop, updates=updates))


def study(*tasks: str, where: str = SPEAKERS, seeds: tuple[int, ...] = (0, 1), **trial: Any) -> Study:
    run = small()
    return Study(
        arms=(
            Arm(name="log-mel", run=run, kind="input"),
            Arm(name="untrained", run=run, kind="untrained"),
            Arm(name="tera", run=run),
        ),
        trials=tuple(Trial(task=t, **trial) for t in tasks),
        corpus="embedded",
        where=where,
        seeds=seeds,
    )


def untold(record: dict[str, Any]) -> None: ...


def ids(laboratory: Laboratory, trial: int, part: str) -> set[str]:
    table = laboratory.trials[trial].table
    return set(table.numpy("id")[laboratory.trials[trial].split.rows[part]])


def test_a_reference_from_outside_is_judged_on_the_arms_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from overture.tasks import outside

    asked: list[int] = []

    def loudness(table: Table) -> np.ndarray:
        asked.append(len(table))
        return np.asarray(table.numpy("level"), dtype=np.float32)[:, None]

    monkeypatch.setitem(outside.REFERENCES, "loudness", loudness)
    one = study("speaker-id", outside=("loudness",))
    one = replace(one, arms=one.arms[:1])
    result, again = (compare(one, tmp_path, untold, budget="none") for _ in range(2))
    found = result["outside"]["speaker-id"]["loudness"]
    assert 0 <= found["ci95"][0] <= found["value"] <= found["ci95"][1] <= 1 and again["outside"] == result["outside"]
    (split,) = result["data"]["splits"]
    assert asked == [sum(part["rows"] for part in split["parts"].values())]  # all that the arms saw, and once
    assert set(result["arms"]) == {"log-mel"}
    with pytest.raises(OvertureError, match=r"no reference .loudnes.\. Did you mean .loudness."):
        compare(replace(one, trials=(replace(one.trials[0], outside=("loudnes",)),)), tmp_path, untold, budget="none")


def test_what_any_trial_is_tuned_or_scored_on_is_not_pretrained_on(tmp_path: Path) -> None:
    laboratory = Laboratory(study("asr", "speaker-id", where=ENGLISH), tmp_path, untold)
    view = Table.open(laboratory.pretraining.corpus)
    seen, whole = set(view.numpy("id")), set(Table.open("embedded", ENGLISH).numpy("id"))
    held = set[str]().union(*(ids(laboratory, t, part) for t in (0, 1) for part in ("dev", "test")))
    assert seen == whole - held and len(held) > 100
    assert not set(view.numpy("sha1")) & set(Table.open("embedded", ENGLISH).take(  # nor the same recording by another name
        np.flatnonzero([i in held for i in Table.open("embedded", ENGLISH).numpy("id")])).numpy("sha1"))  # fmt: skip
    alone = Laboratory(study("asr", where=ENGLISH), tmp_path, untold)
    assert seen < set(Table.open(alone.pretraining.corpus).numpy("id"))  # a second trial holds more out
    for arm in laboratory.study.arms:
        run = laboratory.pretraining.own(arm, 1)
        assert (run.data.corpus, run.data.where, run.seed) == (laboratory.pretraining.corpus, None, 1)
    assert (
        Laboratory(study("asr", "speaker-id", where=ENGLISH), tmp_path, untold).pretraining.corpus
        == laboratory.pretraining.corpus
    )


def test_asr_parts_share_no_voice_and_no_sentence(tmp_path: Path) -> None:
    laboratory = Laboratory(study("asr", where=ENGLISH), tmp_path, untold)
    table, rows = laboratory.trials[0].table, laboratory.trials[0].split.rows
    for column, key in (("speaker", str), ("text", normal)):
        values = {part: {key(v) for v in table.numpy(column)[rows[part]]} for part in rows}
        assert all(values.values())
        assert not values["train"] & (values["dev"] | values["test"]) and not values["dev"] & values["test"]


def test_speaker_parts_share_all_voices(tmp_path: Path) -> None:
    laboratory = Laboratory(study("speaker-id", where=ENGLISH, min_count=50), tmp_path, untold)
    table, rows = laboratory.trials[0].table, laboratory.trials[0].split.rows
    voices = {part: set(table.numpy("speaker")[rows[part]]) for part in rows}
    assert len(voices["train"]) >= 2 and voices["train"] == voices["dev"] == voices["test"]
    assert sum(map(len, rows.values())) + laboratory.trials[0].split.left_out == len(table)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (study("speaker-id", min_count=10_000), "at least two values of 'speaker' with 10000 rows or more"),
        (study("speaker-id", where="duration > 0.6 and speaker = 'joe'"), "at least two values of 'speaker'"),
        (study("asr", where="duration < 0.1"), "no row of corpus 'embedded' can be used for task 'asr'"),
        (study("asrr"), "no task 'asrr'. Did you mean 'asr'"),
        (replace(study("asr"), corpus="embeded"), "no corpus 'embeded'"),
    ],
)
def test_a_study_that_cannot_be_is_said_at_once(tmp_path: Path, wrong: Study, said: str) -> None:
    with pytest.raises(OvertureError, match=said):
        Laboratory(wrong, tmp_path, untold)


def score(errors: list[int], totals: list[int] | None = None) -> Score:
    events, all_ = np.array(errors), np.array(totals or [1] * len(errors))
    return Score(float(events.sum() / all_.sum()), events, all_, {})


def test_compare_arms() -> None:
    rng = np.random.default_rng(0)
    low = [score((rng.random(200) < p).astype(int).tolist()) for p in (0.5, 0.52, 0.48)]
    high = [score((rng.random(200) < p).astype(int).tolist()) for p in (0.7, 0.74, 0.68)]
    found = compare_arms("high", high, "low", low)
    assert (found["better"], found["worse"]) == ("high", "low")
    assert found["difference"] == pytest.approx(np.mean([h.value - w.value for h, w in zip(high, low)]))
    assert found["difference"] > 0.1
    (a, b), (c, d) = found["ci95_seeds"], found["ci95_utterances"]
    assert a < found["difference"] < b and c < found["difference"] < d
    assert found["ci95"] == [min(a, c), max(b, d)]
    turned = compare_arms("low", low, "high", high)
    assert turned["difference"] == pytest.approx(-found["difference"])
    assert turned["ci95_seeds"] == pytest.approx([-b, -a])

    from scipy import stats

    from overture.tasks.metrics import Counts, paired_bootstrap

    rough = [score((rng.random(200) < p).astype(int).tolist()) for p in (0.6, 0.95, 0.5)]
    for arm, seeds_decide in ((high, False), (rough, True)):  # p is the larger of the two
        pooled = [
            Counts(np.sum([s.events for s in x], axis=0), np.sum([s.totals for s in x], axis=0)) for x in (arm, low)
        ]
        over_seeds = float(stats.ttest_rel([s.value for s in arm], [s.value for s in low]).pvalue)
        over_utterances = paired_bootstrap(*pooled).p
        assert (over_seeds > over_utterances) == seeds_decide
        assert compare_arms("a", arm, "low", low)["p"] == pytest.approx(max(over_seeds, over_utterances))


def test_compare_arms_with_one_seed_speaks_of_utterances_only() -> None:
    one, other = score([1, 0] * 50), score([1, 1] * 50)
    found = compare_arms("other", [other], "one", [one])
    assert found["ci95_seeds"] is None and found["ci95"] == found["ci95_utterances"]
    assert found["difference"] == 0.5 and found["ci95"][0] > 0 and found["p"] < 0.01
    same = compare_arms("a", [one, one], "b", [one, one])
    assert same["difference"] == 0 and same["ci95"][0] <= 0 <= same["ci95"][1] and same["p"] > 0.5


@pytest.mark.parametrize(
    ("intervals", "if_higher", "if_lower"),
    [
        ([[0.1, 0.3]], "holds", "does not hold"),
        ([[-0.3, -0.1]], "does not hold", "holds"),
        ([[-0.1, 0.3]], "undecided", "undecided"),
        ([[0.0, 0.3]], "undecided", "undecided"),
        ([[-0.3, 0.0]], "undecided", "undecided"),
        ([[0.1, 0.3], [0.2, 0.4]], "holds", "does not hold"),
        ([[0.1, 0.3], [-0.1, 0.4]], "undecided", "does not hold"),
        ([[0.1, 0.3], [-0.4, -0.1]], "does not hold", "does not hold"),
    ],
)
def test_verdict(intervals: list[list[float]], if_higher: str, if_lower: str) -> None:
    comparisons = [{"ci95": interval} for interval in intervals]
    assert verdict(comparisons, True) == if_higher
    assert verdict(comparisons, False) == if_lower


def nothing_absolute(value: Any) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            nothing_absolute(key)
            nothing_absolute(inner)
    elif isinstance(value, list):
        for inner in value:
            nothing_absolute(inner)
    elif isinstance(value, str):
        assert not value.startswith("/") and str(Path.home()) not in value and ":\\" not in value, value


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What has been trained, as (run folder, seed), in order."""
    done: list[tuple[str, int]] = []

    def counted(run: Run, folder: Path, **given: Any) -> Any:
        done.append((folder.name, run.seed))
        return train(run, folder, **given)

    monkeypatch.setattr("overture.train.loop.train", counted)
    return done


@pytest.fixture
def judgings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What has been judged, as (arm, seed, trial), in order."""
    done: list[tuple[str, int, int]] = []
    probe = Laboratory._probe

    def counted(self: Laboratory, folder: Path, arm: Arm, run: Run, seed: int, trial: Labelled, *packed: Any) -> None:
        probe(self, folder, arm, run, seed, trial, *packed)
        done.append((arm.name, seed, self.trials.index(trial)))

    monkeypatch.setattr(Laboratory, "_probe", counted)
    return done


def test_a_killed_study_goes_on_and_does_nothing_twice(
    tmp_path: Path, trainings: list[tuple[str, int]], judgings: list[tuple[str, int, int]]
) -> None:
    claim = Claim(
        recipe="tera",
        text="It beats both.",
        study=study("speaker-id"),
        expected=(("tera", "untrained"), ("tera", "log-mel")),
        deviations=("It is tiny.",),
    )
    told: list[str] = []

    class Killed(Exception):
        pass

    def kill(record: dict[str, Any]) -> None:
        if record["kind"] == "stage" and record["text"].startswith("speaker-id"):
            told.append(record["text"])
            if len(told) == 2:
                raise Killed

    with pytest.raises(Killed):
        check(claim, tmp_path, kill)
    assert judgings == [("log-mel", 0, 0)] and trainings == []

    def kill_later(record: dict[str, Any]) -> None:
        if record["kind"] == "stage" and "tera, seed 0" in record["text"] and record["text"].startswith("speaker-id"):
            raise Killed

    with pytest.raises(Killed):
        check(claim, tmp_path, kill_later)
    assert judgings == [("log-mel", 0, 0), ("untrained", 0, 0)] and len(trainings) == 1

    result = check(claim, tmp_path, untold)
    assert judgings == [(arm, seed, 0) for seed in (0, 1) for arm in ("log-mel", "untrained", "tera")]
    assert [seed for _, seed in trainings] == [0, 1]
    again = check(claim, tmp_path, untold)
    assert len(judgings) == 6 and len(trainings) == 2 and again == result

    # The shape that results/NAME.json has.
    result = json.loads(json.dumps(result, allow_nan=False))
    nothing_absolute(result)
    assert (result["recipe"], result["claim"], result["deviations"]) == ("tera", "It beats both.", ["It is tiny."])
    assert result["metric"] == "accuracy" and result["higher_is_better"] is True and result["also"] == {}
    assert list(result["arms"]) == ["log-mel", "untrained", "tera"]
    for arm in result["arms"].values():
        assert len(arm["seeds"]) == 2 and arm["mean"] == pytest.approx(np.mean(arm["seeds"]))
        assert arm["ci95"][0] <= arm["mean"] <= arm["ci95"][1]
    assert [(c["better"], c["worse"]) for c in result["comparisons"]] == list(claim.expected)
    means = {name: arm["mean"] for name, arm in result["arms"].items()}
    for c in result["comparisons"]:
        assert c["difference"] == pytest.approx(means[c["better"]] - means[c["worse"]])
        assert set(c) == {"better", "worse", "difference", "ci95", "ci95_seeds", "ci95_utterances", "p", "detectable"}
    assert result["verdict"] == verdict(result["comparisons"], True)
    assert result["runs"] == {"tera": [name for name, _ in trainings]}
    assert all((tmp_path / name / "run.json").exists() for name in result["runs"]["tera"])
    assert result["cost"]["updates"] == 4 and result["cost"]["seconds"] > 0 and result["cost"]["device"]
    assert set(result["cost_by_arm"]) == {"tera"} and result["cost_by_arm"]["tera"]["updates"] == 2
    data, table = result["data"], Table.open("embedded", SPEAKERS)
    assert (data["corpus"], data["where"], data["rows"]) == ("embedded", SPEAKERS, len(table))
    assert data["fingerprint"] == table.fingerprint and data["licences"] == sorted(set(table.numpy("licence")))
    held = sum(data["splits"][0]["parts"][part]["rows"] for part in ("dev", "test"))
    assert data["pretraining"]["rows"] == len(table) - held
    assert "commit" in result
    assert result["kinds"] == {"log-mel": "input", "untrained": "untrained", "tera": "trained"}
    for name, watch in zip(result["runs"]["tera"], result["pretraining_watch"]["tera"], strict=True):
        assert watch == [r for r in read_metrics(tmp_path / name) if r["kind"] == "update"][-1]["watch"]
        assert set(watch) >= {"variance", "rank"}


@dataclass(frozen=True, kw_only=True)
class Unlucky(Loudness):
    """Its loss is infinite with one seed, from an update on."""

    seed: int
    update: int

    def __call__(self, model: Any, batch: Batch, draws: Draws) -> Loss:
        loss = super().__call__(model, batch, draws)
        ill = draws.seed == self.seed and draws.update >= self.update
        return loss._replace(sum=loss.sum * torch.inf) if ill else loss


def with_ill_arms(seeds: tuple[int, ...] = (0, 1)) -> Study:
    """A healthy arm, one that falls ill with seed 1 at update 3, one that always does; both controls."""
    run = waves(updates=4)
    unlucky = replace(run, players=(replace(run.players[0], objective=Unlucky(seed=1, update=3)),))
    arms = (
        Arm(name="log-mel", run=run, kind="input"),
        Arm(name="untrained", run=run, kind="untrained"),
        Arm(name="unlucky", run=unlucky),
        Arm(name="exploding", run=exploding(updates=4)),
        Arm(name="healthy", run=run),
    )
    return replace(study("speaker-id", "speaker-finetune", min_count=5), arms=arms, seeds=seeds)


@pytest.fixture
def few_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fine-tuning in no time."""

    def finetune(*given: Any, **more: Any) -> Any:
        return finetune_classes_finetune(*given, **more, updates=1, rates=(1e-3,))

    monkeypatch.setattr(finetune_classes, "finetune", finetune)


@pytest.mark.usefixtures("few_updates")
def test_an_arm_that_falls_ill_is_reported_and_sinks_no_study(
    tmp_path: Path, trainings: list[tuple[str, int]], judgings: list[tuple[str, int, int]]
) -> None:
    claim = Claim(
        recipe="waves",
        text="Healthy is best.",
        study=with_ill_arms(),
        expected=(("healthy", "untrained"), ("healthy", "unlucky")),
        expected_also=(
            ("speaker-id", "healthy", "log-mel"),
            ("speaker-id", "exploding", "log-mel"),
            ("speaker-finetune", "healthy", "untrained"),
            ("speaker-finetune", "unlucky", "untrained"),
        ),
    )
    told: list[str] = []

    def pretrained() -> list[tuple[str, int]]:
        return [(name, seed) for name, seed in trainings if "speaker-classes" not in name]

    def tell(record: dict[str, Any]) -> None:
        if record["kind"] == "note":
            told.append(record["text"])

    result = json.loads(json.dumps(check(claim, tmp_path, tell), allow_nan=False))
    assert list(result["stopped"]) == ["exploding", "unlucky"]
    assert [(s["seed"], s["cause"]) for s in result["stopped"]["exploding"]] == [(0, "not finite"), (1, "not finite")]
    (stop,) = result["stopped"]["unlucky"]
    assert (stop["seed"], stop["update"], stop["cause"]) == (1, 3, "not finite") and "loss inf" in stop["message"]
    assert result["verdict"] == "undecided" == result["also"]["speaker-finetune"]["verdict"]
    for part, arms in ((result, {"log-mel", "untrained", "healthy"}), (result["also"]["speaker-finetune"], {"untrained", "healthy"})):  # fmt: skip
        assert set(part["arms"]) == set(part["probes"]) == set(part["groups"]) == arms
        assert all(len(arm["seeds"]) == 2 for arm in part["arms"].values())
    pairs = [(c["better"], c["worse"]) for c in result["comparisons"]]
    assert pairs == [("healthy", "untrained"), ("healthy", "log-mel")]
    assert (result["expected"], result["expected_also"]) == (
        [list(p) for p in claim.expected],
        [list(p) for p in claim.expected_also],
    )
    # Who fell ill costs, too, but is in no mean.
    assert set(result["cost_by_arm"]) == {"healthy"} and result["cost_by_arm"]["healthy"]["updates"] == 4
    exploded = [s["update"] for s in result["stopped"]["exploding"]]
    assert result["cost"]["updates"] == 2 * 4 + (4 + 3) + sum(exploded)
    assert set(result["runs"]) == {"unlucky", "exploding", "healthy"} == set(result["pretraining_watch"])
    assert all((tmp_path / name).is_dir() for names in result["runs"].values() for name in names)
    # Judged: nothing of an arm that is known to be ill. Trained: every seed, since one alone may fall ill.
    assert {(arm, seed) for arm, seed, _ in judgings if arm in ("unlucky", "exploding")} == {("unlucky", 0)}
    assert len(pretrained()) == 6 and len(told) == 3
    ill = tmp_path / Laboratory(claim.study, tmp_path, untold).pretraining.own(claim.study.arms[2], 1).folder_name
    assert told[-2] == (
        f"unlucky takes part in no comparison: stopped at update 3 with seed 1: not finite. "
        f"To train it again, delete {ill}"
    )
    # Nothing is done twice.
    done = len(trainings)
    assert check(claim, tmp_path, tell) == result and len(trainings) == done and told[3:] == told[:3]
    assert outcome.kept(ill) is None and outcome.stopped(ill) is not None  # `overture run` would still train it
    shutil.rmtree(ill)
    assert check(claim, tmp_path, untold)["stopped"] == result["stopped"]
    assert trainings[done:] == [(ill.name, 1)]
    # A claim that rests on healthy arms is decided as ever.
    beside = replace(claim, expected=claim.expected[:1], expected_also=(("speaker-id", "unlucky", "untrained"),))
    decided = check(beside, tmp_path, untold)
    assert decided["verdict"] == verdict(decided["comparisons"], True) and len(decided["comparisons"]) == 1
    assert "verdict" not in decided["also"]["speaker-finetune"]


def test_the_best_is_of_the_healthy_arms(tmp_path: Path) -> None:
    conducted = replace(with_ill_arms(seeds=(0,)), trials=(Trial(task="speaker-id", min_count=5),))
    result = compare(conducted, tmp_path, untold, budget="1m")
    assert set(result["stopped"]) == {"exploding"}
    assert result["best"] == max(result["arms"], key=lambda a: result["arms"][a]["mean"])
    others = set(result["arms"]) - {result["best"]}
    assert {(c["better"], c["worse"]) for c in result["comparisons"]} == {(result["best"], name) for name in others}
    assert "exploding" not in others and len(others) == 3
    two = replace(conducted, arms=conducted.arms[3:])
    alone = compare(two, tmp_path, untold, budget="1m")
    assert (alone["best"], alone["comparisons"], alone["best_is_real"]) == ("healthy", [], False)


def test_when_all_fall_ill_there_is_nothing_to_compare(tmp_path: Path, trainings: list[tuple[str, int]]) -> None:
    whole = with_ill_arms(seeds=(0, 1, 2))
    conducted = replace(whole, arms=whole.arms[:4], trials=(Trial(task="speaker-id", min_count=5),))
    for _ in range(2):
        with pytest.raises(
            OvertureError,
            match=r"stopped the pre-training of every arm, so there is nothing to compare: unlucky stopped at update 3 with "
            r"seed 1: not finite: loss inf.*; exploding stopped at update \d with seed 0: not finite",
        ):
            compare(conducted, tmp_path, untold, budget="1m")
    assert [seed for _, seed in trainings] == [0, 0, 1]  # known then, and not trained again
    alone = replace(conducted, arms=conducted.arms[3:])
    with pytest.raises(OvertureError, match="stopped the pre-training of the only arm, so there is nothing to compare"):
        compare(alone, tmp_path, untold, budget="1m")


@pytest.mark.parametrize("error", [OvertureError("no memory"), OSError(28, "No space left"), ValueError("a bug")])
def test_what_is_no_illness_still_ends_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(run: Run, folder: Path, **given: Any) -> Any:
        train(run, folder, **given)
        raise error

    monkeypatch.setattr("overture.train.loop.train", fail)
    conducted = replace(with_ill_arms(), arms=with_ill_arms().arms[-1:])
    with pytest.raises(type(error), match=str(error.args[-1])):
        compare(conducted, tmp_path, untold, budget="1m")
    assert not list(tmp_path.rglob("outcome.json"))
    monkeypatch.setattr(
        "overture.train.loop.train", lambda run, folder, **given: replace(train(run, folder, **given), finished=False)
    )
    with pytest.raises(KeyboardInterrupt):
        compare(conducted, tmp_path, untold, budget="1m")
    assert not list(tmp_path.rglob("outcome.json"))


def test_of_rules_that_stop_a_run_together_the_first_is_its_cause(tmp_path: Path) -> None:
    about = {"kind": "health", "stopped": True, "message": "Lower optim.lr"}
    records = [
        {"kind": "update", "update": 40, "seconds": 8.0, "audio_hours": 0.5},
        {**about, "update": 40, "rule": "vanished rank", "stopped": False},  # tolerated
        {**about, "update": 50, "rule": "vanished variance"},
        {**about, "update": 50, "rule": "collapsed codebook"},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    outcome.keep_stopped(tmp_path)
    stop = {"update": 50, "cause": "vanished variance", "message": "Lower optim.lr"}
    assert outcome.stopped(tmp_path) == {
        "updates": 50,
        "seconds": 8.0,
        "audio_hours": 0.5,
        "tokens": 0.0,
        "stopped": stop,
    }
    assert outcome.kept(tmp_path) is None and [p.name for p in tmp_path.glob("outcome*")] == ["outcome.json"]


def test_a_front_end_is_not_fine_tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, str]] = []

    def judge(self: Laboratory, arm: Arm, seed: int, number: int) -> Score:
        asked.append((arm.name, seed, self.study.trials[number].task))
        value = score([seed, 1, 2], [5, 5, 5])
        return replace(value, detail={"groups": []})

    monkeypatch.setattr(Laboratory, "judge", judge)
    result = compare(study("asr-finetune", "asr", where=ENGLISH), tmp_path, untold, budget="1m")
    assert {(arm, task) for arm, _, task in asked} == {
        ("untrained", "asr-finetune"), ("tera", "asr-finetune"), ("log-mel", "asr"), ("untrained", "asr"), ("tera", "asr"),
    }  # fmt: skip
    assert set(result["arms"]) == {"untrained", "tera"} and set(result["also"]["asr"]["arms"]) == {
        "log-mel", "untrained", "tera",
    }  # fmt: skip
    assert result["metric"] == "character error rate" and result["higher_is_better"] is False


def test_the_best_arm_of_an_error_rate_is_the_lowest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {"log-mel": 3, "untrained": 4, "tera": 1}

    def judge(self: Laboratory, arm: Arm, seed: int, number: int) -> Score:
        return replace(score([errors[arm.name]] * 60, [5] * 60), detail={"groups": []})

    monkeypatch.setattr(Laboratory, "judge", judge)
    result = compare(study("asr", where=ENGLISH), tmp_path, untold, budget="1m")
    assert result["best"] == "tera" and result["best_is_real"] is True and result["budget"] == "1m"
    assert [(c["better"], c["worse"]) for c in result["comparisons"]] == [("tera", "log-mel"), ("tera", "untrained")]
    errors["tera"] = 3
    tied = compare(study("asr", where=ENGLISH), tmp_path, untold, budget="1m")
    assert tied["best_is_real"] is False


@pytest.mark.filterwarnings("error")
def test_differences_equal_but_for_rounding_are_no_spread() -> None:
    better, worse = ([score([1] * n + [0] * (10 - n)) for n in counts] for counts in ((7, 8), (6, 7)))
    found = compare_arms("a", better, "b", worse)  # 0.7 - 0.6 and 0.8 - 0.7
    assert found["difference"] == pytest.approx(0.1) and 0 < found["p"] <= 1


def test_labels_may_come_from_another_corpus(tmp_path: Path) -> None:
    """Nothing of the study's corpus is then held out, but for recordings that both have."""
    whole = Table.open("embedded", SPEAKERS)
    at = whole.columns.column_names.index("id")
    columns = whole.columns.set_column(at, "id", pa.array([f"other-{i}" for i in whole.numpy("id")]))
    Table(columns, name="elsewhere", root=whole.root).save("elsewhere")
    laboratory = Laboratory(study("speaker-id", corpus="elsewhere", min_count=5), tmp_path, untold)
    assert laboratory.trials[0].table.name == "elsewhere"
    held = {i.removeprefix("other-") for part in ("dev", "test") for i in ids(laboratory, 0, part)}
    assert held and set(Table.open(laboratory.pretraining.corpus).numpy("id")) == set(whole.numpy("id")) - held
    apart = replace(laboratory.study, where="speaker = 'faye'")
    assert len(Table.open(Laboratory(apart, tmp_path, untold).pretraining.corpus)) == len(
        Table.open("embedded", apart.where)
    )
    data = provenance.of_data(laboratory.pretraining, laboratory.trials)
    assert data["corpus"] == "embedded" and data["splits"][0]["corpus"] == "elsewhere"
    assert data["splits"][0]["fingerprint"] == laboratory.trials[0].table.fingerprint
    with pytest.raises(OvertureError, match="no corpus 'elsewere'"):
        Laboratory(study("speaker-id", corpus="elsewere"), tmp_path, untold)
    with pytest.raises(
        OvertureError, match=r"task 'sound' needs the column\(s\) label, which corpus 'elsewhere' lacks"
    ):
        Laboratory(study("sound", corpus="elsewhere"), tmp_path, untold)


def test_few_labels_hold_each_class(tmp_path: Path) -> None:
    laboratory = Laboratory(study("speaker-id", where=ENGLISH, min_count=20, label_minutes=0.5), tmp_path, untold)
    table, rows = laboratory.trials[0].table, laboratory.trials[0].used()
    voices = table.numpy("speaker")
    assert set(voices[rows["train"]]) == set(voices[rows["test"]]) and len(set(voices)) > 10
    minutes = table.numpy("duration")[rows["train"]].sum() / 60
    assert 0.5 <= minutes < 0.6 and set(rows["train"]) < set(laboratory.trials[0].split.rows["train"])
    fewer = Laboratory(study("speaker-id", where=ENGLISH, min_count=20, label_minutes=0.1), tmp_path, untold)
    with pytest.raises(
        OvertureError, match=r"0.1 minutes of labels hold \d+ rows, fewer than the \d+ values of 'speaker'"
    ):
        fewer.trials[0].used()


def test_the_control_of_samples_is_log_mel(tmp_path: Path) -> None:
    run = waves()
    control = Arm(name="control", run=run, kind="input")
    laboratory = Laboratory(replace(study("speaker-id"), arms=(control,)), tmp_path, untold)
    pooled, frames = (frontend_of(control, find_task(name)) for name in ("speaker-id", "asr"))
    assert pooled == LogMel(normalise=False) and frames == LogMel()
    assert frontend_of(replace(control, kind="untrained"), find_task("asr")) == run.frontend
    score = laboratory.judge(control, 0, 0)
    assert len(score.detail["layer_weights"]) == 1 and 0 <= score.value <= 1


def test_another_network_is_fine_tuned_from_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any, str | None]] = []

    def finetune(run: Run, start: str | None, table: Table, **given: Any) -> Any:
        asked.append((run.recipe, run.model, start))
        return finetune_classes_finetune(run, start, table, **given, updates=1, rates=(1e-3,))

    monkeypatch.setattr(finetune_classes, "finetune", finetune)
    run = waves()
    other = OtherStrided()
    arms = (
        Arm(name="own", run=run),
        Arm(name="other", run=run, finetune_model=other),
        Arm(name="scratch", run=run, kind="untrained", finetune_model=Strided(deep=True)),
    )
    conducted = replace(study("speaker-finetune", min_count=5), arms=arms, seeds=(0,))
    result = compare(conducted, tmp_path, untold, budget="1m")
    (start,) = set(result["runs"]["own"] + result["runs"]["other"])  # pre-trained once
    assert asked == [("waves", Strided(), start), ("waves", other, start), ("waves", Strided(deep=True), None)]
    assert len(list((tmp_path / "judged").glob("judge-*"))) == 3  # three things to judge, of which none is another
    assert result["pretraining_watch"]["own"][0]["codes_used"] == 0.25
    assert result["pretraining_watch"]["own"][0]["top_code"] is None  # not finite
    json.dumps(result, allow_nan=False)
    deeper = replace(arms[1], finetune_model=Strided(deep=True))
    with pytest.raises(
        OvertureError, match=r"arm 'other' cannot be fine-tuned.*without pre-trained weights: deeper.bias"
    ):
        Laboratory(replace(conducted, arms=(deeper,)), tmp_path, untold)
    shallower = replace(arms[1], run=replace(run, model=Strided(deep=True)), finetune_model=Strided())
    with pytest.raises(OvertureError, match=r"pre-trained and left over: deeper.bias, deeper.weight"):
        Laboratory(replace(conducted, arms=(shallower,)), tmp_path, untold)
    wider = replace(arms[1], finetune_model=Strided(dim=24))
    with pytest.raises(OvertureError, match=r"of another size: convolve.bias"):
        Laboratory(replace(conducted, arms=(wider,)), tmp_path, untold)


class OtherStrided(Strided):
    """The same weights in a network that only its class tells apart."""


def test_an_arm_whose_start_has_heard_test_recordings_is_refused(tmp_path: Path) -> None:
    def started(where: str) -> Study:
        run = replace(small(1), data=replace(small().data, where=where))
        with Engine.start() as engine:
            train(run, tmp_path / run.folder_name, engine=engine)
        base = study("asr", seeds=(0,))
        return replace(base, arms=(*base.arms, Arm(name="on", run=replace(small(), start=run.folder_name))))

    with pytest.raises(
        OvertureError, match=r"arm 'on' starts from tera-.*, which was trained on \d+ recordings that this study"
    ):
        Laboratory(started("speaker = 'joe' and duration > 0.6"), tmp_path, untold)
    said: list[str] = []
    laboratory = Laboratory(started("speaker = 'bud'"), tmp_path, lambda record: said.append(record["text"]))
    assert laboratory.pretraining.corpus.startswith("embedded~") and not [s for s in said if "cannot be told" in s]


def staged() -> Study:
    """Spanish first, for two arms that are judged in English: one goes on there, one does not."""
    first = replace(small(), data=replace(small().data, where="language = 'es-MX'"))
    arms = (
        Arm(name="untrained", run=small(), kind="untrained"),
        Arm(name="base", run=small(3), kind="start", stages=(first,)),
        Arm(name="continued", run=small(3), stages=(first,)),
    )
    return replace(study("speaker-id"), arms=arms)


def test_arms_of_several_stages_share_what_is_the_same(tmp_path: Path, trainings: list[tuple[str, int]]) -> None:
    result = compare(staged(), tmp_path, untold, budget="none")
    assert [seed for _, seed in trainings] == [0, 0, 1, 1]  # a seed: the stage once, and what goes on from it
    for seed in (0, 1):
        (base,) = {result["runs"]["base"][seed], *result["stages"]["continued"][seed]}
        about = json.loads((tmp_path / result["runs"]["continued"][seed] / "run.json").read_text())
        assert about["config"]["start"] == base and about["start"]["missing"] == {} and about["start"]["matched"] > 0
    assert "base" not in result["stages"] and result["kinds"]["base"] == "start"
    first, last = result["heard"]["continued"]
    assert (
        first == result["heard"]["base"][0] and last["rows"] == result["data"]["pretraining"]["rows"] != first["rows"]
    )
    updates = {arm: result["cost_by_arm"][arm]["updates"] for arm in ("base", "continued")}
    assert updates == {"base": 2, "continued": 5} and result["cost"]["updates"] == 2 * 5  # what is shared is paid once
    folders = result["stages"]["continued"][0][-1], result["runs"]["continued"][0]
    before, after = (read_weights(checkpoints(tmp_path / name)[-1]) for name in folders)
    encoder = [n for n in before if not n.startswith("head.")]
    far = sum(float((after[n] - before[n]).square().sum()) for n in encoder) ** 0.5
    assert set(result["moved"]) == {"continued"} and result["moved"]["continued"][0] == pytest.approx(far, rel=1e-4)


def test_an_arm_that_is_taught_shares_what_its_teacher_began_with(
    tmp_path: Path, trainings: list[tuple[str, int]]
) -> None:
    base, on = staged().arms[1:]
    player = on.run.players[0]
    listening = replace(player, objective=Distillation(pretext=player.objective, whole="mean"))
    teacher = replace(on.run, data=replace(on.run.data, where=SPEAKERS))
    taught = replace(on, name="taught", run=replace(on.run, players=(listening,)), teacher=(*on.stages, teacher))
    arms = (base, on, taught)
    result = compare(replace(staged(), arms=arms, seeds=(0,)), tmp_path, untold, budget="none")
    assert len(trainings) == 3  # the base, what goes on from it and teaches, and who is taught
    about = json.loads((tmp_path / result["runs"]["taught"][0] / "run.json").read_text())
    assert about["config"]["start"] == result["stages"]["continued"][0][0] == about["start"]["path"]
    assert about["config"]["teacher"] == result["runs"]["continued"][0] == about["teacher"]["path"]
    assert result["cost_by_arm"]["taught"]["updates"] == 2 + 3 + 3  # the shared base once, though both began with it


def test_a_start_is_judged_by_the_weights_of_its_stage(tmp_path: Path) -> None:
    laboratory = Laboratory(staged(), tmp_path, untold)
    laboratory.conduct(lambda *_: [])
    base, on = laboratory.study.arms[1:]
    assert laboratory.pretraining.weights(base, 0) == tmp_path / str(laboratory.pretraining.own(on, 0).start)
    scores = [laboratory.judge(arm, 0, 0).detail["layer_weights"] for arm in laboratory.study.arms]
    assert scores[0] != scores[1] != scores[2]


def test_no_stage_hears_what_is_held(tmp_path: Path) -> None:
    arms = staged().arms
    inside = replace(arms[2].stages[0], data=replace(small().data, where=SPEAKERS))
    laboratory = Laboratory(replace(staged(), arms=(replace(arms[2], stages=(inside,)),)), tmp_path, untold)
    stage = next(laboratory.pretraining.chain(laboratory.study.arms[0], 0))
    heard, held = (set(t.numpy("sha1")) for t in (Table.open(stage.data.corpus), laboratory.trials[0].held))
    assert held and heard and not heard & held


def test_a_stage_that_falls_ill_takes_its_arms_with_it(tmp_path: Path) -> None:
    ill = replace(
        staged().arms[1].stages[0], players=(replace(small().players[0], optim=exploding().players[0].optim),)
    )
    arms = tuple(replace(a, stages=(ill,)) if a.stages else a for a in staged().arms)
    own = Arm(name="own", run=small())
    result = compare(replace(staged(), arms=(*arms, own)), tmp_path, untold, budget="none")
    assert set(result["stopped"]) == {"base", "continued"} and set(result["arms"]) == {"untrained", "own"}


def test_an_arm_that_cannot_be_is_refused() -> None:
    run = small()
    for wrong in ({"kind": "untrained", "stages": (run,)}, {"kind": "start"}):
        with pytest.raises(ValueError, match="stages"):
            Arm(name="a", run=run, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no start of its own"):
        Arm(name="a", run=replace(run, start="there"), stages=(run,))
    with pytest.raises(ValueError, match="nobody can teach it"):
        Arm(name="a", run=run, kind="untrained", teacher=(run,))
    with pytest.raises(ValueError, match="told no voices by a speaker encoder"):
        Arm(name="a", run=run, encoder=run)


def test_rows_of_another_language_are_learnt_from_and_never_scored() -> None:
    where = {"train": "speaker = 'joe'", "dev": "speaker = 'bud'", "test": "speaker = 'bob'"}
    trial = Trial(task="asr-finetune", where=ENGLISH, parts=tuple(where.items()), label_minutes=1.0)
    own = Labelled(trial, Table.open("embedded"), untold)
    alone, rows = own.packed()
    more, with_more = own.packed("language = 'es-MX' and duration < 2")
    assert [*with_more] == [*rows] and all((rows[p] == with_more[p]).all() for p in ("dev", "test"))
    assert (more.numpy("id")[: len(alone)] == alone.numpy("id")).all()
    added = np.setdiff1d(with_more["train"], rows["train"])
    assert len(added) > 50 and set(more.numpy("language")[added]) == {"es-MX"}
    assert own.mark(more, with_more) != own.mark(alone, rows)
    assert {s.split("/")[0] for s in more.numpy("speaker")[rows["train"]]} == {"joe"}
    taken, _ = own.packed(f"({ENGLISH}) and speaker in ('bob', 'tam')")  # bob is whom it is scored on
    assert set(taken.numpy("speaker")[len(alone) :]) == {"tam"}
    held = {normal(t) for t in own.held.numpy("text")}
    assert not held & {normal(t) for t in taken.numpy("text")[len(alone) :]}
    with pytest.raises(OvertureError, match="no further row of corpus 'embedded' is left by"):
        own.packed("speaker = 'bob'")
