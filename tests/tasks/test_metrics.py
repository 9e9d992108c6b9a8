"""Scores and intervals: empty texts, coverage by simulation, pairs, groups."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overture.errors import OvertureError
from overture.tasks.metrics import (
    Counts,
    Ranking,
    accuracy,
    bootstrap,
    by_group,
    cer,
    paired_bootstrap,
    seeds_interval,
    wer,
)


def test_errors_a_character_and_a_word():
    counts = cer(["kitten", "ab cd"], ["sitting", "abcd"])
    assert counts.events.tolist() == [3, 1] and counts.totals.tolist() == [6, 5]
    assert counts.value == pytest.approx(4 / 11)
    counts = wer(["the  cat sat", "one"], ["the cat sat down", "two"])
    assert counts.events.tolist() == [1, 1] and counts.totals.tolist() == [3, 1]
    assert accuracy(["a", "b", "c"], ["a", "x", "c"]).value == pytest.approx(2 / 3)


def test_empty_sides_are_insertions_or_deletions():
    counts = cer(["", "abc", "", "  "], ["xy", "", "", "q"])
    assert counts.events.tolist() == [2, 3, 0, 1] and counts.totals.tolist() == [0, 3, 0, 0]
    counts = wer(["", "a b", ""], ["x y z", "", ""])
    assert counts.events.tolist() == [3, 2, 0] and counts.totals.tolist() == [0, 2, 0]
    assert counts.value == 5 / 2
    with pytest.raises(OvertureError, match="none of the 1 references"):
        _ = cer([""], ["abc"]).value
    assert bootstrap(*cer(["", ""], ["abc", "d"])) is None


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="1 references, 2 hypotheses"):
        cer(["a"], ["a", "b"])


def test_interval_covers_the_true_ratio():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        totals = rng.integers(5, 60, size=150)
        low, high = bootstrap(rng.binomial(totals, 0.2), totals, n=300, seed=trial)
        covered += low <= 0.2 <= high
    assert 0.90 <= covered / 200 <= 0.985


def test_interval_over_speakers_is_wider_when_speakers_differ():
    rng = np.random.default_rng(1)
    speakers = np.repeat(np.arange(20), 50)
    rates = rng.beta(2, 8, size=20)[speakers]
    totals = np.full(1000, 30)
    errors = rng.binomial(totals, rates)
    over_utterances, over_speakers = bootstrap(errors, totals), bootstrap(errors, totals, groups=speakers.astype(str))
    assert over_speakers[1] - over_speakers[0] > 2 * (over_utterances[1] - over_utterances[0])
    assert bootstrap(errors, totals, groups=["one"] * 1000) is None


def test_bootstrap_repeats_with_its_seed():
    errors, totals = np.arange(30), np.full(30, 40)
    assert bootstrap(errors, totals, seed=3) == bootstrap(errors, totals, seed=3)
    assert bootstrap(errors, totals, seed=3) != bootstrap(errors, totals, seed=4)


def test_pairs_find_a_small_difference_that_separate_intervals_miss():
    rng = np.random.default_rng(2)
    totals = np.full(300, 30)
    hard = rng.beta(1, 3, size=300)
    a = rng.binomial(totals, hard)
    b = np.maximum(a - rng.integers(0, 2, size=300), 0)  # at most one error fewer each
    a, b = Counts(a, totals), Counts(b, totals)
    found = paired_bootstrap(a, b)
    assert found.difference == pytest.approx(a.value - b.value) and found.interval[0] > 0 and found.p < 0.01
    assert bootstrap(*a)[0] < bootstrap(*b)[1]  # apart from each other they overlap
    mirrored = paired_bootstrap(b, a)
    assert mirrored.difference == pytest.approx(-found.difference) and mirrored.p == found.p


def test_pairs_of_equal_systems_do_not_differ():
    counts = Counts(np.arange(40), np.full(40, 50))
    same = paired_bootstrap(counts, counts)
    assert same.difference == 0 and same.interval == (0, 0) and same.p == 1


def test_p_is_uniform_without_a_difference():
    rng = np.random.default_rng(3)
    totals = np.full(80, 20)
    p = [
        paired_bootstrap(Counts(rng.binomial(totals, 0.3), totals), Counts(rng.binomial(totals, 0.3), totals), n=200).p
        for _ in range(200)
    ]
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.10


def test_pairs_need_the_same_utterances():
    with pytest.raises(OvertureError, match="scored on 2 and 3 utterances"):
        paired_bootstrap(Counts(np.zeros(2), np.ones(2)), Counts(np.zeros(3), np.ones(3)))


def test_pairs_may_count_in_other_frames():
    rng = np.random.default_rng(4)
    totals = rng.integers(50, 150, size=200)
    right = rng.binomial(totals, 0.6)
    same = paired_bootstrap(
        Counts(right, totals), Counts(2 * right, 2 * totals)
    )  # each frame of one is two of the other
    assert same.difference == 0 and same.p == 1 and max(map(abs, same.interval)) < 1e-9
    worse = paired_bootstrap(Counts(right, totals), Counts(2 * np.maximum(right - 5, 0), 2 * totals))
    assert worse.difference == pytest.approx(5 * 200 / totals.sum(), rel=0.05) and worse.interval[0] > 0


def test_seeds():
    assert seeds_interval([0.5]) is None
    low, high = seeds_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)


def test_groups_sum_to_the_whole():
    rng = np.random.default_rng(4)
    counts = Counts(rng.integers(0, 5, 60), np.r_[rng.integers(5, 9, 59), 0])
    gender = rng.choice(np.array(["female", "male", None], object), 60)
    speaker = np.array([f"s{i % 7}" for i in range(59)] + ["silent"], object)
    rows = by_group(counts, {"gender": gender, "speaker": speaker})
    for column, groups in (("gender", ["female", "male", None]), ("speaker", [f"s{i}" for i in range(7)] + ["silent"])):
        here = [r for r in rows if r.column == column]
        assert {r.group for r in here} == set(groups)
        assert sum(r.utterances for r in here) == 60 and sum(r.total for r in here) == counts.totals.sum()
        assert sum(r.value * r.total for r in here if r.total) == pytest.approx(
            counts.events[:59].sum() + (counts.events[59] if column == "gender" else 0)
        )
    silent = rows[-1] if rows[-1].group == "silent" else next(r for r in rows if r.group == "silent")
    assert silent.value is None and silent.interval is None and silent.utterances == 1
    assert rows[2].group is None  # empty ones come last


def test_rankings_as_computed_by_hand() -> None:
    """Question a: right at ranks 1 and 3 of 4; b: right at rank 2 of 2; c has no right candidate, d no wrong one."""
    questions = ["a", "b", "a", "c", "a", "b", "a", "c", "d"]
    right = [1, 0, 0, 0, 1, 1, 0, 0, 1]
    scores = [0.9, 0.8, 0.5, 3.0, 0.4, 0.1, -2.0, 2.0, 1.0]
    found = Ranking.of(questions, right, scores)
    assert found.questions == ["a", "b"] and found.left_out == ["c", "d"]
    assert [order.tolist() for order in found.orders] == [[0, 2, 4, 6], [1, 5]]
    np.testing.assert_allclose(found.average_precision.events, [(1 / 1 + 2 / 3) / 2, 1 / 2])
    np.testing.assert_allclose(found.reciprocal_rank.events, [1, 1 / 2])
    np.testing.assert_allclose(found.first_right.events, [1, 0])
    assert found.average_precision.value == pytest.approx((5 / 6 + 1 / 2) / 2)
    low, high = bootstrap(*found.average_precision, n=500) or (0, 0)
    assert (low, high) == (pytest.approx(1 / 2), pytest.approx(5 / 6))  # of two questions, drawn twice


def test_equal_scores_gain_nothing_from_the_order_of_the_file() -> None:
    questions, right = ["q"] * 4, [1, 1, 0, 0]
    found = Ranking.of(questions, right, [0.0] * 4)
    assert found.reciprocal_rank.value == 1 / 3 and found.first_right.value == 0
    assert found.average_precision.value == pytest.approx((1 / 3 + 2 / 4) / 2)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(-3, 3)), min_size=1, max_size=30))
def test_rankings_are_what_scikit_learn_says(rows: list[tuple[str, bool, int]]) -> None:
    from sklearn.metrics import average_precision_score

    questions, right = [q for q, _, _ in rows], [r for _, r, _ in rows]
    distinct = np.array([s for _, _, s in rows]) + np.arange(len(rows)) / 1000  # no equals
    known = {q: [r for p, r, _ in rows if p == q] for q in dict.fromkeys(questions)}
    ranked = [q for q, labels in known.items() if any(labels) and not all(labels)]
    if not ranked:
        with pytest.raises(OvertureError, match="nothing to rank"):
            Ranking.of(questions, right, distinct)
        return
    found = Ranking.of(questions, right, distinct)
    assert found.questions == ranked and set(found.left_out) == known.keys() - set(ranked)
    for question, own in zip(found.questions, found.average_precision.events):
        here = [i for i, q in enumerate(questions) if q == question]
        assert own == pytest.approx(average_precision_score(np.array(right)[here], distinct[here]))
