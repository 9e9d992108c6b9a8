"""overture.data.vocoder_mel against transformers' filters and the front end of UnivNet, which is HiFi-GAN's, on real speech."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overture.config import fingerprint
from overture.data import audio
from overture.data.table import Table
from overture.data.vocoder_mel import Samples, VocoderMel, filters, hann, spectra
from overture.errors import OvertureError
from overture.run import Frontend

SHAPES = [
    VocoderMel(),
    VocoderMel(rate=22_050),
    VocoderMel(rate=24_000, mels=100, high=12_000),
    VocoderMel(low=80, high=7600),
]


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    row = Table.open("embedded", "duration > 2").row(0)
    return audio.read(row["audio"], rate=16_000, start=row["start"], duration=min(row["duration"], 3.0))


@pytest.mark.parametrize("mel", SHAPES, ids=str)
def test_filters_are_those_of_librosa(mel: VocoderMel) -> None:
    from transformers.audio_utils import mel_filter_bank  # whose own test holds it against librosa

    theirs = mel_filter_bank(
        mel.window // 2 + 1, mel.mels, mel.low, mel.high, mel.rate, norm="slaney", mel_scale="slaney"
    )
    assert filters(mel).shape == theirs.shape
    assert np.abs(filters(mel) - theirs).max() < 1e-5 * theirs.max()


def test_it_is_the_front_end_of_hifi_gan(wave: np.ndarray) -> None:
    from transformers import UnivNetFeatureExtractor

    mel = VocoderMel(rate=24_000, mels=100, high=12_000)
    theirs = UnivNetFeatureExtractor().mel_spectrogram(wave)
    ours = mel(wave)
    assert ours.shape == theirs.shape and ours.dtype == np.float32
    np.testing.assert_allclose(np.exp(ours), np.exp(theirs), rtol=1e-3, atol=1e-6)


@given(count=st.integers(1024, 6000), hop=st.sampled_from([200, 256]))
@settings(max_examples=25, deadline=None)
def test_there_are_exactly_as_many_frames_as_whole_hops(count: int, hop: int) -> None:
    mel = VocoderMel(window=4 * hop, hop=hop, mels=20)
    wave = np.random.default_rng(count).uniform(-0.5, 0.5, count).astype(np.float32)
    assert mel(wave).shape == (count // hop, 20) == (mel.steps(count), mel.dim)
    assert mel.frame_rate == 16_000 / hop


def test_frame_t_has_its_own_samples_in_the_middle() -> None:
    """A click in the middle of frame t is loudest there, so that T frames can stand for T hop samples."""
    mel = VocoderMel()
    for t in (0, 1, 7, 15):
        wave = np.zeros(16 * 256, np.float32)
        wave[t * 256 + 128] = 1.0
        assert np.exp(mel(wave)).sum(1).argmax() == t


def test_the_level_is_kept_and_silence_is_the_floor(wave: np.ndarray) -> None:
    mel = VocoderMel()
    loud, soft = mel(wave), mel(wave * 0.5)
    heard = soft > np.log(1e-3)
    np.testing.assert_allclose((loud - soft)[heard], np.log(2), atol=2e-3)
    np.testing.assert_array_equal(mel(np.zeros(4096, np.float32)), np.float32(np.log(np.float32(1e-5))))


def test_spectra_of_a_tone_by_hand() -> None:
    """A cosine on bin k has half its amplitude times the sum of the window there: a / 2 x 512."""
    mel = VocoderMel()
    wave = (0.25 * np.cos(2 * np.pi * 32 / 1024 * np.arange(8192))).astype(np.float32)
    magnitudes = np.abs(spectra(wave, mel)[4:-4])
    np.testing.assert_allclose(magnitudes[:, 32], 0.125 * hann(1024).sum(), rtol=1e-4)
    assert magnitudes[:, 40:].max() < 1e-2


@pytest.mark.parametrize(("window", "hop"), [(1000, 256), (256, 256), (1020, 255)])  # the last: 382.5 samples to mirror
def test_windows_that_cannot_be_undone_are_refused(window: int, hop: int) -> None:
    with pytest.raises(OvertureError, match="window"):
        VocoderMel(window=window, hop=hop)


def test_bands_beyond_half_the_rate_are_refused() -> None:
    with pytest.raises(OvertureError, match="high=8000 Hz is beyond half of rate=8000"):
        VocoderMel(rate=8_000)


def test_short_utterances_are_refused() -> None:
    with pytest.raises(ValueError, match="1000 samples is shorter than one window of 1024"):
        VocoderMel()(np.zeros(1000, np.float32))
    with pytest.raises(ValueError, match="without samples"):
        Samples()(np.zeros(0, np.float32))


def test_samples_are_as_they_were_recorded(wave: np.ndarray) -> None:
    assert np.array_equal(Samples()(wave), wave)
    assert (Samples().steps(77), Samples().dim, Samples(rate=24_000).frame_rate) == (77, 0, 24_000.0)


def test_both_are_front_ends_with_fingerprints_of_their_own() -> None:
    assert isinstance(VocoderMel(), Frontend) and isinstance(Samples(), Frontend)
    assert fingerprint(VocoderMel()) != fingerprint(VocoderMel(hop=512))
