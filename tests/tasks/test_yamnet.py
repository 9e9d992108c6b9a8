"""YAMNet: its front end against a slow one, its patches, and the installed network."""

import importlib.util

import numpy as np
import pytest

from overture.data.audio import read
from overture.data.table import Table
from overture.errors import MissingExtra, OvertureError
from overture.models import sources
from overture.tasks import yamnet

from .conftest import table

HOME = sources.home()  # the user's own: tests have another
INSTALLED = sources.complete("yamnet")
ABSENT = [library for library in ("onnx", "onnxruntime") if not importlib.util.find_spec(library)]


def wave(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(count) / 16_000
    return (0.3 * np.sin(2 * np.pi * 440 * t) + 0.05 * rng.normal(size=count)).astype(np.float32)


def slow_log_mel(samples: np.ndarray) -> np.ndarray:
    """Frame by frame and bin by bin, as YAMNet's features.py puts it: |STFT| of 25 ms each 10 ms, 64 mel bands, log(x + .001)."""

    def mel(hertz: float) -> float:
        return 1127.0 * np.log(1.0 + hertz / 700.0)

    edges = np.linspace(mel(125.0), mel(7_500.0), 66)
    weights = np.zeros((257, 64))
    for k in range(1, 257):  # the bin at 0 Hz is left out
        for band in range(64):
            low, centre, high = edges[band : band + 3]
            at = mel(k * 16_000 / 512)
            weights[k, band] = max(0.0, min((at - low) / (centre - low), (high - at) / (high - centre)))
    out = []
    for start in range(0, len(samples) - 400 + 1, 160):
        frame = np.zeros(512)
        for n in range(400):
            frame[n] = samples[start + n] * (0.5 - 0.5 * np.cos(2 * np.pi * n / 400))
        out.append(np.log(np.abs(np.fft.rfft(frame)) @ weights + 0.001))
    return np.array(out)


@pytest.mark.parametrize("count", [1, 9_000, 15_600, 20_000])
def test_patches_are_those_of_a_slow_front_end(count: int) -> None:
    samples = wave(count)
    found = yamnet.patches(samples)
    padded = np.zeros(15_600 + (len(found) - 1) * 7_680)
    padded[:count] = samples
    slow = slow_log_mel(padded)
    assert found.dtype == np.float32 and len(slow) == 96 + 48 * (len(found) - 1)
    for p, patch in enumerate(found):
        np.testing.assert_allclose(patch, slow[48 * p : 48 * p + 96], atol=2e-4)
    if count < 15_000:
        np.testing.assert_allclose(found[0, -1], np.log(0.001), atol=1e-4)  # what was filled up is silent


@pytest.mark.parametrize(
    "count, patches",
    [(1, 1), (15_599, 1), (15_600, 1), (15_601, 2), (15_600 + 7_680, 2), (15_601 + 7_680, 3), (160_000, 20)],
)
def test_no_sample_is_left_over(count: int, patches: int) -> None:
    assert yamnet.patches(np.zeros(count, np.float32)).shape == (patches, 96, 64)


@pytest.mark.parametrize("absent", ["onnx", "onnxruntime"])
def test_without_its_libraries_it_names_the_extra(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamnet.importlib.util, "find_spec", lambda name: None if name == absent else object())
    monkeypatch.setattr(yamnet, "installed", lambda name: pytest.fail("looked for its files first"))
    with pytest.raises(MissingExtra, match=r"overture\[onnx\]"):
        yamnet.pooled(table(3))


@pytest.mark.skipif(bool(ABSENT), reason=f"YAMNet's network needs {', '.join(ABSENT)}: the extra 'onnx'")
def test_without_its_files_it_says_how_to_get_them() -> None:
    with pytest.raises(OvertureError, match="overture models get yamnet"):
        yamnet.pooled(table(3))


@pytest.mark.skipif(bool(ABSENT), reason=f"YAMNet's network needs {', '.join(ABSENT)}: the extra 'onnx'")
@pytest.mark.skipif(not INSTALLED, reason="YAMNet's model file is not installed (models/yamnet beside the corpora)")
def test_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(HOME.parent))
    net = yamnet.YamNet()
    assert (0 - net.zero) * net.scale == pytest.approx(np.log(0.001), abs=net.scale / 2)  # the offset of the log
    spoken = Table.open("embedded", "duration BETWEEN 1 AND 1.2 AND language = 'en'").take(np.arange(6))
    states = yamnet.pooled(spoken)
    assert states.shape == (6, 1024) and states.dtype == np.float32 and np.isfinite(states).all()
    row = spoken.row(2)
    samples = read(row["audio"], rate=16_000, start=row["start"], duration=row["duration"])
    np.testing.assert_array_equal(states[2], net(yamnet.patches(samples)).mean(0))
    others = np.stack([net(yamnet.patches(wave(16_000, seed))).mean(0) for seed in range(3)])  # a tone in noise
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (states, others)]
    within, across = (unit[0] @ x.T for x in unit)
    assert within[~np.eye(6, dtype=bool)].mean() > across.mean() + 0.2
