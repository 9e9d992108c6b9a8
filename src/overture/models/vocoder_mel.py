"""`overture.data.vocoder_mel` in torch: of many waves at once, and with a gradient, for a loss on mel spectrograms."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from overture.data.batch import valid_mask
from overture.data.vocoder_mel import TINY, filters, hann

if TYPE_CHECKING:
    from overture.data.vocoder_mel import VocoderMel


class MelSpectrogram(nn.Module):
    """What `spec` gives of an utterance; has nothing to learn and nothing to store."""

    window: Tensor
    filters: Tensor

    def __init__(self, spec: "VocoderMel") -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("window", torch.from_numpy(hann(spec.window).copy()), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters(spec).copy()), persistent=False)

    def forward(self, waves: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, N) samples, and how many of each are valid (None: all) -> (B, N // hop, F), 0 after the lengths // hop frames of each.

        Each is mirrored at its own end, wherever its padding begins. A length must be above `spec.padding`.
        """
        count = waves.shape[1]
        if lengths is None:
            lengths = torch.full((len(waves),), count, device=waves.device)
        places = torch.arange(-self.spec.padding, count + self.spec.padding, device=waves.device)
        found = self.surrounded(waves.gather(1, mirrored(places.expand(len(waves), -1), lengths)))
        return found * valid_mask(lengths // self.spec.hop, found.shape[1])[..., None]

    def surrounded(self, waves: Tensor) -> Tensor:
        """(B, N + 2 padding) samples, `spec.padding` before and after those that frames are wanted of -> (B, N // hop, F)."""
        spec = self.spec
        with torch.autocast(waves.device.type, enabled=False):  # bf16 would keep 8 bits of a sample
            parts = torch.stft(
                waves.float(), spec.window, spec.hop, window=self.window, center=False, return_complex=True
            )  # (B, bins, T)
            magnitudes = (parts.real.square() + parts.imag.square() + TINY).sqrt().transpose(1, 2)  # (B, T, bins)
            return (magnitudes @ self.filters).clamp_min(spec.floor).log()


def mirrored(places: Tensor, lengths: Tensor) -> Tensor:
    """(B, K) places in waves of `lengths` (B,) samples, also before their start and after their end -> (B, K) those that a mirror shows there.

    Places beyond the mirror image, which are in the padding of a batch, become the last sample or the first.
    """
    last = lengths[:, None] - 1
    places = places.abs()
    return torch.where(places > last, 2 * last - places, places).clamp_min(0)
