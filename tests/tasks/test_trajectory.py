"""overture.tasks.trajectory: language models at the updates that their runs kept; checkpoints kept for it; scores by a column."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from overture.data.table import Table
from overture.errors import OvertureError
from overture.laboratory import Laboratory, compare
from overture.models.text import Bert, Llama
from overture.report import comparison_table, write_comparison_report
from overture.run import Run, log_spaced
from overture.study import Arm, Study, Trial
from overture.tasks import find_task, written
from overture.tasks.trajectory import worst
from overture.train.engine import Engine
from overture.train.loop import train
from overture.train.state import checkpoints, load_weights, update_of

from .texts import DIM, documents, kept, reads


def untold(record: dict[str, Any]) -> None:
    """Who tells is not heard."""


def keeps(corpus: str, updates: int, at: tuple[int, ...] | None) -> Run:
    run = reads(corpus, Llama(**DIM, ffn=64), updates)
    return replace(run, loop=replace(run.loop, checkpoint_every=2, keep=1, keep_at=at))


@pytest.fixture(scope="module")
def corpus() -> str:
    return kept(documents(), "planted-way")


def trained(run: Run, folder: Path) -> Path:
    with Engine.start() as engine:
        train(run, folder, engine=engine)
    return folder


@pytest.mark.parametrize(
    ("updates", "count", "found"),
    [(1000, 4, (0, 1, 10, 100, 1000)), (8, 4, (0, 1, 2, 4, 8)), (3, 10, (0, 1, 2, 3)), (1, 1, (0, 1))],
)
def test_log_spaced(updates: int, count: int, found: tuple[int, ...]) -> None:
    assert log_spaced(updates, count) == found


def test_listed_updates_stay_and_change_nothing_else(corpus: str, tmp_path: Path) -> None:
    plain, run = keeps(corpus, 7, None), keeps(corpus, 7, (0, 1, 3))
    assert (
        plain.fingerprint != run.fingerprint
        and plain.fingerprint == replace(plain, loop=replace(plain.loop, keep_at=None)).fingerprint
    )
    without, folder = trained(plain, tmp_path / "without"), trained(run, tmp_path / "with")
    assert [update_of(p) for p in checkpoints(without)] == [7]
    assert [update_of(p) for p in checkpoints(folder)] == [0, 1, 3, 7]
    a, b = (run.model.build(run.frontend) for _ in range(2))
    load_weights(checkpoints(without)[-1], a)
    load_weights(checkpoints(folder)[-1], b)
    assert all(torch.equal(v, b.state_dict()[n]) for n, v in a.state_dict().items())
    torch.manual_seed(run.seed)
    fresh = run.model.build(run.frontend)
    load_weights(checkpoints(folder)[0], b)
    assert all(torch.equal(v, b.state_dict()[n]) for n, v in fresh.state_dict().items())


def test_the_worst_update_is_found_on_dev_and_scored_on_test(corpus: str, tmp_path: Path) -> None:
    run, table, task = keeps(corpus, 6, (0, 2, 6)), documents(30, seed=3), find_task("held-out-worst")
    folder = trained(run, tmp_path / "run")
    dev, test = np.arange(12), np.arange(12, 30)
    model = run.model.build(run.frontend)
    given: dict[str, Any] = {"dev": dev, "test": test, "by": "domain"}
    found = worst(task, model, run, folder, table, **given)
    assert [p.update for p in found.trajectory] == [0, 2, 6] and found.dev == {
        p.update: p.value for p in found.trajectory
    }
    assert (
        found.rate == 0 and found.trajectory[0].value > found.trajectory[-1].value
    )  # it learns, so it knew least at first
    load_weights(checkpoints(folder)[0], model)
    again = written.judge(task, model, run, table, test, control=None, seed=0)
    by_hand = again.counts.events.sum() * np.log(2) / again.predictions.column("tokens").to_numpy().sum()
    assert written.nats_per_token(again.predictions) == pytest.approx(by_hand)
    tokenizer = run.frontend.tokenizer(Table.open(corpus))
    lengths = [len(tokenizer.encode(t, add_special_tokens=False).ids) for t in table.numpy("text")[test]]
    assert again.predictions.column("tokens").to_pylist() == lengths
    assert found.value == again.value and np.array_equal(found.counts.events, again.counts.events)
    domains, sizes = table.numpy("domain")[dev], np.array([len(t) for t in table.numpy("text")[dev]])
    for point in found.trajectory:
        assert set(point.groups) == {"a", "b"}
        whole = sum(point.groups[d] * sizes[domains == d].sum() for d in "ab") / sizes.sum()
        assert point.value == pytest.approx(whole)
    still = worst(task, model, run, None, table, **given)
    assert still.value == found.value and [p.update for p in still.trajectory] == [0]
    with pytest.raises(OvertureError, match=r"kept nothing of its way: set loop\.keep_at"):
        worst(task, model, keeps(corpus, 6, None), folder, table, **given)
    with pytest.raises(OvertureError, match="has no checkpoint of update 3, which it was to keep"):
        worst(task, model, keeps(corpus, 6, (0, 3)), folder, table, **given)


def test_a_study_of_what_is_forgotten_by_domain(corpus: str, tmp_path: Path) -> None:
    run = keeps(corpus, 6, (0, 1, 6))
    study = Study(
        arms=(
            Arm(name="tf-idf", run=run, kind="input"),  # does not play
            Arm(name="untrained", run=run, kind="untrained"),
            Arm(name="model", run=run),
        ),
        trials=(
            Trial(task="held-out", by="domain"),
            Trial(task="held-out", where="domain = 'a'", called="held-out, a"),
            Trial(task="held-out-worst", by="domain"),
        ),
        corpus=corpus,
        seeds=(0,),
    )
    result = compare(study, tmp_path, untold, budget="6 updates")
    assert result["metric"] == "bits per character" and list(result["also"]) == ["held-out, a", "held-out-worst"]
    assert result["best"] == "model" and result["arms"]["model"]["mean"] < result["arms"]["untrained"]["mean"]
    (held,) = result["probes"]["model"]
    assert (
        held["value"] * np.log(2) / 2 < held["nats_per_token"] < held["value"] * np.log(2) * 12
    )  # a token is of 1 to 12 characters
    matrix = {
        arm: {g["value"]: g["metric"] for g in groups if g["column"] == "domain"}
        for arm, groups in result["groups"].items()
    }
    assert all(set(row) == {"a", "b"} for row in matrix.values()) and matrix["model"]["a"] < matrix["untrained"]["a"]
    (detail,) = result["also"]["held-out-worst"]["probes"]["model"]
    assert [p["update"] for p in detail["trajectory"]] == [0, 1, 6] and set(detail["trajectory"][0]["groups"]) == {
        "a",
        "b",
    }
    assert detail["value"] == pytest.approx(
        result["also"]["held-out-worst"]["arms"]["untrained"]["mean"]
    )  # its first update is its worst
    result = json.loads(json.dumps(result, allow_nan=False))
    folders = {arm: [tmp_path / name for name in names] for arm, names in result["runs"].items()}
    page = write_comparison_report(result, folders, tmp_path / "page.html").read_text(encoding="utf8")
    assert "its per character" in page and "domain" in page and "held-out, a" in page
    assert comparison_table(result).row_count == 2
    laboratory = Laboratory(study, tmp_path, untold)
    for rows in laboratory.trials[0].split.rows.values():
        assert set(laboratory.trials[0].table.numpy("domain")[rows]) == {"a", "b"}
    assert len(Table.open(laboratory.pretraining.corpus)) < 60


def test_what_a_model_forgets_in_another_domain_is_its_difference_to_its_start(corpus: str, tmp_path: Path) -> None:
    table = documents(40, seed=4)
    at = table.columns.column_names.index("text")
    other = pa.array([t.upper()[::-1] for t in table.numpy("text")])
    elsewhere = kept(Table(table.columns.set_column(at, "text", other), name="upside", root=Path()), "planted-upside")
    general, run = keeps(corpus, 12, None), keeps(elsewhere, 12, (0, 4, 12))
    study = Study(
        arms=(
            Arm(name="start", run=run, stages=(general,), kind="start"),
            Arm(name="goes on", run=run, stages=(general,)),
        ),
        trials=(Trial(task="held-out-worst", corpus=corpus), Trial(task="held-out", called="held-out, new")),
        corpus=elsewhere,
        seeds=(0,),
    )
    result = compare(study, tmp_path, untold, budget="12 updates")
    means = {arm: found["mean"] for arm, found in result["arms"].items()}
    assert result["best"] == "start" and means["goes on"] > means["start"]
    (way,) = result["probes"]["goes on"]
    assert way["rate"] > 0 and way["trajectory"][0]["value"] == pytest.approx(
        result["probes"]["start"][0]["trajectory"][0]["value"]
    )
    new = {arm: found["mean"] for arm, found in result["also"]["held-out, new"]["arms"].items()}
    assert new["goes on"] < new["start"]


def test_what_a_user_can_get_wrong(corpus: str, tmp_path: Path) -> None:
    run = keeps(corpus, 2, (0,))
    study = Study(arms=(Arm(name="model", run=run),), trials=(Trial(task="held-out", by="topic"),), corpus=corpus)
    with pytest.raises(OvertureError, match=r"needs the column\(s\) topic, which corpus 'planted-way' lacks"):
        Laboratory(study, tmp_path, untold)
    with pytest.raises(ValueError, match="two trials have one name"):
        _ = replace(study, trials=(Trial(task="held-out"), Trial(task="held-out", where="domain = 'a'"))).names
    masked = reads(corpus, Bert(**DIM, ffn=64))
    with pytest.raises(OvertureError, match="is for networks that write"):
        worst(
            find_task("held-out-worst"), masked.model.build(masked.frontend), masked, None, documents(),
            dev=np.arange(3), test=np.arange(3, 6),
        )  # fmt: skip
