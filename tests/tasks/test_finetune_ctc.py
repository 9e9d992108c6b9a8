"""overture.tasks.finetune_ctc: a whole encoder with a CTC head on few utterances, from scratch and from a pre-trained run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from overture.data.augment import WaveAugment
from overture.data.table import Table
from overture.errors import OvertureError
from overture.models.tuned import Tuned
from overture.recipes import get
from overture.recognise.recogniser import CTCModel
from overture.recognise.units import Characters, normalise
from overture.run import Data, Plan, Player, Run
from overture.tasks.finetune import Schedule
from overture.tasks.finetune_ctc import Transcribe, finetune
from overture.tasks.metrics import Counts
from overture.train.engine import Engine
from overture.train.loop import Trainer, train
from overture.train.state import checkpoints
from overture.train.track import read_metrics

from ..laws.conftest import tensors
from .toys import HOP, WINDOW, waves

WHERE = "language = 'en' and speaker in ('joe', 'bob', 'tam') and duration between 1 and 2"
UPDATES = 12


@pytest.fixture(scope="module")
def table() -> Table:
    """36 utterances; the first four say far more than their frames can hold."""
    found = Table.open("embedded", WHERE).take(np.arange(36))
    texts = [t + " and so on" * 60 if i < 4 else t for i, t in enumerate(found.numpy("text"))]
    at = found.columns.column_names.index("text")
    columns = found.columns.set_column(at, "text", pa.array(texts, pa.string()))
    return Table(columns, name="spoken", root=found.root)


@pytest.fixture(scope="module")
def pretraining() -> Run:
    run = get("tera:tiny")
    return replace(run, data=replace(run.data, where=WHERE), loop=replace(run.loop, updates=2))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def start(pretraining: Run, home: Path) -> str:
    """The name of a pre-trained run under `home`."""
    with Engine.start() as engine:
        train(pretraining, home / pretraining.folder_name, engine=engine)
    return pretraining.folder_name


def parts(train: slice = slice(0, 24)) -> dict[str, np.ndarray]:
    rows = np.arange(36)
    return {"train": rows[train], "dev": rows[24:30], "test": rows[30:]}


@pytest.fixture(scope="module")
def scratch(pretraining: Run, table: Table, home: Path) -> tuple[Any, list[dict[str, Any]]]:
    """The result of a sweep from scratch, and what was told on the way."""
    told: list[dict[str, Any]] = []
    result = finetune(
        pretraining, None, table, **parts(), home=home, tell=told.append, rates=(1e-3, 5e-3), updates=UPDATES
    )
    return result, told


def test_the_loss_falls(scratch: tuple[Any, list[dict[str, Any]]], home: Path) -> None:
    losses: dict[str, list[float]] = {}
    for folder in home.glob("tera-ctc-*"):
        losses[folder.name] = [r["loss"] for r in read_metrics(folder) if r["kind"] == "update"]
    assert len(losses) == 2
    for curve in losses.values():
        assert curve[-1] < 0.8 * curve[0], curve


def test_the_result_is_complete(scratch: tuple[Any, list[dict[str, Any]]], table: Table, tmp_path: Path) -> None:
    result, told = scratch
    assert result.metric == "cer" and result.value == result.counts.value and isinstance(result.counts, Counts)
    assert result.rate in (1e-3, 5e-3) and set(result.dev) == {1e-3, 5e-3}
    assert result.dev[result.rate] == min(result.dev.values()) and result.seconds > 0
    low, high = result.interval
    assert low <= result.value <= high
    ids, texts = table.numpy("id"), table.numpy("text")
    assert result.predictions.column("id").to_pylist() == [str(i) for i in ids[30:]]  # each test row, once, in order
    assert result.predictions.column("reference").to_pylist() == [normalise(t) for t in texts[30:]]
    events, totals = (np.array(result.predictions.column(c)) for c in ("errors", "total"))
    assert events.sum() / totals.sum() == pytest.approx(result.value)
    assert {g.group for g in result.by_group if g.column == "speaker"} == set(table.numpy("speaker")[30:])
    assert [t["text"] for t in told if t["kind"] == "stage"] == ["fine-tuning, rate 0.001", "fine-tuning, rate 0.005"]
    result.write_predictions(tmp_path / "predictions.parquet")
    assert pq.read_table(tmp_path / "predictions.parquet").equals(result.predictions)


def test_rows_that_cannot_hold_their_text_are_listed_and_not_trained_on(
    scratch: tuple[Any, list[dict[str, Any]]], table: Table, pretraining: Run, home: Path
) -> None:
    result, _ = scratch
    ids, durations = table.numpy("id"), table.numpy("duration")
    assert [row.id for row in result.infeasible] == [str(i) for i in ids[:4]]
    assert all(row.frames < row.needed for row in result.infeasible)
    assert result.infeasible[0].frames == pretraining.frontend.steps(round(durations[0] * 16_000))
    about = [json.loads(path.read_text(encoding="utf8")) for path in home.glob("tera-ctc-*/run.json")]
    (view,) = {a["config"]["data"]["corpus"] for a in about}
    assert list(Table.open(view).numpy("id")) == list(ids[4:24])


def test_a_finished_sweep_is_not_trained_again(
    scratch: tuple[Any, list[dict[str, Any]]], pretraining: Run, table: Table, home: Path
) -> None:
    first, _ = scratch
    told: list[dict[str, Any]] = []
    again = finetune(
        pretraining, None, table, **parts(), home=home, tell=told.append, rates=(1e-3, 5e-3), updates=UPDATES
    )
    assert not [r for r in told if r["kind"] == "update"]
    assert again.value == first.value and again.predictions.equals(first.predictions)


def test_no_usable_row_is_said_before_training(pretraining: Run, table: Table, tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match=r"no training row can be learnt from:\n  4 x too many units"):
        finetune(pretraining, None, table, **parts(slice(0, 4)), home=tmp_path, tell=print)
    assert not list(tmp_path.iterdir())


def recognising(pretraining: Run, start: str | None) -> Run:
    units = Characters(" 'abcdefghijklmnopqrstuvwxyz")
    return Run(
        recipe="ctc", size="finetune", data=Data(where=WHERE), frontend=pretraining.frontend,
        model=CTCModel(encoder=pretraining.model, units=units),
        players=(Player(objective=Transcribe(units=units)),), plan=Plan(update=10.0, micro=10.0),
        loop=pretraining.loop, start=start,
    )  # fmt: skip


def test_the_encoder_starts_from_the_pretrained_weights(pretraining: Run, start: str, home: Path) -> None:
    kept = tensors(home / start)
    models: dict[str | None, Tuned] = {}
    for name in (None, start):
        with Engine.start() as engine:
            models[name] = Trainer(recognising(pretraining, name), engine, home).state.model
    tuned, fresh = models[start].encoder.state_dict(), models[None].encoder.state_dict()
    assert tuned.keys() == fresh.keys() and {f"model/{n}" for n in tuned} == {n for n in kept if n.startswith("model/")}
    for name, value in tuned.items():
        assert torch.equal(value, kept[f"model/{name}"]), name
    assert any(not torch.equal(fresh[n], tuned[n]) for n in fresh if n.startswith("layers."))
    assert torch.equal(models[None].head.output.weight, models[start].head.output.weight)  # the same luck for both


def test_from_scratch_and_from_a_start_are_different_runs(
    pretraining: Run, start: str, table: Table, home: Path
) -> None:
    given: dict[str, Any] = {**parts(), "home": home, "rates": (1e-6,), "updates": 1}
    before = set(home.iterdir())
    finetune(pretraining, start, table, **given, tell=lambda record: None)
    (new,) = set(home.iterdir()) - before
    finetune(pretraining, None, table, **given, tell=lambda record: None)
    (other,) = set(home.iterdir()) - before - {new}
    a, b = (tensors(f) for f in (new, other))
    name = "model/encoder.layers.0.intermediate.dense.weight"
    trained = tensors(home / start)["model/layers.0.intermediate.dense.weight"]
    assert 0 < (a[name] - trained).abs().max() < 1e-5  # one update moves it by a rate or so
    assert (b[name] - trained).abs().max() > 1e-4
    # the head of pre-training is not used, so it stays as it was loaded
    assert torch.equal(a["model/encoder.head.0.weight"], tensors(home / start)["model/head.0.weight"])


def test_a_missing_start_is_said(pretraining: Run, table: Table, home: Path, start: str) -> None:
    with pytest.raises(OvertureError, match=r"start='tera-ffffff': no run with a checkpoint of that name"):
        finetune(pretraining, "tera-ffffff", table, **parts(), home=home, tell=lambda record: None)
    wider = replace(pretraining, model=replace(pretraining.model, layers=3))
    with pytest.raises(OvertureError, match="it is of another model"):
        finetune(wider, start, table, **parts(), home=home, tell=lambda record: None)
    assert len(checkpoints(home / start)) >= 1


def test_a_start_of_another_width_is_said(pretraining: Run, table: Table, home: Path, start: str) -> None:
    wider = replace(pretraining, model=replace(pretraining.model, dim=48))
    with pytest.raises(OvertureError, match="it is of another model"):
        finetune(wider, start, table, **parts(), home=home, tell=lambda record: None)


def test_what_frames_can_hold_is_counted_behind_the_stride(table: Table, tmp_path: Path) -> None:
    """A transcript that the samples of a waveform would hold a hundred times over, and the encoder's frames would not."""
    run = waves()
    given: dict[str, Any] = {**parts(), "home": tmp_path, "tell": lambda record: None, "rates": (1e-3,), "updates": 2}
    result = finetune(run, None, table, **given)
    ids, durations = table.numpy("id"), table.numpy("duration")
    assert [row.id for row in result.infeasible] == [str(i) for i in ids[:4]]
    assert result.infeasible[0].frames == (round(durations[0] * 16_000) - WINDOW) // HOP + 1
    (folder,) = tmp_path.glob("waves-ctc-*")
    objective = json.loads((folder / "run.json").read_text())["config"]["players"][0]["objective"]
    assert objective["alteration"] is None  # samples are not altered
    assert (
        result.counts.totals.sum() > 0 and [r for r in read_metrics(folder) if r["kind"] == "update"][-1]["loss"] < 100
    )


def test_a_row_without_a_frame_is_named(table: Table, tmp_path: Path) -> None:
    durations = table.numpy("duration").copy()
    durations[30] = 0.02
    at = table.columns.column_names.index("duration")
    short = Table(table.columns.set_column(at, "duration", pa.array(durations)), name="short", root=table.root)
    with pytest.raises(
        OvertureError, match=r"0.020 s\) is too short: the encoder gives it no frame. .*duration > 0.02"
    ):
        finetune(waves(), None, short, **parts(), home=tmp_path, tell=lambda record: None)


def test_features_are_computed_once_for_scoring_and_for_all_rates(
    table: Table, pretraining: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from overture.data.source import Live

    read: list[int] = []
    before = Live.__getitem__

    def counted(self: Live, index: int) -> np.ndarray:
        read.append(index)
        return before(self, index)

    monkeypatch.setattr(Live, "__getitem__", counted)
    fresh = Table(table.columns, name="heard-once", root=table.root)
    given: dict[str, Any] = {**parts(), "home": tmp_path, "tell": lambda record: None, "updates": 1}
    finetune(pretraining, None, fresh, **given, rates=(1e-4, 1e-3))
    assert sorted(read) == list(range(36))


def test_three_stages_from_pretrained_samples(table: Table, tmp_path: Path) -> None:
    """The convolutions stay, the Transformer waits for the head, the mask vector learns; from scratch everything learns at once."""
    run = get("wav2vec2:tiny")
    run = replace(run, data=replace(run.data, where=WHERE), loop=replace(run.loop, updates=1))
    with Engine.start() as engine:
        train(run, tmp_path / run.folder_name, engine=engine)
    before = tensors(tmp_path / run.folder_name)
    moved: dict[bool, set[str]] = {}
    for pretrained, updates in ((True, 10), (True, 11), (False, 10)):
        schedule = replace(Schedule.three_stages(100, pretrained=pretrained))
        assert schedule.decay == "exponential" and (schedule.warmup, schedule.hold, schedule.final) == (0.1, 0.4, 0.05)
        home = tmp_path if pretrained else tmp_path / "scratch"
        result = finetune(
            run,
            run.folder_name if pretrained else None,
            table,
            **parts(),
            home=home,
            tell=lambda record: None,
            rates=(1e-3,),
            updates=updates,
            schedule=schedule,
        )
        after = tensors(result.folder)
        config = json.loads((result.folder / "run.json").read_text())["config"]["players"][0]
        assert config["objective"]["mask"] is not None and config["objective"]["alteration"] is None
        assert config["frozen_updates"] == (10 if pretrained else 0)
        if pretrained:
            moved[updates == 11] = {
                n
                for n, v in before.items()
                if n.startswith("model/") and not torch.equal(after[f"model/encoder.{n[6:]}"], v)
            }
        else:
            assert all(v > 0 for n, v in after.items() if n.endswith("/step"))
            assert any("feature_extractor" in n for n in after if n.endswith("/step"))
    assert moved[False] == set()
    assert moved[True] and not any("feature_extractor" in n or "quantizer" in n for n in moved[True])
    assert any("attention" in n for n in moved[True]) and any("masked_spec_embed" in n for n in moved[True])


def test_speed_perturbation_counts_the_frames_of_the_fastest(table: Table, pretraining: Run, tmp_path: Path) -> None:
    texts = list(table.numpy("text"))
    frames = pretraining.frontend.steps(round(table.numpy("duration")[5] * 16_000))
    texts[5] = "ab" * (int(frames * 0.95) // 2)  # fits, but not at 1.1 times the speed
    at = table.columns.column_names.index("text")
    tight = Table(table.columns.set_column(at, "text", pa.array(texts, pa.string())), name="tight", root=table.root)
    given: dict[str, Any] = {**parts(), "tell": lambda record: None, "rates": (1e-3,), "updates": 2}
    plain = finetune(pretraining, None, tight, **given, home=tmp_path / "plain")
    faster = finetune(pretraining, None, tight, **given, home=tmp_path / "faster", augment=WaveAugment())
    ids = [str(i) for i in table.numpy("id")]
    assert [r.id for r in plain.infeasible] == ids[:4] and [r.id for r in faster.infeasible] == [*ids[:4], ids[5]]
    config = json.loads((faster.folder / "run.json").read_text())["config"]["data"]
    assert config["augment"]["speed"] == [0.9, 1.0, 1.1] and config["cache"] is False
    losses = [r["loss"] for r in read_metrics(faster.folder) if r["kind"] == "update"]
    assert np.isfinite(losses).all()


def test_planted_rows_are_told_before_training(table: Table, pretraining: Run, tmp_path: Path) -> None:
    texts: list[str | None] = list(table.numpy("text"))
    texts[7], texts[8], texts[33] = None, "...", "\u0436"
    levels = table.numpy("level").copy()
    levels[9] = -95.0
    columns = table.columns
    for name, values in (("text", pa.array(texts, pa.string())), ("level", pa.array(levels))):
        columns = columns.set_column(columns.column_names.index(name), name, values)
    planted = Table(columns, name="planted", root=table.root)
    told: list[dict[str, Any]] = []
    given: dict[str, Any] = {**parts(), "home": tmp_path, "tell": told.append, "rates": (1e-3,), "updates": 1}
    result = finetune(pretraining, None, planted, **given)
    kinds = [r["kind"] for r in told]
    notes = [r["text"] for r in told if r["kind"] == "note"]
    assert kinds.index("stage") > max(
        i for i, k in enumerate(kinds) if k == "note"
    )  # all is said before training starts
    assert [n.split(" (")[0] for n in notes[:4]] == [
        "2 x empty transcript", "4 x too many units", "1 x silent", "4 x unknown characters"
    ]  # fmt: skip
    assert notes[-1] == "7 of 24 training rows are left out"
    assert {(p.kind, p.row) for p in result.problems} > {
        ("empty transcript", 8), ("empty transcript", 9), ("silent", 10), ("unknown characters", 34)
    }  # fmt: skip
    assert {p.row for p in result.problems if p.kind == "unknown characters"} <= set(range(25, 37))  # of held rows
    config = json.loads((result.folder / "run.json").read_text())
    assert config["data"]["rows"] == 17 and "\u0436" not in config["config"]["model"]["units"]["characters"]
    texts[33] = None
    columns = columns.set_column(columns.column_names.index("text"), "text", pa.array(texts, pa.string()))
    with pytest.raises(OvertureError, match="has no text"):
        finetune(pretraining, None, Table(columns, name="planted", root=table.root), **given)
