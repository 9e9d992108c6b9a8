"""Spectral front ends: log-mel with per-utterance normalisation, and Kaldi's fbank.

Each is a frozen dataclass called on one utterance, so padding cannot reach a statistic. numpy only: the transforms release
Python's lock, so threads compute in parallel. This file imports nothing of Overture, because an exported model carries a
copy of it as its feature extractor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

BLOCK = 128  # frames computed at once


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

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """(N,) float32 at `rate` -> (T, mels) float32. N must be at least one window."""
        size, hop = round(self.window * self.rate), round(self.hop * self.rate)
        if len(wave) < size:
            raise ValueError(f"an utterance of {len(wave)} samples is shorter than one window of {size}")
        if self.level is not None:
            rms = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
            wave = wave * np.float32(10 ** (self.level / 20) / max(rms, 1e-8))
        frames = _frames(np.pad(wave, size // 2, mode="reflect"), size, hop)[: len(wave) // hop + 1]
        filters = _mel_filters(size // 2 + 1, self.rate, self.mels, self.low, self.high)
        mel = _energies(frames, _window(size, "hann"), size, filters)
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

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """(N,) float32 in -1..1 at `rate` -> (T, mels) float32. N must be at least one window."""
        size, hop = round(self.window * self.rate), round(self.hop * self.rate)
        if len(wave) < size:
            raise ValueError(f"an utterance of {len(wave)} samples is shorter than one window of {size}")
        frames = _frames(wave * np.float32(self.scale), size, hop)
        fft = 1 << (size - 1).bit_length()
        filters = _kaldi_filters(fft // 2, self.rate, self.mels, self.low, self.high)
        mel = _energies(frames, _window(size, self.window_type), fft, filters, prepare=_kaldi_prepare)
        np.log(np.maximum(mel, np.finfo(np.float32).eps, out=mel), out=mel)
        return np.asarray((mel - np.float32(self.mean)) / np.float32(self.std))


def cmvn(features: np.ndarray) -> np.ndarray:
    """(T, F) -> (T, F): each channel with mean 0 and variance 1 over the utterance; a constant channel becomes 0."""
    centred = features - features.mean(axis=0)
    return np.asarray(centred / (centred.std(axis=0) + np.float32(1e-10)), dtype=np.float32)


def _frames(wave: np.ndarray, size: int, hop: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(wave, size)[::hop]  # (T, size)


def _energies(
    frames: np.ndarray,
    window: np.ndarray,
    fft: int,
    filters: np.ndarray,
    prepare: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """(T, size) frames -> (T, mels) mel energies. In blocks that stay in the cache, which is three times as fast as at once."""
    out = np.empty((len(frames), filters.shape[1]), dtype=np.float32)
    for i in range(0, len(frames), BLOCK):
        block = frames[i : i + BLOCK]
        spectrum = np.fft.rfft((prepare(block) if prepare else block) * window, fft, axis=1)
        power = np.square(spectrum.real)  # (BLOCK, fft/2+1)
        power += np.square(spectrum.imag)
        out[i : i + BLOCK] = power[:, : len(filters)].astype(np.float32, copy=False) @ filters
    return out


def _kaldi_prepare(frames: np.ndarray) -> np.ndarray:
    """Kaldi's removal of the mean and pre-emphasis, frame by frame."""
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    return np.asarray(frames - np.float32(0.97) * before)


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
def _mel_filters(bins: int, rate: int, mels: int, low: float, high: float) -> np.ndarray:
    """(bins, mels) triangles, equally wide on the HTK mel scale, straight in Hz (torchaudio's `melscale_fbanks`)."""
    edges = 700.0 * (10.0 ** (np.linspace(_htk(low), _htk(high), mels + 2) / 2595.0) - 1.0)
    hertz = np.linspace(0, rate / 2, bins)[:, None]
    rise = (hertz - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - hertz) / np.diff(edges)[1:]
    return np.asarray(np.maximum(0.0, np.minimum(rise, fall)), dtype=np.float32)


@lru_cache(maxsize=8)
def _kaldi_filters(bins: int, rate: int, mels: int, low: float, high: float) -> np.ndarray:
    """(bins, mels) triangles, straight on Kaldi's mel scale; the bin at half the rate is left out, as Kaldi does."""
    edges = np.linspace(_kaldi_mel(low), _kaldi_mel(high), mels + 2)
    at = _kaldi_mel(np.arange(bins) * rate / (2 * bins))[:, None]
    rise = (at - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - at) / np.diff(edges)[1:]
    return np.asarray(np.maximum(0.0, np.minimum(rise, fall)), dtype=np.float32)


def _htk(hertz: float) -> float:
    return float(2595.0 * np.log10(1.0 + hertz / 700.0))


def _kaldi_mel(hertz: float | np.ndarray) -> np.ndarray:
    return np.asarray(1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0))
