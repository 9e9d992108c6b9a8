"""The examples of a run that hears and reads: samples of a data program, rendered, with the features of what they hear.

An example is a sample, or several packed into one up to a length; its length is in tokens, and slots of speech count as such.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.mixture import Epochs, composition, rows_of
from overture.data.render import Continuous, Rendered, Renderer, SpokenText, packed
from overture.data.sample import Heard
from overture.data.source import Cached, Source, stacked
from overture.data.table import Table
from overture.data.text import Example, padded
from overture.data.tokens import FILE
from overture.errors import OvertureError
from overture.run import Run

EXCHANGE, PACKING = 15, 16  # purposes of draws


@dataclass(frozen=True)
class Samples:
    """The samples of a data program on the rows of a speech corpus."""

    run: Run
    table: Table
    source: Cached
    renderer: Renderer
    heard: np.ndarray  # (N,) int64, the row whose recording each row hears: itself, but in a control
    sizes: np.ndarray  # (N,) tokens of each sample
    bins: list[np.ndarray]  # rows of each example
    left_out: dict[str, int]  # rows, and why
    whole: str  # fingerprint of the rows before any was left out

    unit: ClassVar[Literal["seconds", "tokens"]] = "tokens"

    @classmethod
    def prepare(cls, run: Run, progress: Callable[[str, float], None] | None = None) -> Self:
        """Open the corpus, compute or map what is heard, render every sample once for its length.

        Raises OvertureError for whatever is wrong, before the first update.
        """
        program, frontend = run.data.sample, run.frontend
        assert program is not None
        if not run.data.cache or run.data.augment is not None:
            raise OvertureError(
                "a run on samples knows how many vectors a recording becomes before it begins: leave data.cache=true and data.augment unset"
            )
        whole, too_short = rows_of(run.data)
        table = whole
        if missing := [c for c in program.columns if c not in table.columns.column_names]:
            raise OvertureError(
                f"corpus {table.name!r} has no column {missing[0]!r}, which {type(program).__name__} needs: 'overture data score "
                f"{table.name} --with {missing[0]}' makes it, or set data.sample.column"
            )
        there = np.all([[bool(v) for v in table.columns.column(c).to_pylist()] for c in program.columns], axis=0)
        table = table.take(np.flatnonzero(there))
        short = table.numpy("duration") <= run.data.max_seconds
        table = table.take(np.flatnonzero(short))
        left_out = {"too short": too_short, "without a value": int((~there).sum()), "too long": int((~short).sum())}
        if len(table) < 2:
            raise OvertureError(f"of {len(whole)} rows of corpus {table.name!r} {len(table)} are left: {left_out}")
        told = None if progress is None else (lambda share: progress("features", share))
        source = Cached.open(table, frontend.audio, told)
        renderer = continuous(run, source)
        heard = exchanged(len(table), run.seed) if program.exchanged else np.arange(len(table))
        made = cls(run, table, source, renderer, heard, np.zeros(0), [], left_out, whole.fingerprint)
        sizes = np.array([len(made.sample(i).ids) for i in range(len(table))])
        bins = packing(sizes, run.data.packed, run.seed)
        return replace(made, sizes=sizes, bins=bins)

    def sample(self, row: int) -> Rendered:
        """The sample of a row."""
        program: Any = self.run.data.sample
        values = {c: self.table.columns.column(c)[row].as_py() for c in program.columns}
        return self.renderer(program(values, int(self.heard[row])))

    @property
    def lengths(self) -> np.ndarray:
        return np.array([self.sizes[rows].sum() for rows in self.bins])

    def epochs(self) -> Epochs | None:
        mix = self.run.data.mix
        return Epochs(mix, self._first(), self.lengths, self.run.seed) if mix else None

    def keys(self) -> np.ndarray | None:
        order = self.run.data.order
        return order.keys(self._first(), self.lengths) if order else None

    def _first(self) -> Table:
        return self.table.take(np.array([rows[0] for rows in self.bins]))

    def batch(self, indices: np.ndarray, draws: Draws) -> Batch:
        found = [packed([self.sample(int(r)) for r in self.bins[int(i)]]) for i in indices]
        batch = spoken([p for p, _ in found], self.source, self.run.frontend, [d for _, d in found])
        return replace(batch, rows=torch.from_numpy(np.asarray(indices, dtype=np.int64)))

    def seen(self, indices: np.ndarray, draws: Draws) -> np.ndarray:
        return np.asarray(self.lengths[indices], dtype=np.float64)

    def longest(self) -> "Samples":
        return self

    def ids(self, indices: np.ndarray) -> list[str]:
        of = self.table.columns.column("id")
        return [of[int(r)].as_py() for i in indices for r in self.bins[int(i)]]

    def about(self) -> dict[str, Any]:
        table = self.table
        return {
            "corpus": table.name,
            "rows": len(table),
            "hours": table.hours,
            "tokens": int(self.sizes.sum()),
            "examples": len(self.bins),
            "fingerprint": self.whole,
            "left_out": self.left_out,
            "mixed_in": {},
            "composition": composition(self.run.data, table),
        }

    def leave(self, folder: Any) -> None:
        """The tokenizer."""
        self.run.frontend.tokens.tokenizer().save(str(folder / FILE))


def continuous(run: Run, source: Source) -> Continuous:
    """The renderer of a run: as many slots as its adapter will make vectors of what `source` has."""
    frontend: SpokenText = run.frontend
    adapter: Any = run.model.adapter  # type: ignore[attr-defined]

    def vectors(heard: Heard) -> int:
        return int(adapter.steps(len(stretch(heard, source, frontend.frame_rate))))

    return Continuous(frontend.tokens.tokenizer(), frontend.tokens.special, vectors)


def stretch(heard: Heard, source: Source, rate: float) -> np.ndarray:
    """(S, F) what is heard, of features `rate` a second."""
    first, last = (None if s is None else round(s * rate) for s in (heard.start, heard.stop))
    return source[heard.row][first:last]


def exchanged(rows: int, seed: int) -> np.ndarray:
    """(N,) a drawn other row for each: a cycle through all of them, so that none keeps its own."""
    order = Draws(seed, 0).example(0, EXCHANGE).permutation(rows)
    found = np.empty(rows, dtype=np.int64)
    found[order] = np.roll(order, 1)
    return found


def packing(sizes: np.ndarray, length: int | None, seed: int) -> list[np.ndarray]:
    """Rows that share an example of at most `length` tokens, in a drawn order, each into the first that has room; None: one row an example."""
    if length is None:
        return [np.array([row]) for row in range(len(sizes))]
    if (longest := int(sizes.max())) > length:
        raise OvertureError(f"data.packed={length} is less than the longest sample, {longest} tokens")
    bins: list[list[int]] = []
    room: list[int] = []
    first = 0  # no example before this one has room for the shortest sample
    least = int(sizes.min())
    for row in Draws(seed, 0).example(0, PACKING).permutation(len(sizes)).tolist():
        while first < len(room) and room[first] < least:
            first += 1
        place = next((i for i in range(first, len(bins)) if room[i] >= sizes[row]), len(bins))
        if place == len(bins):
            bins.append([])
            room.append(length)
        bins[place].append(row)
        room[place] -= int(sizes[row])
    return [np.array(b) for b in bins]


def spoken(
    parts: list[Rendered], source: Source, frontend: SpokenText, documents: list[np.ndarray] | None = None
) -> Batch:
    """Rendered samples as a Batch, padded behind. Channels: `learnt` (B, T) 0 or 1, `audio` (B, T) number in `Batch.audio` and -1 of tokens,
    `document` where samples are packed."""
    numbers = np.cumsum([0, *(len(p.heard) for p in parts)])
    several = documents is not None and any(d[-1] > 0 for d in documents)
    examples = [
        Example(
            p.ids,
            {
                "learnt": p.learnt.astype(np.int64),
                "slot": np.where(p.audio < 0, 0, p.audio + n + 1),  # 0 is what padding has
                **({"document": documents[i]} if several and documents else {}),
            },
        )
        for i, (p, n) in enumerate(zip(parts, numbers))
    ]
    arrays = padded(examples, frontend.tokens.special.pad)
    features, lengths = None, None
    if numbers[-1]:
        features, lengths = stacked([stretch(h, source, frontend.frame_rate) for p in parts for h in p.heard])
    channels = {name: torch.from_numpy(values) for name, values in arrays["channels"].items()}
    channels["audio"] = channels.pop("slot") - 1
    return Batch(
        rows=torch.arange(len(parts)),
        x=torch.from_numpy(arrays["x"]),
        lengths=torch.from_numpy(arrays["lengths"]),
        channels=channels,
        audio=features,
        audio_lengths=lengths,
    )
