"""`overture compare` and `check` as a person types them."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest

from overture.cli.study import TIMES, in_words, parse_budget, speeds_of, uneven, updates_for
from overture.data.features import LogMel
from overture.errors import OvertureError
from overture.export import read_run
from overture.models.transforms import find
from overture.recipes import get
from overture.report import results_markdown
from overture.report.verdict import verdict
from overture.study import Arm, Claim, Study, Trial
from overture.tasks import finetune_classes

from ..tasks.toys import exploding, waves
from .conftest import Typed

Overture = Callable[..., Typed]
FEW = "speaker in ('joe', 'bob', 'tam') and duration between 0.6 and 2"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90s", (90.0, "s")),
        ("30m", (1800.0, "s")),
        ("2h", (7200.0, "s")),
        ("1.5h", (5400.0, "s")),
        ("5h-audio", (5.0, "h-audio")),
        ("1e15flop", (1e15, "flop")),
    ],
)
def test_budgets(text: str, value: tuple[float, str]) -> None:
    assert parse_budget(text) == value


@pytest.mark.parametrize(
    "text", ["", "10", "m", "0m", "0.0h", "-5m", "5 m", "10min", "5h-", "1e15", "e5flop", "5m5s", "nanm"]
)
def test_what_is_no_budget_is_said(text: str) -> None:
    with pytest.raises(OvertureError, match="is not understood: write 90s, 30m, 2h, 5h-audio or 1e15flop"):
        parse_budget(text)


def test_a_budget_is_so_many_updates_of_the_median_measurement_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    seconds = iter([0.5, 0.25, 2.0, 0.25])  # other load slows some of them

    def measure(run: Any, updates: int) -> dict[str, float]:
        asked.append(run.fingerprint)
        return {"seconds per update": next(seconds), "audio seconds per update": 36.0, "GFLOP per update": 2.0}

    monkeypatch.setattr("overture.train.speed.measure", measure)
    run = get("tera:tiny")
    speed = speeds_of({"tera": run}, tmp_path, times=3)["tera"]
    assert (speed["seconds per update"], speed["measured"]) == (0.5, [0.5, 0.25, 2.0]) and len(asked) == 3
    assert updates_for(speed, *parse_budget("1m")) == 120
    assert updates_for(speed, *parse_budget("5h-audio")) == 500
    assert updates_for(speed, *parse_budget("1e12flop")) == 500
    assert updates_for(speed, *parse_budget("1s")) == 2
    assert in_words(speed, 120, "1m", "s") == "1m are 120 updates of 0.5 s (median of 0.5, 0.25, 2 s)"
    assert in_words(speed, 500, "5h-audio", "h-audio") == "5h-audio are 500 updates of 36 s of audio"
    again = speeds_of({"tera": run}, tmp_path, times=3)
    assert again["tera"] == speed and len(asked) == 3  # a study that goes on keeps its plan


def test_recipes_take_turns_in_being_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    slow = iter([1.0, 1.0, 3.0, 3.0, 3.0, 3.0])  # a machine that is slow for the second half is so for both

    def measure(run: Any, updates: int) -> dict[str, float]:
        asked.append(run.recipe)
        return {"seconds per update": next(slow)}

    monkeypatch.setattr("overture.train.speed.measure", measure)
    found = speeds_of({name: get(f"{name}:tiny") for name in ("tera", "ssast")}, tmp_path, times=3)
    assert asked == ["tera", "ssast"] * 3
    assert [found[name]["seconds per update"] for name in ("tera", "ssast")] == [3.0, 3.0]


def test_recipes_of_different_front_ends_are_compared(
    overture: Overture, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames beside samples, and two sizes of one recipe: one control a front end, the samples' is log-mel."""
    other = replace(get("tera:tiny"), frontend=LogMel(mels=40))
    known = {"waves": waves(), "forty": other}
    monkeypatch.setattr("overture.recipes.get", lambda name: known[name])
    monkeypatch.setattr("overture.train.speed.matrix_peak", lambda engine, bf16: 1e9)
    few = partial(finetune_classes.finetune, updates=2, rates=(1e-3,))
    monkeypatch.setattr(finetune_classes, "finetune", few)
    answer = overture("compare", *known, "--where", FEW, "--budget", "0.2s", "--seeds", "1", "--task", "speaker-finetune",
                      "--task", "speaker-id", "--labels", "0.5m")  # fmt: skip
    assert answer.status == 0, answer.err
    path = elsewhere / answer.out.split("result: ")[1].splitlines()[0]
    result = json.loads(path.read_text(encoding="utf8"))
    networks = {f"{name}{kind}" for name in known for kind in ("", ", untrained")}
    assert set(result["arms"]) == networks and result["task"] == "speaker-finetune"
    assert set(result["also"]["speaker-id"]["arms"]) == networks | {"log-mel", "log-mel of forty"}
    assert result["kinds"]["log-mel of forty"] == "input" and result["kinds"]["waves, untrained"] == "untrained"
    for name in known:
        speed = result["calibration"][name]
        assert speed["seconds per update"] == median(speed["measured"]) and len(speed["measured"]) == TIMES
        updates = updates_for(speed, 0.2, "s")
        assert f"{name}: 0.2s are {updates:,} updates of {speed['seconds per update']:.3g} s (median of " in answer.out
        assert result["cost_by_arm"][name]["updates"] == max(10, updates)
    page = (elsewhere / answer.out.split("report: ")[1].splitlines()[0]).read_text(encoding="utf8")
    assert "At the end of pre-training" in page and "codes used" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "terra"], "no recipe 'terra'. Did you mean 'tera'"),
        (["compare", "tera:tiny", "--budget", "10"], "a budget of '10' is not understood"),
        (["compare", "tera:tiny", "--labels", "5h-audio"], "--labels 5h-audio: say how long, as in 15m"),
        (["compare", "tera:tiny", "--labels", "many"], "a budget of 'many' is not understood"),
        (["compare", "tera:tiny", "--data", "embeded"], "no corpus 'embeded'. Did you mean 'embedded'"),
        (["compare", "tera:tiny", "--task", "speaker"], "no task 'speaker'. Did you mean 'speaker-id' or"),
        (["compare", "tera:tiny+maskd"], "no transform 'maskd'. Did you mean 'masked'"),
        (["check", "terra"], "no recipe 'terra'. Did you mean 'tera'"),
        (["check", "tera:tiny"], "recipe 'tera' has no claim 'tera:tiny'. Did you mean 'tera'?"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(overture: Overture, elsewhere: Path, words: list[str], said: str) -> None:
    answer = overture(*words)
    assert answer.status == 1 and said in answer.err and answer.err.startswith("overture: ")
    assert "Traceback" not in answer.err + answer.out
    assert not list(elsewhere.rglob("*.json"))  # nothing was measured or begun


def test_compare_and_again(overture: Overture, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (
        "compare", "tera:tiny", "--where", FEW, "--budget", "1e9flop", "--seeds", "2", "--labels", "0.5m", "--task", "speaker-id",
    )  # fmt: skip
    begun = time.perf_counter()
    first = overture(*words)
    took = time.perf_counter() - begun
    assert first.status == 0, first.err
    for name in ("log-mel", "tera:tiny, untrained", "tera:tiny"):
        assert name in first.out
    path = elsewhere / first.out.split("result: ")[1].splitlines()[0]
    page = elsewhere / first.out.split("report: ")[1].splitlines()[0]
    result = json.loads(path.read_text(encoding="utf8"))
    assert result["kind"] == "comparison" and result["task"] == "speaker-id" and result["budget"] == "1e9flop"
    assert set(result["arms"]) == {"log-mel", "tera:tiny, untrained", "tera:tiny"}
    assert all(len(arm["seeds"]) == 2 for arm in result["arms"].values())
    assert result["best"] in result["arms"] and f"best: {result['best']}, " in first.out
    assert result["best"] == max(result["arms"], key=lambda a: result["arms"][a]["mean"])
    assert ("is real" in first.out) == result["best_is_real"] != ("could be chance" in first.out)
    minutes = [p["labelled_minutes"] for probes in result["probes"].values() for p in probes]
    assert len(set(minutes)) == 1 and 0.5 <= minutes[0] < 0.6
    html = page.read_text(encoding="utf8")
    assert "tera:tiny, untrained" in html and "log-mel" in html

    monkeypatch.setattr("overture.judging.judge", None)  # judging again would be calling it
    monkeypatch.setattr("overture.train.loop.Training.prepare", None)  # and training, this
    kept = {p: p.stat().st_mtime_ns for p in (elsewhere / "runs").rglob("*") if p.is_file() and p.parent.name != "runs"}
    folders = {p for p in (elsewhere / "runs").rglob("*") if p.is_dir()}
    begun = time.perf_counter()
    again = overture(*words)
    assert again.status == 0, again.err
    assert time.perf_counter() - begun < max(2.0, 0.5 * took)
    assert {p for p in (elsewhere / "runs").rglob("*") if p.is_dir()} == folders
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    same = json.loads(path.read_text(encoding="utf8"))
    assert {k: same[k] for k in ("arms", "comparisons", "best", "cost")} == {
        k: result[k] for k in ("arms", "comparisons", "best", "cost")
    }


def test_a_recipe_is_compared_with_itself_under_a_transform(overture: Overture, elsewhere: Path) -> None:
    """One untrained network stands beside both; of what is not trained there is no transform."""
    names = ("tera:tiny", "tera:tiny+masked")
    answer = overture("compare", *names, "--where", FEW, "--budget", "1e9flop", "--seeds", "1", "--labels", "0.5m")
    assert answer.status == 0, answer.err
    result = json.loads((elsewhere / answer.out.split("result: ")[1].splitlines()[0]).read_text(encoding="utf8"))
    assert set(result["arms"]) == {"log-mel", "tera:tiny, untrained", *names}
    of = {arm: read_run(elsewhere / "runs" / folders[0])[0] for arm, folders in result["runs"].items() if arm in names}
    assert of["tera:tiny"].transform is None and of["tera:tiny+masked"].transform == find("masked")
    folder = f"runs/{of['tera:tiny'].folder_name}"
    again = overture("compare", f"{folder}+masked", "--where", FEW, "--budget", "1e9flop")
    assert again.status == 1 and f"{folder} is taken as it is, and a transform is of what is trained" in again.err


def test_several_amounts_of_labels_are_a_learning_curve(overture: Overture, elsewhere: Path) -> None:
    answer = overture(
        "compare", "tera:tiny", "--where", FEW, "--budget", "1e9flop", "--seeds", "2", "--labels", "0.5m,0.3m,1m"
    )
    assert answer.status == 0, answer.err
    result = json.loads((elsewhere / answer.out.split("result: ")[1].splitlines()[0]).read_text(encoding="utf8"))
    assert result["task"] == "speaker-id, 0.5 min" and list(result["also"]) == [
        "speaker-id, 0.3 min",
        "speaker-id, 1 min",
    ]
    heard = [p["probes"]["log-mel"][0]["labelled_minutes"] for p in (result, *result["also"].values())]
    assert all(asked <= got < asked + 0.1 for asked, got in zip((0.5, 0.3, 1.0), heard))
    page = (elsewhere / answer.out.split("report: ")[1].splitlines()[0]).read_text(encoding="utf8")
    assert page.count("What more labels buy") == 1 and page.count('class="curve area') == 3  # a band an arm
    assert "--labels 0.5m,0.3m,1m --budget 1e9flop" in page
    order = [page.index(f">{m}</span>", page.index("What more labels buy")) for m in ("0.3", "0.5", "1")]
    assert order == sorted(order)


def test_a_comparison_goes_on_without_an_arm_that_falls_ill(
    overture: Overture, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Table, JSON, page; again, with nothing trained twice; and nothing to compare when no other arm is there."""
    known = {"waves": waves(), "ill": exploding()}
    monkeypatch.setattr("overture.recipes.get", lambda name: known[name])
    monkeypatch.setattr("overture.train.speed.matrix_peak", lambda engine, bf16: 1e9)
    words = ("--where", FEW, "--budget", "0.01h-audio", "--seeds", "2", "--labels", "0.5m")
    answer = overture("compare", *known, *words)
    assert answer.status == 0, answer.err
    path = elsewhere / answer.out.split("result: ")[1].splitlines()[0]
    result = json.loads(path.read_text(encoding="utf8"))
    assert set(result["arms"]) == {"log-mel", "waves", "waves, untrained", "ill, untrained"}
    assert [s["seed"] for s in result["stopped"]["ill"]] == [0, 1] and result["best"] in result["arms"]
    assert all("ill" not in (c["better"], c["worse"]) for c in result["comparisons"])
    first, second = (s["update"] for s in result["stopped"]["ill"])
    short = f"stopped at update {first}: not finite (seed 0); at update {second}: not finite (seed 1)"
    table = " ".join(answer.out[answer.out.index("95 % interval") :].split())
    assert f"Not compared: ill, {short}." in table
    assert f"fell ill: ill with seed 0, stopped at update {first}: not finite: loss " in answer.out
    assert "ill takes part in no comparison" in answer.out and f"best: {result['best']}, " in answer.out
    page = (elsewhere / answer.out.split("report: ")[1].splitlines()[0]).read_text(encoding="utf8")
    assert f'<span class="badge bad wrap">{short}</span>' in page and "stopped: not finite" in page
    assert "5 arms, 1 of them stopped by a health rule" in page

    monkeypatch.setattr("overture.train.loop.Training.prepare", None)  # training again would be calling it
    again = overture("compare", *known, *words)
    assert again.status == 0, again.err
    assert json.loads(path.read_text(encoding="utf8")) == result
    alone = overture("compare", "ill", *words)
    assert alone.status == 1 and alone.err.startswith(
        "overture: a health rule stopped the pre-training of the only arm"
    )
    assert f"ill stopped at update {first} with seed 0: not finite" in alone.err


def test_a_claim_that_rests_on_an_arm_that_falls_ill_is_undecided(
    overture: Overture, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = waves()
    claim = Claim(
        recipe="tera",
        text="Care beats haste.",
        study=Study(
            arms=(
                Arm(name="untrained", run=run, kind="untrained"),
                Arm(name="care", run=run),
                Arm(name="haste", run=exploding()),
            ),
            trials=(Trial(task="speaker-id", min_count=5),),
            corpus="embedded",
            where=FEW,
            seeds=(0, 1),
        ),
        expected=(("care", "untrained"), ("care", "haste")),
        expected_also=(("speaker-id", "haste", "untrained"),),
    )
    monkeypatch.setattr("overture.recipes.load", lambda name: SimpleNamespace(claim=lambda: claim))
    answer = overture("check", "tera")
    assert answer.status == 0, answer.err
    result = json.loads((elsewhere / "results/tera.json").read_text(encoding="utf8"))
    assert result["verdict"] == "undecided" and set(result["stopped"]) == {"haste"}
    (a, b) = (s["update"] for s in result["stopped"]["haste"])
    why = (
        "The claim rests on care against haste, which were not compared: haste was stopped at update "
        f"{a}: not finite (seed 0); at update {b}: not finite (seed 1)."
    )
    beside = "0 of 1 further expected difference, which decides nothing, were found; 1 could not be measured."
    assert verdict(result)[1] == "Undecided." and why in verdict(result)[2] and beside in verdict(result)[2]
    said = " ".join(answer.out.split())
    assert why in said and "tera: undecided" in said and "fell ill: haste with seed 1, stopped at update" in said
    page = (elsewhere / answer.out.split("report: ")[1].splitlines()[0]).read_text(encoding="utf8")
    assert why in page and "stopped: not finite" in page
    markdown = results_markdown([result])
    assert why in markdown and f"| haste | – | – | stopped at update {a}: not finite (seed 0); " in markdown


def test_more_labels_than_there_are_is_said(overture: Overture, elsewhere: Path) -> None:
    answer = overture("compare", "tera:tiny", "--where", FEW, "--budget", "1e9flop", "--seeds", "1", "--labels", "2h")
    assert answer.status == 1 and "120 minutes of labels were asked for, the training rows have" in answer.err


def test_a_checkpoint_of_ones_own_is_compared_as_it_is(
    overture: Overture, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overture.train.speed.matrix_peak", lambda engine, bf16: 1e9)
    made = overture("run", "tera:tiny", "--where", "language = 'es-MX'", "--set", "loop.updates=2")
    assert made.status == 0, made.err
    (folder,) = (p for p in (elsewhere / "runs").iterdir() if (p / "run.json").exists())
    words = ["--where", FEW, "--budget", "0.2s", "--seeds", "2"]
    answer = overture("compare", f"runs/{folder.name}", "tera:tiny", *words)
    assert answer.status == 0, answer.err
    result = json.loads((elsewhere / answer.out.split("result: ")[1].splitlines()[0]).read_text(encoding="utf8"))
    name = f"runs/{folder.name}"
    assert result["kinds"] == {
        "log-mel": "input", name: "start", f"{name}, untrained": "untrained", "tera:tiny": "trained", "tera:tiny, untrained": "untrained",
    }  # fmt: skip
    assert set(result["runs"]) == {"tera:tiny"} and set(result["calibration"]) == {"tera:tiny"}
    assert name not in result["cost_by_arm"] and len(result["arms"][name]["seeds"]) == 2
    heard = overture("run", "tera:tiny", "--where", FEW, "--set", "loop.updates=2")
    assert heard.status == 0, heard.err
    (other,) = (p for p in (elsewhere / "runs").iterdir() if (p / "run.json").exists() and p.name not in answer.out + name
                and p.name not in result["runs"]["tera:tiny"])  # fmt: skip
    refused = overture("compare", f"runs/{other.name}", *words)
    assert refused.status != 0 and "recordings that this study is tuned or scored" in " ".join(refused.err.split())


def test_uneven_times_are_owned_up_to() -> None:
    assert uneven({}, 120.0, "2m") == uneven({"tera": 110.0, "ssast": 139.0}, 120.0, "2m") == []
    (text,) = uneven({"tera": 110.0, "ssast": 90.0, "w2v-bert": 284.0}, 120.0, "2m")
    assert text.startswith("Not at equal time: of 2m a run, tera 110 s, ssast 90 s, w2v-bert 284 s")
    (text,) = uneven({"tera": 170.0, "ssast": 190.0}, 120.0, "2m")  # even, but longer than was asked for
    assert text.startswith("At equal time, but of 2m a run took tera 170 s, ssast 190 s")
