"""Trajectories on the page of a comparison or claim."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overture.report import write_comparison_report
from overture.report.verdict import measured
from overture.report.way import place, ways

from .test_report import a_comparison, read

UPDATES = (0, 1, 2, 5, 10, 22, 46, 100, 215, 464, 1000)


def seed(of: dict[int, float], groups: dict[str, dict[int, float]] | None = None) -> dict[str, Any]:
    own = {u: {g: values[u] for g, values in (groups or {}).items()} for u in of}
    return {"trajectory": [{"update": u, "value": v, "groups": own[u]} for u, v in of.items()]}


def gap(depth: float, ends: float) -> dict[int, float]:
    """Down a little, up by `depth` at about update 22, down to `ends`."""
    return {u: 2 + depth * np.exp(-((np.log1p(u) - np.log1p(22)) ** 2)) - (2 - ends) * u / 1000 for u in UPDATES}


def followed() -> dict[str, Any]:
    low, high = gap(0.4, 1.9), gap(0.6, 1.7)
    groups = {"old": gap(1.0, 2.2), "new": gap(0.0, 1.0)}
    probes = {
        "tera": [seed(low, groups), seed(high, groups)],
        "ssast": [seed(gap(0.1, 1.85), groups), seed(gap(0.15, 1.8), groups)],
        "untrained": [seed({0: 2.0}, {"old": {0: 2.1}, "new": {0: 3.0}})],
        "log-Mel": [{}],
    }
    return a_comparison(probes=probes)


def test_the_mean_over_seeds_and_its_band_stand_at_their_updates(tmp_path: Path) -> None:
    result = followed()
    whole, new, old = ways([(result, measured(result))])
    assert (whole.title, new.title, old.title) == (
        "Character error rate, asr",
        "Character error rate, asr, new",
        "Character error rate, asr, old",
    )
    assert [p.kind for p in whole.paths] == ["area", "area", "line", "line", "line"]  # one seed has no band
    assert whole.legend == (("tera", 0), ("ssast", 1), ("untrained", 3))
    head, *rows = whole.numbers
    assert (
        head == ("updates", "tera", "ssast", "untrained")
        and [r[0] for r in rows][:2] == ["0", "1"]
        and rows[-1][0] == "1,000"
    )
    at = {r[0]: r for r in rows}
    assert float(at["22"][1]) == pytest.approx((gap(0.4, 1.9)[22] + gap(0.6, 1.7)[22]) / 2, abs=0.01)
    assert {r[3] for r in rows} == {rows[0][3]} and float(rows[0][3]) == 2.0  # it has gone no way
    places = {t.label: t.at for t in whole.x_ticks}
    assert places["0"] == 0 and places["1,000"] == 100
    np.testing.assert_allclose(places["22"], 100 * np.log(23) / np.log(1001), atol=0.01)
    assert np.diff(place(UPDATES)).min() > 0 and min(np.diff([t.at for t in whole.x_ticks])) > 9.9
    page = read(write_comparison_report(result, {}, tmp_path / "c.html"))
    assert "On the way" in page.text and "over 0 to 1,000 updates" in (tmp_path / "c.html").read_text()


def test_without_a_way_there_is_no_chart(tmp_path: Path) -> None:
    for probes in ({}, {"tera": [seed({0: 2.0})]}, {"tera": [{"rate": 1.0}], "ssast": [seed({0: 1.0})]}):
        result = a_comparison(probes=probes)
        assert ways([(result, measured(result))]) == []
        assert "On the way" not in read(write_comparison_report(result, {}, tmp_path / "c.html")).text


def test_seeds_share_what_all_of_them_have_looked_at() -> None:
    result = a_comparison(probes={"tera": [seed({0: 1.0, 10: 3.0, 20: 9.0}), seed({0: 2.0, 10: 5.0})]})
    (chart,) = ways([(result, measured(result))])
    assert [r[1] for r in chart.numbers[1:]] == ["1.50", "4.00", "–"]
