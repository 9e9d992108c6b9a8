"""How a text is said: its phones by the dictionary of the aligner (pocketsphinx 5, extra `align`), so that what learnt from alignments can read it.

The first pronunciation of each word, whatever its sense; silence at the ends and at punctuation. Numbers and abbreviations are read as
`overture.data.verbalise` writes them out; words that the dictionary lacks are refused: nothing here guesses from spelling.
"""

import re
from functools import lru_cache
from typing import Any

from overture.data.phones import SILENCE
from overture.data.verbalise import verbalise
from overture.errors import OvertureError
from overture.tasks import align

PAUSE = re.compile(r"[,.;:!?\u2026\u2013\u2014]+(?:\s|$)")


def pronounced(text: str) -> tuple[str, ...]:
    """The phones of an English text, of `overture.data.phones.PHONES`: silence first and last. Raises OvertureError where it cannot be read, and
    MissingExtra without pocketsphinx."""
    dictionary = _dictionary()

    def known(word: str) -> bool:
        return dictionary.lookup_word(word) is not None

    phones = [SILENCE]
    for part in PAUSE.split(verbalise(text, "en")):
        if not re.search(r"\w", part):
            continue
        found = align.words(part, known)
        if isinstance(found, str):
            named = [repr(word) for word in part.split() if align.words(word, known) == found]
            raise OvertureError(
                f"{', '.join(named)} cannot be read: {found}. Write it out in English words that sound like it"
            )
        phones += [phone for word in found for phone in dictionary.lookup_word(word).split()]
        phones.append(SILENCE)
    if len(phones) == 1:
        raise OvertureError(f"{text!r} cannot be read: no words")
    return tuple(phones)


@lru_cache(maxsize=1)
def _dictionary() -> Any:
    return align._library().Decoder(lm=None, loglevel="FATAL")
