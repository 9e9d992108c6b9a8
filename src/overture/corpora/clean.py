"""Text as a corpus keeps it: Unicode NFC, paragraphs separated by one empty line, nothing in it that is not text.

Prose loses its line ends, listings (`<pre>`, fenced code, rows of kind 'code') keep them, since there they carry meaning.
"""

import re
import unicodedata
from collections.abc import Sequence

EMPTY_LINE = re.compile(r"\n[^\S\n]*\n")
# NUL to US and DEL to APC but what is white space in texts: tab, line feed, line tabulation, form feed, carriage return, next line
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
INVISIBLE = re.compile(
    "[\u00ad\ufeff]"
)  # soft hyphens and byte order marks; joiners and zero-width spaces are spelling in some languages
LINE_END = re.compile("\r\n|[\r\v\f\x85\u2028]")


def prose(text: str) -> str:
    """Running text: what stands between empty lines is a paragraph, and every run of white space in it one space."""
    text = re.sub("\u2029", "\n\n", LINE_END.sub("\n", _nfc(text)))
    return "\n\n".join(" ".join(part.split()) for part in EMPTY_LINE.split(text) if part.strip())


def paragraphs(parts: Sequence[str]) -> str:
    """A document whose paragraphs are known. One that holds line ends keeps them (and its indents), without empty lines."""
    found = []
    for part in parts:
        lines = [line.rstrip() for line in LINE_END.sub("\n", _nfc(part)).replace("\u2029", "\n").split("\n")]
        lines = [line for line in lines if line]
        found.append("\n".join(lines) if len(lines) > 1 else " ".join(" ".join(lines).split()))
    return "\n\n".join(part for part in found if part)


def spans(parts: Sequence[str], of_each: Sequence[Sequence[tuple[int, int, str]]]) -> list[dict[str, int | str]]:
    """Spans (first character, one beyond the last, label) of each part, where they are in `paragraphs(parts)`: {start, end, label}."""
    found: list[dict[str, int | str]] = []
    base = 0
    for part, own in zip(parts, of_each):
        size = len(paragraphs([part]))
        for first, last, label in own:
            start = base + len(_nfc(part[:first]))
            found.append({"start": start, "end": start + len(_nfc(part[first:last])), "label": label})
        base += size + 2 if size else 0
    return found


def code(text: str) -> str:
    """A program: as it stands, with line feeds for line ends."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def control_character(text: str) -> str | None:
    """The first control character in `text` and where it is, in words; None where there is none."""
    found = CONTROL.search(text)
    if found is None:
        return None
    line = text.count("\n", 0, found.start()) + 1
    return f"U+{ord(found[0]):04X} in line {line}, character {found.start() - text.rfind(chr(10), 0, found.start())}"


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", INVISIBLE.sub("", text))
