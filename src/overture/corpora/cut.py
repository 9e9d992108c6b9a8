"""`overture data cut`: utterances out of long recordings that nobody has cut, by voice activity (Silero's detector, `models.vad`).

IndicWav2Vec (arXiv:2111.03945) curates its recordings so: voice activity -> signal to noise -> pieces. Rows point into the files of the parent, at
their times: nothing is copied and no sample is touched, so a filter by signal to noise (`data score --with snr`, `--where "snr > 15"`) hears
what was recorded. A recording is heard in parts, whatever its length.
"""

import csv
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from overture.config import fingerprint, to_dict
from overture.corpora.build import MEASURED, Listing, Row, build
from overture.corpora.derive import digest
from overture.data import audio
from overture.data.cutting import Lengths, Pieces, Power, Span, pieces, words_within
from overture.data.source import in_order
from overture.data.table import Table, about_corpus, corpora_home, find_corpus
from overture.errors import OvertureError
from overture.models import vad
from overture.models.sources import SOURCES

# Columns that say what is said in the whole recording, or where in it: of a piece they would be wrong.
OF_WORDS = (
    "text", "words", "phones", "phone_ends", "segments", "spans", "keyword", "prompt", "translation", "translation_en", "translations",
)  # fmt: skip
MS = vad.RATE // 1000  # samples of a millisecond
FORMAT = 1  # of what is made: raised when the same settings would cut elsewhere


@dataclass(frozen=True)
class _Heard:
    """What one recording came to, all in ms."""

    total: int
    speech: int
    pieces: Pieces


def cut(
    name: str,
    parent: str,
    how: Lengths,
    *,
    where: str | None = None,
    replace: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Makes the corpus `name` of the stretches of speech in the rows of `parent` for which the SQL expression `where` is true; returns what its
    corpus.json says.

    Rows have the id of the recording and the millisecond of the file at which they begin (`radio/monday@61250`), `cut_from` and `derived_from`,
    the recording's id and its corpus, and every column of it but its scores and what is said in it (`OF_WORDS`); where its `words` have times
    ([{"text", "start", "end"}, ...] from its beginning, as `overture transcribe` writes them), the words of the piece. `cuts.tsv` has a line a
    recording, whose seconds kept, without speech and of speech too short are the recording's; dropped.tsv names what is too short and recordings
    where nobody speaks. Without `replace`, a corpus of the same parent, rows and settings that is there is kept as it is.
    Raises MissingExtra, and OvertureError when the detector is not installed, for another corpus of that name, for a recording that cannot be
    read and when nothing is left; then nothing is written.
    """
    table = Table.open(parent, where)
    if not len(table):
        raise OvertureError(f"no row of {parent!r} is left by --where {where!r}.")
    if table.is_text:
        raise OvertureError(f"{parent!r} is text, and only recordings can be cut where nobody speaks.")
    scores = about_corpus(find_corpus(parent)).get("scores", {})  # of the whole recording
    made_of = {
        "from": table.name,
        "where": where,
        "rows": digest(table, scores),
        "lengths": to_dict(how),
        "detector": SOURCES["silero-vad"].wheels[0].package,
        "format": FORMAT,
    }
    mark, folder = fingerprint(made_of), corpora_home() / name
    if folder.exists():
        if folder.resolve() == find_corpus(parent).resolve():
            raise OvertureError(f"{name!r} cannot be made of itself: take another name.")
        about = about_corpus(folder)
        if not replace and about.get("derived", {}).get("fingerprint") == mark:
            return about

    def importer(draft: Path) -> Listing:
        told = _Progress(table, progress)
        rows: list[Row] = []
        dropped: list[tuple[Row, str, str]] = []
        report, totals = [], dict.fromkeys(("total", "kept", "pauses", "short", "silence"), 0.0)
        timed = lost = 0
        silent: list[str] = []
        for index, heard in enumerate(
            in_order(lambda index: _hear(table, index, how, told), range(len(table)), ahead=16)
        ):
            row = table.row(index) | {
                "audio": table.columns.column("audio")[index].as_py(),
                "_row": int(table.rows[index]) + 1,
            }
            words = _words(row)
            mine = _rows(row, words, heard.pieces.kept, table.name, scores)
            rows += mine
            if words is not None:
                timed += 1
                lost += len(words) - sum(len(piece["words"] or ()) for piece in mine)
            short = [_named(row, span) for span in heard.pieces.short]
            dropped += [
                (row | {"id": key}, "too short", f"{(b - a) / 1000:g} s of speech")
                for key, (a, b) in zip(short, heard.pieces.short, strict=True)
            ]
            if not heard.speech:
                silent.append(str(row["id"]))
                dropped.append((row, "no speech", f"nobody speaks in its {heard.total / 1000:g} s"))
            own = _seconds(heard)
            totals = {k: totals[k] + own[k] for k in totals}
            hard = " ".join(f"{ms / 1000:.3f}" for ms in heard.pieces.hard)
            report.append([row["id"], row["audio"], len(mine), *(f"{own[k]:.3f}" for k in totals), len(short), hard])
        if not rows:
            raise OvertureError(
                f"nothing is left of {parent!r}: {len(silent)} of its {len(table)} recordings have no speech, and the rest "
                f"{totals['short']:.1f} s in stretches below {how.shortest:g} s. Is it speech? 'overture data show {parent}' tells its levels"
            )
        with (draft / "cuts.tsv").open("w", encoding="utf8", newline="") as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerow(["id", "audio", "rows", *(f"{k}_s" for k in totals), "short_pieces", "cut_in_speech_at_s"])
            writer.writerows(report)
        have = [c for c in table.columns.column_names if table.columns.column(c).null_count < len(table)]
        told_again = ("text", "words") if timed == len(table) else ()
        left = [c for c in OF_WORDS if c in have and c not in {*scores, *told_again}]
        found = {
            "seconds": {k: round(v, 3) for k, v in totals.items()},
            "recordings": len(table),
            "without_speech": silent,
            "rows": len(rows),
            "cuts_in_speech": sum(len(line[-1].split()) for line in report),
            "columns_left": left,
            "words_outside": lost,
        }
        notes = {"about": f"speech cut out of {table.name}", "derived": {"fingerprint": mark, **made_of}, "cut": found}
        return Listing(rows=rows, root=table.root.resolve(), dropped=dropped, notes=notes)

    return build(name, importer, replace=replace, progress=progress)


class _Progress:
    """Tells seconds heard by all threads together, of how many."""

    def __init__(self, table: Table, progress: Callable[[int, int], None] | None) -> None:
        self.progress, self.lock = progress, threading.Lock()
        self.done, self.of = 0.0, float(table.numpy("duration").sum())

    def heard(self, seconds: float) -> None:
        if self.progress is not None:
            with self.lock:
                self.done += seconds
                self.progress(round(self.done), round(self.of))


def _hear(table: Table, index: int, how: Lengths, told: _Progress) -> _Heard:
    """Raises OvertureError naming the row where its recording is gone, damaged or shorter than the table says."""
    row, power = table.row(index), Power(vad.RATE)

    def blocks() -> Iterator[np.ndarray]:
        start = row.get("start") or 0.0
        for block in audio.blocks(row["audio"], rate=vad.RATE, start=start, duration=row["duration"]):
            if not np.isfinite(block).all():
                raise audio.UnreadableAudio(f"{row['audio']}: it has samples that are NaN or infinite")
            power.hear(block)
            told.heard(len(block) / vad.RATE)
            yield block

    way_out = f"Import {table.name!r} again, or leave the row out with --where"
    try:
        probabilities = vad.probabilities(blocks())
    except audio.UnreadableAudio as error:
        raise OvertureError(f"row {row['id']!r}: {error}. {way_out}") from error
    seconds = power.samples / vad.RATE
    if row["duration"] - seconds > max(0.1, 0.01 * row["duration"]):
        raise OvertureError(
            f"row {row['id']!r}: {row['audio']} ends after {seconds:.2f} s, where the corpus has {row['duration']:.2f} s. {way_out}"
        )
    spans = [(a // MS, b // MS) for a, b in vad.segments(probabilities, power.samples)]
    return _Heard(power.samples // MS, sum(b - a for a, b in spans), pieces(spans, power.all(), how))


def _seconds(heard: _Heard) -> dict[str, float]:
    """How long it is, and of that: kept (in it, the pauses that were joined over), speech too short, and nobody speaking."""
    kept, short = (sum(b - a for a, b in spans) for spans in (heard.pieces.kept, heard.pieces.short))
    ms = {
        "total": heard.total,
        "kept": kept,
        "pauses": kept + short - heard.speech,
        "short": short,
        "silence": heard.total - kept - short,
    }
    return {k: v / 1000 for k, v in ms.items()}


def _named(row: Row, span: Span) -> str:
    """`ID@MS`, MS from the beginning of the file: as ids of the parent differ, and times within one, so do these."""
    return f"{row['id']}@{round(1000 * (row.get('start') or 0.0)) + span[0]}"


def _rows(
    row: Row, words: list[dict[str, object]] | None, kept: list[Span], parent: str, scores: dict[str, Any]
) -> list[Row]:
    """The rows of the pieces."""
    carried = {k: v for k, v in row.items() if k not in {*MEASURED, *OF_WORDS, *scores}}
    found: list[Row] = []
    for span in kept:
        own = carried | {
            "id": _named(row, span),
            "start": round((row.get("start") or 0.0) + span[0] / 1000, 6),
            "duration": (span[1] - span[0]) / 1000,
            "cut_from": row["id"],
            "derived_from": parent,
        }
        if words is not None:
            inside = words_within(words, span)
            text = " ".join(str(w.get("text") or w.get("word")).strip() for w in inside)
            own |= {"text": text, "words": inside or None}
        found.append(own)
    return found


def _words(row: Row) -> list[dict[str, object]] | None:
    """The words of a recording with their times, where its column `words` holds such. Raises OvertureError for one without its times."""
    value = row.get("words")
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise OvertureError(
                f"row {row['id']!r}, column 'words': not JSON ({error}). Mend it, or leave the column out"
            ) from error
    if not isinstance(value, list) or not value or not all(isinstance(w, dict) for w in value):
        return None  # a count, or words without times
    for number, word in enumerate(value, start=1):
        times = [word.get("start"), word.get("end")]
        good = all(isinstance(t, int | float) and not isinstance(t, bool) for t in times) and 0 <= times[0] <= times[1]
        if not good or not (word.get("text") or word.get("word")):
            raise OvertureError(
                f"row {row['id']!r}, column 'words', word {number}: {word} needs text, start and end, in s from the beginning of the recording. "
                "Mend it, or leave the column out"
            )
    return value
