"""Text as a corpus keeps it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overture.corpora import clean


def test_prose_keeps_paragraphs_and_nothing_else_of_its_lines() -> None:
    assert clean.prose("One line\nand  another.\r\n \t\r\nSecond\tparagraph\n\n\n\nThird ") == (
        "One line and another.\n\nSecond paragraph\n\nThird"
    )
    assert clean.prose("old\rMac\r\rtext") == "old Mac\n\ntext"
    assert (
        clean.prose("a\u2029b\u2028c\x0cd\x85e") == "a\n\nb c d e"
    )  # paragraph and line separators, form feed, next line
    assert clean.prose(" \n\n ") == ""


def test_known_paragraphs_keep_line_ends_where_they_have_them() -> None:
    assert clean.paragraphs(["A  heading", "def f():\n    return 1\n\n    # end", " ", "one\n", "x\r\n  y "]) == (
        "A heading\n\ndef f():\n    return 1\n    # end\n\none\n\nx\n  y"
    )


def test_code_stays_as_it_is() -> None:
    program = "\ufeffif x:\r\n\tpass\r\n\r\n\r\n# e\u0301 \u00ad\n"
    assert clean.code(program) == "if x:\n\tpass\n\n\n# e\u0301 \u00ad\n"


def test_unicode() -> None:
    assert clean.prose("e\u0301cole \u0644\u200c\u0645 soft\u00adhyphen \ufeffmark \U0001f600") == (
        "école \u0644\u200c\u0645 softhyphen mark \U0001f600"  # a joiner is spelling, a soft hyphen is not
    )
    assert clean.prose("日本\u3000語") == "日本 語"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a\x00b", "U+0000 in line 1, character 2"),
        ("one\ntwo\x1b[1m", "U+001B in line 2, character 4"),
        ("a \x96 b", "U+0096 in line 1, character 3"),
        ("tab\t, feed\x0c, next line\x85, return\r\n", None),
    ],
)
def test_control_characters_are_found_with_their_place(text: str, found: str | None) -> None:
    assert clean.control_character(text) == found


@given(st.text())
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    once = clean.prose(text)
    assert clean.prose(once) == once == unicodedata.normalize("NFC", once)
    assert clean.paragraphs(once.split("\n\n")) == once
    assert "\n\n\n" not in once and not once[:1].isspace() and not once[-1:].isspace()


def test_spans_of_paragraphs_are_found_in_the_document() -> None:
    parts = ["cafe\u0301 is e\u0301tat", "  ", "soft\u00adly said", "last"]
    document = clean.paragraphs(parts)
    found = clean.spans(parts, [[(0, 5, "a"), (9, 14, "b")], [], [(0, 7, "c")], [(0, 4, "d")]])
    assert [(document[s["start"] : s["end"]], s["label"]) for s in found] == [
        ("caf\u00e9", "a"),
        ("\u00e9tat", "b"),
        ("softly", "c"),
        ("last", "d"),
    ]
