"""overture.data.source and draws: cached equals live, crops are drawn by row, order is kept, errors name the row."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from overture.data.draws import Draws
from overture.data.features import LogMel
from overture.data.source import Cached, Live, collate, in_order
from overture.data.table import Table
from overture.errors import OvertureError


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.open("embedded", "duration between 0.5 and 4").take(np.arange(12))


def test_cached_features_are_the_live_ones_in_half_precision(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path))
    told: list[float] = []
    cached, live = Cached.open(table, LogMel(), told.append), Live(table, LogMel())
    for i in range(len(table)):
        np.testing.assert_allclose(cached[i], live[i], rtol=1e-3, atol=1e-3)  # half precision
    assert told and isinstance(cached.frames, np.memmap)
    again = Cached.open(table, LogMel(), lambda _: pytest.fail("computed twice"))
    assert again.folder == cached.folder
    assert Cached.open(table, LogMel(mels=40)).folder != cached.folder
    assert [p.name for p in (tmp_path / "features").glob("*.part*")] == []


def test_a_batch_is_padded_with_zeros_and_cropped_by_row(table: Table) -> None:
    live = Live(table, LogMel())
    indices = np.array([3, 0, 7])
    batch = collate(live, table.rows, indices, longest=10**6, draws=None)
    assert batch.rows.tolist() == table.rows[indices].tolist()
    for i, n in enumerate(batch.lengths.tolist()):
        assert n == len(live[int(indices[i])]) and not batch.x[i, n:].any() and batch.valid[i].sum() == n
    crops = [collate(live, table.rows, indices, longest=30, draws=Draws(0, u)).x for u in (1, 1, 2)]
    assert crops[0].equal(crops[1]) and not crops[0].equal(crops[2])
    alone = collate(live, table.rows, indices[1:2], longest=30, draws=Draws(0, 1)).x
    assert alone[0].equal(crops[0][1])  # a crop does not depend on what else is in the batch


def test_draws_are_independent_by_seed_update_row_and_purpose() -> None:
    keys = [(s, u, r, p) for s in (0, 1) for u in (0, 1) for r in (0, 1, 2**40) for p in (0, 1)]
    first = {Draws(s, u).example(r, p).random() for s, u, r, p in keys}
    assert len(first) == len(keys)
    assert Draws(3, 4).example(5).random() == Draws(3, 4).example(5).random()


def test_threads_keep_the_order_and_stop_when_asked() -> None:
    assert list(in_order(lambda i: (time.sleep(0.01 * (i % 3)), i)[1], range(20), ahead=5)) == list(range(20))
    before = threading.active_count()
    stream = in_order(lambda i: i, iter(int, 1), ahead=3)  # endless
    assert next(stream) == 0
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_a_recording_that_went_away_is_named(table: Table, tmp_path: Path) -> None:
    broken = Table(table.columns, name="broken", root=tmp_path)
    with pytest.raises(OvertureError, match=str(table.numpy("id")[0])):
        Live(broken, LogMel())[0]
    with pytest.raises(OvertureError, match=r"row .* cannot be read"):
        Cached.open(broken, LogMel(mels=41))
