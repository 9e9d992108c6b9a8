"""Trackers: what was logged is there after kills and resumes, and copies elsewhere are whole."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overture.errors import MissingExtra, OvertureError
from overture.train.track import JsonlTracker, TensorBoardTracker, TrackioTracker, read_metrics


def update(n: int, **more: Any) -> dict[str, Any]:
    return {"kind": "update", "update": n, "updates": 100, "loss": 1 / n, "watch": {"variance": 0.4}} | more


def logged(folder: Path, last: int, *, resumed_at: int = 0) -> None:
    tracker = JsonlTracker(folder, resumed_at=resumed_at)
    for n in range(resumed_at + 1, last + 1):
        tracker.log(update(n))
    tracker.close()


def updates(folder: Path) -> list[int]:
    return [r["update"] for r in read_metrics(folder)]


def test_records_come_back_as_they_went(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path)
    tracker.log(update(1, device="cpu", path="a\nb"))
    tracker.log({"kind": "health", "update": 1, "rule": "vanished variance", "message": "„zu klein“", "stopped": False})
    assert len(read_metrics(tmp_path)) == 2, "each record is on disk as soon as it is logged"
    tracker.close()
    first, second = read_metrics(tmp_path)
    assert first == update(1, device="cpu", path="a\nb")
    assert second["message"] == "„zu klein“"


def test_numbers_of_numpy_and_torch_become_plain_ones(tmp_path: Path) -> None:
    import torch

    tracker = JsonlTracker(tmp_path)
    tracker.log(update(1, loss=torch.tensor(0.5), watch={"rank": np.float32(2.0), "codes": np.int64(7)}))
    tracker.close()
    assert read_metrics(tmp_path)[0] == update(1, loss=0.5, watch={"rank": 2.0, "codes": 7})


def test_what_is_not_finite_survives_and_the_file_stays_strict_json(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path)
    tracker.log(update(1, loss=math.nan, watch={"spike": math.inf, "dip": -math.inf}))
    tracker.close()

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    record = read_metrics(tmp_path)[0]
    assert math.isnan(record["loss"]) and record["watch"] == {"spike": math.inf, "dip": -math.inf}


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_line_cut_by_a_kill_is_left_out_and_written_over(tmp_path: Path, cut: int) -> None:
    logged(tmp_path, 4)
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: -1 - cut])
    assert updates(tmp_path) == [1, 2, 3]
    logged(tmp_path, 5, resumed_at=3)
    assert updates(tmp_path) == [1, 2, 3, 4, 5]
    assert path.read_bytes().startswith(whole)


def test_a_last_line_that_only_lacks_its_newline_is_kept(tmp_path: Path) -> None:
    logged(tmp_path, 3)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert updates(tmp_path) == [1, 2, 3]
    logged(tmp_path, 4, resumed_at=3)
    assert updates(tmp_path) == [1, 2, 3, 4]


def test_a_power_cut_that_leaves_zero_bytes_costs_only_the_last_line(tmp_path: Path) -> None:
    logged(tmp_path, 3)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b"\0" * 40)
    assert updates(tmp_path) == [1, 2, 3]


def test_resumed_twice_the_curve_does_not_double_back(tmp_path: Path) -> None:
    logged(tmp_path, 9)
    logged(tmp_path, 8, resumed_at=5)
    logged(tmp_path, 12, resumed_at=6)
    assert updates(tmp_path) == list(range(1, 13))


def test_a_run_from_the_start_begins_a_new_curve(tmp_path: Path) -> None:
    logged(tmp_path, 9)
    logged(tmp_path, 2)
    assert updates(tmp_path) == [1, 2]


def test_no_metrics_yet_is_no_error(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
    (tmp_path / "metrics.jsonl").touch()
    assert read_metrics(tmp_path) == []


@pytest.mark.parametrize("damage", [b"{]", b"\xff\xfe", b"17"])
def test_damage_in_the_middle_is_named_with_its_line(tmp_path: Path, damage: bytes) -> None:
    logged(tmp_path, 3)
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], damage, lines[2]]) + b"\n")
    with pytest.raises(OvertureError, match=r"metrics\.jsonl, line 2 is damaged"):
        read_metrics(tmp_path)


def events(folder: Path) -> Any:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return found


def test_tensorboard_reads_back_what_was_logged_also_after_a_resume(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    first, board = JsonlTracker(tmp_path), TensorBoardTracker(tmp_path)
    for n in range(1, 10):
        first.log(update(n))
        board.log(update(n))
    board.close()
    first.close()

    again, board = JsonlTracker(tmp_path, resumed_at=6), TensorBoardTracker(tmp_path)
    for record in (update(7), {"kind": "health", "update": 7, "rule": "not finite", "message": "NaN", "stopped": True}):
        again.log(record)
        board.log(record)
    board.log({"kind": "checkpoint", "update": 7, "seconds": 1.0, "path": "7"})
    board.close()
    again.close()

    found = events(tmp_path)
    losses = found.Scalars("train/loss")
    assert [e.step for e in losses] == [1, 2, 3, 4, 5, 6, 7]
    assert [e.value for e in losses] == pytest.approx([1 / n for n in range(1, 8)])
    assert [e.value for e in found.Scalars("watch/variance")] == pytest.approx([0.4] * 7)
    assert b"not finite" in found.Tensors("health/text_summary")[0].tensor_proto.string_val[0]


def test_tensorboard_takes_nan(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    board = TensorBoardTracker(tmp_path)
    board.log(update(1, loss=math.nan))
    board.close()
    assert math.isnan(events(tmp_path).Scalars("train/loss")[0].value)


TRACKIO = """
import socket, sys
from pathlib import Path

tried = []
def refuse(*args, **kwargs):
    tried.append(args)
    raise OSError("no network in this test")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse

from overture.train.track import JsonlTracker, TrackioTracker

folder = Path(sys.argv[1])
for resumed_at, last in ((0, 9), (6, 7)):
    jsonl, tracker = JsonlTracker(folder, resumed_at=resumed_at), TrackioTracker(folder)
    for n in range(resumed_at + 1, last + 1):
        record = {"kind": "update", "update": n, "updates": 9, "loss": 1 / n, "watch": {"variance": 0.4}}
        jsonl.log(record), tracker.log(record)
    tracker.log({"kind": "health", "update": last, "rule": "not finite", "message": "NaN", "stopped": True})
    tracker.close(), jsonl.close()
print("tried", len(tried))
"""


def test_trackio_keeps_one_whole_run_locally_and_never_reaches_for_the_network(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    folder, store = tmp_path / "tera-3f2a9c", tmp_path / "store"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"config": {"optim": {"lr": 0.001}}}))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("TRACKIO_", "HF_"))}
    # A token makes Trackio ask the hub for the account's name; a made-up one must not be sent anywhere.
    env |= {"TRACKIO_DIR": str(store), "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "hf_" + "a" * 34}
    done = subprocess.run(
        [sys.executable, "-c", TRACKIO, str(folder)], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "tried 0\n", "no connection, and no greeting in the middle of the progress display"

    import sqlite3

    databases = list(store.glob("*.db"))
    assert len(databases) == 1
    with sqlite3.connect(databases[0]) as db:
        rows = db.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step, id").fetchall()
        configs = [json.loads(text) for (text,) in db.execute("SELECT config FROM configs")]
    assert {name for name, _, _ in rows} == {"tera-3f2a9c"}
    records = [(step, json.loads(text)) for _, step, text in rows]
    losses = [(step, record["train/loss"]) for step, record in records if "train/loss" in record]
    assert losses == [(n, pytest.approx(1 / n)) for n in range(1, 8)]
    assert records[-1][1]["health"] == "not finite: NaN"
    assert [c["optim"] for c in configs] == [{"lr": 0.001}]


@pytest.mark.parametrize("variable", ["TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"])
def test_trackio_told_to_send_metrics_away_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    pytest.importorskip("trackio")
    monkeypatch.setenv(variable, "https://example.org")
    with pytest.raises(OvertureError, match=f"Unset {variable}"):
        TrackioTracker(tmp_path)


@pytest.mark.parametrize(
    ("tracker", "module", "extra"),
    [(TensorBoardTracker, "torch.utils.tensorboard", "tensorboard"), (TrackioTracker, "trackio", "trackio")],
)
def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: Any, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"overture\[{extra}\]"):
        tracker(tmp_path)
