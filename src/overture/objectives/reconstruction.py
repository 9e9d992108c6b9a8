"""Reconstruct altered spectrogram frames: mean L1 over the altered elements (TERA, arXiv 2007.06028, eq. 1; Mockingjay)."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from overture.data.alteration import Alteration
from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.objectives import Loss

if TYPE_CHECKING:
    from overture.models.modeling_spectrogram import SpectrogramModel


@dataclass(frozen=True, kw_only=True)
class MaskedReconstruction:
    """Predict the clean frames from altered ones; only altered elements count."""

    alteration: Alteration = field(default_factory=Alteration)

    def __call__(self, model: "SpectrogramModel", batch: Batch, draws: Draws) -> Loss:
        altered, mask = self.alteration(batch, draws, model.frame_rate)  # (B, T, F) twice
        valid = batch.valid
        output = model(altered, valid)
        error = (output.reconstruction.float() - batch.x).abs()  # (B, T, F); the target is the clean input
        return Loss(
            sum=(error * mask).sum(),
            targets=mask.sum(),
            watch={},
            frames=output.last_hidden_state.detach()[valid].float(),
            counts=mask.sum((1, 2)),
        )
