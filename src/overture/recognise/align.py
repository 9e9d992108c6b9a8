"""Which frames speak which unit: the best path of a known sequence through connectionist temporal classification (Viterbi 1967).

States are the units with a blank before, between and after them: state 2k + 1 is the k-th unit, even states are blanks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from overture.errors import OvertureError
from overture.recognise.units import BLANK

EXACT = 1 << 26  # frames x states up to which every state is kept; one byte each
WINDOW = (
    1024  # states kept around the best one in longer recordings: 512 units ahead or behind, half a minute of speech
)


@dataclass(frozen=True)
class Alignment:
    """L units on T frames."""

    path: NDArray[np.int64]  # (T,) the state of each frame
    first: NDArray[np.int64]  # (L,) first frame of each unit
    last: NDArray[np.int64]  # (L,) its last frame
    score: NDArray[np.float64]  # (L,) mean log probability of the unit over its frames, nats
    total: float  # log probability of the path, nats


def frames_needed(ids: Sequence[int]) -> int:
    """Fewest frames that can hold a sequence: one a unit and a blank between equal neighbours."""
    return len(ids) + sum(a == b for a, b in pairwise(ids))


def forced(log_probs: NDArray[np.floating], ids: Sequence[int]) -> Alignment:
    """The best path of `ids` (without blanks) through log probabilities (T, C), nats. A unit holds its frames as long as it can.

    Up to 67 million frames x states (10 minutes of slow speech) the path is exact; beyond, states far from the best one are left out.
    Raises OvertureError when the frames cannot hold the ids, or give them no probability; ValueError when ids are no units.
    """
    frames = len(log_probs)
    if frames < max(frames_needed(ids), 1):
        raise OvertureError(f"{len(ids)} units need {max(frames_needed(ids), 1)} frames, there are {frames}")
    if any(not BLANK < i < log_probs.shape[1] for i in ids):
        raise ValueError(f"ids must be between 1 and {log_probs.shape[1] - 1}")
    labels = np.full(2 * len(ids) + 1, BLANK)  # (S,)
    labels[1::2] = ids
    states = len(labels)
    # added to what arrives from two states before: 0 where the blank between may be missed
    jump = np.full(states, -np.inf)
    jump[3::2][labels[3::2] != labels[1:-2:2]] = 0.0
    width = states if frames * states <= EXACT else min(WINDOW, states)

    score = np.full(width, -np.inf)  # of the best path into states low .. low + width - 1
    score[:2] = log_probs[0, labels[:2]]
    back = np.zeros((frames, width), np.uint8)  # how many states the best path advanced into each state
    lows = np.zeros(frames, np.int64)
    before = np.full(width + 2, -np.inf)
    low = 0
    for t in range(1, frames):
        shift = max(min(int(score.argmax()) - width // 2, states - width - low), 0) if width < states else 0
        low += shift
        lows[t] = low
        here = slice(low, low + width)
        before[2 : width + 2 - shift] = score[shift:]
        before[width + 2 - shift :] = -np.inf
        before[:2] = score[shift - 2 : shift] if shift >= 2 else (-np.inf, score[0] if shift else -np.inf)
        stay, step, skip = before[2:], before[1:-1], before[:-2] + jump[here]
        advanced = (step > stay).view(np.uint8)
        score = np.maximum(stay, step)
        np.putmask(advanced, skip > score, 2)
        back[t] = advanced
        score = np.maximum(score, skip) + log_probs[t, labels[here]]

    ends = [s for s in (states - 1, states - 2) if low <= s < low + width]
    state = max(ends, key=lambda s: score[s - low], default=-1)
    total = float(score[state - low]) if ends else -np.inf
    if not np.isfinite(total):
        raise OvertureError(f"the {frames} frames give these {len(ids)} units no probability: is it the right text?")
    path = np.empty(frames, np.int64)
    for t in range(frames - 1, -1, -1):
        path[t] = state
        state -= int(back[t, state - lows[t]])

    at = np.flatnonzero(path % 2)  # frames of units
    unit = path[at] // 2
    first, last = np.searchsorted(unit, np.arange(len(ids))), np.searchsorted(unit, np.arange(len(ids)), "right")
    sums = np.bincount(unit, weights=log_probs[at, labels[path[at]]], minlength=len(ids))
    return Alignment(path, at[first], at[last - 1], sums / np.maximum(last - first, 1), total)
