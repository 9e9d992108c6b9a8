"""overture.data.audio: a recording read in parts is the recording."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from overture.data.audio import UnreadableAudio, blocks, read


@pytest.mark.parametrize("native", [16_000, 22_050, 48_000])
def test_parts_together_are_the_whole(native: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sf.write(tmp_path / "a.flac", 0.1 * rng.standard_normal((3 * native, 2)), native)
    for start, duration in ((0.0, None), (0.7, 1.9)):
        whole = read(tmp_path / "a.flac", rate=16_000, start=start, duration=duration)
        parts = list(blocks(tmp_path / "a.flac", rate=16_000, start=start, duration=duration, seconds=0.31))
        assert len(parts) > 5 and max(map(len, parts)) < 0.4 * 16_000 + 1
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


def test_what_is_no_audio_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no audio" * 99)
    for name in ("a.wav", "gone.wav"):
        with pytest.raises(UnreadableAudio, match=rf"{name}: cannot be read as audio"):
            list(blocks(tmp_path / name, rate=16_000))
