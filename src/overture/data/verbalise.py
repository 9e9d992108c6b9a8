"""A text as it is said: numbers, a few symbols and, in English, abbreviations written out in words ("12 apples" -> "twelve apples").

For what decides how a text is read: synthesis, and both sides where words that were heard are compared. Not for transcripts that are learnt from: of
those the recording has decided already. Number words are CLDR's, by unicode-rbnf, in the form of counting, never inflected. Any language: whole
numbers, negative ones, decimals, percent where its word is always the same. English also: ordinals (1st), decades (1990s), times (10:30), money
($ £ € ¥), degrees. Years are read as years in English, and where hundreds are counted so of anything. A few English abbreviations have two readings:
St. is Saint before a capital and Street elsewhere, Dr. always Doctor. What can be read in several ways ("1/2", "3." before a word in German) is
refused.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any

from overture.errors import OvertureError

DIGITS = 15  # of a whole number at most: the library finds its rules in float64
# Decimal signs by language, as in CLDR. Of the other one and spaces, groups of three digits are made; of a language in neither list no sign is known.
DECIMAL = {
    ".": "ak am ccp chr cy ee en fil ga he hi ja ko ms mt my ne qu sw ta th yue zh",
    ",": "af az be bg bs ca cs da de el eo es et ff fi fo fr hr hu hy id is it ka kk kl ky lb lt lv mk nl nn no pl pt ro ru se sk sq sr su sv tr "
    "uk vec vi",
}
# "3." is an ordinal; 1999 is nineteen hundred ninety-nine, of years and of apples.
DOTTED = "bs cs da de et fi fo hr hu is lb lv nn no pl se sk sr tr"
HUNDREDS = "da de nl nn no sv"
PERCENT = {"da": "procent", "de": "Prozent", "en": "percent", "es": "por ciento", "fr": "pour cent", "hu": "százalék"}
PERCENT |= {"it": "per cento", "nl": "procent", "no": "prosent", "pl": "procent", "pt": "por cento", "sv": "procent"}
WRONG = ("sl", "zu")  # languages whose words are the same for different numbers: 4,267 and 2,267, those above 100,000
LETTERS = {"be": {"i": "і"}, "ro": {"ş": "ș", "ţ": "ț"}}  # of CLDR's number words -> of what people write

# English. "ay em", because "a" alone would be read as the article.
SYMBOLS = {"&": "and", "+": "plus", "=": "equals", "@": "at"}
MONEY = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "", ""),
}
ABBREVIATIONS = {  # in this order
    r"(?i:\bMr\b\.?)": "Mister",
    r"(?i:\bMrs\b\.?)": "Missus",
    r"\bM[sS]\.": "Ms",
    r"(?i:\bDr\b\.?)": "Doctor",
    r"(?i:\bProf\.)": "Professor",
    r"(?i:\bJr\.)": "Junior",
    r"(?i:\bSr\.)": "Senior",
    r"\bS[tT]\b\.?(?=\s+[A-Z])": "Saint",
    r"(?<=\w )S[tT]\.": "Street",
    r"(?i:\bvs\.)": "versus",
    r"(?i:\betc\.)": "et cetera",
    r"(?i:\be\.g\.)": "for example",
    r"(?i:\bi\.e\.)": "that is",
    r"(?i:(?<=\d)\s?a(?:m\b|\.m\.)|\ba\.m\.)": " ay em",
    r"(?i:(?<=\d)\s?p(?:m\b|\.m\.)|\bp\.m\.)": " p m",
    r"(?:\bN[oO]\.\s*|№\s*|#)(?=\d)": "number ",
}
UNSAID = "@#&%/\\*_‰§¶′″"  # punctuation that is said where one knows how, beside all symbols
SYMBOL = ("Sm", "Sc", "Sk", "So", "No", "Nl")  # categories
# Of digits: nothing joins them to others ("1/2", "555-1234").
START, END = r"(?<!\d)(?<!\d[^\w\s])", r"(?!\d|[^\w\s]\d)"
MINUS = r"(?P<minus>(?<![\w.,:/)-])[-\u2212])?"


def verbalise(text: str, language: str | None) -> str:
    """`text` as it is said in `language` (BCP 47; None: English). Where it has no digits, symbols or abbreviations it stays as it is.

    Raises OvertureError naming what cannot be read, or can be in several ways.
    """
    tag = (language or "en").replace("-", "_")
    english = tag.lower().partition("_")[0] == "en"
    found = text
    if english:
        for pattern, words in ABBREVIATIONS.items():
            found = re.sub(pattern, words, found)
    if re.search(r"\d", found):
        found = _numbers(tag).read(found)
    if english:
        found = re.sub(r"[&+=@]", lambda m: f" {SYMBOLS[m[0]]} ", found)
    for c in found:
        if c.isdecimal():
            raise _unread(next(w for w in found.split() if c in w), language, "it could be in several ways")
        if c in UNSAID or unicodedata.category(c) in SYMBOL:
            word = next(w for w in text.split() if c in w)
            raise _unread(word, language, f"{c!r} ({unicodedata.name(c, 'no name')}) is no word")
    return found if found == text else " ".join(found.split())


def _unread(what: str, language: str | None, why: str) -> OvertureError:
    return OvertureError(f"{what!r} cannot be read in {language or 'en'!r}: {why}. Write it out as it shall be said")


@lru_cache(maxsize=16)
def _numbers(tag: str) -> "_Numbers":
    """Raises OvertureError for a language whose numbers are not known."""
    from unicode_rbnf import RbnfEngine

    known = [name for name in RbnfEngine.get_supported_languages() if name not in WRONG]
    primary, *rest = tag.split("_")
    primary = {"nb": "no", "iw": "he", "in": "id", "cmn": "zh"}.get(primary.lower(), primary.lower())
    names = [f"{primary}_{part.title() if len(part) == 4 else part.upper()}" for part in rest]
    name = next((n for n in (*names, primary) if n in known), None)
    if name is None:
        raise _unread("a text with digits", tag, "number words of that language are not known")
    return _Numbers(primary, RbnfEngine.for_language(name))


@dataclass(frozen=True)
class _Numbers:
    """How numbers are read in one language. Those that could be read in several ways it leaves."""

    language: str
    engine: Any  # unicode_rbnf.RbnfEngine

    def read(self, text: str) -> str:
        for pattern, say in self._rules:
            text = pattern.sub(_apart(say), text)
        return text

    @cached_property
    def _rules(self) -> list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]:
        """In the order in which they are tried."""
        sign = next((s for s, languages in DECIMAL.items() if self.language in languages.split()), None)
        spaced = r"\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?![ \u00a0\u202f]?\d)"
        number, end = rf"(?P<whole>{spaced}|\d+)(?P<fraction>(?!))?", END
        if sign is not None:
            grouped = rf"\d{{1,3}}(?:[{'.,'.replace(sign, '')}]\d{{3}})+"
            number = rf"(?P<whole>{spaced}|{grouped}|\d+|(?<![\w.,])(?=[.,]\d))(?:[{sign}](?P<fraction>\d+))?"
        if self.language != "en":  # what is written behind digits may be an ending, and change them
            end += r"(?!-?[^\W_])"
        if self.language in DOTTED.split():
            end += r"(?!\.\s+\w)"
        amount = f"{START}{MINUS}{number}{end}"
        rules: dict[str, Callable[[re.Match[str]], str]] = {}
        if self.language == "en":
            ordinal = rf"(?i:{START}(?P<whole>\d{{1,3}}(?:,\d{{3}})+|\d+)(?:st|nd|rd|th)\b)"
            decade = rf"(?:(?<!\w)['\u2019](?=\d0))?{START}(?P<whole>\d+)['\u2019]?s\b"
            rules = {
                rf"{START}(?P<hour>[01]?\d|2[0-4]):(?P<minute>[0-5]\d){END}(?P<half> (?=ay em|p m))?": self._time,
                rf"{START}{MINUS}(?P<sign>[$£€¥])\s?{number}{end}(?P<scale>(?:\s(?:thousand|million|billion|trillion)\b)*)(?!\w)": self._money,
                rf"{amount}\s?(?P<sign>€)(?P<scale>)(?!\w)": self._money,
                rf"{amount}\s?°(?:\s?(?P<scale>[CF])\b)?": self._degrees,
                ordinal: lambda m: self._form(self._whole(m["whole"]), "ORDINAL"),
                decade: lambda m: _several(self._cardinal(m["whole"])),
            }
        if self.language in PERCENT:
            rules[rf"{amount}\s?%"] = lambda m: f"{self._said(m)} {PERCENT[self.language]}"
        rules[amount] = lambda m: self._said(m, alone=True)
        return [(re.compile(pattern), say) for pattern, say in rules.items()]

    def _form(self, number: int | Decimal, purpose: str = "CARDINAL") -> str:
        from unicode_rbnf import FormatPurpose
        from unicode_rbnf.engine import RbnfError

        try:
            found = str(self.engine.format_number(number, FormatPurpose[purpose]).text)
        except (RbnfError, ValueError) as error:
            raise _unread(str(number), self.language, f"its words are not known ({error})") from error
        return found.translate({ord(a): b for a, b in LETTERS.get(self.language, {}).items()})

    def _whole(self, digits: str) -> int:
        digits = re.sub(r"\D", "", digits)
        if len(digits) > DIGITS:
            raise _unread(digits, self.language, f"more than {DIGITS} digits")
        return int(digits or "0")

    def _cardinal(self, digits: str, *, alone: bool = True) -> str:
        """Of a whole number as it is written. `alone`: it may be a year."""
        number = self._whole(digits)
        if len(digits) > 1 and int(digits[0]) == 0:
            return " ".join(self._form(int(d)) for d in digits)
        last = 2099 if self.language == "en" else 1999 if self.language in HUNDREDS.split() else 0
        return self._form(number, "YEAR" if alone and len(digits) == 4 and 1100 <= number <= last else "CARDINAL")

    def _said(self, m: re.Match[str], *, alone: bool = False) -> str:
        said = self._cardinal(m["whole"], alone=alone and not m["minus"] and not m["fraction"])
        if m["fraction"]:
            said = self._form(self._whole(m["whole"])) + self._decimals(m["fraction"])
        if m["minus"]:
            before, seven, after = self._form(-7).rpartition(self._form(7))
            if not seven or after:
                raise _unread(m[0], self.language, "negative numbers are not known")
            said = before + said
        return said

    def _decimals(self, digits: str) -> str:
        """With the sign: one digit after the other."""
        half, nought, five = self._form(Decimal("0.5")), self._form(0), self._form(5)
        if not (half.startswith(nought) and half.endswith(five)):
            raise _unread(f"a number with decimals (.{digits})", self.language, "decimals are not said digit by digit")
        point = half[len(nought) : -len(five)]
        return point + (" " if point.endswith(" ") else "").join(self._form(int(d)) for d in digits)

    def _time(self, m: re.Match[str]) -> str:
        hour, minute = int(m["hour"]), int(m["minute"])
        if minute:
            return f"{self._form(hour)} {'oh ' if minute < 10 else ''}{self._form(minute)}"
        return self._form(hour) + ("" if m["half"] else " o'clock" if 0 < hour < 13 else " hundred")

    def _money(self, m: re.Match[str]) -> str:
        one, several, hundredth, hundredths = MONEY[m["sign"]]
        whole, parts = self._whole(m["whole"]), m["fraction"] or ""
        if m["scale"] or not hundredth or len(parts) != 2:
            unit = one if m["whole"] == "1" and not parts and not m["scale"] else several
            return f"{self._said(m)}{m['scale']} {unit}"
        minus, rest = "minus " if m["minus"] else "", int(parts)
        said = [f"{self._form(whole)} {one if whole == 1 else several}"] if whole or not rest else []
        said += [f"{self._form(rest)} {hundredth if rest == 1 else hundredths}"] if rest else []
        return minus + " and ".join(said)

    def _degrees(self, m: re.Match[str]) -> str:
        scale = {"C": " Celsius", "F": " Fahrenheit", None: ""}[m["scale"]]
        return f"{self._said(m)} degree{'' if m['whole'] == '1' and not m['fraction'] else 's'}{scale}"


def _several(words: str) -> str:
    """ "nineteen ninety" -> "nineteen nineties"."""
    return words[:-1] + "ies" if words.endswith("y") else words + ("es" if words.endswith("x") else "s")


def _apart(say: Callable[[re.Match[str]], str]) -> Callable[[re.Match[str]], str]:
    """What is said, with a space to letters that the digits touched ("MP3", "5G")."""

    def replaced(m: re.Match[str]) -> str:
        before, after = m.string[m.start() - 1 : m.start()], m.string[m.end() : m.end() + 1]
        return f"{' ' if before.isalnum() else ''}{say(m)}{' ' if after.isalnum() else ''}"

    return replaced
