"""Reports: whole pages of well-formed HTML that load nothing, say what the numbers say, and survive bad runs and hostile names."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from overture.errors import OvertureError
from overture.report import comparison_table, results_markdown, write_comparison_report, write_run_report
from overture.report.charts import Curve, line_chart, nice, smoothed
from overture.report.verdict import REAL, UNTESTED, controls, measured, verdict
from overture.report.words import duration, fixed, flat, number, p_value, scaled

EVIL = "<script>alert('ö')</script>\" onload=\"x"
VOID = {"meta", "br", "hr", "img", "input", "link", "path"}


class Page(HTMLParser):
    """Parses strictly: every tag closed in order; collects attributes and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.source = path.read_text(encoding="utf8")
        self.feed(self.source)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"attribute given twice in <{tag}>"
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())

    def of(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attrs for name, attrs in self.seen if name == tag)


def read(path: Path) -> Page:
    """The page, after checking that it is well-formed and asks nothing of anybody."""
    page = Page(path)
    assert not {tag for tag, _ in page.seen} & {"script", "link", "iframe", "object", "embed", "img", "base", "form"}
    for tag, attrs in page.seen:
        assert not [name for name in attrs if name.startswith("on")], f"event handler in <{tag}>"
        for name in ("src", "href", "srcset", "poster", "data", "action", "xlink:href"):
            assert (attrs.get(name) or "data:").startswith("data:"), f"<{tag} {name}={attrs[name]}>"
    assert not re.search(r"url\(|@import", page.source)
    policies = [a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies and str(policies[0]).startswith("default-src 'none'")
    assert (
        "nan" not in re.findall(r"[a-z]+", page.text)
        and "<built-in" not in page.source
        and "Undefined" not in page.text
    )
    for attrs in page.of("path"):
        assert not re.search("nan|inf", str(attrs["d"])), attrs["d"]
    return page


def a_run(folder: Path, *, updates: int = 60, losses: Mapping[int, float] = {}, seed: int = 0, **about: Any) -> Path:
    """A run folder as training leaves it; `losses` replaces the loss of some updates."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    run = {
        "recipe": "tera",
        "size": "default",
        "fingerprint": "3f2a9c81d0b7",
        "config": {"players": [{"optim": {"lr": 2e-4, "betas": [0.9, 0.98]}}], "seed": seed, "loop": {"ema": None}},
        "data": {
            "corpus": "voices",
            "rows": 18342,
            "hours": 33.12,
            "fingerprint": "a91c",
            "licences": {"CC0 1.0": 3.0},
        },
        "parameters": 11234817,
        "versions": {"torch": "2.13.0"},
        "device": "cpu",
        "started": "2025-11-22T20:14:03+00:00",
    }
    (folder / "run.json").write_text(json.dumps(run | about), encoding="utf8")
    with (folder / "metrics.jsonl").open("w", encoding="utf8") as file:
        for n in range(1, updates + 1):
            record = {
                "kind": "update",
                "update": n * 10,
                "updates": updates * 10,
                "epoch": 1,
                "seconds": n * 2.5,
                "loss": losses.get(n, 0.6 + 2 * math.exp(-n / 15) + rng.normal() * 0.02),
                "lr": 2e-4,
                "grad_norm": 0.8,
                "targets": 51234,
                "targets_per_s": 91000.0,
                "audio_hours": n * 0.01,
                "padding": 0.021,
                "watch": {"variance": 0.4, "rank": 30 + n / 10},
            }
            file.write(json.dumps(record) + "\n")
    return folder


def fired(folder: Path, update: int, *, stopped: bool, rule: str = "vanished variance") -> None:
    event = {"kind": "health", "update": update, "rule": rule, "message": "all frames alike. Lower optim.lr"}
    with (folder / "metrics.jsonl").open("a", encoding="utf8") as file:
        file.write(json.dumps(event | {"stopped": stopped}) + "\n")


def an_arm(*seeds: float, half: float | None = 0.01) -> dict[str, Any]:
    mean = float(np.mean(seeds))
    return {"seeds": list(seeds), "mean": mean, "ci95": None if half is None else [mean - half, mean + half]}


def a_result(**more: Any) -> dict[str, Any]:
    arms = {"log-Mel": an_arm(0.449, 0.447), "tera": an_arm(0.31, 0.32), "untrained": an_arm(0.47, 0.45)}
    result = {
        "recipe": "tera",
        "claim": "Frozen TERA features beat log-Mel features.",
        "verdict": "holds",
        "metric": "character error rate",
        "higher_is_better": False,
        "arms": arms,
        "comparisons": [
            {"better": "tera", "worse": "log-Mel", "difference": -0.133, "ci95": [-0.15, -0.11], "p": 0.0004},
            {"better": "tera", "worse": "untrained", "difference": -0.145, "ci95": [-0.16, -0.12], "p": 0.002},
        ],
        "data": {"corpus": "voices", "rows": 18342, "hours": 33.12, "fingerprint": "a91c"},
        "cost": {"seconds": 5321, "device": "cpu", "updates": 8400},
        "commit": "ac58bdc",
        "deviations": ["Frames of 25 Hz instead of 100 Hz."],
    }
    result |= more
    asked = [[c["better"], c["worse"]] for c in result["comparisons"]]
    return {"expected": asked} | result


# The page of a run


def test_a_run_page_shows_what_the_run_was(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "tera-3f2a9c")
    out = write_run_report(folder)
    assert out == folder / "report.html" and [p.name for p in folder.iterdir() if p.suffix == ".part"] == []
    page = read(out)
    for words in (
        "tera-3f2a9c",
        "Finished",
        "voices",
        "33.1 h",
        "CC0 1.0",
        "2 min 30 s",
        "11,234,817",
        "No health rule fired",
    ):
        assert words in page.text, words
    assert "overture run tera --data voices" in page.text
    labels = [a.get("aria-label") or "" for a in page.of("div") if a.get("role") == "img"]
    assert [label.split(":")[0] for label in labels] == [
        *("Loss", "Learning rate", "Gradient norm", "Throughput", "Padding"),
        "rank",
    ]
    assert "variance: 0.4 throughout" in page.text, "a constant is a sentence, not a chart"


def test_what_differs_from_the_recipe_comes_first_and_into_the_command(tmp_path: Path) -> None:
    defaults = {"players": [{"optim": {"lr": 1e-3, "betas": [0.9, 0.98]}}], "seed": 0, "loop": {"ema": None}}
    page = read(write_run_report(a_run(tmp_path / "r"), defaults=defaults))
    assert "1 setting differs from the recipe. Setting Here In the recipe players.0.optim.lr 0.0002 0.001" in page.text
    assert "--set players.0.optim.lr=0.0002" in page.text and "--set seed" not in page.text
    page = read(write_run_report(tmp_path / "r", defaults=json.loads((tmp_path / "r/run.json").read_text())["config"]))
    assert "Exactly as the recipe has it" in page.text


def test_a_stopped_run_says_why_at_the_top(tmp_path: Path) -> None:
    rules = {
        "vanished variance": {"watch": "variance", "limit": 1e-4, "fires": "below"},
        "not finite": {"watch": "loss"},
    }
    folder = a_run(tmp_path / "r", rules=rules)
    fired(folder, 600, stopped=True)
    page = read(write_run_report(folder))
    assert "Stopped at update 600: vanished variance" in page.text
    assert "All frames alike. Lower optim.lr." in page.text
    assert "vanished variance stopped the run variance 0.4 fires below 1×10⁻⁴" in page.text
    assert "not finite healthy loss" in page.text


def test_a_run_that_went_on_after_a_stop_is_not_called_stopped(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "r")
    fired(folder, 300, stopped=True)
    fired(folder, 400, stopped=False, rule="dead codes")
    page = read(write_run_report(folder))
    assert "Finished" in page.text and "Health rules fired: dead codes, vanished variance." in page.text


def test_a_run_without_an_update_has_a_page(tmp_path: Path) -> None:
    page = read(write_run_report(a_run(tmp_path / "r", updates=0)))
    assert "No update yet" in page.text and "voices" in page.text
    (tmp_path / "r" / "metrics.jsonl").unlink()
    assert "No update yet" in read(write_run_report(tmp_path / "r")).text


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_gaps_that_are_told(tmp_path: Path, bad: float) -> None:
    page = read(write_run_report(a_run(tmp_path / "r", losses={20: bad, 21: bad, 60: bad})))
    assert "It was not finite in 3 logged updates." in page.text
    curves = [a["d"] for a in page.of("path") if "faint" in str(a.get("class"))]
    assert str(curves[0]).count("M") == 2, "one gap: two pieces"


def test_a_run_that_was_never_finite_has_a_page(tmp_path: Path) -> None:
    page = read(write_run_report(a_run(tmp_path / "r", updates=3, losses=dict.fromkeys((1, 2, 3), math.nan))))
    assert "The loss was never finite" in page.text


def test_one_update_is_a_dot(tmp_path: Path) -> None:
    page = read(write_run_report(a_run(tmp_path / "r", updates=1)))
    assert any(str(a["d"]).endswith("h0") for a in page.of("path"))


def test_a_torn_last_line_does_not_cost_the_page(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "r")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "update", "update": 61')
    assert "At update" not in read(write_run_report(folder)).text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    folder = a_run(
        tmp_path / "r", data={"corpus": EVIL, EVIL: {EVIL: EVIL}}, config={EVIL: EVIL}, device=EVIL, size=EVIL
    )
    fired(folder, 600, stopped=True, rule=EVIL)
    (folder / "audio").mkdir()
    (folder / "audio" / "index.json").write_text(json.dumps([{"caption": EVIL, "file": "a.wav"}]))
    (folder / "audio" / "a.wav").write_bytes(b"RIFF....")
    page = read(write_run_report(folder, defaults={}))
    assert page.text.count("alert('ö')") >= 8


def test_reference_band_and_probes(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "r")
    (folder / "probes").mkdir()
    probe = {"task": "speaker", "metric": "accuracy", "value": 0.734, "ci95": [0.71, 0.757], "n": 1480, "update": 600}
    (folder / "probes" / "a.json").write_text(json.dumps([probe, {"task": "phones", "value": 0.3}]))
    reference = {"update": [0, 300, 600], "low": [2, 0.8, 0.5], "high": [3, 1.2, 0.7]}
    page = read(write_run_report(folder, reference=reference))
    assert "range of reference runs" in page.text and any(a.get("class") == "band" for a in page.of("path"))
    assert "speaker accuracy 600 0.734 0.710 to 0.757 – 1,480" in page.text
    assert "Listen" not in page.text


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda f: (f / "run.json").unlink(), "run.json (cannot be read|is damaged)"),
        (lambda f: (f / "run.json").write_text("{"), "run.json (cannot be read|is damaged)"),
        (lambda f: (f / "run.json").write_text("[]"), r"is damaged \(no named fields\)"),
        (lambda f: ((f / "probes").mkdir(), (f / "probes/p.json").write_text("{")), "p.json cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, break_it: Any, words: str) -> None:
    folder = a_run(tmp_path / "r")
    break_it(folder)
    with pytest.raises(OvertureError, match=words):
        write_run_report(folder)
    assert not (folder / "report.html").exists()


def test_a_reference_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "r")
    with pytest.raises(OvertureError, match="reference curve"):
        write_run_report(folder, reference={"update": [1], "low": [], "high": [2]})


# The page of a claim or a comparison


def test_a_claim_page_shows_each_arm_each_seed_and_the_verdict(tmp_path: Path) -> None:
    runs = {"tera": [a_run(tmp_path / f"tera-{seed}", seed=seed) for seed in range(2)]}
    page = read(write_comparison_report(a_result(), runs, tmp_path / "deep" / "claim.html"))
    for words in (
        "The claim holds.",
        "log-Mel",
        "tera",
        "untrained",
        "Frames of 25 Hz",
        "overture check tera",
        "ac58bdc",
        "a91c",
    ):
        assert words in page.text, words
    assert "1 h 28 min" in page.text and "tera-1" in page.text
    titles = [a["title"] for a in page.of("i") if a.get("class") == "seed"]
    assert sorted(str(t).split(": ")[1][:5] for t in titles) == ["0.310", "0.320", "0.447", "0.449", "0.450", "0.470"]
    assert page.text.index(" log-Mel control ") < page.text.index(" untrained control "), "best first"


def test_a_comparison_page_has_cost_groups_and_curves(tmp_path: Path) -> None:
    runs = {
        "tera": [a_run(tmp_path / "tera-0")],
        "ssast": [a_run(tmp_path / "ssast-0", recipe="ssast", seed=1)],
        "log-Mel": [],
    }
    result = a_result(
        kind="comparison",
        task="asr",
        budget="2m",
        best="tera",
        best_is_real=True,
        arms={"tera": an_arm(0.31), "ssast": an_arm(0.35), "log-Mel": an_arm(0.448)},
        comparisons=[{"better": "tera", "worse": "log-Mel", "difference": -0.138, "ci95": [-0.15, -0.11], "p": 0.0004}],
        cost_by_arm={
            "tera": {"seconds": 362, "updates": 6000, "audio_hours": 8.3, "parameters": 11234817, "flops": 1.24e13}
        },
        groups={
            "tera": [
                {"column": "gender", "value": "female", "n": 1021, "metric": 0.29, "ci95": [0.27, 0.31]},
                {"column": "gender", "value": None, "n": 3, "metric": 0.34, "ci95": None},
                {"column": "language", "value": "tlh", "n": 1024, "metric": 0.31, "ci95": [0.3, 0.32]},
            ]
        },
        also={"speaker accuracy": {"higher_is_better": True, "arms": {"tera": an_arm(0.7), "ssast": an_arm(0.8)}}},
    )
    page = read(write_comparison_report(result, runs, tmp_path / "c.html"))
    for words in (
        "tera is best, beyond chance.",
        "overture compare tera ssast --data voices --task asr --budget 2m",
        "12.4 TFLOP",
        "Speaker accuracy",
        "not given",
        "Each arm in its own units",
    ):
        assert words in page.text, words
    assert "tlh" not in page.text, "a column with one value says nothing that the table does not"
    assert "Loss, share of its start" in page.text, "losses of different recipes are on different scales"
    same = read(write_comparison_report(result, {"tera": runs["tera"]}, tmp_path / "d.html"))
    assert "share of its start" not in same.text


def a_comparison(**more: Any) -> dict[str, Any]:
    """As `overture compare` writes it: the best against each other arm, the untrained ones without runs, other tasks by name."""
    arms = {"tera": an_arm(0.31, 0.32), "ssast": an_arm(0.35, 0.36), "log-Mel": an_arm(0.44), "untrained": an_arm(0.47)}
    speakers = [{"column": "speaker", "value": f"s{n}", "n": 9, "metric": 0.7, "ci95": None} for n in range(20)]
    accuracy = {"tera": an_arm(0.7, 0.72), "ssast": an_arm(0.8, 0.82), "log-Mel": an_arm(0.5), "untrained": an_arm(0.4)}
    return a_result(
        kind="comparison",
        task="asr",
        budget="2m",
        best="tera",
        best_is_real=True,
        arms=arms,
        comparisons=[
            {"better": "tera", "worse": worse, "difference": d, "ci95": [d - 0.02, d + 0.02], "p": 0.01}
            for worse, d in (("ssast", -0.04), ("log-Mel", -0.125), ("untrained", -0.155))
        ],
        runs={"tera": ["a", "b"], "ssast": ["c", "d"]},
        also={
            "speaker": {
                "task": "speaker",
                "metric": "accuracy",
                "higher_is_better": True,
                "arms": accuracy,
                "comparisons": [
                    {"better": "ssast", "worse": "tera", "difference": 0.1, "ci95": [0.05, 0.15], "p": 0.01}
                ],
                "groups": {"tera": speakers},
            }
        },
        data={
            "corpus": "voices",
            "where": None,
            "hours": 0.5,
            "pretraining": {"rows": 18342, "hours": 33.12},
            "splits": [
                {"task": "asr", "rule": "by speaker", "rows": {"train": 1500, "test": 300}, "label_minutes": 10.0}
            ],
            "licences": ["CC0-1.0", "GPL-2.0"],
        },
        **more,
    )


@pytest.mark.parametrize(
    ("metric", "task", "title"),
    [
        ("phone accuracy", "phone", "Phone accuracy"),
        ("phone accuracy", "phone, 30 min", "Phone accuracy, 30 min"),
        ("accuracy", "speaker", "Accuracy, speaker"),
        ("accuracy", None, "Accuracy"),
    ],
)
def test_a_task_that_its_metric_names_is_not_named_twice(metric: str, task: str | None, title: str) -> None:
    of_task = {} if task is None else {"task": task, "of_task": task.partition(",")[0]}
    assert measured(a_result(metric=metric, **of_task)).title == title


def test_a_comparison_as_compare_writes_it(tmp_path: Path) -> None:
    page = read(write_comparison_report(a_comparison(), {}, tmp_path / "c.html"))
    assert "Comparison tera, ssast 4 arms" in page.text, "the title names what was trained"
    assert "log-Mel control" in page.text and "ssast control" not in page.text
    assert "Character error rate, asr" in page.text and "Accuracy, speaker" in page.text
    assert "20 groups" in page.text, "many groups are folded"
    assert "task asr, on voices, with a budget of 2m a run" in page.text
    for words in (
        "rule by speaker; rows train 1,500, test 300; label minutes 10",
        "hours 33.1 h",
        "CC0-1.0, GPL-2.0",
        "30 min",
    ):
        assert words in page.text, words
    assert " where " not in page.text.split("Data corpus")[1].split("pretraining")[0], "what is none is left out"


def test_controls_are_told_by_their_kind(tmp_path: Path) -> None:
    kinds = {"log-Mel": "input", "untrained": "untrained", "tera": "trained"}
    plain = a_result(kinds=kinds)
    assert controls(plain, measured(plain)) == ["log-Mel", "untrained"]
    among = a_result(kinds=dict.fromkeys(kinds, "trained"))  # an arm that is only ever `worse`, and pre-trained
    assert controls(among, measured(among)) == []
    page = read(write_comparison_report(among, {}, tmp_path / "c.html"))
    assert " control " not in page.text
    old = a_result()
    assert controls(old, measured(old)) == ["log-Mel", "untrained"]  # from before kinds were recorded


def test_what_pretraining_watched_at_its_end_is_shown(tmp_path: Path) -> None:
    watch = {
        "tera": [{"code_perplexity": 30.0, "top_code": 0.25}, {"code_perplexity": 34.0, "top_code": None}],
        "b": [{}],
    }
    page = read(write_comparison_report(a_result(pretraining_watch=watch), {}, tmp_path / "c.html"))
    shown_there = page.text.split("At the end of pre-training")[1].split("Cost")[0]
    assert "arm code perplexity top code tera 32 0.25" in shown_there and " b " not in shown_there
    without = read(write_comparison_report(a_result(pretraining_watch={"tera": [{}]}), {}, tmp_path / "d.html"))
    assert "At the end of pre-training" not in without.text


def rows_of(text: str, first: str, last: str) -> list[str]:
    """The lines of a printed table from the row of one arm to that of another, both of two lines."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip().startswith(first))
    end = next(i for i, line in enumerate(lines) if i > start and line.strip().startswith(last))
    return [" ".join(line.split()) for line in lines[start : end + 2]]


def test_the_table_of_a_comparison_holds_all_against_the_best_and_the_best_control() -> None:
    costs = {"tera": {"seconds": 362, "audio_hours": 8.3}, "ssast": {"seconds": 7000, "audio_hours": 18.3}}
    text = shown(a_comparison(cost_by_arm=costs), width=80)
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert rows_of(text, "tera", "untrained") == [
        *("tera 0.315 2 – −0.125 6 min 2 s", "0.305 to 0.325 p = 0.010 8.3 h"),
        *("ssast 0.355 2 +0.040 −0.085 1 h 56 min", "0.345 to 0.365 p = 0.010 not tested 18.3 h"),
        *("log-Mel 0.440 1 +0.125 –", "0.430 to 0.450 p = 0.010"),
        *("untrained 0.470 1 +0.155 +0.030", "0.460 to 0.480 p = 0.010 not tested"),
    ]


def test_one_seed_without_an_interval(tmp_path: Path) -> None:
    arms = {"tera": an_arm(0.31, half=None), "log-Mel": {"seeds": [0.45], "mean": 0.45}}
    comparisons = [{"better": "tera", "worse": "log-Mel", "difference": -0.14, "ci95": None, "p": None}]
    result = a_result(arms=arms, comparisons=comparisons, verdict="undecided")
    page = read(write_comparison_report(result, {}, tmp_path / "c.html"))
    assert "no interval" in page.text and "chance cannot be told from effect" in page.text
    assert not [a for a in page.of("i") if a.get("class") == "interval"]
    assert measured(result).differences[0].reading == UNTESTED


def test_failed_seeds_are_counted(tmp_path: Path) -> None:
    arms = {
        "tera": {"seeds": [0.31, math.nan, None], "mean": 0.31, "ci95": [math.nan, math.nan]},
        "log-Mel": {"seeds": [], "mean": None},
    }
    result = a_result(arms=arms, comparisons=[], verdict="undecided")
    assert "2 seeds failed" in read(write_comparison_report(result, {}, tmp_path / "c.html")).text
    assert "1 (2 failed)" in shown(result)


def test_runs_without_updates_are_listed_though_they_have_no_curve(tmp_path: Path) -> None:
    page = read(
        write_comparison_report(a_result(), {"tera": [a_run(tmp_path / "tera-0", updates=0)]}, tmp_path / "c.html")
    )
    assert "tera-0" in page.text and "Curves" not in page.text


def test_hostile_arms_stay_text(tmp_path: Path) -> None:
    arms = {EVIL: an_arm(0.3, 0.31), "log-Mel": an_arm(0.4, 0.41)}
    comparisons = [{"better": EVIL, "worse": "log-Mel", "difference": -0.1, "ci95": [-0.12, -0.08], "p": 0.01}]
    result = a_result(arms=arms, comparisons=comparisons, claim=EVIL, metric=EVIL, deviations=[EVIL], commit=EVIL)
    runs = {EVIL: [a_run(tmp_path / "r")]}
    page = read(write_comparison_report(result, runs, tmp_path / "c.html"))
    assert page.text.count("alert('ö')") >= 8
    markdown = results_markdown([result])
    assert "<script" not in markdown and "&lt;script" in markdown
    assert "[red]" in shown(a_result(arms={"[red]": an_arm(0.3, 0.31)}, comparisons=[])), "rich markup stays text too"


def test_bad_results_are_refused_by_name(tmp_path: Path) -> None:
    def write(result: Mapping[str, Any]) -> None:
        write_comparison_report(result, {}, tmp_path / "c.html")

    for result, words in (
        ({k: v for k, v in a_result().items() if k != "metric"}, "lacks 'metric'"),
        (a_result(verdict="hold"), "Did you mean 'holds'"),
        (
            a_result(comparisons=[{"better": "tara", "worse": "log-Mel"}]),
            "'tara', which has no result.*Did you mean 'tera'",
        ),
        (a_result(kind="comparison", best="x", best_is_real=True), "best is 'x'"),
    ):
        with pytest.raises(OvertureError, match=words):
            write(result)
    assert not (tmp_path / "c.html").exists()


# Verdicts in words


@pytest.mark.parametrize(
    ("verdict_", "change", "tone", "words"),
    [
        ("holds", {}, "good", "Both differences that the claim rests on were found; the least sure: tera reaches"),
        ("undecided", {"ci95": [-0.3, 0.02]}, "open", "1 of the 2 differences that the claim rests on was found"),
        ("does not hold", {"difference": 0.1, "ci95": [0.05, 0.15]}, "bad", "against what was expected"),
    ],
)
def test_the_verdict_in_words(verdict_: str, change: dict[str, Any], tone: str, words: str) -> None:
    result = a_result(verdict=verdict_)
    result["comparisons"] = [result["comparisons"][0], result["comparisons"][1] | change]
    found, headline, text = verdict(result)
    assert found == tone and headline
    assert words in text and "Measured with 2 seeds an arm." in text


def test_what_stands_beside_is_counted_apart() -> None:
    """The verdict rests on `expected` alone: a further difference that could be chance takes nothing from it."""
    arms = {**a_result()["arms"], "half": an_arm(0.32, 0.33)}
    beside = {"better": "tera", "worse": "half", "difference": -0.01, "ci95": [-0.03, 0.01], "p": 0.4}
    rests = a_result()["comparisons"]
    speakers = {"metric": "accuracy", "task": "speaker", "higher_is_better": True, "arms": arms}
    also = {"speaker": {**speakers, "comparisons": [{**beside, "difference": 0.1, "ci95": [0.05, 0.15], "p": 0.01}]}}
    result = a_result(
        task="asr",
        arms=arms,
        comparisons=[*rests, beside],
        also=also,
        expected=[["tera", "log-Mel"], ["tera", "untrained"]],
        expected_also=[["asr", "tera", "half"], ["speaker", "tera", "half"]],
    )
    tone, headline, text = verdict(result)
    assert (tone, headline) == ("good", "The claim holds.")
    assert text.startswith(
        "Both differences that the claim rests on were found; the least sure: tera reaches a character error rate of 0.315, untrained"
    )
    assert "1 of 2 further expected differences, which decide nothing, was found." in text and "chance" not in text
    one = a_result(comparisons=rests[:1])
    assert verdict(one)[2].startswith("The difference that the claim rests on was found: tera reaches")
    unsure = a_result(verdict="undecided", comparisons=[rests[0] | {"ci95": [-0.3, 0.1]}])
    assert verdict(unsure)[2].startswith("The difference that the claim rests on was not found: tera reaches")
    neither = a_result(verdict="undecided", comparisons=[c | {"ci95": [-0.3, 0.1]} for c in rests])
    assert verdict(neither)[2].startswith("None of the 2 differences that the claim rests on were found; ")


def test_a_reference_from_outside_stands_beside_and_decides_nothing(tmp_path: Path) -> None:
    beside = {"asr": {"yamnet": {"value": 0.5169, "ci95": [0.468, 0.568], "rate": 1e-3}}}
    with_it, without = a_result(task="asr", outside=beside), a_result(task="asr")
    page = write_comparison_report(with_it, {}, tmp_path / "with.html").read_text(encoding="utf8")
    plain = write_comparison_report(without, {}, tmp_path / "without.html").read_text(encoding="utf8")
    assert "deciding nothing: yamnet 0.517 [0.468, 0.568]" in page and "From outside" not in plain
    assert verdict(with_it) == verdict(without)
    assert "From outside, on the same rows: yamnet 0.517 [0.468, 0.568]." in results_markdown([with_it])


def test_what_else_is_told_of_answers_stands_beside_as_means_over_seeds(tmp_path: Path) -> None:
    seeds = [
        {"value": 0.3, "eer": {"value": v, "interval": None}, "rate": 0.1, "dev": {"0.1": 0.2}} for v in (0.1, 0.2)
    ]
    with_it = a_result(task="asr", probes={"tera": seeds, "untrained": [{"value": 0.4}]})
    page = write_comparison_report(with_it, {}, tmp_path / "with.html").read_text(encoding="utf8")
    assert "Beside it, means over seeds. tera: equal error rate 0.15.</p>" in page
    assert "Beside it, means over seeds. tera: equal error rate 0.15." in results_markdown([with_it])
    assert "Beside it" not in results_markdown([a_result(task="asr")])


def test_results_from_before_expected_was_recorded_are_read_by_their_recipes_claim() -> None:
    from overture.recipes.tera import claim

    pairs = [*claim().expected, *((b, w) for task, b, w in claim().expected_also if task == "phone")]
    arms = {a.name: an_arm(0.31, 0.32) for a in claim().study.arms}
    found = {"difference": 0.1, "ci95": [0.05, 0.15], "p": 0.01}
    comparisons = [{"better": b, "worse": w, **found} for b, w in pairs]
    speakers = [{"better": b, "worse": w, **found} for task, b, w in claim().expected_also if task == "speaker-id"]
    also = {"speaker-id": {"task": "speaker-id", "metric": "accuracy", "arms": arms, "comparisons": speakers}}
    old = a_result(
        metric="accuracy", higher_is_better=True, task="phone", arms=arms, comparisons=comparisons, also=also
    )
    del old["expected"]
    decide, beside = len(claim().expected), len(claim().expected_also)
    assert decide == 2 and verdict(old)[2].startswith("Both differences that the claim rests on were found; ")
    assert f"{beside} of {beside} further expected differences, which decide nothing, were found." in verdict(old)[2]
    changed = old | {"comparisons": comparisons[1:]}
    with pytest.raises(
        OvertureError, match=r"does not compare 'T\+F\+M' with 'untrained'.*'overture check tera' runs it"
    ):
        verdict(changed)


def ill(update: int, seed: int, cause: str = "vanished rank") -> dict[str, Any]:
    return {"seed": seed, "update": update, "cause": cause, "message": f"all alike {EVIL}. Lower optim.lr"}


def test_a_stopped_arm_stands_in_table_page_and_markdown(tmp_path: Path) -> None:
    stopped = {"[red]": [ill(1200, 0), ill(40, 2, "not finite")]}
    result = a_result(
        stopped=stopped,
        verdict="undecided",
        comparisons=a_result()["comparisons"][:1],
        expected=[["tera", "log-Mel"], ["[red]", "untrained"]],
        expected_also=[["", "[red]", "log-Mel"]],
        runs={"[red]": ["r"]},
    )
    words = "stopped at update 1,200: vanished rank (seed 0); at update 40: not finite (seed 2)"
    why = f"The claim rests on [red] against untrained, which were not compared: [red] was {words}."
    tone, headline, text = verdict(result)
    assert (tone, headline) == ("open", "Undecided.") and why in text and "Not compared" not in text
    assert "1 of the 2 differences that the claim rests on was found" in text
    assert "0 of 1 further expected difference, which decides nothing, were found; 1 could not be measured." in text
    table = shown(result, width=200)
    assert max(map(len, shown(result, width=80).splitlines())) <= 80
    row = [" ".join(line.split()) for line in table.splitlines() if "[red]" in line or words in line]
    assert row[:2] == ["[red] – – –", words]
    stopped_run = a_run(tmp_path / "r")
    fired(stopped_run, 1200, stopped=True)
    page = read(write_comparison_report(result, {"[red]": [stopped_run]}, tmp_path / "c.html"))
    assert f"[red] {words} All alike {EVIL}. Lower optim.lr." in page.text and why in page.text
    colours = [str(a["class"]) for a in page.of("i") if str(a.get("class")).startswith("swatch")]
    assert set(colours) == {"swatch k3"}, "a colour of its own"
    assert f"| [red] | – | – | {words} |" in results_markdown([result])
    beside = result | {"verdict": "holds", "expected": [["tera", "log-Mel"]], "expected_also": []}
    assert f"Not compared: [red], {words}." in verdict(beside)[2]


def test_a_comparison_names_the_best_of_the_healthy_and_who_fell_ill(tmp_path: Path) -> None:
    result = a_comparison(stopped={"wav2vec2": [ill(40, 0)]})
    tone, headline, text = verdict(result)
    assert (tone, headline) == ("good", "tera is best, beyond chance.")
    assert text.endswith("Not compared: wav2vec2, stopped at update 40: vanished rank (seed 0).")
    page = read(write_comparison_report(result, {}, tmp_path / "c.html"))
    assert "tera, ssast, wav2vec2 5 arms, 1 of them stopped by a health rule, task asr" in page.text
    assert page.text.count("wav2vec2 stopped at update 40: vanished rank (seed 0) All alike") == 2, "in each metric"
    alone = a_comparison(stopped={"wav2vec2": [ill(40, 0)]}) | {
        "arms": {"tera": an_arm(0.3)},
        "comparisons": [],
        "best_is_real": False,
    }
    assert verdict(alone)[1] == "tera is the only arm with a result."


def test_the_size_of_a_difference_is_told_in_its_direction() -> None:
    lower = a_result(comparisons=a_result()["comparisons"][:1])
    assert (
        "tera reaches a character error rate of 0.315, log-Mel 0.448: lower by 0.133 (95\N{NO-BREAK SPACE}% interval 0.110 to 0.150, p < 0.001)."
        in verdict(lower)[2]
    )
    arms = {"log-Mel": an_arm(0.5, 0.52), "tera": an_arm(0.7, 0.72)}
    comparison = {"better": "tera", "worse": "log-Mel", "difference": 0.2, "ci95": [0.15, 0.25], "p": 0.03}
    higher = a_result(metric="accuracy", higher_is_better=True, arms=arms, comparisons=[comparison])
    assert "tera reaches an accuracy of 0.710, log-Mel 0.510: higher by 0.200" in verdict(higher)[2]
    assert measured(higher).differences[0].reading == REAL


def test_a_lead_that_could_be_chance_is_not_called_best() -> None:
    comparison = {"better": "tera", "worse": "log-Mel", "difference": -0.133, "ci95": [-0.3, 0.03], "p": 0.2}
    tone, headline, text = verdict(
        a_result(kind="comparison", best="tera", best_is_real=False, comparisons=[comparison])
    )
    assert tone == "open" and "could be chance" in headline and "p = 0.20" in text
    assert (
        verdict(a_result(kind="comparison", best=None, best_is_real=False, arms={}, comparisons=[]))[1]
        == "No arm has a result."
    )


# The terminal's table and the Markdown


def shown(result: Mapping[str, Any], width: int = 160) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(comparison_table(result))
    return capture.get().replace("\N{NO-BREAK SPACE}", " ")


def test_the_terminal_table_is_sorted_and_compares_with_the_best_control() -> None:
    text = shown(a_result(), width=80)
    assert "difference" in text and "to log-Mel" in text and "The claim holds." in text
    assert rows_of(text, "tera", "untrained") == [
        *("tera 0.315 2 −0.133", "0.305 to 0.325 p < 0.001"),
        *("log-Mel 0.448 2 –", "0.438 to 0.458"),
        *("untrained 0.460 2 +0.012", "0.450 to 0.470 not tested"),
    ]


def test_results_markdown_has_a_section_a_claim_and_intact_tables() -> None:
    second = a_result(
        recipe="ssast", verdict="undecided", claim="a | b\n# c", arms={"x|y": an_arm(0.3, 0.4)}, comparisons=[]
    )
    text = results_markdown([a_result(), second]).replace("\N{NO-BREAK SPACE}", " ")
    assert text.index("## ssast: undecided") < text.index("## tera: holds")
    assert "2 claims checked: 1 holds, 1 undecided." in text
    assert "| tera | log-Mel | −0.133 | −0.150 to −0.110 | < 0.001 | real |" in text
    assert "- Cost: 1 h 28 min" in text and "- Deviation: Frames of 25 Hz" in text
    columns = 0
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (cells and columns) or cells == columns, line
        columns = cells
    assert "No claim has been checked yet." in results_markdown([])


# Charts and numbers


def test_smoothing_keeps_a_line_straight_and_gaps_open() -> None:
    y = np.full(200, 3.0)
    y[50] = np.nan
    out = smoothed(y)
    assert np.isnan(out[50]) and np.allclose(np.delete(out, 50), 3.0)
    noisy = np.sin(np.arange(400) / 60) + np.random.default_rng(0).normal(size=400) * 0.3
    assert np.abs(smoothed(noisy) - np.sin(np.arange(400) / 60))[20:-20].max() < 0.25
    assert len(smoothed(np.array([]))) == 0


def test_a_spike_between_many_points_is_drawn() -> None:
    y = np.ones(100_000)
    y[54_321] = 9.0
    chart = line_chart([Curve(x=np.arange(100_000.0), y=y, smooth=True)], title="Loss")
    assert chart is not None
    faint = next(p.d for p in chart.paths if p.kind == "faint")
    heights = [float(v) for v in re.findall(r" ([\d.-]+)", faint)]
    assert max(heights) - min(heights) > 800 and len(faint) < 20_000


def test_a_chart_over_decades_is_logarithmic_and_says_so() -> None:
    chart = line_chart([Curve(x=np.arange(50.0), y=np.logspace(-6, 1, 50))], title="spike")
    assert chart is not None and "logarithmic" in chart.unit
    assert {t.label for t in chart.y_ticks} >= {"10⁻⁶", "10⁰"}
    assert line_chart([Curve(x=np.arange(3.0), y=np.full(3, np.nan))], title="none") is None


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.1, 0.11), (-5, 3), (0, 1e-7), (1, 1e6)])
def test_ticks_are_round_few_and_inside(low: float, high: float) -> None:
    ticks = nice(low, high, 5)
    gaps = np.diff(ticks)
    assert 2 <= len(ticks) <= 6 and np.allclose(gaps, gaps[0])
    assert ticks[0] >= low - 1e-9 * (high - low) and ticks[-1] <= high + 1e-9 * (high - low)
    assert float(f"{gaps[0]:.2e}".split("e")[0]) in (1, 2, 2.5, 5)


def test_tick_labels_are_exact_and_short() -> None:
    chart = line_chart([Curve(x=np.arange(10.0), y=np.linspace(0, 2e-4, 10))], title="Learning rate", zero=True)
    assert chart is not None and chart.unit == "× 10⁻⁴"
    assert [t.label for t in chart.y_ticks] == ["0.0", "0.5", "1.0", "1.5", "2.0"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (duration(3.21), "3.2 s"),
        (duration(59.7), "1 min"),
        (duration(5321), "1 h 28 min"),
        (duration(200_000), "2 d 7 h"),
        (duration(0), "0 s"),
        (duration(math.nan), "–"),
        (number(0.0613), "0.0613"),
        (number(12400), "12,400"),
        (number(2e-4), "2×10⁻⁴"),
        (number(math.inf), "not finite"),
        (number(None), "–"),
        (fixed(-0.5, 2), "−0.50"),
        (scaled(1.24e13, "FLOP"), "12.4 TFLOP"),
        (p_value(0.0004), "p < 0.001"),
        (p_value(0.04), "p = 0.040"),
    ],
)
def test_numbers_in_words(text: str, expected: str) -> None:
    assert text.replace("\N{NO-BREAK SPACE}", " ") == expected


def test_flat_names_are_those_of_set() -> None:
    tree = {"players": [{"optim": {"lr": 1}}], "betas": [0.9, 0.98], "empty": {}, "none": None}
    assert flat(tree) == {"players.0.optim.lr": 1, "betas": [0.9, 0.98], "empty": {}, "none": None}
