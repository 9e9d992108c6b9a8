"""`overture compare` and `check` as a person types them."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overture import laboratory
from overture.cli.study import parse_budget, updates_for
from overture.errors import OvertureError
from overture.recipes import get

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


def test_a_budget_is_so_many_updates_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def measure(run: Any, updates: int) -> dict[str, float]:
        asked.append(run.fingerprint)
        return {"seconds per update": 0.5, "audio seconds per update": 36.0, "GFLOP per update": 2.0}

    monkeypatch.setattr("overture.train.speed.measure", measure)
    run = get("tera:tiny")
    assert updates_for(run, *parse_budget("1m"), tmp_path) == 120
    assert updates_for(run, *parse_budget("5h-audio"), tmp_path) == 500
    assert updates_for(run, *parse_budget("1e12flop"), tmp_path) == 500
    assert updates_for(run, *parse_budget("1s"), tmp_path) == 2
    assert asked == [run.fingerprint]
    updates_for(get("tera"), 60.0, "s", tmp_path)
    assert asked == [run.fingerprint, get("tera").fingerprint]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "terra"], "no recipe 'terra'. Did you mean 'tera'?"),
        (["compare", "tera:tiny", "--budget", "10"], "a budget of '10' is not understood"),
        (["compare", "tera:tiny", "--labels", "5h-audio"], "--labels 5h-audio: say how long, as in 15m"),
        (["compare", "tera:tiny", "--labels", "many"], "a budget of 'many' is not understood"),
        (["compare", "tera:tiny", "--data", "embeded"], "no corpus 'embeded'. Did you mean 'embedded'"),
        (["compare", "tera:tiny", "--task", "speaker"], "no task 'speaker'. Did you mean 'speaker-id'?"),
        (["check", "terra"], "no recipe 'terra'. Did you mean 'tera'?"),
        (["check", "tera:tiny"], "no recipe 'tera:tiny'. Did you mean 'tera'?"),
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

    monkeypatch.setattr(laboratory.Laboratory, "_result", None)  # judging again would be calling it
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


def test_more_labels_than_there_are_is_said(overture: Overture, elsewhere: Path) -> None:
    answer = overture("compare", "tera:tiny", "--where", FEW, "--budget", "1e9flop", "--seeds", "1", "--labels", "2h")
    assert answer.status == 1 and "120 minutes of labels were asked for, the training rows have" in answer.err
