"""overture.tasks.finetune_classes: whole encoders, of frames and of samples, that learn to tell classes apart."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from overture.data.features import LogMel, Waveform
from overture.data.table import Table
from overture.errors import OvertureError
from overture.models.tuned import unused
from overture.rates import FURTHER
from overture.recipes import get
from overture.run import Run
from overture.tasks.finetune import RATES, SPECAUGMENT
from overture.tasks.finetune_classes import Classifier, Classify, MeanHead, finetune
from overture.train.engine import Engine
from overture.train.loop import train
from overture.train.track import read_metrics

from ..laws.conftest import tensors
from .toys import Strided, waves

WHERE = "speaker in ('joe', 'bud') and duration between 0.6 and 2"


@pytest.fixture(scope="module")
def table() -> Table:
    """60 utterances of two voices in turn; `number` is 7 or 8 for them."""
    found = Table.open("embedded", WHERE)
    voices = found.numpy("speaker")
    rows = np.stack([np.flatnonzero(voices == v)[:30] for v in ("joe", "bud")], axis=1).ravel()
    taken = found.take(rows)
    numbers = pa.array([7 + (v == "bud") for v in taken.numpy("speaker")])
    return Table(taken.columns.append_column("number", numbers), name="voices", root=found.root)


PARTS = {"train": np.arange(36), "dev": np.arange(36, 46), "test": np.arange(46, 60)}


@pytest.fixture(scope="module")
def pretraining() -> Run:
    run = get("tera:tiny")
    return replace(run, data=replace(run.data, where=WHERE), loop=replace(run.loop, updates=2))


def told() -> tuple[list[dict[str, Any]], Any]:
    records: list[dict[str, Any]] = []
    return records, records.append


def test_two_voices_are_told_apart(pretraining: Run, table: Table, tmp_path: Path) -> None:
    _, tell = told()
    given: dict[str, Any] = {**PARTS, "target": "speaker", "home": tmp_path, "updates": 40}
    result = finetune(pretraining, None, table, **given, tell=tell, rates=(1e-5, 3e-3))
    assert result.metric == "accuracy" and set(result.dev) == {1e-5, 3e-3}
    assert result.dev[result.rate] == max(result.dev.values()) and result.rate == 3e-3
    assert result.value == result.counts.value >= 0.6
    assert result.predictions.column("id").to_pylist() == [str(i) for i in table.numpy("id")[46:]]
    assert result.predictions.column("reference").to_pylist() == list(table.numpy("speaker")[46:])
    assert sum(result.predictions.column("correct").to_pylist()) / 14 == result.value
    folders = list(tmp_path.glob("tera-speaker-classes-*"))
    assert len(folders) == 2
    for folder in folders:
        about = json.loads((folder / "run.json").read_text())
        assert about["config"]["players"][0]["objective"]["alteration"] is not None
        updates = [r for r in read_metrics(folder) if r["kind"] == "update"]
        assert updates[0]["loss"] == pytest.approx(np.log(2), abs=0.3)
        learnt = updates[-1]["loss"] < 0.65 * updates[0]["loss"]
        assert learnt == (about["config"]["players"][0]["optim"]["lr"] == 3e-3)
    again_told, tell = told()
    again = finetune(pretraining, None, table, **given, tell=tell, rates=(1e-5, 3e-3))
    assert not [r for r in again_told if r["kind"] == "update"] and again.predictions.equals(result.predictions)


def test_a_sweep_goes_on_beyond_its_ends_unless_it_is_told_its_rates(
    pretraining: Run, table: Table, tmp_path: Path
) -> None:
    _, tell = told()
    given: dict[str, Any] = {**PARTS, "target": "speaker", "home": tmp_path, "updates": 40, "tell": tell}
    result = finetune(pretraining, None, table, **given)
    assert list(result.dev) == sorted(result.dev) and {*RATES, 3e-3} <= set(
        result.dev
    )  # 1e-3 is too low for 40 updates
    assert not result.rate_at_edge or len(result.dev) == len(RATES) + FURTHER
    assert len(list(tmp_path.glob("tera-speaker-classes-*"))) == len(result.dev)
    alone = finetune(pretraining, None, table, **given, rates=RATES)
    assert set(alone.dev) == set(RATES) and alone.dev == {r: result.dev[r] for r in RATES}


def test_samples_start_from_pretrained_weights_and_are_not_altered(table: Table, tmp_path: Path) -> None:
    run = waves(where=WHERE)
    with Engine.start() as engine:
        train(run, tmp_path / run.folder_name, engine=engine)
    _, tell = told()
    given: dict[str, Any] = {
        **PARTS,
        "target": "number",
        "home": tmp_path,
        "tell": tell,
        "rates": (1e-6,),
        "updates": 1,
    }
    result = finetune(run, run.folder_name, table, **given)
    assert set(result.predictions.column("reference").to_pylist()) == {"7", "8"}  # a column of numbers is one of names
    (folder,) = tmp_path.glob("waves-number-classes-*")
    objective = json.loads((folder / "run.json").read_text())["config"]["players"][0]["objective"]
    assert objective["alteration"] is None and objective["classes"] == ["7", "8"]
    before, after = tensors(tmp_path / run.folder_name), tensors(folder)
    for name, value in before.items():
        if name.startswith("model/"):
            moved = float((after[f"model/encoder.{name[6:]}"] - value).abs().max())
            assert moved == 0 if "quantizer" in name else moved < 1e-5, name


def test_what_the_last_state_does_not_depend_on_is_frozen(pretraining: Run) -> None:
    torch.manual_seed(0)
    encoder = Strided().build(Waveform())
    state = torch.get_rng_state()
    assert {id(p) for p in unused(encoder, Waveform())} == {id(p) for p in encoder.quantizer.parameters()}
    assert torch.equal(torch.get_rng_state(), state) and encoder.training and encoder.mix.training
    model = Classifier(encoder=pretraining.model, classes=3).build(LogMel())
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen and all(n.startswith("encoder.head.") for n in frozen)


def test_the_mean_is_over_an_utterances_own_frames() -> None:
    head = MeanHead(4, 3)
    hidden = torch.randn(2, 5, 4)
    hidden[1, 2:] = torch.nan
    logits = head(hidden, torch.tensor([5, 2]))
    torch.testing.assert_close(logits[1], head.output(hidden[1, :2].mean(0)))
    torch.testing.assert_close(logits[0], head.output(hidden[0].mean(0)))


def test_spans_in_time_are_seconds_of_the_input_and_not_of_the_hidden_states() -> None:
    """An encoder behind a stride of 4 has its input altered as one without."""
    from overture.data.batch import Batch
    from overture.data.draws import Draws

    class Slow(torch.nn.Module):
        dim, frame_rate = 8, 25.0

        def __init__(self) -> None:
            super().__init__()
            self.project = torch.nn.Linear(80, 8)
            self.seen = torch.zeros(0)

        def states(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
            self.seen = x
            return (self.project(x[:, ::4]),), (lengths + 3) // 4

    class Spec:
        def build(self, frontend: object) -> Slow:
            return Slow()

    model = Classifier(encoder=Spec(), classes=2).build(LogMel())
    x = torch.randn(1, 400, 80)
    batch = Batch(rows=torch.tensor([3]), x=x, lengths=torch.tensor([400]), labels=torch.zeros(1, 1, dtype=torch.int64))
    alone = replace(SPECAUGMENT, frequency_share=0.0)
    Classify(classes=("a", "b"), column="c", alteration=alone)(model, batch, Draws(0, 0))
    zeros = (model.encoder.seen[0] == 0).all(-1)
    edges = torch.diff(zeros.int(), prepend=torch.zeros(1, dtype=torch.int32)) == 1
    assert int(edges.sum()) and int(zeros.sum()) >= 20 * int(edges.sum())  # 0.2 s are 20 frames of 100 Hz


def test_a_rate_that_falls_ill_is_out_and_told(table: Table, pretraining: Run, tmp_path: Path) -> None:
    given: dict[str, Any] = {**PARTS, "target": "speaker", "home": tmp_path, "updates": 4}
    records, tell = told()
    result = finetune(pretraining, None, table, **given, tell=tell, rates=(1e-3, 1e30))
    assert result.rate == 1e-3 and result.dev[1e30] is None
    assert any("rate 1e+30 is out: stopped at update" in r["text"] for r in records if r["kind"] == "note")
    with pytest.raises(OvertureError, match=r"fell ill at every rate \(1e\+30\)"):
        finetune(pretraining, None, table, **given, tell=tell, rates=(1e30,))


def test_what_a_user_can_get_wrong(table: Table, pretraining: Run, tmp_path: Path) -> None:
    _, tell = told()
    given: dict[str, Any] = {"home": tmp_path, "tell": tell}
    joe = np.flatnonzero(table.numpy("speaker") == "joe")
    with pytest.raises(OvertureError, match="nothing to tell apart"):
        finetune(pretraining, None, table, target="speaker", **given, **PARTS | {"train": joe[:10]})
    with pytest.raises(OvertureError, match="twice in train, dev and test"):
        finetune(pretraining, None, table, target="speaker", **given, **PARTS | {"dev": np.arange(30, 40)})
    with pytest.raises(OvertureError, match="has no keyword"):
        finetune(pretraining, None, table, target="keyword", **given, **PARTS)
    assert not list(tmp_path.iterdir())
    with pytest.raises(OvertureError, match="is none of the 2 classes"):
        Classify(classes=("a", "b"), column="speaker").encode("c", "u1")
