"""Spans of a text with a label each, carried to tokens: what is learnt by tagging, such as the names in a sentence.

A column of a table of text holds of each row a list of {start, end, label}, in characters, from `start` up to `end`, in the order of the text
and without overlaps: as annotation tools write JSON lines. Words are tagged, not tokens: B-label where a span begins, I-label within it, O
outside (Ramshaw & Marcus 1995, arXiv:cmp-lg/9505040), and of a word its first token has the tag (as BERT is fine-tuned on CoNLL, Devlin et al.
2019, arXiv:1810.04805, section 5.3). So the networks of different tokenizers are asked the same, and answer in spans of characters.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from overture.data.draws import Draws
from overture.data.text import Example
from overture.errors import OvertureError

if TYPE_CHECKING:
    from overture.data.encoded import Encoded
    from overture.data.table import Table
    from overture.data.tokens import Special

WORD = re.compile(r"\w+|[^\w\s]")  # punctuation stands for itself
OUTSIDE = 0  # of `tags`


class Span(NamedTuple):
    """A stretch of a text, in characters."""

    start: int
    end: int  # one beyond the last
    label: str


def read(table: "Table", column: str) -> list[list[Span]]:
    """(N,) the spans of each row. Raises OvertureError, naming row and span, for what is none, is outside its text, or overlaps."""
    kind = table.columns.column(column).type
    names = (
        {f.name for f in kind.value_type} if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type) else set()
    )
    if missing := {"start", "end", "label"} - names:
        raise OvertureError(
            f"column {column!r} of {table.name!r} holds {kind}, not a list of spans {{start, end, label}} a row: {', '.join(sorted(missing))} missing"
        )
    ids, texts = table.columns.column("id").to_pylist(), table.columns.column("text").to_pylist()
    found = []
    for row, given in enumerate(table.columns.column(column).to_pylist()):

        def refuse(what: str, at: int = row) -> None:
            raise OvertureError(f"corpus {table.name!r}, row {ids[at]!r}: {what}")

        if given is None:
            refuse(
                f"no {column}. Leave such rows away: --where '{column} IS NOT NULL', or give [] where a text has none"
            )
        before, spans = 0, []
        for one in given:
            start, end, label = one["start"], one["end"], one["label"]
            if start is None or end is None or not label:
                refuse(f"the span {one} in {column} lacks a start, an end or a label")
            if not 0 <= start < end <= len(texts[row]):
                refuse(
                    f"the {label} from {start} to {end} in {column} is none of its text of {len(texts[row])} characters"
                )
            if start < before:
                refuse(
                    f"the {label} from {start} to {end} in {column} begins before {before}, where the one before it ends: sort and part them"
                )
            spans.append(Span(start, end, str(label)))
            before = end
        found.append(spans)
    return found


def words(text: str) -> np.ndarray:
    """(W, 2) where each word begins and ends, in characters."""
    return np.array([m.span() for m in WORD.finditer(text)], dtype=np.int64).reshape(-1, 2)


def tags(words: np.ndarray, spans: list[Span], labels: tuple[str, ...]) -> np.ndarray:
    """(W, 2) words, spans of their text -> (W,) int64: OUTSIDE, or 1 + 2 l where a span of label l begins, 2 + 2 l within it.

    A word is of the span that its first character is in; spans whose label is not among `labels` are outside.
    """
    out = np.full(len(words), OUTSIDE, dtype=np.int64)
    for span in spans:
        inside = np.flatnonzero((words[:, 0] >= span.start) & (words[:, 0] < span.end))
        if span.label in labels and len(inside):
            out[inside] = 2 + 2 * labels.index(span.label)
            out[inside[0]] -= 1
    return out


def spans_of(words: np.ndarray, tags: np.ndarray, labels: tuple[str, ...]) -> list[Span]:
    """The inverse of `tags`. An I-label that goes on from nothing, or from another label, begins a span, as in the CoNLL shared tasks."""
    found: list[Span] = []
    before = OUTSIDE
    for (start, end), tag in zip(words.tolist(), tags.tolist()):
        if tag != OUTSIDE:
            label, goes_on = labels[(tag - 1) // 2], tag % 2 == 0 and before in (tag, tag - 1)
            if goes_on:
                found[-1] = found[-1]._replace(end=end)
            else:
                found.append(Span(start, end, label))
        before = tag
    return found


def first_tokens(starts: np.ndarray, piece: np.ndarray, before: np.ndarray) -> np.ndarray:
    """(T,) where each token begins in its piece, (T,) which piece that is, (P,) white space before the word of each -> the token of each word."""
    reached = starts <= before[piece]
    after = np.append((piece[1:] != piece[:-1]) | ~reached[1:], True) if len(piece) else reached
    return np.flatnonzero(reached & after)


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """Documents in windows of `length` tokens, each with CLS before and SEP behind where `framed`. Every token is in one window.

    The channel `tag` has, of the first token of each word, one more than its tag, and 0 of all other tokens.
    """

    length: int = 128
    framed: bool = True
    column: str = "spans"
    labels: tuple[str, ...] = ()

    def prepare(self, encoded: "Encoded", table: "Table", special: "Special", seed: int) -> "Windows":
        return Windows(self, encoded, table, special)


class Windows:
    """The windows of a `Tagged`, document by document."""

    def __init__(self, tagged: Tagged, encoded: "Encoded", table: "Table", special: "Special") -> None:
        """Raises OvertureError for spans that are none, see `read`."""
        self.tagged, self.special = tagged, special
        self.room = tagged.length - 2 * tagged.framed
        texts, spans = table.columns.column("text").to_pylist(), read(table, tagged.column)
        cuts = [words(text) for text in texts]
        ends = [np.append(0, cut[:, 1]) for cut in cuts]
        # A word goes with the space before it and for itself, or "()." would be one token, and its name without an end
        pieces = [[t[a:b] for a, b in pairwise(end)] for t, end in zip(texts, ends)]
        self.ids: list[np.ndarray] = []  # (T,) of each document
        self.first: list[np.ndarray] = []  # (V,) the first token of each of its words
        self.words: list[np.ndarray] = []  # (V, 2) these
        self.tags: list[np.ndarray] = []  # (V,)
        found = encoded.tokenizer.encode_batch(pieces, is_pretokenized=True, add_special_tokens=False)
        for cut, end, own, one in zip(cuts, ends, spans, found):
            piece = np.array(one.word_ids, dtype=np.int64)
            first = first_tokens(np.array([a for a, _ in one.offsets], dtype=np.int64), piece, cut[:, 0] - end[:-1])
            self.ids.append(np.array(one.ids, dtype=np.int64))
            self.first.append(first)
            self.words.append(cut[piece[first]])
            self.tags.append(tags(cut, own, tagged.labels)[piece[first]])
        self.sizes = np.array([len(ids) for ids in self.ids], dtype=np.int64)
        counts = -(-self.sizes // self.room)
        self.bounds = np.concatenate([[0], np.cumsum(counts)])  # (N + 1,) windows
        self.of = np.repeat(np.arange(len(counts)), counts)  # (M,) the document of each

    def within(self, document: int) -> np.ndarray:
        """The windows of a document."""
        return np.arange(self.bounds[document], self.bounds[document + 1])

    @property
    def lengths(self) -> np.ndarray:
        first = (np.arange(len(self.of)) - self.bounds[self.of]) * self.room
        return np.asarray(np.minimum(self.sizes[self.of] - first, self.room) + 2 * self.tagged.framed)

    def documents(self, index: int) -> np.ndarray:
        return self.of[index : index + 1]

    def fetch(self, index: int, draws: Draws) -> Example:
        document = int(self.of[index])
        first = int(index - self.bounds[document]) * self.room
        ids = self.ids[document][first : first + self.room]
        tag = np.zeros(len(ids), dtype=np.int64)
        at = self.first[document]
        here = (at >= first) & (at < first + len(ids))
        tag[at[here] - first] = 1 + self.tags[document][here]
        if self.tagged.framed:
            ids = np.concatenate([[self.special.cls], ids, [self.special.sep]])
            tag = np.pad(tag, 1)
        return Example(ids, {"tag": tag})
