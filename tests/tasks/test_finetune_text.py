"""overture.tasks.finetune_text: networks on tokens, masked and causal, that learn to tell documents apart."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.table import Table
from overture.errors import OvertureError
from overture.models.text import Bert, Gpt2, Llama
from overture.models.tuned import Tuned
from overture.run import Run
from overture.tasks.finetune import Goal, one_by_one
from overture.tasks.finetune_classes import Classifier, Classify, finetune
from overture.tasks.finetune_text import TextRows
from overture.tasks.metrics import accuracy
from overture.train.engine import Engine
from overture.train.loop import train

from ..laws.conftest import tensors
from .texts import DIM, documents, kept, reads

PARTS = {"train": np.arange(36), "dev": np.arange(36, 48), "test": np.arange(48, 60)}
MODELS = [Bert(**DIM, ffn=64, dropout=0.0), Llama(**DIM, ffn=64), Gpt2(**DIM, dropout=0.0)]


def silent(record: dict[str, Any]) -> None:
    """Who tells is not heard."""


@pytest.fixture(scope="module")
def table() -> Table:
    return documents()


@pytest.fixture(scope="module")
def corpus(table: Table) -> str:
    return kept(table)


def test_two_kinds_of_documents_are_told_apart_from_a_run_and_from_scratch(
    table: Table, corpus: str, tmp_path: Path
) -> None:
    run = reads(corpus, MODELS[0])
    with Engine.start() as engine:
        train(run, tmp_path / run.folder_name, engine=engine)
    given: dict[str, Any] = {
        **PARTS,
        "target": "label",
        "home": tmp_path,
        "tell": silent,
        "updates": 30,
        "rates": (1e-6, 1e-2),
    }
    for start in (None, run.folder_name):
        result = finetune(run, start, table, **given)
        assert result.metric == "accuracy" and result.rate == 1e-2 and result.value >= 0.9
        assert result.predictions.column("id").to_pylist() == [f"d{i}" for i in range(48, 60)]
        assert sum(result.predictions.column("correct").to_pylist()) / 12 == result.value
    folders = list(tmp_path.glob("stability-gap-label-classes-*"))
    assert len(folders) == 4
    own = (tmp_path / run.folder_name / "tokenizer.json").read_text()
    for folder in folders:
        assert (folder / "tokenizer.json").read_text() == own  # not one trained on the labelled rows
        about = json.loads((folder / "run.json").read_text())
        assert about["config"]["data"]["text"] == {"length": 32, "framed": True}
        assert about["config"]["plan"]["update"] == 16 * 32


def test_a_start_lends_its_weights_and_what_the_states_do_not_need_is_frozen(
    table: Table, corpus: str, tmp_path: Path
) -> None:
    run = reads(corpus, MODELS[1])
    with Engine.start() as engine:
        train(run, tmp_path / run.folder_name, engine=engine)
    found = finetune(
        run, run.folder_name, table, **PARTS, target="label", home=tmp_path, tell=silent, updates=1, rates=(1e-6,)
    )
    before, after = tensors(tmp_path / run.folder_name), tensors(found.folder)
    moved = {
        name[6:]: float((after[f"model/encoder.{name[6:]}"] - value).abs().max())
        for name, value in before.items()
        if name.startswith("model/")
    }
    still = {name for name, by in moved.items() if by == 0}
    assert still == {"network.lm_head.weight"} and all(by < 1e-5 for by in moved.values())
    report = json.loads((found.folder / "run.json").read_text())["start"]
    assert report["matched"] == len(moved) and report["missing"] == report["unused"] == {}
    assert report["rate"] == {"before": None, "now": None}
    assert report["heard"][0]["characters"] == table.characters and "hours" not in report["heard"][0]


def goal_of(run: Run) -> Goal:
    def outputs(model: Tuned, batch: Batch) -> list[np.ndarray]:
        return list(model.head(*model(batch.x, batch.lengths)).numpy())

    return Goal(
        name="label-classes",
        model=Classifier(encoder=run.model, classes=2),
        objective=Classify(classes=("garden", "kitchen"), column="label"),
        update=512.0,
        whole=False,
        train=PARTS["train"],
        left_out=[],
        target="label",
        outputs=outputs,
        judge=one_by_one(lambda rows: [], lambda logits: "", accuracy),
        metric="accuracy",
    )


@pytest.mark.parametrize("model", MODELS, ids=["bert", "llama", "gpt2"])
def test_what_is_made_of_a_document_does_not_depend_on_its_neighbours(model: Any, table: Table, corpus: str) -> None:
    run = reads(corpus, model)
    uneven = pa.array([t if i % 2 else " ".join(t.split()[: 2 + i % 5]) for i, t in enumerate(table.numpy("text"))])
    at = table.columns.column_names.index("text")
    table = Table(table.columns.set_column(at, "text", uneven), name="uneven", root=table.root)
    rows, goal = TextRows(table, run), goal_of(run)
    torch.manual_seed(0)
    tuned = goal.model.build(rows.run.frontend).eval()
    chosen = np.array([7, 2, 30, 11, 4])
    together = rows.ask(goal, tuned, chosen, torch.device("cpu"))
    for row, found in zip(chosen, together):
        np.testing.assert_allclose(rows.ask(goal, tuned, np.array([row]), torch.device("cpu"))[0], found, atol=1e-5)
    example = rows.examples.fetch(2, Draws(0, 0)).ids
    special = rows.run.frontend.special
    framed = isinstance(model, Bert)
    assert (example[0] == special.cls) == framed and example[-1] == (special.sep if framed else special.end)
    with torch.no_grad():  # the mean over its own tokens
        hidden = tuned.encoder.hidden(torch.from_numpy(example)[None], torch.tensor([len(example)]))
        torch.testing.assert_close(
            torch.from_numpy(together[1]), tuned.head.output(hidden[0].mean(0)), atol=1e-5, rtol=0
        )


def test_what_a_user_can_get_wrong(table: Table, corpus: str, tmp_path: Path) -> None:
    run = reads(corpus)
    given: dict[str, Any] = {**PARTS, "home": tmp_path, "tell": silent}
    empty = Table(
        table.columns.set_column(1, "text", pa.array(["", *table.numpy("text")[1:]])), name="holes", root=table.root
    )
    with pytest.raises(OvertureError, match="row 'd0' of 'holes' has no text"):
        finetune(run, None, empty, target="label", **given)
    with pytest.raises(OvertureError, match=r"needs data\.text: how documents become examples"):
        finetune(replace(run, data=replace(run.data, text=None)), None, table, target="label", **given)
    with pytest.raises(OvertureError, match="nothing to tell apart"):
        finetune(run, None, table, target="label", **given | {"train": PARTS["train"][::2]})
    assert not list(tmp_path.iterdir())
