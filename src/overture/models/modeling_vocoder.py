"""HiFi-GAN: a generator of waves and the critics that it is trained against (Kong et al. 2020, arXiv:2010.05646, section 2).

Deviations, in all sizes:
- The discriminator of the first scale has weight normalisation like the others, and not spectral: that is an estimate which moves with each
  forward pass, so that an update would depend on how many micro-batches it has.
- Fresh weights are torch's own. The published code asks for a deviation of .01, which its weight normalisation overrules; with it a wave begins
  so near to silence that the log of its mel has no gradient.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from math import gcd
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from overture.data.batch import valid_mask
from overture.models.vocoder_mel import MelSpectrogram

if TYPE_CHECKING:
    from overture.models.vocoder import Discriminators, HifiGan

SLOPE = 0.1  # of the leaky ReLU


class Vocoder(nn.Module):
    """`network` makes waves of log-mel spectrograms, `discriminator` tells them from recordings, and `mel` computes spectrograms."""

    def __init__(self, spec: "HifiGan") -> None:
        super().__init__()
        self.spec, self.hop, self.dim, self.frame_rate = spec, spec.mel.hop, spec.mel.mels, spec.mel.frame_rate
        self.network = SpeechT5HifiGan(
            SpeechT5HifiGanConfig(
                model_in_dim=spec.mel.mels,
                sampling_rate=spec.mel.rate,
                upsample_initial_channel=spec.channels,
                upsample_rates=list(spec.rates),
                upsample_kernel_sizes=[2 * r + r % 2 for r in spec.rates],  # wider by an even number: lengths are exact
                resblock_kernel_sizes=list(spec.kernels),
                resblock_dilation_sizes=[list(spec.dilations) for _ in spec.kernels],
                leaky_relu_slope=SLOPE,
                normalize_before=False,  # a log-mel is no further from 0 and 1 than the first layer bears, as in the paper
            )
        )
        for layer in _convolutions(self.network):
            layer.reset_parameters()
        self.network.apply_weight_norm()
        self.discriminator = Critics(spec.critics)
        self.mel = MelSpectrogram(spec.mel)

    def forward(self, mel: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, T, F) log-mel, and how many frames of each are valid (None: all) -> (B, T hop) samples in -1..1, 0 after the end of each.

        In float32 always: a sample of bf16 would have 8 bits.
        """
        hidden = nullcontext() if lengths is None else _hidden_padding(self.network, lengths, mel.shape[1])
        with hidden, torch.autocast(mel.device.type, enabled=False):
            waves: Tensor = self.network(mel.float())
        return waves if lengths is None else waves * valid_mask(lengths * self.hop, waves.shape[1])

    def steps(self, lengths: Tensor) -> Tensor:
        """(B,) samples -> (B,) frames."""
        return lengths // self.hop

    def states(self, x: Tensor, lengths: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Copy synthesis: (B, N) recordings, (B,) how many samples are valid -> their log-mel (B, T, F), what is made of it (B, T, hop), and
        their frames (B,). A length must be above `spec.mel.padding`."""
        steps = self.steps(lengths)
        mel = self.mel(x, lengths)
        return (mel, self(mel, steps).unflatten(1, (-1, self.hop))), steps

    def plain(self) -> SpeechT5HifiGan:
        """A copy of the generator with weights and no normalisation of them, as transformers stores and opens it. Outputs are the same."""
        copy = SpeechT5HifiGan(self.network.config)
        with torch.no_grad():
            for theirs, ours in zip(_convolutions(copy), _convolutions(self.network)):
                assert theirs.bias is not None and ours.bias is not None
                theirs.weight.copy_(ours.weight)
                theirs.bias.copy_(ours.bias)
        return copy


def _convolutions(network: nn.Module) -> Iterator[nn.Conv1d | nn.ConvTranspose1d]:
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            yield module


@contextmanager
def _hidden_padding(network: nn.Module, lengths: Tensor, steps: int) -> Iterator[None]:
    """While it lasts, each convolution sees zeros after the end of each utterance, as it would of that utterance alone.

    `steps`: frames of the batch; what is k times as long deeper in the network has k times the lengths.
    """

    def hide(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = inputs  # (B, C, k steps)
        return (x * valid_mask(lengths * (x.shape[2] // steps), x.shape[2])[:, None],)

    handles = [layer.register_forward_pre_hook(hide) for layer in _convolutions(network)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Opinion(NamedTuple):
    """What one critic thinks of waves."""

    score: Tensor  # (B, N') one at each place it looks at: 1 for a recording, 0 for what was made
    features: list[Tensor]  # (B, C, ...) outputs of its layers, the score last


class Critics(nn.Module):
    """All discriminators: multi-period, then multi-scale."""

    def __init__(self, spec: "Discriminators") -> None:
        super().__init__()
        self.periods = nn.ModuleList(PeriodCritic(p, spec.width) for p in spec.periods)
        self.scales = nn.ModuleList(ScaleCritic(spec.width) for _ in range(spec.scales))

    def forward(self, waves: Tensor) -> list[Opinion]:
        """(B, N) -> one opinion a critic."""
        found = [critic(waves) for critic in self.periods]
        x = waves[:, None]  # (B, 1, N)
        for i, critic in enumerate(self.scales):
            if i:
                x = F.avg_pool1d(x, 4, 2, padding=2)
            found.append(critic(x))
        return found


class PeriodCritic(nn.Module):
    """Sees every p-th sample of a wave: convolutions along the columns of an image of p columns."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        sizes = [1, width, 4 * width, 16 * width, 32 * width, 32 * width]
        strides = (3, 3, 3, 3, 1)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(i, o, (5, 1), (s, 1), padding=(2, 0)))
            for i, o, s in zip(sizes[:-1], sizes[1:], strides)
        )
        self.score = weight_norm(nn.Conv2d(sizes[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, waves: Tensor) -> Opinion:
        """(B, N) -> its opinion; the end is mirrored to a whole number of periods."""
        x = F.pad(waves[:, None], (0, -waves.shape[1] % self.period), mode="reflect")
        return _opinion(self.layers, self.score, x.unflatten(2, (-1, self.period)))  # (B, 1, N / p, p)


class ScaleCritic(nn.Module):
    """Sees a wave with wide, grouped convolutions (MelGAN's discriminator)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [1, *(width * times for times in (4, 4, 8, 16, 32, 32, 32))]
        kernels, strides, groups = (15, 41, 41, 41, 41, 41, 5), (1, 2, 2, 4, 4, 1, 1), (1, 4, 16, 16, 16, 16, 1)
        self.layers = nn.ModuleList(
            # a narrow one has fewer groups, so many as divide its channels
            weight_norm(nn.Conv1d(i, o, k, s, padding=k // 2, groups=gcd(g, i)))
            for i, o, k, s, g in zip(sizes[:-1], sizes[1:], kernels, strides, groups)
        )
        self.score = weight_norm(nn.Conv1d(sizes[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> Opinion:
        """(B, 1, N) -> its opinion."""
        return _opinion(self.layers, self.score, x)


def _opinion(layers: nn.ModuleList, last: nn.Module, x: Tensor) -> Opinion:
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), SLOPE)
        features.append(x)
    score = last(x)
    return Opinion(score.flatten(1), [*features, score])
