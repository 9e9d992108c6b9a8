"""`overture data add`: from somebody's recordings, in whichever of the common layouts, to a corpus."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from overture.corpora import common_voice, huggingface, kaldi, lhotse_cuts, librispeech, manifest
from overture.corpora.build import MEASURED, Listing, OnProblem, Row, build
from overture.data.check import LIMIT, Problem
from overture.errors import OvertureError


def add(
    name: str,
    path: Path,
    *,
    transcripts: Path | None = None,
    columns: Mapping[str, str] | None = None,
    fill: Mapping[str, str] | None = None,
    named: str | None = None,
    audio: Path | None = None,
    encoding: str = "utf-8",
    copy: bool = False,
    replace: bool = False,
    on_problem: OnProblem = "error",
    limit: float = LIMIT,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Makes the corpus `name` of what is at `path` and returns what its corpus.json says.

    `transcripts`: a TSV, CSV or JSON-lines file; without it the layout is detected. `columns`: {our column: theirs}. `fill`: values for the
    columns of rows that have none, e.g. {"language": "es"}. `named`: how recordings are named, without the ending: of
    "{text}_{speaker}_{take}" the file 7_anna_0.wav gets text 7, speaker anna and a free column take. `audio`: the folder that paths are
    relative to and must lie in. Recordings are referenced where they are unless `copy`. `limit`: the longest utterance, s.
    Raises OvertureError with every problem's file, row, field and way out; then nothing is written.
    """
    path = path.absolute()
    read = _reader(
        path,
        transcripts.absolute() if transcripts else None,
        columns or {},
        audio.absolute() if audio else None,
        encoding,
    )

    pattern = None if named is None else _pattern(named)

    def importer(folder: Path) -> Listing:
        listing = read(folder)
        if pattern is not None:
            _from_names(listing, pattern, str(named))
        for row in listing.rows:
            for column, value in ({"source": path.name} | dict(fill or {})).items():
                if row.get(column) in (None, ""):
                    row[column] = value
        return listing

    return build(name, importer, replace=replace, copy=copy, on_problem=on_problem, limit=limit, progress=progress)


def _pattern(named: str) -> re.Pattern[str]:
    """`{text}_{speaker}` as a regular expression over a path without its ending. Raises OvertureError when it is none."""
    parts = re.split(r"\{(\w+)\}", named)
    columns = parts[1::2]
    reserved = {*MEASURED, "audio", "start", "duration"}
    if not columns or len(set(columns)) < len(columns) or set(columns) & reserved or "{" in "".join(parts[::2]):
        raise OvertureError(
            f"--named {named!r}: write columns in braces and what stands between them, as in '{{text}}_{{speaker}}_{{take}}'; "
            f"each once, none of {', '.join(sorted(reserved))}."
        )
    if any(gap == "" for gap in parts[2:-2:2]):
        raise OvertureError(
            f"--named {named!r}: nothing stands between two columns, so nobody can tell where one ends."
        )
    named_groups = [re.escape(p) if i % 2 == 0 else rf"(?P<{p}>[^/]+?)" for i, p in enumerate(parts)]
    return re.compile(r"(?:.*/)?" + "".join(named_groups))


def _from_names(listing: Listing, pattern: re.Pattern[str], named: str) -> None:
    """Fill columns that rows lack from the names of their recordings; a name that does not fit is a problem of its row."""
    fitting: list[Row] = []
    for number, row in enumerate(listing.rows, start=1):
        path = Path(str(row.get("audio") or ""))
        found = pattern.fullmatch(path.with_suffix("").as_posix())
        if found is None:
            what = f"is not named as {named!r} says"
            hint = "Rename it, move it away, or mend --named."
            line = row.get("_row", number)
            listing.problems.append(Problem(kind="bad row", what=what, way_out=hint, file=path.as_posix(), row=line))
            continue
        for column, value in found.groupdict().items():
            if row.get(column) in (None, ""):
                row[column] = value
        fitting.append(row)
    listing.rows[:] = fitting
    free = [c for c in pattern.groupindex if c not in manifest.ALIASES]
    manifest.typed(listing.rows, free)


def _reader(
    path: Path, transcripts: Path | None, columns: Mapping[str, str], audio: Path | None, encoding: str
) -> Callable[[Path], Listing]:
    """The importer for the layout at `path`; columns are named only in tables, so naming them elsewhere is an error."""
    if not path.exists():
        raise OvertureError(f"{path} does not exist.")
    if audio is not None and not audio.is_dir():
        raise OvertureError(f"--audio {audio} is not a folder.")
    if transcripts is None and path.is_dir():
        transcripts = next((path / n for n in manifest.NAMES if (path / n).is_file()), None)
    cuts = None if transcripts else _cuts(path)
    if transcripts is None and cuts is None and path.is_dir():
        tables = sorted(p for p in path.iterdir() if p.suffix.lower() in (".tsv", ".csv", ".jsonl"))
        layout = (path / "clips").is_dir() or (path / "wav.scp").is_file() or _holds_parquet(path)
        if len(tables) == 1 and not layout:
            transcripts = tables[0]
        elif len(tables) > 1 and not layout:
            names = ", ".join(p.name for p in tables)
            raise OvertureError(f"{path} holds several tables ({names}): say with --transcripts which one is meant.")
    if (
        transcripts is None
        and cuts is None
        and path.is_file()
        and path.suffix.lower() in (".tsv", ".csv", ".json", ".jsonl")
    ):
        transcripts = path
    if transcripts is not None:
        return lambda folder: manifest.rows(path, transcripts, columns, encoding, audio)
    stored = _holds_parquet(path) or any((path / n).is_file() for n in ("dataset_dict.json", "state.json"))
    if columns and not stored:
        raise OvertureError(
            f"--column names columns of a table, and {path} has none that is known; name it with --transcripts."
        )
    if cuts is not None:
        return lambda folder: lhotse_cuts.rows(cuts, audio)
    if (path / "wav.scp").is_file():
        return lambda folder: kaldi.rows(path, encoding, audio)
    if audio is not None:
        raise OvertureError(f"--audio is for tables that name recordings elsewhere, and {path} holds its own.")
    if stored:
        return lambda folder: huggingface.rows(path, folder, columns)
    if path.is_file():
        raise OvertureError(
            f"{path} is one file; give the folder it lies in, or a table (.tsv, .csv, .jsonl, .parquet) of recordings."
        )
    if next(path.rglob("*.trans.txt"), None):
        return lambda folder: librispeech.rows(path, encoding)
    if (path / "clips").is_dir() and any(path.glob("*.tsv")):
        return lambda folder: common_voice.rows(path, encoding)
    return lambda folder: manifest.bare(path, encoding)


def _cuts(path: Path) -> Path | None:
    """The manifest of lhotse cuts that `path` is or holds."""
    files = [path] if path.is_file() else sorted(path.glob("*cuts*.jsonl*"))
    return next((p for p in files if p.name.endswith((".jsonl", ".jsonl.gz")) and _holds_cuts(p)), None)


def _holds_parquet(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() == ".parquet"
    return any(path.glob("*.parquet")) or any(path.glob("data/*.parquet"))


def _holds_cuts(path: Path) -> bool:
    """Whether the first line of a (gzipped) file looks like a lhotse cut."""
    import gzip

    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf8") as file:
            first = file.readline()
    except (OSError, UnicodeDecodeError):
        return False
    return '"type": "M' in first and "Cut" in first
