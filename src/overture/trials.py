"""A trial made ready: its labelled rows, divided into train, dev and test. No arm is known here, so that no arm can be favoured."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from overture.config import fingerprint
from overture.data.split import PARTS, Split, divide, same_recordings, split, take_minutes, take_rows, values_of
from overture.data.table import FINGERPRINTED, Table
from overture.errors import OvertureError
from overture.study import Trial
from overture.tasks import fits

if TYPE_CHECKING:
    from overture.tasks.align import Alignment

Tell = Callable[[dict[str, Any]], None]
Rows = dict[str, np.ndarray]  # of train, dev and test


class Labelled:
    """The rows of one trial. `table`: all that can be used; `split`: which of them are in which part."""

    def __init__(self, trial: Trial, study: Table, tell: Tell) -> None:
        """`study`: the rows of the study's corpus, for a trial without its own. Raises OvertureError when the task lacks columns or rows."""
        self.trial, self.task, self.tell = trial, trial.definition, tell
        self.whole = study if trial.corpus is None else Table.open(trial.corpus)
        fits(self.task, self.whole.is_text, self.whole.name)
        absent = [c for c in self._columns if c not in self.whole.columns.column_names]
        if absent:
            raise OvertureError(
                f"task {trial.task!r} needs the column(s) {', '.join(absent)}, which corpus {self.whole.name!r} lacks"
            )
        self.alignments: dict[str, Alignment] = {}
        self.table = self._usable(trial.where)
        if len(self.table) == 0:
            raise OvertureError(
                f"no row of corpus {self.whole.name!r} can be used for task {trial.task!r}: it needs {', '.join(self.task.columns)}"
            )
        self.split = self._split()

    @property
    def _columns(self) -> list[str]:
        return [*self.task.columns, *([self.trial.by] if self.trial.by else [])]

    def _usable(self, where: str | None) -> Table:
        task, trial = self.task, self.trial
        has = " AND ".join(f"{c} IS NOT NULL AND trim(CAST({c} AS VARCHAR)) <> ''" for c in self._columns)
        heard = "" if self.whole.is_text else " AND duration >= 0.2"
        table = self.whole.where(f"({has}){heard}" + (f" AND ({where})" if where else ""))
        if task.closed_set:
            values = table.numpy(task.target)
            names, counts = np.unique(values.astype(str), return_counts=True)
            kept = set(names[counts >= trial.min_count])
            if len(kept) < 2:
                raise OvertureError(
                    f"task {trial.task!r} needs at least two values of {task.target!r} with {trial.min_count} rows or more; "
                    f"corpus {self.whole.name!r} has {len(kept)}"
                )
            table = table.take(np.flatnonzero([str(v) in kept for v in values]))
        if task.features == "aligned":
            from overture.tasks import align

            self.tell({"kind": "stage", "text": f"aligning phones of {table.hours:.1f} h"})
            self.alignments = align.read(align.aligned(table, align.kept()))
            table = table.take(np.flatnonzero([i in self.alignments for i in table.numpy("id")]))
        return table

    def _split(self) -> Split:
        """As the trial divides them, or as the task asks; what it asks for only where possible may be given up, and is then said."""
        task, table = self.task, self.table
        if self.trial.parts:
            return divide(table, dict(self.trial.parts), apart=[*task.disjoint, *task.disjoint_if_possible])
        shared = task.shared[0] if task.shared else self.trial.by
        wished = [
            c for c in task.disjoint_if_possible if c in table.columns.column_names and len(set(table.numpy(c))) > 1
        ]
        try:
            return split(table, PARTS, by=[*task.disjoint, *wished], stratify=shared, cross="drop")
        except OvertureError as error:
            if not wished:
                raise
            self.tell(
                {"kind": "note", "text": f"{task.name}: parts share values of {', '.join(wished)}, because {error}"}
            )
            return split(table, PARTS, by=task.disjoint, stratify=shared, cross="drop")

    @property
    def held(self) -> Table:
        """The rows that arms are tuned and scored on, which no pre-training may hear; where voices are verified or made that it
        may not have heard, all rows of these voices."""
        held = self.table.take(np.concatenate([self.split.rows[part] for part in ("dev", "test")]))
        if not self.task.unheard or self.trial.heard:
            return held
        voices = set(values_of(held, "speaker"))
        return self.whole.take(np.flatnonzero([v in voices for v in values_of(self.whole, "speaker")]))

    def used(self) -> Rows:
        """The rows of each part, of training as many as its labels may last."""
        rows, minutes, count = self.split.rows, self.trial.label_minutes, self.trial.label_rows
        target = self.task.target if self.task.closed_set else None
        if count is not None:
            return {**rows, "train": take_rows(self.table, rows["train"], count, target)}
        if minutes is None:
            return rows
        if self.table.is_text:
            raise OvertureError(
                f"{minutes:g} minutes of labels were asked for, and {self.table.name!r} is text: say how many rows"
            )
        return {**rows, "train": take_minutes(self.table, rows["train"], minutes, target)}

    def packed(self, also: str | None = None) -> tuple[Table, Rows]:
        """The rows that the trial uses, and which of them are train, dev and test.

        also: SQL, further rows of the trial's corpus to learn from; of these, whatever shares a recording, a text or another value that the
        task keeps apart with a held row is left out.
        """
        parts = self.used()
        chosen = [parts[part] for part in ("train", "dev", "test")]
        ends = np.cumsum([len(rows) for rows in chosen])
        table = self.table.take(np.concatenate(chosen))
        rows = dict(zip(("train", "dev", "test"), np.split(np.arange(ends[-1]), ends[:-1])))
        if also is None:
            return table, rows
        more = self._apart(self._usable(also))
        more = more.take(np.flatnonzero(~np.isin(more.numpy("id"), table.numpy("id"))))
        if len(more) == 0:
            raise OvertureError(f"no further row of corpus {self.whole.name!r} is left by {also!r}")
        joined = Table(
            pa.concat_tables([table.columns, more.columns]),
            name=table.name,
            root=table.root,
            rows=np.concatenate([table.rows, more.rows]),
        )
        return joined, {**rows, "train": np.concatenate([rows["train"], len(table) + np.arange(len(more))])}

    def _apart(self, more: Table) -> Table:
        """The rows of `more` that share nothing with a held row that the task, or the trial's own parts, keep apart."""
        held = self.held
        out = same_recordings(more, [held])
        for column in self.split.rule["by"]:
            taken = set(values_of(held, column)) - {""}
            out |= np.array([v in taken for v in values_of(more, column)], dtype=bool)
        return more.take(np.flatnonzero(~out))

    def mark(self, table: Table, rows: Rows) -> dict[str, Any]:
        """What decides a result on `packed` rows, for the name of its artifact."""
        ids = table.numpy("id")
        found: dict[str, Any] = {
            "rows": table.fingerprint,
            "split": {part: ids[chosen].tolist() for part, chosen in rows.items()},
        }
        if self.task.target not in (*FINGERPRINTED, "audio"):  # what the table's fingerprint does not cover
            found["targets"] = fingerprint(table.written(self.task.target))
        if self.trial.by is not None:
            found["by"] = fingerprint([self.trial.by, [str(v) for v in table.numpy(self.trial.by)]])
        return found


def held_rows(trials: Sequence[Labelled]) -> list[Table]:
    """What any of the trials is tuned or scored on."""
    return [trial.held for trial in trials]
