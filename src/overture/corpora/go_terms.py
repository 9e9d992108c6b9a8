"""Terms of the Gene Ontology with their definitions: precise biomedical English in three branches (`label`), with `synonyms`."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package

FILE = "usr/lib/R/site-library/GO.db/extdata/GO.sqlite"
BRANCHES = {"BP": "biological process", "CC": "cellular component", "MF": "molecular function"}


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """One document a term: its definition; the term is its `title`."""
    (package,) = packages.values()
    path = package.folder / FILE
    if not path.exists():  # sqlite would make an empty file
        raise FileNotFoundError(2, "no such file", str(path))
    synonyms: dict[str, list[str]] = {}
    out: list[Row] = []
    with sqlite3.connect(path) as db:
        for term, word in db.execute(
            "SELECT go_id, synonym FROM go_synonym JOIN go_term USING (_id) WHERE NOT like_go_id"
        ):
            synonyms.setdefault(term, []).append(word)
        dated = dict(db.execute("SELECT name, value FROM metadata"))["GOSOURCEDATE"]
        (undefined,) = db.execute("SELECT count(*) FROM go_term WHERE definition IS NULL").fetchone()
        query = "SELECT go_id, term, ontology, definition FROM go_term WHERE ontology IN ('BP', 'CC', 'MF') AND definition IS NOT NULL ORDER BY go_id"
        for term, title, branch, definition in db.execute(query):
            out.append(
                {"id": term, "text": definition, "title": title, "label": BRANCHES[branch], "synonyms": synonyms.get(term), "language": "en",
                 "source": f"{package.source} (Gene Ontology {dated})", "licence": "CC-BY-4.0"}
            )  # fmt: skip
    db.close()
    return Listing(rows=out, notes={"terms_without_a_definition": undefined})
