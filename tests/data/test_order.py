"""overture.data.order: easy first for so many epochs, then at random; nothing else of the plan changes; end to end on speech."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats import spearmanr

from overture.config import from_dict, override, to_dict
from overture.data.mixture import Fixed, Mixture, rows_of
from overture.data.order import Order
from overture.data.plan import BatchPlan
from overture.data.score import scorer
from overture.data.score.annotate import annotate
from overture.data.select import Select
from overture.data.table import Table
from overture.data.text import Pack
from overture.errors import OvertureError
from overture.recipes import get
from overture.train.engine import Engine
from overture.train.examples import Training
from overture.train.loop import train
from overture.train.track import read_metrics

from ..laws.conftest import tensors


def plans(keys: np.ndarray | None, ordered: int = 2) -> tuple[BatchPlan, np.ndarray]:
    lengths = np.random.default_rng(0).gamma(4, 2, 800).clip(1, 20)
    return BatchPlan(lengths, update=120, micro=60, seed=3, keys=keys, ordered=ordered), lengths


def test_updates_come_by_the_mean_of_the_column_and_then_at_random() -> None:
    keys = np.random.default_rng(1).normal(size=800)  # has nothing to do with length
    plan, lengths = plans(keys)
    plain, _ = plans(None)
    for epoch in (0, 1):
        updates = plan.updates(epoch)
        means = [keys[rows].mean() for rows in updates]
        assert (
            means == sorted(means) and means[-1] - means[0] > 2.5
        )  # of a normal distribution: its tails, not its middle
        assert (
            spearmanr(np.repeat(np.arange(len(updates)), [len(r) for r in updates]), keys[np.concatenate(updates)])[0]
            > 0.95
        )
        assert sorted(np.concatenate(updates)) == list(range(800))
        assert all(len(rows) * lengths[rows].max() <= 120 + 1e-9 for rows in updates)
    assert plan.padding(0) < 0.15
    assert any(
        not np.array_equal(a, b) for a, b in zip(plan.updates(0), plan.updates(1))
    )  # the draw is still of the epoch
    # the epochs after are those of a plan without an order, to the row
    for epoch in (2, 5):
        assert all(np.array_equal(a, b) for a, b in zip(plan.updates(epoch), plain.updates(epoch), strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(plan.updates(1), plans(keys)[0].updates(1), strict=True))  # pure


def test_by_length_the_short_come_first_or_last() -> None:
    _, lengths = plans(None)
    of = Table(
        pa.table({"id": [str(i) for i in range(800)], "audio": ["x"] * 800, "duration": lengths}), name="t", root=Path()
    )
    for descending in (False, True):
        plan, _ = plans(Order(descending=descending).keys(of, lengths), 1)
        means = [lengths[rows].mean() for rows in plan.updates(0)]
        assert means == sorted(means, reverse=descending)


def test_few_updates_are_not_cut_into_more() -> None:
    keys = np.arange(12.0)
    plan = BatchPlan(np.full(12, 10.0), update=40, micro=40, keys=keys, ordered=1)
    assert [len(rows) for rows in plan.updates(0)] == [4, 4, 4] and sorted(plan.updates(0)[0]) != sorted(
        plan.updates(0)[1]
    )
    drawn = BatchPlan(
        np.full(12, 10.0), update=40, micro=40, keys=keys, ordered=1, draw=lambda epoch: np.array([3, 3, 9, 0])
    )
    assert sorted(np.concatenate(drawn.updates(0))) == [0, 3, 3, 9]


def test_what_cannot_be_ordered_is_told() -> None:
    of = Table(
        pa.table({"id": ["a", "b"], "text": ["x", "y"], "ppl": [1.0, None], "kind": ["k", "k"]}), name="t", root=Path()
    )
    with pytest.raises(OvertureError, match=r"1 of 2 rows of 't' have no ppl.*--where \"ppl IS NOT NULL."):
        Order(by="ppl").keys(of, np.ones(2))
    with pytest.raises(OvertureError, match="holds string, not numbers"):
        Order(by="kind").keys(of, np.ones(2))
    with pytest.raises(OvertureError, match=r"no column 'pl'\. Did you mean 'ppl'"):
        Order(by="pl").keys(of, np.ones(2))
    with pytest.raises(OvertureError, match=r"order\.epochs=0"):
        Order(epochs=0)


@pytest.fixture(scope="module")
def scored(overture_home: object) -> str:
    Table.open("embedded", "speaker IN ('joe', 'bob', 'bud') AND duration BETWEEN 0.6 AND 2").save("clean-first")
    annotate("clean-first", {"snr": scorer("snr")})
    return "clean-first"


def test_a_run_selects_mixes_and_orders_and_resumes(scored: str, tmp_path: Path) -> None:
    run = override(
        get("tera:tiny"),
        {
            "loop.updates": "6",
            "loop.checkpoint_every": "2",
            "loop.log_every": "1",
            "plan.update": "20",
            "plan.micro": "20",
        },
    )
    before = run.fingerprint
    data = replace(
        run.data, corpus=scored, where=None, select=Select(column="snr", hours=0.02), order=Order(by="snr", descending=True),
        mix=Fixed(column="speaker", shares=(("joe", 0.5),)),
    )  # fmt: skip
    run = replace(run, data=data)
    assert run.fingerprint != before
    assert from_dict(get("tera:tiny"), to_dict(run)) == run
    table, _ = rows_of(run.data)
    whole = Table.open(scored)
    assert abs(table.hours - 0.02) < 2 / 3600 and table.numpy("snr").min() >= np.sort(whole.numpy("snr"))[-len(table)]
    training = Training.prepare(run)
    updates = training.plan.updates(0)
    means = [table.numpy("snr")[rows].mean() for rows in updates]
    assert means == sorted(means, reverse=True) and len(means) > 2
    heard = np.concatenate(updates)
    seconds, joe = table.numpy("duration"), table.numpy("speaker") == "joe"
    assert abs(seconds[heard[joe[heard]]].sum() / seconds[heard].sum() - 0.5) < 2 / seconds[heard].sum()

    class Killed(Exception):
        pass

    def trained(folder: Path, die: int | None = None) -> dict[str, Any]:
        def on_record(record: dict[str, Any]) -> None:
            if record["kind"] == "checkpoint" and record["update"] == die:
                raise Killed

        with Engine.start() as engine:
            if die is None:
                train(run, folder, engine=engine, on_record=on_record)
            else:
                with pytest.raises(Killed):
                    train(run, folder, engine=engine, on_record=on_record)
        return tensors(folder)

    never = trained(tmp_path / "whole")
    assert max(r["epoch"] for r in read_metrics(tmp_path / "whole") if r["kind"] == "update") > 0
    trained(tmp_path / "parts", 2)
    trained(tmp_path / "parts", 4)
    parts = trained(tmp_path / "parts")
    assert [n for n in never if not torch.equal(never[n], parts[n])] == []


def test_fields_that_are_not_set_name_no_run_anew() -> None:
    run = get("tera:tiny")
    values = to_dict(run)
    assert values["data"]["select"] is None and values["data"]["order"] is None  # they stand in the record
    named = to_dict(run, named=True)
    assert "select" not in named["data"] and "order" not in named["data"] and "mix" in named["data"]
    assert override(run, {"data.order.by": "duration"}).fingerprint != run.fingerprint
    assert override(override(run, {"data.order.by": "duration"}), {"data.order": "none"}).fingerprint == run.fingerprint
    fixed = override(run, {"data.mix": '{"column": "speaker", "shares": [["joe", 0.5]]}'}).data.mix
    assert fixed == Fixed(column="speaker", shares=(("joe", 0.5),))
    assert override(run, {"data.mix.shares": '[["joe", 0.5]]'}).data.mix == Fixed(shares=(("joe", 0.5),))
    by_part = override(
        run, {"data.mix.column": "speaker", "data.mix.shares": '[["joe", 0.5]]', "data.mix.redraw": "false"}
    )
    assert by_part.data.mix == replace(fixed, redraw=False)
    assert override(by_part, {"data.mix.alpha": "0.5"}).data.mix == Mixture(column="speaker", alpha=0.5)
    with pytest.raises(OvertureError, match=r"no field 'shars'\. Did you mean 'data\.mix\.shares'"):
        override(by_part, {"data.mix.shars": "[]"})
    with pytest.raises(OvertureError, match=r"'optim' is not a position in a list of 1"):
        override(run, {"players.optim.lr": "1"})


def test_text_is_chosen_mixed_and_ordered_alike(overture_home: object) -> None:
    annotate("embedded-text", {"length": scorer("length")}, name="counted")
    base = get("stability-gap:tiny")
    data = replace(
        base.data, corpus="counted", where="domain IN ('changelog', 'biomedicine')", text=Pack(length=64, column="domain"), order=Order(by="words"),
        select=Select(column="words", descending=False, characters=60_000), mix=Fixed(column="domain", shares=(("changelog", 0.2),)),
    )  # fmt: skip
    training = Training.prepare(replace(base, data=data))
    about = training.examples.about()
    assert abs(about["characters"] - 60_000) < 500 and about["rows"] > 100
    updates = training.plan.updates(0)
    keys = training.examples.keys()
    assert keys is not None
    means = [keys[rows].mean() for rows in updates]
    assert means == sorted(means) and means[-1] > means[0] + 10
    heard = np.concatenate(updates)
    whole = Table.open("counted")
    domain = dict(zip(whole.numpy("id"), whole.numpy("domain"), strict=True))
    of = {i: domain[training.examples.ids(np.array([i]))[0]] for i in {*heard}}
    tokens = training.examples.lengths
    mine = sum(tokens[i] for i in heard if of[i] == "changelog")
    assert mine / sum(tokens[i] for i in heard) == pytest.approx(0.2, abs=0.01)
