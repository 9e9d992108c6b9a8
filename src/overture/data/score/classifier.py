"""Two heaps of rows, and for every text the probability of belonging to the first: hashed bags of words and logistic regression.

The quality classifier of GLaM, PaLM and a pre-trainer's guide (Longpre et al. 2023, arXiv:2305.13169), and, with a labelled column, a
classifier of toxicity or hate that selects a corpus (Spread Love Not Hate, 2022, arXiv:2210.04267). One polarity everywhere: 1 is like the rows named
`positive`. So `quality` is high for good text and `toxicity` for toxic text. (That guide's own quality score has 1 for the worst: its filter
"drop above 0.9" is `--where "quality >= 0.1"` here.)
"""

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from overture.data.score import Ready
from overture.data.score.text import are_code, column, lists, segments, texts, words
from overture.data.table import Table
from overture.errors import OvertureError

FEATURES = 1 << 18
HELD_OUT = 10  # one row in so many judges the classifier and does not train it
SOURCES = {"positive", "negative"}


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """P(positive) of a text, in a column of this name.

    Rows that it is trained on are judged too kindly, or too harshly: for what they are worth, corpus.json says how well it ranks rows that
    it was not trained on (`auc`, of every tenth by hash, which are in neither heap).
    """

    name: str
    positive: str = ""  # SQL: rows that shall be near 1
    negative: str = ""  # SQL: rows that shall be near 0
    reference: str | None = None  # the corpus that both are of; None: the one that is scored
    segments: bool = False  # of each segment too

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.name, f"{self.name}_segments") if self.segments else (self.name,)

    def sources(self, table: Table) -> dict[str, Any]:
        return {
            side: {"corpus": rows.name, "rows": len(rows), "fingerprint": rows.fingerprint}
            for side, rows in zip(("positive", "negative"), self._heaps(table))
        }

    def ready(self, table: Table) -> Ready:
        """Trains it. Raises OvertureError when a heap has fewer than two rows to train on or to judge by, and where rows are in both."""
        from sklearn.feature_extraction.text import HashingVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import roc_auc_score

        known = [
            (text, label)
            for label, rows in ((1, self._heaps(table)[0]), (0, self._heaps(table)[1]))
            for text in texts(rows)
            if text
        ]
        aside = np.array([_tenth(text) for text, _ in known])
        labels = np.array([label for _, label in known])
        for side, label in (("positive", 1), ("negative", 0)):
            if ((labels == label) & ~aside).sum() < 2 or ((labels == label) & aside).sum() < 1:
                count = int((labels == label).sum())
                raise OvertureError(
                    f"{self.name}.{side}: {count} texts are too few to train a classifier on and to judge it by; name more rows"
                )
        bags = HashingVectorizer(analyzer=_bag, n_features=FEATURES, alternate_sign=False, norm="l2")
        # liblinear looks at the features that are there, lbfgs at all 2^18 in each step: eight times as long
        model = LogisticRegression(class_weight="balanced", C=10.0, solver="liblinear")
        model.fit(bags.transform([text for (text, _), out in zip(known, aside) if not out]), labels[~aside])

        def probability(some: list[str]) -> np.ndarray:
            return np.asarray(model.predict_proba(bags.transform(some))[:, 1]) if some else np.zeros(0)

        judged = probability([text for (text, _), out in zip(known, aside) if out])
        auc = float(roc_auc_score(labels[aside], judged))

        def score(rows: Table) -> dict[str, pa.Array]:
            found = texts(rows)
            there = [i for i, text in enumerate(found) if text]
            values = np.full(len(found), np.nan)
            values[there] = probability([found[i] or "" for i in there])
            columns = {self.name: column(values.tolist())}
            if self.segments:
                parts = [None if t is None else segments(t, bool(c)) for t, c in zip(found, are_code(rows))]
                flat = iter(probability([s for part in parts if part for s in part]).tolist())
                columns[f"{self.name}_segments"] = lists(
                    [None if part is None else [next(flat) for _ in part] for part in parts]
                )
            return columns

        return Ready(score, {"trained_on": int((~aside).sum()), "judged_by": int(aside.sum()), "auc": round(auc, 4)})

    def _heaps(self, table: Table) -> tuple[Table, Table]:
        if not self.positive or not self.negative:
            raise OvertureError(
                f"{self.name} needs to be told what is what in SQL: --set \"{self.name}.positive=label = 'good'\" "
                f"--set \"{self.name}.negative=label = 'bad'\""
            )
        whole = Table.open(self.reference) if self.reference else table
        positive, negative = whole.where(self.positive), whole.where(self.negative)
        if both := set(positive.numpy("id")) & set(negative.numpy("id")):
            raise OvertureError(
                f"{self.name}: {len(both)} rows of {whole.name!r} are positive and negative, such as {min(both)!r}"
            )
        return positive, negative


def _bag(text: str) -> list[str]:
    """Words and pairs of them, without case."""
    found = words(text.lower())
    return found + [f"{a} {b}" for a, b in pairwise(found)]


def _tenth(text: str) -> bool:
    return hashlib.sha1(text.encode()).digest()[0] % HELD_OUT == 0


QUALITY = Classifier(name="quality")
TOXICITY = Classifier(name="toxicity")
