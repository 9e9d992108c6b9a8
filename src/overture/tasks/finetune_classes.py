"""Fine-tuned classification of utterances and of documents: the mean of the last hidden states, a linear layer, softmax."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from overture.data.alteration import Alteration
from overture.data.batch import Batch, valid_mask
from overture.data.draws import Draws
from overture.data.table import Table
from overture.data.tokens import Tokens
from overture.errors import OvertureError
from overture.models.tuned import LatentMask, Tuned
from overture.objectives import Loss
from overture.run import Frontend, ModelSpec, Run
from overture.tasks import metrics
from overture.tasks.classify import classes_of
from overture.tasks.finetune import Finetuned, Goal, Rows, Sweep, one_by_one, tune
from overture.tasks.finetune_text import TextRows
from overture.tasks.probe import check_parts, strings

UPDATE_SECONDS = 30.0


class MeanHead(nn.Module):
    """Logits of the mean over an utterance's own frames, or a document's own tokens."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.output = nn.Linear(dim, classes)

    def forward(self, hidden: Tensor, steps: Tensor) -> Tensor:
        """(B, T, D), (B,) -> (B, C)."""
        valid = valid_mask(steps, hidden.shape[1])[..., None]  # (B, T, 1)
        mean = hidden.float().masked_fill(~valid, 0).sum(1) / steps[:, None]  # (B, D); padding may hold anything
        logits: Tensor = self.output(mean)
        return logits


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """The sizes of an encoder with a head of so many classes."""

    encoder: ModelSpec
    classes: int

    def build(self, frontend: Frontend | Tokens) -> Tuned:
        encoder = self.encoder.build(frontend)
        return Tuned(encoder, MeanHead(encoder.dim, self.classes), frontend)


@dataclass(frozen=True, kw_only=True)
class Classify:
    """Cross-entropy on altered input, in nats an utterance."""

    classes: tuple[str, ...]
    column: str
    alteration: Alteration | None = None
    mask: LatentMask | None = None  # of an encoder of samples

    def encode(self, value: str, row: str) -> list[int]:
        if value not in self.classes:
            raise OvertureError(f"row {row!r}: {self.column} {value!r} is none of the {len(self.classes)} classes")
        return [self.classes.index(value)]

    def __call__(self, model: Tuned, batch: Batch, draws: Draws) -> Loss:
        if batch.labels is None:
            raise ValueError("classification needs a batch with labels")
        x = self.alteration(batch, draws, model.input_rate)[0] if self.alteration else batch.x
        unseen = model.draw(self.mask, batch.rows, x, batch.lengths, draws) if self.mask else None
        hidden, steps = model(x, batch.lengths, unseen)
        logits, labels = model.head(hidden, steps).float(), batch.labels[:, 0]  # (B, C), (B,)
        right = (logits.detach().argmax(-1) == labels).float().mean()
        valid = valid_mask(steps, hidden.shape[1])
        return Loss(
            sum=F.cross_entropy(logits, labels, reduction="sum"),
            targets=torch.tensor(len(labels), device=labels.device),
            watch={"accuracy": right},
            frames=hidden.detach()[valid].float(),
        )


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
    """Fine-tune the encoder of `pretraining` to tell the values of the column `target` apart, and score it by accuracy.

    `start` names its run folder under `home`, None is from scratch; `train`, `dev`, `test`: row numbers in `table`; `sweep`: see `tune`. Utterances
    over `data.max_seconds` of the pre-training are cropped, at a drawn place in training and in front when scored; documents, to their
    beginning, `data.text.length` tokens. Raises
    OvertureError for rows without a target or without a frame and for a class that only dev or test has, before any training.
    """
    check_parts(train, dev, test, len(table))
    classes = tuple(classes_of(table, target, train=train, dev=dev, test=test))
    rows: Rows | TextRows
    if pretraining.on_text:
        rows = TextRows(table, pretraining)
        update = rows.update
    else:
        rows, update = Rows(table, pretraining), UPDATE_SECONDS
        rows.steps(np.concatenate([train, dev, test]))  # says which row is too short

    def outputs(model: Tuned, batch: Batch) -> list[np.ndarray]:
        return list(model.head(*model(batch.x, batch.lengths)).float().cpu().numpy())  # of (C,) each

    goal = Goal(
        name=f"{target}-classes",
        model=Classifier(encoder=pretraining.model, classes=len(classes)),
        objective=Classify(classes=classes, column=target, alteration=rows.alteration, mask=rows.mask),
        update=update,
        whole=False,
        train=train,
        left_out=[],
        target=target,
        outputs=outputs,
        judge=one_by_one(
            references=lambda chosen: strings(table, target, chosen),
            answer=lambda logits: classes[int(logits.argmax())],
            count=metrics.accuracy,
        ),
        metric="accuracy",
    )
    return tune(goal, rows, start, dev=dev, test=test, tell=tell, **sweep)
