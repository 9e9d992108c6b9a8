"""Say what a text says in a given voice, one step after the other: mel frames, and where to end (Jia et al. 2018, arXiv:1806.04558, section 2.2).

    l = (a - x)^2 + |a - x| + (b - x)^2 + |b - x|  +  BCE(end)  +  what the attention has far from the diagonal

for each frame x, with a before and b after the postnet, means over channels: squares as in Tacotron 2, and the absolute error that the
paper adds against noisy recordings. Steps see true frames before them. Targets are frames, so every term is a sum over frames, also
the last: guided attention (Tachibana et al. 2018, arXiv:1710.08969), which a Transformer needs to find a text's order where Tacotron 2's
attention moves on by itself. SpeechT5 divides that by the length of the text and multiplies it by 10; here it is the share of a step's
attention itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from overture.data.batch import Batch, valid_mask
from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.objectives import Loss

if TYPE_CHECKING:
    from overture.models.synthesiser import SynthesiserModel

ENDS = (
    5.0  # how many times as much the last frame's end counts as another's, as in SpeechT5: there is one among a hundred
)
GUIDED = 2  # heads of each layer that are kept near the diagonal, as in SpeechT5


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """Error of a frame. The text is a column of phones."""

    column: str = "phones"
    guide: float = 1.0  # weight of the attention's distance from the diagonal
    width: float = 0.4  # of the diagonal, as a share of the text

    uncropped = True  # no utterance may be cropped: its text would say more

    def encode(self, value: Sequence[str], row: str) -> list[int]:
        """Ids of phones and of the end. Raises OvertureError for a row without, and for a phone that there is not."""
        from overture.models.synthesiser import symbols

        if len(value) == 0:
            raise OvertureError(
                f'row {row!r} has no {self.column}: leave such rows out with --where "{self.column} IS NOT NULL"'
            )
        try:
            return symbols(value)
        except ValueError as error:
            raise OvertureError(f"row {row!r}, column {self.column!r}: {error}. Score it again.") from error

    def __call__(self, model: "SynthesiserModel", batch: Batch, draws: Draws) -> Loss:
        """Raises OvertureError where nobody says who speaks, or in other vectors than the model takes."""
        if batch.voices is None or batch.voices.shape[1] != model.spec.voice:
            said = "no vector" if batch.voices is None else f"{batch.voices.shape[1]} numbers"
            raise OvertureError(
                f"model.voice={model.spec.voice} numbers say who speaks, and data.voices gives {said}: set data.voices, or model.voice"
            )
        assert batch.labels is not None and batch.label_lengths is not None  # of `encode`
        valid = batch.valid  # (B, T)
        made = model(batch.x, batch.lengths, batch.labels, batch.label_lengths, batch.voices)
        steps, frames = model.steps(batch.lengths), batch.x.shape[1]
        error = batch.x.new_zeros(valid.shape)
        for found in (made.before, made.after):
            missing = found[:, :frames].float() - batch.x  # (B, T, F)
            error = error + (missing.square() + missing.abs()).mean(2)
        last = F.one_hot(batch.lengths - 1, frames).float()  # (B, T)
        ends = F.binary_cross_entropy_with_logits(
            made.stop[:, :frames].float(), last, reduction="none", pos_weight=last.new_tensor(ENDS)
        )
        begun = torch.arange(made.hidden.shape[1], device=steps.device) * model.reduction  # (S,)
        share = (batch.lengths[:, None] - begun).clamp(0, model.reduction)  # (B, S) frames of each step
        looked = torch.stack([a[:, :GUIDED].float().mean(1) for a in made.read]).mean(0)  # (B, S, N)
        astray = (looked * off_diagonal(steps, batch.label_lengths, looked.shape[1:], self.width)).sum(2) * share
        total = (error * valid).sum() + (ends * valid).sum() + self.guide * astray.sum()
        count = batch.lengths.sum()
        with torch.no_grad():
            heard = ((made.after[:, :frames].float() - batch.x).abs().mean(2) * valid).sum() / count
        return Loss(
            sum=total,
            targets=count,
            watch={
                "mel_l1": heard,
                "end": (ends * valid).detach().sum() / count,
                "off_diagonal": astray.detach().sum() / count,
            },
            frames=made.hidden.detach()[valid_mask(steps, made.hidden.shape[1])].float(),
            counts=batch.lengths,
        )


def off_diagonal(steps: Tensor, lengths: Tensor, shape: Sequence[int], width: float) -> Tensor:
    """(B,) steps, (B,) symbols, (S, N) -> (B, S, N) from 0 on the diagonal of each utterance's own lengths to 1 far from it."""
    at = torch.arange(shape[0], device=steps.device)[None] / steps[:, None]  # (B, S)
    of = torch.arange(shape[1], device=steps.device)[None] / lengths[:, None]  # (B, N)
    return 1 - torch.exp(-(of[:, None] - at[:, :, None]).square() / (2 * width**2))
