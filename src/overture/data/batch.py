"""What the loader hands to an objective, and what an encoder hands back: padded tensors with honest lengths."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Utterances, or stretches of text, padded to the longest. Nothing may depend on the padding (law 3)."""

    rows: Tensor  # (B,) int64, row numbers in the table, or of stretches of text: the key of every per-example random draw
    x: Tensor  # (B, T, F) features, (B, T) samples or (B, T) int64 ids of tokens
    lengths: Tensor  # (B,) int64, valid steps of x

    labels: Tensor | None = None  # (B, S) int64 ids of transcripts, zero-padded, for objectives that have labels
    label_lengths: Tensor | None = None  # (B,) int64
    channels: Mapping[str, Tensor] = field(default_factory=dict)  # (B, T) that say something of each token or frame
    audio: Tensor | None = (
        None  # (A, S, F) features of the recordings in the text, in the order in which they stand there
    )
    audio_lengths: Tensor | None = None  # (A,) int64
    voices: Tensor | None = None  # (B, E) float32, of who speaks in each (`overture.data.voices`)
    real: bool = True  # false: a device has it only to do as many as the others; statistics must leave it out

    def to(self, device: torch.device | str) -> Self:
        if torch.device(device).type == "cpu":
            return self
        moved: dict[str, Any] = {
            k: t.to(device, non_blocking=True) for k, t in vars(self).items() if isinstance(t, Tensor)
        }
        channels = {k: t.to(device, non_blocking=True) for k, t in self.channels.items()}
        return replace(self, **moved, channels=channels)

    @property
    def valid(self) -> Tensor:
        """(B, T) bool, true where x is not padding."""
        return valid_mask(self.lengths, self.x.shape[1])


def valid_mask(lengths: Tensor, steps: int) -> Tensor:
    """(B,) lengths -> (B, steps) bool, true before each length."""
    return torch.arange(steps, device=lengths.device)[None] < lengths[:, None]


class States(NamedTuple):
    """All hidden states of an encoder: the input projection first, then one a layer."""

    hidden: tuple[Tensor, ...]  # (L + 1) of (B, T', D)
    lengths: Tensor  # (B,) int64, valid steps of each


class Encoder(Protocol):
    """What a probe, a fine-tuning head or an exporter needs of a pre-trained model."""

    frame_rate: float  # Hz, of the hidden states
    dim: int  # D

    def states(self, x: Tensor, lengths: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """(B, T, F) or (B, T), (B,) -> States, or a plain tuple of the same."""
        ...

    def steps(self, lengths: Tensor) -> Tensor:
        """(B,) valid steps of the input -> (B,) valid steps of the hidden states."""
        ...
