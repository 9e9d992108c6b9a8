"""overture.data.masks: exact counts and fractions, for any utterance."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from overture.data.draws import Draws
from overture.data.masks import PatchClusters, RandomKeep, SpanMask, batch_mask


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def runs(mask: np.ndarray) -> list[int]:
    """Lengths of the stretches of true ones."""
    return [len(r) for r in "".join("x" if m else " " for m in mask).split()]


def test_the_default_span_mask_hides_half_of_a_long_utterance() -> None:
    for steps in (250, 400, 800, 1500):
        shares = [SpanMask().draw(steps, 50.0, rng(seed)).mean() for seed in range(200)]
        assert 0.45 < np.mean(shares) < 0.52 and np.std(shares) < 0.05
    # The same stretch of speech at another frame rate, whose spans begin as often per second.
    slow = [SpanMask(start=0.13).draw(750, 25.0, rng(seed)).mean() for seed in range(100)]
    assert 0.45 < np.mean(slow) < 0.52


@given(
    steps=st.integers(0, 400),
    rate=st.sampled_from([25.0, 50.0, 100.0]),
    start=st.floats(0, 0.3),
    at_least=st.integers(0, 3),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=200, deadline=None)
def test_spans_are_whole_and_stay_in_the_utterance(
    steps: int, rate: float, start: float, at_least: int, seed: int
) -> None:
    width = round(0.2 * rate)
    mask = SpanMask(start=start, at_least=at_least).draw(steps, rate, rng(seed))
    assert mask.shape == (steps,) and mask.dtype == bool
    spans = max(at_least, round(start * steps))
    assert mask.sum() <= spans * width
    if steps > width and spans:
        assert min(runs(mask)) >= width  # overlap makes a stretch longer, nothing makes one shorter
        # Different starts: m spans cover at least width + m - 1 frames, where there is room for m.
        assert mask.sum() >= width + min(spans, steps - width + 1) - 1
    if spans <= 1 and steps > 0:
        assert not mask.all()  # something is left to see


def test_short_utterances() -> None:
    assert not SpanMask().draw(1, 50.0, rng()).any()  # nothing would be left to see
    for steps in range(2, 11):
        assert SpanMask().draw(steps, 50.0, rng(steps)).sum() == min(10, steps - 1)
    assert SpanMask(at_least=0).draw(5, 50.0, rng()).sum() == 0
    assert SpanMask(at_least=2).draw(15, 50.0, rng()).sum() >= 11


def test_starts_are_uniform_or_follow_the_weights() -> None:
    policy = SpanMask(start=0.02, seconds=0.02)  # one frame, one span
    seen = sum(policy.draw(50, 50.0, rng(seed)).astype(int) for seed in range(5000))
    assert seen.sum() == 5000 and np.abs(seen - 100).max() < 50
    weights = np.zeros(50)
    weights[[3, 20, 40]] = (1.0, 2.0, 5.0)
    seen = sum(policy.draw(50, 50.0, rng(seed), weights).astype(int) for seed in range(4000))
    assert seen.sum() == 4000 and set(np.flatnonzero(seen)) == {3, 20, 40}
    assert seen[[3, 20, 40]] / 4000 == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=0.03)
    # More spans than frames with weight: each of those, once.
    assert set(np.flatnonzero(SpanMask(start=0.2, seconds=0.02).draw(50, 50.0, rng(), weights))) == {3, 20, 40}


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.ones(49), "50 finite"),
        (np.full(50, np.nan), "finite"),
        (-np.ones(50), "from 0 on"),
        (np.zeros(50), "no frame"),
    ],
)
def test_weights_that_say_nothing_are_refused(weights: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SpanMask().draw(50, 50.0, rng(), weights)


@given(
    grid=st.tuples(st.integers(1, 9), st.integers(1, 40)),
    share=st.floats(0, 1),
    sizes=st.sampled_from([(1,), (2,), (3, 4, 5), (7,)]),
    faithful=st.booleans(),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=200, deadline=None)
def test_clusters_hide_exactly_so_many_patches(
    grid: tuple[int, int], share: float, sizes: tuple[int, ...], faithful: bool, seed: int
) -> None:
    mask = PatchClusters(share=share, sizes=sizes, faithful=faithful).draw(grid, rng(seed))
    assert mask.shape == grid and mask.sum() == round(share * grid[0] * grid[1])


def test_the_published_size_hides_400_of_512() -> None:
    for seed in range(50):
        assert PatchClusters().draw((8, 64), rng(seed)).sum() == 400
        assert PatchClusters(sizes=(1,)).draw((1, 512), rng(seed)).sum() == 400


def test_rows_and_columns_are_hidden_equally_often() -> None:
    draws = 1500
    for share in (100 / 512, 400 / 512):
        total = sum(PatchClusters(share=share).draw((8, 64), rng(s)).astype(float) for s in range(draws)) / draws
        assert total.mean(axis=1) == pytest.approx(share, abs=0.015)  # rows of frequency
        assert total.mean(axis=0) == pytest.approx(share, abs=0.03)
        error = np.sqrt(share * (1 - share) / draws)
        assert np.abs(total - share).max() < 5 * error  # every single patch


def test_faithful_clusters_have_the_bias_of_the_published_code() -> None:
    draws = 600
    masks = [PatchClusters(faithful=True).draw((8, 64), rng(s)) for s in range(draws)]
    rates = (sum(m.astype(float) for m in masks) / draws).mean(axis=1)
    assert rates == pytest.approx([0.42, 0.67, 0.81, 0.87, 0.89, 0.89, 0.89, 0.82], abs=0.015)  # measured of that code
    assert not any(m[0, 0] or m[7, 63] for m in masks)


def test_clusters_are_clusters() -> None:
    """At a small share nearly every hidden patch has a hidden neighbour, which single patches have not."""

    def lonely(policy: PatchClusters) -> float:
        found = []
        for seed in range(50):
            mask = policy.draw((8, 64), rng(seed))
            near = sum(np.roll(mask, shift, axis) for axis in (0, 1) for shift in (-1, 1))
            found.append((mask & (near == 0)).sum() / mask.sum())
        return float(np.mean(found))

    assert lonely(PatchClusters(share=50 / 512)) < 0.03 < 0.5 < lonely(PatchClusters(share=50 / 512, sizes=(1,)))


def test_the_size_of_clusters_is_drawn_once_a_clip() -> None:
    """Nine patches are a whole block of 3 x 3 in a third of the clips; larger blocks are cut at random and reach further."""
    masks = [PatchClusters(share=9 / 4096).draw((64, 64), rng(seed)) for seed in range(600)]
    whole = [m for m in masks if m.any(axis=0).sum() == m.any(axis=1).sum() == 3]
    assert 165 < len(whole) < 240


@given(steps=st.integers(1, 300), share=st.floats(0, 1), seed=st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_random_keep_is_exact(steps: int, share: float, seed: int) -> None:
    kept = RandomKeep(share=share).draw(steps, rng(seed))
    assert kept.dtype == np.int64 and len(kept) == max(1, round(share * steps))
    assert (np.diff(kept) > 0).all() and kept[0] >= 0 and kept[-1] < steps


def test_random_keep_is_uniform_and_wants_frames() -> None:
    seen = np.zeros(40)
    for seed in range(2000):
        seen[RandomKeep(share=0.25).draw(40, rng(seed))] += 1
    assert seen / 2000 == pytest.approx(0.25, abs=0.045)
    with pytest.raises(ValueError, match="without frames"):
        RandomKeep().draw(0, rng())


def test_an_utterance_has_its_mask_in_any_batch_and_none_on_padding() -> None:
    rows, steps = torch.tensor([7, 3, 11]), torch.tensor([120, 40, 300])
    together = batch_mask(SpanMask(), rows, steps, 300, 50.0, Draws(0, 5))
    assert together.shape == (3, 300) and together.dtype == torch.bool
    for i in range(3):
        alone = batch_mask(SpanMask(), rows[i : i + 1], steps[i : i + 1], int(steps[i]), 50.0, Draws(0, 5))
        assert torch.equal(together[i, : steps[i]], alone[0]) and not together[i, steps[i] :].any()
    assert not torch.equal(together, batch_mask(SpanMask(), rows, steps, 300, 50.0, Draws(0, 6)))
    assert not torch.equal(together, batch_mask(SpanMask(), rows, steps, 300, 50.0, Draws(0, 5), purpose=4))
