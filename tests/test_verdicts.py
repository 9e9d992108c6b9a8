"""What may be said of scores: gaps between groups, and what a study could have seen at all."""

import numpy as np
import pytest

from overture.verdicts import Score, compare_arms, relative_gap, savings

BETWEEN = ("gender", "f", "m")


def score(events: np.ndarray, totals: np.ndarray, groups: np.ndarray | None = None) -> Score:
    return Score(float(events.sum() / totals.sum()), events, totals, {"groups": []}, groups)


def test_the_gap_is_of_all_errors_over_all_words_and_has_a_sign() -> None:
    totals = np.array([1, 99, 50, 50])
    events = np.array([1, 9, 5, 0])  # by utterance women would be at .55, by words they are at .10; men at .05
    groups = np.array(["f", "f", "m", "m"])
    found = relative_gap(BETWEEN, [score(events, totals, groups)])
    assert found["groups"] == {"f": pytest.approx(0.10), "m": pytest.approx(0.05)}
    assert found["mean"] == pytest.approx(200 * 0.05 / 0.15)  # above 0: more errors for women
    turned = relative_gap(("gender", "m", "f"), [score(events, totals, groups)])
    assert turned["mean"] == pytest.approx(-found["mean"])
    assert found["utterances"] == {"f": 2, "m": 2}


def test_those_of_neither_group_are_in_no_gap() -> None:
    totals, events = np.full(6, 10), np.array([1, 1, 2, 2, 9, 9])
    with_others = relative_gap(BETWEEN, [score(events, totals, np.array(["f", "f", "m", "m", "", "u"]))])
    without = relative_gap(BETWEEN, [score(events[:4], totals[:4], np.array(["f", "f", "m", "m"]))])
    assert with_others == without


def test_the_interval_of_a_gap_spans_utterances_and_seeds() -> None:
    rng = np.random.default_rng(0)
    totals, groups = np.full(400, 20), np.array(["f", "m"] * 200)
    rate = np.where(groups == "f", 0.3, 0.25)
    seeds = [score(rng.binomial(totals, rate), totals, groups) for _ in range(3)]
    found = relative_gap(BETWEEN, seeds)
    assert len(found["seeds"]) == 3 and found["ci95"][0] < 200 * 0.05 / 0.55 < found["ci95"][1]
    apart = [
        score(rng.binomial(totals, np.where(groups == "f", 0.25 + s, 0.25)), totals, groups) for s in (0.0, 0.1, 0.2)
    ]
    assert relative_gap(BETWEEN, apart)["ci95"][1] > 80  # seeds that disagree widen it


def test_a_study_finds_what_it_calls_detectable_four_times_in_five() -> None:
    rng = np.random.default_rng(1)
    totals = np.full(200, 30)

    def study(difference: float) -> dict[str, float]:
        return compare_arms(
            "a",
            [score(rng.binomial(totals, 0.3 - difference), totals)],
            "b",
            [score(rng.binomial(totals, 0.3), totals)],
        )

    detectable = float(np.mean([study(0.0)["detectable"] for _ in range(20)]))
    found = np.mean([study(detectable)["ci95"][1] < 0 for _ in range(120)])
    assert 0.68 < found < 0.92


def followed(*points: tuple[float, float]) -> Score:
    """A score with what it was at so many FLOPs."""
    way = [{"update": i, "value": v, "flops": f} for i, (f, v) in enumerate(points)]
    return Score(points[-1][1], np.zeros(1), np.ones(1), {"trajectory": way})


def test_savings_are_the_flops_until_the_others_last_score() -> None:
    """Scratch ends at 2 with 100 FLOPs; the other passes 2 halfway between 20 and 40 FLOPs, and with the other seed begins below."""
    scratch = [followed((0, 9), (50, 4), (100, 2)), followed((0, 9), (100, 3))]
    grown = [followed((0, 5), (20, 3), (40, 1), (100, 0.5)), followed((10, 2.5), (100, 1))]
    found = savings("scratch", {"scratch": scratch, "grown": grown, "as it is": [followed((0, 5))] * 2})
    assert found["scratch"]["seeds"] == [0, 0] and found["grown"]["seeds"] == pytest.approx([0.7, 0.9])
    assert found["grown"]["mean"] == pytest.approx(0.8) and list(found) == ["scratch", "grown"]
    low, high = found["grown"]["ci95"]
    assert low < 0.7 and high > 0.9  # t over two seeds


def test_who_does_not_come_there_saves_nothing_that_could_be_told() -> None:
    slow = [followed((0, 9), (100, 3)), followed((0, 9), (100, 1))]
    found = savings("scratch", {"scratch": [followed((0, 9), (100, 2))] * 2, "slow": slow})["slow"]
    assert found["seeds"] == [None, pytest.approx(1 - 0.875)] and found["mean"] is None and found["ci95"] is None
