"""Which phone each frame belongs to: a linear softmax on every frame of a frozen encoder."""

import time
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from overture.data.table import Table
from overture.errors import OvertureError
from overture.tasks.align import PHONES
from overture.tasks.features import Frames
from overture.tasks.metrics import Counts
from overture.tasks.probe import Heads, ProbeResult, check_parts, frame_scale, one_thread, result_of, sweep

FRAME_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


def classify_frames(
    frames: Frames,
    table: Table,
    *,
    labels: Sequence[np.ndarray],
    train: np.ndarray,
    dev: np.ndarray,
    test: np.ndarray,
    classes: Sequence[str] = PHONES,
    rates: Sequence[float] = FRAME_RATES,
    epochs: int = 30,
    patience: int = 4,
    batch: int = 512,
    epoch_frames: int = 32_768,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> ProbeResult:
    """Which phone a frame belongs to: linear softmax on every frame; share of frames that are right.

    `frames`: of `features.frames` for the rows of `table`; `labels[i]`: (T_i,) int64 positions in `classes` for row i, -1 for
    frames without a label, which are neither trained on nor counted; `train`, `dev`, `test`: row numbers. Neighbouring
    frames are much alike, so an epoch is a fresh draw of at most `epoch_frames` labelled training frames, and rate and
    epoch are chosen on one fixed draw of as many development frames; all labelled test frames are scored. Counts are right
    and labelled frames an utterance; `reference` and `hypothesis` are runs of labelled frames, as "SIL:12 HH:5". Classes
    that no training frame has count as errors. Raises OvertureError for rows in two parts, a part without a labelled
    frame, or fewer than two classes in training.
    """
    began = time.perf_counter()
    check_parts(train, dev, test, len(table))
    if len(frames.lengths) != len(table) or len(labels) != len(table):
        raise ValueError(f"features of {len(frames.lengths)} rows, labels of {len(labels)}, a table of {len(table)}")

    def labelled(part: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the labelled frames of `rows`: (M,) places in the cache, (M,) classes, (M,) which of `rows`."""
        for row in rows:
            if len(labels[row]) != frames.lengths[row]:
                raise ValueError(f"row {row}: {len(labels[row])} labels, {frames.lengths[row]} frames")
        y = np.concatenate([labels[row] for row in rows])
        places = np.concatenate([frames.starts[row] + np.arange(frames.lengths[row]) for row in rows])
        owners = np.repeat(np.arange(len(rows)), frames.lengths[rows])
        known = y >= 0
        if not known.any():
            raise OvertureError(f"the {part} part has no labelled frame. Choose another split or align more rows.")
        if y.max() >= len(classes):
            raise ValueError(f"label {y.max()} of {len(classes)} classes")
        return places[known], y[known].astype(np.int64), owners[known]

    train, dev = np.sort(train), np.sort(dev)  # the order of the rows decides nothing
    places, y, _ = labelled("train", train)
    if y.min() == y.max():
        raise OvertureError(f"the training frames have one class only ({classes[y[0]]!r}): nothing to tell apart.")
    dev_places, dev_y, _ = labelled("dev", dev)
    drawn = np.random.default_rng(seed).permutation(len(dev_y))[:epoch_frames]
    dev_places, dev_y = dev_places[drawn], dev_y[drawn]
    offset, inverse = (t.to(device) for t in frame_scale(frames, train))

    def states(at: np.ndarray) -> Tensor:
        """(M,) places -> (L + 1, M, D) standardised."""
        x = torch.from_numpy(frames.packed[at]).to(device).transpose(0, 1).float()
        return x.sub_(offset).mul_(inverse).contiguous()

    def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
        """(K, M, C), (M,) -> (K, M)."""
        return F.cross_entropy(logits.flatten(0, 1), y.repeat(len(logits)), reduction="none").view(len(logits), -1)

    def train_epoch(heads: Heads, generator: torch.Generator) -> Iterator[Tensor]:
        order = torch.randperm(len(y), generator=generator)[:epoch_frames].numpy()
        for first in range(0, len(order), batch):
            at = order[first : first + batch]
            yield cross_entropy(heads.logits(states(places[at])), torch.from_numpy(y[at]).to(device)).mean(1).sum()

    def score_dev(heads: Heads) -> tuple[np.ndarray, np.ndarray]:
        wrong, loss = np.zeros(len(heads.rates)), np.zeros(len(heads.rates))
        for first in range(0, len(dev_y), 4 * batch):
            part = slice(first, first + 4 * batch)
            logits, expected = heads.logits(states(dev_places[part])), torch.from_numpy(dev_y[part]).to(device)
            wrong += (logits.argmax(-1) != expected).sum(1).cpu().numpy()
            loss += cross_entropy(logits, expected).double().sum(1).cpu().numpy()
        return wrong / len(dev_y), loss / len(dev_y)

    test_places, test_y, owners = labelled("test", test)
    with one_thread():
        start = Heads(rates, frames.packed.shape[1], frames.packed.shape[2], len(classes), device)
        swept = sweep(start, train_epoch, score_dev, epochs=epochs, patience=patience, seed=seed)
        with torch.no_grad():
            parts = (test_places[i : i + 4 * batch] for i in range(0, len(test_places), 4 * batch))
            found = np.concatenate([swept.head.logits(states(at))[0].argmax(-1).cpu().numpy() for at in parts])
    right, total = (
        np.bincount(owners, weights=w, minlength=len(test)).astype(np.int64) for w in (found == test_y, None)
    )
    ends = np.cumsum(total)[:-1]
    references, hypotheses = ([_runs(p, classes) for p in np.split(ids, ends)] for ids in (test_y, found))
    counts = Counts(right, total)
    return result_of(table, test, "accuracy", counts, references, hypotheses, swept, rates, [], began, seed)


def _runs(ids: np.ndarray, classes: Sequence[str]) -> str:
    """[30 30 15] -> 'SIL:2 HH:1'."""
    return " ".join(f"{classes[k]}:{sum(1 for _ in group)}" for k, group in groupby(ids.tolist()))
