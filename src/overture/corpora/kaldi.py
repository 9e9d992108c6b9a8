"""A Kaldi data directory: wav.scp, and where they exist text, segments, utt2spk, spk2gender and utt2lang."""

import os
from collections.abc import Iterator
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.manifest import lines_of
from overture.data.check import Problem


def rows(path: Path, encoding: str, audio: Path | None) -> Listing:
    """Every segment, or every recording where there is no `segments`.

    Relative paths are relative to `audio`, else to the data directory, else to where the command is run.
    """
    files: dict[str, tuple[int, str]] = {}
    problems: list[Problem] = []
    for line, key, rest in _pairs(path / "wav.scp", encoding):
        if rest.endswith("|") or rest.startswith("|"):
            what, hint = (
                "is a command, and nothing of a data directory is executed",
                "Run it, keep its output as WAV or FLAC, and name that file.",
            )
            problems.append(Problem(kind="bad row", what=what, way_out=hint, field=key, file="wav.scp", row=line))
        elif not Path(rest).suffix or rest.rpartition(":")[2].isdigit():
            what, hint = f"{rest!r} points into an archive", "Copy the recordings out with wav-copy."
            problems.append(Problem(kind="bad row", what=what, way_out=hint, field=key, file="wav.scp", row=line))
        else:
            files[key] = (line, rest)
    refused = {p.field for p in problems}
    root = audio or _root(path, [name for _, name in files.values()])
    texts, speakers = _map(path / "text", encoding), _map(path / "utt2spk", encoding)
    genders, languages = _map(path / "spk2gender", encoding), _map(path / "utt2lang", encoding)
    out: list[Row] = []

    def utterance(key: str, name: str, line: int, **segment: float | None) -> None:
        speaker = speakers.get(key)
        out.append(
            {"id": key, "audio": name, "text": texts.get(key), "speaker": speaker, "gender": genders.get(speaker or ""),
             "language": languages.get(key), "_row": line} | segment
        )  # fmt: skip

    if (path / "segments").is_file():
        for line, key, rest in _pairs(path / "segments", encoding):
            fields = rest.split()
            try:
                recording, start, end = fields[0], float(fields[1]), float(fields[2])
            except (IndexError, ValueError):
                what = "is not 'utterance recording start end'"
                problems.append(Problem(kind="bad row", what=what, field=key, file="segments", row=line))
                continue
            if recording in files:
                utterance(key, files[recording][1], line, start=start, duration=end - start if end >= 0 else None)
            elif recording not in refused:
                what = f"names the recording {recording!r}, which wav.scp has not"
                problems.append(Problem(kind="bad row", what=what, field=key, file="segments", row=line))
    else:
        for key, (line, name) in files.items():
            utterance(key, name, line)
    silent = len(set(texts) - {row["id"] for row in out})
    return Listing(
        rows=out, root=root, problems=problems, notes={"layout": "Kaldi data directory", "texts_without_audio": silent}
    )


def _pairs(file: Path, encoding: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(lines_of(file, encoding).splitlines(), start=1):
        key, *rest = line.strip().split(maxsplit=1) or [""]
        if key:
            yield number, key, rest[0] if rest else ""


def _map(file: Path, encoding: str) -> dict[str, str]:
    return {key: rest for _, key, rest in _pairs(file, encoding)} if file.is_file() else {}


def _root(path: Path, names: list[str]) -> Path:
    """The common folder of absolute paths; else the data directory or, as in Kaldi's own recipes, where the command is run."""
    if names and all(Path(n).is_absolute() for n in names):
        return Path(os.path.commonpath([str(Path(n).parent) for n in names]))
    return path if not names or (path / names[0]).is_file() else Path.cwd()
