"""Which class each frame has, as an alignment says: cross-entropy by frames, the whole encoder learning (hybrid recognition, HYKIST).

Labels may be finer than the encoder's states, as 10 ms beside 20: the head then gives each state the scores of all its labels, which is
a transposed convolution whose kernel is as wide as its stride. Labels are made for exactly the states there are, so another number of
them is an error, not something to crop.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from overture.data.alteration import Alteration
from overture.data.batch import Batch, valid_mask
from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.models.tuned import LatentMask, Tuned
from overture.objectives import Loss

COLUMN = "frame_labels"
UNLABELLED = -1  # a frame outside of the alignment: not learnt from


def write_labels(labels: Iterable[int]) -> str:
    """Labels as they stand in a table's column, in runs: [7 7 -1] -> '7:2 -1:1'."""
    return " ".join(f"{label}:{sum(1 for _ in run)}" for label, run in groupby(labels))


def label_logits(logits: Tensor, factor: int) -> Tensor:
    """(B, T, factor * C) scores of states -> (B, T * factor, C) scores of labels."""
    batch, steps, _ = logits.shape
    return logits.reshape(batch, steps * factor, -1)


@dataclass(frozen=True, kw_only=True)
class FrameLabels:
    """Cross-entropy in nats a labelled frame, on altered input."""

    classes: int
    factor: int  # labels of a state
    alteration: Alteration | None = None
    mask: LatentMask | None = None  # of an encoder of samples
    column: str = COLUMN

    def encode(self, value: str, row: str) -> list[int]:
        """What `write_labels` wrote. Raises OvertureError for anything else, and for a class that there is not."""
        labels: list[int] = []
        for run in value.split():
            found = re.fullmatch(r"(-?\d+):(\d+)", run)
            if not found or not UNLABELLED <= int(found[1]) < self.classes:
                raise OvertureError(
                    f"row {row!r}, column {self.column!r}: {run!r} is no run of frames of one of {self.classes} classes. Align again."
                )
            labels += [int(found[1])] * int(found[2])
        return labels

    def __call__(self, model: Tuned, batch: Batch, draws: Draws) -> Loss:
        """Raises OvertureError when a row's labels are not `factor` times its states."""
        if batch.labels is None or batch.label_lengths is None:
            raise ValueError("frame labels need a batch with labels")
        x = self.alteration(batch, draws, model.input_rate)[0] if self.alteration else batch.x
        hidden = model.draw(self.mask, batch.rows, x, batch.lengths, draws) if self.mask else None
        last, steps = model(x, batch.lengths, hidden)
        wrong = torch.nonzero(batch.label_lengths != steps * self.factor)
        if len(wrong):
            b = int(wrong[0])
            raise OvertureError(
                f"row number {int(batch.rows[b])}: {int(batch.label_lengths[b])} labels, {int(steps[b])} states of {self.factor} labels each. "
                "Labels are of recordings as they are: no change of speed, no cropping."
            )
        logits = label_logits(model.head(last), self.factor).float()  # (B, T * factor, C)
        learnt = valid_mask(batch.label_lengths, logits.shape[1])
        labels = F.pad(batch.labels, (0, logits.shape[1] - batch.labels.shape[1]), value=UNLABELLED)
        learnt &= labels != UNLABELLED
        scores, right = logits[learnt], labels[learnt]  # (N, C), (N,)
        valid = valid_mask(steps, last.shape[1])
        return Loss(
            sum=F.cross_entropy(scores, right, reduction="sum"),
            targets=learnt.sum(),
            watch={"accuracy": (scores.detach().argmax(-1) == right).sum() / learnt.sum().clamp(min=1)},
            frames=last.detach()[valid].float(),
        )
