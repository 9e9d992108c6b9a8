"""Somebody's text files: plain text, Markdown and HTML as documents, JSON lines, Parquet, TSV and CSV as tables of documents.

In a table one column is the text, and every other one is kept. Of a folder either all documents are read, or all tables. A plain text file is one
document; or one a line, or one a paragraph, as corpora for language models are often written.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from overture.corpora import html
from overture.corpora.build import Listing, Row
from overture.corpora.manifest import WrongEncoding, lines_of, mapping, table_of, typed
from overture.corpora.text import MEASURED
from overture.data.check import Problem
from overture.errors import OvertureError

Document = Literal["file", "line", "paragraph"]
ALIASES = {
    "text": ["text", "content", "document", "body", "sentence", "raw_content"],
    "language": ["language", "lang", "locale"],
    "id": ["id", "doc_id", "document_id"],
    "licence": ["licence", "license"],
    "source": ["source"],
}
PROSE = (".txt", ".text")
MARKDOWN = (".md", ".markdown")
HTML = (".html", ".htm", ".xhtml")
TABLES = (".jsonl", ".json", ".parquet", ".tsv", ".csv")


def rows(path: Path, columns: Mapping[str, str], encoding: str, document: Document) -> Listing:
    """The documents at `path`, a file or a folder. `columns`: {our column: theirs}, for tables."""
    if not path.exists():
        raise OvertureError(f"{path} does not exist.")
    known = (*PROSE, *MARKDOWN, *HTML, *TABLES)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p, path))
    documents = [p for p in files if p.suffix.lower() in (*PROSE, *MARKDOWN, *HTML)]
    tables = [p for p in files if p.suffix.lower() in TABLES]
    if not documents and not tables:
        raise OvertureError(f"{path}: no text here, of the kinds {' '.join(known)}.")
    if documents and tables:
        raise OvertureError(
            f"{path} holds {len(documents)} documents ({documents[0].name}, ...) and {len(tables)} tables ({tables[0].name}, ...): "
            "name the file, or a folder of one kind."
        )
    if documents and columns:
        raise OvertureError(f"--column names columns of a table, and {path} holds documents.")
    if document != "file" and not any(p.suffix.lower() in PROSE for p in documents):
        raise OvertureError(f"--document {document} is for plain text ({' '.join(PROSE)}), of which {path} holds none.")
    other = len(files) - len(documents) - len(tables)
    notes: dict[str, Any] = {"files": len(documents) + len(tables)} | (
        {"files_of_another_kind": other} if other else {}
    )
    listing = Listing(rows=[], notes=notes)
    base = path if path.is_dir() else path.parent
    for file in documents:
        _read_document(file, file.relative_to(base).as_posix(), encoding, document, listing)
    for file in tables:
        _read_table(file, file.relative_to(base).as_posix(), columns, encoding, len(tables) > 1, listing)
    return listing


def _hidden(path: Path, under: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(under).parts)


def _read_document(path: Path, name: str, encoding: str, document: Document, listing: Listing) -> None:
    """The documents of one file; one that is not in `encoding` is a problem of that file alone."""
    try:
        text = lines_of(path, encoding)
    except WrongEncoding as error:
        problem = Problem(kind="not UTF-8", what=error.what, way_out=error.way_out, field="text", file=name)
        listing.problems.append(problem)
        return
    ending = path.suffix.lower()
    if ending in HTML:
        listing.rows.append(_page(text) | {"id": name, "_file": name})
    elif ending in MARKDOWN:
        from markdown_it import MarkdownIt

        listing.rows.append(
            _page(MarkdownIt("gfm-like", {"linkify": False}).render(text)) | {"id": name, "_file": name}
        )
    elif document == "file":
        listing.rows.append({"id": name, "text": text, "_file": name})
    else:
        for line, part in _parts(text, document):
            listing.rows.append({"id": f"{name}:{line}", "text": part, "_file": name, "_row": line})


def _page(text: str) -> Row:
    page = html.read(text)
    return {"text": page.paragraphs, "title": page.title or None, "language": page.language or None}


def _parts(text: str, document: Document) -> Iterator[tuple[int, str]]:
    """(line at which it begins, document) of every line, or of every block of lines without an empty one between."""
    block: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if document == "line" and line.strip():
            yield number, line
        elif document == "paragraph" and line.strip():
            block.append(line)
        elif block:
            yield number - len(block), "\n".join(block)
            block = []


def _read_table(
    path: Path, name: str, columns: Mapping[str, str], encoding: str, several: bool, listing: Listing
) -> None:
    header, found, problems = _parquet(path) if path.suffix.lower() == ".parquet" else table_of(path, encoding)
    names = mapping(header, columns, path, ALIASES, MEASURED)
    if "text" not in names.values():
        raise OvertureError(
            f"{path}: no column holds text (one of {', '.join(ALIASES['text'])}). Its columns: {', '.join(header) or 'none'}. "
            "Say which it is: --column text=NAME."
        )
    out: list[Row] = []
    for line, given in found:
        row = {ours: given.get(theirs) for theirs, ours in names.items()} | {"_row": line, "_file": name}
        if row.get("id") in (None, ""):
            row["id"] = f"{name}:{line}" if several else f"{line}"
        out.append(row)
    if path.suffix.lower() in (".tsv", ".csv"):
        typed(out, [n for n in names.values() if n not in ALIASES and n != "time"])
    listing.rows += out
    listing.problems += problems


def _parquet(path: Path) -> tuple[list[str], list[tuple[int, Row]], list[Problem]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise OvertureError(f"{path} is not a readable Parquet file ({error}).") from error
    return table.column_names, list(enumerate(table.to_pylist(), start=1)), []
