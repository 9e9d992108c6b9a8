"""Frozen features: a pre-trained encoder runs once over a table, and every probe reads its hidden states from disk.

Utterance tasks want the mean over an utterance (`pooled`), CTC wants every frame (`frames`). A cache is a folder named by
the caller's fingerprint (of encoder, source and table); it is built beside its place and renamed, so a killed run leaves
no half cache that looks whole. Averages are taken over an utterance's own frames, never over padding.
"""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from overture.data.batch import Encoder
from overture.data.source import Source, in_order
from overture.data.table import Table
from overture.errors import OvertureError


@dataclass(frozen=True)
class Frames:
    """Every frame of every utterance, all hidden states. Row i of the table is `frames[i]`."""

    packed: np.ndarray  # (sum T, L + 1, D) float16, a memory map; utterances lie in order of length
    starts: np.ndarray  # (N,) int64, first frame of each row
    lengths: np.ndarray  # (N,) int64, its frames
    frame_rate: float  # Hz, after averaging
    averaged: int  # encoder frames in one frame here; 1: as the encoder gives them

    def __getitem__(self, row: int) -> np.ndarray:
        """(T, L + 1, D) float16."""
        found: np.ndarray = self.packed[self.starts[row] : self.starts[row] + self.lengths[row]]
        return found


@contextlib.contextmanager
def _evaluating(encoder: Encoder) -> Iterator[None]:
    """Dropout and batch statistics off, and afterwards every module as it was."""
    modules = list(encoder.modules()) if isinstance(encoder, nn.Module) else []
    training = [m for m in modules if m.training]
    for m in training:
        m.training = False
    try:
        yield
    finally:
        for m in training:
            m.training = True


def _batches(durations: np.ndarray, seconds: float) -> list[np.ndarray]:
    """Row numbers, shortest first, cut where a batch padded to its longest would pass `seconds`."""
    order = np.argsort(durations, kind="stable")
    batches, first = [], 0
    for i in range(1, len(order) + 1):
        if i == len(order) or (i + 1 - first) * durations[order[i]] > seconds:
            batches.append(order[first:i])
            first = i
    return batches


def _utterances(
    encoder: Encoder, source: Source, table: Table, device: torch.device | str, batch_seconds: float
) -> Iterator[tuple[int, Tensor]]:
    """(row, its hidden states (T, L + 1, D) float32 on `device`), shortest row first."""
    ids, durations = table.numpy("id"), table.numpy("duration").astype(float)
    plan = _batches(durations, batch_seconds)
    # threads read ahead while the encoder computes
    inputs = in_order(source.__getitem__, np.concatenate(plan).tolist(), ahead=64)
    with _evaluating(encoder), torch.no_grad():
        for rows in plan:
            parts = [torch.from_numpy(x) for x in islice(inputs, len(rows))]
            x = pad_sequence(parts, batch_first=True).to(device)  # (B, T, F)
            lengths = torch.tensor([len(p) for p in parts], device=device)
            hidden, steps = encoder.states(x, lengths)
            for i, (row, n) in enumerate(zip(rows, steps.tolist())):
                if n < 1:
                    raise OvertureError(
                        f"row {ids[row]!r} ({durations[row]:.3f} s) is too short: the encoder gives "
                        f"it no frame. Leave such rows away: --where 'duration > {durations[row]:.2f}'."
                    )
                states = torch.stack([h[i, :n].float() for h in hidden], dim=1)  # (T, L + 1, D)
                if not bool(torch.isfinite(states).all()):
                    raise OvertureError(
                        f"row {ids[row]!r}: the encoder's states are not finite. "
                        "The checkpoint is broken, or its precision is too low for it: extract in float32."
                    )
                yield int(row), states


def _ids_hash(table: Table) -> str:
    return hashlib.sha256("\n".join(map(str, table.numpy("id"))).encode()).hexdigest()


def _open(folder: Path, table: Table) -> dict[str, Any] | None:
    """What a finished cache says of itself, None when there is none."""
    if not (folder / "meta.json").exists():
        return None
    meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf8"))
    if meta["ids"] != _ids_hash(table):
        raise OvertureError(
            f"the cached features in {folder} are of other rows than {table.name!r}'s. Delete that folder."
        )
    return meta


@contextlib.contextmanager
def _making(folder: Path, meta: dict[str, Any]) -> Iterator[Path]:
    """A folder to fill: it becomes `folder`, with `meta` inside, when the block ends well, and vanishes when not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield partial
        (partial / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf8")
        try:
            partial.rename(folder)
        except OSError:
            if not (
                folder / "meta.json"
            ).exists():  # else another process finished the same cache first: its is as good
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _about(encoder: Encoder, table: Table, averaged: int) -> dict[str, Any]:
    if len(table) == 0:
        raise OvertureError(f"no features: the selection of {table.name!r} has no rows.")
    return {
        "ids": _ids_hash(table),
        "rows": len(table),
        "frame_rate": encoder.frame_rate / averaged,
        "averaged": averaged,
    }


def pooled(
    encoder: Encoder,
    source: Source,
    table: Table,
    *,
    cache: Path,
    fingerprint: str,
    device: torch.device | str = "cpu",
    batch_seconds: float = 60.0,
) -> np.ndarray:
    """Each row's hidden states averaged over its frames: (N, L + 1, D) float32, a read-only memory map.

    `source`: the encoder's inputs, one a row of `table`; `cache`: the folder of caches; `fingerprint`: of encoder, source
    and table; `batch_seconds`: padded audio a forward pass. The encoder must be on `device`. For bf16 call this
    inside `torch.autocast` (and let the fingerprint say so).
    Raises OvertureError for unreadable audio, rows too short for a frame, states that are not finite.
    """
    meta = _about(encoder, table, 1)
    folder = cache / f"{fingerprint}-pooled"
    if _open(folder, table) is None:
        with _making(folder, meta) as partial:
            out: np.ndarray | None = None
            for row, states in _utterances(encoder, source, table, device, batch_seconds):
                mean = states.mean(0).cpu().numpy()  # (L + 1, D)
                if out is None:
                    out = np.empty((len(table), *mean.shape), np.float32)
                out[row] = mean
            assert out is not None  # an empty table was refused
            np.save(partial / "states.npy", out)
    found: np.ndarray = np.load(folder / "states.npy", mmap_mode="r", allow_pickle=False)
    return found


def _average(states: Tensor, by: int) -> Tensor:
    """(T, L + 1, D) -> (ceil(T / by), L + 1, D); a last, shorter group is averaged over what it has."""
    if by == 1:
        return states
    whole = len(states) // by * by
    parts = [states[:whole].reshape(-1, by, *states.shape[1:]).mean(1)] if whole else []
    if whole < len(states):
        parts.append(states[whole:].mean(0, keepdim=True))
    return torch.cat(parts)


def _header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    # numpy pads the header so that the first dimension can grow in place
    np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})


def frames(
    encoder: Encoder,
    source: Source,
    table: Table,
    *,
    cache: Path,
    fingerprint: str,
    max_rate: float | None = None,
    device: torch.device | str = "cpu",
    batch_seconds: float = 60.0,
) -> Frames:
    """Every frame of every row, all hidden states, in float16.

    `max_rate` (Hz): frames are averaged in the smallest whole groups that bring the rate down to it (100 Hz -> 50 Hz:
    pairs); an encoder at or below it is left alone. `Frames.averaged` says what was done. Others as in `pooled`, and the
    same errors; a value beyond float16 (65,504) is an error too.
    """
    averaged = 1 if max_rate is None else max(1, ceil(encoder.frame_rate / max_rate - 1e-6))
    meta = _about(encoder, table, averaged)
    folder = cache / f"{fingerprint}-frames{averaged}"
    if _open(folder, table) is None:
        with _making(folder, meta) as partial:
            starts, lengths = np.zeros(len(table), np.int64), np.zeros(len(table), np.int64)
            total = 0
            with (partial / "states.npy").open("w+b") as file:
                for row, states in _utterances(encoder, source, table, device, batch_seconds):
                    packed = _average(states, averaged).half().cpu().numpy()  # (T, L + 1, D)
                    if not np.isfinite(packed).all():
                        raise OvertureError(
                            f"row {table.numpy('id')[row]!r}: a state is beyond float16 ({float(states.abs().max()):.3g}). "
                            "Normalise the encoder's states before caching them."
                        )
                    if total == 0:
                        _header(file, (0, *packed.shape[1:]))
                    file.write(packed.tobytes())
                    starts[row], lengths[row], total = total, len(packed), total + len(packed)
                end, shape = file.tell(), (total, *packed.shape[1:])
                file.seek(0)
                _header(file, shape)
                if end != file.tell() + 2 * int(np.prod(shape)):
                    raise OSError(f"{partial}: the cache has {end} bytes, not what {shape} needs")
            np.save(partial / "starts.npy", starts)
            np.save(partial / "lengths.npy", lengths)
    return Frames(
        np.load(folder / "states.npy", mmap_mode="r", allow_pickle=False),
        np.load(folder / "starts.npy", allow_pickle=False),
        np.load(folder / "lengths.npy", allow_pickle=False),
        meta["frame_rate"],
        averaged,
    )
