"""The documentation of Python: long pages of technical English with listings; `label` is the part (library, tutorial, howto, ...).

`spans` says which words of the paragraphs its authors marked as names, and of what: func, meth, class, mod, exc, attr, const, ...; in listings
nothing is marked.
"""

from collections.abc import Mapping
from pathlib import Path

from overture.corpora import clean, html
from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package

LISTS = ("genindex", "py-modindex", "search", "contents", "download", "index")  # pages of links


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """One document a page."""
    (package,) = packages.values()
    root = package.folder / "usr/share/doc" / package.name.removesuffix("-doc") / "html"
    out: list[Row] = []
    left_out = 0
    for path in sorted(root.rglob("*.html")):
        name = path.relative_to(root).with_suffix("").as_posix()
        if name.partition("-")[0] in LISTS or name in LISTS or name.startswith("_"):
            left_out += 1
            continue
        page = html.read(path.read_text(encoding="utf8"), skip, role)
        out.append(
            {"id": name, "text": page.paragraphs, "title": page.title.partition(" — Python ")[0], "language": "en",
             "label": name.partition("/")[0] if "/" in name else "other", "source": package.source, "licence": "PSF-2.0",
             "spans": clean.spans(page.paragraphs, page.spans)}
        )  # fmt: skip
    return Listing(rows=out, notes={"pages_of_links_left_out": left_out})


def skip(tag: str, attributes: html.Attributes) -> bool:
    """Beside the usual: the sign that links to a heading, and the toctree, a table of contents."""
    return bool({"headerlink", "toctree-wrapper"} & set(attributes.get("class", "").split())) or html.skip_usual(
        tag, attributes
    )


def role(tag: str, attributes: html.Attributes) -> str | None:
    """What Sphinx was told that a name is of: of `xref py py-func` it is func."""
    classes = attributes.get("class", "").split()
    if tag != "code" or "xref" not in classes:
        return None
    return next((c.partition("-")[2] for c in classes if c.partition("-")[0] in ("py", "c", "std") and "-" in c), None)
