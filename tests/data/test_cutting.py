"""overture.data.cutting: which stretches become one utterance, where a long one is cut, and that nothing is lost between."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overture.data.cutting import Lengths, Power, pieces, words_within
from overture.errors import OvertureError

HOW = Lengths(wished=10, longest=12, shortest=1, pause=0.5)
EVEN = np.ones(6_000)  # 120 s without a quiet place


@pytest.mark.parametrize(
    "stretches, kept, short",
    [
        ([], [], []),
        ([(0, 3_000), (3_500, 6_000)], [(0, 6_000)], []),  # a pause of .5 s
        ([(0, 3_000), (3_501, 6_000)], [(0, 3_000), (3_501, 6_000)], []),
        ([(0, 6_000), (6_200, 10_000), (10_100, 12_500)], [(0, 10_000), (10_100, 12_500)], []),  # up to 10 s
        ([(0, 6_000), (6_200, 10_001)], [(0, 6_000), (6_200, 10_001)], []),
        ([(0, 9_800), (10_000, 10_900)], [(0, 10_900)], []),  # .9 s would be left out: up to 12 s
        ([(0, 900), (1_000, 11_500)], [(0, 11_500)], []),
        ([(0, 900), (1_000, 12_900)], [(1_000, 12_900)], [(0, 900)]),  # 12.9 s would be too long
        ([(0, 999), (2_000, 3_000)], [(2_000, 3_000)], [(0, 999)]),
        ([(0, 12_000)], [(0, 12_000)], []),  # over the wished length, not over the longest
    ],
)
def test_stretches_are_joined(
    stretches: list[tuple[int, int]], kept: list[tuple[int, int]], short: list[tuple[int, int]]
) -> None:
    found = pieces(stretches, EVEN, HOW)
    assert (found.kept, found.short, found.hard) == (kept, short, [])


def test_without_a_pause_it_is_cut_at_the_quietest_place_and_that_is_said() -> None:
    power = EVEN.copy()
    power[4] = power[640] = 0.0  # at 80 ms, out of reach of a cut, and at 12.8 s, also
    power[350], power[400] = 1e-4, 1e-3  # 7 s, 8 s
    found = pieces([(0, 13_000)], power, HOW)
    assert found.kept == [(0, 7_010), (7_010, 13_000)] and found.hard == [7_010]
    # alike everywhere: at the wished length
    found = pieces([(1_000, 31_000)], EVEN, HOW)
    assert found.kept == [(1_000, 10_990), (10_990, 20_990), (20_990, 31_000)] and found.hard == [10_990, 20_990]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(40, 1_500), st.integers(250, 40_000)), max_size=20),
    st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20)),
    st.integers(0, 99),
)
def test_nothing_is_lost_and_the_promises_hold(
    gaps: list[tuple[int, int]], sizes: tuple[int, int, int, int], seed: int
) -> None:
    shortest = sizes[0] / 10
    wished = 2 * shortest + sizes[1] / 5
    how = Lengths(shortest=shortest, wished=wished, longest=wished + sizes[2] / 5, pause=min(sizes[3] / 10, wished))
    edges = np.cumsum([ms for pair in gaps for ms in pair]).tolist()
    stretches = list(zip(edges[::2], edges[1::2], strict=True))
    power = np.random.default_rng(seed).random((edges[-1] if edges else 0) // 20 + 1)
    found = pieces(stretches, power, how)
    assert all(1000 * shortest <= b - a <= round(1000 * how.longest) for a, b in found.kept)
    assert all(b - a < 1000 * shortest for a, b in found.short)
    spans = sorted(found.kept + found.short)
    assert all(b <= c for (_, b), (c, _) in pairwise(spans))
    covered = np.zeros((edges[-1] if edges else 0) + 1, dtype=int)
    for a, b in spans:
        covered[a:b] += 1
    for a, b in stretches:
        assert (covered[a:b] == 1).all()  # all speech is in one piece
        covered[a:b] = 0
    pauses = np.flatnonzero(np.diff(covered, prepend=0, append=0)).reshape(-1, 2)  # what else is in pieces
    assert all(b - a <= 1000 * how.pause for a, b in pauses)
    inside = {ms for a, b in stretches for ms in range(a + 1, b)}
    assert set(found.hard) == {b for _, b in spans if b in inside}


@pytest.mark.parametrize(
    "lengths, words",
    [
        ({"shortest": 0.05}, "0.1 s at least"),
        ({"shortest": 11.0}, "half the wished length"),
        ({"longest": 19.0}, "no less than the wished"),
        ({"longest": float("nan")}, "no less"),
        ({"longest": float("inf")}, "no less"),
        ({"pause": -1.0}, "pause -1 s"),
        ({"pause": 26.0}, "pause 26 s"),
    ],
)
def test_lengths_that_leave_no_room_are_refused(lengths: dict[str, float], words: str) -> None:
    with pytest.raises(OvertureError, match=words):
        Lengths(**lengths)


def test_power_is_of_the_whole_whatever_the_parts() -> None:
    wave = np.random.default_rng(0).normal(size=16_000 + 100).astype(np.float32)
    power = Power(16_000)
    for part in np.split(wave, [1, 319, 320, 5_000]):
        power.hear(part)
    expected = [np.mean(wave[i : i + 320].astype(np.float64) ** 2) for i in range(0, len(wave), 320)]
    assert len(expected) == 51 and power.samples == 16_100
    np.testing.assert_allclose(power.all(), expected, rtol=1e-6)
    assert len(Power(16_000).all()) == 0


def test_a_word_is_in_the_piece_that_has_its_middle() -> None:
    words = [{"text": t, "start": s, "end": e} for t, s, e in (("a", 0.5, 0.9), ("b", 0.9, 1.3), ("c", 1.9, 2.5))]
    assert words_within(words, (1_000, 2_000)) == [{"text": "b", "start": 0.0, "end": 0.3}]
    assert words_within(words, (2_000, 3_000)) == [{"text": "c", "start": 0.0, "end": 0.5}]
