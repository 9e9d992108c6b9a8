"""overture.data.states: what transformers' own extractor and encoder give, cached and from threads, and held to the weights they are named after."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from overture.config import fingerprint, from_dict, to_dict
from overture.data import states
from overture.data.source import Cached, Live
from overture.data.states import EncoderStates
from overture.data.table import Table
from overture.errors import OvertureError
from overture.models.speech_encoder import SpeechEncoder
from overture.run import Frontend

from ..models import fabricated


def saved(folder: Path, seed: int = 0) -> WhisperForConditionalGeneration:
    """A random Whisper of 16 dimensions that hears 1 s, with its extractor, in `folder`."""
    model = fabricated.network(fabricated.words(english=False), seed)
    model.save_pretrained(folder)
    WhisperFeatureExtractor(chunk_length=1).save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("states") / "tiny"
    saved(folder)
    return folder


@pytest.fixture(scope="module")
def front(folder: Path) -> EncoderStates:
    return EncoderStates(model=str(folder)).settled()


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, count).astype(np.float32)


def test_it_is_a_front_end_that_is_known_without_torch(folder: Path) -> None:
    front = EncoderStates(model=str(folder))
    assert isinstance(front, Frontend)
    assert (front.rate, front.frame_rate, front.dim) == (16_000, 50.0, 16)
    assert from_dict(EncoderStates(), to_dict(front)) == front
    code = (
        "import sys; from overture.data.states import EncoderStates; f = EncoderStates(model=sys.argv[1]); "
        "assert (f.dim, f.steps(16_000)) == (16, 50); assert not {'torch', 'transformers', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


def test_the_states_are_those_of_transformers(folder: Path, front: EncoderStates) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    wave = noise(16_000)  # as long as the model hears, so theirs are not padded either
    with torch.inference_mode():
        x = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_features
        theirs = model.model.encoder(x, output_hidden_states=True).hidden_states
    found = front(wave)
    assert found.dtype == np.float32 and found.shape == (50, 16)
    np.testing.assert_allclose(found, theirs[-1][0], rtol=0, atol=1e-5)
    for layer in (0, 1, 2):
        np.testing.assert_allclose(replace(front, layer=layer)(wave), theirs[layer][0], rtol=0, atol=1e-5)
    assert fingerprint(replace(front, layer=1)) != fingerprint(front)


@pytest.mark.parametrize("count", [400, 479, 480, 639, 640, 641, 12_345, 16_000, 16_159])
def test_steps_are_those_it_makes(count: int, front: EncoderStates) -> None:
    assert front(noise(count)).shape == (front.steps(count), 16)


@pytest.mark.parametrize(("count", "said"), [(399, "shorter than one window of 400"), (16_160, r"1\.01 s are longer")])
def test_what_has_no_states_is_refused(count: int, said: str, front: EncoderStates) -> None:
    with pytest.raises(ValueError, match=said):
        front(noise(count))


def test_states_are_cached_under_the_weights(
    front: EncoderStates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path))
    table = Table.open("embedded", "duration between 0.3 and 1").take(np.arange(10))
    cached, live = Cached.open(table, front), Live(table, front)
    for i in range(len(table)):
        np.testing.assert_allclose(cached[i], live[i], rtol=1e-3, atol=1e-3)  # half precision
    saved(tmp_path / "other", seed=1)
    other = Cached.open(table, EncoderStates(model=str(tmp_path / "other")).settled())
    assert other.folder != cached.folder and np.abs(other[0] - cached[0]).max() > 0.1
    long = Table.open("embedded", "duration between 1.1 and 4").take(np.arange(1))
    with pytest.raises(OvertureError, match=rf"{long.numpy('id')[0]}.* are longer than the 1 s .*--where"):
        Cached.open(long, front)
    with pytest.raises(OvertureError, match=r"settled"):
        Cached.open(table, replace(front, weights=None))


def test_threads_get_what_one_gets_and_load_once(front: EncoderStates, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Path] = []
    load = SpeechEncoder.load
    monkeypatch.setattr(SpeechEncoder, "load", lambda folder: (loads.append(folder), load(folder))[1])
    states._loaded.cache_clear()
    waves = [noise(400 + 900 * i, seed=i) for i in range(16)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(front, waves))
    assert len(loads) == 1
    for wave, found in zip(waves, together):
        np.testing.assert_array_equal(found, front(wave))


def test_weights_that_have_changed_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "tiny")
    before = EncoderStates(model=str(tmp_path / "tiny")).settled()
    saved(tmp_path / "tiny", seed=1)
    after = before.settled()
    assert before.weights != after.weights and fingerprint(before) != fingerprint(after)
    with pytest.raises(OvertureError, match=rf"\({after.weights}\).*\({before.weights}\).* has changed"):
        before(noise(800))


def changed(folder: Path, to: Path, file: str, **values: Any) -> EncoderStates:
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    (to / file).write_text(json.dumps(json.loads((to / file).read_text()) | values))
    return EncoderStates(model=str(to))


def test_what_is_no_whisper_is_refused(folder: Path, front: EncoderStates, tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match=r"no model 'whisper-bas'.*Did you mean 'whisper-base'"):
        _ = EncoderStates(model="whisper-bas").dim
    with pytest.raises(OvertureError, match=r"overture models get whisper-base"):
        EncoderStates().settled()
    with pytest.raises(OvertureError, match=r"model_type is 'bert'"):
        _ = changed(folder, tmp_path / "bert", "config.json", model_type="bert").dim
    for layer in (-1, 3):
        with pytest.raises(OvertureError, match=rf"frontend\.layer={layer}.* 0 to 2"):
            replace(front, layer=layer)(noise(800))
    other = changed(folder, tmp_path / "hop", "preprocessor_config.json", hop_length=320).settled()
    with pytest.raises(OvertureError, match=r"hop_length=320 is not supported, only Whisper's 160"):
        other(noise(800))
