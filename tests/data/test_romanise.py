"""overture.data.romanise: one alphabet for several scripts."""

import pytest

from overture.data.romanise import romanise
from overture.errors import OvertureError


@pytest.mark.parametrize(
    ("text", "language", "latin"),
    [
        ("Чёрный щука, ещё жар.", "ru", "Čërnyj ščuka, eščë žar."),
        ("Щъркел", "bg", "Štărkel"),  # the same two letters are others in Bulgarian
        ("Галава, дзень, воўк", "be-BY", "Halava, dzenʹ, voŭk"),
        ("Ήταν ένα μήλο; ψάρι, πουλάκι, ούτε", "el", "Itan ena milo; psari, poulaki, oute"),
        ("Příliš žluťoučký kůň, 9º Ñandú", "cs", "Příliš žluťoučký kůň, 9º Ñandú"),
        ("", None, ""),
    ],
)
def test_letters(text: str, language: str | None, latin: str) -> None:
    assert romanise(text, language, row="r") == latin
    assert romanise(latin, language, row="r") == latin  # what is Latin stays


def test_another_script_is_refused_by_row() -> None:
    with pytest.raises(
        OvertureError, match=r"row 'a/7': '漢' \(CJK.*\) is neither Latin, Cyrillic nor Greek: leave the row out"
    ):
        romanise("a 漢", "zh", row="a/7")
