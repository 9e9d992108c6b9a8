"""Transcribed rows, looked at before anything is learnt from them: what is wrong is said by file, row and field, with the way out.

A training row with a problem in `OUT` is left out, and counted; of the rows that a score is made on none is left out, but each
problem is told, because it costs errors that no recogniser can help.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

from overture.data.audio import UnreadableAudio
from overture.data.check import SILENT, Problem, counts, examine_all
from overture.data.table import Table
from overture.errors import OvertureError
from overture.recognise.units import Units
from overture.run import Frontend
from overture.tasks.ctc import Infeasible, frames_needed

OUT = {
    "empty transcript": "nothing to learn from",
    "too many units": "more to write than there are frames, so the CTC loss is infinite",
    "too long": "would be cropped, and then say less than its transcript",
    "too short": "the encoder gives it no frame",
    "silent": f"below {SILENT:g} dBFS",
    "wrong rate": "the file has another sampling rate than the table says",
}
TOLD = {
    "unknown characters": "they count as errors, since training never saw them",
    "digits": "they are neither learnt nor scored, because a digit does not say how it is read",
    "narrow band": "recorded at a lower rate than the model hears: the upper part of its spectrum is empty",
}


@dataclass(frozen=True)
class Looked:
    """What was found."""

    usable: np.ndarray  # the training rows without a problem in `OUT`
    problems: list[Problem]  # of all rows, training rows first
    infeasible: list[Infeasible]  # training rows with more units than frames

    def lines(self, kinds: Collection[str] = (*OUT, *TOLD)) -> list[str]:
        """One line for each of `kinds` that was found: how many, what it means, and the first of them."""
        first = {p.kind: p for p in reversed(self.problems)}
        number = counts(self.problems)
        return [f"{number[kind]} x {kind} ({(OUT | TOLD)[kind]}); {first[kind]}" for kind in kinds if kind in number]


def look(
    table: Table,
    *,
    train: np.ndarray,
    held: np.ndarray,
    target: str,
    units: Units,
    frontend: Frontend,
    frames: Callable[[np.ndarray], np.ndarray],
    longest: float,
) -> Looked:
    """Look at the rows to be trained on and those `held` back (row numbers in `table`), whose transcripts are in `target`.

    units: of the training transcripts; frames: rows -> hidden states of the encoder; longest: s, where training crops.
    Raises OvertureError for a recording that is not there or is not audio.
    """
    rows = np.concatenate([train, held])
    texts = ["" if v is None else str(v) for v in table.numpy(target)[rows]]
    durations, steps = table.numpy("duration")[rows], frames(rows)
    levels, rates, files = _levels(table, rows), _rates(table, rows), _files(table, rows)
    headers = {file: _header(file) for file in dict.fromkeys(files)}
    ids, problems, usable, tight = table.numpy("id")[rows], [], [], []
    for i, row in enumerate(rows):
        found: list[tuple[str, str, str, str]] = []  # kind, field, what, way out
        clean, trained = units.normalise(texts[i]), i < len(train)
        written, unknown = _written(units, texts[i], str(ids[i])) if clean else ([], "")
        needed = frames_needed(written)
        if not clean:
            found.append(("empty transcript", target, f"{texts[i]!r} says nothing", "Transcribe it, or drop the row"))
        elif trained and steps[i] and needed > steps[i]:
            what = f"its {len(written)} units need {needed} frames, and it has {steps[i]} in {durations[i]:.2f} s"
            found.append(("too many units", target, what, "Is it the transcript of this recording, and of all of it?"))
            tight.append(Infeasible(str(ids[i]), int(steps[i]), needed))
        if unknown:
            found.append(("unknown characters", target, unknown, ""))
        if any(c.isdigit() for c in texts[i]):
            found.append(
                ("digits", target, f"{texts[i]!r} has digits", "Write numbers out, as they are said, or drop the row")
            )
        if trained and durations[i] > longest:
            what = f"lasts {durations[i]:.2f} s, and training crops at {longest:g} s"
            found.append(("too long", "duration", what, "Cut it, or raise data.max_seconds of the start"))
        if trained and steps[i] < 1:
            found.append(("too short", "duration", f"lasts {durations[i]:.3f} s", "Drop the row"))
        if levels[i] < SILENT:
            found.append(("silent", "audio", f"its level is {levels[i]:.0f} dBFS", "Record it again, or drop the row"))
        header = headers[files[i]]
        if rates[i] and header != rates[i]:
            what = f"its header says {header} Hz, the table {rates[i]} Hz"
            found.append(("wrong rate", "rate", what, "Import the corpus again"))
        elif header < frontend.rate:
            what = f"recorded at {header} Hz, and the model hears {frontend.rate} Hz"
            found.append(("narrow band", "rate", what, "Take a model for that rate, if there is one"))
        number = int(table.rows[row]) + 1
        whose = f"{ids[i]!r}" if trained else f"{ids[i]!r}, held out"
        problems += [
            Problem(kind=k, field=f, what=f"{whose}: {w}", way_out=o, file=files[i], row=number) for k, f, w, o in found
        ]
        if trained and not any(kind in OUT for kind, *_ in found):
            usable.append(row)
    return Looked(np.array(usable, dtype=np.int64), problems, tight)


def _written(units: Units, text: str, row: str) -> tuple[list[int], str]:
    """The ids of what the units can write of `text`, and what they say of the rest."""
    try:
        return units.encode(text, row=row), ""
    except OvertureError as error:
        return units.encode(text, row=row, drop=True), str(error).removeprefix(f"row {row!r}: ").rstrip(".")


def _files(table: Table, rows: np.ndarray) -> list[str]:
    return [str(table.root / a) for a in table.numpy("audio")[rows]]


def _rates(table: Table, rows: np.ndarray) -> Sequence[int]:
    """Hz, as the table has them; 0 where it does not say."""
    if "rate" not in table.columns.column_names:
        return [0] * len(rows)
    return [0 if v is None or v != v else int(v) for v in table.numpy("rate")[rows]]


def _levels(table: Table, rows: np.ndarray) -> np.ndarray:
    """(N,) dBFS: the column of the import, and measured now where a table has none."""
    levels = np.full(len(rows), np.nan)
    if "level" in table.columns.column_names:
        levels = np.array([np.nan if v is None else float(v) for v in table.numpy("level")[rows]])
    unknown = np.flatnonzero(np.isnan(levels))
    files = _files(table, rows[unknown])
    starts = table.numpy("start")[rows[unknown]] if "start" in table.columns.column_names else np.zeros(len(unknown))
    durations = table.numpy("duration")[rows[unknown]]
    measured = examine_all([(Path(f), float(s), float(d)) for f, s, d in zip(files, starts, durations)])
    levels[unknown] = [m.level for m in measured]
    return levels


def _header(file: str) -> int:
    """Hz."""
    try:
        return int(sf.info(file).samplerate)
    except (sf.LibsndfileError, OSError, RuntimeError) as error:
        raise UnreadableAudio(f"{file}: cannot be read as audio ({error}). Import the corpus again") from error
