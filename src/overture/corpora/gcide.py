"""The Collaborative International Dictionary of English, most of it Webster's of 1913: definitions and quotations in an older, large English.

The format is dictd's: an index of (headword, where, how long), numbers in its own base 64, over one compressed text. Pronunciations and marks of
who wrote an entry are left out, and letters that are spelt out ('[ae]', "['e]") are made letters. `label` is the part of speech of its first sense.
"""

import gzip
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
SPOKEN = re.compile(r"\s*\\[^\\\n]*(?:\n[^\\\n]*)?\\|\s*\([^()\s]*\[[^()\s]*\)")  # \Ab`di*ca"tion\ and (l[.a]mz)
WRITER = re.compile(r"\s*\[[^\[\]]*(?:Webster|WordNet|PJC|JDH|AS)\b[^\[\]]*\]")
LINK = re.compile(r"[{}]")
SIGNS = {
    "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "eth": "ð", "yogh": "ȝ", "deg": "°", "sect": "§", "root": "√", "=ae": "ǣ",
    "amac": "ā", "emac": "ē", "imac": "ī", "omac": "ō", "umac": "ū", "aum": "ä", "oum": "ö", "uum": "ü",
}  # fmt: skip
LETTER = re.compile(rf"\[({'|'.join(SIGNS)}|[=`'\"^~,][A-Za-z]|[A-Za-z]\^)\]")
ACCENTS = {"=": "\u0304", "`": "\u0300", "'": "\u0301", '"': "\u0308", "^": "\u0302", "~": "\u0303", ",": "\u0327"}
BREVE = "\u0306"
PARTS = {
    "n": "noun",
    "v": "verb",
    "a": "adjective",
    "adj": "adjective",
    "adv": "adverb",
    "prep": "preposition",
    "interj": "interjection",
}
PART = re.compile(r",?\s(n|v|a|adj|adv|prep|interj)\.")


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """One document an entry; entries without more than their headword are left out as empty."""
    (package,) = packages.values()
    root = package.folder / "usr/share/dictd"
    text = gzip.decompress((root / "gcide.dict.dz").read_bytes())
    out: list[Row] = []
    for start, length, word in sorted(entries((root / "gcide.index").read_text(encoding="utf8"))):
        raw = text[start : start + length].decode("utf8", errors="replace")
        found = paragraphs(raw)
        part = PART.search(found[0][:80]) if found else None
        out.append(
            {"id": f"{start}", "text": found, "title": word, "label": PARTS[part[1]] if part else None, "language": "en",
             "source": package.source, "licence": "GPL-2+"}
        )  # fmt: skip
    return Listing(rows=out)


def entries(index: str) -> Iterator[tuple[int, int, str]]:
    """(first byte, bytes, headword) of every entry, with the first of its headwords; those of the database itself left out."""
    seen = set()
    for line in index.splitlines():
        word, start, length = line.split("\t")
        if not word.startswith("00-database") and start not in seen:
            seen.add(start)
            yield number(start), number(length), word


def number(digits: str) -> int:
    """'BA' is 64."""
    value = 0
    for digit in digits:
        value = value * 64 + DIGITS.index(digit)
    return value


def paragraphs(entry: str) -> list[str]:
    """What stands between empty lines, without pronunciations, marks and line ends."""
    entry = LETTER.sub(_letter, LINK.sub("", WRITER.sub("", SPOKEN.sub("", entry))))
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", entry) if part.strip()]


def _letter(match: re.Match[str]) -> str:
    spelt = match[1]
    if spelt in SIGNS:
        return SIGNS[spelt]
    return unicodedata.normalize("NFC", spelt[0] + BREVE if spelt[1] == "^" else spelt[1] + ACCENTS[spelt[0]])
