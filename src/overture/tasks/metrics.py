"""Scores with error bars. Every metric is kept per utterance as (events, total), so any score is a ratio of sums.

Events are what is counted: wrong characters (CER), wrong words (WER), right answers (accuracy); of a ranking, which is kept per question, how
good it is from 0 to 1; of a language model the bits of a document. Intervals are 95 %:
percentile bootstrap over utterances (Bisani & Ney 2004), or over speakers, whose utterances are not independent;
a t interval over seeds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from overture.errors import OvertureError

Interval = tuple[float, float]
LEVEL = 0.95


class Counts(NamedTuple):
    """One metric over N utterances, documents or questions."""

    events: np.ndarray  # (N,) errors or right answers, int64; float64 of a ranking's worth, or of bits
    totals: np.ndarray  # (N,) int64, characters or words of the reference; 1 for accuracy and rankings; of spans, see `spans`; float64 nats of a gap

    @property
    def value(self) -> float:
        """The score. Raises OvertureError when there is nothing to divide by (no reference has any text)."""
        total = float(self.totals.sum())
        if total == 0:
            raise OvertureError(
                f"no score: none of the {len(self.totals)} references has any text. Choose other test rows."
            )
        return float(self.events.sum() / total)


def _edits(references: Sequence[str], hypotheses: Sequence[str], words: bool) -> Counts:
    import jiwer

    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references, {len(hypotheses)} hypotheses")
    reference = [" ".join(text.split()) for text in references]
    hypothesis = [" ".join(text.split()) for text in hypotheses]

    def size(text: str) -> int:
        return len(text.split()) if words else len(text)

    totals = np.array([size(text) for text in reference], dtype=np.int64)
    errors = np.zeros(len(reference), dtype=np.int64)
    # Nothing to align where a side is empty, and jiwer 3 refuses empty references: all insertions, or all deletions.
    aligned = [i for i, (r, h) in enumerate(zip(reference, hypothesis)) if r and h]
    for i in set(range(len(reference))) - set(aligned):
        errors[i] = size(reference[i]) + size(hypothesis[i])
    if aligned:
        process = jiwer.process_words if words else jiwer.process_characters
        found = process([reference[i] for i in aligned], [hypothesis[i] for i in aligned])
        for i, chunks in zip(aligned, found.alignments):
            errors[i] = sum(
                max(c.ref_end_idx - c.ref_start_idx, c.hyp_end_idx - c.hyp_start_idx)
                for c in chunks
                if c.type != "equal"
            )
    return Counts(errors, totals)


def cer(references: Sequence[str], hypotheses: Sequence[str]) -> Counts:
    """Character errors, spaces between words included.

    An empty reference counts its hypothesis as insertions and has total 0.
    """
    return _edits(references, hypotheses, words=False)


def wer(references: Sequence[str], hypotheses: Sequence[str]) -> Counts:
    """Word errors, words split at white space. An empty reference is as in `cer`."""
    return _edits(references, hypotheses, words=True)


def accuracy(references: Sequence[str], hypotheses: Sequence[str]) -> Counts:
    """Right answers: events 1 where both strings are equal; totals 1."""
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references, {len(hypotheses)} hypotheses")
    right = np.array([r == h for r, h in zip(references, hypotheses)], dtype=np.int64)
    return Counts(right, np.ones(len(right), dtype=np.int64))


def spans(
    references: Sequence[Sequence[tuple[int, int, str]]], hypotheses: Sequence[Sequence[tuple[int, int, str]]]
) -> Counts:
    """Spans (start, end, label) of each document, right where all three are: events are twice the right ones, totals all of both sides.

    So the ratio of their sums is the F1 over all spans, and a document with few weighs little, as in CoNLL.
    """
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references, {len(hypotheses)} hypotheses")
    right = [2 * len(set(r) & set(h)) for r, h in zip(references, hypotheses)]
    totals = [len(r) + len(h) for r, h in zip(references, hypotheses)]
    return Counts(np.array(right, dtype=np.int64), np.array(totals, dtype=np.int64))


@dataclass(frozen=True)
class Ranking:
    """Candidates in the order of their scores, question by question; of candidates with equal scores the wrong ones first.

    Questions without a right or without a wrong candidate have nothing to rank, and are in no score.
    """

    questions: list[str]  # (Q,) in the order of their first candidates
    orders: list[np.ndarray]  # (Q,) of each its candidates, best first, as positions in what was given
    right: list[np.ndarray]  # (Q,) bool, whether each of these answers it
    left_out: list[str]  # questions with nothing to rank

    @classmethod
    def of(cls, questions: Sequence[str], right: ArrayLike, scores: ArrayLike) -> "Ranking":
        """(N,) each: of every candidate its question, whether it answers that, and its score. Raises OvertureError where nothing can be ranked."""
        labels, values = np.asarray(right, dtype=bool), np.asarray(scores, dtype=np.float64)
        if not len(questions) == len(labels) == len(values):
            raise ValueError(f"{len(questions)} questions, {len(labels)} labels, {len(values)} scores")
        if not np.isfinite(values).all():
            raise ValueError("scores must be finite")
        places: dict[str, list[int]] = {}
        for place, question in enumerate(questions):
            places.setdefault(question, []).append(place)
        found = cls([], [], [], [])
        for question, own in places.items():
            at = np.array(own)
            if labels[at].all() or not labels[at].any():
                found.left_out.append(question)
                continue
            order = at[np.lexsort((at, labels[at], -values[at]))]
            found.questions.append(question)
            found.orders.append(order)
            found.right.append(labels[order])
        if not found.questions:
            raise OvertureError(
                f"none of {len(places)} questions has both a right and a wrong candidate: there is nothing to rank"
            )
        return found

    def _counts(self, worth: Callable[[np.ndarray], float]) -> Counts:
        return Counts(np.array([worth(right) for right in self.right]), np.ones(len(self.right), dtype=np.int64))

    @property
    def average_precision(self) -> Counts:
        """Of each question the mean, over its right candidates, of the share of right ones down to each; its mean over questions is MAP."""
        return self._counts(lambda right: float((np.cumsum(right) / np.arange(1, len(right) + 1))[right].mean()))

    @property
    def reciprocal_rank(self) -> Counts:
        """Of each question 1 / the rank of its first right candidate; its mean is MRR."""
        return self._counts(lambda right: 1 / (1 + int(right.argmax())))

    @property
    def first_right(self) -> Counts:
        """Whether the first candidate of each question is right; its mean is P@1."""
        return self._counts(lambda right: float(right[0]))


def _units(values: np.ndarray, groups: ArrayLike | None) -> np.ndarray:
    """(N, S) -> (U, S): what is drawn, an utterance or all utterances of one group."""
    if groups is None:
        return values
    names = np.array([str(g) for g in np.asarray(groups, dtype=object)])
    if len(names) != len(values):
        raise ValueError(f"{len(values)} utterances, {len(names)} group names")
    _, which = np.unique(names, return_inverse=True)
    out = np.zeros((which.max() + 1, values.shape[1]))
    np.add.at(out, which, values)
    return out


def _resampled(units: np.ndarray, n: int, seed: int) -> np.ndarray:
    """(U, S) -> (n, S): column sums of n draws of U units with replacement."""
    rng = np.random.default_rng(seed)
    count = len(units)
    step = max(1, 2_000_000 // count)  # draws at a time, bounds memory
    sums = [units[rng.integers(count, size=(min(step, n - i), count))].sum(axis=1) for i in range(0, n, step)]
    return np.concatenate(sums)


def _percentiles(values: np.ndarray) -> Interval:
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(values, [tail, 100 - tail])  # nan: a draw in which no reference has text
    return float(low), float(high)


def bootstrap(
    events: ArrayLike, totals: ArrayLike, n: int = 1000, seed: int = 0, groups: ArrayLike | None = None
) -> Interval | None:
    """95 % percentile interval of sum(events) / sum(totals), drawing utterances, or whole `groups` ((N,), e.g. speakers).

    None where it would mean nothing: fewer than two units to draw from, or no total. Under some twenty units it is too
    narrow (docs/tasks.md has its coverage).
    """
    values = np.stack([np.asarray(events, float), np.asarray(totals, float)], axis=1)
    units = _units(values, groups)
    if len(units) < 2 or values[:, 1].sum() == 0:
        return None
    sums = _resampled(units, n, seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _percentiles(np.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], np.nan))


@dataclass(frozen=True)
class Difference:
    """System a minus system b on the same utterances."""

    difference: float
    interval: Interval
    p: float  # two-sided; not below 2 / (n + 1), the finest that n draws can tell


def paired_bootstrap(a: Counts, b: Counts, n: int = 1000, seed: int = 0, groups: ArrayLike | None = None) -> Difference:
    """The difference of two systems' scores: the same draws of utterances (or of `groups`) for both.

    p is the share of draws on the far side of no difference, doubled. Totals may differ, as those of systems with other frames do.
    Raises OvertureError when the two were not scored on as many utterances, or on fewer than two units.
    """
    if len(a.totals) != len(b.totals):
        raise OvertureError(
            f"the two systems were scored on {len(a.totals)} and {len(b.totals)} utterances. "
            "Score both on the same test rows, in the same order."
        )
    units = _units(np.stack([a.events, a.totals, b.events, b.totals], axis=1).astype(float), groups)
    if len(units) < 2:
        raise OvertureError(
            f"a comparison needs at least two utterances or groups to draw from, there is {len(units)}."
        )
    difference = a.value - b.value
    sums = _resampled(units, n, seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3]  # nan where no reference has text
    draws = draws[~np.isnan(draws)]
    far = min((draws <= 0).sum(), (draws >= 0).sum())
    return Difference(difference, _percentiles(draws), min(1.0, 2 * (float(far) + 1) / (len(draws) + 1)))


def seeds_interval(values: Sequence[float]) -> Interval | None:
    """95 % t interval of the mean over training seeds; None with fewer than two."""
    if len(values) < 2:
        return None
    from scipy import stats

    x = np.asarray(values, float)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(x) - 1)) * float(x.std(ddof=1)) / np.sqrt(len(x))
    return float(x.mean() - half), float(x.mean() + half)


@dataclass(frozen=True)
class GroupRow:
    """The score of the utterances with one value of one column."""

    column: str
    group: str | None  # None: the column is empty there
    utterances: int
    total: int  # reference characters or words, or utterances
    value: float | None  # None when total is 0
    interval: Interval | None


def by_group(counts: Counts, columns: Mapping[str, ArrayLike], n: int = 1000, seed: int = 0) -> list[GroupRow]:
    """One row for each value of each column ((N,) strings or None): columns as given, values sorted, empty ones last.

    The rows of one column hold every utterance once: their utterances and totals sum to the whole.
    """
    rows = []
    for column, given in columns.items():
        values = np.asarray(given, dtype=object)
        if len(values) != len(counts.totals):
            raise ValueError(
                f"column {column!r} has {len(values)} values, the score has {len(counts.totals)} utterances"
            )
        names: list[str | None] = [*sorted({str(v) for v in values if v is not None})]
        if any(v is None for v in values):
            names.append(None)
        for name in names:
            here = np.array([v is None if name is None else (v is not None and str(v) == name) for v in values])
            part = Counts(counts.events[here], counts.totals[here])
            total = int(part.totals.sum())
            rows.append(
                GroupRow(
                    column,
                    name,
                    int(here.sum()),
                    total,
                    part.value if total else None,
                    bootstrap(*part, n=n, seed=seed),
                )
            )
    return rows
