"""Griffin-Lim: a wave from a mel spectrogram without anything learnt, the control that a vocoder has to beat.

Griffin & Lim 1984, with the momentum of Perraudin et al. 2013 ("A fast Griffin-Lim algorithm"). The mel filters are undone by non-negative least
squares, and phases are found that agree with these magnitudes where windows overlap.
"""

import numpy as np
from scipy import fft

from overture.data.vocoder_mel import VocoderMel, filters, hann, spectra

MULTIPLIED = 100  # updates of the least squares
MOMENTUM = 0.99


def griffin_lim(mel: np.ndarray, frontend: VocoderMel, iterations: int = 60, seed: int = 0) -> np.ndarray:
    """(T, F) log-mel of `frontend` -> (T hop,) float32 samples, at most 1 in magnitude. The phases it begins with are drawn from `seed`.

    Raises ValueError where T hop samples are less than one window.
    """
    if len(mel) * frontend.hop < frontend.window:
        raise ValueError(f"{len(mel)} frames are shorter than one window of {frontend.window} samples")
    magnitudes = linear(mel, frontend)  # (T, bins)
    angles = np.random.default_rng(seed).uniform(-np.pi, np.pi, magnitudes.shape)
    phases = np.exp(1j * angles).astype(np.complex64)
    before = np.zeros_like(phases)
    for _ in range(iterations):
        found = spectra(wave_of(magnitudes * phases, frontend), frontend)
        ahead = found - np.complex64(MOMENTUM / (1 + MOMENTUM)) * before
        phases, before = ahead / np.maximum(np.abs(ahead), np.float32(1e-12)), found
    return np.asarray(np.clip(wave_of(magnitudes * phases, frontend), -1.0, 1.0))


def linear(mel: np.ndarray, frontend: VocoderMel) -> np.ndarray:
    """(T, F) log-mel -> (T, window / 2 + 1) float32 magnitudes, none negative, whose mel is nearest (multiplicative updates, Lee & Seung 2001)."""
    bank = filters(frontend)  # (bins, F)
    target = np.exp(mel.astype(np.float32))  # (T, F)
    blurred = target @ bank.T  # (T, bins)
    found = np.maximum(target @ np.linalg.pinv(bank), np.float32(frontend.floor))
    for _ in range(MULTIPLIED):
        found = found * (blurred / np.maximum((found @ bank) @ bank.T, np.float32(1e-12)))
    return np.asarray(found, dtype=np.float32)


def wave_of(parts: np.ndarray, frontend: VocoderMel) -> np.ndarray:
    """(T, bins) complex -> (T hop,) float32: the wave whose spectra are nearest, by least squares."""
    size, hop, window = frontend.window, frontend.hop, hann(frontend.window)
    frames = fft.irfft(parts, n=size, axis=1) * window  # (T, window)
    wave = _overlapped(frames, hop)
    weight = _overlapped(np.broadcast_to(np.square(window), frames.shape), hop)
    kept = slice(frontend.padding, frontend.padding + len(parts) * hop)
    return np.asarray(wave[kept] / weight[kept], dtype=np.float32)


def _overlapped(frames: np.ndarray, hop: int) -> np.ndarray:
    """(T, window) frames, `hop` apart -> their sum; the window is a multiple of the hop."""
    count, pieces = len(frames), frames.shape[1] // hop
    out = np.zeros((count + pieces - 1, hop), dtype=frames.dtype)
    for piece in range(pieces):
        out[piece : piece + count] += frames[:, piece * hop : (piece + 1) * hop]
    return out.reshape(-1)
