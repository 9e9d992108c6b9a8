"""overture.tasks.finetune_rank: candidates beside their question, ranked."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from overture.data.draws import Draws
from overture.data.encoded import Encoded
from overture.data.table import Table
from overture.data.tokens import Tokens
from overture.errors import OvertureError
from overture.laboratory import Laboratory, compare
from overture.models.text import Bert, Llama
from overture.study import Arm, Study, Trial
from overture.tasks.finetune_rank import BETWEEN, Pair, finetune, joined, ranks
from overture.tasks.tfidf import rank_texts

from .texts import DIM, kept, reads

QUESTIONS, CANDIDATES = 24, 4


def asked() -> Table:
    """Of each question one candidate is right: the one that says "yes indeed", and shares a word with the question; the last question has none."""
    rng = np.random.default_rng(0)
    rows: dict[str, list[Any]] = {"id": [], "question": [], "text": [], "label": []}
    for q in range(QUESTIONS):
        right = int(rng.integers(CANDIDATES))
        for c in range(CANDIDATES):
            words = [f"word{w}" for w in rng.integers(40, size=6)]
            good = c == right
            rows["id"].append(f"q{q}c{c}")
            rows["question"].append(f"where is thing{q} kept")
            rows["text"].append(" ".join([*(["yes", "indeed", f"thing{q}"] if good else ["no"]), *words]))
            rows["label"].append(int(good and q < QUESTIONS - 1))
    return Table(pa.table(rows), name="asked", root=Path())


def part(first: int, last: int) -> np.ndarray:
    return np.arange(first * CANDIDATES, last * CANDIDATES)


PARTS = {"train": part(0, 14), "dev": part(14, 18), "test": part(18, QUESTIONS)}


@pytest.mark.parametrize("framed", [True, False])
def test_question_and_candidate_are_cut_apart_and_to_length(framed: bool) -> None:
    rows = {"id": ["a", "b"], "question": ["is it\n\nwet", "x " * 40], "text": ["very, in the rain", "y " * 40]}
    table = joined(Table(pa.table(rows), name="two", root=Path()))
    tokens = Tokens(vocabulary=300)
    tokenizer, special = tokens.tokenizer(table), tokens.special
    encoded = Encoded.open(table, tokens)

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return found

    pairs = Pair(length=40, framed=framed).prepare(encoded, table, special, 0)
    first, second = ([*pairs.fetch(i, Draws(0, 0)).ids] for i in range(2))
    question, answer = ids("is it\n\nwet"), ids("very, in the rain")
    if framed:
        assert first == [special.cls, *question, special.sep, *answer, special.sep]
    else:
        assert first == [*question, special.end, *answer, special.end]
    assert [len(first), len(second)] == pairs.lengths.tolist() and len(second) == 40
    mark = special.sep if framed else special.end
    assert second.index(mark) == (40 - (3 if framed else 2)) // 2 + framed  # half for a question that would take all


def test_rankings_of_rows() -> None:
    table = asked()
    found = ranks(table, "label", PARTS["test"], np.arange(len(PARTS["test"]))[::-1].astype(float))
    assert len(found.rows) == 5  # the last question has no right candidate
    labels = np.array(table.numpy("label"))[PARTS["test"]].reshape(-1, CANDIDATES)[:5]
    assert found.references == ["".join(map(str, line)) for line in labels]
    assert found.hypotheses[0] == "q18c0 q18c1 q18c2 q18c3"
    np.testing.assert_allclose(found.counts.events, 1 / (1 + labels.argmax(axis=1)))


def test_a_network_learns_which_answers_are_right(tmp_path: Path) -> None:
    table, told = asked(), []
    run = reads(kept(joined(table), "asked-and-answered"), Llama(**DIM, ffn=64))
    result = finetune(
        run, None, table, **PARTS, target="label", home=tmp_path, tell=told.append, updates=25, rates=(1e-2,)
    )
    assert result.metric == "map" and result.value >= 0.9
    assert result.predictions.column_names == ["id", "reference", "hypothesis", "average_precision", "total"]
    assert len(result.predictions) == 5
    assert "1 of 6 test questions have no right or no wrong candidate and are in no score" in [
        r.get("text") for r in told
    ]
    (folder,) = tmp_path.glob("*-label-ranks-*")
    assert (folder / "run.json").exists()


def test_the_control_ranks_by_shared_words() -> None:
    result = rank_texts(asked(), **PARTS, target="label")
    assert result.value == 1.0 and set(result.dev) == {0.0, 0.5, 1.0} and result.rate == 0.0


def test_a_study_of_rankings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from functools import partial

    from overture.tasks import finetune_rank

    monkeypatch.setattr(finetune_rank, "finetune", partial(finetune, updates=2, rates=(1e-3,)))
    corpus = kept(asked(), "asked")
    run = reads(corpus, Bert(**DIM, ffn=64))
    study = Study(
        arms=(Arm(name="tf-idf", run=run, kind="input"), Arm(name="untrained", run=run, kind="untrained")),
        trials=(Trial(task="rank-finetune", label_rows=30),),
        corpus=corpus,
        seeds=(0,),
    )
    result = compare(study, tmp_path, lambda record: None, budget="0s")
    assert result["metric"] == "mean average precision" and result["best"] == "tf-idf"
    (found,) = result["probes"]["tf-idf"]
    assert found["mrr"]["value"] == found["p_at_1"]["value"] == found["value"] == 1
    trial = Laboratory(study, tmp_path, lambda record: None).trials[0]
    parts = [set(trial.table.numpy("question")[rows]) for rows in trial.split.rows.values()]
    assert all(not a & b for i, a in enumerate(parts) for b in parts[i + 1 :]) and len(trial.used()["train"]) == 30


def test_what_a_user_can_get_wrong(tmp_path: Path) -> None:
    table = asked()
    given: dict[str, Any] = {"target": "label", "home": tmp_path, "tell": lambda record: None}
    run = reads("planted")
    at = table.columns.column_names.index("label")
    odd = Table(
        table.columns.set_column(at, "label", pa.array([2, *table.numpy("label")[1:]])), name="odd", root=Path()
    )
    with pytest.raises(OvertureError, match=r"row 'q0c0' of 'odd': label '2' is neither 0 \(wrong\) nor 1 \(right\)"):
        finetune(run, None, odd, **PARTS, **given)
    with pytest.raises(OvertureError, match="nothing to rank"):
        finetune(run, None, table, **PARTS | {"test": part(23, 24)}, **given)
    wrong = np.flatnonzero(table.numpy("label")[PARTS["train"]] == 0)
    with pytest.raises(OvertureError, match="all right or all wrong"):
        finetune(run, None, table, **PARTS | {"train": wrong}, **given)
    assert BETWEEN not in table.numpy("question")[0]
