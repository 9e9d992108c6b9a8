"""Whether two recordings are of one voice: the task `speaker-verification`. Nothing is trained, vectors of recordings are compared by their cosine.

The protocol: every pair of recordings of a part is a trial. A threshold is taken where, on the development speakers, as many trials of one voice are
refused as of two are accepted (the equal error rate), and kept for the test speakers, whom nothing has heard. Of each test speaker the score is the
mean of both error rates of its own trials (half total error rate, Bengio and Mariethoz 2004), so speakers count alike and whatever draws units draws
speakers. The equal error rate of the test trials themselves, with a threshold that knows them, stands beside it (`Verified.eer`).

A trial has two speakers and is drawn with one of them: intervals over speakers are somewhat too narrow, and under twenty speakers more so.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from overture.data.batch import States
from overture.data.source import Source
from overture.data.table import Table
from overture.errors import OvertureError
from overture.tasks import METRICS, features, metrics
from overture.tasks.metrics import Counts, Interval
from overture.tasks.probe import ProbeResult, strings

DRAWS = 200  # of speakers, for the interval of the equal error rate


@dataclass(frozen=True)
class Verified(ProbeResult):
    """What was found, one row of predictions a speaker. `rate`: the threshold; `dev`: the equal error rate of the development trials."""

    eer: float  # of the test trials
    eer_interval: Interval  # 95 %, over speakers


class Operating(NamedTuple):
    """Where as many trials of one voice are refused as of two are accepted."""

    eer: float
    threshold: float  # accepted: a cosine that is not below it


class Embedder(nn.Module):
    """An encoder whose only state is one a recording: its own vector of a voice (`embed`), or the mean of its last states."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder, self.frame_rate, self.dim = encoder, encoder.frame_rate, encoder.dim

    def steps(self, lengths: Tensor) -> Tensor:
        """(B,) -> (B,): one."""
        return torch.ones_like(lengths)

    def states(self, x: Tensor, lengths: Tensor) -> States:
        """(B, T, F) or (B, T), (B,) -> (B, 1, E)."""
        if hasattr(self.encoder, "embed"):
            return States((self.encoder.embed(x, lengths)[:, None],), self.steps(lengths))
        hidden, steps = self.encoder.states(x, lengths)
        inside = torch.arange(hidden[-1].shape[1], device=x.device) < steps[:, None]  # (B, T')
        mean = torch.where(inside[..., None], hidden[-1], 0.0).sum(1) / steps[:, None]
        return States((mean[:, None],), self.steps(lengths))


def vectors(encoder: Any, source: Source, table: Table, **how: Any) -> np.ndarray:
    """(N, E) of each row; `how`: as of `features.pooled`, which says what is raised."""
    return features.pooled(Embedder(encoder), source, table, **how)[:, 0]


def verify(
    vectors: np.ndarray,
    table: Table,
    *,
    target: str,
    dev: np.ndarray,
    test: np.ndarray,
    seed: int = 0,
    tell: Callable[[dict[str, Any]], None] = lambda event: None,
) -> Verified:
    """Half total error rate on the `test` rows of `table`. `vectors`: (N, E), one a row; `target`: the column of voices; `seed`: of the intervals.

    Speakers with one recording have no trial of one voice and are left out, which `tell` is told. Raises OvertureError where that leaves fewer
    than two of a part, and for vectors that are not finite.
    """
    began = time.perf_counter()
    if len(vectors) != len(table):
        raise ValueError(f"vectors of {len(vectors)} rows, a table of {len(table)}")
    chosen = Trials.of(vectors, table, target, dev, "dev", tell).operating()
    trials = Trials.of(vectors, table, target, test, "test", tell)
    refused, accepted = trials.errors(chosen.threshold)  # (S,) each
    counts = Counts((refused + accepted) / 2, np.ones(len(refused), dtype=np.int64))
    rng = np.random.default_rng(seed)
    drawn = [trials.operating(np.bincount(d, minlength=len(refused))).eer for d in _draws(rng, len(refused))]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Verified(
        metric="hter",
        value=counts.value,
        interval=metrics.bootstrap(*counts, seed=seed),
        by_group=[],
        rate=chosen.threshold,
        dev={chosen.threshold: chosen.eer},
        dev_curve=[],
        layer_weights=[],
        seconds=time.perf_counter() - began,
        counts=counts,
        predictions=pa.table(
            {
                "id": pa.array(trials.names),
                "reference": pa.array([str(int(n)) for n in np.bincount(trials.speaker)]),  # recordings
                "hypothesis": pa.array([""] * len(refused)),
                METRICS["hter"].counted: pa.array(counts.events),
                "total": pa.array(counts.totals),
                "refused": pa.array(refused),
                "accepted": pa.array(accepted),
            }
        ),
        infeasible=[],
        eer=trials.operating().eer,
        eer_interval=(float(low), float(high)),
    )


@dataclass(frozen=True)
class Trials:
    """All pairs of N recordings of S speakers."""

    names: list[str]  # (S,)
    speaker: np.ndarray  # (N,) int64 of each recording
    cosines: np.ndarray  # (N, N)

    @classmethod
    def of(
        cls,
        vectors: np.ndarray,
        table: Table,
        target: str,
        rows: np.ndarray,
        part: str,
        tell: Callable[[dict[str, Any]], None],
    ) -> "Trials":
        """Of the `rows` of `table`. Raises as `verify` does."""
        names, speaker, counts = np.unique(strings(table, target, rows), return_inverse=True, return_counts=True)
        kept = counts[speaker] > 1
        if not kept.all():
            tell(
                {
                    "kind": "note",
                    "text": f"{int((~kept).sum())} {part} speakers have one recording: no trial of one voice",
                }
            )
        if (counts > 1).sum() < 2:
            raise OvertureError(
                f"{int((counts > 1).sum())} of {len(names)} {part} speakers have two recordings or more, and verification compares two: take "
                "another split or a larger corpus"
            )
        x = np.asarray(vectors[rows[kept]], dtype=np.float64)
        if not np.isfinite(x).all():
            raise OvertureError("the vectors of recordings are not finite: the checkpoint is broken")
        x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        renumbered = np.cumsum(counts > 1) - 1
        return cls([str(n) for n in names[counts > 1]], renumbered[speaker[kept]], x @ x.T)

    def _sides(self) -> tuple[np.ndarray, np.ndarray]:
        """(N, N) bool each: which trials are of one voice, and which of two. A recording is not compared with itself."""
        one = self.speaker[:, None] == self.speaker
        return one & ~np.eye(len(one), dtype=bool), ~one

    def errors(self, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """(S,) each, of the trials of a speaker's recordings: the share refused of those with its own, and accepted of those with others'."""
        accepted = self.cosines >= threshold
        rates = []
        for wrong, side in zip((~accepted, accepted), self._sides()):
            sums = [np.bincount(self.speaker, (what & side).sum(1)) for what in (wrong, np.ones_like(side))]
            rates.append(sums[0] / sums[1])
        return rates[0], rates[1]

    @cached_property
    def _ranked(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(K,) each, the most alike first: cosines of all trials, whether they are of one voice, and whose they are."""
        one, two = self._sides()
        i, j = np.nonzero(one | two)
        order = np.argsort(-self.cosines[i, j], kind="stable")
        i, j = i[order], j[order]
        return self.cosines[i, j], one[i, j], self.speaker[i]

    def operating(self, weights: np.ndarray | None = None) -> Operating:
        """Where both error rates are equal, speakers counting alike, or by `weights` (S,)."""
        ranked, right, speaker = self._ranked
        each = np.ones(len(self.names)) if weights is None else np.asarray(weights, dtype=np.float64)
        of_one, of_two = (each / np.bincount(speaker, side) for side in (right, ~right))
        return equal_error(ranked, right, np.where(right, of_one[speaker], of_two[speaker]))


def equal_error(ranked: np.ndarray, same: np.ndarray, weights: np.ndarray | None = None) -> Operating:
    """The equal error rate of K trials, and its threshold. `ranked`: (K,) scores, the highest first; `same`: (K,) bool, of one voice.

    Between two thresholds the rates are taken to be linear. Raises ValueError without trials of both kinds, and for scores out of order.
    """
    w = np.ones(len(ranked)) if weights is None else weights
    totals = [float(w[side].sum()) for side in (same, ~same)]
    if min(totals) <= 0 or (ranked[1:] > ranked[:-1]).any():
        raise ValueError("trials of both kinds are needed, those with the highest scores first")
    last = np.append(ranked[1:] != ranked[:-1], True)  # of trials with equal scores
    refused = np.append(1.0, 1 - np.cumsum(w * same)[last] / totals[0])
    accepted = np.append(0.0, np.cumsum(w * ~same)[last] / totals[1])
    steps = np.append(np.inf, ranked[last])  # refused and accepted at the threshold of this score
    at = int(np.argmax(accepted >= refused - 1e-12))  # never the first, where all are refused
    before, after = refused[at - 1] - accepted[at - 1], accepted[at] - refused[at]
    eer = accepted[at - 1] + before / (before + after) * (accepted[at] - accepted[at - 1])
    nearest = at if after <= before or at == 1 else at - 1
    below = steps[min(nearest + 1, len(steps) - 1)]
    return Operating(float(eer), float((steps[nearest] + below) / 2))


def _draws(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Draws of `count` speakers with replacement, two different ones at least in each."""
    found: list[np.ndarray] = []
    while len(found) < DRAWS:
        drawn = rng.integers(count, size=count)
        if len(np.unique(drawn)) > 1:
            found.append(drawn)
    return found
