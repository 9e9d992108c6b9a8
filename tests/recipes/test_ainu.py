"""overture.recipes.ainu: the published size, and the factorial."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch

from overture.data.split import values_of
from overture.data.table import Table
from overture.recipes import get
from overture.recipes.ainu import claim
from overture.recipes.hykist import MULTILINGUAL
from overture.recognise.units import normalise

from .installed import laboratory


def test_the_published_size_is_xlsr_53s() -> None:
    run = get("ainu:published")
    with torch.device("meta"):
        model = run.model.build(run.frontend)
    assert sum(p.numel() for p in model.parameters()) == 317_390_592
    assert run.loop.updates == 100_000 and run.players[0].objective.temperature.least == 0.1


def test_arms_differ_by_the_two_factors_only() -> None:
    study = claim().study
    arms = {arm.name: arm for arm in study.arms if arm.kind != "untrained"}
    assert {(a.kind, a.also) for a in arms.values()} == {
        (k, a.also) for k in ("start", "trained") for a in arms.values()
    }
    assert len({a.run for a in arms.values()}) == len({a.stages for a in arms.values()}) == 1 and len(arms) == 6
    (stage,) = arms["base"].stages
    assert stage == MULTILINGUAL and "language <> 'cs'" in str(stage.data.where)  # the base has not heard the target
    assert len(study.seeds) >= 3


def test_the_target_is_told_apart_by_sentence() -> None:
    parts = dict(claim().study.trials[0].parts)
    assert all(expression.startswith("substr(md5(text), 1, 1)") for expression in parts.values())
    dev, test = (
        set(parts[p].split("IN")[-1].split("=")[-1].strip(" ()").replace("'", "").split(", ")) for p in ("dev", "test")
    )
    left_out = set(parts["train"].split("NOT IN")[1].strip(" ()").replace("'", "").split(", "))
    assert dev | test == left_out and not dev & test


def test_other_languages_labels_are_not_those_of_the_target() -> None:
    for arm in claim().study.arms:
        assert arm.also is None or (
            arm.also.startswith("corpus = 'tuxpaint' AND language IN (") and "cs" not in arm.also
        )


def test_what_is_scored_is_neither_heard_nor_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = laboratory(claim(), tmp_path, monkeypatch, "multilingual")
    (trial,) = lab.trials
    parts = [trial.table.take(rows) for rows in trial.split.rows.values()]
    for column in ("text", "sha1"):
        train, dev, test = (set(values_of(table, column)) for table in parts)
        assert train and dev and test and not (train & dev or train & test or dev & test), column
    assert trial.split.rule["shared"] == {"speaker": 2}  # narrators are shared, and the result says so
    held = set(trial.held.numpy("sha1"))
    assert len(held) == len(parts[1]) + len(parts[2])
    continued = claim().study.arms[-1]
    target, base = (
        Table.open(name) for name in (lab.pretraining.corpus, next(lab.pretraining.chain(continued, 0)).data.corpus)
    )
    assert set(target.numpy("language")) == {"cs"} and 1.3 < target.hours < 1.5
    assert "cs" not in set(base.numpy("language")) and not held & {*target.numpy("sha1"), *base.numpy("sha1")}


def test_labels_of_other_languages_are_added_to_the_same_of_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = laboratory(claim(), tmp_path, monkeypatch, "multilingual")
    (trial,) = lab.trials
    alone, rows = trial.packed()
    assert alone.take(rows["train"]).hours * 60 == pytest.approx(5, abs=0.2)
    hours = {}
    for also in {arm.also for arm in claim().study.arms} - {None}:
        table, more = trial.packed(also)
        ids = table.numpy("id")
        for part in ("dev", "test"):
            assert (ids[more[part]] == alone.numpy("id")[rows[part]]).all()
        added = table.take(np.setdiff1d(more["train"], rows["train"]))
        assert "cs" not in set(added.numpy("language")) and len(set(added.numpy("speaker"))) == 2
        hours[also] = added.hours
        scripts = {unicodedata.name(c).split()[0] for text in table.numpy("text") for c in normalise(text)}
        assert "LATIN" in scripts and not scripts & {"CYRILLIC", "GREEK"}  # one alphabet
    assert len(hours) == 2 and max(hours.values()) < 1.05 * min(hours.values())  # related and unrelated as much
