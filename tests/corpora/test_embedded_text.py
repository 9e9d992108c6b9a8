"""The embedded corpus of text: small, whole, balanced, and of texts that may be passed on."""

import ast
import hashlib
from datetime import date

import numpy as np
import pytest

from overture.corpora.make_embedded_text import FOLDER
from overture.data.spans import read
from overture.data.split import split
from overture.data.table import TEXT_COLUMNS, Table, about_corpus

DOMAINS = {  # labels, documents
    "scripture": (5, 300),
    "biomedicine": (3, 360),
    "changelog": (4, 400),
    "help page": (4, 360),
    "manual": (2, 80),
    "code": (2, 180),
}
MAY_BE_PASSED_ON = {"public domain", "CC-BY-4.0", "MIT", "MIT (Keith Packard)", "libtiff", "MPL-2.0", "PSF-2.0"}


@pytest.fixture(scope="module")
def table() -> Table:
    return Table.open("embedded-text")


def test_it_is_small_and_says_what_it_is(table: Table) -> None:
    assert (FOLDER / "table.parquet").stat().st_size < 1.5e6
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) < 1.6e6
    about = about_corpus(FOLDER)
    assert about["name"] == table.name == "embedded-text" and about["rows"] == len(table) == sum(
        n for _, n in DOMAINS.values()
    )
    assert about["characters"] == table.characters == sum(map(len, table.numpy("text")))
    assert table.is_text and table.columns.schema.names[: len(TEXT_COLUMNS)] == list(TEXT_COLUMNS)


def test_labels_are_balanced_within_each_domain(table: Table) -> None:
    for domain, (labels, documents) in DOMAINS.items():
        some = table.where(f"domain = '{domain}'")
        counts = np.unique(some.numpy("label"), return_counts=True)[1]
        assert len(some) == documents and len(counts) == labels, domain
        assert counts.min() == counts.max(), (domain, counts)
    languages = {
        r["language"]: r["n"] for r in table.sql("SELECT language, count(*) AS n FROM rows GROUP BY 1").to_pylist()
    }
    assert languages == {"en": 1340, "es": 220, "de": 120}


def test_every_text_is_whole_and_told_apart(table: Table) -> None:
    texts = table.numpy("text").tolist()
    assert len(set(table.numpy("id"))) == len(set(texts)) == len(table)
    assert [hashlib.sha1(t.encode()).hexdigest() for t in texts] == table.numpy("sha1").tolist()
    assert min(map(len, texts)) >= 80 and max(map(len, texts)) < 15_000
    prose = table.where("kind != 'code'").numpy("text")
    assert not any("\n\n\n" in t or t != t.strip() for t in prose)
    assert (
        np.mean(["\n\n" in t for t in table.where("domain IN ('scripture', 'help page', 'manual')").numpy("text")])
        > 0.95
    )


def test_licences(table: Table) -> None:
    assert set(table.numpy("licence")) == MAY_BE_PASSED_ON
    assert all(table.numpy("source"))
    said = (FOLDER / "LICENCES/README.md").read_text(encoding="utf8")
    for domain in DOMAINS:
        assert domain in said
    packages = {s.split()[0] for s in table.where("domain IN ('scripture', 'changelog')").numpy("source")}
    for package in [*packages, "libreoffice-help-es", "python3.11-doc"]:
        assert (FOLDER / f"LICENCES/{package}.copyright").stat().st_size > 400, package
    assert not any("@" in t for t in table.where("domain = 'changelog'").numpy("text"))  # nobody's address


def test_what_its_columns_promise(table: Table) -> None:
    changes = table.where("domain = 'changelog'")
    years = [date.fromisoformat(t).year for t in changes.numpy("time")]
    assert min(years) >= 1999 and max(years) <= 2026 and max(years) - min(years) > 15
    assert table.where("domain != 'changelog'").columns.column("time").null_count == len(table) - len(changes)
    groups = table.sql(
        "SELECT domain, parallel, count(*) AS n, count(DISTINCT language) AS k FROM rows WHERE parallel IS NOT NULL GROUP BY ALL"
    ).to_pylist()
    assert {(g["domain"], g["n"], g["k"]) for g in groups} == {("scripture", 3, 2), ("help page", 3, 3)} and len(
        groups
    ) == 100 + 120
    for program in table.where("kind = 'code'").numpy("text"):
        ast.parse(program)


def test_the_names_in_the_manual_are_marked(table: Table) -> None:
    manual = table.where("spans IS NOT NULL")
    assert set(manual.numpy("domain")) == {"manual"} and len(manual) == 80
    marked = [(t[s.start : s.end], s.label) for t, own in zip(manual.numpy("text"), read(manual, "spans")) for s in own]
    assert len(marked) == 1863 and all(text.strip() == text for text, _ in marked)
    assert {"func", "class", "meth", "mod", "exc"} <= {label for _, label in marked}


def test_it_can_be_divided_and_learnt_from(table: Table) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    for domain, chance in (("changelog", 1 / 4), ("help page", 1 / 4), ("biomedicine", 1 / 3)):
        some = table.where(f"domain = '{domain}' AND language = 'en'")
        parts = split(some, {"train": 0.7, "test": 0.3}, by="text", stratify="label")
        train, test = (parts.table(some, part) for part in ("train", "test"))
        model = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=10))
        model.fit(train.numpy("text"), train.numpy("label"))
        assert chance + 0.2 < np.mean(model.predict(test.numpy("text")) == test.numpy("label")), domain
