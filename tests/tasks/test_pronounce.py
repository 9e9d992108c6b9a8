"""overture.tasks.pronounce: phones that the aligner would find, silence where one pauses, and refusals that name the place."""

import numpy as np
import pytest

from overture.data.phones import PHONES
from overture.errors import OvertureError
from overture.tasks.pronounce import pronounced


def test_a_text_becomes_phones_and_pauses() -> None:
    pytest.importorskip("pocketsphinx")
    assert pronounced("Hello there.") == ("SIL", "HH", "AH", "L", "OW", "DH", "EH", "R", "SIL")
    found = pronounced("Don't stop, please... now!")
    assert found.count("SIL") == 4 and found[0] == found[-1] == "SIL" and set(found) <= set(PHONES)
    assert found[:5] == ("SIL", "D", "OW", "N", "T") and pronounced("half-way").count("SIL") == 2


def test_numbers_and_abbreviations_are_read_out_first() -> None:
    pytest.importorskip("pocketsphinx")
    assert pronounced("I have 12 apples") == pronounced("I have twelve apples")
    assert pronounced("Mr. Smith came") == pronounced("Mister Smith came")  # no silence after the point
    assert pronounced("At 10 a.m.")[3:] == ("T", "EH", "N", "EY", "EH", "M", "SIL")  # the letter, not the article
    rng = np.random.default_rng(0)
    for power in rng.uniform(0, 15, 200):  # all words of English numbers are in the dictionary
        pronounced(
            f"{int(10**power)}, {int(10**power)}th, {10**power % 1000:.3f}, ${10**power % 1000:.2f}, {int(10**power) % 3000}"
        )


def test_what_cannot_be_read_is_named() -> None:
    pytest.importorskip("pocketsphinx")
    for text, message in (
        ("Stop, zxqv there.", "^'zxqv' cannot be read: words that the dictionary lacks. Write it out"),
        ("Press 1/2 now, or 2", "^'1/2' cannot be read in 'en': it could be in several ways. Write it out"),
        ("Press (x)", r"^'\(x\)' cannot be read: digits or marks"),
        ("...", r"'\.\.\.' cannot be read: no words"),
    ):
        with pytest.raises(OvertureError, match=message):
            pronounced(text)
