"""From an importer's rows to a corpus folder: examined, duplicates dropped, written whole or not at all. Every importer ends here.

An importer is a function `(folder) -> Listing`: it may put recordings under `folder` (which becomes the corpus) or point at where they are
(`Listing.root`). A row is a dictionary with `audio` (a path relative to the root) and whatever columns the source knows; `start` and `duration`
(s) cut an utterance out of its file; `_row` is its line in the manifest, for messages.
"""

import csv
import errno
import json
import math
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from overture.data.check import LIMIT, WARNINGS, Examined, Problem, counts, examine_all, refuse
from overture.errors import OvertureError

Row = dict[str, Any]
OnProblem = Literal["error", "skip"]

MEASURED = ("rate", "channels", "sha1", "peak", "level", "clipped")  # columns of the table that only decoding may fill
GENDERS = {
    "f": "f", "female": "f", "woman": "f", "female_feminine": "f", "feminine": "f",
    "m": "m", "male": "m", "man": "m", "male_masculine": "m", "masculine": "m",
}  # fmt: skip


@dataclass(kw_only=True)
class Listing:
    """What an importer found."""

    rows: list[Row]
    root: Path | None = None  # what `audio` is relative to; None: the corpus folder itself
    problems: list[Problem] = field(default_factory=list)  # rows that could not even be parsed
    dropped: list[tuple[Row, str, str]] = field(
        default_factory=list
    )  # rows it leaves out itself, with kind and reason, for dropped.tsv
    notes: dict[str, Any] = field(default_factory=dict)  # for corpus.json: versions, what was left out and why


def build(
    name: str,
    importer: Callable[[Path], Listing],
    *,
    folder: Path | None = None,
    replace: bool = False,
    copy: bool = False,
    on_problem: OnProblem = "error",
    limit: float = LIMIT,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Writes the corpus `name` into `folder` (by default `corpora_home()/name`) and returns what corpus.json says about it.

    `copy` takes recordings that lie elsewhere into the corpus; otherwise they are referenced where they are. Rows with a problem end the import
    (`on_problem="error"`) or are left out and recorded in dropped.tsv ("skip"). `limit`: the longest utterance, s.
    Raises OvertureError with the first problems and their totals; then nothing is left on the disk.
    """
    from overture.data.table import COLUMNS

    folder = free_folder(name, folder, replace)
    with whole(folder) as draft:
        listing = importer(draft)
        root = (listing.root or draft).absolute()
        kept, dropped = _examined(listing, root, on_problem=on_problem, limit=limit, progress=progress)
        if copy and listing.root is not None:
            _copy(kept, root, draft)
            root = draft.absolute()
        about = {
            "root": "." if root == draft.absolute() else str(root),
            "rows": len(kept),
            "hours": round(sum(row["duration"] for row in kept) / 3600, 4),
        }
        return write(name, draft, kept, COLUMNS, dropped, listing, about)


def free_folder(name: str, folder: Path | None, replace: bool) -> Path:
    """Where the corpus `name` goes. Raises OvertureError for what cannot be a name, and where one is unless it is to be replaced."""
    from overture.data.table import EMBEDDED, corpora_home

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or (folder is None and name in EMBEDDED):
        raise OvertureError(
            f"{name!r} cannot name a corpus: use letters, digits, '.', '_' and '-', and none of {', '.join(EMBEDDED)}."
        )
    folder = folder or corpora_home() / name
    if folder.exists() and not replace:
        raise OvertureError(
            f"there is a corpus {name!r} already ({folder}). Pass --replace to make it anew, or take another name."
        )
    return folder


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A draft folder beside `folder` that takes its place when all went well and is removed when not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".draft", dir=folder.parent))
    draft.chmod(0o755)
    try:
        yield draft
        if folder.exists():
            old = draft.with_suffix(".old")
            folder.rename(old)
            draft.rename(folder)
            shutil.rmtree(old)
        else:
            draft.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise OvertureError(
            f"writing {folder} failed: {error}. Nothing was kept; make room or choose another $OVERTURE_HOME."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _number(value: Any) -> float | None:
    return None if value is None or value == "" else float(value)


def _examined(
    listing: Listing, root: Path, *, on_problem: OnProblem, limit: float, progress: Callable[[int, int], None] | None
) -> tuple[list[Row], list[tuple[Row, str, str]]]:
    """The rows to keep, completed with what was measured, and those left out with the kind and the reason."""
    problems = list(listing.problems)
    dropped = listing.dropped + [({"id": p.file, "_row": p.row}, p.kind, p.what) for p in problems if p.stops]
    if not listing.rows and not problems:
        raise OvertureError(f"no recordings found in {root}. For documents pass --text.")
    ids: dict[str, int] = {}
    todo: list[tuple[Row, Path, float, float | None]] = []
    for number, row in enumerate(listing.rows, start=1):
        line = row.setdefault("_row", number)
        found = _row_problem(row, root, ids)
        if found is None:
            ids[str(row["id"])] = line
            todo.append((row, root / row["audio"], _number(row.get("start")) or 0.0, _number(row.get("duration"))))
        else:
            problems.append(found)
            dropped.append((row, found.kind, found.what))
    measured = examine_all([(p, s, d) for _, p, s, d in todo], limit=limit, progress=progress)
    kept: list[Row] = []
    warned: Counter[str] = Counter()
    first: dict[str, Row] = {}
    reworded = 0
    for (row, _, start, _), result in zip(todo, measured, strict=True):
        file = str(row["audio"])
        mine = [_replace(p, file, row["_row"]) for p in result.problems]
        if not (row.get("text") or "").strip():
            row["text"] = None
            mine.append(Problem(kind="no text", what="has no transcript", field="text", file=file, row=row["_row"]))
        problems += mine
        stops = [p for p in mine if p.stops]
        if stops:
            dropped.append((row, stops[0].kind, stops[0].what))
        elif result.sha1 in first:
            same = first[result.sha1]
            other = (same["text"] or "") != (row["text"] or "")
            reworded += other
            dropped.append((row, "duplicate", f"the same samples as {same['id']}" + other * ", whose text is another"))
        else:
            first[result.sha1] = row
            kept.append(_complete(row, start, result))
            warned.update(p.kind for p in mine)
    if on_problem == "error":
        refuse(problems, f"{root}: cannot import")
    if not kept:
        refuse(problems, f"{root}: no row is left to import")
        raise OvertureError(f"{root}: no row is left to import.")
    if reworded:
        listing.notes["duplicates_with_another_text"] = reworded
    listing.notes["warnings"] = {kind: warned[kind] for kind in WARNINGS if warned[kind]}
    listing.notes["problems"] = counts(p for p in problems if p.stops)
    return kept, dropped


def _replace(problem: Problem, file: str, row: int) -> Problem:
    return Problem(
        kind=problem.kind, what=problem.what, way_out=problem.way_out, field=problem.field, file=file, row=row
    )


def _row_problem(row: Row, root: Path, ids: dict[str, int]) -> Problem | None:
    """What is wrong with a row before its recording is opened; makes `audio` relative to `root` and fills `id`."""
    line, audio = row["_row"], str(row.get("audio") or "").strip()
    if not audio:
        return Problem(kind="bad field", what="is empty", way_out="Name a recording or delete the row.", row=line)
    relative = os.path.relpath(os.path.normpath(root / audio), root)
    if relative == ".." or relative.startswith(".." + os.sep) or "\0" in audio:
        what, hint = (
            f"leaves the folder {root}",
            "Move the recording there, or pass --audio with the folder that holds all of them.",
        )
        return Problem(kind="outside", what=what, way_out=hint, file=audio, row=line)
    row["audio"] = relative
    for name in ("start", "duration"):
        try:
            value = _number(row.get(name))
        except (TypeError, ValueError):
            value = math.nan
        if value is not None and not math.isfinite(value):
            what = f"{row[name]!r} is not a number of seconds"
            return Problem(kind="bad field", what=what, way_out="Correct it.", field=name, file=audio, row=line)
    if not row.get("id"):
        start = _number(row.get("start"))
        row["id"] = str(Path(relative).with_suffix("")) + (f"@{start:.3f}" if start else "")
    row["id"] = str(row["id"])
    if row["id"] in ids:
        what = f"{row['id']!r} is also the id of row {ids[row['id']]}"
        return Problem(
            kind="duplicate id", what=what, way_out="Give each its own id.", field="id", file=audio, row=line
        )
    return None


def _complete(row: Row, start: float, result: Examined) -> Row:
    gender = row.get("gender")
    return row | {
        "start": start, "duration": result.duration, "rate": result.rate, "channels": result.channels, "sha1": result.sha1,
        "peak": result.peak, "level": result.level, "clipped": result.clipped,
        "gender": GENDERS.get(str(gender).strip().lower(), gender) if gender else None,
    }  # fmt: skip


def _copy(rows: list[Row], root: Path, draft: Path) -> None:
    for name in dict.fromkeys(row["audio"] for row in rows):
        to = draft / "audio" / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, to)
    for row in rows:
        row["audio"] = str(Path("audio") / row["audio"])


def _column(values: Sequence[Any]) -> Any:
    """A free column as an Arrow array: numbers, truth values, lists of numbers and lists of spans {start, end, label} as such, other lists and
    dictionaries as JSON, the rest as strings."""
    import pyarrow as pa

    kinds = {type(v) for v in values if v is not None}
    if kinds in ({bool}, {int}, {float}):
        return pa.array(values)
    if kinds == {int, float}:
        return pa.array(values, pa.float64())
    if kinds == {list}:
        within = {type(item) for v in values if v is not None for item in v}
        if within and within <= {int, float}:
            return pa.array(values, pa.list_(pa.int64() if within == {int} else pa.float64()))
        span = {"start": int, "end": int, "label": str}
        if within == {dict} and all({k: type(v) for k, v in s.items()} == span for own in values for s in own or ()):
            kinds_of = {"start": pa.int64(), "end": pa.int64(), "label": pa.string()}
            return pa.array(values, pa.list_(pa.struct(kinds_of)))
    words = [
        json.dumps(v, ensure_ascii=False) if isinstance(v, dict | list) else v if v is None else str(v) for v in values
    ]
    return pa.array(words, pa.string())


def write(
    name: str,
    draft: Path,
    rows: list[Row],
    standard: Mapping[str, Any],
    dropped: list[tuple[Row, str, str]],
    listing: Listing,
    sizes: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes table.parquet (the columns `standard`, {name: Arrow type}, and those of the rows beside), dropped.tsv and corpus.json into `draft`.

    Returns what corpus.json says; `sizes` are the figures that depend on what the rows are.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    import overture

    free = list(dict.fromkeys(k for row in rows for k in row if k not in standard and not k.startswith("_")))
    twice = [k for k, n in Counter(c.lower() for c in [*standard, *free]).items() if n > 1]
    if twice:
        raise OvertureError(
            f"columns that differ only in upper and lower case: {', '.join(twice)}. Rename one in the manifest."
        )
    columns = {k: pa.array([_plain(row.get(k), kind) for row in rows], kind) for k, kind in standard.items()}
    columns |= {k: _column([row.get(k) for row in rows]) for k in free}
    pq.write_table(pa.table(columns), draft / "table.parquet", compression="zstd")
    if dropped:
        place = "audio" if "audio" in standard else "_file"
        with (draft / "dropped.tsv").open("w", encoding="utf8", newline="") as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerow(["row", "id", place.lstrip("_"), "kind", "what"])
            writer.writerows([r.get("_row"), r.get("id"), r.get(place), kind, what] for r, kind, what in dropped)
    about = {
        "name": name,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "overture": overture.__version__,
        **sizes,
        "sources": dict(Counter(row.get("source") or "" for row in rows)),
        "licences": dict(Counter(row.get("licence") or "not stated" for row in rows)),
        "duplicates_dropped": sum(kind == "duplicate" for _, kind, _ in dropped),
        **listing.notes,
    }
    (draft / "corpus.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    return about


def _plain(value: Any, kind: Any) -> Any:
    """A value of a standard column: empty strings are missing, and numbers given for names become strings."""
    if value is None or value == "":
        return None
    return str(value) if str(kind) == "string" else value
