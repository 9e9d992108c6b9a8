"""overture.models.start on text: weights go on with the tokenizer that they learnt, and what did not fit is told."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from overture.data.table import Table
from overture.data.tokens import Tokens, keep
from overture.errors import OvertureError
from overture.models.origin import Origin, heard
from overture.models.start import continued, load
from overture.models.text import Bert, Gpt2, Head, Llama
from overture.run import Run
from overture.train.engine import Engine
from overture.train.loop import train

from ..tasks.texts import DIM, documents, kept, reads


@pytest.fixture(scope="module")
def first() -> str:
    return kept(documents(40, seed=1), "texts-first")


@pytest.fixture(scope="module")
def second() -> str:
    return kept(documents(40, seed=2), "texts-second")


def trained(run: Run, home: Path) -> Run:
    with Engine.start() as engine:
        train(run, home / run.folder_name, engine=engine)
    return run


def test_a_run_goes_on_with_the_tokenizer_and_the_weights_of_its_start(first: str, second: str, tmp_path: Path) -> None:
    begun = trained(reads(first, updates=2), tmp_path)
    run = continued(reads(second, updates=2), begun.folder_name, tmp_path)
    assert run.frontend == replace(begun.frontend, kept=keep(begun.frontend.tokenizer(Table.open(first))))
    trained(run, tmp_path)
    about = json.loads((tmp_path / run.folder_name / "run.json").read_text())
    assert about["start"]["weights"] == run.start_weights and about["start"]["of"]["updates"] == 2
    assert (tmp_path / run.folder_name / "tokenizer.json").read_text() == (
        tmp_path / begun.folder_name / "tokenizer.json"
    ).read_text()
    again = continued(reads(second, updates=3), run.folder_name, tmp_path)  # and so for whoever goes on from that
    assert again.frontend == run.frontend
    tables, unknown = heard(tmp_path / run.folder_name)
    assert [t.name for t in tables] == ["texts-second", "texts-first"] and not unknown
    with pytest.raises(OvertureError, match=r"frontend\.kept=None is not what the weights in .* have heard"):
        load(replace(run, frontend=begun.frontend), run.model.build(run.frontend), tmp_path)
    with pytest.raises(OvertureError, match=r"frontend\.vocabulary=320 is not what the weights"):
        continued(replace(run, frontend=Tokens(vocabulary=320)), begun.folder_name, tmp_path, given=("frontend",))


@pytest.mark.parametrize(
    "model", [Bert(**DIM, ffn=64), Llama(**DIM, ffn=64, tied=True), Gpt2(**DIM)], ids=["bert", "llama", "gpt2"]
)
def test_all_weights_are_carried_over_tied_ones_too(model: Any, first: str, tmp_path: Path) -> None:
    begun = trained(reads(first, model, updates=1), tmp_path)
    settled = begun.frontend.settled(Table.open(first))
    run = replace(begun, start=begun.folder_name, frontend=settled)
    torch.manual_seed(7)
    network = run.model.build(settled)
    report = load(run, network, tmp_path)
    weights = Origin.open(begun.folder_name, tmp_path).weights()
    assert report["matched"] == len(weights) and report["missing"] == report["unused"] == {}
    assert all(torch.equal(weights[name], network.state_dict()[name]) for name in weights)
    _, vocabulary, _ = network.output
    if not isinstance(model, Llama) or model.tied:
        assert vocabulary is network.network.get_input_embeddings().weight  # still tied


def test_heads_of_a_pretext_come_and_go_and_are_told(first: str, tmp_path: Path) -> None:
    headed = Llama(**DIM, ffn=64, extra=(Head(name="old", outputs=2),))
    plain = reads(first, updates=1)
    with_head = replace(reads(first, headed, updates=1), seed=3)
    for begun, to, what in ((plain, headed, "missing"), (with_head, plain.model, "unused")):
        trained(begun, tmp_path)
        run = continued(replace(plain, model=to), begun.folder_name, tmp_path)
        report = load(run, run.model.build(run.frontend), tmp_path)
        other = "unused" if what == "missing" else "missing"
        assert report[other] == {} and all(n.startswith("heads.old.") for names in report[what].values() for n in names)
        assert list(report[what]) == [
            "a head of this pre-training that the start lacks, so fresh"
            if what == "missing"
            else "a head of the pre-training before"
        ]


def test_a_tokenizer_that_is_not_here_is_found_in_the_run_or_said(
    first: str, tmp_path: Path, overture_home: Path
) -> None:
    begun = trained(reads(first, updates=1), tmp_path)
    name = Origin.open(begun.folder_name, tmp_path).frontend["kept"]
    shutil.rmtree(overture_home / "tokenizers" / name)
    with pytest.raises(OvertureError, match=rf"frontend\.kept='{name}': there is no .*tokenizer\.json"):
        Tokens(vocabulary=300, kept=name).tokenizer(Table.open(first))
    assert Origin.open(begun.folder_name, tmp_path).frontend["kept"] == name  # the run folder has it
    found = Tokens(vocabulary=300, kept=name).tokenizer(Table.open("embedded-text"))
    assert found.to_str() == begun.frontend.tokenizer(Table.open(first)).to_str()
    (tmp_path / begun.folder_name / "tokenizer.json").unlink()
    with pytest.raises(OvertureError, match=r"has no tokenizer\.json, the tokenizer that it was trained with"):
        Origin.open(begun.folder_name, tmp_path)
