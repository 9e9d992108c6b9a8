"""`overture data join`: several corpora, of speech or of text, or some rows of one, as a corpus of its own. Recordings stay where they are."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from overture.corpora.build import MEASURED, Listing, Row, build
from overture.corpora.text import as_read, build_text
from overture.data.romanise import romanise
from overture.data.table import Table, about_corpus, find_corpus
from overture.errors import OvertureError


def join(
    name: str,
    parts: Sequence[str],
    *,
    where: str | None = None,
    latin: bool = False,
    replace: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Makes the corpus `name` of the rows of all `parts` for which the SQL expression `where` is true; returns what its corpus.json says.

    Rows keep all they say; an id is preceded by the name of its corpus, which the column `corpus` holds too, and a column that only some
    corpora have is empty for the others. Scores are left behind: corpus.json would not say what made them. Recordings that are in two of them
    are taken once. `latin`: texts in Latin letters (`data.romanise`). `where` may only name columns that all have.
    Raises OvertureError for a corpus that is named twice, for one alone without `where`, for one that `where` leaves without rows, and for
    speech and text together.
    """
    if len(set(parts)) != len(parts) or (len(parts) < 2 and where is None):
        raise OvertureError(
            f"joining takes two or more different corpora, or some rows (--where) of one, not {', '.join(parts)}"
        )
    tables = [Table.open(part, where) for part in parts]
    scores = {column for part in parts for column in about_corpus(find_corpus(part)).get("scores", {})}
    if empty := [t.name for t in tables if not len(t)]:
        raise OvertureError(f"no row of {', '.join(empty)} is left by --where {where!r}: leave it out")

    text = tables[0].is_text
    if other := [t.name for t in tables if t.is_text != text]:
        raise OvertureError(
            f"{tables[0].name} is {_kind(text)} and {', '.join(other)} {_kind(not text)}: join corpora of one kind"
        )

    def importer(draft: Path) -> Listing:
        root = None if text else Path(os.path.commonpath([t.root.resolve() for t in tables]))
        rows: list[Row] = []
        for table in tables:
            for index in range(len(table)):
                row = {k: v for k, v in table.row(index).items() if k not in scores}
                if latin and row.get("text"):
                    row["text"] = romanise(row["text"], row.get("language"), row=f"{table.name}/{row['id']}")
                row |= {"id": f"{table.name}/{row['id']}", "corpus": table.name}
                rows.append(as_read(row) if root is None else _recording(row, root))
        made_of = {t.name: t.fingerprint for t in tables}
        return Listing(
            rows=rows,
            root=root,
            notes={"about": f"{' + '.join(parts)}", "joined": made_of, "where": where, "latin": latin},
        )

    return (build_text if text else build)(name, importer, replace=replace, progress=progress)


def _kind(text: bool) -> str:
    return "text" if text else "speech"


def _recording(row: Row, root: Path) -> Row:
    """A row without what decoding measures, its recording named from `root`."""
    kept = {k: v for k, v in row.items() if k not in MEASURED}
    return kept | {"audio": Path(row["audio"]).resolve().relative_to(root).as_posix()}
