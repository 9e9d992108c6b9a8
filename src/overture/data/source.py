"""Where an utterance's features come from: computed anew, or computed once and mapped into memory.

Both read with threads, because soundfile, soxr and numpy's FFT release Python's lock; so there are no worker processes, no
pickled tables and nothing that can die unseen.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from math import floor
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from overture.config import fingerprint, to_dict
from overture.data import audio
from overture.data.augment import Augmenter, WaveAugment
from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.once import made_once
from overture.data.phones import Labels
from overture.data.table import Table, corpora_home
from overture.errors import OvertureError
from overture.run import Frontend

A = TypeVar("A")
B = TypeVar("B")
THREADS = max(2, os.cpu_count() or 2)
AUGMENT = 5  # the purpose of the draws that alter an utterance


class Source(Protocol):
    """Features by index into a table."""

    def __getitem__(self, index: int) -> np.ndarray: ...  # (T, F), or (T,) samples


class Live:
    """Features computed from the recording each time they are asked for."""

    def __init__(self, table: Table, frontend: Frontend) -> None:
        self.frontend = frontend
        self.paths, self.root = table.columns.column("audio"), table.root
        self.starts = table.numpy("start") if "start" in table.columns.column_names else np.zeros(len(table))
        self.durations = table.numpy("duration")
        self.ids = table.columns.column("id")

    def __getitem__(self, index: int) -> np.ndarray:
        """(T, F) or (T,). Raises OvertureError naming the row when its recording is gone, damaged or too short for one frame."""
        return self.features(index, self.wave(index))

    def wave(self, index: int) -> np.ndarray:
        """(N,) samples at the rate of the front end. Raises OvertureError naming the row."""
        try:
            return audio.read(
                self.root / self.paths[index].as_py(),
                rate=self.frontend.rate,
                start=float(self.starts[index]),
                duration=float(self.durations[index]),
            )
        except (audio.UnreadableAudio, ValueError) as error:
            raise self._bad(index, error) from error

    def features(self, index: int, wave: np.ndarray) -> np.ndarray:
        """(T, F) or (T,) of samples of this row. Raises OvertureError naming it."""
        try:
            return np.asarray(self.frontend(wave), dtype=np.float32)
        except ValueError as error:
            raise self._bad(index, error) from error

    def _bad(self, index: int, error: Exception) -> OvertureError:
        return OvertureError(
            f"row {self.ids[index].as_py()!r}: {error}. Import the corpus again, or leave the row out with --where"
        )


class Cached:
    """Features computed once into one packed file of float16, named by what made it and mapped into memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.offsets = np.load(folder / "offsets.npy", allow_pickle=False)  # (N + 1,) frames
        dim = json.loads((folder / "source.json").read_text())["dim"]
        frames: np.ndarray = np.memmap(folder / "frames.f16", dtype=np.float16, mode="r")
        self.frames = frames.reshape(-1, dim) if dim else frames

    def __getitem__(self, index: int) -> np.ndarray:
        return np.asarray(self.frames[self.offsets[index] : self.offsets[index + 1]], dtype=np.float32)

    @classmethod
    def open(
        cls,
        table: Table,
        frontend: Frontend,
        progress: Callable[[float], None] | None = None,
        known: Callable[[int], np.ndarray] | None = None,
    ) -> "Cached":
        """The features of `table`, from the cache, or computed now with all cores, or taken from where they are `known` already (by
        row of `table`). `progress` is told the share done."""
        made_of = {
            "table": table.fingerprint,
            "rows": len(table),
            "frontend": [type(frontend).__name__, to_dict(frontend)],
            "format": 1,
        }
        folder = corpora_home().parent / "features" / fingerprint(made_of)
        made_once(folder, lambda part: cls._write(part, table, frontend, made_of, progress, known), "the feature cache")
        return cls(folder)

    @staticmethod
    def _write(
        folder: Path,
        table: Table,
        frontend: Frontend,
        made_of: dict[str, object],
        progress: Callable[[float], None] | None,
        known: Callable[[int], np.ndarray] | None,
    ) -> None:
        live, offsets = Live(table, frontend), [0]
        with (folder / "frames.f16").open("wb") as file:
            for index, frames in enumerate(in_order(known or live.__getitem__, range(len(table)), ahead=64)):
                with np.errstate(over="ignore"):
                    half = frames.astype(np.float16)
                if not np.isfinite(half).all():
                    raise OvertureError(
                        f"row {live.ids[index].as_py()!r}: its features are not finite, or beyond 65,504, the largest number of the "
                        "cache. Is the recording damaged? If not, set data.cache=false"
                    )
                file.write(half.tobytes())
                offsets.append(offsets[-1] + len(frames))
                if progress is not None and index % 64 == 0:
                    progress(index / len(table))
            file.flush()
            os.fsync(file.fileno())
        np.save(folder / "offsets.npy", np.array(offsets, dtype=np.int64))
        (folder / "source.json").write_text(json.dumps({**made_of, "dim": frontend.dim}, indent=1))


class Augmented:
    """A source whose samples are altered anew whenever they are trained on; asked by index, it gives them as they are."""

    def __init__(
        self,
        source: Live | Cached,
        table: Table,
        frontend: Frontend,
        augment: WaveAugment,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """`source`: of `table` by `frontend`. Raises OvertureError for stored features, which have no samples, and see `Augmenter`."""
        self.check(frontend, isinstance(source, Cached))
        self.augmenter = Augmenter(augment, frontend.rate, progress)
        self.source, self.live, self.durations = source, Live(table, frontend), table.numpy("duration")
        self.samples_only = frontend.dim == 0

    @staticmethod
    def check(frontend: Frontend, cache: bool) -> None:
        """Raises OvertureError where there would be no samples to alter."""
        if cache and frontend.dim:
            raise OvertureError(
                f"data.augment alters samples, and data.cache=true stores the features of {type(frontend).__name__}, computed once: "
                "set data.cache=false, or take a front end of samples (Waveform)"
            )

    def __getitem__(self, index: int) -> np.ndarray:
        return self.source[index]

    def altered(self, index: int, row: int, draws: Draws, longest: int) -> np.ndarray:
        """(T, F), or (T,) of at most `longest`: long samples are cropped before they are altered, which costs less."""
        rng = draws.example(row, AUGMENT)
        speed = self.augmenter.speed(rng)
        wave = self.source[index] if isinstance(self.source, Cached) else self.source.wave(index)
        if self.samples_only:
            wave = cropped(wave, floor(longest * speed), draws, row)
        return self.live.features(index, self.augmenter.alter(wave, speed, rng)[0])

    def seconds(self, indices: np.ndarray, rows: np.ndarray, draws: Draws) -> np.ndarray:
        """(B,) s that utterances `indices`, of row numbers `rows`, last at the speeds of these draws."""
        speeds = [self.augmenter.speed(draws.example(int(row), AUGMENT)) for row in rows]
        return np.asarray(self.durations[indices] / np.array(speeds))

    def slowest(self) -> "Augmented":
        """The same with every utterance at the lowest speed: what a batch may cost at most."""
        slow = copy(self)
        slow.augmenter = copy(self.augmenter)
        slow.augmenter.what = replace(self.augmenter.what, speed=(self.augmenter.what.slowest,))
        return slow


def cropped(x: np.ndarray, longest: int, draws: Draws | None, row: int) -> np.ndarray:
    """The first `longest` steps of (T, ...), or as many from a place drawn for this row."""
    if len(x) <= longest:
        return x
    start = 0 if draws is None else int(draws.example(row, purpose=1).integers(len(x) - longest + 1))
    return x[start : start + longest]


def in_order(function: Callable[[A], B], items: Iterable[A], *, ahead: int) -> Iterator[B]:
    """`map(function, items)` with `ahead` calls running or waiting in threads; results come in the order of the items."""
    # The threads of BLAS would fight ours over the cores: three times the CPU time on two of them.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[Future[B]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def collate(
    source: Source,
    rows: np.ndarray,
    indices: np.ndarray,
    *,
    longest: int,
    draws: Draws | None,
    labels: Sequence[Sequence[int]] | None = None,
    channels: Mapping[str, Labels] | None = None,
) -> Batch:
    """Utterances `indices` of `source` as a Batch; those over `longest` steps are cropped, at a drawn place or in front.

    With `draws`, which is in training, those of an `Augmented` source are altered.

    `rows`: the row number in the corpus of each index of the table; `labels`: the ids of each index's transcript; `channels`: what
    tells something of each frame of an index, given how many it has; it is cropped as these are.
    """
    parts = []
    told: dict[str, list[np.ndarray]] = {name: [] for name in channels or {}}
    for index in indices:
        row = int(rows[index])
        if draws is not None and isinstance(source, Augmented):
            x = source.altered(int(index), row, draws, longest)
        else:
            x = source[int(index)]
        parts.append(cropped(x, longest, draws, row))
        for name, of in (channels or {}).items():
            told[name].append(cropped(of(int(index), len(x)), longest, draws, row))
    padded, lengths = stacked(parts, np.float32)
    batch = Batch(
        rows=torch.from_numpy(rows[indices]),
        x=padded,
        lengths=lengths,
        channels={name: stacked(values, values[0].dtype)[0] for name, values in told.items()},
    )
    if labels is None:
        return batch
    ids, id_lengths = stacked([np.asarray(labels[int(i)], dtype=np.int64) for i in indices], np.int64)
    return replace(batch, labels=ids, label_lengths=id_lengths)


def stacked(parts: Sequence[np.ndarray], dtype: np.typing.DTypeLike = np.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """(A, S, ...) zero-padded to the longest, and (A,) the lengths."""
    lengths = torch.tensor([len(p) for p in parts])
    padded = np.zeros((len(parts), int(lengths.max()), *parts[0].shape[1:]), dtype=dtype)
    for i, part in enumerate(parts):
        padded[i, : len(part)] = part
    return torch.from_numpy(padded), lengths
