"""The two players of HiFi-GAN: a generator of waves against its critics (Kong et al. 2020, arXiv:2010.05646, section 2.3).

Both hear one segment of each utterance, drawn for its row, so the same in one update. Targets are utterances: every segment is as long as any
other, and a mean over its places is taken of each by itself, so that a sum over utterances, divided once, is the published loss.

Deviations:
- A segment's mel is that of the utterance there, and not of the segment with mirrored ends: as it will be when a whole spectrogram is given.
- The mel of the loss is that of the input. The published one goes up to half the rate, which is the same at 16 kHz.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.models.vocoder_mel import mirrored
from overture.objectives import Loss
from overture.run import Optim, Player

if TYPE_CHECKING:
    from overture.models.modeling_vocoder import Opinion, Vocoder

SEGMENT = 17  # purpose of a draw: where an utterance is heard
# As published (section 3.1 and configuration V1) but for the decay, .999 an epoch, which is so much after 2.5 M updates of 16 of LJSpeech's clips.
OPTIM = Optim(lr=2e-4, betas=(0.8, 0.99), warmup=0.0, decay="exponential", final=0.046, clip=None)


class Segments(NamedTuple):
    """What is heard of each utterance."""

    mel: Tensor  # (B, n / hop, F) log-mel
    real: Tensor  # (B, n) samples


def segments(model: "Vocoder", batch: Batch, draws: Draws, size: int) -> Segments:
    """`size` samples of each utterance, from a drawn frame on; a shorter one is followed by silence.

    Raises OvertureError for a size that is no whole number of frames, or less than a window.
    """
    mel = model.spec.mel
    if size % mel.hop or size < mel.window:
        raise OvertureError(
            f"players.*.objective.segment={size} must be a multiple of the hop of {mel.hop} samples, and at least the window of {mel.window}"
        )
    waves = F.pad(batch.x * batch.valid, (0, max(0, size - batch.x.shape[1])))
    lengths = batch.lengths.clamp_min(size)
    starts = [
        mel.hop * int(draws.example(row, SEGMENT).integers((length - size) // mel.hop + 1))
        for row, length in zip(batch.rows.tolist(), lengths.tolist())
    ]
    places = torch.arange(-mel.padding, size + mel.padding, device=waves.device)
    places = places + torch.tensor(starts, device=waves.device)[:, None]
    around = waves.gather(1, mirrored(places, lengths))  # (B, size + 2 padding)
    return Segments(model.mel.surrounded(around), around[:, mel.padding : mel.padding + size])


@dataclass(frozen=True, kw_only=True)
class GeneratorLoss:
    """Fool the critics, look to them like the recording, and have its mel: the first player, whose parameters are those of `network`.

    It watches the critics' loss too, a mean over critics: .5 where they cannot tell, 0 where they always can, and above 1 where a critic that
    always says "made" would do better (see `overture.train.health`).
    """

    segment: int = 8192  # samples
    mel_weight: float = 45.0
    feature_weight: float = 2.0

    def __call__(self, model: "Vocoder", batch: Batch, draws: Draws) -> Loss:
        mel, real = segments(model, batch, draws, self.segment)
        made = model(mel)  # (B, n)
        with torch.no_grad():
            of_real = model.discriminator(real)
        of_made = model.discriminator(made)
        fooled = sum(((1 - o.score.float()).square().mean(1) for o in of_made), real.new_zeros(len(real)))  # (B,)
        alike = sum(
            ((a.float() - b.float()).abs().flatten(1).mean(1) for a, b in _layers(of_made, of_real)),
            real.new_zeros(len(real)),
        )  # (B,)
        mel_made = model.mel(made)  # (B, T, F)
        error = (mel_made - model.mel(real)).abs().mean((1, 2))  # (B,)
        with torch.no_grad():
            critics = told_apart(of_real, of_made).mean() / len(of_real)
        return Loss(
            sum=(fooled + self.feature_weight * alike + self.mel_weight * error).sum(),
            targets=torch.tensor(len(real), device=real.device),
            watch={
                "mel_l1": error.detach().mean(),
                "adversarial": fooled.detach().mean() / len(of_made),
                "feature_l1": alike.detach().mean() / len(of_made),
                "discriminator_loss": critics,
            },
            frames=mel_made.detach().flatten(0, 1),  # a collapsed generator has one spectrum
        )


@dataclass(frozen=True, kw_only=True)
class DiscriminatorLoss:
    """Tell recordings from what the generator makes, which does not learn from it: the parameters are those of `discriminator`."""

    segment: int = 8192  # samples

    def __call__(self, model: "Vocoder", batch: Batch, draws: Draws) -> Loss:
        mel, real = segments(model, batch, draws, self.segment)
        with torch.no_grad():
            made = model(mel)
        of_real = model.discriminator(real)
        return Loss(
            sum=told_apart(of_real, model.discriminator(made)).sum(),
            targets=torch.tensor(len(real), device=real.device),
            watch={},
            frames=of_real[0].features[-2].detach().float().flatten(2).transpose(1, 2).flatten(0, 1),
        )


def told_apart(of_real: list["Opinion"], of_made: list["Opinion"]) -> Tensor:
    """(B,): least squares to 1 for recordings and to 0 for what was made (Mao et al. 2017), summed over critics."""
    parts = [
        (1 - r.score.float()).square().mean(1) + m.score.float().square().mean(1) for r, m in zip(of_real, of_made)
    ]
    return torch.stack(parts).sum(0)


def _layers(one: list["Opinion"], other: list["Opinion"]) -> list[tuple[Tensor, Tensor]]:
    """The outputs of all layers of all critics, in pairs."""
    return [pair for a, b in zip(one, other) for pair in zip(a.features, b.features)]


def players(segment: int = 8192, optim: Optim = OPTIM) -> tuple[Player, Player]:
    """The generator and its critics, who hear the same segments."""
    return (
        Player(name="generator", objective=GeneratorLoss(segment=segment), parameters=r"^network\.", optim=optim),
        Player(
            name="discriminator",
            objective=DiscriminatorLoss(segment=segment),
            parameters=r"^discriminator\.",
            optim=optim,
        ),
    )
