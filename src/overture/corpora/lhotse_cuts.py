"""Lhotse cut manifests (cuts.jsonl, cuts.jsonl.gz): each supervision becomes an utterance. Needs the extra `lhotse`."""

import os
from pathlib import Path
from typing import Any

from overture.corpora.build import Listing, Row
from overture.data.check import Problem
from overture.errors import MissingExtra, OvertureError


def rows(path: Path, audio: Path | None) -> Listing:
    """The supervisions of every cut (or the whole cut where it has none). What a file and a time span cannot express is reported by row."""
    try:
        import lhotse
    except ImportError as error:
        raise MissingExtra("lhotse", "reading cut manifests") from error
    out: list[Row] = []
    problems: list[Problem] = []
    try:
        for number, cut in enumerate(lhotse.CutSet.from_file(path), start=1):
            reason = _unusable(cut)
            if reason:
                hint = "Write the cuts as files first: cuts.save_audios(folder)."
                problems.append(
                    Problem(
                        kind="bad row",
                        what=reason,
                        way_out=hint,
                        field="cut",
                        file=str(getattr(cut, "id", "")),
                        row=number,
                    )
                )
                continue
            out += _utterances(cut, number)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise OvertureError(f"{path} is not a manifest of lhotse cuts ({type(error).__name__}: {error}).") from error
    names = [row["audio"] for row in out]
    if audio is None and names and all(Path(n).is_absolute() for n in names):
        audio = Path(os.path.commonpath([str(Path(n).parent) for n in names]))
    if audio is None:
        audio = path.parent if not names or (path.parent / names[0]).is_file() else Path.cwd()
    return Listing(rows=out, root=audio, problems=problems, notes={"layout": "lhotse cuts"})


def _unusable(cut: Any) -> str:
    """Why a cut is not a span of one file, or ''."""
    if type(cut).__name__ not in ("MonoCut", "MultiCut"):
        return f"is a {type(cut).__name__}: sound put together while reading"
    if not cut.has_recording:
        return "has no recording, only features"
    sources = cut.recording.sources
    if len(sources) != 1 or sources[0].type != "file":
        return f"its recording comes from {', '.join(s.type for s in sources)}, not from one file"
    if cut.recording.transforms:
        return "its recording is changed while reading (speed, volume, ...)"
    if cut.num_channels != cut.recording.num_channels:
        return f"takes {cut.num_channels} of the {cut.recording.num_channels} channels"
    return ""


def _utterances(cut: Any, number: int) -> list[Row]:
    file, whole = cut.recording.sources[0].source, {"start": cut.start, "duration": cut.duration}
    found: list[Row] = []
    for part in cut.supervisions:
        begin, end = max(0.0, part.start), min(cut.duration, part.end)
        free = {k: v for k, v in (part.custom or {}).items() if isinstance(v, str | int | float | bool)}
        found.append(
            free
            | {"id": part.id if len(cut.supervisions) > 1 else cut.id, "audio": file, "start": cut.start + begin, "duration": end - begin,
               "text": part.text, "language": part.language, "speaker": part.speaker, "gender": part.gender, "_row": number}
        )  # fmt: skip
    return found or [{"id": cut.id, "audio": file, "_row": number} | whole]
