"""Masked patches, found and filled in: SSAST's joint pretext (arXiv 2110.09784, section 2.3, eq. 1 to 3).

Of the patches of a clip a fixed number is hidden behind one learned vector. Discriminative: the prediction for a hidden patch has
to find that patch's raw values among those of all hidden patches of the same clip (InfoNCE, plain dot products). Generative: it
has to be those values (mean squared error). Targets are the input itself, so no gradient reaches them.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from overture.data.batch import Batch, valid_mask
from overture.data.draws import Draws
from overture.data.lengths import windows
from overture.data.masks import PatchClusters
from overture.errors import OvertureError
from overture.objectives import Loss

if TYPE_CHECKING:
    from overture.models.modeling_patch import PatchModel

DISCRIMINATIVE, GENERATIVE = "discriminative", "generative"
PURPOSES = {DISCRIMINATIVE: 0, GENERATIVE: 4}  # of the draws of their masks, when both are drawn


@dataclass(frozen=True, kw_only=True)
class PatchPrediction:
    """`discriminative` L_d + `generative` L_g, both means over the hidden patches; L_g is the mean over a patch's values too.

    A weight of 0 switches its loss off, and the model should then lack its head (`model.pretext`). With both there are two passes
    with two masks, as in the published code; with one there is one.
    """

    mask: PatchClusters = field(default_factory=PatchClusters)
    discriminative: float = 1.0
    generative: float = 10.0  # lambda

    def __call__(self, model: "PatchModel", batch: Batch, draws: Draws) -> Loss:
        """Raises OvertureError for patches that overlap, a weight without its head, and a batch without one whole patch."""
        weights = {n: w for n, w in ((DISCRIMINATIVE, self.discriminative), (GENERATIVE, self.generative)) if w}
        self._check(model, tuple(weights))
        clean = model.patches(batch.x, batch.lengths).detach().float()  # (B, F', T', P)
        # An utterance shorter than a patch has a state, but no patch of its own to predict.
        whole = windows(batch.lengths, *(model.config.patch[1], model.config.stride[1]))  # (B,)
        loss, frames = clean.new_zeros(()), clean.new_zeros(0)
        watch: dict[str, Tensor] = {}
        for name, weight in weights.items():
            masked = self._masks(batch, whole, clean.shape[1:3], draws, PURPOSES[name] if len(weights) > 1 else 0)
            counts = masked.sum((1, 2))  # (B,), the same for both masks
            if not int(counts.sum()):
                raise OvertureError(
                    f"a batch with nothing to predict: none of its {len(counts)} utterances has a whole patch of "
                    f"{model.config.patch[1] / model.config.frame_rate:g} s to hide. Raise data.min_seconds"
                )
            output = model(batch.x, batch.valid, masked=masked)
            predicted = getattr(model.head, name)(output.patch_states[masked])  # (M, P)
            if name == DISCRIMINATIVE:
                found, right = info_nce(predicted, clean[masked], counts.tolist())
                watch |= {"discriminative": found.detach() / counts.sum(), "patch_accuracy": right / counts.sum()}
            else:
                found = (predicted.float() - clean[masked]).square().mean(1).sum()
                watch |= {"mse": found.detach() / counts.sum()}
            loss = loss + weight * found
            if not len(frames):
                valid = valid_mask(model.steps(batch.lengths), clean.shape[2])  # (B, T')
                frames = output.patch_states.detach().transpose(1, 2)[valid].flatten(0, 1).float()  # (N, D)
        return Loss(sum=loss, targets=counts.sum(), watch=watch, frames=frames, counts=counts)

    def _check(self, model: "PatchModel", wanted: tuple[str, ...]) -> None:
        patch, stride, have = model.config.patch, model.config.stride, model.config.pretext
        if patch != stride:
            raise OvertureError(
                f"patches of {tuple(patch)} at strides of {tuple(stride)} overlap, so the hidden ones can be read off their neighbours: "
                "pre-train with model.stride = model.patch"
            )
        if not wanted:
            raise OvertureError("both weights of the objective are 0: set discriminative or generative")
        if absent := [n for n in wanted if n not in have]:
            raise OvertureError(
                f"the objective needs a {absent[0]} head, the model has {tuple(have)}: set model.pretext"
            )

    def _masks(self, batch: Batch, whole: Tensor, grid: torch.Size, draws: Draws, purpose: int) -> Tensor:
        """(B, F', T') bool: hidden patches, none of them in the padding."""
        masked = torch.zeros(len(whole), *grid, dtype=torch.bool)
        for b, (row, steps) in enumerate(zip(batch.rows.tolist(), whole.tolist())):
            if steps:
                drawn = self.mask.draw((grid[0], steps), draws.example(row, purpose))
                masked[b, :, :steps] = torch.from_numpy(drawn)
        return masked.to(batch.x.device)


def info_nce(predicted: Tensor, targets: Tensor, counts: list[int]) -> tuple[Tensor, Tensor]:
    """(M, P) predictions, (M, P) raw values, how many of the M rows each clip has -> () loss, () predictions that find theirs.

    -sum_i log (exp(c_i . x_i) / sum_j exp(c_i . x_j)), j over the hidden patches of the clip of i: over the targets of a prediction,
    as the paper has it (its code normalises over the predictions for a target). Without temperature or normalisation.
    """
    loss, right = [], []
    counts = [n for n in counts if n]
    with torch.autocast(predicted.device.type, enabled=False):  # scores of hundreds are too coarse in bf16
        for c, x in zip(predicted.float().split(counts), targets.float().split(counts)):
            scores = c @ x.T  # (n, n)
            own = torch.arange(len(c), device=c.device)
            loss.append(F.cross_entropy(scores, own, reduction="sum"))
            right.append((scores.detach().argmax(1) == own).sum())
    return torch.stack(loss).sum(), torch.stack(right).sum()
