"""Fine-tuned answer sentence selection: which candidates answer a question, each judged beside it, and ranked.

A network reads question and candidate together and tells a right one from a wrong one; a question's candidates are ranked by how surely,
and the ranking is judged: mean average precision, and beside it the mean reciprocal rank and how often the first one is right (as on WikiQA,
Yang et al. 2015; fine-tuned pair by pair as TANDA, Garg et al. 2020, arXiv:1911.04118). No network here has embeddings of segments, so what
tells the two apart is the token between them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pyarrow as pa

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.table import Table
from overture.data.text import Example
from overture.errors import OvertureError
from overture.models.tuned import Tuned
from overture.run import Run
from overture.tasks.finetune import Finetuned, Goal, Judged, Sweep, tune
from overture.tasks.finetune_classes import Classifier, Classify
from overture.tasks.finetune_text import TextRows
from overture.tasks.metrics import Ranking
from overture.tasks.probe import check_parts, strings

if TYPE_CHECKING:
    from overture.data.encoded import Encoded
    from overture.data.tokens import Special

CLASSES = ("0", "1")  # of a candidate: wrong, right
BETWEEN = "\n\n"  # a question and its candidate, in one text
ENDS = "question_ends"  # column: characters of the question


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One example a row of `joined`: CLS question SEP candidate SEP, or question end candidate end in a decoder.

    A question is cut to half of `length` tokens at most, its candidate to what is left.
    """

    length: int = 128
    framed: bool = True

    def prepare(self, encoded: "Encoded", table: Table, special: "Special", seed: int) -> "Pairs":
        return Pairs(self, encoded, table, special)


class Pairs:
    """The rows of a `Pair`."""

    def __init__(self, pair: Pair, encoded: "Encoded", table: Table, special: "Special") -> None:
        self.framed, self.encoded, self.special = pair.framed, encoded, special
        room = pair.length - (3 if pair.framed else 2)
        first, last = [], []  # of each row, tokens of the question, and where its candidate begins
        for row, end in enumerate(table.numpy(ENDS)):
            starts = encoded.starts(row)
            first.append(int(np.searchsorted(starts, end)))
            last.append(int(np.searchsorted(starts, end + len(BETWEEN))))
        self.begins = np.array(last, dtype=np.int64)
        candidate = encoded.lengths - self.begins
        asked = np.array(first, dtype=np.int64)
        self.asked = np.minimum(
            asked, np.maximum(room // 2, room - candidate)
        )  # a short candidate leaves room to the question
        self.answered = np.minimum(candidate, room - self.asked)

    @property
    def lengths(self) -> np.ndarray:
        return np.asarray(self.asked + self.answered + (3 if self.framed else 2))

    def documents(self, index: int) -> np.ndarray:
        return np.array([index])

    def fetch(self, index: int, draws: Draws) -> Example:
        begin, special = int(self.begins[index]), self.special
        question = self.encoded.ids(index, 0, int(self.asked[index]))
        candidate = self.encoded.ids(index, begin, begin + int(self.answered[index]))
        if self.framed:
            cls, sep = np.array([special.cls]), np.array([special.sep])
            return Example(np.concatenate([cls, question, sep, candidate, sep]))
        end = np.array([special.end])
        return Example(np.concatenate([question, end, candidate, end]))


def joined(table: Table) -> Table:
    """`table` with the question before each `text`, as `Pair` reads them. Raises OvertureError for a row without a question."""
    rows = np.arange(len(table))
    questions, texts = strings(table, "question", rows), strings(table, "text", rows)
    columns = table.columns.set_column(
        table.columns.column_names.index("text"),
        "text",
        pa.array([f"{q}{BETWEEN}{t}" for q, t in zip(questions, texts)], pa.string()),
    )
    columns = columns.append_column(ENDS, pa.array([len(q) for q in questions], pa.int64()))
    return Table(columns, name=table.name, root=table.root, rows=table.rows)


def ranks(table: Table, target: str, rows: np.ndarray, scores: np.ndarray) -> Judged:
    """The candidates in `rows` by their scores (N,), question by question: average precision.

    Of each question the reference says which of its candidates are right, best first ("010"), the hypothesis their ids in that order.
    """
    questions, ids = strings(table, "question", rows), [str(i) for i in table.numpy("id")[rows]]
    found = Ranking.of(questions, np.array(strings(table, target, rows)) == "1", scores)
    return Judged(
        np.array([rows[order[0]] for order in found.orders]),
        ["".join(map(str, right.astype(int))) for right in found.right],
        [" ".join(ids[i] for i in order) for order in found.orders],
        found.average_precision,
    )


def check_labels(table: Table, target: str, rows: np.ndarray) -> None:
    """Raises OvertureError, naming the row, for a label that is neither 0 nor 1."""
    for row, label in zip(rows, strings(table, target, rows)):
        if label not in CLASSES:
            raise OvertureError(
                f"row {table.numpy('id')[row]!r} of {table.name!r}: {target} {label!r} is neither 0 (wrong) nor 1 (right)"
            )


def tell_left_out(
    table: Table, target: str, parts: dict[str, np.ndarray], tell: Callable[[dict[str, Any]], None]
) -> None:
    """Say how many questions of each part have nothing to rank. Raises OvertureError where that is all of them."""
    for part, rows in parts.items():
        found = Ranking.of(
            strings(table, "question", rows), np.array(strings(table, target, rows)) == "1", np.zeros(len(rows))
        )
        if count := len(found.left_out):
            text = f"{count} of {count + len(found.questions)} {part} questions have no right or no wrong candidate and are in no score"
            tell({"kind": "note", "text": text})


def finetune(
    pretraining: Run,
    start: str | None,
    table: Table,
    *,
    target: str,
    train: np.ndarray,
    dev: np.ndarray,
    test: np.ndarray,
    tell: Callable[[dict[str, Any]], None],
    **sweep: Unpack[Sweep],
) -> Finetuned:
    """Fine-tune the network of `pretraining` to tell right candidates (`target` 1) from wrong ones (0), and score its rankings.

    `table`: one row a candidate, with columns `question` and `text`; `train`, `dev`, `test`: row numbers in it, of other questions each. The rest
    is as in `finetune_classes.finetune`. Raises OvertureError for other labels, rows without a question, and parts with nothing to rank.
    """
    check_parts(train, dev, test, len(table))
    check_labels(table, target, np.concatenate([train, dev, test]))
    if len(set(strings(table, target, train))) < 2:
        raise OvertureError("the training rows are all right or all wrong: nothing to tell apart")
    tell_left_out(table, target, {"dev": dev, "test": test}, tell)
    rows = TextRows(joined(table), pretraining, Pair)

    def outputs(model: Tuned, batch: Batch) -> list[np.ndarray]:
        logits = model.head(*model(batch.x, batch.lengths)).float()  # (B, 2)
        return list((logits[:, 1] - logits[:, 0]).cpu().numpy())

    goal = Goal(
        name=f"{target}-ranks",
        model=Classifier(encoder=pretraining.model, classes=len(CLASSES)),
        objective=Classify(classes=CLASSES, column=target),
        update=rows.update,
        whole=False,
        train=train,
        left_out=[],
        target=target,
        outputs=outputs,
        judge=lambda chosen, scores: ranks(table, target, chosen, np.array(scores)),
        metric="map",
    )
    return tune(goal, rows, start, dev=dev, test=test, tell=tell, **sweep)
