"""What happens to speech on its way to a microphone and down a line: speed, rooms, noise, bands, G.711.

Plain functions of mono float32 waves. All but `speed` keep the length and the time of every onset. `add_noise`, `reverberate` and `band_limit` keep
the root mean square, `telephone_line` takes its own gain back, so no step makes an utterance louder. Floats have no ceiling and nothing clips: only
the codes of a telephone line have one, and the wave is lowered to fit before it is coded.
"""

from functools import lru_cache

import numpy as np
import soxr
from scipy import signal

ORDER = 4  # of the Butterworth filter of each band edge; run forwards and backwards, so 48 dB an octave and no delay
LINE_RATE = 8_000  # Hz
LINE_LEVEL = -26.0  # dBFS, root mean square: the nominal speech level of ITU-T P.830 and G.191
FULL_SCALE = 32_635  # the largest 16-bit sample that G.711 codes without clipping
BIAS = 33  # of G.711's mu-law, in 14-bit units


def power(wave: np.ndarray) -> float:
    """Mean square of (N,)."""
    return float(np.mean(np.square(wave, dtype=np.float64))) if len(wave) else 0.0


def speed_steps(count: int, factor: float) -> int:
    """Samples of an utterance of `count` samples that is played `factor` times as fast."""
    return round(count / factor)


def speed(wave: np.ndarray, factor: float) -> np.ndarray:
    """(N,) -> (round(N / factor),): played `factor` times as fast, pitch and all (Ko et al. 2015), by soxr 'HQ'."""
    if factor == 1.0:
        return wave
    count = speed_steps(len(wave), factor)
    made = np.asarray(soxr.resample(wave, factor, 1.0, quality="HQ"), dtype=np.float32)
    return np.pad(made[:count], (0, max(0, count - len(made))))


def add_noise(wave: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """(N,), (N,) -> (N,): the mean power of `wave` over that of the noise in it is `snr` dB. Digital silence has no such ratio and stays.

    Raises ValueError for noise that is digital silence.
    """
    loud, other = power(wave), power(noise)
    if other == 0.0:
        raise ValueError("the noise is digital silence")
    return _level(wave + np.float32(np.sqrt(loud / other) * 10 ** (-snr / 20)) * noise, loud)


def reverberate(wave: np.ndarray, impulse: np.ndarray) -> np.ndarray:
    """(N,), (K,) -> (N,): `wave` in a room. The direct sound, the largest sample of `impulse`, is not delayed; what rings on after the end is cut."""
    direct = int(np.abs(impulse).argmax())
    wet = signal.oaconvolve(wave, impulse[direct:])[: len(wave)]
    return _level(wet, power(wave))


def impulse_response(rng: np.random.Generator, rate: int, t60: float, direct: float) -> np.ndarray:
    """A synthetic room (Polack 1988): the direct sound, then Gaussian noise that decays by 60 dB in `t60` s. (round(t60 * rate) + 1,) float32.

    `direct`: power of the direct sound over that of all the rest, dB. No early echoes: a real room has more structure.
    """
    count = max(1, round(t60 * rate))
    tail = rng.standard_normal(count) * 10 ** (-3 * np.arange(1, count + 1) / (t60 * rate))
    tail *= 10 ** (-direct / 20) / np.sqrt(np.sum(np.square(tail)))
    return np.concatenate([[1.0], tail]).astype(np.float32)


def band_limit(wave: np.ndarray, rate: int, low: float, high: float) -> np.ndarray:
    """(N,) -> (N,): only what lies between `low` and `high` Hz (-6 dB there), without delay. `high` must be below rate / 2."""
    if not len(wave):
        return wave
    sections = _sections(rate, low, high)
    edge = min(len(wave) - 1, rate // 10)  # a tenth of a second is mirrored at the ends
    return _level(signal.sosfiltfilt(sections, wave, padlen=edge), power(wave))


@lru_cache(maxsize=8)
def _sections(rate: int, low: float, high: float) -> np.ndarray:
    return np.asarray(signal.butter(ORDER, (low, high), "bandpass", fs=rate, output="sos"))


def telephone_line(wave: np.ndarray, rate: int) -> tuple[np.ndarray, float]:
    """(N,) -> (N,) and a gain: 8 kHz and G.711 mu-law, at the level of a telephone, then back to the rate and the level it had.

    The line wants -26 dBFS, or less where a peak would not fit into its codes: `gain` is what the wave was multiplied by on the line. At 8 kHz the
    result times `gain` and 32,768 are the whole numbers that G.711 decodes to.
    """
    narrow = wave if rate == LINE_RATE else _resampled(wave, rate, LINE_RATE, round(len(wave) * LINE_RATE / rate))
    loud, peak = power(narrow), float(np.abs(narrow).max(initial=0.0))
    gain = min(10 ** (LINE_LEVEL / 20) / np.sqrt(loud), FULL_SCALE / 32_768 / peak) if loud else 1.0
    samples = np.rint(narrow * (gain * 32_768.0)).astype(np.int16)
    decoded = (mulaw_decode(mulaw_encode(samples)) / (gain * 32_768.0)).astype(np.float32)
    return (decoded if rate == LINE_RATE else _resampled(decoded, LINE_RATE, rate, len(wave))), float(gain)


def _resampled(wave: np.ndarray, native: int, rate: int, count: int) -> np.ndarray:
    made = np.asarray(soxr.resample(wave, native, rate, quality="HQ"), dtype=np.float32)
    return np.pad(made[:count], (0, max(0, count - len(made))))


def mulaw_encode(samples: np.ndarray) -> np.ndarray:
    """(N,) int16 -> (N,) uint8: mu-law as in ITU-T G.711, the bits inverted as they are sent; 32,635 and above are one code.

    G.711 codes 14 bits: the two lowest do not count.
    """
    magnitude = np.minimum(np.abs(samples.astype(np.int32)) >> 2, FULL_SCALE >> 2) + BIAS  # 33..8191
    segment = np.frexp(magnitude.astype(np.float32))[1] - 6  # 0..7: the place of the highest bit, from 32 on
    code = (segment << 4) | ((magnitude >> (segment + 1)) & 0xF)
    return np.asarray(np.where(samples < 0, 0x7F, 0xFF) ^ code, dtype=np.uint8)


def mulaw_decode(codes: np.ndarray) -> np.ndarray:
    """(N,) uint8 -> (N,) int16, -32,124..32,124."""
    bits = ~codes.astype(np.int32)
    magnitude = ((((bits & 0xF) << 1) + BIAS) << ((bits >> 4) & 7)) - BIAS
    return np.asarray(np.where(bits & 0x80, -magnitude, magnitude) << 2, dtype=np.int16)


def _level(wave: np.ndarray, loud: float) -> np.ndarray:
    """`wave` with the mean square `loud`, float32."""
    now = power(wave)
    return np.asarray(wave * np.sqrt(loud / now) if now else wave, dtype=np.float32)
