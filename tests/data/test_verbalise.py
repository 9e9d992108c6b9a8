"""overture.data.verbalise: what people would say, no number lost or changed, and refusals that name what cannot be read."""

import re

import numpy as np
import pytest
from unicode_rbnf import RbnfEngine

from overture.data.verbalise import ABBREVIATIONS, DECIMAL, PERCENT, WRONG, verbalise
from overture.errors import OvertureError

UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
WORTH = {w: n for n, w in enumerate(UNITS.split())} | {w: 10 * n for n, w in enumerate(TENS.split(), 2)}
SCALE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


def counted(words: str) -> int:
    """An English number back from its words."""
    total = group = 0
    for word in re.split("[ -]", words):
        if word == "hundred":
            group *= 100
        elif word in SCALE:
            total, group = total + group * SCALE[word], 0
        else:
            group += WORTH[word]
    return total + group


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I have 12 apples.", "I have twelve apples."),
        (
            "1,234,567 and 10 000",
            "one million two hundred thirty-four thousand five hundred sixty-seven and ten thousand",
        ),
        ("007", "zero zero seven"),
        ("3.14, .5 and -2", "three point one four, zero point five and minus two"),
        ("1st, 2nd, 103rd, 21ST", "first, second, one hundred third, twenty-first"),
        ("1999, 1905, 2005, 2024", "nineteen ninety-nine, nineteen oh-five, two thousand five, twenty twenty-four"),
        (
            "1,999 or 1999.5",
            "one thousand nine hundred ninety-nine or one thousand nine hundred ninety-nine point five",
        ),
        ("the 1990s, '80s, 1900s and 60's", "the nineteen nineties, eighties, nineteen hundreds and sixties"),
        ("10:30, 10:05, 10:00, 14:00", "ten thirty, ten oh five, ten o'clock, fourteen hundred"),
        ("10:00 a.m. or 5pm", "ten ay em or five p m"),
        ("50 %, 2.5%", "fifty percent, two point five percent"),
        ("$1, $12.50, $0.01, -£5", "one dollar, twelve dollars and fifty cents, one cent, minus five pounds"),
        ("$1.5 million, ¥100, 3 €", "one point five million dollars, one hundred yen, three euros"),
        ("-5°C, 1°", "minus five degrees Celsius, one degree"),
        ("MP3, 5G, COVID-19, 10-year", "MP three, five G, COVID-nineteen, ten-year"),
        ("Mr. & Mrs Smith, Dr. Who, Prof. X", "Mister and Missus Smith, Doctor Who, Professor X"),
        ("St. John of Baker St. came", "Saint John of Baker Street came"),
        ("No. 5, #6. No. 7 vs. 8, etc.", "number five, number six. number seven versus eight, et cetera"),
        ("1 + 1 = 2", "one plus one equals two"),
        ("Nothing  to (read) — here…", "Nothing  to (read) — here…"),
    ],
)
def test_english(text: str, said: str) -> None:
    assert verbalise(text, None) == verbalise(text, "en-GB") == said
    assert verbalise(said, "en") == said  # what is read out needs no reading


@pytest.mark.parametrize(
    ("language", "text", "said"),
    [
        (
            "de",
            "1999 Äpfel, 3,05 oder 50 %",
            "neunzehnhundertneunundneunzig Äpfel, drei Komma null fünf oder fünfzig Prozent",
        ),
        ("cs", "Mám 1.234 jablek, nebo 2 000.", "Mám tisíc dvě stě třicet čtyři jablek, nebo dva tisíce."),
        ("fr-FR", "21 et 80", "vingt-et-un et quatre-vingts"),
        ("fr-CH", "80", "huitante"),
        ("bg", "-21", "минус двайсет и едно"),
        ("nb-NO", "5", "fem"),
        ("pt-BR", "1.000", "mil"),
        ("ro", "22", "douăzeci și doi"),
        ("sr-Latn", "5", "pet"),
        ("ml", "Mr. X", "Mr. X"),  # of which no numbers are known, and there are none
    ],
)
def test_other_languages(language: str, text: str, said: str) -> None:
    assert verbalise(text, language) == said


def test_no_number_is_lost_or_changed() -> None:
    rng = np.random.default_rng(0)
    for n in [*(int(10**p) for p in rng.uniform(0, 15, 300)), 0, 10**15 - 1, 1_000_000, 10**14]:
        assert counted(verbalise(f"{n:,}.", "en").removesuffix(".")) == n
        assert counted(verbalise(f"-{n:,}", "en").removeprefix("minus ")) == n
        assert verbalise(f"{n:,}.{n % 1000:03}", "en").count(" point ") == 1
    years = [verbalise(str(y), "en") for y in range(1000, 3000)]
    assert len(set(years)) == 2000


@pytest.mark.parametrize(
    "language", ["en", "de", "cs", "es", "fr", "it", "nl", "pl", "ru", "bg", "el", "hu", "tr", "uk", "ca", "da"]
)
def test_no_digit_is_left(language: str) -> None:
    rng = np.random.default_rng(1)
    seen = {}
    for n in {int(10**p) for p in rng.uniform(0, 12, 150)}:
        said = verbalise(f"a {n}, b", language)
        assert not re.search(r"\d|  ", said) and said.startswith("a ") and said.endswith(", b")
        assert seen.setdefault(said, n) == n  # different numbers are different words


def test_what_the_tables_name_is_known() -> None:
    known = set(RbnfEngine.get_supported_languages())
    point, comma = (set(languages.split()) for languages in DECIMAL.values())
    assert point | comma | set(WRONG) | PERCENT.keys() <= known and not point & comma
    assert all(verbalise("5 %", name).endswith(word) for name, word in PERCENT.items())
    assert not any(re.search(pattern, words) for pattern in ABBREVIATIONS for words in ABBREVIATIONS.values())


@pytest.mark.parametrize(
    ("language", "text", "says"),
    [
        ("en", "Take 1 or 1/2 cup", "^'1/2' cannot be read in 'en': it could be in several ways. Write it out"),
        ("en", "call 555-1234", "'555-1234'"),
        ("en", "on 2024-05-01", "'2024-05-01'"),
        ("en", "version 1.2.3", "'1.2.3'"),
        ("en", "1,23", "'1,23'"),
        ("en", "10:75", "'10:75'"),
        ("en", "and/or", r"^'and/or' cannot be read in 'en': '/' \(SOLIDUS\) is no word"),
        ("en", "so ♪ la", r"'♪' \(EIGHTH NOTE\) is no word"),
        ("en", "½ cup, x²", "VULGAR FRACTION"),
        ("en", "$5m", r"^'\$5m' .* '\$' \(DOLLAR SIGN\)"),
        ("en", "1000000000000000", "more than 15 digits"),
        ("de", "am 3. Mai", "'3.' cannot be read in 'de': it could be"),  # dritten
        ("fr", "la 3e", "'3e'"),
        ("ru", "5-й", "'5-й'"),
        ("ru", "3,5", "decimals are not said digit by digit"),
        ("es", "5 €", "EURO SIGN"),
        ("ml", "3", "^'a text with digits' cannot be read in 'ml': number words of that language are not known"),
        ("sl", "4267", "not known"),  # the library's words for it are those of 2,267
    ],
)
def test_what_cannot_be_read_is_named(language: str, text: str, says: str) -> None:
    with pytest.raises(OvertureError, match=says):
        verbalise(text, language)
