"""overture.recognise.recogniser: what a fine-tuning leaves is loaded by itself, wherever it lies, and gives the same numbers."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from overture.data import audio
from overture.data.table import Table
from overture.errors import OvertureError
from overture.recipes import get
from overture.recognise import recogniser
from overture.recognise.decode import Beam, beam_search
from overture.recognise.lm import NGram, sentences
from overture.recognise.recogniser import Recogniser
from overture.recognise.units import make_units
from overture.tasks.finetune_ctc import FinetunedCTC, finetune

WHERE = "language = 'en' and speaker in ('joe', 'bob', 'tam') and duration between 1 and 2"
PARTS = {"train": np.arange(20), "dev": np.arange(20, 26), "test": np.arange(26, 32)}


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.open("embedded", WHERE).take(np.arange(32))


@pytest.fixture(scope="module", params=["tera", "wav2vec2"])
def tuned(request: pytest.FixtureRequest, table: Table, tmp_path_factory: pytest.TempPathFactory) -> FinetunedCTC:
    """Of frames, and of samples; neither with the sizes of its recipe."""
    run = get(f"{request.param}:tiny")
    run = replace(run, model=replace(run.model, layers=1), data=replace(run.data, max_seconds=2.0))
    home = tmp_path_factory.mktemp("runs")
    return finetune(run, None, table, **PARTS, home=home, tell=lambda record: None, rates=(3e-3,), updates=4)


def waves(table: Table, rows: np.ndarray, rate: int) -> list[np.ndarray]:
    found = [table.row(int(i)) for i in rows]
    return [audio.read(r["audio"], rate=rate, start=r["start"], duration=r["duration"]) for r in found]


def test_it_gives_what_was_scored(tuned: FinetunedCTC, table: Table) -> None:
    loaded = Recogniser.load(tuned.folder)
    assert loaded.units == tuned.units and loaded.lm is None and loaded.rate == 16_000
    assert loaded.frame_rate == (100.0 if loaded.frontend.dim else 50.0) and not loaded.model.training
    test = waves(table, PARTS["test"], loaded.rate)
    found = loaded.log_probs(test)
    for ours, scored, wave in zip(found, tuned.outputs["test"], test):
        assert ours.dtype == np.float32 and ours.shape == scored.shape and ours.shape[1] == len(tuned.units)
        np.testing.assert_allclose(ours, scored, atol=2e-2)  # scoring reads features as float16
        np.testing.assert_allclose(np.exp(ours).sum(1), 1, atol=1e-5)
        assert abs(len(ours) / loaded.frame_rate - len(wave) / loaded.rate) < 0.04
    texts = [recogniser.best_text(o, tuned.units) for o in tuned.outputs["test"]]
    assert texts == tuned.predictions.column("hypothesis").to_pylist()


def test_what_stands_beside_an_utterance_does_not_change_it(
    tuned: FinetunedCTC, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = Recogniser.load(tuned.folder, "cpu")
    test = waves(table, PARTS["test"], loaded.rate)
    together = loaded.log_probs(test)
    for i, wave in enumerate(test):
        (alone,) = loaded.log_probs([wave])
        np.testing.assert_allclose(alone, together[i], atol=1e-4)
    monkeypatch.setattr(recogniser, "BATCH_SECONDS", 3.0)
    sizes: list[int] = []
    forward = type(loaded.model).forward
    monkeypatch.setattr(
        type(loaded.model), "forward", lambda self, x, lengths: (sizes.append(len(x)), forward(self, x, lengths))[1]
    )
    for a, b in zip(loaded.log_probs(test), together):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert sum(sizes) == len(test) and 1 < len(sizes) <= len(test)
    assert loaded.log_probs([]) == []


def test_a_moved_folder_with_a_language_model(tuned: FinetunedCTC, table: Table, tmp_path: Path) -> None:
    about = json.loads((tuned.folder / "run.json").read_text())
    texts = list(table.numpy("text")[PARTS["train"]])
    lm = NGram.estimate(sentences(texts, tuned.units, "units"), 3)
    folder = tmp_path / "elsewhere"
    shutil.copytree(tuned.folder, folder)
    before = Recogniser.load(folder)
    name = before.about["recipe"]
    run = get(name)
    recogniser.save(
        folder,
        pretraining=replace(run, model=replace(run.model, layers=1)),
        units=tuned.units,
        lm=lm,
        beam=Beam(width=8, lm_weight=0.7),
        scores={"cer": 0.5},
    )
    moved = tmp_path / "moved"
    folder.rename(moved)
    loaded = Recogniser.load(moved)
    assert loaded.beam == Beam(width=8, lm_weight=0.7) and loaded.about["scores"] == {"cer": 0.5}
    assert loaded.about["trained_on"] == about["data"] and loaded.about["licence"] == about["data"]["licences"] != []
    scores = tuned.outputs["test"][0]
    ours = beam_search(scores, loaded.units, loaded.lm, loaded.beam)[0]
    theirs = beam_search(scores, tuned.units, lm, loaded.beam)[0]
    assert ours.ids == theirs.ids and ours.score == pytest.approx(theirs.score, abs=1e-3)
    a, b = (r.model.state_dict() for r in (before, loaded))
    assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("kind", ["pieces"])
def test_other_units_come_back(tuned: FinetunedCTC, table: Table, kind: Any, tmp_path: Path) -> None:
    home = tmp_path / "runs"
    run = get("tera:tiny")
    made = finetune(
        run, None, table, **PARTS, home=home, tell=lambda record: None, rates=(1e-3,), updates=1, units=kind, size=60
    )
    loaded = Recogniser.load(made.folder)
    assert loaded.units == made.units == make_units(kind, table.numpy("text")[PARTS["train"]], size=60)
    assert loaded.model.head.output.out_features == len(made.units)


def test_too_short_to_hear(tuned: FinetunedCTC) -> None:
    loaded = Recogniser.load(tuned.folder)
    long = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    for short in (np.zeros(0, np.float32), long[:100]):
        with pytest.raises(OvertureError, match="utterance 2 of 2"):
            loaded.log_probs([long, short])


def test_what_is_no_recogniser_is_said(tuned: FinetunedCTC, tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match=r"is no recogniser: it has no recogniser\.json"):
        Recogniser.load(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(OvertureError, match=r"is a run, and no recogniser.*overture finetune"):
        Recogniser.load(tmp_path)
    whole = json.loads((tuned.folder / "recogniser.json").read_text())
    damaged: list[tuple[Any, str]] = [
        ({**whole, "units": {"characters": "aa"}}, r"recogniser\.json, units"),
        ({**whole, "recipe": "terra:tiny"}, "no recipe 'terra'"),
        ({k: v for k, v in whole.items() if k != "encoder"}, r"recogniser\.json is damaged \(KeyError"),
        ({**whole, "encoder": {"wings": 2}}, "no field 'wings'"),
        ({**whole, "decoding": {"lm": "gone.arpa", "beam": {}}}, "no language model"),
        (whole, "has no checkpoint"),
    ]
    for content, said in damaged:
        (tmp_path / "recogniser.json").write_text(json.dumps(content))
        with pytest.raises(OvertureError, match=said):
            Recogniser.load(tmp_path)
    (tmp_path / "recogniser.json").write_text("{")
    with pytest.raises(OvertureError, match="is damaged"):
        Recogniser.load(tmp_path)
    other = {**whole, "encoder": {**whole["encoder"], "layers": 2}}
    shutil.copytree(tuned.folder / "checkpoints", tmp_path / "checkpoints")
    (tmp_path / "recogniser.json").write_text(json.dumps(other))
    with pytest.raises(OvertureError, match="it is of another model"):
        Recogniser.load(tmp_path)
