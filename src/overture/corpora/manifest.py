"""Lists of recordings: TSV, CSV and JSON lines with one utterance a row, and folders of bare recordings.

Common column names are understood (`ALIASES`), odd ones are told by `columns`; every other column becomes a free column of the corpus. TSV is
read as it stands, without quoting, as speech corpora write it; CSV with the usual double quotes, separated by the comma, semicolon, tab or bar
that its first line uses most.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from overture.corpora.build import MEASURED, Listing, Row
from overture.data.check import Problem
from overture.errors import OvertureError, near

ALIASES = {
    "audio": [
        "audio",
        "path",
        "file",
        "filename",
        "file_name",
        "audio_path",
        "audio_file",
        "audio_filepath",
        "wav",
        "clip",
        "recording",
    ],
    "text": ["text", "sentence", "transcript", "transcription"],
    "speaker": ["speaker", "speaker_id", "spk", "client_id"],
    "gender": ["gender", "sex"],
    "language": ["language", "lang", "locale"],
    "id": ["id", "utt_id", "utterance_id", "utterance"],
    "start": ["start", "offset", "start_time", "begin"],
    "end": ["end", "end_time", "stop"],
    "duration": ["duration", "dur"],
    "licence": ["licence", "license"],
    "source": ["source"],
}
NAMES = [
    f"{stem}.{ending}" for stem in ("transcripts", "metadata", "manifest") for ending in ("tsv", "csv", "jsonl", "json")
]


class WrongEncoding(OvertureError):
    """A file is not in the encoding that was said."""

    def __init__(self, path: Path, what: str, way_out: str) -> None:
        super().__init__(f"{path}, {what}. {way_out}")
        self.what, self.way_out = what, way_out


def lines_of(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file. Raises WrongEncoding naming the line that is not in `encoding` and what it may be in; OvertureError for a file that
    cannot be read and an encoding that nobody knows."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise OvertureError(f"{path} cannot be read ({error.strerror}).") from error
    try:
        return raw.decode("utf-8-sig" if encoding.lower().replace("-", "") == "utf8" else encoding)
    except LookupError as error:
        raise OvertureError(
            f"--encoding {encoding!r} is not known to Python ({error}). E.g. utf-8, cp1252, latin-1, utf-16."
        ) from error
    except UnicodeError as error:
        at = error.start if isinstance(error, UnicodeDecodeError) else 0
        line = raw.count(b"\n", 0, at) + 1
        guess = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252"
        raise WrongEncoding(
            path,
            f"line {line}: byte 0x{raw[at]:02x} is not {encoding}",
            f"Save the file as UTF-8, or name its encoding, e.g. --encoding {guess}"
            + (" (Western Europe), cp1250 (Central Europe), cp1251 (Cyrillic)." if guess == "cp1252" else "."),
        ) from error


def table_of(path: Path, encoding: str = "utf-8") -> tuple[list[str], list[tuple[int, Row]], list[Problem]]:
    """(column names, [(line, row)], problems) of a TSV, CSV or JSON-lines file."""
    text = lines_of(path, encoding)
    if path.suffix.lower() in (".jsonl", ".json"):
        return _json(path, text)
    first = text.partition("\n")[0]
    if path.suffix.lower() == ".tsv":
        reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t|", key=first.count))
    header: list[str] = []
    found: list[tuple[int, Row]] = []
    problems: list[Problem] = []
    line = 0
    try:
        for fields in reader:
            begins, line = line + 1, reader.line_num  # a quoted field may run over several lines
            if not header:
                header = [name.strip() for name in fields]
            elif len(fields) == len(header):
                found.append((begins, dict(zip(header, fields, strict=True))))
            elif any(fields):
                what = f"has {len(fields)} fields, the first line names {len(header)} columns"
                hint = "Look for a missing separator or quote."
                problems.append(Problem(kind="bad row", what=what, way_out=hint, field="", file=path.name, row=begins))
    except csv.Error as error:
        raise OvertureError(f"{path}, line {reader.line_num}: {error}. Is it a table of text?") from error
    repeated = [name for name, n in Counter(header).items() if n > 1]
    if repeated:
        raise OvertureError(f"{path}: the first line names {', '.join(map(repr, repeated))} more than once.")
    return header, found, problems


def _json(path: Path, text: str) -> tuple[list[str], list[tuple[int, Row]], list[Problem]]:
    found: list[tuple[int, Row]] = []
    problems: list[Problem] = []
    if text.lstrip().startswith("["):
        try:
            items = list(enumerate(json.loads(text), start=1))
        except json.JSONDecodeError as error:
            raise OvertureError(f"{path}, line {error.lineno}: not JSON ({error.msg}).") from error
    else:
        items = []
        for line, content in enumerate(text.splitlines(), start=1):
            if content.strip():
                try:
                    items.append((line, json.loads(content)))
                except json.JSONDecodeError as error:
                    what = f"is not JSON ({error.msg} at column {error.colno})"
                    problems.append(Problem(kind="bad row", what=what, way_out="", field="", file=path.name, row=line))
    for line, item in items:
        if isinstance(item, dict):
            found.append((line, item))
        else:
            problems.append(
                Problem(kind="bad row", what="is not an object with named fields", field="", file=path.name, row=line)
            )
    return list(dict.fromkeys(k for _, row in found for k in row)), found, problems


def mapping(
    header: Iterable[str],
    columns: Mapping[str, str],
    where: object,
    aliases: Mapping[str, Sequence[str]] = ALIASES,
    measured: Sequence[str] = MEASURED,
) -> dict[str, str]:
    """{column of the manifest: column of the corpus}, by `columns` ({ours: theirs}) first and then by `aliases`.

    Columns named like a `measured` one are kept as given_NAME. Raises OvertureError when `columns` names something that is not there.
    """
    header = list(header)
    taken: dict[str, str] = {}
    for ours, theirs in columns.items():
        if theirs not in header:
            raise OvertureError(f"{where} has no column {theirs!r} (--column {ours}={theirs}). {near(theirs, header)}")
        taken[theirs] = ours
    folded = {name.casefold(): name for name in reversed(header)}
    for ours, names in aliases.items():
        if ours not in taken.values():
            theirs = next((folded[a] for a in names if a in folded and folded[a] not in taken), "")
            if theirs:
                taken[theirs] = ours
    return taken | {name: f"given_{name}" if name in measured else name for name in header if name not in taken}


def standard(row: Row, names: Mapping[str, str]) -> Row:
    """A row under the corpus's column names. A duration counts only where a start is given: else the whole file is meant, and it is measured."""
    out = {ours: row.get(theirs) for theirs, ours in names.items()}
    start, end = out.get("start"), out.pop("end", None)
    if end not in (None, "") and start not in (None, ""):
        try:
            out["duration"] = float(str(end)) - float(str(start))
        except ValueError:
            out["duration"] = f"{end} - {start}"  # reported as a bad field with this value
    elif start in (None, ""):
        out.pop("duration", None)
    return out


def typed(rows: list[Row], free: Iterable[str]) -> None:
    """Free columns of a text file that hold only numbers become numbers; '007' stays a string."""
    for name in free:
        values = [row[name] for row in rows if row.get(name) not in (None, "")]
        if not values or not all(isinstance(v, str) for v in values):
            continue
        kind = next((k for k in (int, float, str) if all(_is(k, v) for v in values)), str)
        for row in rows:
            row[name] = kind(row[name]) if row.get(name) not in (None, "") else None


def _is(kind: type[int] | type[float] | type[str], value: str) -> bool:
    if kind is str:
        return True
    digits = value.lstrip("+-")
    if digits[:1] == "0" and digits[1:2].isdigit():
        return False
    try:
        kind(value)
    except ValueError:
        return False
    return "_" not in value and value == value.strip()


def rows(path: Path, manifest: Path, columns: Mapping[str, str], encoding: str, audio: Path | None) -> Listing:
    """The utterances that `manifest` lists. Their paths are relative to `audio` if given, else to `path`, else to the manifest's own folder."""
    if not manifest.is_file():
        raise OvertureError(f"no transcripts at {manifest}.")
    header, found, problems = table_of(manifest, encoding)
    names = mapping(header, columns, manifest)
    if "audio" not in names.values():
        known = ", ".join(header) or "none"
        raise OvertureError(
            f"{manifest}: no column names the recordings (one of {', '.join(ALIASES['audio'])}). Its columns, from its first line: {known}. "
            f"Say which it is: --column audio=NAME."
        )
    out = [standard(row, names) | {"_row": line} for line, row in found]
    typed(out, [n for n in names.values() if n not in ALIASES])
    root = audio or _root(path if path.is_dir() else path.parent, manifest.parent, out)
    notes: dict[str, Any] = {"layout": manifest.suffix.lstrip("."), "manifest": manifest.name}
    if "text" not in names.values():
        notes["no_text_column"] = (
            f"none of {', '.join(ALIASES['text'])} among {', '.join(header)}; --column text=NAME says which it is"
        )
    listed = {str((root / str(row.get("audio"))).absolute()) for row in out}
    unlisted = sum(str(p.absolute()) not in listed for p in recordings(path)) if path.is_dir() else 0
    if unlisted:
        notes["recordings_not_listed"] = unlisted
    return Listing(rows=out, root=root, problems=problems, notes=notes)


def _root(path: Path, beside: Path, rows: list[Row]) -> Path:
    """`path`, unless the first recordings are found only relative to the manifest's folder."""
    some = [str(row.get("audio") or "") for row in rows[:50]]
    found = {root: sum((root / name).is_file() for name in some if name) for root in (path, beside)}
    return beside if found[beside] > 0 and not found[path] else path


def recordings(folder: Path) -> Iterator[Path]:
    """Every sound file under `folder`, sorted."""
    from overture.data.audio import formats

    endings = set(formats()) - {".raw"} | {".aif", ".mp3"}
    yield from sorted(p for p in folder.rglob("*") if p.suffix.lower() in endings and p.is_file())


def bare(path: Path, encoding: str) -> Listing:
    """Every recording of a folder; a text file of the same name beside it is its transcript."""
    out: list[Row] = []
    for number, file in enumerate(recordings(path), start=1):
        beside = file.with_suffix(".txt")
        text = " ".join(lines_of(beside, encoding).split()) if beside.is_file() else None
        out.append({"audio": str(file.relative_to(path)), "text": text, "_row": number})
    return Listing(rows=out, root=path, notes={"layout": "folder of recordings"})
