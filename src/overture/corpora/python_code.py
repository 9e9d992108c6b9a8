"""Programs in Python as they stand (`kind` 'code', lines kept): the standard library and its tests, and libraries of many hands and three decades."""

import tokenize
from collections.abc import Mapping
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package

LICENCES = {
    "libpython3.11-minimal": "PSF-2.0", "libpython3.11-stdlib": "PSF-2.0", "libpython3.11-testsuite": "PSF-2.0", "mercurial-common": "GPL-2+",
    "python3-breezy": "GPL-2+", "python3-django": "BSD-3-Clause", "python3-nltk": "Apache-2.0", "python3-reportlab": "BSD-3-Clause",
    "python3-sympy": "BSD-3-Clause", "python3-twisted": "MIT",
}  # fmt: skip


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """One document a module; `label` is the package it comes from."""
    out: list[Row] = []
    empty = 0
    broken: list[str] = []
    for package in packages.values():
        root = package.folder / "usr/lib"
        for path in sorted(root.rglob("*.py")):
            if path.is_symlink():  # to another module here, or into a package that was not asked for
                continue
            name = path.relative_to(root).as_posix()
            try:
                with tokenize.open(path) as file:  # reads the encoding that a module declares
                    text = file.read()
            except (
                SyntaxError,
                UnicodeDecodeError,
            ) as error:  # tests of Python hold modules that are broken on purpose
                broken.append(f"{name}: {error}")
                continue
            if not text.strip():
                empty += 1
                continue
            out.append(
                {"id": name, "text": text, "kind": "code", "label": package.name, "language": "en",
                 "source": package.source, "licence": LICENCES[package.name]}
            )  # fmt: skip
    return Listing(rows=out, notes={"modules_without_a_line": empty, "modules_that_cannot_be_read": broken})
