"""overture.speak: a recording that no voice can be taken from is refused, by name."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from overture.errors import OvertureError
from overture.speak import Reference


def tone(seconds: float, rate: int = 16_000, level: float = 0.1) -> np.ndarray:
    wave: np.ndarray = (level * np.sin(np.arange(round(seconds * rate)) / 5)).astype(np.float32)
    return wave


def test_it_is_read_as_mono_and_heard_at_any_rate(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    sf.write(file, np.stack([tone(2, 8000), 0 * tone(2, 8000)], 1), 8000, "FLOAT")
    found = Reference.read(file, "a tone")
    np.testing.assert_allclose(found.wave, tone(2, 8000) / 2, atol=1e-7)
    assert (found.rate, found.text, found.name) == (8000, "a tone", str(file))
    assert len(found.at(16_000)) == 32_000 and found.at(8000) is not None


def test_what_is_no_voice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match=r"none\.wav: cannot be read as audio"):
        Reference.read(tmp_path / "none.wav")
    for wave, message in (
        (tone(0.99), r"lasts 0\.99 s, and a voice needs 1 s"),
        (np.zeros(0, np.float32), r"lasts 0\.00 s"),
        (tone(2, level=1e-4), r"is silent \(below -70 dBFS\)"),
        (np.full(20_000, np.nan, np.float32), "has samples that are no numbers"),
    ):
        sf.write(file := tmp_path / "a.wav", wave, 16_000, "FLOAT")
        with pytest.raises(OvertureError, match=rf"a\.wav {message}"):
            Reference.read(file)
    Reference(wave=tone(1.0), rate=16_000)
    Reference(wave=tone(2, level=1e-3), rate=16_000)  # -63 dBFS
