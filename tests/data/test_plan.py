"""overture.data.plan: every row once, bounds kept, ranks equal, little padding, pure."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overture.data.plan import BatchPlan, Position
from overture.errors import OvertureError

LENGTHS = st.lists(st.floats(0.1, 20.0), min_size=1, max_size=200).map(np.array)


@settings(deadline=None, max_examples=60)
@given(LENGTHS, st.integers(0, 5), st.integers(1, 4), st.floats(20.0, 100.0), st.floats(20.0, 60.0))
def test_every_row_once_and_bounds_kept(
    lengths: np.ndarray, epoch: int, world: int, update: float, micro: float
) -> None:
    plan = BatchPlan(lengths, update=update, micro=micro, longest_squared=500.0, seed=3)
    updates = plan.updates(epoch)
    assert sorted(np.concatenate(updates)) == list(range(len(lengths)))
    for rows in updates:
        assert len(rows) * lengths[rows].max() <= update + 1e-9
        shares = [plan.micro_batches(rows, rank=r, world=world) for r in range(world)]
        assert len({len(s) for s in shares}) == 1  # every rank has as many micro-batches as every other
        real = [m for s in shares for m in s if m.real]
        assert sorted(np.concatenate([m.rows for m in real])) == sorted(rows)
        for m in real:
            assert len(m.rows) * lengths[m.rows].max() <= micro + 1e-9
            assert len(m.rows) * lengths[m.rows].max() ** 2 <= 500.0 + 1e-6


def test_the_plan_is_pure_and_epochs_differ() -> None:
    lengths = np.random.default_rng(0).gamma(4, 2, 500)
    a, b = (BatchPlan(lengths, update=200, micro=100, seed=1) for _ in range(2))
    assert all(np.array_equal(x, y) for x, y in zip(a.updates(7), b.updates(7), strict=True))
    assert any(not np.array_equal(x, y) for x, y in zip(a.updates(0), a.updates(1)))
    other = BatchPlan(lengths, update=200, micro=100, seed=2)
    assert any(not np.array_equal(x, y) for x, y in zip(a.updates(0), other.updates(0)))
    # What a rank computes is dealt out of the same update, whatever the number of ranks.
    rows = a.updates(0)[3]
    for world in (1, 2, 3):
        dealt = [m.rows for r in range(world) for m in a.micro_batches(rows, rank=r, world=world) if m.real]
        assert sorted(np.concatenate(dealt)) == sorted(rows)


@pytest.mark.parametrize("shape", ["librispeech", "long tail"])
def test_padding_is_under_five_percent(shape: str) -> None:
    rng = np.random.default_rng(0)
    lengths = (
        rng.normal(12.3, 3.8, 20_000).clip(1.5, 35)
        if shape == "librispeech"
        else rng.lognormal(1.0, 0.9, 20_000).clip(0.3, 35)
    )
    assert BatchPlan(lengths, update=400, micro=400).padding() < 0.05


def test_positions_walk_through_epochs() -> None:
    plan = BatchPlan(np.full(10, 5.0), update=20, micro=20)
    at, seen = Position(), []
    for _ in range(7):
        seen.append((at.epoch, at.index))
        at = at.next(plan)
    assert seen == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]


def test_impossible_plans_say_what_to_change() -> None:
    with pytest.raises(OvertureError, match="no utterance is left"):
        BatchPlan(np.array([]), update=1, micro=1)
    with pytest.raises(OvertureError, match=r"data\.max_seconds"):
        BatchPlan(np.array([30.0]), update=20, micro=20)
    with pytest.raises(OvertureError, match="longest_squared"):
        BatchPlan(np.array([30.0]), update=100, micro=100, longest_squared=500)
    assert len(BatchPlan(np.array([30.0]), update=20, micro=20, longest=15).updates(0)) == 1  # cropped, so it fits


def test_what_is_drawn_is_dealt_out_and_the_bounds_are_kept() -> None:
    lengths = np.random.default_rng(0).uniform(1, 10, 60)
    drawn = {0: np.array([3, 3, 3, 59, 0]), 1: np.arange(40)}
    plan = BatchPlan(lengths, update=30, micro=15, seed=1, draw=lambda epoch: drawn[epoch])
    for epoch, rows in drawn.items():
        updates = plan.updates(epoch)
        assert sorted(np.concatenate(updates)) == sorted(rows)
        assert all(len(u) * lengths[u].max() <= 30 for u in updates)
    assert Position(0, len(plan.updates(0)) - 1).next(plan) == Position(1, 0)
    whole = BatchPlan(lengths, update=30, micro=15, seed=1)
    assert np.array_equal(plan.largest(), whole.largest())  # whatever epoch 0 has drawn
    used = sum(lengths[u].sum() for u in plan.updates(0))
    padded = sum(len(u) * lengths[u].max() for u in plan.updates(0))
    assert plan.padding() == pytest.approx(1 - used / padded)
