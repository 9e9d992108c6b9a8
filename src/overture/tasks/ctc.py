"""The loss of connectionist temporal classification (Graves et al. 2006), and which transcripts it can learn.

What is written (characters, pieces of words, phones) stands in `recognise.units`, how it is read off in `recognise.decode`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

BLANK = 0  # the id that stands for "nothing new"


def ctc_losses(logits: Tensor, logit_lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Negative log likelihood of each transcript, in nats: (B, T, C), (B,), (B, S) padded ids, (B,) -> (B,).

    Infinite where the frames cannot hold the transcript (see `infeasible`). Always computed in float32.
    """
    log_probs = logits.float().log_softmax(-1).transpose(0, 1)  # (T, B, C)
    return F.ctc_loss(log_probs, targets, logit_lengths, target_lengths, blank=BLANK, reduction="none")


def ctc_loss_sum(
    logits: Tensor, logit_lengths: Tensor, targets: Tensor, target_lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """(sum of the losses in nats, count of units): arguments as in `ctc_losses`.

    The count is units, so that the loss reads as nats a unit, whatever the length of the utterances, and long utterances weigh
    more than short ones, as they do in CER. An empty transcript counts as one unit: its blanks have a loss as well.
    """
    return ctc_losses(logits, logit_lengths, targets, target_lengths).sum(), target_lengths.clamp(min=1).sum()


def frames_needed(ids: Sequence[int]) -> int:
    """Fewest frames that can hold a transcript: one a unit and a blank between equal neighbours."""
    return len(ids) + sum(a == b for a, b in pairwise(ids))


@dataclass(frozen=True)
class Infeasible:
    """A row whose frames cannot hold its transcript: its loss is infinite, so it must not be trained on."""

    id: str
    frames: int
    needed: int


def infeasible(rows: Iterable[tuple[str, int, Sequence[int]]]) -> list[Infeasible]:
    """Of `rows` (id, frames of the encoder, encoded transcript), those with too few frames for their transcript."""
    checked = (Infeasible(name, int(frames), frames_needed(ids)) for name, frames, ids in rows)
    return [row for row in checked if row.frames < row.needed]
