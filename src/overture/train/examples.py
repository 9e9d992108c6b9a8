"""What a run trains on, made ready: its examples, the plan of its updates, and what one device computes of each.

Speech and text differ in this file and nowhere above it: an example is an utterance, its length is in seconds; or it is a stretch of text,
and its length is in tokens; or a sample of both (`samples`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

import numpy as np
import torch

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.encoded import Encoded
from overture.data.grid import Grids
from overture.data.lengths import samples
from overture.data.mixture import Epochs, composition, rows_of
from overture.data.phones import Labels
from overture.data.plan import BatchPlan, Position
from overture.data.source import Augmented, Cached, Live, Source, collate, in_order
from overture.data.table import Table
from overture.data.text import Examples as Assembled
from overture.data.text import padded
from overture.data.tokens import FILE, Tokens
from overture.errors import OvertureError
from overture.models.durations import FILE as DURATIONS
from overture.models.durations import PhoneDurations
from overture.run import Labelled, Run, Uncropped
from overture.train.engine import Engine
from overture.train.samples import Samples

Batches = list[tuple[Batch, bool]]  # the micro-batches of one device in one update, and whether each counts
Progress = Callable[[str, float], None]  # is told what is done and its share
AHEAD = 3  # updates whose batches are prepared while one is computed


class Examples(Protocol):
    """N things to train on, by index."""

    @property
    def unit(self) -> Literal["seconds", "tokens"]: ...

    @property
    def lengths(self) -> np.ndarray: ...  # (N,) of each at its longest, in units: what the plan counts

    def batch(self, indices: np.ndarray, draws: Draws) -> Batch: ...

    def seen(self, indices: np.ndarray, draws: Draws) -> np.ndarray: ...  # (B,) units that an update really has of each

    def epochs(self) -> Callable[[int], np.ndarray] | None: ...  # what a mixture draws in each

    def keys(self) -> np.ndarray | None: ...  # (N,) what `data.order` sorts them by

    def longest(self) -> "Examples": ...  # the same with each as long as it can be: what a batch may cost at most

    def ids(self, indices: np.ndarray) -> list[str]: ...  # of the rows they are made of, for messages

    def about(self) -> dict[str, Any]: ...  # for run.json

    def leave(self, folder: Path) -> None: ...  # in the run's folder: what it needs to stand without the corpus


@dataclass(frozen=True)
class Utterances:
    """The rows of a speech corpus."""

    run: Run
    table: Table
    source: Source
    labels: list[list[int]] | None  # by row, for objectives that learn from a column
    too_short: int  # rows under data.min_seconds, at the highest speed
    channels: dict[str, Labels] = field(default_factory=dict)  # what is told of each frame of a row
    voices: Cached | None = None  # (1, E) of each row: who speaks

    unit: ClassVar[Literal["seconds", "tokens"]] = "seconds"

    @classmethod
    def prepare(cls, run: Run, progress: Progress | None = None) -> Self:
        """Open the corpus, compute or map its features. Raises OvertureError for whatever is wrong with it, before the first update."""
        table, too_short = rows_of(run.data)
        told = None if progress is None else (lambda share: progress("features", share))
        augment = run.data.augment
        if augment is not None:
            Augmented.check(run.frontend, run.data.cache)
            if run.data.phones:
                raise OvertureError(
                    "data.phones says what is heard when, and data.augment alters the recordings: one of the two"
                )
        _uncropped(run, table)
        labels = _labels(run, table)  # first: what is wrong with a text is told before hours of features
        clean = Cached.open(table, run.frontend, told) if run.data.cache else Live(table, run.frontend)
        source = clean if augment is None else Augmented(clean, table, run.frontend, augment, told)
        phones = run.data.phones
        channels = {phones.name: phones.labels(table, run.frontend.frame_rate)} if phones else {}
        voices = Cached.open(table, run.data.voices, told) if run.data.voices else None
        return cls(run, table, source, labels, too_short, channels, voices)

    @property
    def durations(self) -> np.ndarray:
        """(N,) s of what is heard of each row as it was recorded."""
        return np.asarray(np.minimum(self.table.numpy("duration"), self.run.data.max_seconds))

    @property
    def lengths(self) -> np.ndarray:
        augment = self.run.data.augment
        slowest = augment.slowest if augment else 1.0  # no batch can be larger than planned
        return np.asarray(np.minimum(self.table.numpy("duration") / slowest, self.run.data.max_seconds))

    def epochs(self) -> Epochs | None:
        """What a mixture draws of the rows, epoch by epoch."""
        mix = self.run.data.mix
        return Epochs(mix, self.table, self.durations, self.run.seed) if mix else None

    def keys(self) -> np.ndarray | None:
        order = self.run.data.order
        return order.keys(self.table, self.durations) if order else None

    def batch(self, indices: np.ndarray, draws: Draws) -> Batch:
        longest = samples(self.run.data.max_seconds, self.run.frontend.frame_rate)
        batch = collate(
            self.source,
            self.table.rows,
            indices,
            longest=longest,
            draws=draws,
            labels=self.labels,
            channels=self.channels,
        )
        if self.voices is None:
            return batch
        return replace(batch, voices=torch.from_numpy(np.concatenate([self.voices[int(i)] for i in indices])))

    def seen(self, indices: np.ndarray, draws: Draws) -> np.ndarray:
        if not isinstance(self.source, Augmented):
            return np.asarray(self.lengths[indices])
        drawn = self.source.seconds(indices, self.table.rows[indices], draws)
        return np.asarray(np.minimum(drawn, self.run.data.max_seconds))

    def longest(self) -> "Utterances":
        return replace(self, source=self.source.slowest()) if isinstance(self.source, Augmented) else self

    def ids(self, indices: np.ndarray) -> list[str]:
        found: list[str] = self.table.take(indices).numpy("id").tolist()
        return found

    def about(self) -> dict[str, Any]:
        table = self.table
        mixed_in = self.source.augmenter.corpora if isinstance(self.source, Augmented) else []
        return {
            "corpus": table.name,
            "rows": len(table),
            "hours": table.hours,
            "fingerprint": table.fingerprint,
            "too_short": self.too_short,
            **_values(table, mixed_in),
            "mixed_in": {t.name: t.fingerprint for t in mixed_in},
            "composition": composition(self.run.data, table),
            **self._grid(),
            **self._phones(),
        }

    def _grid(self) -> dict[str, Any]:
        """Of how many values of the grid's column updates are made, and how many rows are of values that have too few."""
        if self.run.data.grid is None:
            return {}
        grids = Grids(self.run.data.grid, self.table, self.run.seed)
        return {"grid": {"values": len(grids.members), "left_out": grids.left_out}}

    def _phones(self) -> dict[str, Any]:
        """How many rows are left out because their phones could not be aligned."""
        data = self.run.data
        if data.phones is None:
            return {}
        table = Table.open(data.corpus, data.where)
        return {"without_phones": len(table) - len(data.phones.rows(table))}

    def leave(self, folder: Path) -> None:
        """How long phones last, where it knows them; else nothing: the front end is all in the configuration."""
        if self.run.data.phones:
            PhoneDurations.of(self.table, self.run.data.phones).save(folder / DURATIONS)


@dataclass(frozen=True)
class Texts:
    """Stretches, or whole documents, of a corpus of text."""

    run: Run
    table: Table
    encoded: Encoded
    assembled: Assembled
    labels: list[list[int]] | None  # by document, for objectives that learn from a column

    unit: ClassVar[Literal["seconds", "tokens"]] = "tokens"

    @classmethod
    def prepare(cls, run: Run, progress: Progress | None = None) -> Self:
        """Open the corpus, train its tokenizer and encode it, where that has not been done. Raises OvertureError before the first update."""
        table = documents(run)
        if run.data.text is None:
            raise OvertureError("a run on text needs data.text: how documents become examples")
        told = None if progress is None else (lambda share: progress("tokens", share))
        encoded = Encoded.open(table, run.frontend, told)
        assembled = run.data.text.prepare(encoded, table, run.frontend.special, run.seed)
        return cls(run, table, encoded, assembled, _labels(run, table))

    @property
    def lengths(self) -> np.ndarray:
        return np.asarray(self.assembled.lengths)

    def epochs(self) -> Epochs | None:
        mix = self.run.data.mix
        if mix is None:
            return None
        return Epochs(mix, self._first(), self.lengths, self.run.seed)

    def keys(self) -> np.ndarray | None:
        order = self.run.data.order
        return order.keys(self._first(), self.lengths) if order else None

    def _first(self) -> Table:
        """(N,) the document that each example begins with."""
        return self.table.take(np.array([self.assembled.documents(i)[0] for i in range(len(self.lengths))]))

    def batch(self, indices: np.ndarray, draws: Draws) -> Batch:
        found = [self.assembled.fetch(int(i), draws) for i in indices]
        arrays = padded(found, self.run.frontend.special.pad)
        labels = [e.labels for e in found]
        if self.labels is not None:
            labels = [self.labels[int(self.assembled.documents(int(i))[0])] for i in indices]
        known = [line for line in labels if line is not None]
        return Batch(
            rows=torch.from_numpy(np.asarray(indices, dtype=np.int64)),
            x=torch.from_numpy(arrays["x"]),
            lengths=torch.from_numpy(arrays["lengths"]),
            labels=torch.nn.utils.rnn.pad_sequence([torch.tensor(line) for line in known], True) if known else None,
            label_lengths=torch.tensor([len(line) for line in known]) if known else None,
            channels={name: torch.from_numpy(values) for name, values in arrays["channels"].items()},
        )

    def seen(self, indices: np.ndarray, draws: Draws) -> np.ndarray:
        return np.asarray(self.lengths[indices], dtype=np.float64)

    def longest(self) -> "Texts":
        return self

    def ids(self, indices: np.ndarray) -> list[str]:
        of = self.table.columns.column("id")
        return [of[int(d)].as_py() for i in indices for d in self.assembled.documents(int(i))]

    def about(self) -> dict[str, Any]:
        table = self.table
        return {
            "corpus": table.name,
            "rows": len(table),
            "characters": table.characters,
            "tokens": int(self.encoded.offsets[-1]),
            "examples": len(self.lengths),
            "fingerprint": table.fingerprint,
            **_values(table, []),
            "mixed_in": {},
            "composition": [],
        }

    def leave(self, folder: Path) -> None:
        """The tokenizer."""
        self.run.frontend.tokenizer(self.table).save(str(folder / FILE))


def kind_of(run: Run) -> type[Texts] | type[Utterances] | type[Samples]:
    """What a run learns from."""
    if run.hears_and_reads:
        return Samples
    return Texts if run.on_text else Utterances


def documents(run: Run) -> Table:
    """The rows that a run on text trains on. Raises OvertureError for a corpus of speech, and where none is left."""
    table = Table.open(run.data.corpus, run.data.where)
    if not table.is_text:
        raise OvertureError(
            f"corpus {table.name!r} is speech, and recipe {run.recipe!r} reads text: name a corpus of text with --data"
        )
    if len(table) == 0:
        raise OvertureError(
            f"no row of corpus {run.data.corpus!r} is left to train on: --where {run.data.where!r} leaves none"
        )
    return table.take(run.data.select.rows(table)) if run.data.select else table


def tokens_of(run: Run) -> Tokens:
    """The tokens of a run with their tokenizer named, for rows that it was not trained on. Raises OvertureError as `documents` does."""
    tokens: Tokens = run.frontend
    return tokens if tokens.kept or tokens.published else tokens.settled(documents(run))


def _values(table: Table, mixed_in: list[Table]) -> dict[str, list[str]]:
    """Licences, languages and sources of what is trained on."""
    tables = {"licence": (table, *mixed_in), "language": (table,), "source": (table, *mixed_in)}
    return {
        f"{c}s": sorted(
            {str(v) for t in of if c in t.columns.column_names for v in t.numpy(c).tolist() if v is not None}
        )
        for c, of in tables.items()
        if c in table.columns.column_names
    }


@dataclass(frozen=True)
class Training:
    """The examples of a run, and the plan of its updates."""

    run: Run
    examples: Examples
    plan: BatchPlan

    @classmethod
    def prepare(cls, run: Run, progress: Progress | None = None) -> Self:
        """Raises OvertureError for whatever is wrong with the corpus, before the first update."""
        examples: Examples = kind_of(run).prepare(run, progress)
        grids = None
        if run.data.grid:
            if not isinstance(examples, Utterances):
                raise OvertureError("data.grid makes updates of utterances, and this run is on text")
            grids = Grids(run.data.grid, examples.table, run.seed)
        plan = BatchPlan(
            examples.lengths,
            update=run.plan.update,
            micro=run.plan.micro,
            longest_squared=run.plan.longest_squared,
            seed=run.seed,
            draw=examples.epochs(),
            keys=examples.keys(),
            ordered=run.data.order.epochs if run.data.order else 0,
            grids=grids,
        )
        return cls(run, examples, plan)

    def batches(self, rows: np.ndarray, update: int, engine: Engine) -> Batches:
        """What this device computes of an update."""
        draws = Draws(self.run.seed, update)
        dealt = self.plan.micro_batches(rows, rank=engine.rank, world=engine.world)
        return [(replace(self.examples.batch(micro.rows, draws), real=micro.real), micro.real) for micro in dealt]

    def largest(self, engine: Engine) -> Batches:
        """What this device computes of the largest planned update, every example as long as it can be."""
        return replace(self, examples=self.examples.longest()).batches(self.plan.largest(), 0, engine)

    def seen(self, rows: np.ndarray, update: int) -> np.ndarray:
        """(B,) units that an update sees of each of its examples."""
        return self.examples.seen(rows, Draws(self.run.seed, update))

    def stream(self, update: int, position: Position, engine: Engine) -> Iterator[tuple[np.ndarray, Batches]]:
        """Updates from `update` at `position` on, without end, prepared ahead in threads."""

        def places() -> Iterator[tuple[int, np.ndarray]]:
            number, at = update, position
            while True:
                yield number, self.plan.updates(at.epoch)[at.index]
                number, at = number + 1, at.next(self.plan)

        def fetch(place: tuple[int, np.ndarray]) -> tuple[np.ndarray, Batches]:
            number, rows = place
            return rows, self.batches(rows, number, engine)

        return in_order(fetch, places(), ahead=AHEAD)


def _labels(run: Run, table: Table) -> list[list[int]] | None:
    labellers = [p.objective for p in run.players if isinstance(p.objective, Labelled)]
    if not labellers:
        return None
    ids, values = table.numpy("id"), table.numpy(labellers[0].column)
    return [labellers[0].encode("" if value is None else value, str(row)) for row, value in zip(ids, values)]


def _uncropped(run: Run, table: Table) -> None:
    """Raises OvertureError where an objective needs recordings whole and some would be cropped."""
    longer = np.flatnonzero(table.numpy("duration") > run.data.max_seconds)
    if len(longer) and any(isinstance(p.objective, Uncropped) and p.objective.uncropped for p in run.players):
        raise OvertureError(
            f"{len(longer)} rows, such as {table.row(int(longer[0]))['id']!r}, last longer than data.max_seconds={run.data.max_seconds:g}, and "
            f'what is said in them is learnt whole: leave them out with --where "duration <= {run.data.max_seconds:g}", or raise data.max_seconds'
        )
