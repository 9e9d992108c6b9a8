"""Units of any script: round trips, words, what they refuse, JSON."""

import json
import unicodedata
from importlib.util import find_spec

import pytest

from overture.config import fingerprint, to_dict
from overture.errors import MissingExtra, OvertureError
from overture.recognise.units import Characters, Phones, Pieces, make_units, normalise, phonemise, read_units

TEXTS = ["Привет, мир", "नमस्ते दुनिया", "It's a test", "the other test is the best of the rest", "dobrý den"]
PHONES = Phones(("a", "b", "oʊ", "ɜː"), "en-us")
with_espeak = pytest.mark.skipif(
    find_spec("phonemizer") is None or find_spec("espeakng_loader") is None, reason="needs the extra 'phones'"
)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  Hello,\tWORLD!  It’s well-known. ", "hello world it's well known"),
        ("Cafe\u0301 Stra\u00dfe", "caf\u00e9 stra\u00dfe"),  # NFC
        ("ÇA VA, İSTANBUL", "ça va i̇stanbul"),
        ("नमस्ते दुनिया।", "नमस्ते दुनिया"),  # vowel signs and virama are marks
        ("می‌خواهم", "میخواهم"),  # zero-width non-joiner
        ("co\u00adop", "coop"),
        ("你好，世界 123", "你好 世界"),
        ("\u2581a \u2581", "a"),  # the mark of pieces is no letter
        ("...", ""),
    ],
)
def test_normalise(raw, clean):
    assert normalise(raw) == unicodedata.normalize("NFC", clean) and normalise(normalise(raw)) == normalise(raw)


@pytest.mark.parametrize("units", [make_units("characters", TEXTS), make_units("pieces", TEXTS, size=60)])
def test_round_trips(units):
    assert len(units) == len(units.spellings) == len(set(units.spellings)) and units.spellings[0] == ""
    for text in TEXTS:
        ids = units.encode(text, row="r")
        assert min(ids) >= 1 and max(ids) < len(units)
        assert units.decode(ids) == units.normalise(text) == " ".join(word for _, _, word in units.words(ids))
    again = read_units(json.loads(json.dumps(to_dict(units))), where="recogniser.json: units")
    assert again == units and fingerprint(again) == fingerprint(units) and hash(again) == hash(units)
    assert units.encode("", row="r") == [] and units.decode([]) == "" and units.words([]) == []


def test_words_know_their_ids():
    units = Characters(" abc")
    assert units.words([2, 3, 1, 4]) == [(0, 2, "ab"), (3, 4, "c")]
    assert units.words([1, 1, 2, 1, 1, 3, 1]) == [(2, 3, "a"), (5, 6, "b")]  # spaces at the ends and in a row
    assert units.words([1]) == []
    pieces = Pieces(("\u2581", "a", "b", "\u2581a"), ("\u2581 a",))
    assert pieces.words([4, 3, 1, 2, 4]) == [(0, 2, "ab"), (3, 4, "a"), (4, 5, "a")]
    assert pieces.words([3, 2, 1]) == [(0, 2, "ba")]  # a hypothesis may begin within a word, or end with a bare mark
    assert PHONES.words([1, 3]) == [(0, 1, "a"), (1, 2, "oʊ")] and PHONES.decode([1, 3]) == "a oʊ"


def test_pieces_merge_what_is_frequent():
    units = make_units("pieces", ["low lower lowest"] * 3 + ["newer wider"], size=16)
    assert len(units.vocabulary) == 16 and len(units) == 17 and "\u2581low" in units.vocabulary
    assert units == make_units("pieces", ["low lower lowest"] * 3 + ["newer wider"], size=16)
    assert len(units.encode("low low", row="r")) == 2 < len("low low")
    first, second, *_ = units.merges
    assert {first, second} <= {"l o", "lo w", "\u2581 lo", "o w", "\u2581 l", "l ow"}  # the most frequent pairs
    known = set("".join(units.vocabulary))
    assert known <= set(units.vocabulary)  # nothing of the alphabet was merged away


@pytest.mark.parametrize("units", [make_units("characters", TEXTS), make_units("pieces", TEXTS, size=60)])
def test_unknown_characters_name_the_row(units):
    with pytest.raises(OvertureError, match=r"row 'utt-7'.*'ж' \(CYRILLIC SMALL LETTER ZHE\).*Correct"):
        units.encode("testж", row="utt-7")
    assert units.decode(units.encode("te ж st", row="utt-7", drop=True)) == "te st"


@pytest.mark.parametrize("kind", ["characters", "pieces"])
def test_units_need_letters(kind):
    with pytest.raises(OvertureError, match="no letters"):
        make_units(kind, ["12 3", "..."])


def test_wrong_wishes():
    with pytest.raises(OvertureError, match="Did you mean 'phones'"):
        make_units("phonemes", TEXTS)
    with pytest.raises(OvertureError, match=r"5 pieces are too few.*characters"):
        make_units("pieces", TEXTS, size=5)
    with pytest.raises(OvertureError, match="need a language"):
        make_units("phones", TEXTS)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([], "no units"),
        ({"other": 1}, "no units"),
        ({"characters": "aa"}, "different"),
        ({"characters": " "}, "no space"),
        ({"characters": ["a"]}, "is not text"),
        ({"vocabulary": ["ab", "a"], "merges": []}, "lacks 'b'"),
        ({"vocabulary": ["a", "b"], "merges": ["a b"]}, "'a b'"),
        ({"vocabulary": ["a", "b", "ab"], "merges": ["ab"]}, "'ab'"),
        ({"vocabulary": ["a", "a"], "merges": []}, "different"),
        ({"symbols": ["a", ""], "language": "en-us"}, "different phones"),
        ({"symbols": ["a"], "language": 1}, "is not text"),
    ],
)
def test_damaged_units(values, why):
    with pytest.raises(OvertureError, match=why) as caught:
        read_units(values, where="recogniser.json: units")
    assert str(caught.value).startswith("recogniser.json: units")


def test_phones_without_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "espeakng_loader", None)
    from overture.recognise import units

    units._espeak.cache_clear()
    with pytest.raises(MissingExtra, match=r"overture\[phones\]"):
        make_units("phones", ["hello"], language="en-us")
    assert phonemise("...", "en-us") == []


@with_espeak
def test_phones():
    units = make_units("phones", ["Hello, world!", "a cat"], language="en-us")
    assert units.normalise("Hello, world!") == "h ə l oʊ w ɜː l d"
    ids = units.encode("hello cat", row="r")
    assert units.decode(ids) == units.normalise("hello cat") and len(units.words(ids)) == len(ids)
    assert read_units(to_dict(units), where="x") == units
    with pytest.raises(OvertureError, match=r"row 'r'.*phone 'm'"):
        units.encode("mat", row="r")
    assert units.decode(units.encode("mat", row="r", drop=True)) == "æ t"
    with pytest.raises(OvertureError, match=r"does not speak 'enus'. Did you mean"):
        make_units("phones", ["hello"], language="enus")
    with pytest.raises(OvertureError, match="no letters"):
        make_units("phones", ["..."], language="en-us")
    assert "ɲ" in make_units("phones", ["něco"], language="cs").symbols
