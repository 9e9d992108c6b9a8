"""wav2vec 2.0's pretext: find the code of each masked frame among those of others (Baevski et al. 2020, arXiv:2006.11477, section 3.2).

Spans of the convolutional features are hidden from the Transformer; its output there has to be nearest to the code that the
Gumbel codebook gives the same frame unhidden. Codes are computed for masked frames only.
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
from overture.quantize.gumbel import Annealing, gumbel_noise
from overture.quantize.meters import usage

if TYPE_CHECKING:
    from overture.models.wav2vec2 import Wav2Vec2Encoder

LAYERS = 5  # purpose of a draw: which layers an update leaves out


@dataclass(frozen=True, kw_only=True)
class Contrastive:
    """L = L_m + `diversity` L_d + `penalty` (mean square of the convolutional features), in nats a masked frame."""

    mask: SpanMask = field(default_factory=SpanMask)
    negatives: int = 100  # of each masked frame, from the others of its utterance
    kappa: float = 0.1  # divides the similarities
    identical: Literal["mask", "keep"] = "mask"  # negatives that have the code of the positive: see `contrastive_loss`
    diversity: float = 0.1
    penalty: float = 0.0
    temperature: Annealing = field(default_factory=Annealing)

    @property
    def learns(self) -> str:
        """What must move while this is trained (`overture.run.Learning`)."""
        return r"quantizer\."

    def __call__(self, model: "Wav2Vec2Encoder", batch: Batch, draws: Draws) -> Loss:
        """Raises OvertureError when no utterance of the micro-batch is long enough to hide a frame of it."""
        frames = model.frames(batch.x)  # (B, T, C)
        steps, total = model.steps(batch.lengths), frames.shape[1]
        mask = batch_mask(self.mask, batch.rows, steps, total, model.frame_rate, draws)  # (B, T)
        counts = mask.sum(1)  # (B,)
        sizes: list[int] = counts.tolist()
        if sum(sizes) == 0:
            raise OvertureError(
                f"a batch with nothing to predict: its {len(sizes)} utterances are one frame of {1 / model.frame_rate:g} s or "
                "less. Raise data.min_seconds"
            )
        at = mask.flatten().nonzero().squeeze(1)  # (M,) places of masked frames in (B T)
        dropped = (draws.example(-1, LAYERS).random(len(model.layers)) < model.spec.layer_drop).tolist()
        hidden, features = model.project(frames)  # (B, T, D), (B, T, C): the second is what is quantized
        valid = valid_mask(steps, total)
        (output,) = model.context(model.hide(hidden, mask), valid, tuple(dropped), every=False)  # (B, T, D)

        temperature = self.temperature.at(draws.update)
        noise = gumbel_noise(draws, batch.rows, counts, model.spec.groups, model.spec.entries)  # (M, G, V)
        codes, targets = model.quantize(features.flatten(0, 1)[at], temperature, noise)  # targets: (M, P)
        contrast = contrastive_loss(
            model.network.project_hid(output.flatten(0, 1)[at]),  # (M, P)
            targets,
            sample_negatives(draws, batch.rows, counts, self.negatives),
            counts=sizes,
            ids=codes.drawn,
            temperature=self.kappa,
            identical=self.identical,
        )
        assert codes.probabilities is not None  # a codebook of softmaxes has them
        spread = diversity(codes.probabilities)
        loss = contrast.sum + self.diversity * len(at) * spread
        watch: dict[str, Tensor] = {
            "contrastive": contrast.sum / len(at),
            "diversity": spread,
            "accuracy": contrast.accuracy,
            "live_negatives": contrast.live,
            "temperature": torch.tensor(temperature),
            **usage(codes.ids, model.spec.entries),
        }
        if self.penalty:
            square = (frames.float().square().mean(2) * valid).sum(1) / steps.clamp_min(1)  # (B,)
            penalty = (square * counts).sum()  # an utterance weighs as many targets as it has
            loss = loss + self.penalty * penalty
            watch["penalty"] = penalty / len(at)
        return Loss(
            sum=loss,
            targets=counts.sum(),
            watch={name: value.detach() for name, value in watch.items()},
            frames=output.detach()[valid].float(),
        )
