"""overture.data.espeak: sentences, marks and stress as published synthesisers are trained on them."""

from importlib.util import find_spec

import pytest

from overture.data import espeak
from overture.data.espeak import sentences
from overture.errors import MissingExtra, OvertureError

with_espeak = pytest.mark.skipif(
    find_spec("phonemizer") is None or find_spec("espeakng_loader") is None, reason="needs the extra 'phones'"
)


@with_espeak
@pytest.mark.parametrize(
    "text, expected",
    [
        ("Well, you see. No?", ["wˈɛl, juː sˈiː.", "nˈoʊ?"]),
        ("It costs 3.5; right!", ["ɪt kˈɔsts θɹˈiː pɔɪnt fˈaɪv; ɹˈaɪt!"]),
        ("“Stop!” she said. “Now”", ["stˈɑːp!", "ʃiː sˈɛd.", "nˈaʊ"]),  # marks within quotes
        ("Fin. Été — well, Été", ["fˈɪn.", "ˈeɪtˈeɪ; wˈɛl, ˈeɪtˈeɪ"]),  # letters of two bytes after a mark
        ("One.\nTwo", ["wˌʌn.", "tˈuː"]),
        ("...", []),
        ("", []),
        ("no\0w", ["nˈoʊ dˈʌbəljˌuː"]),
    ],
)
def test_marks_stand_where_espeak_pauses(text: str, expected: list[str]) -> None:
    assert sentences(text, "en-us") == expected


@with_espeak
def test_letters_of_a_phone_are_tied() -> None:
    assert sentences("Change, a balloon.", "en-us", tie="^") == ["t^ʃˈe^ɪnd^ʒ, ɐ bəlˈuːn."]
    assert sentences("Change, a balloon.", "en-us") == ["tʃˈeɪndʒ, ɐ bəlˈuːn."]


@with_espeak
def test_two_languages_do_not_disturb_each_other() -> None:
    assert sentences("Jak se máš?", "cs") == ["jˈak se mˈaːʃ?"]
    assert sentences("See.", "en-us") == ["sˈiː."]
    assert "(" not in sentences("Le restaurant, the weather", "de")[0]  # marks of another language
    with pytest.raises(OvertureError, match="does not speak 'enus'"):
        sentences("See.", "enus")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "espeakng_loader", None)
    espeak._espeak.cache_clear()
    with pytest.raises(MissingExtra, match=r"overture\[phones\]"):
        sentences("See.", "en-us")
