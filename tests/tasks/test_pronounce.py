"""overture.tasks.pronounce: phones that the aligner would find, silence where one pauses, and refusals that name the place."""

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


def test_what_cannot_be_read_is_named() -> None:
    pytest.importorskip("pocketsphinx")
    for text, message in (
        ("Stop, zxqv there.", "^'zxqv' cannot be read: words that the dictionary lacks. Write it out"),
        ("Press 1 now, or 2", "^'1' cannot be read: digits"),
        ("...", r"'\.\.\.' cannot be read: no words"),
    ):
        with pytest.raises(OvertureError, match=message):
            pronounced(text)
