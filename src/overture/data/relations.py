"""Pairs and groups of spans that belong together or do not, by the structure that writers give a text: documents, paragraphs, sentences.

Di Liello et al., "Pre-training Transformer Models with Sentence-Level Objectives for Answer Sentence Selection", EMNLP 2022, arXiv:2205.10455,
and "Paragraph-based Transformer Pre-training for Multi-Sentence Inference", NAACL Findings 2022, arXiv:2205.01228 (thesis: arXiv:2309.08272,
part 2), with the rules of their released code.

A paragraph ends at an empty line. A sentence ends at . ! or ? (and what closes a quotation or bracket behind it) before white space, unless a
small letter follows; abbreviations are not known. Shorter sentences than 20 characters, paragraphs than 60 and documents than 200 are left out.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from overture.data.draws import Draws
from overture.data.text import Example
from overture.errors import OvertureError

if TYPE_CHECKING:
    from overture.data.encoded import Encoded
    from overture.data.table import Table
    from overture.data.tokens import Special

SENTENCE, PARAGRAPH, DOCUMENT = 20, 60, 200  # characters at least
SPANS = 12  # purpose of a draw
HARD = 2  # candidates of another paragraph of the document at most
LONGEST = 2  # sentences of a candidate at most; a premise has one
EMPTY_LINE = re.compile(r"\n[^\S\n]*\n\s*")
SENTENCE_END = re.compile(r"""[.!?]["'”’»)\]]*\s+""")

Task = Literal["SSP", "SP", "PSD"]


def paragraphs(text: str) -> list[tuple[int, int]]:
    """(first, last) characters of each paragraph, white space at its ends left out."""
    ends = [(m.start(), m.end()) for m in EMPTY_LINE.finditer(text)]
    firsts, lasts = [0, *(b for _, b in ends)], [*(a for a, _ in ends), len(text)]
    return [_stripped(text, a, b) for a, b in zip(firsts, lasts) if text[a:b].strip()]


def sentences(text: str, first: int, last: int) -> list[tuple[int, int]]:
    """(first, last) characters of each sentence of a paragraph."""
    cuts = [m.end() for m in SENTENCE_END.finditer(text, first, last) if m.end() < last and not text[m.end()].islower()]
    return [_stripped(text, a, b) for a, b in zip([first, *cuts], [*cuts, last])]


def _stripped(text: str, first: int, last: int) -> tuple[int, int]:
    part = text[first:last]
    return first + len(part) - len(part.lstrip()), first + len(part.rstrip())


class Span(NamedTuple):
    """Sentences of one paragraph."""

    paragraph: int
    sentences: np.ndarray  # (n,) int64


class Candidate(NamedTuple):
    """What a premise is held against."""

    kind: Literal[
        "same", "before", "hard", "easy"
    ]  # the right one; before the premise in its paragraph; of its document; of another
    span: Span


class Tree:
    """The sentences of a table, by paragraph and document. Numbers of all three run through the table."""

    def __init__(self, encoded: "Encoded", table: "Table") -> None:
        """Raises OvertureError where there are not two documents with a paragraph that is long enough."""
        self.tokenizer, self.texts = encoded.tokenizer, table.columns.column("text")
        found: list[tuple[int, int]] = []
        begin, documents, rows = [0], [0], []
        for row in range(len(table)):
            text = self.texts[row].as_py() or ""
            if len(text) < DOCUMENT:
                continue
            for a, b in paragraphs(text):
                kept = [s for s in sentences(text, a, b) if s[1] - s[0] >= SENTENCE] if b - a >= PARAGRAPH else []
                if kept:
                    found += kept
                    begin.append(len(found))
            if len(begin) - 1 > documents[-1]:
                documents.append(len(begin) - 1)
                rows.append(row)
        self.bounds = np.array(found, dtype=np.int64).reshape(-1, 2)  # (S, 2) characters of their documents
        self.begin = np.array(begin)  # (P + 1,) sentences
        self.documents = np.array(documents)  # (D + 1,) paragraphs
        self.rows = np.array(rows)  # (D,) row numbers of the table
        self.document = np.repeat(np.arange(len(rows)), np.diff(self.documents))  # (P,) of each paragraph
        if len(rows) < 2:
            raise OvertureError(
                f"corpus {table.name!r} has {len(rows)} document(s) of {DOCUMENT} characters with a paragraph of {PARAGRAPH}: pairs of spans need "
                "two. Paragraphs are told by empty lines"
            )

    def text(self, span: Span) -> str:
        """Its sentences, with a space between."""
        whole = self.texts[int(self.rows[self.document[span.paragraph]])].as_py()
        return " ".join(whole[a:b] for a, b in self.bounds[span.sentences])

    def ids(self, span: Span) -> np.ndarray:
        """(n,) int64 tokens, as of a text by itself: what stood before it must not show in its first token."""
        return np.array(self.tokenizer.encode(self.text(span), add_special_tokens=False).ids, dtype=np.int64)

    def whole(self, paragraph: int) -> Span:
        return Span(paragraph, np.arange(self.begin[paragraph], self.begin[paragraph + 1]))

    def some(self, paragraph: int, first: int, last: int, rng: np.random.Generator) -> Span:
        """One to LONGEST successive sentences between `first` and `last`, at a place drawn."""
        count = min(int(rng.integers(1, LONGEST + 1)), last - first)
        start = int(rng.integers(first, last - count + 1))
        return Span(paragraph, np.arange(start, start + count))

    def beside(self, paragraph: int, most: int, rng: np.random.Generator) -> list[int]:
        """Up to `most` other paragraphs of its document, drawn."""
        document = self.document[paragraph]
        others = np.arange(self.documents[document], self.documents[document + 1])
        others = others[others != paragraph]
        return [int(p) for p in rng.choice(others, min(most, len(others)), replace=False)]

    def elsewhere(self, paragraph: int, rng: np.random.Generator) -> int:
        """A paragraph of another document: first that is drawn, then one of its paragraphs."""
        own = int(self.document[paragraph])
        other = int(rng.integers(len(self.rows) - 1))
        other += other >= own
        return int(rng.integers(self.documents[other], self.documents[other + 1]))

    def premises(self, task: Task) -> np.ndarray:
        """Paragraphs that have what a task needs: a second sentence, or one beside them. Raises OvertureError where there is none."""
        beside = np.diff(self.documents)[self.document] > 1
        found = np.flatnonzero(beside if task == "PSD" else np.diff(self.begin) > 1)
        if len(found) == 0:
            what = "document of two paragraphs" if task == "PSD" else "paragraph of two sentences"
            raise OvertureError(f"{task} needs a {what}, and the corpus has none")
        return found

    def draw(self, task: Task, paragraph: int, count: int, rng: np.random.Generator) -> tuple[Span, list[Candidate]]:
        """A premise from a paragraph, and `count` candidates: the right one first, then harder ones before easier."""
        first, last = int(self.begin[paragraph]), int(self.begin[paragraph + 1])
        found: list[Candidate] = []
        if task == "PSD":
            premise = self.whole(paragraph)
            found.append(Candidate("same", self.whole(self.beside(paragraph, 1, rng)[0])))
        elif task == "SP":
            premise = Span(paragraph, np.array([rng.integers(first, last)]))
            rest = np.setdiff1d(np.arange(first, last), premise.sentences)
            found.append(Candidate("same", Span(paragraph, rest)))
        else:
            at = int(rng.integers(first, last - 1))  # a sentence follows
            premise = Span(paragraph, np.array([at]))
            found.append(Candidate("same", self.some(paragraph, at + 1, last, rng)))
            if at > first:
                found.append(Candidate("before", self.some(paragraph, first, at, rng)))
        places = [] if task == "PSD" else [("hard", p) for p in self.beside(paragraph, HARD, rng)]
        while len(found) + len(places) < count:
            places.append(("easy", self.elsewhere(paragraph, rng)))
        for kind, p in places[: count - len(found)]:
            span = self.some(p, int(self.begin[p]), int(self.begin[p + 1]), rng) if task == "SSP" else self.whole(p)
            found.append(Candidate(kind, span))  # type: ignore[arg-type]
        return premise, found[:count]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """CLS premise SEP candidate SEP, labelled 1 where the two belong together: one of five candidates of a premise does.

    SSP, same paragraph: a sentence, and one or two that follow in its paragraph; not one or two before it, nor of two other paragraphs of the
    document, nor of other documents. SP, span and paragraph: a sentence, and the rest of its paragraph; not other paragraphs. PSD, paragraphs of
    the same document. Each paragraph that has what a task needs is five examples, its spans drawn anew each time. `random_labels` is a control:
    one in five is called right, whichever.
    """

    task: Task = "SSP"
    length: int = 128  # tokens at most, with CLS and both SEP; a premise has half of them at most
    random_labels: bool = False

    candidates = 5

    def prepare(self, encoded: "Encoded", table: "Table", special: "Special", seed: int) -> "Paired":
        return Paired(self, Tree(encoded, table), special)


class Paired:
    """The examples of a `Pairs`: number 5 p + c is candidate c of premise p."""

    def __init__(self, pairs: Pairs, tree: Tree, special: "Special") -> None:
        """Raises OvertureError for a length that holds no two tokens, or a corpus without such pairs."""
        if pairs.length < 5:
            raise OvertureError(f"data.text.length={pairs.length} has no room for two spans")
        self.pairs, self.tree, self.special = pairs, tree, special
        self.premises = tree.premises(pairs.task)

    @property
    def lengths(self) -> np.ndarray:
        """The same for all: which spans are drawn, and so how long an example is, is known only when it is."""
        return np.full(len(self.premises) * self.pairs.candidates, self.pairs.length)

    def documents(self, index: int) -> np.ndarray:
        return np.asarray(self.tree.rows[self.tree.document[self.premises[[index // self.pairs.candidates]]]])

    def draw(self, index: int, draws: Draws) -> tuple[Span, Candidate, int]:
        """Premise, candidate and label of an example."""
        place, number = divmod(index, self.pairs.candidates)
        rng = draws.example(place, SPANS)
        premise, candidates = self.tree.draw(self.pairs.task, int(self.premises[place]), self.pairs.candidates, rng)
        right = int(rng.integers(self.pairs.candidates)) if self.pairs.random_labels else 0
        return premise, candidates[number], int(number == right)

    def fetch(self, index: int, draws: Draws) -> Example:
        premise, candidate, label = self.draw(index, draws)
        room = self.pairs.length - 3
        a = self.tree.ids(premise)[: room // 2]
        b = self.tree.ids(candidate.span)[: room - len(a)]
        cls, sep = [self.special.cls], [self.special.sep]
        return Example(np.concatenate([cls, a, sep, b, sep]), labels=[label])


@dataclass(frozen=True, kw_only=True)
class Groups:
    """MSPP: a sentence and `candidates` spans in slots of their own, each labelled 1 where it is of the sentence's paragraph and follows it.

    A slot is CLS span SEP and padding up to `slot` tokens, which nothing reads. The right one is among as many wrong ones as in `Pairs` of SSP, in
    an order drawn anew. `random_labels` is a control: one is called right, whichever.
    """

    slot: int = 64  # tokens, with CLS and SEP
    candidates: int = 5
    random_labels: bool = False

    @property
    def length(self) -> int:
        """Tokens of an example."""
        return self.slot * (1 + self.candidates)

    def prepare(self, encoded: "Encoded", table: "Table", special: "Special", seed: int) -> "Grouped":
        return Grouped(self, Tree(encoded, table), special)


class Grouped:
    """The examples of a `Groups`: one a paragraph of two sentences or more. Channel `document` is 0, and -1 of padding inside."""

    def __init__(self, groups: Groups, tree: Tree, special: "Special") -> None:
        """Raises OvertureError for slots that hold no token, or a corpus without such groups."""
        if groups.slot < 3 or groups.candidates < 1:
            raise OvertureError(
                f"data.text: {groups.candidates} candidates in slots of {groups.slot} tokens hold no spans"
            )
        self.groups, self.tree, self.special = groups, tree, special
        self.premises = tree.premises("SSP")

    @property
    def lengths(self) -> np.ndarray:
        return np.full(len(self.premises), self.groups.length)

    def documents(self, index: int) -> np.ndarray:
        return np.asarray(self.tree.rows[self.tree.document[self.premises[[index]]]])

    def draw(self, index: int, draws: Draws) -> tuple[Span, list[Candidate], list[int]]:
        """Premise, candidates and their labels."""
        rng = draws.example(index, SPANS)
        premise, found = self.tree.draw("SSP", int(self.premises[index]), self.groups.candidates, rng)
        order = rng.permutation(len(found))
        right = int(rng.integers(len(found))) if self.groups.random_labels else int(np.flatnonzero(order == 0)[0])
        return premise, [found[i] for i in order], [int(i == right) for i in range(len(found))]

    def fetch(self, index: int, draws: Draws) -> Example:
        premise, candidates, labels = self.draw(index, draws)
        size, special = self.groups.slot, self.special
        spans = [premise, *(c.span for c in candidates)]
        ids = np.full((len(spans), size), special.pad)  # (1 + k, slot)
        for line, span in zip(ids, spans):
            tokens = self.tree.ids(span)[: size - 2]
            line[: len(tokens) + 2] = [special.cls, *tokens, special.sep]
        flat = ids.ravel()
        return Example(flat, {"document": np.where(flat == special.pad, -1, 0)}, labels)
