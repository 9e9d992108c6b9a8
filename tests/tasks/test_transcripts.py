"""overture.tasks.transcripts: each way in which a row can be bad is planted, and told with its row, file, field and way out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf

from overture.data.features import LogMel
from overture.data.table import Table
from overture.errors import OvertureError
from overture.recognise.units import Characters
from overture.tasks.transcripts import OUT, TOLD, Looked, look

RATE = 16_000
UNITS = Characters(" abcdehlo")
GOOD = {"text": "hello a bad cab", "seconds": 1.0, "loud": 0.1, "rate": RATE, "header": RATE, "level": -20.0}
BAD: dict[str, dict[str, Any]] = {  # kind -> what is planted
    "empty transcript": {"text": " ... "},
    "too many units": {"text": "hello " * 20},
    "too long": {"seconds": 3.0},
    "too short": {"seconds": 0.03},
    "silent": {"level": -90.0},
    "wrong rate": {"header": 8_000},
    "unknown characters": {"text": "hello жa"},
    "digits": {"text": "hello 3 cab"},
    "narrow band": {"rate": 8_000, "header": 8_000},
}
FIELD = {
    "too long": "duration", "too short": "duration", "silent": "audio", "wrong rate": "rate", "narrow band": "rate"
}  # fmt: skip


@pytest.fixture
def looked(tmp_path: Path) -> Callable[..., Looked]:
    """Look at rows that differ from a good one in what is given; those `held` are held back."""

    def go(
        rows: list[dict[str, Any]], drop: tuple[str, ...] = (), held: tuple[dict[str, Any], ...] = ({}, {})
    ) -> Looked:
        columns: dict[str, list[Any]] = {k: [] for k in ("id", "audio", "duration", "rate", "text", "level")}
        for i, row in enumerate(GOOD | r for r in [*rows, *held]):
            wave = row["loud"] * np.sin(np.arange(int(row["seconds"] * row["header"])) / 9)
            sf.write(tmp_path / f"{i}.wav", wave, row["header"])
            for name, value in {**row, "id": f"u{i}", "audio": f"{i}.wav", "duration": row["seconds"]}.items():
                if name in columns:
                    columns[name].append(value)
        kept = pa.table({k: v for k, v in columns.items() if k not in drop})
        table = Table(kept, name="planted", root=tmp_path, rows=np.arange(len(kept)) + 100)
        every = np.arange(len(table))
        return look(
            table,
            train=every[:-2],
            held=every[-2:],
            target="text",
            units=UNITS,
            frontend=LogMel(),
            frames=lambda chosen: (table.numpy("duration")[chosen] * 50 - 2).astype(np.int64).clip(0),
            longest=2.0,
        )

    return go


def test_good_rows_are_left_alone(looked: Callable[..., Looked]) -> None:
    found = looked([{}, {}])
    assert found.usable.tolist() == [0, 1] and found.problems == found.infeasible == found.lines() == []


@pytest.mark.parametrize("kind", BAD)
def test_a_planted_row_is_told_and_only_it(looked: Callable[..., Looked], kind: str) -> None:
    found = looked([{}, BAD[kind], {}])
    (problem,) = [p for p in found.problems if p.kind == kind]
    assert problem.row == 102 and problem.file.endswith("1.wav") and problem.field == FIELD.get(kind, "text")
    assert problem.what.startswith("'u1': ") and (problem.way_out or "Correct the transcript" in problem.what)
    assert {p.row for p in found.problems} == {102}
    assert found.usable.tolist() == ([0, 2] if kind in OUT else [0, 1, 2])
    line = next(line for line in found.lines() if line.startswith(f"1 x {kind} ("))
    assert (OUT | TOLD)[kind] in line and f"row 102, {problem.file}, {problem.field}: 'u1'" in line
    assert [r.id for r in found.infeasible] == (["u1"] if kind == "too many units" else [])


def test_all_of_a_kind_are_counted(looked: Callable[..., Looked]) -> None:
    found = looked([BAD["silent"], BAD["digits"], BAD["silent"], {}])
    assert found.usable.tolist() == [1, 3]
    assert [line.split(" (")[0] for line in found.lines()] == ["2 x silent", "1 x digits"]
    assert [line.split(" (")[0] for line in found.lines(OUT)] == ["2 x silent"]


def test_no_held_row_is_left_out_and_what_is_wrong_is_told(looked: Callable[..., Looked]) -> None:
    found = looked([{}], held=({"text": "ж"}, {"level": -90.0}))
    assert found.usable.tolist() == [0]
    assert [(p.kind, p.row) for p in found.problems] == [("unknown characters", 102), ("silent", 103)]
    assert "'u1', held out: the transcript has 'ж' (CYRILLIC SMALL LETTER ZHE)" in found.problems[0].what


def test_levels_are_measured_where_a_table_has_none(looked: Callable[..., Looked]) -> None:
    found = looked([{}, {"loud": 1e-5}, {"loud": 0.0}], drop=("level", "rate"))
    assert found.usable.tolist() == [0] and [p.kind for p in found.problems] == ["silent", "silent"]


def test_a_recording_that_is_gone_is_an_error(tmp_path: Path, looked: Callable[..., Looked]) -> None:
    looked([{}])
    table = Table(
        pa.table({"id": ["u"], "audio": ["9.wav"], "duration": [1.0], "text": ["a"]}), name="t", root=tmp_path
    )
    with pytest.raises(OvertureError, match=r"9\.wav: cannot be read as audio"):
        look(
            table,
            train=np.arange(1),
            held=np.arange(0),
            target="text",
            units=UNITS,
            frontend=LogMel(),
            frames=lambda rows: np.full(len(rows), 99),
            longest=2.0,
        )
