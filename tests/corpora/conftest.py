"""Real speech cut from the embedded corpus, as small files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from overture.data.audio import read
from overture.data.table import Table


@pytest.fixture(scope="session")
def speech() -> list[np.ndarray]:
    """Twelve utterances of .4 to 1.2 s, (N,) float32 at 16 kHz."""
    table = Table.open("embedded", "duration BETWEEN 0.4 AND 1.2 AND language = 'en'")
    rows = [table.row(i) for i in range(12)]
    return [read(r["audio"], rate=16_000, start=r["start"], duration=r["duration"]) for r in rows]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty $OVERTURE_HOME of this test."""
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def put(speech: list[np.ndarray], tmp_path: Path) -> Callable[..., Path]:
    """put("a/b.wav", 3) writes the fourth utterance there (under tmp_path) and returns its path."""

    def write(name: str | Path, which: int = 0, *, rate: int = 16_000, stereo: bool = False) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = speech[which]
        sf.write(path, np.stack([samples, samples], axis=1) if stereo else samples, rate)
        return path

    return write
