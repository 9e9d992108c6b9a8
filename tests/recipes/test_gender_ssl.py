"""overture.recipes.gender_ssl: equal hours, nobody of unknown gender, and only the voices differ."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from overture.data.mixture import composition, rows_of
from overture.data.split import values_of
from overture.data.table import Table
from overture.recipes import get
from overture.recipes.gender_ssl import HOURS, claim

from .installed import laboratory


@pytest.mark.parametrize("size", ["tiny", "default"])
def test_hours_are_equal_to_one_per_cent_and_of_named_values(size: str) -> None:
    data = get(f"gender-ssl:{size}").data
    table, _ = rows_of(data)
    lines = composition(data, table)
    hours = {line["value"]: line["hours"] for line in lines}
    assert set(hours) == {"f", "m"} and abs(hours["f"] - hours["m"]) < 0.01 * hours["f"]
    assert set(table.numpy("gender")) == {"f", "m"}


def test_the_published_size_is_base_on_a_thousand_hours() -> None:
    run = get("gender-ssl:published")
    assert run.model == get("wav2vec2:published").model
    assert run.data.matched is not None and run.data.matched.hours * len(run.data.matched.values) == 1000


def test_arms_differ_in_their_voices_only() -> None:
    arms = [arm for arm in claim().study.arms if arm.kind == "trained"]
    assert len({replace(a.run, data=replace(a.run.data, matched=None)) for a in arms}) == 1
    hours = []
    for arm in arms:
        assert arm.run.data.matched is not None
        hours.append(arm.run.data.matched.hours * len(arm.run.data.matched.values))
    assert hours == pytest.approx([HOURS] * 3)
    assert {t.gap for t in claim().study.trials} == {("gender", "f", "m")} and len(claim().study.seeds) >= 3
    assert "language <> 'cs'" in str(claim().study.where)  # whoever is recognised is heard by no arm


def test_arms_hear_equal_hours_of_the_same_corpora_and_nobody_who_is_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = laboratory(claim(), tmp_path, monkeypatch, "multilingual")
    tested = {v for trial in lab.trials for v in values_of(trial.table, "speaker")}
    assert len(tested) == 2
    heard: dict[str, Table] = {}
    for arm in (a for a in lab.study.arms if a.kind == "trained"):
        heard[arm.name], _ = rows_of(lab.pretraining.own(arm, 0).data)
    longest = lab.study.arms[0].run.data.max_seconds
    hours: dict[str, dict[tuple[str, str], float]] = {}
    for name, table in heard.items():
        assert not tested & set(table.numpy("speaker"))
        hours[name] = defaultdict(float)
        for corpus, gender, seconds in zip(*(table.numpy(c) for c in ("corpus", "gender", "duration"))):
            hours[name][corpus, gender] += min(seconds, longest) / 3600
    assert {name: {g for _, g in found} for name, found in hours.items()} == {
        "women": {"f"},
        "men": {"m"},
        "balanced": {"f", "m"},
    }
    for found in hours.values():
        assert sum(found.values()) == pytest.approx(HOURS, rel=0.01)
    both = hours["balanced"]
    assert sum(h for (_, g), h in both.items() if g == "f") == pytest.approx(HOURS / 2, rel=0.01)
    corpora = {corpus for corpus, _ in both}
    assert len(corpora) == 3
    for corpus in corpora:  # no corpus is one of women or of men
        assert hours["women"][corpus, "f"] == pytest.approx(hours["men"][corpus, "m"], rel=0.1)
        assert both[corpus, "f"] == pytest.approx(both[corpus, "m"], rel=0.1)
    voices = {name: len(set(table.numpy("speaker"))) for name, table in heard.items()}
    assert voices == {"women": 6, "men": 7, "balanced": 13}  # as the claim's deviations say
