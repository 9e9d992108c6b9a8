"""Be like a teacher on clean input, beside a pretext task on altered input: L = L_pretext + `weight` |h_student(x) - h_teacher(x)|^2.

Self-distillation for further pre-training (Lee et al., arXiv:2210.02871, section 3): h is the last layer's representation of the whole example,
squared differences are *summed* over its dimensions and averaged over examples. Who the teacher is says `Run.teacher`.
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from overture.data.batch import Batch, valid_mask
from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.objectives import Loss
from overture.run import Objective


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """The loss of `pretext`, plus how far the student's representation of each example is from its teacher's.

    Both are sums over the targets of the pretext task: an example counts as often as it has targets, so that the loop's one division is
    right for both, in any accumulation and on any ranks; with examples of one length it is the plain mean over examples.
    """

    pretext: Objective
    weight: float = 1.0  # lambda; 0: the pretext task alone, without a teacher
    whole: Literal["first", "mean"] = "first"  # the state that stands for an example: of CLS, or the mean of all
    averaged: bool = False  # the teacher is the student's own moving average (`Loop.ema`)

    @property
    def listens_to(self) -> Literal["run", "average"] | None:
        return None if not self.weight else "average" if self.averaged else "run"

    def __call__(self, model: Any, batch: Batch, draws: Draws) -> Loss:
        """Raises OvertureError for a pretext task that does not tell how many targets each example has."""
        loss: Loss = self.pretext(model, batch, draws)
        if not self.weight:
            return loss
        if loss.counts is None:
            raise OvertureError(
                f"distillation weighs examples by their targets, and {type(self.pretext).__name__} does not tell how many each has"
            )
        target = self._whole(model.teacher.states(batch.x, batch.lengths))  # (B, D)
        apart = (self._whole(model.states(batch.x, batch.lengths)) - target).square().sum(1)  # (B,)
        return loss._replace(
            sum=loss.sum + self.weight * (apart * loss.counts).sum(),
            watch=loss.watch | {"pretext": loss.sum.detach() / loss.targets, "apart": apart.detach().mean()},
        )

    def _whole(self, states: tuple[tuple[Tensor, ...], Tensor]) -> Tensor:
        hidden, lengths = states
        last = hidden[-1].float()  # (B, T', D)
        if self.whole == "first":
            return last[:, 0]
        valid = valid_mask(lengths, last.shape[1])[..., None]
        return (last * valid).sum(1) / lengths[:, None]
