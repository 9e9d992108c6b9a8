"""w2v-BERT's pretext: contrast at block N, masked prediction of the codebook's ids at the top (arXiv 2108.06209, section 3.3).

Both read the same hidden steps; nothing is hidden anew between the two stacks. The contrastive loss gives the codebook its
meaning, masked prediction alone lets it collapse where a gradient passes through its targets.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from overture.data.batch import Batch, valid_mask
from overture.data.draws import Draws
from overture.data.masks import SpanMask, batch_mask
from overture.errors import OvertureError
from overture.objectives import Loss
from overture.objectives.contrastive import contrastive_loss, diversity, sample_negatives
from overture.objectives.masked_prediction import masked_cross_entropy, straight_through
from overture.quantize.gumbel import Annealing, gumbel_noise
from overture.quantize.meters import usage

if TYPE_CHECKING:
    from overture.models.modeling_w2v_bert import W2vBertModel


@dataclass(frozen=True, kw_only=True)
class ContrastAndPredict:
    """`contrastive` L_w + `mlm` L_m + `diversity` L_d, all three means over the hidden steps. A weight of 0 switches its loss off:
    the parameters that only it teaches are then to be left out of the player's."""

    mask: SpanMask = field(default_factory=lambda: SpanMask(start=0.065, seconds=0.4))  # 10 steps of 40 ms
    contrastive: float = 1.0  # beta
    mlm: float = 1.0  # gamma
    diversity: float = 0.1
    kappa: float = 0.1  # divides the similarities
    negatives: int | None = 100  # of each hidden step, from those of its utterance; None: all others
    identical: Literal["mask", "keep"] = "mask"  # negatives that have the code of the positive
    targets: Literal["argmax", "sampled"] = "argmax"  # ids to predict: the likeliest, or (fairseq) drawn with noise
    target_gradient: Literal["none", "straight-through"] = "none"  # of the prediction's loss, into the codebook
    temperature: Annealing = field(default_factory=lambda: Annealing(least=0.1))

    @property
    def learns(self) -> str:
        """What a run with these weights must move, for health: regular expression of parameter names."""
        if self.contrastive:
            return r"^head\.quantizer\.(weight_proj|codevectors)"
        if self.diversity or (self.mlm and self.target_gradient == "straight-through"):
            return r"^head\.quantizer\.weight_proj"
        return r"^head\.ids"  # no gradient reaches the codebook

    def __call__(self, model: "W2vBertModel", batch: Batch, draws: Draws) -> Loss:
        """Raises OvertureError when no utterance of the micro-batch is long enough to hide a step of it."""
        steps = model.steps(batch.lengths)  # (B,)
        total = int(model.steps(torch.tensor(batch.x.shape[1])))
        masked = batch_mask(self.mask, batch.rows, steps, total, model.frame_rate, draws)  # (B, T')
        counts = masked.sum(1)  # (B,)
        count = int(counts.sum())  # M
        if count == 0:
            raise OvertureError(
                f"a batch with nothing to predict: its {len(counts)} utterances are one step of {1 / model.frame_rate:g} s. "
                "Raise data.min_seconds"
            )
        head = model.head
        if self.mlm and head.ids is None:
            raise OvertureError(
                "masked prediction needs blocks of its own: set model.mlm_blocks to 1 or more, or the weight mlm to 0"
            )
        output = model(batch.x, batch.valid, mask_time_indices=masked)
        # What is to be found comes from the features as they were before any step was hidden.
        features, temperature = output.extract_features[masked], self.temperature.at(draws.update)
        noise = gumbel_noise(draws, batch.rows, counts, 1, head.quantizer.entries)  # (M, 1, V)
        codes = head.quantizer(features, temperature, noise)
        spread = diversity(codes.probabilities)  # () of this micro-batch
        loss = self.diversity * count * (spread if self.diversity else spread.detach())
        watch: dict[str, Tensor] = {"diversity": spread, "temperature": torch.tensor(temperature)}
        if self.contrastive:
            contrast = contrastive_loss(
                head.project_context(output.context[masked]),
                head.project_code(codes.vectors),
                sample_negatives(draws, batch.rows, counts, self.negatives),
                counts=counts.tolist(),
                ids=codes.drawn,
                temperature=self.kappa,
                identical=self.identical,
            )
            loss = loss + self.contrastive * contrast.sum
            watch |= {
                "contrastive": contrast.sum / count,
                "accuracy": contrast.accuracy,
                "live_negatives": contrast.live,
            }
        if self.mlm and head.ids is not None:
            ids = (codes.drawn if self.targets == "sampled" else codes.ids)[:, 0]  # (M,)
            through = self.target_gradient == "straight-through"
            target = straight_through(ids, codes.probabilities[:, 0]) if through else None  # (M, V)
            prediction = masked_cross_entropy(head.ids(output.last_hidden_state[masked]), ids, target)
            loss = loss + self.mlm * prediction.sum
            watch |= {"mlm": prediction.sum / count, "mlm_accuracy": prediction.accuracy}
        return Loss(
            sum=loss,
            targets=counts.sum(),
            watch={n: v.detach() for n, v in (watch | usage(codes.ids, head.quantizer.entries)).items()},
            frames=output.last_hidden_state.detach()[valid_mask(steps, total)].float(),
        )
