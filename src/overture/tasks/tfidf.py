"""The control of text: which words and spellings a document has, weighed by how rare they are (tf-idf), and a logistic regression on that.

Candidates that answer a question are ranked by what they share with it, in the same terms.

No network and no pre-training, and hard to beat with few labels; what a network adds must show against it. Words and pairs of words stand beside
pieces of 3 to 5 letters within words, counts are taken as 1 + log(count), vocabulary and rarity are of the training rows alone. Its own sweep, of
how strongly the regression is held back, is chosen on the development rows, as the rates of networks are.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from overture.data.table import Table
from overture.tasks import metrics
from overture.tasks.classify import classes_of
from overture.tasks.finetune_rank import check_labels, ranks
from overture.tasks.probe import ProbeResult, check_parts, scored, strings

STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)  # scikit-learn's C: the higher, the less is held back
ROUNDS = 2000  # of the solver, at most
SHARES = (0.0, 0.5, 1.0)


def _vectorizers() -> tuple[Any, Any]:
    """Of words and pairs of words, and of pieces of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    return words, TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)


def classify_texts(
    table: Table,
    *,
    target: str,
    train: np.ndarray,
    dev: np.ndarray,
    test: np.ndarray,
    strengths: Sequence[float] = STRENGTHS,
) -> ProbeResult:
    """Which value of the column `target` a document has, by its words; accuracy. `train`, `dev`, `test`: row numbers in `table`.

    `rate` and `dev` of the result are over `strengths`. Nothing is drawn. Raises OvertureError as `classify` does.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_union

    began = time.perf_counter()
    check_parts(train, dev, test, len(table))
    classes_of(table, target, train=train, dev=dev, test=test)
    features = make_union(*_vectorizers())
    inputs = {"train": features.fit_transform(strings(table, "text", train))}
    inputs |= {part: features.transform(strings(table, "text", rows)) for part, rows in (("dev", dev), ("test", test))}
    wanted = {part: strings(table, target, rows) for part, rows in (("train", train), ("dev", dev), ("test", test))}
    fitted = {c: LogisticRegression(C=c, max_iter=ROUNDS).fit(inputs["train"], wanted["train"]) for c in strengths}
    scores = {c: metrics.accuracy(wanted["dev"], list(m.predict(inputs["dev"]))).value for c, m in fitted.items()}
    best = max(strengths, key=lambda c: scores[c])  # the first of equals: the one that is held back most
    hypotheses = [str(v) for v in fitted[best].predict(inputs["test"])]
    return scored(
        table,
        test,
        "accuracy",
        metrics.accuracy(wanted["test"], hypotheses),
        wanted["test"],
        hypotheses,
        rate=best,
        dev=scores,
        dev_curve=[],
        layer_weights=[],
        left_out=[],
        began=began,
        seed=0,
    )


def rank_texts(
    table: Table,
    *,
    target: str,
    train: np.ndarray,
    dev: np.ndarray,
    test: np.ndarray,
    shares: Sequence[float] = SHARES,
) -> ProbeResult:
    """Candidates ranked by the cosine between each and its question; mean average precision. Arguments as in `finetune_rank.finetune`.

    `rate` and `dev` of the result are over `shares`, how much of a score is of pieces of words. Rarity is counted over all parts, as in
    retrieval: a question asks for words that no training row has. No label is used but to choose the share.
    """
    began = time.perf_counter()
    check_parts(train, dev, test, len(table))
    check_labels(table, target, np.concatenate([dev, test]))
    whole = np.concatenate([train, dev, test])
    known = [*strings(table, "text", whole), *dict.fromkeys(strings(table, "question", whole))]
    vectorizers = [v.fit(known) for v in _vectorizers()]

    def cosines(rows: np.ndarray) -> list[np.ndarray]:
        """(N,) by words, and by pieces of words."""
        questions, texts = strings(table, "question", rows), strings(table, "text", rows)
        return [
            np.asarray(v.transform(questions).multiply(v.transform(texts)).sum(axis=1)).ravel() for v in vectorizers
        ]

    def mixed(both: list[np.ndarray], share: float) -> np.ndarray:
        return np.asarray((1 - share) * both[0] + share * both[1])

    of_dev = cosines(dev)
    scores = {share: ranks(table, target, dev, mixed(of_dev, share)).counts.value for share in shares}
    best = max(shares, key=lambda share: scores[share])
    judged = ranks(table, target, test, mixed(cosines(test), best))
    return scored(
        table,
        judged.rows,
        "map",
        judged.counts,
        judged.references,
        judged.hypotheses,
        rate=best,
        dev=scores,
        dev_curve=[],
        layer_weights=[],
        left_out=[],
        began=began,
        seed=0,
    )
