"""Makes the embedded corpus of text out of installed ones: python -m overture.corpora.make_embedded_text

Some 1,700 real documents of six domains in about 1 MB, so that recipes of text can be tried and tested without a download. Every source may be passed
on: public domain, CC-BY-4.0, MIT and its like, MPL-2.0, PSF-2.0. Needed are the sources bible, go-terms, changelogs, libreoffice-help-en, -es and
-de, python-docs and python-code ('overture data get'). What each column can serve for is told in docs/corpora.md.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.text import as_read, build_text
from overture.data.score.annotate import annotate
from overture.data.score.pep8 import Pep8

FOLDER = Path(__file__).parent / "embedded_text"
BOOKS, CHAPTERS = ("Gen", "Ps", "Isa", "Matt", "Acts"), 20  # chapters a book, each in all three versions
TERMS = 120  # a branch of the Gene Ontology
PROGRAMS = {  # whose changelogs may be passed on without more ado: label -> (package, licence)
    "harfbuzz": ("libharfbuzz0b", "MIT"),
    "fontconfig": ("fontconfig", "MIT (Keith Packard)"),
    "pixman": ("libpixman-1-0", "MIT"),
    "tiff": ("libtiff6", "libtiff"),
}
ENTRIES = 100  # a program
HELP, PAGES = ("writer", "calc", "impress", "basic"), 30  # pages a program of LibreOffice, each in all three languages
PARTS = {"library": 40, "c-api": 40}  # pages of Python's documentation
MODULES = 90  # of Python's library, and as many of its tests
PACKAGES = {"libpython3.11-minimal": "library", "libpython3.11-stdlib": "library", "libpython3.11-testsuite": "test"}
LICENCES = {
    "bible": ("sword-text-kjv", "sword-text-web", "sword-text-sparv"),
    "changelogs": tuple(package for package, _ in PROGRAMS.values()),
    "libreoffice-help-es": ("libreoffice-help-es",),
    "python-docs": ("python3.11-doc",),
}


def taken(corpus: str, where: str, most: int, per: str = "label") -> list[Row]:
    """`most` rows a value of `per`, those that come first in the order of their hashes: a choice without a preference that is always the same."""
    from overture.data.table import Table

    table = Table.open(corpus, where)
    first = f"SELECT row_number FROM rows QUALIFY row_number() OVER (PARTITION BY {per} ORDER BY sha1) <= {most} ORDER BY {per}, id"
    return [as_read(table.row(number)) for number in table.sql(first).column("row_number").to_pylist()]


def scripture() -> Iterator[Row]:
    """Chapters of five books in old English, today's English and Spanish; the label is the book."""
    books = ", ".join(f"'{book}'" for book in BOOKS)
    chapters = [
        row["chapter"]
        for row in taken("bible", f"version = 'web' AND label IN ({books}) AND length BETWEEN 800 AND 5400", CHAPTERS)
    ]
    for row in taken("bible", f"chapter IN ({', '.join(map(repr, chapters))})", len(chapters), "version"):
        kept = {k: row[k] for k in ("id", "text", "language", "label", "version", "source", "licence")}
        yield kept | {"title": row["chapter"], "parallel": row["chapter"], "kind": "chapter"}


def biomedicine() -> Iterator[Row]:
    """Definitions of the Gene Ontology; the label is the branch, the title the term."""
    for row in taken("go-terms", "length >= 80", TERMS):
        yield {k: row[k] for k in ("id", "text", "title", "language", "label", "source", "licence")} | {
            "kind": "definition"
        }


def changelog() -> Iterator[Row]:
    """Entries of changelogs with their day; the label is the program."""
    for label, (package, licence) in PROGRAMS.items():
        for row in taken(
            "changelogs", f"label = '{package}' AND length BETWEEN 120 AND 1500 AND text NOT LIKE '%@%'", ENTRIES
        ):
            kept = {k: row[k] for k in ("id", "text", "time", "language", "source")}
            yield kept | {"label": label, "licence": licence, "kind": "entry"}


def help_page() -> Iterator[Row]:
    """Pages of LibreOffice's help in English, Spanish and German; the label is the program."""
    programs = ", ".join(f"'{program}'" for program in HELP)
    pages = [
        row["page"]
        for row in taken("libreoffice-help-en", f"label IN ({programs}) AND length BETWEEN 500 AND 3000", PAGES)
    ]
    for language in ("en", "es", "de"):
        for row in taken(f"libreoffice-help-{language}", f"page IN ({', '.join(map(repr, pages))})", len(pages)):
            kept = {k: row[k] for k in ("text", "title", "label", "source", "licence")}
            yield kept | {
                "id": f"{language}/{row['id']}",
                "language": language,
                "parallel": row["page"],
                "kind": "page",
            }


def manual() -> Iterator[Row]:
    """Pages of Python's documentation; the label is the part, `spans` the names that its authors marked."""
    for part, most in PARTS.items():
        for row in taken("python-docs", f"label = '{part}' AND length BETWEEN 1000 AND 12000", most):
            yield {k: row[k] for k in ("id", "text", "title", "language", "label", "source", "licence", "spans")} | {
                "kind": "page"
            }


def code() -> Iterator[Row]:
    """Modules of Python's standard library, and of its tests."""
    for kind in ("library", "test"):
        packages = ", ".join(f"'{package}'" for package, label in PACKAGES.items() if label == kind)
        for row in taken("python-code", f"label IN ({packages}) AND length BETWEEN 800 AND 8000", MODULES, "kind"):
            kept = {k: row[k] for k in ("id", "text", "language", "source", "licence", "kind")}
            yield kept | {"title": row["id"].rpartition("/")[2], "label": kind}


def rows(folder: Path) -> Listing:
    """The chosen documents; the licences go to `folder/LICENCES`."""
    from overture.data.table import find_corpus

    out: list[Row] = []
    for domain in (scripture, biomedicine, changelog, help_page, manual, code):
        name = domain.__name__.replace("_", " ")
        out += [row | {"id": f"{name.replace(' ', '-')}/{row['id']}", "domain": name} for row in domain()]
    (folder / "LICENCES").mkdir()
    for corpus, packages in LICENCES.items():
        for package in packages:
            file = f"{package}.copyright"
            shutil.copyfile(find_corpus(corpus) / "LICENCES" / file, folder / "LICENCES" / file)
    (folder / "LICENCES" / "README.md").write_text(NOTICE, encoding="utf8")
    about = "Real text of six domains, labels balanced within each: scripture, biomedicine, changelogs, help pages, a manual, code; en, es, de"
    return Listing(rows=out, notes={"about": about})


NOTICE = """\
# Whose texts these are

All of them are parts of larger works, taken out of their packages, mark-up and notes removed; the words are as they were. The column `licence` of
table.parquet says which licence each document is under, `source` where it is from; the code of Overture has its own licence.

* scripture: the King James Version, the World English Bible and Reina-Valera 1909, as packaged by the CrossWire Bible Society. Public domain.
* biomedicine: the Gene Ontology (https://geneontology.org; Ashburner et al. 2000; The Gene Ontology Consortium), Creative Commons Attribution 4.0
  (https://creativecommons.org/licenses/by/4.0/). A selection of definitions, unchanged; the column `source` holds its date.
* changelog: of HarfBuzz, fontconfig, pixman and libtiff, by their authors, under the licences in the files named after the packages.
* help page: the help of LibreOffice, copyright the LibreOffice contributors, Mozilla Public License 2.0 (https://mozilla.org/MPL/2.0/). The pages as
  they were are in Debian's source package libreoffice and at https://www.libreoffice.org.
* manual, code: the documentation and modules of Python 3.11, copyright the Python Software Foundation, under its licence version 2, which stands in
  python3.11-doc.copyright.
"""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "embedded-text"
        about = build_text("embedded-text", rows, folder=draft)
        annotate(str(draft), {"pep8": Pep8(segments=True)})  # and where segments end, of all texts
        shutil.rmtree(FOLDER, ignore_errors=True)
        shutil.copytree(draft, FOLDER)
    size = sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) / 1e6
    print(f"{about['rows']} documents, {about['characters']:,} characters, {size:.2f} MB")
