"""overture.tasks.finetune_frames: the hybrid route from alignments of the training rows to words of the test rows."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from overture.data.table import Table
from overture.errors import OvertureError
from overture.recipes import get
from overture.recognise.hybrid import Decoder, Search, Statistics
from overture.recognise.lexicon import Lexicon, Topology, build_network
from overture.recognise.lm import NGram
from overture.recognise.units import normalise
from overture.run import Run
from overture.tasks import align, finetune_frames, metrics
from overture.tasks.finetune_frames import FinetunedHybrid, finetune, tune_search
from overture.train.track import read_metrics

WHERE = "language = 'en' and speaker in ('joe', 'bob', 'tam') and duration between 1 and 2"
PARTS = {"train": np.arange(24), "dev": np.arange(24, 27), "test": np.arange(27, 30)}
Told = list[dict[str, Any]]
LM_WEIGHTS, PRIOR_SCALES = (4.0, 12.0), (0.0,)  # fewer than are tried in earnest


@pytest.fixture(scope="module", autouse=True)
def little_is_tried() -> Iterator[None]:
    """A network that has learnt next to nothing leaves many words open: little is searched, few weights are tried."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune_frames, "LM_WEIGHTS", LM_WEIGHTS)
        patch.setattr(finetune_frames, "PRIOR_SCALES", PRIOR_SCALES)
        patch.setattr(finetune_frames, "Search", partial(Search, tokens=300))
        yield


@pytest.fixture(scope="module")
def table() -> Table:
    """30 utterances; what the first says, no dictionary has."""
    found = Table.open("embedded", WHERE).take(np.arange(30))
    texts = ["zxqv" if i == 0 else t for i, t in enumerate(found.numpy("text"))]
    at = found.columns.column_names.index("text")
    return Table(found.columns.set_column(at, "text", pa.array(texts)), name="spoken", root=found.root)


@pytest.fixture(scope="module")
def pretraining() -> Run:
    run = get("tera:tiny")
    return replace(run, data=replace(run.data, where=WHERE), loop=replace(run.loop, updates=2))


@pytest.fixture(scope="module")
def english(
    table: Table, pretraining: Run, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FinetunedHybrid, Told, Path, list[str]]:
    """A sweep of one rate from scratch: its result, what was told, its home, and the rows that were aligned."""
    pytest.importorskip("pocketsphinx")
    home, told, asked = tmp_path_factory.mktemp("runs"), Told(), list[str]()
    whole = align.aligned

    def watched(rows: Table, *args: Any) -> Path:
        asked.extend(rows.numpy("id"))
        return whole(rows, home / "judged")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(align, "aligned", watched)
        result = finetune(
            pretraining, None, table, **PARTS, home=home, tell=told.append, rates=(3e-3,), updates=25
        )  # fmt: skip
    return result, told, home, asked


def test_only_training_rows_are_aligned(english: Any, table: Table) -> None:
    _, told, _, asked = english
    assert asked == table.numpy("id")[PARTS["train"]].tolist()
    (said,) = [t["text"] for t in told if "training rows are aligned" in t.get("text", "")]
    aligned = int(said.partition(" ")[0])
    assert (
        12 < aligned < 24
        and said == f"{aligned} of 24 training rows are aligned (pocketsphinx); the others are left out"
    )


def test_the_result_is_complete(english: Any, table: Table) -> None:
    result, told, _, _ = english
    ids, texts = table.numpy("id"), [normalise(t) for t in table.numpy("text")]
    assert result.metric == "wer" and result.value == result.counts.value
    assert result.predictions.column("id").to_pylist() == ids[27:].tolist()
    assert result.predictions.column("reference").to_pylist() == texts[27:]
    hypotheses = [result.decoder(scores, result.search).text for scores in result.outputs["test"]]
    assert result.predictions.column("hypothesis").to_pylist() == hypotheses
    assert result.value == metrics.wer(texts[27:], hypotheses).value
    known = {w for i in PARTS["train"] for w in texts[i].split()} - {"zxqv"}
    assert set(result.decoder.network.words) <= known
    for part in ("dev", "test"):
        words = [w for i in PARTS[part] for w in texts[i].split()]
        assert result.oov[part] == sum(w not in result.decoder.network.words for w in words) / len(words)
    assert 0 < result.real_time < 50
    assert [t for t in told if t["kind"] == "note" and f"{result.oov['test']:.1%} of test" in t["text"]]
    assert [t for t in told if t["kind"] == "note" and "of real time" in t["text"]]


def test_weights_are_chosen_on_development_rows_only(english: Any, table: Table) -> None:
    result, _, _, _ = english
    texts = [normalise(t) for t in table.numpy("text")[PARTS["dev"]]]
    assert (result.search, result.tried) == tune_search(result.decoder, result.outputs["dev"], texts)
    assert {(Search().prior_scale, w) for w in LM_WEIGHTS} <= set(result.tried)
    assert {a for a, _ in result.tried} == {Search().prior_scale, *PRIOR_SCALES}
    assert result.tried[result.search.prior_scale, result.search.lm_weight] == min(result.tried.values())


def test_the_frames_were_learnt_and_the_record_says_how(english: Any) -> None:
    result, _, home, _ = english
    assert result.folder.parent == home
    updates = [r for r in read_metrics(result.folder) if r["kind"] == "update"]
    assert updates[-1]["loss"] < 0.9 * updates[0]["loss"]
    assert updates[-1]["watch"]["accuracy"] > updates[0]["watch"]["accuracy"]
    about = json.loads((result.folder / "hybrid.json").read_text())
    assert np.exp(about["statistics"]["log_prior"]).sum() == pytest.approx(1)
    assert len(about["statistics"]["log_prior"]) == 1 + 39 * 3  # silence, three states of each phone, no blank
    assert result.outputs["test"][0].shape[1] == 1 + 39 * 3
    assert about["labels"]["rate"] == pytest.approx(100) and about["labels"]["aligner"] == "pocketsphinx"
    assert "zxqv" in about["lexicon"]["missing"] and about["wer"]["value"] == result.value
    assert NGram.read(result.folder / "lm.arpa").order == 3


def test_priors_are_those_of_the_training_targets(english: Any, table: Table) -> None:
    result, _, home, _ = english
    (folder,) = (home / "judged").glob("alignment-*")
    about = [json.loads(path.read_text(encoding="utf8")) for path in home.glob("*/run.json")]
    (view,) = {a["config"]["data"]["corpus"] for a in about if a["config"]["data"]["corpus"].startswith("spoken~")}
    labels = Table.open(view)
    assert set(labels.numpy("id")) == set(align.read(folder / "phones.parquet"))
    counted = np.ones(118)
    for value in labels.numpy("frame_labels"):
        for run in value.split():
            label, count = map(int, run.split(":"))
            if label >= 0:
                counted[label] += count
    assert np.exp(result.decoder.statistics.log_prior) == pytest.approx(counted / counted.sum())


def test_a_finished_sweep_is_not_trained_again(english: Any, table: Table, pretraining: Run) -> None:
    first, _, home, _ = english
    told: Told = []
    again = finetune(pretraining, None, table, **PARTS, home=home, tell=told.append, rates=(3e-3,), updates=25)
    assert not [r for r in told if r["kind"] == "update"]
    assert again.value == first.value and again.predictions.equals(first.predictions)


def test_letters_of_a_language_without_a_dictionary(table: Table, pretraining: Run, tmp_path: Path) -> None:
    """The aligner is a CTC recogniser of the same training rows; what is learnt from it has no blank."""
    told: Told = []
    german = table.columns.set_column(
        table.columns.column_names.index("language"), "language", pa.array(["de"] * len(table))
    )
    result = finetune(
        pretraining, None, Table(german, name="deutsch", root=table.root), **PARTS, home=tmp_path, tell=told.append,
        rates=(3e-3,), updates=10,
    )  # fmt: skip
    about = json.loads((result.folder / "hybrid.json").read_text())
    letters = sorted({c for t in table.numpy("text")[PARTS["train"]] for c in normalise(t)} - {" "})
    assert about["topology"] == {"symbols": letters, "states": 1} and about["labels"]["aligner"] == "ctc"
    assert about["lexicon"]["missing"] == [] and "zxqv" in result.decoder.network.words
    (aligner,) = tmp_path.glob("tera-ctc-*")
    trained = json.loads((aligner / "run.json").read_text())["config"]["data"]["corpus"]
    assert set(Table.open(trained).numpy("id")) <= set(table.numpy("id")[PARTS["train"]])
    assert result.metric == "wer" and len(result.predictions) == 3


def test_what_cannot_be_done_is_said_before_training(table: Table, pretraining: Run, tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    given: dict[str, Any] = {"home": tmp_path, "tell": lambda record: None}
    with pytest.raises(OvertureError, match="none of 1 rows"):
        finetune(pretraining, None, table, **{**PARTS, "train": np.arange(1)}, **given)
    short = replace(pretraining, data=replace(pretraining.data, max_seconds=0.5))
    with pytest.raises(OvertureError, match=r"all 24 training rows last over 0\.5 s"):
        finetune(short, None, table, **PARTS, **given)
    with pytest.raises(OvertureError, match="reads the column 'text'"):
        finetune(pretraining, None, table, **PARTS, **given, target="speaker")
    with pytest.raises(OvertureError, match="a row is twice"):
        finetune(pretraining, None, table, **{**PARTS, "dev": PARTS["train"]}, **given)
    assert not list(tmp_path.glob("tera-*"))


def test_an_alignment_of_another_recording_is_refused(
    table: Table, pretraining: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def longer(rows: Any, numbers: np.ndarray, *rest: Any) -> Any:
        return {int(r): (["SIL"], np.array([0.0, 3.0])) for r in numbers}

    monkeypatch.setattr(finetune_frames, "_phones", longer)
    with pytest.raises(
        OvertureError, match=r"its alignment lasts 3.000 s .* Was the alignment made of another recording"
    ):
        finetune(pretraining, None, table, **PARTS, home=tmp_path, tell=lambda record: None, aligner="pocketsphinx")


def test_scales_are_found_where_they_help() -> None:
    """A language model that knows the sentence, and frames that prefer another word a little: only its weight decides."""
    topology = Topology(symbols=("A", "B"), states=1)
    dictionary = {"a": (("A",),), "b": (("B",),)}
    even = np.log(np.full(3, 0.5))
    lm = NGram.estimate(["a", "a", "a", "a", "b"], 2)
    decoder = Decoder(
        build_network(Lexicon.of(dictionary, dictionary), topology), Statistics(np.log([0.2, 0.4, 0.4]), even, even), lm
    )
    posteriors = np.log([[1e-9, 1e-3, 1.0 - 1e-3]])
    assert decoder(posteriors, replace(Search(), lm_weight=LM_WEIGHTS[0])).text == "b"
    search, tried = tune_search(decoder, [posteriors], ["a"])
    assert tried[Search().prior_scale, LM_WEIGHTS[0]] == 1 and tried[Search().prior_scale, search.lm_weight] == 0
    assert decoder(posteriors, search).text == "a"
