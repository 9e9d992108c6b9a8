"""An encoder, of speech or of text, with a head of a task, for fine-tuning; and what wav2vec 2.0 hides from itself while it is fine-tuned.

Baevski et al. 2020, arXiv:2006.11477, section 3.3: spans of the projected frames become the learnt mask vector, spans of channels
become zero, as SpecAugment does to a spectrogram.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from overture.data.batch import valid_mask
from overture.data.draws import Draws
from overture.data.masks import SpanMask
from overture.data.tokens import Tokens
from overture.run import Frontend

HIDE = 7  # purpose of a draw


@dataclass(frozen=True, kw_only=True)
class LatentMask:
    """How much is hidden. The paper begins a span at .075 of the frames and .008 of the channels; few updates learn little then."""

    start: float = 0.01  # of the frames begin a span, so that a tenth is hidden, as by our SpecAugment
    seconds: float = 0.2  # of a span
    channel_start: float = 0.004  # of the channels begin a span that is zero for the whole utterance
    channel_width: float = 64 / 768  # of a span, as a share of the channels

    def draw(
        self, rows: Tensor, steps: Tensor, total: int, dim: int, rate: float, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Row numbers (B,), valid frames (B,), padded frames, D, Hz -> frames (B, total) and channels (B, D), true where hidden.

        Numbers of spans are rounded at random, so that of short utterances as much is hidden as of long ones, on average.
        """
        frames, channels = np.zeros((len(rows), total), dtype=bool), np.zeros((len(rows), dim), dtype=bool)
        width = max(1, round(self.channel_width * dim))
        for b, (row, length) in enumerate(zip(rows.tolist(), steps.tolist())):
            rng = draws.example(row, HIDE)
            spans = SpanMask(start=0.0, seconds=self.seconds, at_least=int(self.start * length + rng.random()))
            frames[b, :length] = spans.draw(length, rate, rng)
            count = int(self.channel_start * dim + rng.random())
            starts = rng.choice(dim - width + 1, min(count, dim - width + 1), replace=False)
            channels[b, starts[:, None] + np.arange(width)] = True
        return torch.from_numpy(frames).to(rows.device), torch.from_numpy(channels).to(rows.device)


def can_hide(encoder: Any, frontend: Frontend | Tokens) -> bool:
    """Whether an encoder is one of samples that has a learnt vector for hidden frames, as wav2vec 2.0 has."""
    return not isinstance(frontend, Tokens) and frontend.dim == 0 and hasattr(encoder, "hide")


class FrameHead(nn.Module):
    """Scores of units for each frame: what a CTC recogniser reads off."""

    def __init__(self, dim: int, size: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(dim, size)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> logits (B, T, C)."""
        scores: Tensor = self.output(self.dropout(hidden))
        return scores


class Tuned(nn.Module):
    """An encoder and a head on its last hidden state. What that state does not depend on (heads and quantizers of pre-training) is frozen."""

    def __init__(self, encoder: Any, head: nn.Module, frontend: Frontend | Tokens) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.input_rate = (
            0.0 if isinstance(frontend, Tokens) else frontend.frame_rate
        )  # Hz, of the input's steps; text has none
        for parameter in unused(encoder, frontend):
            parameter.requires_grad_(False)

    def forward(self, x: Tensor, lengths: Tensor, hidden: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """(B, T, F) or (B, T), (B,) -> the last hidden state (B, T', D) and its lengths (B,).

        hidden: (B, T') frames and (B, D) channels, true where an encoder that can is not to see them.
        """
        return last_state(self.encoder, x, lengths, hidden)

    def draw(self, mask: LatentMask, rows: Tensor, x: Tensor, lengths: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """What `mask` hides of a batch, for `forward`."""
        total = int(self.encoder.steps(torch.tensor([x.shape[1]])))
        return mask.draw(rows, self.encoder.steps(lengths), total, self.encoder.dim, self.encoder.frame_rate, draws)


def last_state(
    encoder: Any, x: Tensor, lengths: Tensor, hidden: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """(B, T, F) or (B, T), (B,) -> (B, T', D), (B,): see `Tuned.forward`."""
    if hidden is None:
        states, steps = encoder.states(x, lengths)
        return states[-1], steps
    frames, channels = hidden
    steps = encoder.steps(lengths)
    projected, _ = encoder.project(encoder.frames(x))  # (B, T', D)
    projected = encoder.hide(projected, frames).masked_fill(channels[:, None], 0)
    (last,) = encoder.context(projected, valid_mask(steps, projected.shape[1]), every=False)
    return last, steps


def unused(encoder: Any, frontend: Frontend | Tokens) -> list[nn.Parameter]:
    """The parameters that the encoder's last hidden state does not depend on, nor would with frames hidden."""
    if isinstance(frontend, Tokens):
        count, x = 2, torch.zeros(1, 2, dtype=torch.int64)
    else:
        count = frontend.steps(frontend.rate)  # of a second
        x = torch.zeros((1, count, frontend.dim) if frontend.dim else (1, count))
    lengths = torch.tensor([count])
    hidden = None
    if can_hide(encoder, frontend):
        first = torch.arange(int(encoder.steps(lengths)))[None] == 0  # (1, T'): one hidden frame
        hidden = first, torch.zeros(1, encoder.dim, dtype=torch.bool)
    parameters = [p for p in encoder.parameters() if p.requires_grad]
    training = [m for m in encoder.modules() if m.training]
    encoder.eval()  # nothing is drawn, no statistic moves
    try:
        last, _ = last_state(encoder, x, lengths, hidden)
        gradients = torch.autograd.grad(last.sum(), parameters, allow_unused=True)
    finally:
        for module in training:
            module.training = True
    return [p for p, gradient in zip(parameters, gradients) if gradient is None]
