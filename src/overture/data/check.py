"""Examining recordings: each is decoded once and measured, and what is wrong with it becomes a record instead of a crash.

A `Problem` says where (manifest row or file, field), what, and the way out. Kinds in `STOPS` keep an example out of a corpus; kinds in
`WARNINGS` are counted and shown, and left to the judgement of whoever trains on them.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile as sf

from overture.errors import OvertureError

LIMIT = 3600.0  # s; the longest utterance taken for one unless told otherwise
RATES = (4_000, 192_000)  # Hz, the rates taken for speech or sound
SILENT = -70.0  # dBFS; below it there is nothing to hear
FLOOR = -120.0  # dBFS, the level given to digital silence
CLIPPED = 0.001  # share of samples at full scale from which a recording counts as clipped
BLOCK = 1 << 18  # frames decoded at a time, so that a long file takes no more memory than a short one

STOPS = {
    "missing file": "file does not exist",
    "outside": "path leaves the folder",
    "unreadable": "cannot be decoded",
    "empty": "0 s of audio",
    "too long": "longer than the limit",
    "bad samples": "NaN or infinite samples",
    "odd rate": "sampling rate outside 4..192 kHz",
    "segment": "start or duration outside the file",
    "duplicate id": "id used twice",
    "bad field": "a field that cannot be used",
    "bad row": "a row that cannot be parsed",
    "empty text": "a document without text",
    "not UTF-8": "text in another encoding than was said",
    "control characters": "control characters in the text",
    "too much text": "a document longer than the limit",
}
WARNINGS = {
    "no text": "no transcript",
    "clipped": "0.1 % or more of the samples at full scale",
    "silent": "below -70 dBFS",
    "stereo": "more than one channel, will be averaged",
    "undecoded": "characters that an earlier program could not decode (U+FFFD)",
    "no language": "no language",
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong with one example."""

    kind: str  # a key of STOPS or WARNINGS
    what: str  # in words, with the numbers
    way_out: str = ""
    field: str = "audio"  # the column that is wrong
    file: str = ""  # the recording, or the manifest where a row cannot be parsed
    row: int | None = None  # line of the manifest, else the number of the example from 1

    @property
    def stops(self) -> bool:
        return self.kind in STOPS

    def __str__(self) -> str:
        where = f"row {self.row}" if self.row is not None else ""
        where = ", ".join(x for x in (where, self.file, self.field) if x)
        return f"{where}: {self.what}" + (f". {self.way_out}" if self.way_out else "")


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What decoding an utterance told. Numbers are 0 (level: -120) where it could not be decoded."""

    duration: float = 0.0  # s, measured
    rate: int = 0  # Hz, of the file
    channels: int = 0
    sha1: str = ""  # of the decoded 16-bit samples
    peak: float = 0.0  # 0..1
    level: float = FLOOR  # dBFS, root mean square over all channels
    clipped: float = 0.0  # share of samples at full scale
    problems: tuple[Problem, ...] = field(default=())


def examine(path: str | Path, start: float = 0.0, duration: float | None = None, *, limit: float = LIMIT) -> Examined:
    """Decodes the utterance of `duration` s from `start` s (None: to the end of the file) once and measures it.

    Never raises for what a file holds; all that is wrong is in `problems`. `limit` in seconds.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        hint = "Check the path and which folder it is relative to."
        return Examined(problems=(Problem(kind="missing file", what=what, way_out=hint, file=str(path)),))
    try:
        with sf.SoundFile(str(path)) as file:
            return _measure(file, path, start, duration, limit)
    except (sf.LibsndfileError, OSError, RuntimeError) as error:
        what = f"cannot be decoded ({str(error).removeprefix(f'Error opening {str(path)!r}: ').strip()})"
        return Examined(problems=(_problem("unreadable", what, "Convert it to WAV or FLAC, or drop the row.", path),))


def _problem(kind: str, what: str, way_out: str, path: Path) -> Problem:
    return Problem(kind=kind, what=what, way_out=way_out, file=str(path))


def _measure(file: sf.SoundFile, path: Path, start: float, duration: float | None, limit: float) -> Examined:
    rate, channels, total = int(file.samplerate), int(file.channels), int(file.frames)
    problems: list[Problem] = []
    if not RATES[0] <= rate <= RATES[1]:
        what = f"sampling rate {rate} Hz is outside {RATES[0]}..{RATES[1]} Hz"
        problems.append(_problem("odd rate", what, "Check the header, or resample it.", path))
    first = round(start * rate)
    asked = total - first if duration is None else round(duration * rate)
    if start < 0 or (duration is not None and duration < 0) or (first > 0 and first >= total):
        what = f"the segment from {start:g} s lies outside the recording of {total / rate:g} s"
        problems.append(_problem("segment", what, "Correct its start or leave the row out.", path))
        return Examined(rate=rate, channels=channels, problems=tuple(problems))
    if asked / rate > limit:
        what = f"lasts {asked / rate:g} s, the limit is {limit:g} s"
        hint = "Cut it into utterances (columns start and duration), or raise the limit (--limit): 'overture data cut' can cut it then."
        problems.append(_problem("too long", what, hint, path))
        return Examined(duration=asked / rate, rate=rate, channels=channels, problems=tuple(problems))
    if first:
        file.seek(first)
    digest, frames, peak, energy, full, bad = hashlib.sha1(), 0, 0.0, 0.0, 0, 0
    while frames < asked:
        block = file.read(min(BLOCK, asked - frames), dtype="float32", always_2d=True)  # (N, channels)
        if len(block) == 0:
            break
        frames += len(block)
        top = float(np.abs(block).max())
        if not np.isfinite(top):
            bad += int((~np.isfinite(block)).sum())
            block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
            top = float(np.abs(block).max())
        samples = np.clip(np.rint(block * 32768.0), -32768, 32767).astype("<i2")
        digest.update(samples.tobytes())
        peak = max(peak, top)
        energy += float(np.square(block, dtype=np.float64).sum())
        if top >= 32766.5 / 32768:
            full += int(((samples == 32767) | (samples == -32768)).sum())
    if frames == 0:
        problems.append(_problem("empty", "holds 0 s of audio", "Drop the row, or record it again.", path))
    elif asked - frames > max(0.1 * rate, 0.01 * asked):
        if duration is None:
            what = f"ends after {frames / rate:.2f} s although its header says {asked / rate:.2f} s"
            problems.append(_problem("unreadable", what, "The file is cut off: copy or convert it again.", path))
        else:
            what = f"the segment ends at {start + duration:g} s, the recording at {total / rate:g} s"
            problems.append(_problem("segment", what, "Correct its duration or leave the row out.", path))
    if bad:
        what = f"{bad} samples are NaN or infinite"
        problems.append(_problem("bad samples", what, "Convert it again from its source.", path))
    level = max(FLOOR, 10 * float(np.log10(max(energy / max(frames * channels, 1), 1e-12))))
    if frames and not bad and level < SILENT:
        problems.append(_problem("silent", f"its level is {level:.0f} dBFS", "", path))
    clipped = full / max(frames * channels, 1)
    if clipped >= CLIPPED:
        problems.append(_problem("clipped", f"{100 * clipped:.1f} % of its samples are at full scale", "", path))
    if channels > 1:
        problems.append(_problem("stereo", f"has {channels} channels", "", path))
    return Examined(
        duration=frames / rate, rate=rate, channels=channels, sha1=digest.hexdigest(), peak=min(peak, 1.0), level=level,
        clipped=clipped, problems=tuple(problems),
    )  # fmt: skip


def examine_all(
    utterances: Sequence[tuple[Path, float, float | None]],
    *,
    limit: float = LIMIT,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Examined]:
    """`examine` over (path, start, duration) in a thread pool (decoding releases Python's lock); `progress(done, of)` is told."""
    found: list[Examined] = []
    with ThreadPoolExecutor(threads or min(32, os.cpu_count() or 1)) as pool:
        for result in pool.map(lambda u: examine(u[0], u[1], u[2], limit=limit), utterances):
            found.append(result)
            if progress and (len(found) % 16 == 0 or len(found) == len(utterances)):
                progress(len(found), len(utterances))
    return found


def counts(problems: Iterable[Problem]) -> dict[str, int]:
    """How many of each kind, most frequent first."""
    return dict(Counter(p.kind for p in problems).most_common())


def refuse(problems: Sequence[Problem], what: str, *, show: int = 10) -> None:
    """Raises OvertureError when any of `problems` stops: the first `show` of them, the totals by kind and how to go on."""
    stops = sorted((p for p in problems if p.stops), key=lambda p: p.row or 0)
    if not stops:
        return
    lines = [f"{what}: {len(stops)} problem{'s' * (len(stops) > 1)} (nothing was written)"]
    lines += [f"  {p}" for p in stops[:show]]
    if len(stops) > show:
        lines.append(f"  ... and {len(stops) - show} more")
    lines.append("By kind: " + ", ".join(f"{n} x {k} ({STOPS[k]})" for k, n in counts(stops).items()) + ".")
    lines.append("Mend them, or import the rest with --on-problem skip (each row left out is recorded in dropped.tsv).")
    raise OvertureError("\n".join(lines))
