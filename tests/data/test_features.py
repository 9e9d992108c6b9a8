"""overture.data.features against transformers' and Kaldi's own front ends, on real speech."""

import numpy as np
import pytest

from overture.data import audio
from overture.data.features import KaldiFbank, LogMel, cmvn
from overture.data.table import Table


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    row = Table.open("embedded", "duration > 2").row(0)
    return audio.read(row["audio"], rate=16_000, start=row["start"], duration=row["duration"])


def test_log_mel_is_that_of_transformers(wave: np.ndarray) -> None:
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    filters = mel_filter_bank(201, 80, 0, 8000, 16000, norm=None, mel_scale="htk")
    theirs = spectrogram(
        wave, window_function(400, "hann"), 400, 160, power=2.0, mel_filters=filters, mel_floor=0.0, log_mel=None
    )
    ours = LogMel(level=None, normalise=False)(wave)
    assert ours.shape == theirs.T.shape == (len(wave) // 160 + 1, 80)
    np.testing.assert_allclose(ours, np.log(theirs.T + 1e-10), atol=2e-3)


@pytest.mark.parametrize("mels", [40, 80])
def test_fbank_is_kaldis(wave: np.ndarray, mels: int) -> None:
    import kaldi_native_fbank as knf

    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins, options.mel_opts.high_freq = mels, 8000
    computer = knf.OnlineFbank(options)
    computer.accept_waveform(16000, (wave * 32768).tolist())
    computer.input_finished()
    theirs = np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])
    ours = KaldiFbank(mels=mels)(wave)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=2e-2)


def test_fbank_is_that_of_asts_extractor(wave: np.ndarray) -> None:
    from transformers import ASTFeatureExtractor

    extractor = ASTFeatureExtractor(do_normalize=False, max_length=2000)
    theirs = extractor(wave, sampling_rate=16000)["input_values"][0]
    ours = KaldiFbank(window_type="hanning", scale=1.0)(wave)
    np.testing.assert_allclose(ours, theirs[: len(ours)], atol=2e-2)


def test_level_and_normalisation(wave: np.ndarray) -> None:
    front = LogMel()
    np.testing.assert_allclose(front(wave), front(wave * 0.1), atol=2e-2)  # the level is set before the log
    np.testing.assert_allclose(front(wave).mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(front(wave).std(0), 1, atol=1e-3)
    assert np.isfinite(front(np.zeros(16000, np.float32))).all()  # silence
    for constant in (1.0, -23.025852):  # the second is the log of the floor: its mean is not exact
        assert not cmvn(np.full((57, 3), constant, np.float32)).any()  # a constant channel becomes zero, not NaN


@pytest.mark.parametrize("front", [LogMel(), KaldiFbank()])
def test_an_utterance_under_one_window_is_refused(front: LogMel | KaldiFbank) -> None:
    assert front(np.ones(400, np.float32)).shape[1] == front.dim
    with pytest.raises(ValueError, match="shorter than one window"):
        front(np.ones(399, np.float32))
