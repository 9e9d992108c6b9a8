"""From an importer's rows to a corpus of text: checked, cleaned, exact duplicates dropped, written whole or not at all.

The counterpart of `build` for documents. An importer is again a function `(folder) -> Listing`. A row has `text`: a string of prose, in which
empty lines separate paragraphs; a list of paragraphs, where the importer knows them; or, with kind 'code', a program, which is kept as it stands.
Every other column is kept; `time` is ISO 8601. `_row` and `_file` say where the row was, for messages.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

from overture.corpora import clean
from overture.corpora.build import Listing, OnProblem, Row, free_folder, whole, write
from overture.data.check import WARNINGS, Problem, counts, refuse
from overture.errors import OvertureError

MEASURED = ("sha1", "length")  # columns that only reading the text may fill
LONGEST = 20_000_000  # characters of one document: twice the longest novel; beyond it somebody forgot to divide a file
TIME = re.compile(r"\d{4}(-\d{2}(-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?)?)?")


def build_text(
    name: str,
    importer: Callable[[Path], Listing],
    *,
    folder: Path | None = None,
    replace: bool = False,
    on_problem: OnProblem = "error",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Writes the corpus of text `name` into `folder` (by default `corpora_home()/name`) and returns what corpus.json says about it.

    Every row that the importer read is either in the table or, with the reason, in dropped.tsv: `read` = `rows` + rows dropped. Rows with a problem
    (no text, control characters, not encodable as UTF-8, too long, an id used twice, a time that is none) end the import (`on_problem="error"`) or
    are left out ("skip"). Raises OvertureError with the first problems and their totals; then nothing is left on the disk.
    """
    from overture.data.table import TEXT_COLUMNS

    folder = free_folder(name, folder, replace)
    with whole(folder) as draft:
        listing = importer(draft)
        read = len(listing.rows) + len(listing.dropped) + sum(p.stops for p in listing.problems)
        kept, dropped = _checked(name, listing, on_problem=on_problem, progress=progress)
        if len(kept) + len(dropped) != read:
            raise RuntimeError(f"{name}: {read} rows were read, {len(kept)} kept, {len(dropped)} dropped")
        sizes = {"kind": "text", "read": read, "rows": len(kept), "characters": sum(row["length"] for row in kept)}
        return write(name, draft, kept, TEXT_COLUMNS, dropped, listing, sizes)


def as_read(row: Row) -> Row:
    """A row of a corpus as an importer would give it, so that its paragraphs and listings survive being written again."""
    again = {k: v for k, v in row.items() if k not in MEASURED}
    return again if row.get("kind") == "code" else again | {"text": (row["text"] or "").split("\n\n")}


def _checked(
    name: str, listing: Listing, *, on_problem: OnProblem, progress: Callable[[int, int], None] | None
) -> tuple[list[Row], list[tuple[Row, str, str]]]:
    """The rows to keep, cleaned and measured, and those left out with the kind and the reason."""
    problems = list(listing.problems)
    dropped = listing.dropped + [({"_file": p.file, "_row": p.row}, p.kind, p.what) for p in problems if p.stops]
    if not listing.rows and not problems:
        raise OvertureError(f"{name}: no text was found.")
    kept: list[Row] = []
    ids: dict[str, int] = {}
    first: dict[str, Row] = {}
    warned: Counter[str] = Counter()
    relabelled = 0
    for number, row in enumerate(listing.rows, start=1):
        line = row.setdefault("_row", number)
        row["id"] = str(row["id"]) if row.get("id") not in (None, "") else f"{line}"
        mine = _problem(row, ids)
        if mine is None:
            ids[row["id"]] = line
            row["sha1"] = hashlib.sha1(row["text"].encode()).hexdigest()
            row["length"] = len(row["text"])
            same = first.setdefault(row["sha1"], row)
            if same is row:
                kept.append(row)
                warned.update({"undecoded": "\ufffd" in row["text"], "no language": not row.get("language")})
            else:
                other = same.get("label") != row.get("label")
                relabelled += other
                dropped.append(
                    (row, "duplicate", f"the same text as {same['id']}" + other * ", whose label is another")
                )
        else:
            problems.append(mine)
            dropped.append((row, mine.kind, mine.what))
        if progress is not None and (number % 1000 == 0 or number == len(listing.rows)):
            progress(number, len(listing.rows))
    if on_problem == "error":
        refuse(problems, f"{name}: cannot import")
    if not kept:
        refuse(problems, f"{name}: no document is left to import")
        raise OvertureError(f"{name}: no document is left to import.")
    if relabelled:
        listing.notes["duplicates_with_another_label"] = relabelled
    listing.notes["warnings"] = {kind: warned[kind] for kind in WARNINGS if warned[kind]}
    listing.notes["problems"] = counts(p for p in problems if p.stops)
    return kept, dropped


def _problem(row: Row, ids: dict[str, int]) -> Problem | None:
    """What is wrong with a row; its text is cleaned and its time made a string on the way."""

    def problem(kind: str, what: str, way_out: str, field: str = "text") -> Problem:
        return Problem(
            kind=kind, what=what, way_out=way_out, field=field, file=str(row.get("_file") or ""), row=row["_row"]
        )

    given = row.get("text")
    is_text = isinstance(given, str) or (isinstance(given, list) and all(isinstance(part, str) for part in given))
    if given is not None and not is_text:
        return problem("bad field", f"is {type(given).__name__} {str(given)[:40]!r}, not text", "Correct it.")
    parts = given if isinstance(given, list) else [given or ""]
    if sum(map(len, parts)) > LONGEST:
        what = f"has {sum(map(len, parts)):,} characters, the limit is {LONGEST:,}"
        return problem("too much text", what, "Divide it into documents.")
    for part in parts:
        try:
            part.encode()
        except UnicodeEncodeError as error:
            what = f"holds half a character, U+{ord(part[error.start]):04X}, which no UTF-8 has"
            return problem("not UTF-8", what, "Export it again, or correct the character.")
        found = clean.control_character(part)
        if found is not None:
            hint = "Is it text? Delete the character, or name the file's encoding with --encoding."
            return problem("control characters", f"holds the control character {found}", hint)
    if isinstance(given, list):
        row["text"] = clean.paragraphs(given)
    else:
        row["text"] = clean.code(given or "") if row.get("kind") == "code" else clean.prose(given or "")
    if not row["text"].strip():
        return problem("empty text", "holds no text", "Delete it.")
    if row.get("spans") and isinstance(given, str) and row["text"] != given:
        hint = "Give the text with single spaces and one empty line between paragraphs, or set kind to 'code', which keeps it as it is."
        return problem(
            "bad field", "its spans count characters of a text that is kept with other white space", hint, "spans"
        )
    if row.get("time") == "":
        row["time"] = None
    if row.get("time") is not None:
        when = row["time"].isoformat() if isinstance(row["time"], date | datetime) else str(row["time"])
        if not _is_time(when):
            hint = "Write it as 2024-12-31, or keep the column under another name: --column given_time=time."
            return problem("bad field", f"{when!r} is not a time as ISO 8601 has it", hint, "time")
        row["time"] = when
    if row["id"] in ids:
        what = f"{row['id']!r} is also the id of row {ids[row['id']]}"
        return problem("duplicate id", what, "Give each its own id.", "id")
    return None


def _is_time(when: str) -> bool:
    if not TIME.fullmatch(when):
        return False
    try:
        datetime.fromisoformat(when if len(when) > 7 else f"{when}-01-01"[:10])  # of a year, or of a year and a month
    except ValueError:
        return False
    return True
