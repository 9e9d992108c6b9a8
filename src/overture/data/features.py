"""Front ends: log-mel with per-utterance normalisation, Kaldi's fbank, and the samples themselves.

Each is a frozen dataclass called on one utterance, so padding cannot reach a statistic. numpy and scipy release Python's
lock, so threads compute in parallel. An exported model carries a copy of this file as its feature extractor.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import NamedTuple

import numpy as np
from scipy import fft

from overture.data.lengths import samples, windows

BLOCK = 128  # frames computed at once
BANDS = 4  # parts the mel filters are multiplied in


@dataclass(frozen=True, kw_only=True)
class Waveform:
    """The samples, each utterance brought to mean 0 and variance 1, as wav2vec 2.0 takes them. T = N, no channels."""

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
        """(N,) float32 at `rate` -> (N,) float32. N must not be 0."""
        if len(wave) == 0:
            raise ValueError("an utterance without samples")
        return np.asarray((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """Log-mel energies as TERA, Mockingjay and most log-mel systems compute them.

    Hann window, centred frames (the edges reflected), power spectrum, HTK mel filters, natural log. T = N // hop + 1.
    """

    rate: int = 16_000  # Hz
    mels: int = 80
    window: float = 0.025  # s
    hop: float = 0.010  # s
    low: float = 0.0  # Hz
    high: float = 8_000.0  # Hz
    floor: float = 1e-10  # added before the log
    level: float | None = -25.0  # dBFS every utterance is scaled to first; None leaves it as it is
    normalise: bool = True  # each channel to mean 0 and variance 1 over the utterance (CMVN)

    @property
    def frame_rate(self) -> float:
        """Hz."""
        return 1.0 / self.hop

    @property
    def dim(self) -> int:
        """F, channels of a frame."""
        return self.mels

    def steps(self, count: int) -> int:
        """T of an utterance of `count` samples."""
        return count // samples(self.hop, self.rate) + 1

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """(N,) float32 at `rate` -> (T, mels) float32. N must be at least one window."""
        size, hop = samples(self.window, self.rate), samples(self.hop, self.rate)
        if len(wave) < size:
            raise ValueError(f"an utterance of {len(wave)} samples is shorter than one window of {size}")
        if self.level is not None:
            rms = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
            wave = wave * np.float32(10 ** (self.level / 20) / max(rms, 1e-8))
        frames = _frames(np.pad(wave, size // 2, mode="reflect"), size, hop)[: self.steps(len(wave))]
        mel = _energies(
            frames, size, size, "hann", _mel_filters(size // 2 + 1, self.rate, self.mels, self.low, self.high)
        )
        mel += np.float32(self.floor)
        np.log(mel, out=mel)
        return cmvn(mel) if self.normalise else np.asarray(mel)


@dataclass(frozen=True, kw_only=True)
class KaldiFbank:
    """Kaldi's `compute-fbank-feats` without dither, as AST, SSAST and BEATs use it. T = (N - window) // hop + 1."""

    rate: int = 16_000  # Hz
    mels: int = 128
    window: float = 0.025  # s
    hop: float = 0.010  # s
    low: float = 20.0  # Hz
    high: float = 8_000.0  # Hz
    window_type: str = "povey"  # or "hanning", as AST
    scale: float = 32_768.0  # Kaldi and BEATs count samples in 16-bit units; AST takes them as they are, 1.0
    mean: float = 0.0  # of the data, subtracted
    std: float = 1.0  # of the data, divided by

    @property
    def frame_rate(self) -> float:
        """Hz."""
        return 1.0 / self.hop

    @property
    def dim(self) -> int:
        """F, channels of a frame."""
        return self.mels

    def steps(self, count: int) -> int:
        """T of an utterance of `count` samples."""
        return windows(count, samples(self.window, self.rate), samples(self.hop, self.rate))

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """(N,) float32 in -1..1 at `rate` -> (T, mels) float32. N must be at least one window."""
        size, hop = samples(self.window, self.rate), samples(self.hop, self.rate)
        if len(wave) < size:
            raise ValueError(f"an utterance of {len(wave)} samples is shorter than one window of {size}")
        wave = wave * np.float32(self.scale)
        width = 1 << (size - 1).bit_length()
        filters = _kaldi_filters(width // 2, self.rate, self.mels, self.low, self.high)
        # Kaldi takes the mean m from each frame, then x[n] - .97 x[n-1], here of the whole utterance at once, which leaves .03 m
        # too much in each sample. Only a frame's first sample differs then, and both windows are zero there.
        emphasised = _frames(np.append(wave[:1], wave[1:] - np.float32(0.97) * wave[:-1]), size, hop)
        offset = np.float32(0.03 / size) * _sums(wave, size, hop)  # (T,)
        mel = _energies(emphasised, size, width, self.window_type, filters, offset)
        np.log(np.maximum(mel, np.finfo(np.float32).eps, out=mel), out=mel)
        if self.mean or self.std != 1.0:
            mel = (mel - np.float32(self.mean)) / np.float32(self.std)
        return mel


def cmvn(features: np.ndarray) -> np.ndarray:
    """(T, F) -> (T, F): each channel with mean 0 and variance 1 over the utterance; a constant channel becomes 0."""
    mean = features.mean(axis=0)
    centred = features - mean
    deviation = centred.std(axis=0)
    # What is left of a constant by rounding is not divided by next to nothing.
    varies = deviation > 1e-5 * np.maximum(np.abs(mean), 1.0)
    return np.asarray(centred / np.where(varies, deviation + np.float32(1e-10), np.inf), dtype=np.float32)


def _frames(wave: np.ndarray, size: int, hop: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(wave, size)[::hop]  # (T, size)


def _sums(wave: np.ndarray, size: int, hop: int) -> np.ndarray:
    """(N,) -> (T,): the sum over each frame, from sums of pieces that frames share."""
    piece = gcd(size, hop)
    sums = wave[: len(wave) // piece * piece].reshape(-1, piece).sum(axis=1)
    return np.asarray(_frames(sums, size // piece, hop // piece).sum(axis=1))


def _energies(
    frames: np.ndarray, size: int, width: int, kind: str, filters: tuple["Band", ...], offset: np.ndarray | None = None
) -> np.ndarray:
    """(T, size) frames, less the `offset` (T,) of each -> (T, mels) mel energies of windowed spectra of `width` points.

    In blocks that stay in the cache, which is three times as fast as at once.
    """
    window = _window(size, kind)
    out = np.empty((len(frames), filters[-1].channels.stop), dtype=np.float32)
    padded = np.zeros((BLOCK, width), dtype=np.float32)
    for i in range(0, len(frames), BLOCK):
        block = padded[: min(BLOCK, len(frames) - i)]
        if offset is None:
            np.multiply(frames[i : i + BLOCK], window, out=block[:, :size])
        else:
            np.subtract(frames[i : i + BLOCK], offset[i : i + BLOCK, None], out=block[:, :size])
            block[:, :size] *= window
        parts = fft.rfft(block, axis=1).view(np.float32)  # (BLOCK, width + 2): real and imaginary in turn
        np.square(parts, out=parts)
        power = parts[:, ::2] + parts[:, 1::2]  # (BLOCK, width/2 + 1)
        for band in filters:
            out[i : i + BLOCK, band.channels] = power[:, band.bins] @ band.weights
    return out


@lru_cache(maxsize=8)
def _window(size: int, kind: str) -> np.ndarray:
    n = np.arange(size)
    if kind == "hann":  # periodic, as torch.stft
        window = 0.5 - 0.5 * np.cos(2 * np.pi * n / size)
    else:
        window = 0.5 - 0.5 * np.cos(2 * np.pi * n / (size - 1))
        window = window**0.85 if kind == "povey" else window
    return np.asarray(window, dtype=np.float32)


@lru_cache(maxsize=8)
def _mel_filters(bins: int, rate: int, mels: int, low: float, high: float) -> tuple["Band", ...]:
    """(bins, mels) triangles, equally wide on the HTK mel scale, straight in Hz (torchaudio's `melscale_fbanks`)."""
    edges = 700.0 * (10.0 ** (np.linspace(_htk(low), _htk(high), mels + 2) / 2595.0) - 1.0)
    hertz = np.linspace(0, rate / 2, bins)[:, None]
    rise = (hertz - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - hertz) / np.diff(edges)[1:]
    return _bands(np.maximum(0.0, np.minimum(rise, fall)))


@lru_cache(maxsize=8)
def _kaldi_filters(bins: int, rate: int, mels: int, low: float, high: float) -> tuple["Band", ...]:
    """(bins, mels) triangles, straight on Kaldi's mel scale; the bin at half the rate is left out, as Kaldi does."""
    edges = np.linspace(_kaldi_mel(low), _kaldi_mel(high), mels + 2)
    at = _kaldi_mel(np.arange(bins) * rate / (2 * bins))[:, None]
    rise = (at - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - at) / np.diff(edges)[1:]
    return _bands(np.maximum(0.0, np.minimum(rise, fall)))


class Band(NamedTuple):
    """Some neighbouring mel filters, and the bins that they reach."""

    bins: slice
    channels: slice
    weights: np.ndarray  # (bins, channels) float32


def _bands(filters: np.ndarray) -> tuple[Band, ...]:
    """(bins, mels) -> the same in parts: a filter is zero but for a few bins, and a quarter of the products is left."""
    found = []
    for channels in np.array_split(np.arange(filters.shape[1]), BANDS):
        if len(channels):
            reached = np.flatnonzero(filters[:, channels].any(axis=1))
            bins = slice(int(reached[0]), int(reached[-1]) + 1) if len(reached) else slice(0, 1)
            own = slice(int(channels[0]), int(channels[-1]) + 1)
            found.append(Band(bins, own, np.ascontiguousarray(filters[bins, own], dtype=np.float32)))
    return tuple(found)


def _htk(hertz: float) -> float:
    return float(2595.0 * np.log10(1.0 + hertz / 700.0))


def _kaldi_mel(hertz: float | np.ndarray) -> np.ndarray:
    return np.asarray(1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0))
