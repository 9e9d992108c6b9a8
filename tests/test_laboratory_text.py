"""The laboratory on text: the same splits, arms and verdicts; what is read is held out by its text, and the control counts words."""

import json
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from overture import outcome
from overture.cli.study import parse_labels
from overture.data.split import normal
from overture.data.table import Table
from overture.errors import OvertureError
from overture.laboratory import Laboratory, compare
from overture.models.text import Bert
from overture.pretraining import Pretraining
from overture.report import comparison_table, write_comparison_report
from overture.run import Run
from overture.study import Arm, Study, Trial
from overture.tasks import finetune_classes
from overture.train.engine import Engine
from overture.train.loop import train

from .tasks.texts import DIM, documents, kept, reads


def untold(record: dict[str, Any]) -> None:
    """Who tells is not heard."""


@pytest.fixture(scope="module")
def corpus() -> str:
    """60 documents, and one more that says what d1 says but for case and punctuation."""
    table = documents()
    again = table.take(np.array([1])).columns
    shouted = pa.array([str(again.column("text")[0].as_py()).upper() + "!"])
    again = again.set_column(0, "id", pa.array(["again"])).set_column(1, "text", shouted)
    return kept(Table(pa.concat_tables([table.columns, again]), name="planted", root=Path()), "planted-again")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    few = partial(finetune_classes.finetune, updates=8, rates=(1e-3, 1e-2))
    monkeypatch.setattr(finetune_classes, "finetune", few)


def study(corpus: str, run: Run, *, seeds: tuple[int, ...] = (0,), **trial: Any) -> Study:
    return Study(
        arms=(
            Arm(name="tf-idf", run=run, kind="input"),
            Arm(name="untrained", run=run, kind="untrained"),
            Arm(name="model", run=run),
        ),
        trials=(Trial(task="label-finetune", label_rows=8, **trial), Trial(task="label-finetune", **trial)),
        corpus=corpus,
        seeds=seeds,
    )


def test_a_study_of_text_is_judged_and_reported(corpus: str, tmp_path: Path, quick: None) -> None:
    model = Bert(**DIM, ffn=64, dropout=0.0)
    result = compare(study(corpus, reads(corpus, model)), tmp_path, untold, budget="1e3tok")
    result = json.loads(json.dumps(result, allow_nan=False))
    assert result["task"] == "label-finetune, 8 rows" and list(result["also"]) == ["label-finetune, all labels"]
    assert set(result["arms"]) == {"tf-idf", "untrained", "model"} and result["kinds"]["tf-idf"] == "input"
    assert result["arms"]["tf-idf"]["mean"] >= 0.75  # planted words, and a strong control
    (found,) = result["probes"]["tf-idf"]
    assert found["labelled_rows"] == 8 and "labelled_minutes" not in found and set(found["dev"]) > {"1.0", "100.0"}
    assert result["label_rows"] == 8 and result["label_minutes"] is None
    assert result["cost_by_arm"]["model"]["tokens"] > 0 and result["cost_by_arm"]["model"]["audio_hours"] == 0
    data, table = result["data"], Table.open(corpus)
    assert data["characters"] == table.characters and "hours" not in data
    held = sum(data["splits"][0]["parts"][part]["rows"] for part in ("dev", "test"))
    assert len(table) - held - 1 <= data["pretraining"]["rows"] <= len(table) - held
    assert result["heard"]["model"][0]["characters"] == data["pretraining"]["characters"]
    folders = {arm: [tmp_path / name for name in names] for arm, names in result["runs"].items()}
    page = write_comparison_report(result, folders, tmp_path / "page.html").read_text(encoding="utf8")
    assert "labelled rows, label-finetune" not in page  # one amount is no curve
    assert "--labels 8rows" not in page and " tokens" in page and "audio heard" not in page
    from rich.console import Console

    console = Console(width=100, record=True, quiet=False, file=(tmp_path / "out").open("w"))
    console.print(comparison_table(result))
    assert "tokens read" in console.export_text()


def test_no_pre_training_reads_what_is_held(corpus: str, tmp_path: Path) -> None:
    laboratory = Laboratory(study(corpus, reads(corpus)), tmp_path, untold)
    trial, read = laboratory.trials[0], Table.open(laboratory.pretraining.corpus)
    held = {normal(v) for v in trial.held.numpy("text")}
    assert held and not held & {normal(v) for v in read.numpy("text")}
    parts = [{normal(v) for v in trial.table.numpy("text")[rows]} for rows in trial.split.rows.values()]
    assert all(not a & b for i, a in enumerate(parts) for b in parts[i + 1 :])
    labels = [set(trial.table.numpy("label")[rows]) for rows in trial.split.rows.values()]
    assert labels == [{"garden", "kitchen"}] * 3
    one = Table.open(corpus, "id = 'd1'")  # the other says the same in other letters, and has no hash
    left = Table.open(Pretraining(laboratory.study, [one], tmp_path, untold).corpus)
    assert len(left) == 59 and not {"d1", "again"} & set(left.numpy("id"))


def test_an_arm_may_read_rows_of_its_own_but_no_held_ones(corpus: str, tmp_path: Path) -> None:
    run = reads(corpus)
    some = replace(run, data=replace(run.data, where="domain = 'a'"))
    wanted = replace(study(corpus, run), arms=(Arm(name="all", run=run), Arm(name="some", run=some)))
    laboratory = Laboratory(wanted, tmp_path, untold)
    whole, part = (Table.open(laboratory.pretraining.own(arm, 0).data.corpus) for arm in wanted.arms)
    assert whole.name == laboratory.pretraining.corpus
    assert set(part.numpy("id")) == set(whole.where("domain = 'a'").numpy("id")) < set(whole.numpy("id"))


def test_few_rows_are_some_of_more_and_hold_each_class(corpus: str, tmp_path: Path) -> None:
    def taken(count: int | None) -> set[int]:
        trial = Laboratory(
            replace(study(corpus, reads(corpus)), trials=(Trial(task="label-finetune", label_rows=count),)),
            tmp_path,
            untold,
        ).trials[0]
        rows = trial.used()["train"]
        assert set(trial.table.numpy("label")[rows]) == {"garden", "kitchen"}
        return set(rows.tolist())

    found = [taken(count) for count in (2, 5, 20, None)]
    assert [len(f) for f in found[:3]] == [2, 5, 20]
    assert all(a < b for a, b in pairwise(found))
    with pytest.raises(OvertureError, match="1 labelled rows are fewer than the 2 values of 'label'"):
        taken(1)
    with pytest.raises(OvertureError, match=r"500 labelled rows were asked for, the training rows are \d+"):
        taken(500)
    with pytest.raises(ValueError, match="in minutes and in rows"):
        Trial(task="label-finetune", label_rows=5, label_minutes=1.0)


@pytest.mark.parametrize(
    ("of", "task", "said"),
    [
        (
            "planted-again",
            "speaker-id",
            "task 'speaker-id' is for speech, and corpus 'planted-again' is text: for that there are label-finetune",
        ),
        ("planted-again", "sound-finetune", "task 'sound-finetune' is for speech"),
        (
            "embedded",
            "label-finetune",
            "task 'label-finetune' is for text, and corpus 'embedded' is speech: for that there are speaker-id, ",
        ),
    ],
)
def test_a_task_of_the_other_kind_is_said(of: str, task: str, said: str, corpus: str, tmp_path: Path) -> None:
    wrong = replace(study(corpus, reads(corpus)), trials=(Trial(task=task),), corpus=of)
    with pytest.raises(OvertureError, match=said):
        Laboratory(wrong, tmp_path, untold)


def test_minutes_of_text_are_refused(corpus: str, tmp_path: Path) -> None:
    trial = Trial(task="label-finetune", label_minutes=3.0)
    laboratory = Laboratory(replace(study(corpus, reads(corpus)), trials=(trial,)), tmp_path, untold)
    with pytest.raises(OvertureError, match="3 minutes of labels were asked for, and 'planted-again' is text"):
        laboratory.trials[0].used()


def test_an_arm_of_two_stages_keeps_the_tokenizer_of_the_first(corpus: str, tmp_path: Path, quick: None) -> None:
    other = kept(documents(40, seed=5), "planted-first")
    run = reads(corpus)
    staged = Arm(name="staged", run=run, stages=(reads(other),))
    start = Arm(name="first alone", run=run, stages=(reads(other),), kind="start")
    laboratory = Laboratory(replace(study(corpus, run), arms=(staged, start)), tmp_path, untold)
    trained = laboratory.pretraining.train(staged, 0)
    first, last = (tmp_path / r.folder_name for r in trained.runs)
    files = [(folder / "tokenizer.json").read_text() for folder in (first, last)]
    assert files[0] == files[1] and trained.runs[1].frontend.kept is not None
    own = reads(corpus).frontend.settled(Table.open(corpus)).kept
    assert own != trained.runs[1].frontend.kept  # its own corpus has another tokenizer
    report = json.loads((last / "run.json").read_text())["start"]
    assert (
        report["matched"] > 10
        and report["missing"] == report["unused"] == {}
        and report["layers"] == {"kept": 1, "of": 1}
    )
    assert [h["corpus"] for h in report["heard"]] == [trained.runs[0].data.corpus]
    assert report["heard"][0]["characters"] == Table.open(trained.runs[0].data.corpus).characters
    assert 0 <= laboratory.judge(staged, 0, 0).value <= 1
    assert 0 <= laboratory.judge(start, 0, 0).value <= 1
    for folder in tmp_path.glob("stability-gap-label-classes-*"):
        assert (folder / "tokenizer.json").read_text() == files[0]


def test_a_run_that_is_taken_as_it_is_must_not_have_read_test_rows(corpus: str, tmp_path: Path, quick: None) -> None:
    for name, rows in (("all", Table.open(corpus)), ("others", documents(30, seed=9))):
        run = reads(kept(rows, f"read-{name}"))
        with Engine.start() as engine:
            outcome.keep(train(run, tmp_path / name, engine=engine))
        taken = Arm(name="taken", run=replace(run, start=name), kind="start")
        wanted = replace(study(corpus, run), arms=(taken,))
        if name == "all":
            with pytest.raises(OvertureError, match=r"was trained on \d+ texts that this study is tuned or scored on"):
                Laboratory(wanted, tmp_path, untold)
            continue
        laboratory = Laboratory(wanted, tmp_path, untold)
        assert 0 <= laboratory.judge(taken, 0, 0).value <= 1
        own = laboratory.pretraining.own(taken, 0)
        assert own.frontend.kept and own.data.corpus.startswith("planted-again~")
        for folder in tmp_path.glob("*-label-classes-*"):
            assert (folder / "tokenizer.json").read_text() == (tmp_path / name / "tokenizer.json").read_text()


def test_labels_are_asked_for_in_rows_or_minutes() -> None:
    assert parse_labels("50rows, 5m,200rows,50rows,300s") == [
        {"label_rows": 50},
        {"label_minutes": 5.0},
        {"label_rows": 200},
    ]
    for wrong in ("0rows", "1e3tok", "rows"):
        with pytest.raises(OvertureError):
            parse_labels(wrong)
