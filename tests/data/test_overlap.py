"""overture.data.overlap: rows that share seconds of a file, and that split.same_recordings knows of them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from overture.data.overlap import overlapping
from overture.data.split import same_recordings
from overture.data.table import Table

ROWS = st.lists(
    st.tuples(st.sampled_from(["a.wav", "b.wav"]), st.integers(0, 40), st.integers(1, 20)), min_size=1, max_size=12
)


def table(rows: list[tuple[str, float, float]], root: Path = Path("in"), name: str = "made") -> Table:
    audio, start, duration = (list(column) for column in zip(*rows, strict=True))
    ids = [f"{name}-{i}" for i in range(len(rows))]
    columns = {"id": ids, "audio": audio, "start": start, "duration": duration, "sha1": ids}
    return Table(pa.table(columns), name=name, root=root)


@settings(deadline=None)
@given(ROWS, st.lists(ROWS, max_size=2))
def test_as_by_comparing_all_pairs(mine: list[tuple[str, int, int]], others: list[list[tuple[str, int, int]]]) -> None:
    found = overlapping(table(mine), [table(rows) for rows in others])
    pairs = [[f == g and s < t + e and t < s + d for rows in others for g, t, e in rows] for f, s, d in mine]
    assert found.tolist() == [any(row) for row in pairs]


def test_a_piece_is_of_its_whole_and_neighbours_are_apart() -> None:
    whole = table([("day/a.wav", 0.0, 60.0), ("day/b.wav", 0.0, 60.0)])
    cut = table([("a.wav", 10.0, 5.0), ("a.wav", 15.0, 5.0)], Path("in/day"), "cut")
    assert same_recordings(whole, [cut]).tolist() == [True, False]
    assert same_recordings(cut, [whole]).tolist() == [True, True]
    assert same_recordings(cut.take(np.array([0])), [cut.take(np.array([1]))]).tolist() == [False]
    without = Table(whole.columns.drop_columns(["start"]), name="old", root=whole.root)
    assert same_recordings(cut, [without]).all()
