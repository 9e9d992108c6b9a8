"""Text in Latin letters, so that one head can learn from related languages that are written in different scripts (Ainu, arXiv:2301.07295).

Cyrillic as scientific transliteration has it (ISO/R 9:1968, by language where the standard is), whose č, š, ž are also those of Czech and
Croatian; Greek as ELOT 743 (ISO 843), without accents. The sounds of the languages decide, so a letter may become two.
"""

import unicodedata

from overture.errors import OvertureError

IS_LATIN = ("LATIN", "MODIFIER LETTER", "FEMININE ORDINAL", "MASCULINE ORDINAL")  # how the names of such letters begin


def _pairs(letters: str, latin: str) -> dict[str, str]:
    return dict(zip(letters.split(), latin.split(), strict=True))


CYRILLIC = _pairs(
    "а б в г д е ё ж з и й к л м н о п р с т у ф х ц ч ш щ ъ ы ь э ю я і ї є ґ ў ђ ј љ њ ћ џ ѓ ќ ѕ ѝ",
    "a b v g d e ë ž z i j k l m n o p r s t u f ch c č š šč ʺ y ʹ è ju ja i ï je g ŭ đ j lj nj ć dž ǵ ḱ dz i",
)
OF_LANGUAGE = {
    "bg": {"щ": "št", "ъ": "ă"},
    "be": {"г": "h"},
    "uk": {"г": "h", "и": "y"},
    "sr": {"х": "h"},
    "mk": {"х": "h"},
}
GREEK = _pairs(
    "α β γ δ ε ζ η θ ι κ λ μ ν ξ ο π ρ σ ς τ υ φ χ ψ ω", "a v g d e z i th i k l m n x o p r s s t y f ch ps o"
)


def romanise(text: str, language: str | None, *, row: str) -> str:
    """`text` in Latin letters; `language`: BCP 47, for letters that languages read differently. What is Latin already stays.

    Raises OvertureError naming `row` for a letter of another script.
    """
    table = GREEK | CYRILLIC | OF_LANGUAGE.get((language or "").partition("-")[0], {})
    out = []
    for c in unicodedata.normalize("NFC", text.replace("ου", "οu").replace("ού", "οu").replace("Ου", "Οu")):
        plain = c if c.lower() in table else unicodedata.normalize("NFD", c)[0]  # an accent of Greek is left out
        if (latin := table.get(plain.lower())) is not None:
            out.append(latin.capitalize() if plain.isupper() else latin)
        elif c.isalpha() and not unicodedata.name(c, "").startswith(IS_LATIN):
            raise OvertureError(
                f"row {row!r}: {c!r} ({unicodedata.name(c, 'no name')}) is neither Latin, Cyrillic nor Greek: leave the row out with "
                "--where, or write its text in Latin letters yourself"
            )
        else:
            out.append(c)
    return "".join(out)
