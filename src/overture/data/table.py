"""The table: one row an example, in Parquet, asked with SQL. An example is an utterance or, in a corpus of text, a document.

A corpus is a folder:

    my-corpus/
      table.parquet    one row an example
      corpus.json      name, sources, licences, what was counted while importing
      audio/...        the recordings (or they stay where they are, see `root` in corpus.json); none in a corpus of text

Columns every corpus of speech (`COLUMNS`) or of text (`TEXT_COLUMNS`) has; free columns (`kind`, `label`, `snr`, ...) may follow. Scorers add
columns, selectors are SQL expressions over them (`--where "language = 'es' and duration < 10"`), so each data method is: columns in, row
numbers or weights out.
"""

import hashlib
import json
import os
import re
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from overture.errors import OvertureError, near

COLUMNS = {
    "id": pa.string(),  # unique in the corpus
    "audio": pa.string(),  # path, relative to the corpus root
    "start": pa.float64(),  # s, where in the file the utterance begins
    "duration": pa.float64(),  # s, measured by decoding
    "rate": pa.int32(),  # Hz, of the file
    "channels": pa.int32(),  # of the file; utterances are averaged to mono when read
    "text": pa.string(),
    "language": pa.string(),  # BCP 47
    "speaker": pa.string(),
    "gender": pa.string(),
    "source": pa.string(),  # package, dataset or folder the row came from, with its version
    "licence": pa.string(),
    "sha1": pa.string(),  # of the decoded 16-bit samples: equal recordings have equal hashes
    "peak": pa.float32(),  # 0..1, largest absolute sample
    "level": pa.float32(),  # dBFS, root mean square
    "clipped": pa.float32(),  # share of samples at full scale
}
TEXT_COLUMNS = {
    "id": pa.string(),  # unique in the corpus
    "text": pa.string(),  # paragraphs are separated by one empty line; within them lines end only where they matter (verse, listings)
    "language": pa.string(),  # BCP 47
    "source": pa.string(),  # package, dataset or folder the row came from, with its version
    "licence": pa.string(),
    "sha1": pa.string(),  # of the text's UTF-8: equal texts have equal hashes
    "length": pa.int64(),  # characters
}  # and free columns, of which some have one meaning everywhere: time (ISO 8601), label, title, section, kind ('code': lines are kept as they stand)
EMBEDDED = {"embedded": "embedded", "embedded-text": "embedded_text"}  # corpora that come with Overture: name -> folder
FINGERPRINTED = ("id", "duration", "sha1", "text", "speaker", "language")  # columns that a table's fingerprint covers


def corpora_home() -> Path:
    """Where named corpora live: `$OVERTURE_HOME/corpora`, by default `~/.cache/overture/corpora`."""
    home = os.environ.get("OVERTURE_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "overture") / "corpora"


def find_corpus(name: str) -> Path:
    """The folder of a corpus given by its name or by a path to its folder.

    Raises OvertureError when there is none, with near names.
    """
    if Path(name).is_dir() and (Path(name) / "table.parquet").exists():
        return Path(name)
    if name in EMBEDDED:
        return Path(__file__).parent.parent / "corpora" / EMBEDDED[name]
    folder = corpora_home() / name
    if (folder / "table.parquet").exists():
        return folder
    known = [
        *EMBEDDED,
        *(p.parent.name for p in corpora_home().glob("[!.]*/table.parquet") if "~" not in p.parent.name),
    ]
    raise OvertureError(
        f"no corpus {name!r}. {near(name, known)} 'overture data get' installs one, 'overture data add' makes one of your own files."
    )


def about_corpus(folder: Path) -> dict[str, Any]:
    """What the corpus.json of a corpus says; {} where there is none (a table that some other program wrote)."""
    path = folder / "corpus.json"
    if not path.exists():
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise OvertureError(f"{path} is not valid JSON ({error}). Import the corpus again.") from error
    if not isinstance(about, dict):
        raise OvertureError(f"{path} does not describe a corpus (no named fields). Import the corpus again.")
    return about


class Table:
    """Rows of one corpus, read-only. A selection (`where`) is a Table again and keeps the row numbers of the whole."""

    def __init__(self, columns: pa.Table, *, name: str, root: Path, rows: np.ndarray | None = None) -> None:
        """`columns`: the rows; `root`: what `audio` paths are relative to; `rows`: (N,) int64, their numbers in the corpus."""
        self.columns, self.name, self.root = columns, name, root
        self.rows = np.arange(columns.num_rows, dtype=np.int64) if rows is None else rows

    @classmethod
    def open(cls, name: str, where: str | None = None) -> Self:
        """The corpus `name` (or the folder of that path), or those of its rows for which the SQL expression `where` is true."""
        folder = find_corpus(name)
        path = folder / "table.parquet"
        try:
            columns = pq.ParquetFile(path, memory_map=True).read()  # read_table would load pyarrow's dataset machinery
        except (pa.ArrowInvalid, OSError) as error:
            raise OvertureError(f"{path} is not a readable Parquet file ({error}). Import the corpus again.") from error
        have = columns.column_names
        text = "text" in have and "audio" not in have
        missing = [c for c in (("id", "text") if text else ("id", "audio", "duration")) if c not in have]
        if missing:
            either = "" if text or "audio" in have else " (for recordings; a table of text needs id and text)"
            raise OvertureError(f"{path} lacks the column(s) {', '.join(missing)}{either}; it has {', '.join(have)}.")
        about = about_corpus(folder)
        root = Path(about.get("root") or ".")
        table = cls(columns, name=about.get("name") or folder.name, root=root if root.is_absolute() else folder / root)
        return table.where(where) if where else table

    def __len__(self) -> int:
        return int(self.columns.num_rows)

    def where(self, expression: str) -> Self:
        """The rows for which the SQL `expression` over the columns is true. The expression can read nothing but this table."""
        found = self.sql(f"SELECT row_number FROM rows WHERE ({expression}) ORDER BY row_number", context=expression)
        return self.take(found.column("row_number").to_numpy())

    def sql(self, query: str, *, context: str | None = None) -> pa.Table:
        """The answer to a SQL query over the table `rows` (all columns, and `row_number` from 0 within this table)."""
        with duckdb.connect() as db:
            db.register("columns_", self.columns.append_column("row_number", pa.array(np.arange(len(self)))))
            db.execute("CREATE TEMP VIEW rows AS SELECT * FROM columns_")
            # no files, no network, and no variables of this program that happen to be named like a table
            db.execute(
                "SET enable_external_access = false; SET python_enable_replacements = false; SET lock_configuration = true"
            )
            try:
                found = db.sql(query)
                if found is None:
                    raise OvertureError(f"{query!r} is not a question (SELECT ...).")
                return found.to_arrow_table()
            except duckdb.Error as error:
                raise OvertureError(
                    f"in --where {context or query!r}: {_in_a_line(error, context or query, self.columns.column_names)} "
                    f"Columns of {self.name!r}: {', '.join(self.columns.column_names)}."
                ) from error

    def take(self, indices: np.ndarray) -> Self:
        """The rows at `indices` (within this table), in that order."""
        return type(self)(self.columns.take(pa.array(indices)), name=self.name, root=self.root, rows=self.rows[indices])

    def numpy(self, column: str) -> np.ndarray:
        """One column as an array (strings as objects)."""
        if column not in self.columns.column_names:
            raise OvertureError(
                f"corpus {self.name!r} has no column {column!r}. {near(column, self.columns.column_names)}"
            )
        return np.asarray(self.columns.column(column).to_numpy(zero_copy_only=False))

    def written(self, column: str) -> list[str]:
        """One column as strings, lists whole, for fingerprints."""
        kind = self.columns.schema.field(column).type if column in self.columns.column_names else None
        values = self.columns.column(column).to_pylist() if pa.types.is_list(kind) else self.numpy(column)
        return [str(v) for v in values]

    def row(self, index: int) -> dict[str, Any]:
        """One row as a dictionary, `audio` (where there is one) made a full path. Raises OvertureError if that leaves the corpus root."""
        values: dict[str, Any] = {k: v[0] for k, v in self.columns.slice(index, 1).to_pydict().items()}
        if self.is_text:
            return values
        path = os.path.normpath(self.root / values["audio"])
        if os.path.relpath(path, self.root).partition(os.sep)[0] == os.pardir:
            raise OvertureError(
                f"corpus {self.name!r}, row {index} ({values['id']}): audio {values['audio']!r} leaves the folder {self.root}."
            )
        values["audio"] = path
        return values

    def save(self, name: str) -> str:
        """Keep these rows as a corpus of their own (one that refers to the same recordings); returns `name`. Written once, whole."""
        folder = corpora_home() / name
        if not (folder / "table.parquet").exists():
            part = folder.with_name(f".{name}.part-{os.getpid()}")
            part.mkdir(parents=True, exist_ok=True)
            pq.write_table(self.columns, part / "table.parquet")
            about = {"name": name, "root": str(self.root.resolve()), "rows_of": self.name}
            (part / "corpus.json").write_text(json.dumps(about, indent=1), encoding="utf8")
            try:
                part.rename(folder)
            except OSError:
                if not (folder / "table.parquet").exists():
                    raise
                shutil.rmtree(part)  # another process was as fast, and wrote the same
        return name

    @property
    def is_text(self) -> bool:
        """Whether rows are documents, without recordings."""
        return "audio" not in self.columns.column_names

    @property
    def hours(self) -> float:
        """Of speech. Raises OvertureError for a corpus of text, which has `characters`."""
        if self.is_text:
            raise OvertureError(
                f"corpus {self.name!r} is text: it has {self.characters:,} characters and no hours. What was asked needs recordings."
            )
        return float(self.numpy("duration").sum()) / 3600

    @property
    def characters(self) -> int:
        """Of all texts together (a row without one counts 0)."""
        if "length" in self.columns.column_names and self.is_text:
            return int(pc.sum(self.columns.column("length"), min_count=0).as_py())
        return int(pc.sum(pc.utf8_length(self.columns.column("text")), min_count=0).as_py())

    @cached_property
    def fingerprint(self) -> str:
        """12 hex digits that change when a row, its text or its audio does."""
        digest = hashlib.sha256(self.name.encode())
        for column in FINGERPRINTED:
            if column in self.columns.column_names:
                sink = pa.BufferOutputStream()
                part = self.columns.select([column]).combine_chunks()
                with pa.ipc.new_stream(sink, part.schema) as writer:
                    writer.write_table(part)
                digest.update(sink.getvalue())
        return digest.hexdigest()[:12]


def _in_a_line(error: Exception, expression: str, columns: list[str]) -> str:
    """What DuckDB found wrong, without its drawing of the place and its own guesses; of a column that is not there, near names."""
    text = str(error)
    unknown = re.search(r'Referenced column "([^"]+)" not found', text)
    if unknown:
        name, found = unknown[1], near(unknown[1], columns)
        if f'"{name}"' in expression:
            found = f"Text stands in single quotes: '{name}'."
        return f"there is no column {name!r}." + ("" if found.startswith("Known") else f" {found}")
    what = re.split(r"\n\s*(?:LINE \d+:|Candidate |Did you mean )", text)[0]
    return " ".join(what.split()).rstrip(".!") + "."
