"""Fortune cookies in seven languages: quotations, jokes and proverbs by topic (`label`); `offensive` says what the packagers keep apart as such."""

import re
from collections.abc import Mapping
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package

ENCODINGS = {"ru": "koi8-r", "pl": "iso8859-2", "cs": "iso8859-2"}  # of files that are not UTF-8; else Latin-1
OVERSTRUCK = re.compile(".\x08")  # printers' bold and underlined letters
AUTHOR = re.compile(r"\n(?=\s*--\s)")  # a paragraph of its own
NOT_TEXT = ("ascii-art", "asciiart")


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """One document a cookie."""
    out: list[Row] = []
    for package in packages.values():
        language = package.name.split("-")[1] if "-" in package.name else "en"
        root = package.folder / "usr/share/games/fortunes"
        for path in sorted(root.rglob("*")):
            if not path.is_file() or path.is_symlink() or path.suffix in (".dat", ".u8") or path.name in NOT_TEXT:
                continue
            raw = path.read_bytes()
            try:
                text = raw.decode("utf8")
            except UnicodeDecodeError:
                text = raw.decode(ENCODINGS.get(language, "latin-1"))
            for number, cookie in enumerate(re.split(r"^%.*$", text, flags=re.MULTILINE)):
                if cookie.strip():
                    words = AUTHOR.sub("\n\n", OVERSTRUCK.sub("", cookie))
                    out.append(
                        {"id": f"{package.name}/{path.relative_to(root)}/{number}", "text": words, "language": language,
                         "label": path.name.removesuffix(".fortunes"), "offensive": package.name.endswith("-off"),
                         "source": package.source, "licence": "mixed, free (see the package's copyright)"}
                    )  # fmt: skip
    return Listing(rows=out)
