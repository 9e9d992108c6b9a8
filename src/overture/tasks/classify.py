"""What an utterance is, from its mean state: who speaks, which word, which sound. A linear softmax, frozen encoder."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from overture.data.table import Table
from overture.errors import OvertureError
from overture.tasks import metrics
from overture.tasks.probe import Heads, ProbeResult, check_parts, one_thread, result_of, scale, strings, sweep

CLASS_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)


def classes_of(table: Table, target: str, *, train: np.ndarray, dev: np.ndarray, test: np.ndarray) -> list[str]:
    """The values that the training rows have in `target`, sorted.

    Raises OvertureError for rows without one, fewer than two, or a value that only `dev` or `test` has.
    """
    classes = sorted(set(strings(table, target, train)))
    if len(classes) < 2:
        raise OvertureError(f"the training rows have one {target} only ({classes[0]!r}): nothing to tell apart.")
    known = set(classes)
    for part, rows in (("dev", dev), ("test", test)):
        for row, value in zip(rows, strings(table, target, rows)):
            if value not in known:
                raise OvertureError(
                    f"row {table.numpy('id')[row]!r} ({part}) has {target} {value!r}, which no training row has. "
                    "Split so that every class is in training."
                )
    return classes


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
    check_parts(train, dev, test, len(table))
    if len(states) != len(table):
        raise ValueError(f"features of {len(states)} rows, a table of {len(table)}")
    classes = classes_of(table, target, train=train, dev=dev, test=test)
    number = {c: i for i, c in enumerate(classes)}
    fitted = np.asarray(states[train], np.float64)  # (N, L + 1, D)
    mean, inverse = scale(fitted.mean(0), fitted.var(0))

    def prepared(rows: np.ndarray) -> tuple[Tensor, Tensor]:
        x = torch.from_numpy((states[rows] - mean) * inverse).transpose(0, 1).contiguous()  # (L + 1, N, D)
        y = torch.tensor([number[v] for v in strings(table, target, rows)])
        return x.to(device), y.to(device)

    x, y = prepared(train)
    x_dev, y_dev = prepared(dev)

    def losses(heads: Heads, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = heads.logits(x)  # (K, M, C)
        each = F.cross_entropy(logits.flatten(0, 1), y.repeat(len(logits)), reduction="none").view(len(logits), -1)
        return logits, each.mean(1)

    def train_epoch(heads: Heads, generator: torch.Generator) -> Iterator[Tensor]:
        for rows in torch.split(torch.randperm(len(y), generator=generator).to(y.device), batch):
            yield losses(heads, x[:, rows], y[rows])[1].sum()

    def score_dev(heads: Heads) -> tuple[np.ndarray, np.ndarray]:
        logits, loss = losses(heads, x_dev, y_dev)
        return (logits.argmax(-1) != y_dev).double().mean(1).cpu().numpy(), loss.cpu().numpy()

    with one_thread():
        start = Heads(rates, states.shape[1], states.shape[2], len(classes), device)
        swept = sweep(start, train_epoch, score_dev, epochs=epochs, patience=patience, seed=seed)
    with torch.no_grad():
        found = swept.head.logits(prepared(test)[0])[0].argmax(-1).tolist()
    references, hypotheses = strings(table, target, test), [classes[i] for i in found]
    counts = metrics.accuracy(references, hypotheses)
    return result_of(table, test, "accuracy", counts, references, hypotheses, swept, rates, [], began, seed)
