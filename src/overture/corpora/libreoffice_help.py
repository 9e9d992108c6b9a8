"""The help of LibreOffice: 2,500 pages of instructions, the same in every language (column `page`), by program (`label`)."""

from collections.abc import Mapping
from pathlib import Path

from overture.corpora import html
from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package

PROGRAMS = {
    "shared": "all", "swriter": "writer", "scalc": "calc", "simpress": "impress", "sdraw": "draw", "smath": "math", "sbasic": "basic",
    "schart": "chart", "sdatabase": "base",
}  # fmt: skip


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """One document a page; pages that only redirect or list links hold no text and are left out."""
    (package,) = packages.values()
    (root,) = (
        path.parent for path in (package.folder / "usr/share/libreoffice/help").glob("*/text")
    )  # beside it: media
    out: list[Row] = []
    for path in sorted((root / "text").rglob("*.html")):
        page = html.read(path.read_text(encoding="utf8"), skip)
        name = path.relative_to(root / "text").with_suffix("").as_posix()
        out.append(
            {"id": name, "text": page.paragraphs, "title": page.title, "language": page.language, "page": name,
             "label": PROGRAMS.get(name.partition("/")[0], name.partition("/")[0]), "source": package.source, "licence": "MPL-2.0"}
        )  # fmt: skip
    return Listing(rows=out)


def skip(tag: str, attributes: html.Attributes) -> bool:
    """Links to other pages, and of words that differ by system those that are not the default (the page's script shows one of them)."""
    if attributes.get("class") in ("relatedtopics", "howtoget"):
        return True
    if "hidden" in attributes:
        return not attributes.get("id", "").startswith("default")
    return html.skip_usual(tag, attributes)
