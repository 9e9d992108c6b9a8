"""overture.data.normal_mel and level: about mean 0 and deviation 1, and back again to what a vocoder hears."""

from dataclasses import replace

import numpy as np
import pytest

from overture.data.level import level
from overture.data.normal_mel import NormalMel
from overture.data.table import Table
from overture.data.vocoder_mel import VocoderMel


def test_it_is_the_vocoders_mel_normalised() -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    mel = NormalMel(mean=-4.0, std=2.5)
    found, plain = mel(wave), VocoderMel()(wave)
    assert found.shape == (mel.steps(8_000), mel.dim) == (31, 80) and found.dtype == np.float32
    np.testing.assert_allclose(found, (plain + 4.0) / 2.5, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mel.log_mel(found), plain, rtol=1e-5, atol=1e-5)


def test_the_defaults_are_the_level_of_the_embedded_corpus() -> None:
    table = Table.open("embedded", "language LIKE 'en%' AND duration > 0.5")
    mean, std = level(table, NormalMel(), rows=12)
    assert mean == pytest.approx(NormalMel().mean, abs=0.6) and std == pytest.approx(NormalMel().std, abs=0.4)
    assert level(table, replace(NormalMel(), mean=3.0, std=9.0), rows=12) == (mean, std)  # of the plain mel, always
