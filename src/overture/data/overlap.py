"""Which rows point into the same seconds of the same file: a long recording and what was cut out of it, or two ways of cutting it."""

import os
from collections.abc import Sequence

import numpy as np

from overture.data.table import Table

TOLERANCE = 0.01  # s that rows beside each other may share, by rounding


def overlapping(table: Table, others: Sequence[Table]) -> np.ndarray:
    """(N,) bool: the rows of `table`, of recordings, that share more than 10 ms of a file with a row of `others`."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for other in others:
        for file, start, end in _spans(other):
            spans.setdefault(file, []).append((start, end))
    # Of those that begin before a row ends, one shares with it if the last of their ends comes after the row's start.
    sorted_ = {file: np.array(sorted(of)) for file, of in spans.items()}  # (S, 2)
    last = {file: np.maximum.accumulate(of[:, 1]) for file, of in sorted_.items()}
    found = np.zeros(len(table), dtype=bool)
    for i, (file, start, end) in enumerate(_spans(table)):
        if file in sorted_:
            before = int(np.searchsorted(sorted_[file][:, 0], end - TOLERANCE))
            found[i] = before > 0 and last[file][before - 1] > start + TOLERANCE
    return found


def _spans(table: Table) -> list[tuple[str, float, float]]:
    root = str(table.root.resolve())
    files = [os.path.normpath(os.path.join(root, name)) for name in table.columns.column("audio").to_pylist()]  # noqa: PTH118
    has_start = "start" in table.columns.column_names
    starts = np.nan_to_num(table.numpy("start").astype(float)) if has_start else np.zeros(len(table))
    return list(zip(files, starts.tolist(), (starts + table.numpy("duration")).tolist(), strict=True))
