"""`overture list`, `show`, `run`, `export`, `report` and `bench` as a person types them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from overture import recipes
from overture.cli import models
from overture.errors import OvertureError
from overture.recipes import Entry
from overture.train.track import read_metrics

from .conftest import Typed

Overture = Callable[..., Typed]
FEW = "speaker in ('joe', 'bob') and duration between 0.6 and 2"
SMALL = ("--where", FEW, "--set", "loop.updates=2", "--set", "loop.log_every=1")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of this test's own, since runs go to ./runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_search_puts_the_best_fit_first_and_offers_near_names(
    overture: Overture, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = {
        "aardvark": Entry("aardvark", "Something of speech", "arXiv:1", "many labels"),
        "zebra": Entry("zebra", "Contrast of speech", "arXiv:2", "few labels; telephone speech"),
        "other": Entry("other", "Music", "arXiv:3", "tags"),
    }
    monkeypatch.setattr(models, "INDEX", index)
    names = [line.split()[0] for line in overture("list").out.splitlines() if line[0] != " "]
    assert names == ["aardvark", "other", "zebra"]
    found = overture("list", "--search", "few labels Telephone speech")
    assert found.status == 0
    assert [line.split()[0] for line in found.out.splitlines() if line[0] != " "] == ["zebra", "aardvark"]
    nothing = overture("list", "--search", "zebrra")
    assert (nothing.status, nothing.out) == (1, "")
    assert "no recipe fits 'zebrra'; there are: " in nothing.err and "zebra (Contrast of speech)" in nothing.err


def test_the_recipes_that_are_there_are_found_by_what_they_are_good_for(overture: Overture) -> None:
    found = overture("list", "--search", "few labels telephone").out
    assert [line.split()[0] for line in found.splitlines() if line[0] != " "][:2] == ["hykist", "tera"]


@pytest.mark.parametrize(
    ("name", "parameters", "width"), [("tera", 2.5, 256), ("tera:tiny", 0.0, 32), ("tera:published", 22.0, 768)]
)
def test_show_says_what_it_is_and_every_field(overture: Overture, name: str, parameters: float, width: int) -> None:
    shown = overture("show", name)
    assert shown.status == 0 and "arXiv:2007.06028" in shown.out
    run = recipes.get(name)
    assert f"tera:{run.size}  {parameters:.1f} M parameters  fingerprint {run.fingerprint}" in shown.out
    fields = {
        line.split()[0]: line.split(None, 1)[1]
        for line in shown.out.splitlines()
        if line.startswith("  ") and line[2:3].strip()
    }
    assert fields["model.dim"] == str(width) and float(fields["players.0.optim.lr"]) == run.players[0].optim.lr
    assert fields["size"] == f'"{run.size}"'


def test_show_takes_changes(overture: Overture) -> None:
    plain, changed = overture("show", "tera"), overture("show", "tera", "--set", "model.layers=4")
    assert "model.layers                                      4" in changed.out
    assert changed.out.split("fingerprint ")[1][:12] != plain.out.split("fingerprint ")[1][:12]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "ter"], "no recipe 'ter'. Did you mean 'tera'?"),
        (["show", "tera:publishd"], "no size 'publishd'. Did you mean 'published'?"),
        (["show", "tera", "--set", "model.layer=4"], "no field 'layer'. Did you mean 'model.layers'"),
        (["run", "terra:tiny"], "no recipe 'terra'. Did you mean 'tera'"),
        (["run", "tera:tiny", "--set", "players.0.optim.l=1"], "no field 'l'. Did you mean 'players.0.optim.lr'"),
        (["run", "tera:tiny", "--set", "loop.updates=many"], "--set loop.updates: 'many' is not a whole number"),
        (["run", "tera:tiny", "--set", "loop.updates"], "--set loop.updates: write FIELD=VALUE"),
        (["run", "tera:tiny", "--set", "loop.precision=fp16"], "'fp16' is not one of auto, bf16, fp32"),
        (["run", "tera:tiny", "--data", "embeded"], "no corpus 'embeded'. Did you mean 'embedded'"),
        (
            ["run", "tera:tiny", "--where", "durations > 1"],
            "in --where 'durations > 1': there is no column 'durations'. Did you mean 'duration'",
        ),
        (["run", "tera:tiny", "--engine", "fdsp"], "no engine 'fdsp'. Did you mean 'fsdp'"),
        (["run", "tera:tiny", "--track", "tensorbord"], "no tracker 'tensorbord'. Did you mean 'tensorboard'?"),
        (["bench", "tera:tny"], "no size 'tny'. Did you mean 'tiny'?"),
        (["export", "nowhere", "out"], "nowhere is not a run: it has no run.json"),
        (["report", "nowhere"], "nowhere is no run folder and no JSON"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(overture: Overture, elsewhere: Path, words: list[str], said: str) -> None:
    answer = overture(*words)
    assert answer.status == 1 and said in answer.err and answer.err.startswith("overture: ")
    assert "Traceback" not in answer.err + answer.out
    assert not list(elsewhere.rglob("run.json"))  # nothing was begun


def test_run_again_export_report(overture: Overture, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = overture("run", "tera:tiny", *SMALL)
    assert first.status == 0, first.err
    (folder,) = (elsewhere / "runs").iterdir()
    assert (
        f"tera:tiny in runs/{folder.name}" in first.out and "update 2/2" in first.out and "done: 2 updates" in first.out
    )
    page = Path(first.out.split("report: ")[1].strip())
    assert page.suffix == ".html" and "<html" in page.read_text(encoding="utf8")
    metrics = read_metrics(folder)
    assert [m["update"] for m in metrics if m["kind"] == "update"] == [1, 2]
    states = {p: p.stat().st_mtime_ns for p in folder.glob("checkpoints/*/*")}

    again = overture("run", "tera:tiny", *SMALL)
    assert again.status == 0 and "done: 2 updates" in again.out
    assert "update 1/2" not in again.out and "update 2/2" not in again.out  # nothing was trained
    assert read_metrics(folder) == metrics and list((elsewhere / "runs").iterdir()) == [folder]
    assert {p: p.stat().st_mtime_ns for p in folder.glob("checkpoints/*/*")} == states

    with monkeypatch.context() as without:  # what has ended is said without training's imports
        without.setattr("overture.train.loop.train", None)
        assert "done: 2 updates" in overture("run", "tera:tiny", *SMALL).out
        without.setattr("overture.outcome.same_data", lambda *_: False)
        with pytest.raises(TypeError):
            overture("run", "tera:tiny", *SMALL)

    other = overture("run", "tera:tiny", *SMALL, "--seed", "1")
    assert other.status == 0 and len(list((elsewhere / "runs").iterdir())) == 2

    exported = overture("export", folder, "hf")
    assert exported.status == 0, exported.err
    assert "exported to hf" in exported.out and (elsewhere / "hf/model.safetensors").exists()
    before = (elsewhere / "hf/config.json").stat().st_mtime_ns
    refused = overture("export", folder, "hf")
    assert refused.status == 1 and "hf is not empty: name a new folder" in refused.err
    assert (elsewhere / "hf/config.json").stat().st_mtime_ns == before

    page.unlink()
    reported = overture("report", folder)
    assert reported.status == 0 and Path(reported.out.strip()).samefile(page)
    named = overture("report", folder, "--out", "mine.html")
    assert named.out.strip() == "mine.html" and (elsewhere / "mine.html").exists()


def test_report_of_json_and_of_garbage(overture: Overture, elsewhere: Path) -> None:
    arms = {
        name: {"seeds": [v, v + 0.01], "mean": v, "ci95": [v - 0.1, v + 0.1]} for name, v in (("a", 0.5), ("b", 0.6))
    }
    claim = {
        "recipe": "tera", "claim": "b beats a.", "verdict": "undecided", "task": "speaker-id", "metric": "accuracy",
        "higher_is_better": True, "arms": arms, "comparisons": [], "expected": [], "runs": {"b": ["tera-000000"]}, "data": {},
        "cost": {"seconds": 1.0, "updates": 2, "device": "cpu"},
    }  # fmt: skip
    (elsewhere / "tera.json").write_text(json.dumps(claim))
    good = overture("report", "tera.json")
    assert good.status == 0, good.err
    assert good.out.strip() == "tera.html" and "b beats a." in (elsewhere / "tera.html").read_text(encoding="utf8")
    for content in ("no json", "{}", "[1]", '"text"', '{"recipe": "tera", "runs": ["a"]}'):
        (elsewhere / "garbage.json").write_text(content)
        bad = overture("report", "garbage.json")
        assert bad.status == 1 and bad.err.startswith("overture: ") and not (elsewhere / "garbage.html").exists()
    (elsewhere / "empty").mkdir()
    bad = overture("report", "empty")
    assert bad.status == 1 and "run.json" in bad.err


def test_bench_leaves_nothing_behind(overture: Overture, elsewhere: Path) -> None:
    words = ("bench", "tera:tiny", "--updates", "2", "--set", f"data.where={FEW}")
    answer = overture(*words)
    assert answer.status == 0, answer.err
    numbers = {line[:28].strip(): line[28:].strip() for line in answer.out.splitlines()}
    run = recipes.get("tera:tiny")
    assert numbers["parameters"].replace(",", "") == str(
        sum(p.numel() for p in run.model.build(run.frontend).parameters())
    )
    assert 0 < float(numbers["audio seconds per update"]) <= run.plan.update
    assert 0 <= float(numbers["padding"]) < 1 and float(numbers["seconds per update"]) > 0
    assert list(elsewhere.iterdir()) == []


def test_parse_set() -> None:
    assert models.parse_set(["a.b=1", "data.where=x = 'y'"]) == {"a.b": "1", "data.where": "x = 'y'"}
    assert models.parse_set(None) == {}
    with pytest.raises(OvertureError, match="write FIELD=VALUE"):
        models.parse_set(["a"])


def test_a_run_goes_on_from_another_and_says_what_it_took_over(overture: Overture, elsewhere: Path) -> None:
    few = ("--where", FEW, "--set", "loop.updates=2", "--set", "loop.log_every=1")
    assert overture("run", "wav2vec2:tiny", *few, "--set", "model.layers=3", "--out", "before").status == 0
    (start,) = (elsewhere / "before").iterdir()
    more = (*few, "--start", start, "--set", "frontend.rate=8000", "--set", "model.layers=2", "--out", "after")
    answer = overture("run", "wav2vec2:tiny", *more)
    assert answer.status == 0, answer.err
    said = " ".join(answer.out.split())
    assert f"starts from {start.name} (weights " in said and "a wav2vec2 of 2 updates" in said
    for fact in (
        "quantizer kept", "the first 2 of 3 layers", "16000 Hz before, 8000 Hz now", "Gumbel temperature 1.994 (goes on)", "optimizer fresh",
    ):  # fmt: skip
        assert fact in said
    (folder,) = (elsewhere / "after").iterdir()
    about = json.loads((folder / "run.json").read_text())
    assert about["config"]["start"] == f"../before/{start.name}" and about["start"]["quantizer"] == "kept"
    assert (
        about["config"]["start_weights"] == about["start"]["weights"]
        and about["config"]["model"]["conv_stride"][-1] == 1
    )
    again = overture("run", "wav2vec2:tiny", *more)
    assert again.status == 0 and "update 2/2" not in again.out and list((elsewhere / "after").iterdir()) == [folder]
    out = overture("export", folder, "hf")
    assert out.status == 0, out.err
    assert "quantizer kept" in (elsewhere / "hf" / "README.md").read_text()
    on = overture("run", "wav2vec2:tiny", *few, "--from", "hf", "--out", "third")
    assert on.status == 0 and "8000 Hz now" not in on.out, on.err
    assert "a peak rate of 0.001 is for fresh weights" in " ".join(on.out.split())
    (third,) = (elsewhere / "third").iterdir()
    assert json.loads((third / "run.json").read_text())["config"]["frontend"]["rate"] == 8_000


def test_a_start_that_does_not_fit_is_said_before_anything_is_begun(overture: Overture, elsewhere: Path) -> None:
    assert overture("run", "tera:tiny", *SMALL, "--out", "before").status == 0
    (start,) = (elsewhere / "before").iterdir()
    for words, told in (
        (
            ("wav2vec2:tiny", "--start", start),
            "is a tera, and cannot be gone on with as wav2vec2, which is another network: overture run tera --start",
        ),
        (("tera:tiny", "--start", start, "--set", "model.heads=4"), "model.heads=4 does not fit the weights in"),
        (("tera:tiny", "--start", "nothing"), "--start nothing is not a folder"),
        (("tera:tiny", "--start", "before"), "no run with a checkpoint of that name"),
    ):
        answer = overture("run", *words)
        assert answer.status == 1 and told in answer.err and "Traceback" not in answer.err
    assert not (elsewhere / "runs").exists()


def test_a_mixture_and_equal_hours_are_set_and_shown(overture: Overture, elsewhere: Path) -> None:
    parts = (
        "data.matched.column=speaker",
        'data.matched.values=["joe", "bob"]',
        "data.matched.hours=0.005",
        "data.mix.column=speaker",
    )
    answer = overture("run", "tera:tiny", *SMALL, *(x for p in (*parts, "data.mix.alpha=0") for x in ("--set", p)))
    assert answer.status == 0, answer.err
    lines = [" ".join(line.replace("│", " ").split()) for line in answer.out.splitlines()]
    assert any("value rows hours speakers share times rows an epoch" in line.replace("┃ ", "") for line in lines)
    bob, joe = (next(line.split() for line in lines if line.startswith(f"speaker {v} ")) for v in ("bob", "joe"))
    assert bob[3] == joe[3] == "0.005" and bob[4:6] == joe[4:6] == ["1", "0.500"]
    (folder,) = (elsewhere / "runs").iterdir()
    told = json.loads((folder / "run.json").read_text())["data"]["composition"]
    assert [c["value"] for c in told] == ["bob", "joe"] and abs(told[0]["hours"] / told[1]["hours"] - 1) <= 0.01
    wrong = overture(
        "run", "tera:tiny", *SMALL, "--set", 'data.matched.values=["jo"]', "--set", "data.matched.column=speaker"
    )
    assert wrong.status == 1 and "no row of 'embedded' has speaker='jo'. Did you mean 'joe'" in wrong.err
