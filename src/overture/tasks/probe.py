"""Frozen probes: linear heads on a learnt mixture of an encoder's states, the learning-rate sweep inside the protocol.

As in SUPERB (Yang et al. 2021) the input of a head is sum_l softmax(w)_l h_l over the L + 1 hidden states, w learnt with
the head. Here every state is first standardised, each dimension with its mean and deviation over the training rows: states
differ in scale by orders of magnitude, and without it w measures scale, not use (docs/tasks.md compares it with layer
normalisation).

The rates of the sweep are trained together: all parameters have a leading dimension K, all K heads see the same
minibatches, and each stops by itself once its score on the development rows no longer improves. The rate is chosen on the
development rows; the test rows are scored once, by the chosen head. Heads start at zero, so the seed decides the order of
the minibatches and nothing else, and on a CPU the same seed gives the same bits.

Here is what the probes share; each stands in a file of its own: `classify`, `transcribe`, `classify_frames`.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from overture.data.table import Table
from overture.errors import OvertureError
from overture.tasks import METRICS, metrics
from overture.tasks.ctc import Infeasible
from overture.tasks.features import Frames
from overture.tasks.metrics import Counts, GroupRow, Interval

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

    @classmethod
    def as_it_is(cls, metric: str, counts: Counts, columns: Mapping[str, Any], began: float) -> Self:
        """Of a network that learnt nothing here, so there are no rates and no groups. `columns`: of the predictions, beside the counts;
        `began`: `time.perf_counter()` then."""
        return cls(
            metric=metric,
            value=counts.value,
            interval=metrics.bootstrap(*counts),
            by_group=[],
            rate=0.0,
            dev={0.0: None},
            dev_curve=[],
            layer_weights=[],
            seconds=time.perf_counter() - began,
            counts=counts,
            predictions=pa.table({**columns, METRICS[metric].counted: counts.events, "total": counts.totals}),
            infeasible=[],
        )

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


class Heads:
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
class Swept:
    """What a sweep found."""

    head: Heads  # the chosen one, K = 1
    best: list[float]  # (K,) lowest development error of each rate
    curve: list[float]  # of the chosen rate
    chosen: int


def sweep(
    heads: Heads,
    train: Callable[[Heads, torch.Generator], Iterator[Tensor]],
    dev: Callable[[Heads], tuple[np.ndarray, np.ndarray]],
    *,
    epochs: int,
    patience: int,
    seed: int,
) -> Swept:
    """Train all heads; keep each at its best epoch; choose one.

    `train` yields the losses of an epoch's minibatches, summed over heads; `dev` gives (error, loss), each (K,). Better is:
    lower error, or equal error and a loss lower by 1 % (before CTC writes a letter, every error is 1 and only the loss
    moves).
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(heads.rates)
    running = list(range(count))  # which rate each row of `heads` is
    best = [(np.inf, np.inf)] * count
    kept: list[Heads | None] = [None] * count
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
    return Swept(head, [b[0] for b in best], curves[chosen], chosen)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """For minibatches of 50 us an operation: threads win nothing there, and lose tenfold where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def check_parts(train: np.ndarray, dev: np.ndarray, test: np.ndarray, rows: int) -> None:
    """Raises OvertureError for a part without rows and for a row in two parts."""
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


def strings(table: Table, column: str, rows: np.ndarray) -> list[str]:
    """The column's values at `rows`. Raises OvertureError naming the first row without one."""
    values = table.numpy(column)[rows]
    for row, value in zip(rows, values):
        if value is None:
            raise OvertureError(
                f"row {table.numpy('id')[row]!r} of {table.name!r} has no {column}. "
                f"Leave such rows away: --where '{column} IS NOT NULL'."
            )
    return [str(v) for v in values]


def result_of(
    table: Table,
    test: np.ndarray,
    metric: str,
    counts: Counts,
    references: list[str],
    hypotheses: list[str],
    swept: Swept,
    rates: Sequence[float],
    left_out: list[Infeasible],
    began: float,
    seed: int,
) -> ProbeResult:
    """What a probe found: the sweep's errors as scores, the chosen head's mixture, the test rows' counts."""

    def score(error: float) -> float:
        return 1 - error if metric == "accuracy" else error

    return scored(
        table,
        test,
        metric,
        counts,
        references,
        hypotheses,
        rate=rates[swept.chosen],
        dev={r: score(b) if np.isfinite(b) else None for r, b in zip(rates, swept.best)},
        dev_curve=[score(e) for e in swept.curve],
        layer_weights=swept.head.values[0].detach().softmax(-1)[0].tolist(),
        left_out=left_out,
        began=began,
        seed=seed,
    )


def scored(
    table: Table,
    test: np.ndarray,
    metric: str,
    counts: Counts,
    references: list[str],
    hypotheses: list[str],
    *,
    rate: float,
    dev: Mapping[float, float | None],
    dev_curve: list[float],
    layer_weights: list[float],
    left_out: list[Infeasible],
    began: float,
    seed: int,
) -> ProbeResult:
    """The test rows' counts with their interval, groups and predictions. `began`: on `time.perf_counter`; `seed`: of the bootstrap."""
    groups = {c: table.numpy(c)[test] for c in GROUPS if c in table.columns.column_names}
    return ProbeResult(
        metric=metric,
        value=counts.value,
        interval=metrics.bootstrap(*counts, seed=seed),
        by_group=metrics.by_group(
            counts, {c: v for c, v in groups.items() if any(x is not None for x in v)}, seed=seed
        ),
        rate=rate,
        dev=dict(dev),
        dev_curve=dev_curve,
        layer_weights=layer_weights,
        seconds=time.perf_counter() - began,
        counts=counts,
        predictions=pa.table(
            {
                "id": pa.array([str(i) for i in table.numpy("id")[test]]),
                "reference": pa.array(references, pa.string()),
                "hypothesis": pa.array(hypotheses, pa.string()),
                METRICS[metric].counted: pa.array(counts.events),
                "total": pa.array(counts.totals),
            }
        ),
        infeasible=left_out,
    )


def scale(mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(L + 1, D) each -> mean and 1 / deviation; 0 for a dimension that does not vary beside others of its state."""
    deviation = np.sqrt(variance)
    typical = np.sqrt(variance.mean(axis=1, keepdims=True))
    varies = deviation > 1e-4 * typical
    inverse = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
    return mean.astype(np.float32), inverse.astype(np.float32)


def frame_scale(frames: Frames, train: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and 1 / deviation over all frames of the training rows, (L + 1, 1, D) each; two passes, so no squares of large means."""
    total = int(frames.lengths[train].sum())
    sums = sum(np.asarray(frames[row], np.float64).sum(0) for row in train)  # (L + 1, D)
    mean, squares = sums / total, np.zeros_like(sums)
    for row in train:
        squares += np.square(frames[row] - mean).sum(0)
    offset, inverse = (torch.from_numpy(a)[:, None] for a in scale(mean, squares / total))
    return offset, inverse
