"""What was said and when, as text, SRT subtitles, CTM (NIST's time-marked words, scored by `sclite`) and JSON.

Imports no torch: the command line reads its formats here.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from overture.errors import OvertureError

PARAGRAPH = 1.5  # s of pause that ends a line of text
# Of subtitles, as broadcasters set them:
LINE, LINES = 42, 2  # cells of a line (CJK characters take two), lines shown at once
LONGEST, SHORTEST = 7.0, 1.0  # s shown; the shortest only where the pause behind leaves room
READ = 17.0  # cells a second that a reader manages; shown so long where the pause behind leaves room
PAUSE = 0.6  # s of pause that ends a subtitle


@dataclass(frozen=True)
class Word:
    """One word, or one phone where the units are phones."""

    text: str
    start: float  # s from the beginning of the recording
    end: float  # s, after `start`
    confidence: float  # 0..1, geometric mean of the posteriors of its units on their frames; not calibrated


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """What is said in one recording."""

    file: Path
    seconds: float  # s, decoded
    rate: int  # Hz, of the file
    channels: int  # of the file
    channel: int | None  # the one heard, from 1; None: the average of all
    words: tuple[Word, ...]  # in order, none overlapping
    notes: tuple[str, ...] = ()  # what a person should know of the recording

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


def as_text(found: Transcript, about: Mapping[str, Any]) -> str:
    """The words, a new line after each pause of 1.5 s."""
    return "".join(" ".join(w.text for w in part) + "\n" for part in _at_pauses(found.words, PARAGRAPH)) or "\n"


def as_ctm(found: Transcript, about: Mapping[str, Any]) -> str:
    """`file channel start duration word confidence` a line; a space in the name of the file becomes '_', as fields may hold none."""
    name, channel = "_".join(found.file.stem.split()), found.channel or 1
    return "".join(
        f"{name} {channel} {w.start:.3f} {w.end - w.start:.3f} {w.text} {w.confidence:.3f}\n" for w in found.words
    )


def as_json(found: Transcript, about: Mapping[str, Any]) -> str:
    """Everything, and `about`: the model, the language model and the version that made it."""
    words = [
        {"text": w.text, "start": round(w.start, 3), "end": round(w.end, 3), "confidence": round(w.confidence, 4)}
        for w in found.words
    ]
    record = {
        "file": str(found.file),
        "seconds": round(found.seconds, 3),
        "rate": found.rate,
        "channels": found.channels,
        "channel": found.channel,
        "text": found.text,
        "words": words,
        "notes": list(found.notes),
        **about,
    }
    return json.dumps(record, ensure_ascii=False, indent=1) + "\n"


def as_srt(found: Transcript, about: Mapping[str, Any]) -> str:
    """Subtitles of at most two lines of 42 cells and 7 s, split where the speaker pauses. None overlap."""
    cues = [cue for part in _at_pauses(found.words, PAUSE) for cue in _cues(part)]
    starts = [round(1000 * words[0].start) for words, _ in cues]  # ms
    blocks = []
    for i, (words, lines) in enumerate(cues):
        wanted = max(SHORTEST, min(sum(map(_cells, lines)) / READ, LONGEST))
        spoken = max(round(1000 * words[-1].end), starts[i] + 1)
        room = starts[i + 1] if i + 1 < len(cues) else max(round(1000 * found.seconds), spoken)
        end = min(max(spoken, starts[i] + round(1000 * wanted)), max(room, starts[i] + 1))
        blocks.append(f"{i + 1}\n{_stamp(starts[i])} --> {_stamp(end)}\n" + "\n".join(lines) + "\n")
    return "\n".join(blocks)


Writer = Callable[[Transcript, Mapping[str, Any]], str]
FORMATS: dict[str, tuple[str, Writer]] = {  # name: file ending, writer
    "text": (".txt", as_text),
    "srt": (".srt", as_srt),
    "ctm": (".ctm", as_ctm),
    "json": (".json", as_json),
}


def write(found: Transcript, paths: Mapping[str, Path], about: Mapping[str, Any]) -> None:
    """Writes each format to its path, whole or not at all. Raises OvertureError when a path cannot be written."""
    for name, path in paths.items():
        part = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(FORMATS[name][1](found, about), encoding="utf8", newline="\n")
            part.replace(path)
        except OSError as error:
            if part.parent.is_dir():
                part.unlink(missing_ok=True)
            raise OvertureError(
                f"{path} cannot be written ({error}). Give another folder with --out, or make room."
            ) from error


def _at_pauses(words: Sequence[Word], pause: float) -> Iterator[Sequence[Word]]:
    """The words between pauses of `pause` s and longer."""
    begin = 0
    for i, (a, b) in enumerate(pairwise(words), start=1):
        if b.start - a.end >= pause:
            yield words[begin:i]
            begin = i
    if words:
        yield words[begin:]


def _cues(words: Sequence[Word]) -> Iterator[tuple[Sequence[Word], list[str]]]:
    """The words of each subtitle, and its lines."""
    begin = 0
    for i, word in enumerate([*words, None]):
        if word is None or _cells(word.text) > LINE:
            if begin < i:
                yield from ((part, _lines(part) or [_join(part)]) for part in _halved(words[begin:i]))
            if word is not None:  # of a script without spaces: the time of its parts is taken by their width
                pieces = _chopped(word.text)
                for j in range(0, len(pieces), LINES):
                    first, shown = sum(map(_cells, pieces[:j])), sum(map(_cells, pieces[j : j + LINES]))
                    a, b = (
                        word.start + (word.end - word.start) * n / _cells(word.text) for n in (first, first + shown)
                    )
                    yield [Word("".join(pieces[j : j + LINES]), a, b, word.confidence)], pieces[j : j + LINES]
            begin = i + 1


def _halved(words: Sequence[Word]) -> list[Sequence[Word]]:
    """`words` in parts that fit a subtitle, parted near the middle at the longest of the pauses there."""
    if len(words) == 1 or (_lines(words) and words[-1].end - words[0].start <= LONGEST):
        return [words]
    quarter = len(words) // 4
    middle = range(max(quarter, 1), min(len(words) - quarter, len(words) - 1) + 1)
    # pauses that differ by less than 50 ms are alike: the middle is then better
    at = max(middle, key=lambda i: (round((words[i].start - words[i - 1].end) * 20), -abs(2 * i - len(words))))
    return _halved(words[:at]) + _halved(words[at:])


def _lines(words: Sequence[Word]) -> list[str] | None:
    """One line, or two of about equal width; None when the words fit neither."""
    if len(words) > LINE * LINES or _cells(whole := _join(words)) > LINE * LINES + 1:
        return None
    if _cells(whole) <= LINE:
        return [whole]
    pairs = [[_join(words[:i]), _join(words[i:])] for i in range(1, len(words))]
    best = min(pairs, key=lambda pair: max(map(_cells, pair)), default=[whole])
    return best if max(map(_cells, best)) <= LINE else None


def _chopped(text: str) -> list[str]:
    """A word wider than a line in pieces of a line each; marks stay with their letters, as they take no cells."""
    pieces = [""]
    for letter in text:
        if _cells(pieces[-1] + letter) > LINE:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def _join(words: Iterable[Word]) -> str:
    return " ".join(word.text for word in words)


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _stamp(ms: int) -> str:
    """Milliseconds -> HH:MM:SS,mmm."""
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02},{ms:03}"


def clock(seconds: float) -> str:
    """3725.4 -> '1:02:05', 65 -> '1:05'."""
    whole = math.floor(seconds)
    minutes = f"{whole // 60 % 60}:{whole % 60:02}"
    return f"{whole // 3600}:{minutes:0>5}" if whole >= 3600 else minutes
