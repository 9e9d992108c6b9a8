"""Planted signals for the probes: only one state carries what is to be found."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from overture.data.table import Table

SPOKEN = {"train": np.arange(40), "dev": np.arange(40, 48), "test": np.arange(48, 60)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def table(n: int, **columns: list[str | None]) -> Table:
    base = {"id": [f"u{i}" for i in range(n)], "audio": ["x.wav"] * n, "duration": [1.0] * n}
    return Table(pa.table(base | columns), name="toy", root=Path())
