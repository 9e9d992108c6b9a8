"""How documents become examples of text: packed into stretches of one length, or one example a document.

What stands between a table of documents and the batch plan. An assembly is a frozen dataclass in `Data.text`; prepared on encoded documents
it knows how many examples there are, how long each is, and fetches any of them: ids, and beside them channels that say something of every
token (which document it is of, a score). Objectives that learn from pairs or groups of spans bring assemblies of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from overture.data.draws import Draws
from overture.errors import OvertureError

if TYPE_CHECKING:
    from overture.data.encoded import Encoded
    from overture.data.table import Table
    from overture.data.tokens import Special

ORDER = 11  # purpose of the draw that orders documents before they are packed


@dataclass(frozen=True)
class Example:
    """One thing to learn from. Channels have one value a token."""

    ids: np.ndarray  # (T,) int64
    channels: Mapping[str, np.ndarray] = field(default_factory=dict)  # of (T,) int64 or float32
    labels: list[int] | None = None  # for objectives that have labels


class Documents(Protocol):
    """N documents as ids: `Encoded`, or what puts further tokens between them."""

    @property
    def lengths(self) -> np.ndarray: ...  # (N,) tokens of each

    def ids(self, document: int, first: int = 0, last: int | None = None) -> np.ndarray: ...  # (n,) int64


class Examples(Protocol):
    """N examples, by index."""

    @property
    def lengths(self) -> np.ndarray: ...  # (N,) tokens of each, at its longest

    def fetch(self, index: int, draws: Draws) -> Example: ...

    def documents(
        self, index: int
    ) -> np.ndarray: ...  # row numbers of the table that it is made of, the first one first


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Documents one after the other, in an order drawn once a run, cut into stretches of `length` tokens: no padding but in the last.

    Every token of the corpus is in exactly one example, every epoch. An end token follows each document; `framed` puts CLS before and SEP behind
    each stretch, as encoders have it, and needs no end tokens. Channels: `document`, the number of a token's document within the example.
    `column` keeps documents apart that differ in it: a mixture can then draw stretches of one value.
    """

    length: int = 128  # tokens, with CLS and SEP
    framed: bool = False
    apart: bool = False  # attention stays within a document
    column: str | None = None

    def prepare(self, encoded: "Encoded", table: "Table", special: "Special", seed: int) -> "Packed":
        return Packed(self, encoded, table, special, seed)


class Packed:
    """The stretches of a `Pack`."""

    def __init__(self, pack: Pack, encoded: Documents, table: "Table", special: "Special", seed: int) -> None:
        """Raises OvertureError for a length that holds no token."""
        from overture.data.mixture import classes

        self.pack, self.encoded, self.special = pack, encoded, special
        self.room = pack.length - 2 * pack.framed  # tokens of documents in an example
        if self.room < 1:
            raise OvertureError(f"data.text.length={pack.length} has no room for a token")
        rng = Draws(seed, 0).example(0, ORDER)
        self.order = rng.permutation(len(table))  # (N,) documents in their stream
        if pack.column is not None:
            _, codes = classes(table, pack.column)
            self.order = self.order[np.argsort(codes[self.order], kind="stable")]
            bounds = np.flatnonzero(np.diff(codes[self.order], prepend=-1, append=-1))
        else:
            bounds = np.array([0, len(table)])
        sizes = encoded.lengths[self.order] + (not pack.framed)  # with end tokens
        self.ends = np.concatenate([[0], np.cumsum(sizes)])  # (N + 1,) places in the stream where documents begin
        starts = [np.arange(a, b, self.room) for a, b in zip(self.ends[bounds[:-1]], self.ends[bounds[1:]])]
        self.starts = np.concatenate(starts) if starts else np.zeros(0, np.int64)
        stops = (
            np.concatenate([np.append(s[1:], e) for s, e in zip(starts, self.ends[bounds[1:]])])
            if starts
            else self.starts
        )
        self.stops = stops  # (M,) where each example ends

    @property
    def lengths(self) -> np.ndarray:
        return np.asarray(self.stops - self.starts + 2 * self.pack.framed)

    def documents(self, index: int) -> np.ndarray:
        first = int(np.searchsorted(self.ends, self.starts[index], "right")) - 1
        last = int(np.searchsorted(self.ends, self.stops[index], "left"))
        return np.asarray(self.order[first:last])

    def pieces(self, index: int) -> list[tuple[int, int, int, bool]]:
        """The documents that an example is made of: the row of each, from which of its tokens up to which, and whether its end token follows."""
        start, stop = int(self.starts[index]), int(self.stops[index])
        first = int(np.searchsorted(self.ends, start, "right")) - 1
        found = []
        for place in range(first, first + len(self.documents(index))):
            begin = int(self.ends[place])
            ended = not self.pack.framed and stop >= int(self.ends[place + 1])
            found.append((int(self.order[place]), max(0, start - begin), stop - begin, ended))
        return found

    def fetch(self, index: int, draws: Draws) -> Example:
        ids, of = [], []
        for number, (row, first, last, ended) in enumerate(self.pieces(index)):
            part = self.encoded.ids(row, first, last)
            if ended:
                part = np.append(part, self.special.end)
            ids.append(part)
            of.append(np.full(len(part), number))
        tokens, document = np.concatenate(ids), np.concatenate(of)
        if self.pack.framed:
            tokens = np.concatenate([[self.special.cls], tokens, [self.special.sep]])
            document = np.concatenate([document[:1], document, document[-1:]])
        return Example(tokens, {"document": document})


@dataclass(frozen=True, kw_only=True)
class Whole:
    """One example a document, cropped to its first `length` tokens, with CLS before and SEP behind, or an end token behind: to learn labels from."""

    length: int = 128
    framed: bool = True

    def prepare(self, encoded: "Encoded", table: "Table", special: "Special", seed: int) -> "Wholes":
        return Wholes(self, encoded, special)


class Wholes:
    """The documents of a `Whole`."""

    def __init__(self, whole: Whole, encoded: "Encoded", special: "Special") -> None:
        self.whole, self.encoded, self.special = whole, encoded, special
        self.room = whole.length - (2 if whole.framed else 1)

    @property
    def lengths(self) -> np.ndarray:
        return np.asarray(np.minimum(self.encoded.lengths, self.room) + (2 if self.whole.framed else 1))

    def documents(self, index: int) -> np.ndarray:
        return np.array([index])

    def fetch(self, index: int, draws: Draws) -> Example:
        ids = self.encoded.ids(index, 0, self.room)
        special = self.special
        return Example(
            np.concatenate([[special.cls], ids, [special.sep]] if self.whole.framed else [ids, [special.end]]).astype(
                np.int64
            )
        )


def padded(examples: list[Example], pad: int) -> dict[str, Any]:
    """`x` (B, T) int64, `lengths` (B,), `channels` {name: (B, T)}, padded to the longest with `pad` and 0 (-1 of documents)."""
    lengths = np.array([len(e.ids) for e in examples])
    longest = int(lengths.max())

    def stack(rows: list[np.ndarray], value: int) -> np.ndarray:
        kind = np.float32 if any(np.issubdtype(r.dtype, np.floating) for r in rows) else np.int64
        out = np.full((len(rows), longest), value, dtype=kind)
        for line, row in zip(out, rows):
            line[: len(row)] = row
        return out

    channels = {
        name: stack([e.channels[name] for e in examples], -1 if name == "document" else 0)
        for name in examples[0].channels
    }
    return {"x": stack([e.ids for e in examples], pad), "lengths": lengths, "channels": channels}
