"""The sizes of HiFi-GAN and its discriminators, and their building. The networks themselves are in `modeling_vocoder.py`.

Kong et al. 2020, "HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech Synthesis", arXiv:2010.05646. The generator is
transformers' `SpeechT5HifiGan`, so that what is trained here opens there.
"""

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from overture.data.vocoder_mel import Samples, VocoderMel
from overture.errors import OvertureError
from overture.run import Frontend

if TYPE_CHECKING:
    from overture.models.modeling_vocoder import Vocoder


@dataclass(frozen=True, kw_only=True)
class Discriminators:
    """Sizes of the critics of a vocoder: one a period, and one a scale. Defaults: as published (41.1 and 29.6 M weights)."""

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)  # samples: a wave is folded by each, and looked at along its columns
    scales: int = 3  # the wave, and that at half, a quarter ... of its rate
    width: int = 32  # channels, of which their layers have up to 32 times as many


@dataclass(frozen=True, kw_only=True)
class HifiGan:
    """Sizes of the generator. Defaults: V1 as published (13.9 M weights); V2 is `channels=128`.

    The product of `rates` must be the hop of `mel`: each step makes a frame so many times as long, at half the channels.
    """

    mel: VocoderMel = field(default_factory=VocoderMel)  # what it makes a wave of
    channels: int = 512  # before the first step
    rates: tuple[int, ...] = (8, 8, 2, 2)  # of the steps; their kernels are twice as wide
    kernels: tuple[int, ...] = (3, 7, 11)  # of the residual blocks after each step, whose outputs are averaged
    dilations: tuple[int, ...] = (1, 3, 5)  # within a block
    critics: Discriminators = field(default_factory=Discriminators)

    def build(self, frontend: Frontend) -> "Vocoder":
        """The networks with fresh weights from torch's current generator. Raises OvertureError for a front end that is no `Samples` of the
        rate of `mel`, and for rates that are not its hop."""
        from overture.models.modeling_vocoder import Vocoder

        if not isinstance(frontend, Samples) or frontend.rate != self.mel.rate:
            raise OvertureError(
                f"a vocoder learns from samples as they were recorded, at the rate of its mel: set frontend to Samples(rate={self.mel.rate})"
            )
        if prod(self.rates) != self.mel.hop:
            raise OvertureError(
                f"model.rates={self.rates} make {prod(self.rates)} samples of a frame, and the hop of model.mel is {self.mel.hop}: "
                "let their product be the hop"
            )
        if self.channels % 2 ** len(self.rates):
            raise OvertureError(
                f"model.channels={self.channels} cannot be halved {len(self.rates)} times, once for each of model.rates"
            )
        return Vocoder(self)
