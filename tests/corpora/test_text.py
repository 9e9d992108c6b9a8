"""From rows to a corpus of text: nothing is lost without a word, and nothing is left of an import that failed."""

import csv
import hashlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overture.corpora.build import Listing, Row
from overture.corpora.text import LONGEST, as_read, build_text
from overture.data.check import Problem
from overture.data.table import TEXT_COLUMNS, Table
from overture.errors import OvertureError


def build(rows: list[Row], **options: Any) -> dict[str, Any]:
    return build_text("mine", lambda folder: Listing(rows=[dict(row) for row in rows]), **options)


def dropped(home: Path) -> list[dict[str, str]]:
    with (home / "corpora/mine/dropped.tsv").open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_a_corpus_of_text(home: Path) -> None:
    rows = [
        {
            "id": "a",
            "text": "One\nline.\n\nTwo.",
            "language": "en",
            "time": date(2024, 12, 31),
            "label": "x",
            "scores": [1, 2],
        },
        {"text": ["Known", "def f():\n    pass"], "language": "es", "time": "1999", "licence": "CC0-1.0"},
        {"id": 7, "text": "x = 1\n\n\n", "kind": "code"},
    ]
    about = build(rows)
    table = Table.open("mine")
    assert table.is_text and table.columns.schema.names[: len(TEXT_COLUMNS)] == list(TEXT_COLUMNS)
    assert table.numpy("text").tolist() == ["One line.\n\nTwo.", "Known\n\ndef f():\n    pass", "x = 1\n\n\n"]
    assert table.numpy("id").tolist() == ["a", "2", "7"] and table.numpy("time").tolist() == [
        "2024-12-31",
        "1999",
        None,
    ]
    assert table.numpy("length").tolist() == [15, 24, 8] and table.characters == about["characters"] == 47
    assert table.numpy("sha1")[0] == hashlib.sha1(b"One line.\n\nTwo.").hexdigest()
    assert table.row(0)["scores"] == [1, 2]
    assert about["licences"] == {"not stated": 2, "CC0-1.0": 1} and about["warnings"] == {"no language": 1}
    assert (about["kind"], about["read"], about["rows"]) == ("text", 3, 3)
    with pytest.raises(OvertureError, match=r"47 characters and no hours"):
        _ = table.hours
    assert not (home / "corpora/mine/dropped.tsv").exists()


def test_spans_stay_spans(home: Path) -> None:
    own = [{"start": 0, "end": 2, "label": "x"}]
    build([{"text": "ab", "spans": own, "odd": own}, {"text": "cd", "spans": [], "odd": [{"start": 0}]}, {"text": "e"}])
    table = Table.open("mine")
    assert table.columns.column("spans").to_pylist() == [own, [], None]
    assert json.loads(table.columns.column("odd")[1].as_py()) == [{"start": 0}]
    assert len(table.where("len(spans) > 0 AND spans[1].label = 'x'")) == 1


def test_equal_texts_are_taken_once_and_another_label_is_told(home: Path) -> None:
    rows = [
        {"id": "a", "text": "e\u0301t\u00e9  one", "label": "x"},
        {"id": "b", "text": "été\none", "label": "x"},  # the same in NFC and without its line end
        {"id": "c", "text": "été one", "label": "y"},
        {"id": "d", "text": "Été one", "label": "x"},  # another case is another text
    ]
    about = build(rows)
    assert Table.open("mine").numpy("id").tolist() == ["a", "d"]
    assert about["duplicates_dropped"] == 2 and about["duplicates_with_another_label"] == 1 and about["read"] == 4
    assert [(r["row"], r["id"], r["kind"], r["what"]) for r in dropped(home)] == [
        ("2", "b", "duplicate", "the same text as a"),
        ("3", "c", "duplicate", "the same text as a, whose label is another"),
    ]


BAD: list[tuple[Row, str, str]] = [
    ({"text": None}, "empty text", r"holds no text"),
    ({"text": " \n\n\u00ad "}, "empty text", r"holds no text"),
    ({"text": 5}, "bad field", r"text: is int '5', not text"),
    ({"text": ["a", 5]}, "bad field", r"is list"),
    ({"text": "a\x00b"}, "control characters", r"U\+0000 in line 1, character 2.*--encoding"),
    ({"text": "half \ud83d of one"}, "not UTF-8", r"half a character, U\+D83D"),
    (
        {"text": "fine", "time": "31.12.2024"},
        "bad field",
        r"time: '31\.12\.2024' is not a time as ISO 8601.*--column given_time=time",
    ),
    ({"text": "fine", "time": "2024-02-30"}, "bad field", r"'2024-02-30' is not a time"),
    ({"text": "fine", "id": "good"}, "duplicate id", r"'good' is also the id of row 1"),
    (
        {"text": "two  spaces", "spans": [{"start": 5, "end": 11, "label": "x"}]},
        "bad field",
        r"spans: its spans count characters of a text that is kept with other white space.*kind to 'code'",
    ),
    ({"text": "x" * (LONGEST + 1)}, "too much text", r"20,000,001 characters, the limit is 20,000,000"),
]


@pytest.mark.parametrize(("row", "kind", "message"), BAD, ids=[f"{i}-{kind}" for i, (_, kind, _) in enumerate(BAD)])
def test_bad_rows_are_named_or_left_out_on_the_record(home: Path, row: Row, kind: str, message: str) -> None:
    rows = [{"id": "good", "text": "A good one."}, {"id": "bad", "_row": 12, "_file": "x.csv", **row}]
    with pytest.raises(OvertureError, match=rf"(?s)cannot import: 1 problem .*row 12, x\.csv, .*{message}"):
        build(rows)
    assert list((home / "corpora").iterdir()) == []
    about = build(rows, on_problem="skip")
    assert about["problems"] == {kind: 1} and about["read"] == 2 and about["rows"] == 1
    (record,) = dropped(home)
    assert (record["row"], record["file"], record["kind"]) == ("12", "x.csv", kind)


@pytest.mark.parametrize(
    "when", ["1999", "1999-12", "1999-12-31", "1999-12-31T23:59", "1999-12-31 23:59:59.5+01:00", "1999-12-31T23:59:59Z"]
)
def test_times_as_iso_8601_has_them(home: Path, when: str) -> None:
    build([{"text": "x", "time": when}, {"text": "y", "time": ""}])
    assert Table.open("mine").numpy("time").tolist() == [when, None]


def test_what_the_importer_left_out_is_counted_too(home: Path) -> None:
    lost = Problem(kind="bad row", what="is not JSON", file="x.jsonl", row=3)
    listing = Listing(
        rows=[{"text": "kept"}], problems=[lost], dropped=[({"id": "z", "_row": 9}, "not wanted", "says the importer")]
    )
    with pytest.raises(OvertureError, match=r"row 3, x\.jsonl.*is not JSON"):
        build_text("mine", lambda folder: listing)
    about = build_text("mine", lambda folder: listing, on_problem="skip")
    assert (about["read"], about["rows"]) == (3, 1)
    assert [(r["row"], r["kind"]) for r in dropped(home)] == [("9", "not wanted"), ("3", "bad row")]


def test_nothing_to_import(home: Path) -> None:
    with pytest.raises(OvertureError, match="no text was found"):
        build([])
    with pytest.raises(OvertureError, match=r"(?s)no document is left.*holds no text"):
        build([{"text": ""}], on_problem="skip")
    assert list((home / "corpora").iterdir()) == []
    for name in ("embedded-text", "a/b"):
        with pytest.raises(OvertureError, match="cannot name a corpus"):
            build_text(name, lambda folder: Listing(rows=[{"text": "x"}]))


WORDS = st.text(alphabet="ab \n\t\x00é", max_size=6)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.none(), WORDS, st.lists(WORDS, max_size=3)), min_size=1, max_size=12))
def test_count_in_is_count_out(home: Path, texts: list[Any]) -> None:
    rows = [{"id": str(i % 7), "text": text} for i, text in enumerate([*texts, "one that is good"])]
    about = build(rows, on_problem="skip", replace=True)
    record = dropped(home) if (home / "corpora/mine/dropped.tsv").exists() else []
    assert about["read"] == len(rows) == about["rows"] + len(record)
    assert about["rows"] == len(Table.open("mine"))
    assert sum(about["problems"].values()) + about["duplicates_dropped"] == len(record)
    assert json.loads((home / "corpora/mine/corpus.json").read_text()) == about


def test_rows_written_again_are_the_same(home: Path) -> None:
    texts = ["Prose.\n\nMore.", ["Head", "x:\n    y\n    z", "Tail"], "a b"]
    build([{"text": text} for text in texts] + [{"text": "if x:\n\n\n    y\n", "kind": "code"}])
    table = Table.open("mine")
    build_text("again", lambda folder: Listing(rows=[as_read(table.row(i)) for i in range(len(table))]))
    again = Table.open("again")
    for column in TEXT_COLUMNS:
        assert again.numpy(column).tolist() == table.numpy(column).tolist()
