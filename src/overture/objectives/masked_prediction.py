"""Masked prediction: cross-entropy over the ids of hidden frames (HuBERT, w2v-BERT, BEST-RQ, BEATs; BERT's loss for speech).

Which frames are hidden and where their ids come from is the caller's business; only hidden frames are handed in.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Prediction(NamedTuple):
    """What `masked_cross_entropy` gives."""

    sum: Tensor  # () differentiable: nats, summed over the M frames
    accuracy: Tensor  # () detached: share of frames whose likeliest id is the right one


def masked_cross_entropy(logits: Tensor, ids: Tensor, target: Tensor | None = None) -> Prediction:
    """Cross-entropy of the ids (M,) int64 of hidden frames under logits (M, V), in float32 whatever autocast says.

    target: (M, V) stands for the one-hot vectors of the ids where a gradient is to pass through them (`straight_through`); else
    none reaches whatever made the ids. The accuracy says little without how many ids are in use: log that beside it.
    """
    with torch.autocast(logits.device.type, enabled=False):
        scores = logits.float()
        total = F.cross_entropy(scores, ids if target is None else target, reduction="sum")
    return Prediction(total, (logits.detach().argmax(-1) == ids).sum() / max(len(ids), 1))


def straight_through(ids: Tensor, probabilities: Tensor) -> Tensor:
    """(M,) int64 ids, (M, V) the probabilities they were taken from -> (M, V): one-hot forwards, the probabilities backwards."""
    hard = F.one_hot(ids, probabilities.shape[-1]).to(probabilities.dtype)
    return hard + (probabilities - probabilities.detach())
