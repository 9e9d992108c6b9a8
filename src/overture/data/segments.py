"""Scores of segments carried to tokens: a channel beside them, and control tokens before every segment.

Pre-training with preferences (Korbak et al. 2023, arXiv:2302.08582, section 2) knows a score of every sentence or line of code. A scorer has
left them in the table: `segments`, where each segment of a text ends, in characters, and `NAME_segments`, a score of each. A token belongs to
the segment that its last character is in: line ends are tokens of their own, so lines are exact; a word that brings its space along belongs to
the sentence that it begins.

Dropping documents by their mean score needs nothing of this: it is `Data.select` or `--where`, and the kept ones are read more often.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from overture.data.draws import Draws
from overture.data.text import Example, Pack, Packed
from overture.errors import OvertureError, near

if TYPE_CHECKING:
    from overture.data.encoded import Encoded
    from overture.data.table import Table
    from overture.data.tokens import Special

OMIT, SHUFFLE = 12, 13  # purposes of draws
ENDS = "segments"


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """A control token before every segment: `good` where its score is `threshold` or less, else `bad`. Both are among `frontend.blocks`.

    With probability `omit` a segment goes without, so that the model also writes without being told; drawn once a run for each.
    """

    threshold: float = 0.0
    good: str = "<|aligned|>"
    bad: str = "<|misaligned|>"
    omit: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.omit < 1:
            raise OvertureError(f"prefix.omit={self.omit:g}: a probability, 0 or above and below 1")


@dataclass(frozen=True, kw_only=True)
class PackSegments(Pack):
    """A `Pack` with the channel `score` (float32): of the segment that a token is of, or that a control token announces; 0 of ends, CLS and SEP."""

    score: str = "pep8"  # the columns are `segments` and SCORE_segments
    prefix: Prefix | None = None
    shuffled: bool = False  # the control: each segment has the score of another, any of the corpus

    def prepare(self, encoded: "Encoded", table: "Table", special: "Special", seed: int) -> "PackedSegments":
        return PackedSegments(self, encoded, table, special, seed)


class Scores:
    """Where the segments of each document of a table end, and the score of each."""

    def __init__(self, table: "Table", score: str) -> None:
        """Raises OvertureError, naming the row, for columns that are not there, that do not belong together or to the text, and for no score."""
        import pyarrow.compute as pc

        names = (ENDS, f"{score}_segments")
        (counts, ends), (others, values) = (_lists(table, name, score) for name in names)
        self.bounds = np.concatenate([[0], np.cumsum(counts)])  # (N + 1,) segments
        self.ends, self.values = ends.astype(np.int64), values.astype(np.float32)  # (S,) characters, scores

        def refuse(row: int, what: str) -> None:
            raise OvertureError(
                f"corpus {table.name!r}, row {row} ({table.columns.column('id')[row].as_py()}): {what}. Score it again: {_how(table, score)}"
            )

        if (wrong := np.flatnonzero(counts != others)).size:
            row = int(wrong[0])
            refuse(row, f"{counts[row]} ends of segments, and {others[row]} scores in {names[1]}")
        sizes = pc.fill_null(pc.utf8_length(table.columns.column("text")), 0).to_numpy()
        last = np.append(0, self.ends)[np.where(counts > 0, self.bounds[1:], 0)]  # (N,) where each text ends
        if (wrong := np.flatnonzero(last != sizes)).size:
            row = int(wrong[0])
            refuse(row, f"its segments end at character {last[row]}, its text at {sizes[row]}")
        before = np.append(0, self.ends[:-1]) if len(self.ends) else self.ends
        before[self.bounds[:-1][counts > 0]] = 0
        document = np.repeat(np.arange(len(counts)), counts)
        if (wrong := np.flatnonzero(self.ends <= before)).size:
            refuse(int(document[wrong[0]]), f"its segments end at {self.ends[wrong[0]]} after {before[wrong[0]]}")
        if (wrong := np.flatnonzero(~np.isfinite(self.values))).size:
            refuse(int(document[wrong[0]]), f"a segment without a number in {names[1]}")

    def of(self, document: int) -> tuple[np.ndarray, np.ndarray]:
        """(S,) where its segments end, in characters, and (S,) the score of each."""
        part = slice(self.bounds[document], self.bounds[document + 1])
        return self.ends[part], self.values[part]


class Scored:
    """The documents of a corpus with their control tokens, and the scores of all their tokens."""

    def __init__(self, pack: PackSegments, encoded: "Encoded", table: "Table", special: "Special", seed: int) -> None:
        """Raises OvertureError, see `Scores`, and where the run's tokens lack the control tokens."""
        self.encoded, self.rows, self.seed, self.prefix = encoded, table.rows, seed, pack.prefix
        self.known = Scores(table, pack.score)
        if pack.shuffled:
            self.known.values = Draws(seed, 0).example(0, SHUFFLE).permutation(self.known.values)
        self.lengths = encoded.lengths
        if self.prefix is not None:
            self.control = np.array([special.block(self.prefix.good), special.block(self.prefix.bad)])
            self.lengths = self.lengths + np.array(
                [len(self._places(d)[0]) for d in range(len(encoded))], dtype=np.int64
            )

    def segments(self, document: int) -> np.ndarray:
        """(T,) the number of the segment that each token of the text belongs to."""
        ends, _ = self.known.of(document)
        return segments(self.encoded.starts(document), ends)

    def _places(self, document: int) -> tuple[np.ndarray, np.ndarray]:
        """(K,) tokens of the text that a control token stands before, ascending, and (K,) which segment it announces."""
        assert self.prefix is not None
        segment = self.segments(document)
        begins = np.flatnonzero(np.diff(segment, prepend=-1))
        draws = Draws(self.seed, 0).example(int(self.rows[document]), OMIT).random(len(self.known.of(document)[0]))
        begins = begins[draws[segment[begins]] >= self.prefix.omit]
        return begins, segment[begins]

    def ids(self, document: int, first: int = 0, last: int | None = None) -> np.ndarray:
        """(n,) int64, from the token `first` up to `last`, control tokens counted."""
        if self.prefix is None:
            return self.encoded.ids(document, first, last)
        places, segment = self._places(document)
        bad = self.known.of(document)[1][segment] > self.prefix.threshold
        return np.asarray(np.insert(self.encoded.ids(document), places, self.control[bad.astype(np.int64)])[first:last])

    def scores(self, document: int, first: int = 0, last: int | None = None) -> np.ndarray:
        """(n,) float32, of the same tokens."""
        values = self.known.of(document)[1]
        found = values[self.segments(document)]
        if self.prefix is not None:
            places, segment = self._places(document)
            found = np.insert(found, places, values[segment])
        return np.asarray(found[first:last], dtype=np.float32)


class PackedSegments(Packed):
    """The stretches of a `PackSegments`."""

    def __init__(self, pack: PackSegments, encoded: "Encoded", table: "Table", special: "Special", seed: int) -> None:
        """Raises OvertureError, see `Packed` and `Scored`."""
        self.scored = Scored(pack, encoded, table, special, seed)
        super().__init__(pack, self.scored, table, special, seed)

    def fetch(self, index: int, draws: Draws) -> Example:
        example = super().fetch(index, draws)
        parts = [
            np.append(self.scored.scores(document, first, last), np.zeros(int(ended), np.float32))
            for document, first, last, ended in self.pieces(index)
        ]
        score = np.pad(np.concatenate(parts), int(self.pack.framed))
        return Example(example.ids, {**example.channels, "score": score})


def segments(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(T,) where tokens begin, (S,) where segments end, in characters -> (T,) the segment that the last character of each token is in."""
    if len(starts) == 0:
        return np.zeros(0, dtype=np.int64)
    last = np.append(starts[1:], ends[-1]) - 1
    last = np.maximum(
        starts, last
    )  # of tokens that share a character of several bytes, all but one would end before it
    return np.asarray(np.searchsorted(ends, last, side="right"), dtype=np.int64)


def _lists(table: "Table", name: str, score: str) -> tuple[np.ndarray, np.ndarray]:
    """(N,) how many values each row has, and all of them. Raises OvertureError for a column that is not there, holds no lists, or lacks a row's."""
    import pyarrow as pa
    import pyarrow.compute as pc

    have = table.columns.column_names
    if name not in have:
        raise OvertureError(
            f"corpus {table.name!r} has no column {name!r}. {near(name, have)} Scores of segments are made by: {_how(table, score)}"
        )
    column = table.columns.column(name)
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        raise OvertureError(f"column {name!r} of {table.name!r} holds {column.type}, not a list of numbers a row")
    counts: Any = pc.list_value_length(column)
    if counts.null_count:
        row = int(np.flatnonzero(counts.is_null().to_numpy())[0])
        raise OvertureError(
            f"corpus {table.name!r}, row {row} ({table.columns.column('id')[row].as_py()}) has no {name}, nor have {counts.null_count - 1} others: "
            f"leave them out with --where '{name} IS NOT NULL'"
        )
    return counts.to_numpy().astype(np.int64), pc.list_flatten(column).to_numpy()


def _how(table: "Table", score: str) -> str:
    return f"overture data score {table.name} --with {score} --segments"
