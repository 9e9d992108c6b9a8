"""overture.data.waves: exact ratios, decays, bands and codes; lengths, levels and onsets are kept."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from overture.data import waves
from overture.data.audio import read
from overture.data.table import Table

RATE = 16_000


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    row = Table.open("embedded", "duration BETWEEN 2 AND 3").row(0)
    return read(row["audio"], rate=RATE, start=row["start"], duration=row["duration"])


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def peak_hertz(wave: np.ndarray, rate: int = RATE) -> float:
    return float(np.abs(np.fft.rfft(wave * np.hanning(len(wave)))).argmax() * rate / len(wave))


@pytest.mark.parametrize("factor", [0.5, 0.9, 0.95, 1.0, 1.05, 1.1, 2.0])
def test_speed_gives_exactly_the_planned_length_and_moves_pitch_and_onset(factor: float) -> None:
    for count in (1, 2, 5, 399, 400, 16_000, 16_001, 31_999, 160_007):
        made = waves.speed(np.ones(count, dtype=np.float32), factor)
        assert len(made) == waves.speed_steps(count, factor) == round(count / factor) and made.dtype == np.float32
    assert peak_hertz(waves.speed(tone(1_000), factor)) == pytest.approx(1_000 * factor, abs=1.5)
    click = np.zeros(RATE, dtype=np.float32)
    click[4_000] = 1.0
    assert abs(int(np.abs(waves.speed(click, factor)).argmax()) - 4_000 / factor) <= 1


@pytest.mark.parametrize("snr", [-5.0, 0.0, 12.5, 30.0])
def test_noise_is_added_at_exactly_the_ratio_asked_for(speech: np.ndarray, snr: float) -> None:
    noise = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32) * 0.3
    mixed = waves.add_noise(speech, noise, snr)
    # What of the mixture is speech, and what is noise, by least squares
    parts = np.linalg.lstsq(np.stack([speech, noise], 1).astype(np.float64), mixed.astype(np.float64), rcond=None)[0]
    ratio = 10 * np.log10(waves.power(parts[0] * speech) / waves.power(parts[1] * noise))
    assert ratio == pytest.approx(snr, abs=1e-3) and parts[0] > 0 and parts[1] > 0
    assert waves.power(mixed) == pytest.approx(waves.power(speech), rel=1e-5)
    assert not waves.add_noise(np.zeros_like(speech), noise, snr).any()
    with pytest.raises(ValueError, match="digital silence"):
        waves.add_noise(speech, np.zeros_like(speech), snr)


@pytest.mark.parametrize("t60", [0.2, 0.5, 1.0])
def test_a_synthetic_room_decays_by_60_db_in_its_t60(t60: float) -> None:
    impulse = waves.impulse_response(np.random.default_rng(0), RATE, t60, direct=6.0)
    assert impulse[0] == 1.0 and len(impulse) == round(t60 * RATE) + 1
    assert 10 * np.log10(1.0 / np.sum(np.square(impulse[1:]))) == pytest.approx(6.0, abs=1e-3)
    # Schroeder's backward integral of the tail falls by 30 dB in half of T60.
    left = 10 * np.log10(np.cumsum(np.square(impulse[:0:-1], dtype=np.float64))[::-1])
    at = np.flatnonzero(left < left[0] - 30)[0] / RATE
    assert at == pytest.approx(t60 / 2, rel=0.08)


def test_reverberation_keeps_length_level_and_the_place_of_the_onset(speech: np.ndarray) -> None:
    click = np.zeros(8_000, dtype=np.float32)
    click[3_000] = 0.5
    late = np.concatenate([np.zeros(700), waves.impulse_response(np.random.default_rng(1), RATE, 0.4, 3.0)])
    for impulse in (late, -late):  # a real one starts before its direct sound, which may point either way
        wet = waves.reverberate(click, impulse.astype(np.float32))
        assert int(np.abs(wet).argmax()) == 3_000 and len(wet) == len(click)
        assert np.abs(wet[:3_000]).max() < 1e-6 < np.abs(wet[3_001:]).max()
    wet = waves.reverberate(speech, late.astype(np.float32))
    assert len(wet) == len(speech) and wet.dtype == np.float32
    assert waves.power(wet) == pytest.approx(waves.power(speech), rel=1e-5)
    alone = waves.reverberate(speech, np.array([0.0, 0.0, 1.0], dtype=np.float32))
    np.testing.assert_allclose(alone, speech, atol=1e-6)


def test_a_band_keeps_what_is_in_it_and_does_not_delay(speech: np.ndarray) -> None:
    inside, below, above = tone(1_000), tone(100), tone(6_500)
    mixed = waves.band_limit(inside + below + above, RATE, 300, 3_400)
    middle = slice(4_000, 12_000)
    spectrum = np.abs(np.fft.rfft(mixed[middle] * np.hanning(8_000)))
    hertz = np.fft.rfftfreq(8_000, 1 / RATE)
    level = [20 * np.log10(spectrum[np.abs(hertz - f).argmin()]) for f in (1_000, 100, 6_500)]
    assert level[0] - level[1] > 60 and level[0] - level[2] > 40
    # In phase, for the level is that of all three tones before: sqrt 3.
    np.testing.assert_allclose(mixed[middle], inside[middle] * np.sqrt(3), atol=0.01)
    for count in (0, 1, 2, 30, 1_601):
        made = waves.band_limit(speech[:count], RATE, 300, 3_400)
        assert len(made) == count and np.isfinite(made).all()
    edge = tone(3_400, 2.0)
    loud = waves.band_limit(edge + tone(1_000, 2.0), RATE, 300, 3_400)[8_000:24_000]
    spectrum = np.abs(np.fft.rfft(loud * np.hanning(16_000)))
    assert 20 * np.log10(spectrum[3_400] / spectrum[1_000]) == pytest.approx(-6.02, abs=0.1)


def test_mulaw_codes_are_those_of_g711(tmp_path: Path) -> None:
    # ITU-T G.711, table 2a: 14-bit value at the decoder output by code, positive values, first and last of each segment.
    table = {0xFF: 0, 0xFE: 2, 0xF0: 30, 0xEF: 33, 0xE0: 93, 0xDF: 99, 0xD0: 219, 0xCF: 231, 0xC0: 471, 0xBF: 495, 0xB0: 975,
             0xAF: 1023, 0xA0: 1983, 0x9F: 2079, 0x90: 3999, 0x8F: 4191, 0x80: 8031}  # fmt: skip
    codes = np.array(list(table), dtype=np.uint8)
    assert (waves.mulaw_decode(codes) // 4).tolist() == list(table.values())
    assert waves.mulaw_decode(codes & 0x7F).tolist() == [-4 * v for v in table.values()]
    # Decision values of the same table lie half way between neighbours: 14-bit 1, 3, 31, 35, 8159 - 128.
    for below, decision in ((0xFF, 1), (0xFE, 3), (0xF0, 31), (0xEF, 35), (0x81, 7_903)):
        pair = waves.mulaw_encode(np.array([4 * decision - 4, 4 * decision], dtype=np.int16))
        assert pair.tolist() == [below, below - 1]
    assert waves.mulaw_encode(np.array([32_767, -32_768], dtype=np.int16)).tolist() == [0x80, 0x00]
    # And all 65,536 samples as libsndfile codes them.
    samples = np.arange(-32_768, 32_768).astype(np.int16)
    sf.write(tmp_path / "all.wav", samples, 8_000, subtype="ULAW")
    codes = waves.mulaw_encode(samples)
    assert (tmp_path / "all.wav").read_bytes()[-65_536:] == codes.tobytes()
    assert np.array_equal(sf.read(tmp_path / "all.wav", dtype="int16")[0], waves.mulaw_decode(codes))
    all_codes = np.arange(256, dtype=np.uint8)
    again = waves.mulaw_encode(waves.mulaw_decode(all_codes))
    assert np.flatnonzero(again != all_codes).tolist() == [0x7F]  # minus zero


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 300.0])
def test_a_telephone_line_does_not_clip_whatever_the_level(rate: int, scale: float) -> None:
    rng = np.random.default_rng(0)
    wave = (tone(440, 0.5, rate) + 0.1 * rng.standard_normal(round(0.5 * rate))).astype(np.float32)
    wave[rate // 10] = 40.0  # a peak that would not fit at -26 dBFS
    wave *= np.float32(scale)
    made, gain = waves.telephone_line(wave, rate)
    assert len(made) == len(wave) and made.dtype == np.float32
    inner = slice(rate // 5, rate // 2 - rate // 50)
    error = made[inner] - (wave[inner] if rate == 8_000 else 0)
    assert peak_hertz(made[inner], rate) == pytest.approx(440, abs=5)
    if rate == 8_000:
        assert float(np.abs(made).max()) * gain <= 32_124 / 32_768 + 1e-6
        assert (
            10 * np.log10(waves.power(wave[inner]) / waves.power(error)) > 20
        )  # about 38 dB, less where it is lowered
        levels = made.astype(np.float64) * gain * 32_768
        assert np.abs(levels - np.rint(levels)).max() < 0.01
        whole = np.rint(levels).astype(np.int16)
        assert np.array_equal(waves.mulaw_decode(waves.mulaw_encode(whole)), whole)
        np.testing.assert_allclose(wave[800] * gain, 32_635 / 32_768, rtol=1e-6)  # the peak just fits


def test_a_telephone_line_carries_speech_at_26_db_below_full_scale(speech: np.ndarray) -> None:
    made, gain = waves.telephone_line(speech, RATE)
    narrow = waves.telephone_line(np.asarray(speech[::2]), 8_000)[0]
    assert len(narrow) == len(speech[::2])
    assert 10 * np.log10(waves.power(made * gain)) == pytest.approx(-26.0, abs=0.3)
    lag = np.correlate(made.astype(np.float64), speech[200:-200].astype(np.float64), "valid").argmax()
    assert lag == 200  # nothing is delayed
    silence, gain = waves.telephone_line(np.zeros(1_000, dtype=np.float32), RATE)
    assert not silence.any() and gain == 1.0
