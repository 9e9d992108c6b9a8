"""overture.data.voices: one vector a recording, cached by what made it, in batches as it is; encoders that are not there or not the same."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from overture.config import from_dict, to_dict
from overture.data import audio, voices
from overture.data.draws import Draws
from overture.data.grid import Grid
from overture.data.normal_mel import NormalMel
from overture.data.voices import MeanMel, SpeakerVectors
from overture.errors import OvertureError
from overture.export import load_run
from overture.models.origin import weights_fingerprint
from overture.models.speaker import SpeakerLstm
from overture.recipes import get
from overture.recipes.sv2tts import default, tiny
from overture.run import Frontend
from overture.train.engine import Engine
from overture.train.examples import Utterances
from overture.train.loop import train

FEW = "phones IS NOT NULL AND duration BETWEEN 0.6 AND 0.9 AND speaker = 'joe'"


def encoder(weights: str = "abc") -> Callable[[str], tuple[Callable[[np.ndarray], np.ndarray], str]]:
    """Stands for a loaded network: loudness in the first number."""
    return lambda name: (lambda wave: np.array([np.abs(wave).mean(), *np.ones(255)], np.float32), weights)


def test_a_recording_is_one_step() -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32)
    for front in (MeanMel(), SpeakerVectors()):
        assert isinstance(front, Frontend) and front.steps(20_000) == front.steps(99_999) == 1
        assert (front.rate, front.dim) == (16_000, 80 if isinstance(front, MeanMel) else 256)
    found = MeanMel()(wave)
    np.testing.assert_allclose(found, NormalMel()(wave).mean(0)[None], rtol=1e-6)
    assert found.shape == (1, 80) and found.dtype == np.float32


def test_batches_say_who_speaks_in_each_row_and_numbers_are_no_network() -> None:
    run = tiny()
    run = replace(run, data=replace(run.data, where=FEW))
    examples = Utterances.prepare(run)
    assert len(examples.table) >= 4
    batch = examples.batch(np.array([3, 0, 2]), Draws(0, 0))
    assert batch.voices is not None and batch.voices.shape == (3, 80) and not batch.voices.requires_grad
    for place, index in enumerate((3, 0, 2)):
        row = examples.table.row(index)
        wave = audio.read(row["audio"], rate=16_000, start=row["start"], duration=row["duration"])
        np.testing.assert_allclose(batch.voices[place], MeanMel()(wave)[0], atol=2e-3)  # half precision


def test_an_utterance_is_learnt_whole_or_refused() -> None:
    run = tiny()
    short = replace(run, data=replace(run.data, where=FEW, max_seconds=0.7))
    with pytest.raises(
        OvertureError, match=r'rows, such as .* longer than data.max_seconds=0.7.*--where "duration <= 0.7"'
    ):
        Utterances.prepare(short)
    none = replace(run, data=replace(run.data, where="language = 'it-IT' AND duration < 0.9"))
    with pytest.raises(OvertureError, match="has no phones"):
        Utterances.prepare(none)


def test_vectors_are_named_after_the_weights_that_made_them(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = np.full(16_000, 0.5, np.float32)
    monkeypatch.setattr(voices, "_loaded", encoder("abc"))
    settled = default().settled()
    assert settled.data.voices == SpeakerVectors(weights="abc") and settled.fingerprint != default().fingerprint
    assert from_dict(settled, to_dict(settled)) == settled
    assert settled.data.voices(wave).tolist() == [[0.5, *[1.0] * 255]]
    with pytest.raises(OvertureError, match="does not say which weights"):
        SpeakerVectors()(wave)
    monkeypatch.setattr(voices, "_loaded", encoder("def"))
    with pytest.raises(OvertureError, match=r"'ge2e' has other weights \(def\).*\(abc\)"):
        settled.data.voices(wave)
    assert tiny().settled() == tiny()


def test_what_is_no_speaker_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match=r"neither 'ge2e'.*nor a run of a speaker encoder: it has no run.json"):
        SpeakerVectors(encoder=str(tmp_path)).settled()
    (tmp_path / "run.json").write_text(json.dumps({"config": {"model": {"dim": 8}}}))
    with pytest.raises(OvertureError, match="makes no vectors of voices"):
        _ = SpeakerVectors(encoder=str(tmp_path)).dim


def test_a_run_of_a_speaker_encoder_is_one(tmp_path: Path) -> None:
    run = get("ge2e:tiny")
    assert run.model == SpeakerLstm(layers=2, dim=24, embedding=16, head="relu")
    few = replace(
        run.data, where="duration between 0.5 and 1 and speaker in ('joe', 'bob', 'bud')", grid=Grid(values=2, rows=2)
    )
    with Engine.start() as engine:
        train(replace(run, data=few, loop=replace(run.loop, updates=0)), tmp_path / "ge2e", engine=engine)
    front = SpeakerVectors(encoder=str(tmp_path / "ge2e")).settled()
    wave = np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)
    found = front(wave)
    assert found.shape == (1, front.dim) == (1, 16) and front.rate == run.frontend.rate
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-4)
    _, model = load_run(tmp_path / "ge2e")
    frames = torch.from_numpy(run.frontend(wave))[None]
    with torch.no_grad():
        np.testing.assert_allclose(found, model.embed(frames, torch.tensor([frames.shape[1]])).numpy(), atol=1e-6)
    assert front.weights == weights_fingerprint(model.state_dict())
    nobody = front.drawn(0)  # behind the ReLU of this encoder no number is below 0
    assert nobody.shape == (1, 16) and (nobody >= 0).all()


def test_nobodys_voice_is_on_the_sphere_and_where_the_encoders_vectors_are(tmp_path: Path) -> None:
    drawn = np.concatenate([SpeakerVectors().drawn(seed) for seed in range(200)])
    assert drawn.shape == (200, 256) and drawn.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, rtol=1e-5)
    assert (drawn >= 0).all()  # as of the published encoder, which ends in a ReLU
    np.testing.assert_array_equal(SpeakerVectors().drawn(3)[0], drawn[3])
    (tmp_path / "run.json").write_text(json.dumps({"config": {"model": {"embedding": 64, "head": "projection"}}}))
    both = np.concatenate([SpeakerVectors(encoder=str(tmp_path)).drawn(seed) for seed in range(200)])
    assert both.shape == (200, 64) and 0.45 < (both < 0).mean() < 0.55  # without one any sign is as likely
    with pytest.raises(OvertureError, match="cannot be drawn where voices are mean spectrograms"):
        MeanMel().drawn(0)
