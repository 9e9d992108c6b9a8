"""overture.tasks.finetune_tokens: networks that learn to mark spans; and what only remembers them."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.spans import Span, spans_of, tags, words
from overture.data.table import Table
from overture.errors import OvertureError
from overture.laboratory import compare
from overture.models.text import Bert, Llama
from overture.study import Arm, Study, Trial
from overture.tasks import metrics
from overture.tasks.finetune_tokens import Tagger, Tagging, finetune
from overture.tasks.remembered import tag_texts

from .texts import DIM, kept, reads

PARTS = {"train": np.arange(40), "dev": np.arange(40, 50), "test": np.arange(50, 60)}
BERT = Bert(**DIM, ffn=64, dropout=0.0)


def named(n: int = 60) -> Table:
    """n texts with places, of a word, and rivers, of two; but for one, names have a number of their own and cannot be remembered."""
    rng = np.random.default_rng(0)
    texts: list[str] = []
    spans: list[list[dict[str, Any]]] = []
    for i in range(n):
        text = ""
        own: list[dict[str, Any]] = []
        for k in range(int(rng.integers(4, 30))):
            kind = rng.choice(["", "place", "river"], p=[0.6, 0.2, 0.2])
            word = {
                "": f"w{rng.integers(30)}",
                "place": "Berlin" if rng.random() < 0.3 else f"Land{i}x{k}",
                "river": f"River Number{i}x{k}",
            }[kind]
            if kind:
                own.append({"start": len(text), "end": len(text) + len(word), "label": str(kind)})
            text += f"{word}. " if rng.random() < 0.3 else f"{word} "
        texts.append(text.strip())
        spans.append(own)
    return Table(
        pa.table({"id": [f"d{i}" for i in range(n)], "text": texts, "spans": spans}), name="named", root=Path()
    )


def test_counts_of_spans_are_f1_as_seqeval_has_it() -> None:
    assert (
        metrics.spans([[(0, 1, "a"), (2, 3, "b")], []], [[(0, 1, "a"), (2, 4, "b"), (5, 6, "b")], [(0, 1, "a")]]).value
        == 2 / 6
    )
    seqeval = pytest.importorskip("seqeval.metrics")
    labels, rng = ("a", "b"), np.random.default_rng(0)
    names = ("O", "B-a", "I-a", "B-b", "I-b")
    cut = words(" ".join("x" * 12))
    right, said = rng.integers(5, size=(2, 40, 12))
    counts = metrics.spans(*([spans_of(cut, line, labels) for line in side] for side in (right, said)))
    written = [[[names[t] for t in line] for line in side] for side in (right, said)]
    assert counts.value == pytest.approx(seqeval.f1_score(*written))
    assert 0.05 < counts.value < 0.5


def test_only_first_tokens_of_words_are_learnt_from() -> None:
    run = reads(kept(named(), "named"), BERT)
    torch.manual_seed(0)
    model = Tagger(encoder=run.model, tags=3).build(run.frontend).eval()
    ids = torch.tensor([[2, 9, 8, 3], [2, 7, 3, 0]])
    tag = torch.tensor([[0, 3, 0, 0], [0, 1, 0, 0]])  # padding and ends have none
    batch = Batch(rows=torch.arange(2), x=ids, lengths=torch.tensor([4, 3]), channels={"tag": tag})
    loss = Tagging()(model, batch, Draws(0, 0))
    logits = model.head(model(ids, batch.lengths)[0]).log_softmax(-1)
    torch.testing.assert_close(loss.sum, -(logits[0, 1, 2] + logits[1, 1, 0]))
    assert int(loss.targets) == 2


def test_a_network_learns_what_cannot_be_remembered(tmp_path: Path) -> None:
    table = named()
    run = reads(kept(table, "named"), BERT)
    told: list[dict[str, Any]] = []
    given: dict[str, Any] = {"home": tmp_path, "tell": told.append, "updates": 40, "rates": (1e-2,)}
    found = finetune(run, None, table, **PARTS, target="spans", **given)
    remembered = tag_texts(table, **PARTS, target="spans")
    assert found.metric == "f1" and found.value > 0.9 > 0.5 > remembered.value
    assert not [r for r in told if r["kind"] == "note"]
    right = [[Span(**s) for s in row] for row in table.columns.column("spans").take(PARTS["test"]).to_pylist()]
    lines = found.predictions.to_pylist()
    assert [line["reference"] for line in lines] == [" ".join(f"{s.start}-{s.end}:{s.label}" for s in r) for r in right]
    both = [(set(line["reference"].split()), set(line["hypothesis"].split())) for line in lines]
    assert [line["twice_right"] for line in lines] == [2 * len(a & b) for a, b in both]
    assert [line["total"] for line in lines] == [len(a) + len(b) for a, b in both]
    assert found.value == sum(2 * len(a & b) for a, b in both) / sum(len(a) + len(b) for a, b in both)
    low, high = found.interval or (0, 0)
    assert low <= found.value <= high
    assert any(len(words(t)) > 30 for t in table.numpy("text")[PARTS["test"]])  # longer than a window


def test_what_was_marked_is_marked_again_the_longest_first() -> None:
    texts = ["New York is big", "in New York or York", "York and New York", "York is New"]
    marks = [[(0, 8, "city")], [(3, 11, "city"), (15, 19, "town")], [(0, 4, "town"), (9, 17, "city")], [(0, 4, "town")]]
    spans = [[dict(zip(("start", "end", "label"), m)) for m in row] for row in marks]
    table = Table(pa.table({"id": list("abcd"), "text": texts, "spans": spans}), name="cities", root=Path())
    found = tag_texts(table, target="spans", train=np.array([0, 1]), dev=np.array([2]), test=np.array([3]))
    assert (
        found.dev[0.0] == 1.0
        and found.value == 1.0
        and found.predictions.column("hypothesis").to_pylist() == ["0-4:town"]
    )
    assert found.dev[0.5] == pytest.approx(2 / 3)  # of three times York alone stands in training, it is marked once
    assert tags(words(texts[1]), [Span(3, 11, "city")], ("city",)).tolist() == [0, 1, 2, 0, 0]


def test_a_study_of_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from overture.tasks import finetune_tokens

    monkeypatch.setattr(finetune_tokens, "finetune", partial(finetune, updates=2, rates=(1e-3,)))
    corpus = kept(named(), "named")
    run = reads(corpus, Llama(**DIM, ffn=64))
    study = Study(
        arms=(Arm(name="remembered", run=run, kind="input"), Arm(name="untrained", run=run, kind="untrained")),
        trials=(Trial(task="token-finetune", label_rows=20),),
        corpus=corpus,
        seeds=(0,),
    )
    result = compare(study, tmp_path, lambda record: None, budget="0s")
    assert result["metric"] == "F1 of spans" and result["higher_is_better"]
    (found,) = result["probes"]["remembered"]
    p, r = found["precision"]["value"], found["recall"]["value"]
    assert found["value"] == pytest.approx(2 * p * r / (p + r)) and found["labelled_rows"] == 20
    assert result["comparisons"][0]["ci95"][0] <= result["comparisons"][0]["difference"]


def test_what_a_user_can_get_wrong(tmp_path: Path) -> None:
    table, told = named(), []
    run = reads(kept(table, "named"))
    given: dict[str, Any] = {"target": "spans", "home": tmp_path, "tell": told.append, "updates": 1, "rates": (1e-3,)}
    none = [[] if i < 40 else s for i, s in enumerate(table.columns.column("spans").to_pylist())]
    kind = table.columns.schema.field("spans").type

    def marked(spans: list[Any]) -> Table:
        at = table.columns.column_names.index("spans")
        return Table(table.columns.set_column(at, "spans", pa.array(spans, kind)), name="named", root=Path())

    with pytest.raises(
        OvertureError, match="no training row of 'named' has a span in 'spans': there is nothing to learn"
    ):
        finetune(run, None, marked(none), **PARTS, **given)
    rest = [
        [s | {"label": "place"} for s in row] if i < 40 else row
        for i, row in enumerate(table.columns.column("spans").to_pylist())
    ]
    finetune(run, None, marked(rest), **PARTS, **given)
    assert any(
        str(r.get("text")).startswith("spans of dev and test whose label training lacks count as missed: river (")
        for r in told
    )
