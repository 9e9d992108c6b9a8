"""The Bible in three versions: King James (old English), World English Bible (of today), Reina-Valera 1909 (Spanish). One document a chapter.

`chapter` (Gen.1) is the same in all, so chapters are parallel; `segments` holds where each verse ends (characters of `text`), so verses are, too,
where versions count them alike. King James and World English mark paragraphs; Reina-Valera does not, and there each verse is one.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from overture.corpora import clean
from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package
from overture.errors import OvertureError

LANGUAGES = {"sword-text-kjv": "en", "sword-text-web": "en", "sword-text-sparv": "es"}
LEFT_OUT = re.compile(r"<note\b.*?</note>|<title\b(?![^>]*canonical).*?</title>", re.DOTALL)
PARAGRAPH = re.compile(r'<(?:div|lb)\b[^>]*type="x-p"[^>]*>|<lg\b[^>]*>|<title\b[^>]*>|</title>|<p\b[^>]*>|</p>|¶')
BEGINS = re.compile(r'<div\b[^>]*sID[^>]*type="x-p"|<lb\b[^>]*type="x-p"|<p\b|¶')
BEFORE_POINTS = re.compile(r" +(?=[,.;:!?)\]’”])")


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """Every chapter that a version has; books of the second canon are in the World English Bible alone."""
    out: list[Row] = []
    empty = 0
    for package in packages.values():
        for book, chapter, verses in chapters(package):
            text, ends = joined(verses)
            if not text:
                empty += 1
                continue
            version = package.name.removeprefix("sword-text-")
            out.append(
                {"id": f"{version}/{book}.{chapter}", "text": text.split("\n\n"), "segments": ends, "chapter": f"{book}.{chapter}", "label": book,
                 "version": version, "language": LANGUAGES[package.name], "source": package.source, "licence": "public domain"}
            )  # fmt: skip
    return Listing(rows=out, notes={"chapters_that_a_version_lacks": empty})


def chapters(package: Package) -> Iterator[tuple[str, int, list[str]]]:
    """(book, chapter, marked-up verses), in the order of the version's canon; a chapter that is not in it has empty verses."""
    from pysword.modules import SwordModules

    modules = SwordModules(str(package.folder / "usr/share/sword"))
    found = modules.parse_modules()
    if len(found) != 1:
        raise OvertureError(f"{package.source} holds {len(found)} texts, where one was expected.")
    bible: Any = modules.get_bible_from_module(next(iter(found)))
    # else the whole book is decompressed for every verse
    bible._decompressed_text = lru_cache(maxsize=2)(bible._decompressed_text)
    for books in bible.get_structure().get_books().values():
        for book in books:
            for chapter, count in enumerate(book.chapter_lengths, start=1):
                verses = []
                for verse in range(1, count + 1):
                    verses.append(bible.get(books=[book.name], chapters=[chapter], verses=[verse], clean=False))
                yield book.osis_name, chapter, verses


def joined(verses: list[str]) -> tuple[str, list[int]]:
    """(text, where in it each verse ends) of OSIS verses, without notes and the editor's titles; a verse that is missing ends where it begins."""
    marked = any(
        BEGINS.search(verse) for verse in verses
    )  # a version without paragraphs still marks where the chapter ends
    text, ends = "", []
    for verse in verses:
        verse = LEFT_OUT.sub(" ", verse)  # a note may be all that stands between two words
        parts = [re.sub(r"<[^>]*>", "", part) for part in PARAGRAPH.split(verse)]
        if not marked:
            parts.insert(0, "")
        for number, part in enumerate(parts):
            words = BEFORE_POINTS.sub("", clean.prose(part))
            if words:
                begins_paragraph = number > 0 or text.endswith("\n\n")
                text = text.rstrip("\n") + ("\n\n" if begins_paragraph and text else " " if text else "") + words
            elif number > 0 and text:
                text = text.rstrip("\n") + "\n\n"
        ends.append(len(text.rstrip("\n")))
    return text.rstrip("\n"), ends
