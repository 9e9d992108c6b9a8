"""overture.recipes.gender_ssl: equal hours, nobody of unknown gender, and only the voices differ."""

from dataclasses import replace

import pytest

from overture.data.mixture import composition, rows_of
from overture.recipes import get
from overture.recipes.gender_ssl import HOURS, claim


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
