"""`overture data add --text`: from somebody's text files to a corpus."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from overture.corpora import documents
from overture.corpora.build import Listing, OnProblem
from overture.corpora.text import build_text


def add_text(
    name: str,
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    fill: Mapping[str, str] | None = None,
    encoding: str = "utf-8",
    document: documents.Document = "file",
    replace: bool = False,
    on_problem: OnProblem = "error",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Makes the corpus of text `name` of the file or folder at `path` and returns what its corpus.json says.

    `columns`: {our column: theirs}, in tables. `fill`: values for the columns of rows that have none, e.g. {"language": "es"}. `document`: what a
    document is in a plain text file. Raises OvertureError with every problem's file, row, field and way out; then nothing is written.
    """
    path = path.absolute()

    def importer(folder: Path) -> Listing:
        listing = documents.rows(path, columns or {}, encoding, document)
        for row in listing.rows:
            for column, value in ({"source": path.name} | dict(fill or {})).items():
                if row.get(column) in (None, ""):
                    row[column] = value
        listing.notes["about"] = f"text of {path}"
        return listing

    return build_text(name, importer, replace=replace, on_problem=on_problem, progress=progress)
