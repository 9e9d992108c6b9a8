"""Descriptions of all Debian packages: a line and some paragraphs each, labelled with one of some sixty sections; short technical English.

From the lists that apt keeps: *_Packages has a record a package (name, version, section, tags, md5 of its description), *_Translation-en the
descriptions by that md5, as Debian's policy (5.6.13) writes them: lines begin with a space, ' .' is an empty line, more space a list or a listing.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.packages import LISTS, Package, read_list

ITEM = re.compile(r" +(?:[*+o•–-]|\d+[.)]) +(.*)")


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """One document a package, of the first list that has it."""
    lists = packages[LISTS]
    described: dict[str, str] = {}
    for path in sorted(lists.folder.glob("*_Translation-en*")):
        for record in records(read_list(path)):
            described.setdefault(record["Description-md5"], record["Description-en"])
    out: dict[str, Row] = {}
    undescribed = 0
    for path in sorted(lists.folder.glob("*_Packages*")):
        for record in records(read_list(path)):
            name = record["Package"]
            if name in out:
                continue
            words = described.get(record.get("Description-md5", ""), record.get("Description", ""))
            undescribed += "\n" not in words
            title, _, body = words.partition("\n")
            out[name] = {
                "id": name, "title": title, "text": [title, *paragraphs(body)], "language": "en",
                "label": record.get("Section", "").rpartition("/")[2] or None, "tags": " ".join(record.get("Tag", "").split()) or None,
                "source": f"Debian package lists {lists.version}", "licence": "as the package (Debian main: free)",
            }  # fmt: skip
    return Listing(rows=list(out.values()), notes={"packages_without_a_long_description": undescribed})


def records(text: str) -> Iterator[dict[str, str]]:
    """The records of a list: fields by name, further lines of a field after a line feed as they stand."""
    for block in text.split("\n\n"):
        record: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line[:1] in (" ", "\t"):
                record[name] += "\n" + line
            elif ":" in line:
                name, _, value = line.partition(":")
                record[name] = value.strip()
        if record:
            yield record


def paragraphs(body: str) -> list[str]:
    """A long description: what stands between ' .' is a paragraph, and so is every item of a list and what follows it less far to the right."""
    found: list[list[str]] = [[]]
    margin = 0
    for line in body.splitlines():
        item = ITEM.fullmatch(line)
        indent = len(line) - len(line.lstrip())
        if line.strip() == ".":
            found.append([])
            margin = 0
        elif item and (indent > 1 or line[1:2] in "*+o•-"):
            found.append([item[1]])
            margin = indent
        elif indent < margin:
            found.append([line.strip()])
            margin = 0
        else:
            found[-1].append(line.strip())
    return [" ".join(lines) for lines in found if lines]
