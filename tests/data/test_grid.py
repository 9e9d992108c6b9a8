"""overture.data.grid: N values by M rows in every update, pure, dealt whole, and what cannot be had is told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overture.config import from_dict, override, to_dict
from overture.data.grid import Grid, Grids
from overture.data.plan import BatchPlan, Position
from overture.data.table import Table
from overture.errors import OvertureError
from overture.recipes import get
from overture.run import Data


def table(speakers: list[str | None]) -> Table:
    count = len(speakers)
    columns = {"id": [f"r{i}" for i in range(count)], "audio": ["x.wav"] * count, "duration": [2.0] * count}
    return Table(pa.table({**columns, "speaker": pa.array(speakers, pa.string())}), name="toy", root=Path())


def voices(*counts: int) -> Table:
    return table([f"s{i}" for i, n in enumerate(counts) for _ in range(n)])


def plan(of: Table, grid: Grid, *, micro: float = 1e9, seconds: float = 1.6, seed: int = 3) -> BatchPlan:
    size = grid.values * grid.rows * seconds
    return BatchPlan(np.full(len(of), seconds), update=size, micro=min(micro, size), grids=Grids(grid, of, seed))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 12), min_size=2, max_size=20), st.integers(2, 6), st.integers(2, 5), st.integers(0, 3))
def test_every_update_of_two_epochs_is_a_grid(counts: list[int], values: int, rows: int, seed: int) -> None:
    of, grid = voices(*counts), Grid(values=values, rows=rows)
    enough = sum(n >= rows for n in counts)
    if enough < values:
        with pytest.raises(
            OvertureError, match=f"{enough} of {len(counts)} values of speaker .* have {rows} rows or more"
        ):
            Grids(grid, of, seed)
        return
    made, speaker = plan(of, grid, seed=seed), of.numpy("speaker")
    for epoch in (0, 1):
        updates = made.updates(epoch)
        assert len(updates) == enough // values
        for update in updates:
            assert len(set(update.tolist())) == values * rows  # no row twice
            lines = speaker[update].reshape(values, rows)
            assert all(len(set(line)) == 1 for line in lines) and len(set(lines[:, 0])) == values
        heard = [s for update in updates for s in speaker[update][::rows]]
        assert len(set(heard)) == len(heard)  # each speaker once an epoch at most
    assert made.grids is not None and made.grids.left_out == sum(n for n in counts if n < rows)


def test_speakers_come_alike_often_and_so_do_their_rows() -> None:
    of, grid = voices(4, 40, 5, 8, 20), Grid(values=2, rows=4)
    made = plan(of, grid)
    counts = np.zeros(len(of))
    for epoch in range(400):
        for update in made.updates(epoch):
            np.add.at(counts, update, 1)
    by_speaker = {s: counts[of.numpy("speaker") == s] for s in ("s0", "s1", "s2", "s3", "s4")}
    for found in by_speaker.values():
        assert abs(found.sum() / counts.sum() - 0.2) < 0.02  # whatever they have
        assert found.min() > 0.4 * found.mean()


def test_a_resumed_run_sees_what_an_uninterrupted_one_sees() -> None:
    of, grid = voices(*[6] * 11), Grid(values=3, rows=2)
    whole, at, seen = plan(of, grid), Position(), []
    for _ in range(10):
        seen.append((at, whole.updates(at.epoch)[at.index]))
        at = at.next(whole)
    assert [p for p, _ in seen[2:4]] == [Position(0, 2), Position(1, 0)]
    at, again = seen[4][0], plan(of, grid)  # another process, from its checkpoint
    for position, rows in seen[4:]:
        assert at == position and np.array_equal(again.updates(at.epoch)[at.index], rows)
        at = at.next(again)
    assert not np.array_equal(seen[0][1], seen[3][1])
    assert not np.array_equal(plan(of, grid, seed=4).updates(0)[0], seen[0][1])


@pytest.mark.parametrize(("world", "fits", "parts"), [(1, 24, 1), (2, 24, 2), (1, 12, 2), (2, 5, 6), (3, 24, 3)])
def test_devices_and_micro_batches_have_whole_speakers(world: int, fits: int, parts: int) -> None:
    of, grid, micro = voices(*[5] * 13), Grid(values=12, rows=2), fits * 1.6
    made, speaker = plan(of, grid, micro=micro), of.numpy("speaker")
    update = made.updates(0)[0]
    dealt = [m for r in range(world) for m in made.micro_batches(update, rank=r, world=world)]
    assert len(dealt) == parts and all(m.real for m in dealt)
    assert sorted(np.concatenate([m.rows for m in dealt])) == sorted(update)
    for share in dealt:
        names, counts = np.unique(speaker[share.rows], return_counts=True)
        assert len(names) == 12 // parts and set(counts) == {2} and len(share.rows) * 1.6 <= micro + 1e-9


def test_the_largest_update_has_the_longest_rows() -> None:
    of = voices(3, 3, 3)
    lengths = np.array([1.0, 1.6, 0.5, 1.0, 1.0, 1.0, 1.5, 1.2, 0.2])
    found = Grids(Grid(values=2, rows=2), of, 0).largest(lengths)
    assert found.tolist() == [1, 0, 6, 7]


def test_what_cannot_be_had_is_told() -> None:
    of = voices(*[4] * 6)
    with pytest.raises(OvertureError, match=r"2 of 26 rows .* have no speaker: .*speaker IS NOT NULL"):
        Grids(Grid(values=2, rows=2), table([*of.numpy("speaker"), None, " "]), 0)
    with pytest.raises(OvertureError, match="no column 'spaeker'"):
        Grids(Grid(column="spaeker", values=2, rows=2), of, 0)
    with pytest.raises(OvertureError, match="two of both at least"):
        Grid(values=8, rows=1)
    grids = Grids(Grid(values=4, rows=4), of, 0)
    with pytest.raises(OvertureError, match=r"16 rows of up to 1.6, which is more than plan.update 20"):
        BatchPlan(np.full(24, 1.6), update=20, micro=20, grids=grids)
    with pytest.raises(OvertureError, match=r"neither data.mix nor data.order"):
        BatchPlan(np.full(24, 1.6), update=30, micro=30, grids=grids, keys=np.zeros(24))
    small = BatchPlan(np.full(24, 1.6), update=30, micro=5 * 1.6, grids=grids)  # two speakers are 8 rows
    with pytest.raises(OvertureError, match=r"micro-batches of 5 rows at most.*raise plan.micro"):
        small.micro_batches(small.updates(0)[0])
    with pytest.raises(OvertureError, match=r"to 3 device\(s\)"):
        BatchPlan(np.full(24, 1.6), update=30, micro=30, grids=grids).micro_batches(np.arange(16), world=3)


def test_a_run_without_a_grid_is_named_as_before_and_one_with_it_survives_json() -> None:
    run = get("tera:tiny")
    gridded = replace(run, data=replace(run.data, grid=Grid(values=8, rows=2)))
    assert "grid" not in to_dict(run, named=True)["data"] and gridded.fingerprint != run.fingerprint
    assert from_dict(gridded, to_dict(gridded)) == gridded
    assert override(gridded, {"data.grid.values": "4"}).data.grid == Grid(values=4, rows=2)
    assert Data().grid is None
