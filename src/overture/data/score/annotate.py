"""Writing scores into a corpus: a new version of its table in place of the old, and in corpus.json what made each column.

A column is trusted only as far as corpus.json says what made it. So a column that is to be replaced first loses its record, then the table is
written (whole, beside the old one, then put in its place), then the record: a kill in between leaves scores without a record, never a wrong one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import overture
from overture import jsonfile
from overture.config import fingerprint, to_dict
from overture.data.score import Ready, Scorer, scorer
from overture.data.table import EMBEDDED, Table, about_corpus, corpora_home, find_corpus
from overture.errors import OvertureError

BATCH = 1_000  # rows scored at a time
Progress = Callable[[str, int, int], None]  # which scorer, rows done, of how many


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """What `annotate` came to."""

    folder: Path  # of the corpus that has them
    made: tuple[str, ...]  # columns scored now
    kept: tuple[str, ...]  # columns that were there, made alike


def score(of: Scorer, table: Table) -> dict[str, pa.ChunkedArray]:
    """The columns that a scorer gives of a table, of (N,) each."""
    return _in_batches(of.ready(table), table, lambda done: None)


def annotate(
    corpus: str,
    scorers: Mapping[str, Scorer],
    *,
    name: str | None = None,
    replace: bool = False,
    progress: Progress = lambda scorer, done, of: None,
) -> Annotated:
    """Adds the columns of `scorers`, {name in the index: scorer}, to a corpus: to itself, or to `name`, a corpus of the same rows and recordings.

    Scores that are there, made by the same scorer with the same settings of the same reference, are left as they are.
    Raises OvertureError when a column is there that something else made (unless `replace`), when two scorers give the same column, for an
    embedded corpus without a `name`, and for whatever a scorer cannot score; then the corpus is as it was.
    """
    if not scorers:
        raise OvertureError("no scorer was named")
    wanted = dict(scorers)
    if any(getattr(s, "segments", False) for s in wanted.values()) and "segments" not in wanted:
        wanted["segments"] = scorer("segments")
    _apart(wanted)
    folder = _own(corpus, name)
    table = Table.open(str(folder))
    records = {key: _record(key, of, table) for key, of in wanted.items()}
    have: dict[str, Any] = about_corpus(folder).get("scores", {})
    todo: dict[str, Scorer] = {}
    for key, of in wanted.items():
        there = [c for c in of.columns if c in table.columns.column_names]
        if len(there) == len(of.columns) and all(_same(have.get(c), records[key]) for c in there):
            continue
        if other := [c for c in there if not _same(have.get(c), records[key])]:
            _refuse(folder, key, of, other[0], have.get(other[0]), records[key], replace=replace)
        todo[key] = of
    made = tuple(c for of in todo.values() for c in of.columns)
    kept = tuple(c for key, of in wanted.items() if key not in todo for c in of.columns)
    if not todo:
        return Annotated(folder=folder, made=(), kept=kept)
    columns: dict[str, pa.ChunkedArray] = {}
    for key, of in todo.items():
        ready = of.ready(table)
        columns |= _in_batches(ready, table, lambda done, key=key: progress(key, done, len(table)))  # type: ignore[misc]
        records[key] |= {"notes": ready.notes} if ready.notes else {}
    _write(folder, table, columns, {c: records[key] for key, of in todo.items() for c in of.columns})
    return Annotated(folder=folder, made=made, kept=kept)


def _in_batches(ready: Ready, table: Table, progress: Callable[[int], None]) -> dict[str, pa.ChunkedArray]:
    parts: dict[str, list[pa.Array]] = {}
    step = ready.rows or BATCH
    for start in range(0, len(table), step):
        columns = table.columns.slice(start, step)
        rows = Table(columns, name=table.name, root=table.root, rows=table.rows[start : start + step])
        for name, values in ready.score(rows).items():
            parts.setdefault(name, []).append(values)
        progress(min(start + step, len(table)))
    return {name: pa.chunked_array(values) for name, values in parts.items()}


def _apart(scorers: Mapping[str, Scorer]) -> None:
    """Raises OvertureError when two scorers give the same column."""
    by: dict[str, str] = {}
    for key, of in scorers.items():
        for column in of.columns:
            if column in by:
                raise OvertureError(
                    f"the scorers {by[column]} and {key} both give the column {column!r}: --set {key}.name=... another"
                )
            by[column] = key


def _own(corpus: str, name: str | None) -> Path:
    """The folder to write into: of the corpus, or of a copy of its table under another name, made now where there is none."""
    folder = find_corpus(corpus)
    if name is None:
        if folder.resolve() in {
            (Path(overture.__file__).parent / "corpora" / inside).resolve() for inside in EMBEDDED.values()
        }:
            raise OvertureError(
                f"{corpus!r} comes with Overture and is not written to: name a corpus for the scored rows, "
                f"--as {folder.name.replace('_', '-')}-scored"
            )
        return folder
    if name in EMBEDDED:
        raise OvertureError(f"{name!r} comes with Overture and is not written to: take another name")
    own, parent = corpora_home() / name, Table.open(str(folder))
    if not (own / "table.parquet").exists():
        parent.save(name)
        if scores := about_corpus(folder).get("scores"):
            jsonfile.write(own / "corpus.json", about_corpus(own) | {"scores": scores})
    about = about_corpus(own)
    if about.get("rows_of") != parent.name or Table.open(str(own)).columns.column("id") != parent.columns.column("id"):
        raise OvertureError(
            f"there is a corpus {name!r} already ({own}), which is not the rows of {parent.name!r}: take another name"
        )
    return own


def _record(key: str, of: Scorer, table: Table) -> dict[str, Any]:
    """What makes the columns of a scorer."""
    what = {"scorer": key, "settings": to_dict(of), "sources": of.sources(table)}
    return what | {"fingerprint": fingerprint(what)}


def _same(have: dict[str, Any] | None, record: dict[str, Any]) -> bool:
    return have is not None and have["fingerprint"] == record["fingerprint"]


def _refuse(
    folder: Path,
    key: str,
    of: Scorer,
    column: str,
    have: dict[str, Any] | None,
    record: dict[str, Any],
    *,
    replace: bool,
) -> None:
    """Raises OvertureError about a column of another making, unless it may be replaced."""
    if column in ("id", "audio", "text", "duration", "start"):
        raise OvertureError(
            f"the scorer {key} would replace the column {column!r}, which is the corpus: --set {key}.name=... another"
        )
    if replace:
        return
    if have is None:
        why = "nothing says what made it"
    else:
        old = {**have["settings"], **have["sources"]}
        new = {**record["settings"], **record["sources"]}
        changed = [f"{k} {old.get(k)!r}, now {new.get(k)!r}" for k in sorted({*old, *new}) if old.get(k) != new.get(k)]
        why = f"made by {have['scorer']} with " + "; ".join(changed or ["other settings"])
    raise OvertureError(f"{folder.name!r} has a column {column!r} already: {why}. Pass --replace to score it anew.")


def _write(folder: Path, table: Table, columns: dict[str, pa.ChunkedArray], records: dict[str, Any]) -> None:
    about = about_corpus(folder) or {"name": table.name}
    have: dict[str, Any] = about.get("scores", {})
    past = {have[c]["fingerprint"] for c in records if c in have}
    gone = [
        c for c, record in have.items() if c not in records and record["fingerprint"] in past
    ]  # of what is replaced, and not given any more
    old = {c: record for c, record in have.items() if c not in records and c not in gone}
    if old != have:
        jsonfile.write(folder / "corpus.json", about | {"scores": old})
    found = table.columns.drop_columns([c for c in gone if c in table.columns.column_names])
    for name, values in columns.items():
        if name in found.column_names:
            found = found.set_column(found.column_names.index(name), name, values)
        else:
            found = found.append_column(name, values)
    part = folder / ".table.parquet.part"
    try:
        pq.write_table(found, part, compression="zstd")
        part.replace(folder / "table.parquet")
    except OSError as error:
        raise OvertureError(f"writing {folder / 'table.parquet'} failed: {error}. The corpus is as it was.") from error
    finally:
        part.unlink(missing_ok=True)
    jsonfile.write(folder / "corpus.json", about | {"scores": old | records})
