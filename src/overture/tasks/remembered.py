"""The control of tagging: what was marked in training is marked again wherever it stands, the longest stretch first.

The baseline of the CoNLL-2003 shared task (Tjong Kim Sang & De Meulder 2003), which knows no context. No network and no pre-training; what a
network adds must show against it.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Container, Sequence

import numpy as np

from overture.data.spans import Span, words
from overture.data.table import Table
from overture.tasks.finetune import Judged
from overture.tasks.finetune_tokens import judged, known
from overture.tasks.probe import ProbeResult, check_parts, scored

SHARES = (0.0, 0.25, 0.5, 0.75)
Words = tuple[str, ...]


def tag_texts(
    table: Table,
    *,
    target: str,
    train: np.ndarray,
    dev: np.ndarray,
    test: np.ndarray,
    shares: Sequence[float] = SHARES,
) -> ProbeResult:
    """Stretches of words that were marked in training, marked again with their most frequent label. Arguments as in `finetune_tokens.finetune`.

    `rate` and `dev` of the result are over `shares`: a stretch is marked where it was in more than that share of its places in training, as
    the development rows choose. Nothing is drawn.
    """
    began = time.perf_counter()
    check_parts(train, dev, test, len(table))
    spans, _ = known(table, target, train, np.concatenate([dev, test]), lambda record: None)
    texts = table.columns.column("text").to_pylist()
    places = {int(row): words(texts[row]) for row in np.concatenate([train, dev, test])}
    cut = {row: [texts[row][a:b] for a, b in where.tolist()] for row, where in places.items()}
    marked: dict[Words, Counter[str]] = defaultdict(Counter)
    for row in train.tolist():
        for span in spans[row]:
            inside = (places[row][:, 0] >= span.start) & (places[row][:, 0] < span.end)
            if inside.any():  # or it begins in the middle of a word
                marked[tuple(cut[row][i] for i in np.flatnonzero(inside))][span.label] += 1
    longest = max(map(len, marked), default=0)
    seen = Counter(line for row in train.tolist() for _, _, line in _stretches(cut[row], marked, longest))

    def said(rows: np.ndarray, share: float) -> list[list[Span]]:
        kept = {line: n.most_common(1)[0] for line, n in marked.items()}
        kept = {line: found for line, found in kept.items() if found[1] > share * seen[line]}
        return [_longest(cut[row], places[row], kept, longest) for row in rows.tolist()]

    def judge(rows: np.ndarray, share: float) -> Judged:
        return judged(rows, [spans[row] for row in rows], said(rows, share))

    scores = {share: judge(dev, share).counts.value for share in shares}
    best = max(shares, key=lambda share: scores[share])
    found = judge(test, best)
    return scored(
        table,
        test,
        "f1",
        found.counts,
        found.references,
        found.hypotheses,
        rate=best,
        dev=scores,
        dev_curve=[],
        layer_weights=[],
        left_out=[],
        began=began,
        seed=0,
    )


def _stretches(cut: list[str], kept: Container[Words], longest: int) -> list[tuple[int, int, Words]]:
    """The stretches of words (first, one beyond the last) that are in `kept`, longest first at each place."""
    ranges = ((i, j) for i in range(len(cut)) for j in range(min(i + longest, len(cut)), i, -1))
    return [(i, j, line) for i, j in ranges if (line := tuple(cut[i:j])) in kept]


def _longest(cut: list[str], where: np.ndarray, kept: dict[Words, tuple[str, int]], longest: int) -> list[Span]:
    found: list[Span] = []
    free = 0
    for i, j, line in _stretches(cut, kept, longest):
        if i >= free:
            found.append(Span(int(where[i, 0]), int(where[j - 1, 1]), kept[line][0]))
            free = j
    return found
