"""Changelogs: what was changed in well-known programs and when, 1987 to today; terse technical English, one document an entry, with its `time`.

Three forms: Debian's ('pkg (version) ...' to ' -- who  date'), GNU's ('2003-05-17  Who  <mail>') and git's ('commit ...'). Lines that only say who
made or reported a change are left out; names and addresses within the text are not.
"""

import gzip
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package

DEBIAN = re.compile(r"^ -- .*?>  (?:\w{3}, +)?(\d{1,2} \w{3} \d{4} [\d:]+ [+-]\d{4}).*$", re.MULTILINE)
VERSION = re.compile(r"^\S+ \(([^)]+)\)[^\n]*\n")
GNU = re.compile(r"^(\d{4}-\d{2}-\d{2})[ \t]+\S.*$", re.MULTILINE)
GIT = re.compile(r"^commit [0-9a-f]{40}\n(?:\w+: .*\n)*?Date: +(?:\w{3} )?(.*)\n(?:\w+: .*\n)*", re.MULTILINE)
ITEM = re.compile(r"\s*(?:[*+-]\s+|\[.*\]$)")
WHO = re.compile(
    r"\s*(?:[A-Z][\w-]*-[Bb]y|Cc|git-svn-id|[\w-]*-I[Dd]):? "
)  # 'Signed-off-by: Who <mail>', 'Change-Id: ...'
FIRST = 1980  # years before it, and those to come, are typing errors


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """Every entry of every changelog of the packages."""
    out: list[Row] = []
    misdated = 0
    for package in packages.values():
        for path in sorted((package.folder / "usr/share/doc" / package.name).glob("changelog*.gz")):
            text = gzip.decompress(path.read_bytes()).decode("utf8", errors="replace")
            form = path.name.removesuffix(".gz")
            for number, (day, version, body) in enumerate(entries(text)):
                if day is None or not FIRST <= day.year <= datetime.now(UTC).year:
                    misdated += 1
                    continue
                out.append(
                    {"id": f"{package.name}/{form}/{number}", "text": paragraphs(body), "time": day.isoformat(), "label": package.name,
                     "version": version, "language": "en", "source": package.source, "licence": "as the package (Debian main: free)"}
                )  # fmt: skip
    return Listing(rows=out, notes={"entries_with_an_impossible_date": misdated})


def entries(text: str) -> Iterator[tuple[date | None, str | None, str]]:
    """(day, version, body) of every entry, in whichever form it has most of; the day is None where it cannot be."""
    found = {form: list(form.finditer(text)) for form in (DEBIAN, GNU, GIT)}
    form = max(found, key=lambda form: len(found[form]))
    if form is DEBIAN:
        begins = 0
        for match in found[form]:
            body = text[begins : match.start()].strip("\n")
            head = VERSION.match(body)
            yield _day(match[1]), head[1] if head else None, body[head.end() if head else 0 :]
            begins = match.end()
    else:
        ends = [match.start() for match in found[form][1:]] + [len(text)]
        for match, end in zip(found[form], ends, strict=False):
            body = text[match.end() : end]
            if form is GIT:  # the message is indented by four, unlike the list of files that may follow
                body = "\n".join(line[4:] for line in body.splitlines() if line.startswith("    ") or not line.strip())
            yield _day(match[1]), None, body


def _day(words: str) -> date | None:
    try:
        return date.fromisoformat(words) if GNU.fullmatch(f"{words} x") else _parsed(words)
    except ValueError:
        return None


def _parsed(words: str) -> date:
    """Of '17 May 2003 10:00:00 +0200', or git's 'May 17 10:00:00 2003 +0200'."""
    if words[:1].isdigit():
        return parsedate_to_datetime(words).date()
    return datetime.strptime(words.strip(), "%b %d %H:%M:%S %Y %z").date()


def paragraphs(body: str) -> list[str]:
    """Every item of a list and every block of lines without an empty one between."""
    found: list[list[str]] = [[]]
    for line in body.splitlines():
        if WHO.match(line):
            continue
        item = ITEM.match(line)
        if not line.strip():
            found.append([])
        elif item:
            found.append([line[item.end() :].strip()])
        else:
            found[-1].append(line.strip())
    return [" ".join(lines) for lines in found if any(lines)]
