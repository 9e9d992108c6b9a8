"""overture.models.ge2e: its mel against one bin by bin, its windows and names, and the installed network on voices."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from overture.errors import OvertureError
from overture.models import ge2e, sources
from overture.models.ge2e import SPEC, PowerMel, louder, windows

HOME = sources.home()  # the user's own: tests have another
INSTALLED = sources.complete("ge2e")


def wave(count: int, seed: int = 0, hertz: float = 440.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(count) / 16_000
    return (0.1 * np.sin(2 * np.pi * hertz * t) + 0.02 * rng.normal(size=count)).astype(np.float32)


def slaney(hertz: float) -> float:
    return hertz / (200 / 3) if hertz < 1000 else 15 + np.log(hertz / 1000) / (np.log(6.4) / 27)


def back(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1000 * np.exp(np.log(6.4) / 27 * (mel - 15))


def test_the_mel_is_that_of_a_slow_one() -> None:
    """Slaney's filters of equal area over a power spectrum: librosa.feature.melspectrogram(n_fft=400, hop_length=160, n_mels=40)."""
    x = wave(1_700)
    found = PowerMel()(x)
    assert found.shape == (PowerMel().steps(1_700), 40) == (11, 40) and found.dtype == np.float32
    edges = [back(m) for m in np.linspace(0, slaney(8_000), 42)]
    padded = np.pad(x, 200).astype(np.float64)
    for t in (0, 5, 10):
        frame = padded[160 * t : 160 * t + 400] * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400))
        power = np.abs(np.fft.rfft(frame)) ** 2
        for m in (0, 7, 20, 39):
            low, centre, high = edges[m : m + 3]
            bins = np.arange(201) * 40.0
            triangle = np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
            assert found[t, m] == pytest.approx(float((triangle * 2 / (high - low)) @ power), rel=1e-3, abs=1e-9)


def test_windows_are_resemblyzer_s() -> None:
    """Start frames that VoiceEncoder.compute_partial_slices(n, rate=1.3, min_coverage=0.75) gives, run once on 0.1.4."""
    assert windows(8_000) == [0] and windows(25_600) == [0]
    assert windows(32_000) == windows(43_210) == [0, 77] and windows(80_000) == [0, 77, 154, 231, 308]


def test_only_quiet_recordings_are_made_louder() -> None:
    x = wave(16_000)
    assert louder(x) is x
    quiet = louder(x * np.float32(0.01))
    assert 10 * np.log10(np.mean(quiet**2)) == pytest.approx(-30.0, abs=1e-3)
    assert not louder(np.zeros(100, np.float32)).any()


def test_a_wheel_becomes_weights_without_its_code_being_run(tmp_path: Path) -> None:
    torch.manual_seed(0)
    lstm, linear = torch.nn.LSTM(40, 256, 3, batch_first=True), torch.nn.Linear(256, 256)
    stored = {f"lstm.{n}": t for n, t in lstm.state_dict().items()} | {
        f"linear.{n}": t for n, t in linear.state_dict().items()
    }
    stored |= {"similarity_weight": torch.tensor([70.0]), "similarity_bias": torch.tensor([-4.0])}
    file = io.BytesIO()
    torch.save({"step": 3, "model_state": stored, "optimizer_state": {}}, file)
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr(ge2e.PICKLED, file.getvalue())
        archive.writestr("resemblyzer/__init__.py", "raise SystemExit('run')")
    assert ge2e.install([tmp_path / "a.whl"], tmp_path) == {
        "model.safetensors": "resemblyzer/pretrained.pt: model_state"
    }
    from safetensors.torch import load_file

    model = SPEC.build(PowerMel()).eval()
    model.load_state_dict(load_file(tmp_path / "model.safetensors"))  # every name, and no other
    x = torch.randn(2, 160, 40)
    with torch.no_grad():
        _, (hidden, _) = lstm(x)
        raw = linear(hidden[-1]).relu()
        last, lengths = model.states(x, torch.tensor([160, 160]))
        torch.testing.assert_close(model.vectors(last[-1], lengths), raw / raw.norm(dim=1, keepdim=True))


def test_a_network_that_is_not_installed_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path))
    with pytest.raises(OvertureError, match=r"'ge2e' is not installed .*overture models get ge2e"):
        ge2e.Ge2e()


@pytest.mark.skipif(not INSTALLED, reason="overture models get ge2e")
def test_the_installed_network_gives_a_vector_of_length_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "home", lambda: HOME)
    embed = ge2e.Ge2e()
    a, b, c = embed(wave(40_000)), embed(wave(52_000, seed=1)), embed(wave(40_000, hertz=1_900.0))
    assert a.shape == (256,) and float(np.linalg.norm(a)) == pytest.approx(1.0) and a.min() >= 0
    assert a @ b > a @ c
