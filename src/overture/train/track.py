"""Trackers: where the numbers of a training run go. `metrics.jsonl` always; TensorBoard and Trackio where wanted.

`metrics.jsonl` in the run folder is the truth. It is appended line by line, survives a kill in the middle of a line, and a resumed run first
drops what lies after its checkpoint, so curves never double back. The other trackers are copies: each is rebuilt from `metrics.jsonl` when it
is opened, so it can be switched on late, and a resumed run looks as if it had never stopped there either.
"""

import contextlib
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from overture.errors import MissingExtra, OvertureError

METRICS = "metrics.jsonl"
NOT_FINITE = {
    "NaN": math.nan,
    "Infinity": math.inf,
    "-Infinity": -math.inf,
}  # JSON has no word for these: written as strings


class Tracker(Protocol):
    """Takes records: dictionaries with `kind` ("update", "health" or "checkpoint") and `update`, the number of updates made."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Keep one record."""
        ...

    def close(self) -> None:
        """Write what is still held back. Nothing may be logged afterwards."""
        ...


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The records of a run folder, oldest first; none if it has no metrics yet. A last line cut short by a kill is left out.

    Raises OvertureError if a line before the last is damaged: that is no kill but a broken file, and must not pass unseen.
    """
    path = folder / METRICS
    if not path.exists():
        return []
    lines = path.read_bytes().rstrip(b"\n").split(b"\n")
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except ValueError as error:  # of json, of UTF-8, of a line that is no object
            if number == len(lines):
                break
            raise OvertureError(
                f"{path}, line {number} is damaged ({error}). Delete that line to go on without it."
            ) from error
        records.append({key: _from_json(value) for key, value in record.items()})
    return records


class JsonlTracker:
    """Appends to `metrics.jsonl`, one flushed line a record."""

    def __init__(self, folder: Path, *, resumed_at: int = 0) -> None:
        """Opens the metrics of a run that goes on after update `resumed_at`; what an earlier process logged beyond it is dropped."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / METRICS
        kept = [record for record in read_metrics(folder) if record.get("update", 0) <= resumed_at]
        fresh = path.with_suffix(".part")  # a kill while rewriting must not cost the old curve
        with fresh.open("w", encoding="utf8") as file:
            file.writelines(_line(record) for record in kept)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        self._file = path.open("a", encoding="utf8")

    def log(self, record: Mapping[str, Any]) -> None:
        self._file.write(_line(record))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorBoardTracker:
    """Event files in `tensorboard/` inside the run folder: scalars `train/loss`, `watch/variance`, ..., health messages as text."""

    def __init__(self, folder: Path) -> None:
        """Raises MissingExtra without the extra `tensorboard`. Open it after JsonlTracker, whose records it starts with."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra("tensorboard", "Tracking with TensorBoard") from error
        events = folder / "tensorboard"
        for old in events.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = SummaryWriter(str(events), purge_step=0)  # 0: an open board forgets the old file too
        for record in read_metrics(folder):
            self.log(record)

    def log(self, record: Mapping[str, Any]) -> None:
        if record["kind"] == "health":
            text = f"**{record['rule']}**: {record['message']}"
            self._writer.add_text("health", text, int(record["update"]))
        for name, value in _scalars(record):
            self._writer.add_scalar(name, value, int(record["update"]))

    def close(self) -> None:
        self._writer.close()


class TrackioTracker:
    """A run in Trackio's local store, in the project "overture" under the run folder's name: `trackio show --project overture`.

    Never talks to the network: nothing is sent to a Space or a server, and no account name is asked for.
    """

    def __init__(self, folder: Path) -> None:
        """Raises MissingExtra without the extra `trackio`, OvertureError if the environment tells Trackio to send metrics away.

        Open it after JsonlTracker, whose records it starts with; the config is the one in the folder's `run.json`.
        """
        try:
            import trackio
        except ImportError as error:
            raise MissingExtra("trackio", "Tracking with Trackio") from error
        for variable in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
            if os.environ.get(variable):
                raise OvertureError(
                    f"{variable} is set, which makes Trackio send metrics over the network; Overture tracks locally only. "
                    f"Unset {variable} for the run and use 'trackio sync' afterwards."
                )
        path = folder / "run.json"
        about = json.loads(path.read_text(encoding="utf8")) if path.exists() else {}
        with _offline(), contextlib.redirect_stdout(io.StringIO()):  # its greetings would tear the progress display
            try:
                earlier = [run for run in trackio.Api().runs("overture") if run.name == folder.name]
            except ValueError:  # its word for a project without any run
                earlier = []
            for run in earlier:
                run.delete()
            self._run = trackio.init(
                project="overture",
                name=folder.name,
                config=about.get("config"),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        for record in read_metrics(folder):
            self.log(record)

    def log(self, record: Mapping[str, Any]) -> None:
        scalars: dict[str, float | str] = dict(_scalars(record))
        if record["kind"] == "health":
            scalars["health"] = f"{record['rule']}: {record['message']}"
        if scalars:
            self._run.log(scalars, step=int(record["update"]))

    def close(self) -> None:
        import trackio

        with contextlib.redirect_stdout(io.StringIO()):
            trackio.finish()


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Inside, huggingface_hub refuses to make requests: Trackio asks it for the account name, which it can do without."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _scalars(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of an update record, named for a dashboard; nothing of other records."""
    if record["kind"] != "update":
        return
    for name, value in record.items():
        if name == "watch":
            yield from ((f"watch/{key}", float(number)) for key, number in value.items())
        elif name not in ("kind", "update", "updates"):
            yield f"train/{name}", float(value)


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(_to_json(record), ensure_ascii=False, allow_nan=False) + "\n"


def _to_json(value: Any) -> Any:
    """`value` as strict JSON has it: 0-d tensors and numpy scalars as numbers, what is not finite as a string."""
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return str(value) if isinstance(value, Path) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return NOT_FINITE.get(value, value) if isinstance(value, str) else value
