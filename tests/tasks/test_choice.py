"""overture.tasks.choice: items of held-out text, and the likelihood that chooses among their options."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from overture.data.table import Table
from overture.errors import OvertureError
from overture.laboratory import compare
from overture.models.text import Bert, Llama
from overture.study import Arm, Study, Trial
from overture.tasks.choice import OPTIONS, _window, items, judge

from .texts import DIM, kept, reads


def stories(n: int = 24) -> Table:
    """Of two sources; every document goes on as it began, and the last two documents of each source cannot be asked about."""
    rows = []
    for i in range(n):
        name = "abcdefghijklmnopqrstuvwxyz"[i] * 4
        text = f"The {name} began it. So the {name} went on with {name}. Then {name} and {name} came home!"
        rows.append({"id": f"s{i}", "text": text, "source": f"book {i % 2}"})
    rows += [{"id": f"x{i}", "text": "One sentence is not two", "source": f"book {i % 2}"} for i in range(4)]
    rows += [
        {"id": f"y{i}", "text": f"Alone in it {i}. With two sentences here.", "source": "pamphlet"} for i in range(3)
    ]
    return Table(pa.table({k: [r[k] for r in rows] for k in rows[0]}), name="stories", root=Path())


def test_items_are_of_one_source_and_do_not_depend_on_the_others() -> None:
    table = stories()
    made = items(table, np.arange(len(table)))
    assert [item.row for item in made] == list(range(24))  # neither single sentences nor a source of three
    texts = table.numpy("text")
    for item in made:
        assert len(set(item.options)) == OPTIONS
        true = item.options[item.right]
        assert texts[item.row].startswith(f"{item.before} {true}")
        source = table.numpy("source")[item.row]
        for option in item.options:
            (of,) = [i for i, t in enumerate(texts) if option in t]
            assert table.numpy("source")[of] == source and (of == item.row) == (option == true)
    assert {item.right for item in made} == set(range(OPTIONS))
    again = items(table, np.arange(len(table))[::-1])
    assert {i.row: i.before for i in again} == {i.row: i.before for i in made}


def test_what_costs_least_a_character_is_chosen_whatever_the_batch() -> None:
    table, model = stories(), Llama(**DIM, ffn=64)
    corpus = kept(table, "stories")
    run = reads(corpus, model)
    torch.manual_seed(0)
    network = run.model.build(run.frontend).eval()
    tokenizer = run.frontend.tokenizer(table)
    told: list[dict[str, str]] = []
    found = judge(network, run, table, np.arange(len(table)), told.append)
    assert told == [{"kind": "note", "text": "7 of 31 test documents make no item"}]
    for item, said in zip(items(table, np.arange(len(table)))[:4], found.predictions.column("hypothesis").to_pylist()):
        by_hand = []
        for option in item.options:
            ids, own = _window(tokenizer, item.before, option, network)
            assert tokenizer.decode(ids[own].tolist()).strip() == option and len(ids) <= DIM["positions"]
            with torch.no_grad():
                x = torch.from_numpy(ids)[None]
                logits = network.logits(network.hidden(x, torch.tensor([len(ids)])))[0].float()
            logits[:, [i for i in network.special.ids if i != network.special.end]] = -torch.inf
            each = logits[:-1].log_softmax(-1).gather(1, x[0, 1:, None])[:, 0]
            by_hand.append(-float(each[torch.from_numpy(own[1:])].sum()) / len(option))
        assert item.options[int(np.argmin(by_hand))] == said
    assert found.value == found.counts.value and len(found.predictions) == 24


def test_long_beginnings_are_cut_to_their_end_and_long_options_to_their_beginning() -> None:
    run = reads(kept(stories(), "stories"), Llama(**DIM, ffn=64))
    network = run.model.build(run.frontend)
    tokenizer = run.frontend.tokenizer(stories())
    ids, own = _window(tokenizer, "x" * 500, "and so on", network)
    assert len(ids) == 64 and tokenizer.decode(ids[own].tolist()).strip() == "and so on" and own[-1]
    ids, own = _window(tokenizer, "x" * 500, "z" * 500, network)
    assert len(ids) == 64 and own[1:].all() and ids[0] == network.special.end


def test_a_study_of_what_comes_next(tmp_path: Path) -> None:
    corpus = kept(stories(), "stories")
    run = reads(corpus, Llama(**DIM, ffn=64), updates=3)
    parts = (("train", "id LIKE 'y%'"), ("dev", "id LIKE 'x%'"), ("test", "id LIKE 's%'"))
    asked = Study(
        arms=(
            Arm(name="tf-idf", run=run, kind="input"),
            Arm(name="untrained", run=run, kind="untrained"),
            Arm(name="model", run=run),
        ),
        trials=(Trial(task="next-sentence", parts=parts, by="source"),),
        corpus=corpus,
        seeds=(0,),
    )
    result = compare(asked, tmp_path, lambda record: None, budget="3 updates")
    assert set(result["arms"]) == {"untrained", "model"} and result["metric"] == "accuracy"
    assert {g["value"] for g in result["groups"]["model"]} == {"book 0", "book 1"}
    assert sum(g["n"] for g in result["groups"]["model"]) == 24


def test_what_cannot_be_asked_is_said() -> None:
    run = reads(kept(stories(), "stories"), Llama(**DIM, ffn=64))
    with pytest.raises(
        OvertureError, match="none of 6 test rows of 'stories' makes an item: it takes 4 documents of one source"
    ):
        judge(run.model.build(run.frontend), run, stories(), np.arange(6))
    run = reads(kept(stories(), "stories"), Bert(**DIM, ffn=64))
    with pytest.raises(OvertureError, match="for networks that write"):
        judge(run.model.build(run.frontend), run, stories(), np.arange(24))
