"""overture.data.relations: what a paragraph and a sentence are, and which spans are held against a premise."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overture.data.draws import Draws
from overture.data.encoded import Encoded
from overture.data.relations import DOCUMENT, PARAGRAPH, SENTENCE, Groups, Pairs, Span, Tree, paragraphs, sentences
from overture.data.table import Table
from overture.data.text import padded
from overture.data.tokens import Tokens
from overture.errors import OvertureError

FRONT = Tokens(vocabulary=300)
SPECIAL = FRONT.special
TASKS = ("SSP", "SP", "PSD")


def sentence(document: int, paragraph: int, number: int) -> str:
    """Says which it is, in 20 characters or more."""
    return f"Document {document} paragraph {paragraph} sentence {number} here."


def document(number: int, shape: tuple[int, ...]) -> str:
    """As many sentences in each paragraph as `shape` says."""
    return "\n\n".join(" ".join(sentence(number, p, s) for s in range(n)) for p, n in enumerate(shape))


def corpus(*shapes: tuple[int, ...]) -> Table:
    texts = [document(i, shape) for i, shape in enumerate(shapes)]
    return Table(pa.table({"id": [str(i) for i in range(len(texts))], "text": texts}), name="tiny", root=Path())


SHAPES = ((4, 3, 2), (2, 6), (5, 2, 3, 4), (8,), (2, 2, 2))


@pytest.fixture(scope="module")
def table() -> Table:
    return corpus(*SHAPES)


@pytest.fixture(scope="module")
def encoded(table: Table) -> Encoded:
    return Encoded.open(table, FRONT)


@pytest.fixture(scope="module")
def tree(table: Table, encoded: Encoded) -> Tree:
    return Tree(encoded, table)


def where(tree: Tree, span: Span) -> list[tuple[int, int, int]]:
    """Document, paragraph and number of each sentence, as the text itself says."""
    words = tree.text(span).replace(".", " ").split()
    at = [i for i, w in enumerate(words) if w == "Document"]
    return [(int(words[i + 1]), int(words[i + 3]), int(words[i + 5])) for i in at]


def test_paragraphs_end_at_empty_lines_and_sentences_before_no_small_letter() -> None:
    text = '  One is here. "Two?" Three, e.g. this\none!  \n \t\n\nFour (so.) Five'
    found = paragraphs(text)
    assert [text[a:b] for a, b in found] == ['One is here. "Two?" Three, e.g. this\none!', "Four (so.) Five"]
    said = [[text[a:b] for a, b in sentences(text, *p)] for p in found]
    assert said == [["One is here.", '"Two?"', "Three, e.g. this\none!"], ["Four (so.)", "Five"]]
    assert paragraphs("\n\n \n") == [] and paragraphs("") == []


@given(st.lists(st.sampled_from(["Ab c.", "d!", " ", "\n", "\n\n", "E? ", "“f”", "."]), max_size=30))
@settings(max_examples=100, deadline=None)
def test_sentences_are_all_of_a_text_but_its_white_space(pieces: list[str]) -> None:
    text = "".join(pieces)
    parts = [s for p in paragraphs(text) for s in sentences(text, *p)]
    assert "".join("".join(text[a:b].split()) for a, b in parts) == "".join(text.split())
    assert all(a < b and text[a:b] == text[a:b].strip() for a, b in parts)
    assert all(b <= c for (_, b), (c, _) in pairwise(parts))


def test_what_is_too_short_is_left_out() -> None:
    long = "This sentence has more than enough of characters. " * 2
    texts = [
        f"{long.strip()} Short one. {'X' * (SENTENCE - 1)}\n\nA title\n\n{long * 2}",
        "Too short a document. It has two sentences, but few letters, and so it is not read.\n\nNor is this paragraph.",
        f"{long * 3}",
    ]
    assert len(texts[1]) < DOCUMENT and len("A title") < PARAGRAPH
    table = Table(pa.table({"id": list("abc"), "text": texts}), name="tiny", root=Path())
    tree = Tree(Encoded.open(table, FRONT), table)
    assert tree.rows.tolist() == [0, 2] and np.diff(tree.documents).tolist() == [2, 1]
    said = [tree.text(Span(int(p), np.array([s]))) for p in range(3) for s in range(tree.begin[p], tree.begin[p + 1])]
    assert len(said) == 2 + 4 + 6 and min(len(s) for s in said) >= SENTENCE
    assert not any("Short one" in text or "XX" in text for text in said)


def test_the_tree_is_the_corpus(tree: Tree) -> None:
    assert np.diff(tree.begin).tolist() == [n for shape in SHAPES for n in shape]
    for p in range(len(tree.begin) - 1):
        own = where(tree, tree.whole(p))
        assert {d for d, _, _ in own} == {int(tree.rows[tree.document[p]])} and len({q for _, q, _ in own}) == 1
        assert [s for _, _, s in own] == list(range(len(own)))


@pytest.mark.parametrize("task", TASKS)
def test_candidates_are_what_they_are_called(tree: Tree, encoded: Encoded, table: Table, task: str) -> None:
    paired = Pairs(task=task).prepare(encoded, table, SPECIAL, 0)  # type: ignore[arg-type]
    kinds = {}
    for update in range(15):
        for index in range(len(paired.lengths)):
            premise, (kind, span), label = paired.draw(index, Draws(0, update))
            kinds[kind] = kinds.get(kind, 0) + 1
            a, b = where(tree, premise), where(tree, span)
            (da, pa_), (db, pb) = a[0][:2], b[0][:2]
            assert label == (kind == "same") == (index % 5 == 0)
            assert len({s[:2] for s in a}) == len({s[:2] for s in b}) == 1  # spans stay within a paragraph
            if kind == "easy":
                assert da != db
                continue
            assert da == db
            if kind == "hard" or task == "PSD":
                assert pa_ != pb
            else:
                assert pa_ == pb and not set(a) & set(b)
            if task == "SSP" and kind in ("same", "before"):
                assert (b[0][2] > a[0][2]) == (kind == "same") == (b[-1][2] > a[0][2])
            if task == "SP" and kind == "same":
                assert len(a) + len(b) == SHAPES[da][pa_]
            if task == "SSP":
                assert len(a) == 1 and 1 <= len(b) <= 2
                assert [s for *_, s in b] == list(range(b[0][2], b[0][2] + len(b)))
    assert kinds["same"] * 5 == sum(kinds.values())
    assert set(kinds) == {"SSP": {"same", "before", "hard", "easy"}, "SP": {"same", "hard", "easy"}, "PSD": {"same", "easy"}}[task]  # fmt: skip


def test_at_most_two_are_hard_and_the_harder_come_first(tree: Tree) -> None:
    order = ["same", "before", "hard", "easy"]
    for paragraph in tree.premises("SSP"):
        for seed in range(10):
            _, found = tree.draw("SSP", int(paragraph), 5, np.random.default_rng(seed))
            kinds = [c.kind for c in found]
            assert len(kinds) == 5 and kinds == sorted(kinds, key=order.index)
            others = int(np.diff(tree.documents)[tree.document[paragraph]]) - 1
            assert kinds.count("hard") == min(2, others) and kinds.count("same") == 1 and kinds.count("before") <= 1
            hard = [c.span.paragraph for c in found if c.kind == "hard"]
            assert len(set(hard)) == len(hard)


def test_a_pair_is_framed_and_never_longer_than_said(encoded: Encoded, table: Table) -> None:
    for length in (9, 24, 128):
        for task in TASKS:
            paired = Pairs(task=task, length=length).prepare(encoded, table, SPECIAL, 0)  # type: ignore[arg-type]
            for index in range(len(paired.lengths)):
                ids = paired.fetch(index, Draws(0, 1)).ids
                assert len(ids) <= length == paired.lengths[index] and ids.dtype == np.int64
                cuts = np.flatnonzero(ids == SPECIAL.sep)
                assert ids[0] == SPECIAL.cls and len(cuts) == 2 and cuts[1] == len(ids) - 1
                assert 1 < cuts[0] <= 1 + (length - 3) // 2 and cuts[1] - cuts[0] > 1


def test_a_span_reads_as_a_text_by_itself(tree: Tree, encoded: Encoded) -> None:
    """No space before its first word says that something stood there."""
    for p in range(3):
        for s in range(tree.begin[p], tree.begin[p + 1]):
            ids = tree.ids(Span(p, np.array([s])))
            assert encoded.tokenizer.decode(ids.tolist()).startswith("Document")
            assert ids[0] == tree.ids(Span(0, np.array([0])))[0]


def test_examples_depend_on_seed_update_and_row_alone(encoded: Encoded, table: Table) -> None:
    for assembly in (Pairs(), Groups()):
        a, b = (assembly.prepare(encoded, table, SPECIAL, 0) for _ in range(2))
        n = len(a.lengths)
        forwards = [a.fetch(i, Draws(3, 4)) for i in range(n)]
        backwards = [b.fetch(i, Draws(3, 4)) for i in reversed(range(n))][::-1]
        assert all(np.array_equal(x.ids, y.ids) and x.labels == y.labels for x, y in zip(forwards, backwards))
        for other in (Draws(3, 5), Draws(2, 4)):
            assert any(not np.array_equal(x.ids, a.fetch(i, other).ids) for i, x in enumerate(forwards))


def test_groups_stand_in_slots(tree: Tree, encoded: Encoded, table: Table) -> None:
    grouped = Groups(slot=16, candidates=5).prepare(encoded, table, SPECIAL, 0)
    places = np.zeros(5)
    for update in range(40):
        for index in range(len(grouped.lengths)):
            example = grouped.fetch(index, Draws(0, update))
            premise, candidates, labels = grouped.draw(index, Draws(0, update))
            assert example.labels == labels == [int(c.kind == "same") for c in candidates] and sum(labels) == 1
            places += labels
            assert len(example.ids) == grouped.lengths[index] == 6 * 16 == Groups(slot=16).length
            slots = example.ids.reshape(6, 16)
            for line, span in zip(slots, [premise, *(c.span for c in candidates)]):
                own = tree.ids(span)[:14]
                assert line[0] == SPECIAL.cls and line[len(own) + 1] == SPECIAL.sep
                assert np.array_equal(line[1 : len(own) + 1], own) and (line[len(own) + 2 :] == SPECIAL.pad).all()
            assert np.array_equal(example.channels["document"] == -1, example.ids == SPECIAL.pad)
    assert abs(places / places.sum() - 0.2).max() < 0.06  # the order gives nothing away
    assert padded([example], SPECIAL.pad)["channels"]["document"].shape == (1, 96)


def test_random_labels_are_as_many_and_of_no_meaning(encoded: Encoded, table: Table) -> None:
    paired = Pairs(random_labels=True).prepare(encoded, table, SPECIAL, 0)
    true = Pairs().prepare(encoded, table, SPECIAL, 0)
    found = np.zeros(5)
    for update in range(60):
        for index in range(len(paired.lengths)):
            _, _, label = paired.draw(index, Draws(0, update))
            found[index % 5] += label
    for index in range(0, len(paired.lengths), 7):  # of the same pairs
        assert np.array_equal(paired.fetch(index, Draws(0, 0)).ids, true.fetch(index, Draws(0, 0)).ids)
    assert found.sum() * 5 == 60 * len(paired.lengths)  # one in five, as ever
    assert abs(found / found.sum() - 0.2).max() < 0.06
    grouped = Groups(random_labels=True).prepare(encoded, table, SPECIAL, 0)
    right = [(k, labels.index(1)) for u in range(40) for i in range(len(grouped.lengths))
             for _, k, labels in [grouped.draw(i, Draws(0, u))]]  # fmt: skip
    hits = np.mean([kinds[at].kind == "same" for kinds, at in right])
    assert abs(hits - 0.2) < 0.06


def test_the_documents_of_an_example(encoded: Encoded, table: Table, tree: Tree) -> None:
    paired = Pairs().prepare(encoded, table, SPECIAL, 0)
    for index in range(len(paired.lengths)):
        premise, _, _ = paired.draw(index, Draws(0, 0))
        assert paired.documents(index).tolist() == [where(tree, premise)[0][0]]


def test_a_corpus_without_such_spans_is_told() -> None:
    def prepare(assembly: Pairs | Groups, *shapes: tuple[int, ...]) -> None:
        rows = corpus(*shapes)
        assembly.prepare(Encoded.open(rows, FRONT), rows, SPECIAL, 0)

    with pytest.raises(OvertureError, match="Paragraphs are told by empty lines"):
        prepare(Pairs(), (8,))
    with pytest.raises(OvertureError, match="PSD needs a document of two paragraphs"):
        prepare(Pairs(task="PSD"), (8,), (8,))
    with pytest.raises(OvertureError, match="SSP needs a paragraph of two sentences"):
        one = "A sentence that goes on for long enough to make a paragraph, and then some more of it still " * 3
        rows = Table(pa.table({"id": list("ab"), "text": [one, one]}), name="tiny", root=Path())
        Groups().prepare(Encoded.open(rows, FRONT), rows, SPECIAL, 0)
    with pytest.raises(OvertureError, match="no room"):
        prepare(Pairs(length=4), (8,), (8,))
    with pytest.raises(OvertureError, match="slots of 2"):
        prepare(Groups(slot=2), (8,), (8,))
