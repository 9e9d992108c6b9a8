"""The layout of LibriSpeech: SPLIT/SPEAKER/CHAPTER/*.trans.txt with lines 'ID TEXT', and ID.flac beside it; genders in SPEAKERS.TXT."""

from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.manifest import lines_of
from overture.data.check import Problem

ENDINGS = (".flac", ".wav", ".ogg", ".opus", ".mp3")


def rows(path: Path, encoding: str) -> Listing:
    """Every line of every *.trans.txt under `path`."""
    genders = _genders(path, encoding)
    out: list[Row] = []
    problems: list[Problem] = []
    for transcript in sorted(path.rglob("*.trans.txt")):
        folder = transcript.parent
        for number, line in enumerate(lines_of(transcript, encoding).splitlines(), start=1):
            key, _, text = line.strip().partition(" ")
            if not key:
                continue
            file = next(
                (folder / f"{key}{e}" for e in ENDINGS if (folder / f"{key}{e}").is_file()), folder / f"{key}.flac"
            )
            parts = key.split("-")
            if len(parts) != 3:
                what = f"{key!r} is not SPEAKER-CHAPTER-NUMBER"
                problems.append(
                    Problem(kind="bad row", what=what, field="id", file=str(transcript.relative_to(path)), row=number)
                )
                continue
            above = transcript.relative_to(path).parts[:-3]  # the split, if the folder of several was given
            out.append(
                {"id": key, "audio": str(file.relative_to(path)), "text": text, "language": "en", "speaker": parts[0], "chapter": parts[1],
                 "gender": genders.get(parts[0]), "split": above[-1] if above else path.name, "_row": number}
            )  # fmt: skip
    return Listing(rows=out, root=path, problems=problems, notes={"layout": "LibriSpeech"})


def _genders(path: Path, encoding: str) -> dict[str, str]:
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "SPEAKERS.TXT").is_file():
            lines = [
                line.split("|") for line in lines_of(folder / "SPEAKERS.TXT", encoding).splitlines() if line[:1] != ";"
            ]
            return {f[0].strip(): f[1].strip().lower() for f in lines if len(f) > 1}
    return {}
