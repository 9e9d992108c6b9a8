"""Mel spectrograms that a wave can be made of again, and the samples that a vocoder learns from: one convention for all that write or read them.

It is the formula of HiFi-GAN (Kong et al. 2020, arXiv:2010.05646; `meldataset.py`), as UnivNet and most vocoders since have it: Hann windows,
magnitudes and not powers, Slaney's mel scale with filters of equal area, the natural log of what is at least 1e-5. Nothing is normalised, not
even the level: what a synthesiser predicts is then what a vocoder hears. The default window and hop are SpeechT5's at 16 kHz, 1,024 and 256
samples, which are also HiFi-GAN's at 22.05 kHz; SpeechT5's own mel differs (log10, 80 to 7,600 Hz, another frame at the end).

`overture.data.features.LogMel` is for encoders: its frames are centred on multiples of the hop, so that there is one too many to cut a wave by.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft

from overture.errors import OvertureError

TINY = 1e-9  # added to a power before its root is taken, whose slope at 0 is infinite


@dataclass(frozen=True, kw_only=True)
class VocoderMel:
    """Log-mel magnitudes. T = N // hop, exactly: `padding` samples are mirrored at both ends, so that frame t has the samples from t hop to
    (t + 1) hop in its middle, and T frames stand for T hop samples.

    At other rates: HiFi-GAN's own is `rate=22_050`, the rest as it is; Tacotron 2's windows at 16 kHz are `window=800, hop=200`.
    """

    rate: int = 16_000  # Hz
    mels: int = 80
    window: int = 1024  # samples, of the transform too; two or more times hop
    hop: int = 256  # samples
    low: float = 0.0  # Hz
    high: float = 8_000.0  # Hz
    floor: float = 1e-5  # the least magnitude

    def __post_init__(self) -> None:
        if self.window % self.hop or self.window < 2 * self.hop or (self.window - self.hop) % 2:
            raise OvertureError(
                f"a window of {self.window} samples every {self.hop} cannot be undone exactly: window must be two or more times hop, and "
                "window - hop even"
            )
        if self.high > self.rate / 2:
            raise OvertureError(f"high={self.high:g} Hz is beyond half of rate={self.rate}: lower it, or raise rate")

    @property
    def frame_rate(self) -> float:
        """Hz."""
        return self.rate / self.hop

    @property
    def dim(self) -> int:
        """F, channels of a frame."""
        return self.mels

    @property
    def padding(self) -> int:
        """Samples that are mirrored at each end."""
        return (self.window - self.hop) // 2

    def steps(self, count: int) -> int:
        """T of an utterance of `count` samples."""
        return count // self.hop

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """(N,) float32 in -1..1 at `rate` -> (T, mels) float32. N must be at least one window."""
        if len(wave) < self.window:
            raise ValueError(f"an utterance of {len(wave)} samples is shorter than one window of {self.window}")
        parts = spectra(np.asarray(wave, dtype=np.float32), self)  # (T, bins)
        magnitudes = np.sqrt(np.square(parts.real) + np.square(parts.imag) + np.float32(TINY))
        return np.asarray(np.log(np.maximum(magnitudes @ filters(self), np.float32(self.floor))), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The samples as they were recorded, for what learns to make them: T = N, no channels, no change of level.

    The cache keeps 11 bits of a number, and a sample is worth 16: set `data.cache=false`.
    """

    rate: int = 16_000  # Hz

    @property
    def frame_rate(self) -> float:
        """Hz."""
        return float(self.rate)

    @property
    def dim(self) -> int:
        """0: samples have no channel axis."""
        return 0

    def steps(self, count: int) -> int:
        """Steps of an utterance of `count` samples."""
        return count

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """(N,) float32 at `rate` -> the same. N must not be 0."""
        if len(wave) == 0:
            raise ValueError("an utterance without samples")
        return np.asarray(wave, dtype=np.float32)


def spectra(wave: np.ndarray, mel: VocoderMel) -> np.ndarray:
    """(N,) -> (T, window / 2 + 1) complex: of the frames of `mel`. N must be above `mel.padding`."""
    around = np.pad(wave, mel.padding, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(around, mel.window)[:: mel.hop]  # (T, window)
    return np.asarray(fft.rfft(frames * hann(mel.window), axis=1))


@lru_cache(maxsize=8)
def hann(size: int) -> np.ndarray:
    """(size,) float32, periodic."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size), dtype=np.float32)


@lru_cache(maxsize=8)
def filters(mel: VocoderMel) -> np.ndarray:
    """(window / 2 + 1, mels) float32: triangles, equally wide on Slaney's scale, straight in Hz, of area 1 (librosa's `filters.mel`)."""
    edges = _hertz(np.linspace(_slaney(mel.low), _slaney(mel.high), mel.mels + 2))
    at = np.linspace(0, mel.rate / 2, mel.window // 2 + 1)[:, None]
    rise = (at - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - at) / np.diff(edges)[1:]
    triangles = np.maximum(0.0, np.minimum(rise, fall)) * (2.0 / (edges[2:] - edges[:-2]))
    return np.asarray(triangles, dtype=np.float32)


STEP = 200 / 3  # Hz a mel, below 1,000 Hz; above, 27 mels are a factor of 6.4
KNEE, RATIO = 1_000.0, np.log(6.4) / 27


def _slaney(hertz: float) -> float:
    return float(hertz / STEP if hertz < KNEE else KNEE / STEP + np.log(hertz / KNEE) / RATIO)


def _hertz(mels: np.ndarray) -> np.ndarray:
    knee = KNEE / STEP
    return np.where(mels < knee, mels * STEP, KNEE * np.exp(RATIO * (np.maximum(mels, knee) - knee)))
