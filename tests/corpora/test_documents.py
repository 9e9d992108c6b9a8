"""`overture data add --text`: somebody's text files."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from overture.corpora.add_text import add_text
from overture.data.table import Table
from overture.errors import OvertureError


@pytest.fixture
def here(home: Path, tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def put(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def column(name: str, *columns: str) -> list[Any]:
    table = Table.open(name)
    return (
        list(zip(*(table.numpy(c).tolist() for c in columns))) if len(columns) > 1 else table.numpy(columns[0]).tolist()
    )


def test_a_folder_of_documents(here: Path) -> None:
    put(here / "a.txt", "\ufeffHello\nthere.\n\nBye.\n")
    put(here / "deep/b.MD", "# Head\n\nA *word*\nor two.\n\n```\nx =  1\n  y\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")
    put(here / "deep/c.html", '<html lang="fr"><title>Titre</title><p>Un <b>deux</b>')
    put(here / "picture.png", b"\x89PNG")
    put(here / ".git/x.txt", "hidden")
    about = add_text("mine", here, fill={"language": "en", "licence": "CC0-1.0"})
    assert column("mine", "id", "text", "language", "title", "licence", "source") == [
        ("a.txt", "Hello there.\n\nBye.", "en", None, "CC0-1.0", "in"),
        ("deep/b.MD", "Head\n\nA word or two.\n\nx =  1\n  y\n\na\n\nb\n\n1\n\n2", "en", None, "CC0-1.0", "in"),
        ("deep/c.html", "Un deux", "fr", "Titre", "CC0-1.0", "in"),
    ]
    assert about["files"] == 3 and about["files_of_another_kind"] == 1
    with pytest.raises(OvertureError, match=r"there is a corpus 'mine' already .*--replace"):
        add_text("mine", here)


def test_what_a_document_is_in_a_plain_text_file(here: Path) -> None:
    path = put(here / "a.txt", "one\ntwo\n\n  \nthree\nfour\n")
    add_text("files", path)
    add_text("lines", path, document="line")
    add_text("paragraphs", path, document="paragraph")
    assert column("files", "id", "text") == [("a.txt", "one two\n\nthree four")]
    assert column("lines", "id", "text") == [
        ("a.txt:1", "one"),
        ("a.txt:2", "two"),
        ("a.txt:5", "three"),
        ("a.txt:6", "four"),
    ]
    assert column("paragraphs", "id", "text") == [("a.txt:1", "one two"), ("a.txt:5", "three four")]
    page = put(here / "b.html", "<p>x")
    with pytest.raises(
        OvertureError, match=r"--document line is for plain text \(\.txt \.text\), of which .*b\.html holds none"
    ):
        add_text("none", page, document="line")


ROWS = [
    {"doc_id": "x", "content": "Erster  Text\nhier", "lang": "de", "year": 1999, "code": "007"},
    {"doc_id": "y", "content": "第二", "lang": "zh", "year": 2001, "code": "12"},
]


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet", ".csv", ".tsv"])
def test_tables_with_a_column_of_texts(here: Path, ending: str) -> None:
    path = here / f"t{ending}"
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif ending == ".jsonl":
        put(path, "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n\n")
    elif ending == ".json":
        put(path, json.dumps(ROWS))
    else:
        mark = '"' if ending == ".csv" else ""
        lines = [[mark + str(v).replace("\n", "\n" if mark else " ") + mark for v in row.values()] for row in ROWS]
        put(path, "\n".join((";" if mark else "\t").join(fields) for fields in [list(ROWS[0]), *lines]))
    add_text("mine", path)
    assert column("mine", "id", "text", "language", "year", "code") == [
        ("x", "Erster Text hier", "de", 1999, "007"), ("y", "第二", "zh", 2001, "12"),
    ]  # fmt: skip


def test_columns_with_other_names_and_several_files(here: Path) -> None:
    put(here / "a.csv", "said,sha1,time\nhello,x,2024-01-01\n")
    put(here / "b.csv", "said,sha1,time\nbye,y,2025\n")
    with pytest.raises(
        OvertureError, match=r"a\.csv: no column holds text .*Its columns: said, sha1, time.*--column text=NAME"
    ):
        add_text("mine", here)
    with pytest.raises(OvertureError, match=r"no column 'sad' \(--column text=sad\).*Did you mean 'said'"):
        add_text("mine", here, columns={"text": "sad"})
    add_text("mine", here, columns={"text": "said"})
    assert column("mine", "id", "text", "given_sha1", "time") == [
        ("a.csv:2", "hello", "x", "2024-01-01"), ("b.csv:2", "bye", "y", "2025"),
    ]  # fmt: skip


def test_bad_rows_are_named_by_file_and_line(here: Path) -> None:
    path = put(
        here / "t.jsonl", '{"text": "fine"}\n{"text": \n["no"]\n{"text": ""}\n{"text": "fine too", "time": "soon"}\n'
    )
    with pytest.raises(OvertureError) as caught:
        add_text("mine", path)
    said = str(caught.value)
    assert "4 problems" in said and "--on-problem skip" in said
    for line, what in ((2, "is not JSON"), (3, "not an object"), (4, "holds no text"), (5, "'soon' is not a time")):
        assert any(f"row {line}, t.jsonl" in part and what in part for part in said.splitlines()), (line, said)
    about = add_text("mine", path, on_problem="skip")
    assert column("mine", "text") == ["fine"] and about["read"] == 5
    wide = put(here / "t.csv", 'text,label\n"two\nlines",x\nthree,fields,here\n')
    with pytest.raises(OvertureError, match=r"row 4, t\.csv: has 3 fields, the first line names 2 columns"):
        add_text("wide", wide)


def test_files_in_another_encoding_are_problems_of_their_own(here: Path) -> None:
    put(here / "a.txt", "fine")
    put(here / "b.txt", "ol\xe9\ncaf\xe9".encode("latin-1"))
    with pytest.raises(OvertureError, match=r"b\.txt, text: line 1: byte 0xe9 is not utf-8.*--encoding cp1252"):
        add_text("mine", here)
    about = add_text("mine", here, on_problem="skip")
    assert column("mine", "text") == ["fine"] and about["problems"] == {"not UTF-8": 1} and about["read"] == 2
    add_text("latin", here / "b.txt", encoding="latin-1")
    assert column("latin", "text") == ["olé café"]
    with pytest.raises(OvertureError, match=r"--encoding 'klingon' is not known"):
        add_text("other", here, encoding="klingon")


def test_paths_that_hold_no_text_or_two_kinds(here: Path) -> None:
    with pytest.raises(OvertureError, match=r"absent does not exist"):
        add_text("mine", here / "absent")
    with pytest.raises(OvertureError, match=r"no text here, of the kinds \.txt"):
        add_text("mine", here)
    put(here / "a.txt", "x")
    with pytest.raises(OvertureError, match=r"--column names columns of a table, and .* holds documents"):
        add_text("mine", here, columns={"text": "x"})
    put(here / "b.csv", "text\nx\n")
    with pytest.raises(OvertureError, match=r"holds 1 documents \(a\.txt, \.\.\.\) and 1 tables \(b\.csv"):
        add_text("mine", here)
    with pytest.raises(OvertureError, match=r"c\.parquet is not a readable Parquet file"):
        add_text("mine", put(here / "c.parquet", "no"))
