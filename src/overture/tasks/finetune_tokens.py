"""Fine-tuned tagging of words: which stretches of a text are a name, and of what, with the whole network trained on.

A linear layer on the last hidden state of each word's first token, softmax over B-, I- and O tags, cross-entropy (Devlin et al. 2019,
arXiv:1810.04805, section 5.3), without a transition model. What is judged are spans: one is right where its first and last character and its
label are, counted over all documents (F1 of CoNLL, Tjong Kim Sang & De Meulder 2003; the same number as seqeval's). Long documents are read in
windows, so that every span is asked for; a decoder sees of each word only what stands before.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import numpy as np
import torch
import torch.nn.functional as F

from overture.data.batch import Batch, valid_mask
from overture.data.draws import Draws
from overture.data.spans import Span, Tagged, read, spans_of
from overture.data.table import Table
from overture.data.tokens import Tokens
from overture.errors import OvertureError
from overture.models.tuned import FrameHead, Tuned
from overture.objectives import Loss
from overture.run import ModelSpec, Run
from overture.tasks import metrics
from overture.tasks.finetune import Finetuned, Goal, Judged, Sweep, tune
from overture.tasks.finetune_text import TextRows
from overture.tasks.probe import check_parts


@dataclass(frozen=True, kw_only=True)
class Tagger:
    """The sizes of an encoder with a head of so many tags."""

    encoder: ModelSpec
    tags: int

    def build(self, frontend: Tokens) -> Tuned:
        encoder = self.encoder.build(frontend)
        return Tuned(encoder, FrameHead(encoder.dim, self.tags), frontend)


@dataclass(frozen=True, kw_only=True)
class Tagging:
    """Cross-entropy of the tag of each word, in nats a word."""

    def __call__(self, model: Tuned, batch: Batch, draws: Draws) -> Loss:
        hidden, steps = model(batch.x, batch.lengths)
        wanted = batch.channels["tag"]  # (B, T), 0 where no word begins
        asked = wanted > 0
        logits, tags = model.head(hidden)[asked].float(), wanted[asked] - 1  # (W, C), (W,)
        right = (logits.detach().argmax(-1) == tags).float()
        return Loss(
            sum=F.cross_entropy(logits, tags, reduction="sum"),
            targets=asked.sum(),
            watch={"accuracy": right.mean() if len(right) else right.new_zeros(())},
            frames=hidden.detach()[valid_mask(steps, hidden.shape[1])].float(),
        )


class TaggedRows(TextRows):
    """The rows of a table of text, each in as many windows as it takes."""

    def ask(self, goal: Goal, model: Tuned, rows: np.ndarray, device: torch.device) -> list[np.ndarray]:
        """(V,) of each row what the model makes of its words."""
        examples = self.examples
        found = super().ask(goal, model, np.concatenate([examples.within(row) for row in rows]), device)
        ends = np.cumsum([len(examples.within(row)) for row in rows])
        none = np.zeros(0, dtype=np.int64)  # of a text without a word
        whole = [np.concatenate([none, *found[a:b]]) for a, b in zip([0, *ends[:-1]], ends)]  # (T,) of each row
        return [tags[examples.first[row]] for row, tags in zip(rows, whole)]


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
    """Fine-tune the network of `pretraining` to find the spans in the column `target`, and score it by their F1.

    `train`, `dev`, `test`: row numbers in `table`; a document without spans has an empty list. The rest is as in `finetune_classes.finetune`.
    Raises OvertureError for a column that holds no spans, spans outside their text or over one another, and training rows without any.
    """
    check_parts(train, dev, test, len(table))
    spans, labels = known(table, target, train, np.concatenate([dev, test]), tell)
    rows = TaggedRows(table, pretraining, partial(Tagged, column=target, labels=labels))
    frame = int(not rows.encoder.causal)  # CLS before and SEP behind

    def outputs(model: Tuned, batch: Batch) -> list[np.ndarray]:
        best = model.head(model(batch.x, batch.lengths)[0]).argmax(-1).cpu().numpy()  # (B, T)
        return [line[frame : n - frame] for line, n in zip(best, batch.lengths.tolist())]

    def judge(chosen: np.ndarray, found: Sequence[np.ndarray]) -> Judged:
        said = [spans_of(rows.examples.words[row], tags, labels) for row, tags in zip(chosen, found)]
        return judged(chosen, [spans[row] for row in chosen], said)

    goal = Goal(
        name=f"{target}-tags",
        model=Tagger(encoder=pretraining.model, tags=1 + 2 * len(labels)),
        objective=Tagging(),
        update=rows.update,
        whole=True,
        train=train,
        left_out=[],
        target=target,
        outputs=outputs,
        judge=judge,
        metric="f1",
    )
    return tune(goal, rows, start, dev=dev, test=test, tell=tell, **sweep)


def known(
    table: Table, target: str, train: np.ndarray, held: np.ndarray, tell: Callable[[dict[str, Any]], None]
) -> tuple[list[list[Span]], tuple[str, ...]]:
    """(N,) spans of all rows, and the labels of training, sorted; tells which other labels cannot be found. Raises OvertureError, see `finetune`."""
    spans = read(table, target)
    labels = tuple(sorted({s.label for row in train for s in spans[row]}))
    if not labels:
        raise OvertureError(f"no training row of {table.name!r} has a span in {target!r}: there is nothing to learn")
    unknown = Counter(s.label for row in held for s in spans[row] if s.label not in labels)
    if unknown:
        said = ", ".join(f"{label} ({n})" for label, n in sorted(unknown.items()))
        tell({"kind": "note", "text": f"spans of dev and test whose label training lacks count as missed: {said}"})
    return spans, labels


def judged(rows: np.ndarray, references: list[list[Span]], said: list[list[Span]]) -> Judged:
    """Of each row the spans that it has and that it is said to have, and how they are counted."""
    written = [[" ".join(f"{s.start}-{s.end}:{s.label}" for s in line) for line in both] for both in (references, said)]
    return Judged(rows, written[0], written[1], metrics.spans(references, said))
