"""Frozen probes: linear heads on a learnt mixture of an encoder's states, the learning-rate sweep inside the protocol.

As in SUPERB (Yang et al. 2021) the input of a head is sum_l softmax(w)_l h_l over the L + 1 hidden states, w learnt with
the head. Here every state is first standardised, each dimension with its mean and deviation over the training rows: states
differ in scale by orders of magnitude, and without it w measures scale, not use (docs/tasks.md compares it with layer
normalisation).

The rates of the sweep are trained together: all parameters have a leading dimension K, all K heads see the same
minibatches, and each stops by itself once its score on the development rows no longer improves. The rate is chosen on the
development rows; the test rows are scored once, by the chosen head. Heads start at zero, so the seed decides the order of
the minibatches and nothing else, and on a CPU the same seed gives the same bits.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from overture.data.table import Table
from overture.errors import OvertureError
from overture.tasks import metrics
from overture.tasks.align import PHONES
from overture.tasks.ctc import Alphabet, Infeasible, ctc_losses, greedy_decode, infeasible, normalise
from overture.tasks.features import Frames
from overture.tasks.metrics import Counts, GroupRow, Interval

CLASS_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
CTC_RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
FRAME_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
GROUPS = ("gender", "speaker", "language")  # scored by group where the table has them


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found. Scores of development rows are in the metric's own units."""

    metric: str
    value: float  # on the test rows
    interval: Interval | None  # 95 %, bootstrap over test utterances
    by_group: list[GroupRow]
    rate: float  # chosen on the development rows
    dev: dict[float, float | None]  # rate -> its best development score; None: its loss was never finite
    dev_curve: list[float]  # of the chosen rate, one value an epoch
    layer_weights: list[float]  # softmax(w) of the chosen head, L + 1 values
    seconds: float  # training, the sweep included, and scoring
    counts: Counts  # of the test rows: for `metrics.paired_bootstrap`, or an interval over speakers
    predictions: pa.Table  # id, reference, hypothesis, errors (or correct), total; one row a test row
    infeasible: list[Infeasible]  # training and development rows left out: too few frames for their transcript

    @property
    def rate_at_edge(self) -> bool:
        """The chosen rate is the lowest or highest of the sweep: a better one may lie outside."""
        return self.rate in (min(self.dev), max(self.dev))

    def write_predictions(self, path: str | Path) -> None:
        """As Parquet, written whole or not at all."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.partial")
        pq.write_table(self.predictions, partial)
        partial.replace(path)


class _Heads:
    """K linear heads over K mixtures of states, and their Adam (torch's own takes one rate a tensor, not K)."""

    def __init__(self, rates: Sequence[float], states: int, dim: int, size: int, device: torch.device | str) -> None:
        k = len(rates)
        shapes = ((k, states), (k, dim, size), (k, 1, size))
        self.values = [torch.zeros(s, device=device, requires_grad=True) for s in shapes]  # mixture, weight, bias
        self.first = [torch.zeros(s, device=device) for s in shapes]
        self.second = [torch.zeros(s, device=device) for s in shapes]
        self.rates = torch.tensor(rates, device=device)  # (K,)
        self.steps = 0

    def logits(self, x: Tensor) -> Tensor:
        """(L + 1, M, D) standardised states -> (K, M, C)."""
        mixture, weight, bias = self.values
        mixed = (mixture.softmax(-1) @ x.flatten(1)).view(-1, *x.shape[1:])  # (K, M, D)
        return torch.baddbmm(bias, mixed, weight)

    def step(self, loss: Tensor) -> None:
        """One update of every head; `loss` is the sum of the heads' own losses, so no head feels another."""
        self.steps += 1
        gradients = torch.autograd.grad(loss, self.values)
        with torch.no_grad():
            for value, gradient, m, v in zip(self.values, gradients, self.first, self.second):
                m.lerp_(gradient, 0.1)
                v.lerp_(gradient.square(), 0.001)
                root = (v / (1 - 0.999**self.steps)).sqrt_().add_(1e-8)
                rate = self.rates.view(-1, *[1] * (value.ndim - 1)) / (1 - 0.9**self.steps)
                value.sub_(rate * m / root)

    def take(self, keep: Tensor) -> Self:
        """The heads of the indices `keep` (k,), copied."""
        chosen = type(self).__new__(type(self))
        chosen.values = [t.detach()[keep].clone().requires_grad_() for t in self.values]
        chosen.first, chosen.second = [t[keep] for t in self.first], [t[keep] for t in self.second]
        chosen.rates, chosen.steps = self.rates[keep], self.steps
        return chosen


@dataclass(frozen=True)
class _Swept:
    head: _Heads  # the chosen one, K = 1
    best: list[float]  # (K,) lowest development error of each rate
    curve: list[float]  # of the chosen rate
    chosen: int


def _sweep(
    heads: _Heads,
    train: Callable[[_Heads, torch.Generator], Iterator[Tensor]],
    dev: Callable[[_Heads], tuple[np.ndarray, np.ndarray]],
    *,
    epochs: int,
    patience: int,
    seed: int,
) -> _Swept:
    """Train all heads; keep each at its best epoch; choose one.

    `train` yields the losses of an epoch's minibatches, summed over heads; `dev` gives (error, loss), each (K,). Better is:
    lower error, or equal error and a loss lower by 1 % (before CTC writes a letter, every error is 1 and only the loss
    moves).
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(heads.rates)
    running = list(range(count))  # which rate each row of `heads` is
    best = [(np.inf, np.inf)] * count
    kept: list[_Heads | None] = [None] * count
    since, curves = [0] * count, [list[float]() for _ in range(count)]
    for _ in range(epochs):
        for loss in train(heads, generator):
            heads.step(loss)
        with torch.no_grad():
            errors, losses = dev(heads)
        for row, k in enumerate(running):
            error, value = float(errors[row]), float(losses[row])
            curves[k].append(error)
            since[k] += 1
            if np.isfinite(value) and (error < best[k][0] or (error == best[k][0] and value < 0.99 * best[k][1])):
                best[k], since[k] = (error, value), 0
                kept[k] = heads.take(torch.tensor([row], device=heads.rates.device))
        going = [row for row, k in enumerate(running) if since[k] < patience]
        if not going:
            break
        if len(going) < len(running):
            heads, running = heads.take(torch.tensor(going, device=heads.rates.device)), [running[row] for row in going]
    chosen = min(range(count), key=lambda k: best[k])
    head = kept[chosen]
    if head is None:
        raise OvertureError(
            "the probe diverged at every learning rate. Look for values out of all proportion in the features."
        )
    return _Swept(head, [b[0] for b in best], curves[chosen], chosen)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """For minibatches of 50 us an operation: threads win nothing there, and lose tenfold where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _check_parts(train: np.ndarray, dev: np.ndarray, test: np.ndarray, rows: int) -> None:
    parts = {"train": train, "dev": dev, "test": test}
    for name, part in parts.items():
        if len(part) == 0:
            raise OvertureError(f"the {name} part has no rows. Choose another split or a larger corpus.")
        if part.min() < 0 or part.max() >= rows:
            raise ValueError(f"{name}: row numbers {part.min()}..{part.max()} of {rows} rows")
    joined = np.concatenate([train, dev, test])
    if len(np.unique(joined)) < len(joined):
        raise OvertureError(
            "a row is twice in train, dev and test. A score on training rows says nothing: mend the split."
        )


def _strings(table: Table, column: str, rows: np.ndarray) -> list[str]:
    """The column's values at `rows`. Raises OvertureError naming the first row without one."""
    values = table.numpy(column)[rows]
    for row, value in zip(rows, values):
        if value is None:
            raise OvertureError(
                f"row {table.numpy('id')[row]!r} of {table.name!r} has no {column}. "
                f"Leave such rows away: --where '{column} IS NOT NULL'."
            )
    return [str(v) for v in values]


def _result(
    table: Table,
    test: np.ndarray,
    metric: str,
    counts: Counts,
    references: list[str],
    hypotheses: list[str],
    swept: _Swept,
    rates: Sequence[float],
    left_out: list[Infeasible],
    began: float,
    seed: int,
) -> ProbeResult:
    accuracy = metric == "accuracy"
    groups = {c: table.numpy(c)[test] for c in GROUPS if c in table.columns.column_names}

    def score(error: float) -> float:
        return 1 - error if accuracy else error

    return ProbeResult(
        metric=metric,
        value=counts.value,
        interval=metrics.bootstrap(*counts, seed=seed),
        by_group=metrics.by_group(
            counts, {c: v for c, v in groups.items() if any(x is not None for x in v)}, seed=seed
        ),
        rate=rates[swept.chosen],
        dev={r: score(b) if np.isfinite(b) else None for r, b in zip(rates, swept.best)},
        dev_curve=[score(e) for e in swept.curve],
        layer_weights=swept.head.values[0].detach().softmax(-1)[0].tolist(),
        seconds=time.perf_counter() - began,
        counts=counts,
        predictions=pa.table(
            {
                "id": pa.array([str(i) for i in table.numpy("id")[test]]),
                "reference": pa.array(references, pa.string()),
                "hypothesis": pa.array(hypotheses, pa.string()),
                "correct" if accuracy else "errors": pa.array(counts.events),
                "total": pa.array(counts.totals),
            }
        ),
        infeasible=left_out,
    )


def _scale(mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(L + 1, D) each -> mean and 1 / deviation; 0 for a dimension that does not vary beside others of its state."""
    deviation = np.sqrt(variance)
    typical = np.sqrt(variance.mean(axis=1, keepdims=True))
    varies = deviation > 1e-4 * typical
    inverse = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
    return mean.astype(np.float32), inverse.astype(np.float32)


def classify(
    states: np.ndarray,
    table: Table,
    *,
    target: str,
    train: np.ndarray,
    dev: np.ndarray,
    test: np.ndarray,
    rates: Sequence[float] = CLASS_RATES,
    epochs: int = 100,
    patience: int = 10,
    batch: int = 32,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> ProbeResult:
    """Which value of the column `target` an utterance has (speaker, keyword): linear softmax on mean-pooled states; accuracy.

    `states`: (N, L + 1, D) of `features.pooled` for the N rows of `table`; `train`, `dev`, `test`: row numbers in it.
    Raises OvertureError for rows without a target, a class that only dev or test has, rows in two parts, or fewer than
    two classes.
    """
    began = time.perf_counter()
    _check_parts(train, dev, test, len(table))
    if len(states) != len(table):
        raise ValueError(f"features of {len(states)} rows, a table of {len(table)}")
    classes = sorted(set(_strings(table, target, train)))
    if len(classes) < 2:
        raise OvertureError(f"the training rows have one {target} only ({classes[0]!r}): nothing to tell apart.")
    number = {c: i for i, c in enumerate(classes)}
    for part, rows in (("dev", dev), ("test", test)):
        for row, value in zip(rows, _strings(table, target, rows)):
            if value not in number:
                raise OvertureError(
                    f"row {table.numpy('id')[row]!r} ({part}) has {target} {value!r}, which no training row has. "
                    "Split so that every class is in training."
                )

    fitted = np.asarray(states[train], np.float64)  # (N, L + 1, D)
    mean, inverse = _scale(fitted.mean(0), fitted.var(0))

    def prepared(rows: np.ndarray) -> tuple[Tensor, Tensor]:
        x = torch.from_numpy((states[rows] - mean) * inverse).transpose(0, 1).contiguous()  # (L + 1, N, D)
        y = torch.tensor([number[v] for v in _strings(table, target, rows)])
        return x.to(device), y.to(device)

    x, y = prepared(train)
    x_dev, y_dev = prepared(dev)

    def losses(heads: _Heads, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = heads.logits(x)  # (K, M, C)
        each = F.cross_entropy(logits.flatten(0, 1), y.repeat(len(logits)), reduction="none").view(len(logits), -1)
        return logits, each.mean(1)

    def train_epoch(heads: _Heads, generator: torch.Generator) -> Iterator[Tensor]:
        for rows in torch.split(torch.randperm(len(y), generator=generator).to(y.device), batch):
            yield losses(heads, x[:, rows], y[rows])[1].sum()

    def score_dev(heads: _Heads) -> tuple[np.ndarray, np.ndarray]:
        logits, loss = losses(heads, x_dev, y_dev)
        return (logits.argmax(-1) != y_dev).double().mean(1).cpu().numpy(), loss.cpu().numpy()

    with _one_thread():
        start = _Heads(rates, states.shape[1], states.shape[2], len(classes), device)
        swept = _sweep(start, train_epoch, score_dev, epochs=epochs, patience=patience, seed=seed)
    with torch.no_grad():
        found = swept.head.logits(prepared(test)[0])[0].argmax(-1).tolist()
    references, hypotheses = _strings(table, target, test), [classes[i] for i in found]
    counts = metrics.accuracy(references, hypotheses)
    return _result(table, test, "accuracy", counts, references, hypotheses, swept, rates, [], began, seed)


def _length_buckets(lengths: np.ndarray, size: int, generator: torch.Generator) -> list[np.ndarray]:
    """Positions into `lengths`, `size` of about equal length at a time, in random order; other neighbours every epoch."""
    jitter = 1 + 0.2 * torch.rand(len(lengths), generator=generator, dtype=torch.float64).numpy()
    order = np.argsort(lengths * jitter, kind="stable")
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def _frame_scale(frames: Frames, train: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and 1 / deviation over all frames of the training rows, (L + 1, 1, D) each; two passes, so no squares of large means."""
    total = int(frames.lengths[train].sum())
    sums = sum(np.asarray(frames[row], np.float64).sum(0) for row in train)  # (L + 1, D)
    mean, squares = sums / total, np.zeros_like(sums)
    for row in train:
        squares += np.square(frames[row] - mean).sum(0)
    offset, inverse = (torch.from_numpy(a)[:, None] for a in _scale(mean, squares / total))
    return offset, inverse


class _Utterances:
    """Batches of standardised frames out of the packed cache."""

    def __init__(self, frames: Frames, train: np.ndarray, device: torch.device | str) -> None:
        self.frames, self.device = frames, device
        self.offset, self.inverse = _frame_scale(frames, train)

    def logits(self, heads: _Heads, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Rows of the table -> logits (K * B, T, C), padding zero, and lengths (B,)."""
        parts = [torch.from_numpy(np.array(self.frames[row])) for row in rows]
        x = torch.cat(parts).transpose(0, 1).float().sub_(self.offset).mul_(self.inverse).contiguous()  # (L + 1, M, D)
        packed = heads.logits(x.to(self.device))  # (K, M, C)
        lengths = torch.tensor([len(p) for p in parts])
        padded = pad_sequence(
            list(torch.split(packed.transpose(0, 1), lengths.tolist())), batch_first=True
        )  # (B, T, K, C)
        return padded.permute(2, 0, 1, 3).flatten(0, 1), lengths


def transcribe(
    frames: Frames,
    table: Table,
    *,
    train: np.ndarray,
    dev: np.ndarray,
    test: np.ndarray,
    target: str = "text",
    rates: Sequence[float] = CTC_RATES,
    epochs: int = 30,
    patience: int = 5,
    batch: int = 8,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> ProbeResult:
    """What is said: a linear CTC head on every frame, greedy decoding without a language model; character error rate.

    `frames`: of `features.frames` for the rows of `table`; `train`, `dev`, `test`: row numbers in it; `target`: the
    transcripts. The alphabet is that of the training transcripts; characters only test rows have count as errors. Training
    and development rows whose frames cannot hold their transcript are left out and listed in the result; test rows are all
    scored. Raises OvertureError for rows without a transcript, rows in two parts, or when no row can be trained on.
    """
    began = time.perf_counter()
    _check_parts(train, dev, test, len(table))
    if len(frames.lengths) != len(table):
        raise ValueError(f"features of {len(frames.lengths)} rows, a table of {len(table)}")
    ids = table.numpy("id")
    fitted, held = _strings(table, target, train), _strings(table, target, dev)
    references = [normalise(text) for text in _strings(table, target, test)]
    alphabet = Alphabet.of(fitted)
    targets: dict[int, list[int]] = {}
    for rows, texts, drop in ((train, fitted, False), (dev, held, True)):
        targets |= {int(r): alphabet.encode(t, row=str(ids[r]), drop=drop) for r, t in zip(rows, texts)}
    left_out = infeasible((str(ids[r]), int(frames.lengths[r]), t) for r, t in targets.items())
    out = {row.id for row in left_out}
    parts = {"training": train, "development": dev}
    train, dev = (np.array([r for r in rows if str(ids[r]) not in out], np.int64) for rows in (train, dev))
    for name, rows in zip(parts, (train, dev)):
        if len(rows) == 0:
            raise OvertureError(
                f"all {len(parts[name])} {name} rows have too few frames at {frames.frame_rate:g} Hz for their "
                f"transcripts (first: {left_out[0]}). Use a higher frame rate."
            )
    utterances = _Utterances(frames, train, device)
    dev_texts = {int(r): normalise(t) for r, t in zip(parts["development"], held)}

    def losses(heads: _Heads, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (K * B, T, C), lengths (K * B,), loss of each head and utterance (K, B)."""
        logits, lengths = utterances.logits(heads, rows)
        k = len(logits) // len(rows)
        padded = pad_sequence([torch.tensor(targets[int(r)]) for r in rows], batch_first=True).long()  # (B, S)
        sizes = torch.tensor([len(targets[int(r)]) for r in rows])
        each = ctc_losses(logits, lengths.repeat(k), padded.repeat(k, 1).to(device), sizes.repeat(k))
        return logits, lengths.repeat(k), each.view(k, -1)

    def train_epoch(heads: _Heads, generator: torch.Generator) -> Iterator[Tensor]:
        for positions in _length_buckets(frames.lengths[train], batch, generator):
            rows = train[positions]
            yield losses(heads, rows)[2].sum() / sum(max(len(targets[int(r)]), 1) for r in rows)

    def in_batches(rows: np.ndarray) -> Iterator[np.ndarray]:
        ordered = rows[np.argsort(frames.lengths[rows], kind="stable")]
        yield from (ordered[i : i + 2 * batch] for i in range(0, len(ordered), 2 * batch))

    def score_dev(heads: _Heads) -> tuple[np.ndarray, np.ndarray]:
        errors, loss, characters = np.zeros(len(heads.rates)), np.zeros(len(heads.rates)), 0
        for rows in in_batches(dev):
            logits, lengths, each = losses(heads, rows)
            written = [alphabet.decode(i) for i in greedy_decode(logits, lengths)]
            expected = [dev_texts[int(r)] for r in rows]
            found = metrics.cer(expected * len(each), written)
            errors += found.events.reshape(len(each), -1).sum(1)
            loss += each.double().sum(1).cpu().numpy()
            characters += sum(map(len, expected))
        return errors / max(characters, 1), loss / max(characters, 1)

    start = _Heads(rates, frames.packed.shape[1], frames.packed.shape[2], len(alphabet), device)
    swept = _sweep(start, train_epoch, score_dev, epochs=epochs, patience=patience, seed=seed)
    written: dict[int, str] = {}
    with torch.no_grad():
        for rows in in_batches(test):
            logits, lengths = utterances.logits(swept.head, rows)
            written |= {int(r): alphabet.decode(i) for r, i in zip(rows, greedy_decode(logits, lengths))}
    hypotheses = [written[int(r)] for r in test]
    counts = metrics.cer(references, hypotheses)
    return _result(table, test, "cer", counts, references, hypotheses, swept, rates, left_out, began, seed)


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
    _check_parts(train, dev, test, len(table))
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
    offset, inverse = (t.to(device) for t in _frame_scale(frames, train))

    def states(at: np.ndarray) -> Tensor:
        """(M,) places -> (L + 1, M, D) standardised."""
        x = torch.from_numpy(frames.packed[at]).to(device).transpose(0, 1).float()
        return x.sub_(offset).mul_(inverse).contiguous()

    def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
        """(K, M, C), (M,) -> (K, M)."""
        return F.cross_entropy(logits.flatten(0, 1), y.repeat(len(logits)), reduction="none").view(len(logits), -1)

    def train_epoch(heads: _Heads, generator: torch.Generator) -> Iterator[Tensor]:
        order = torch.randperm(len(y), generator=generator)[:epoch_frames].numpy()
        for first in range(0, len(order), batch):
            at = order[first : first + batch]
            yield cross_entropy(heads.logits(states(places[at])), torch.from_numpy(y[at]).to(device)).mean(1).sum()

    def score_dev(heads: _Heads) -> tuple[np.ndarray, np.ndarray]:
        wrong, loss = np.zeros(len(heads.rates)), np.zeros(len(heads.rates))
        for first in range(0, len(dev_y), 4 * batch):
            part = slice(first, first + 4 * batch)
            logits, expected = heads.logits(states(dev_places[part])), torch.from_numpy(dev_y[part]).to(device)
            wrong += (logits.argmax(-1) != expected).sum(1).cpu().numpy()
            loss += cross_entropy(logits, expected).double().sum(1).cpu().numpy()
        return wrong / len(dev_y), loss / len(dev_y)

    test_places, test_y, owners = labelled("test", test)
    with _one_thread():
        start = _Heads(rates, frames.packed.shape[1], frames.packed.shape[2], len(classes), device)
        swept = _sweep(start, train_epoch, score_dev, epochs=epochs, patience=patience, seed=seed)
        with torch.no_grad():
            parts = (test_places[i : i + 4 * batch] for i in range(0, len(test_places), 4 * batch))
            found = np.concatenate([swept.head.logits(states(at))[0].argmax(-1).cpu().numpy() for at in parts])
    right, total = (
        np.bincount(owners, weights=w, minlength=len(test)).astype(np.int64) for w in (found == test_y, None)
    )
    ends = np.cumsum(total)[:-1]
    references, hypotheses = ([_runs(p, classes) for p in np.split(ids, ends)] for ids in (test_y, found))
    counts = Counts(right, total)
    return _result(table, test, "accuracy", counts, references, hypotheses, swept, rates, [], began, seed)


def _runs(ids: np.ndarray, classes: Sequence[str]) -> str:
    """[30 30 15] -> 'SIL:2 HH:1'."""
    return " ".join(f"{classes[k]}:{sum(1 for _ in group)}" for k, group in groupby(ids.tolist()))
