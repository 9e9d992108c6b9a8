"""Texts as espeak-ng reads them aloud, sentence by sentence: phones with stress, and the marks that pause or end. Published synthesisers want that.

A recogniser learns phones without either (`recognise.units.phonemise`). Here espeak-ng sees the whole text, with its punctuation: that decides
which words are stressed, and how "e.g." or "3.5" is read. espeak-ng and phonemizer, which calls it, are under the GPL and an extra:
`pip install 'overture[phones]'`.
"""

import ctypes
import re
from functools import lru_cache
from typing import Any

from overture.errors import MissingExtra, OvertureError

UTF8, IPA, TIE = 1, 2, 1 << 7  # how espeak-ng is given a text, and gives phones
# What espeak-ng pauses at, as the marks that stand among the phones; a dash and "..." in one character are semicolons to it.
MARKS = {mark: mark for mark in ",;:.!?"} | {"–": ";", "—": ";", "…": ";"}
ENDS = ".!?"  # of a sentence
_LAST = re.compile(rf"([{''.join(MARKS)}])[\s\"'”’»)\]]*$")
_SWITCH = re.compile(r"\([a-z-]+\)")  # to another language and back: "(fr)ʃɑ̃s(en)"


def sentences(text: str, language: str, *, tie: str = "") -> list[str]:
    """ "Well, you see. No?" -> ["wˈɛl, juː sˈiː.", "nˈoʊ?"]. Words are parted by spaces, and a text that ends without a mark has none at its end.

    Empty where nothing is to be said. A dot counts as an end also after "Mr": `data.verbalise` writes such words out.
    `language`: espeak-ng's name, such as "en-us"; `tie`: a character that is to join the letters of one phone ("^": "d^ʒˈe^ɪ").
    Raises MissingExtra; OvertureError where espeak-ng does not speak the language.
    """
    espeak = _espeak(language)
    whole = text.replace("\0", " ").encode()
    buffer = ctypes.create_string_buffer(whole)
    start = ctypes.addressof(buffer)
    at = ctypes.c_char_p(start)
    found, sentence, read = [], "", 0
    mode = IPA | TIE | ord(tie) << 8 if tie else IPA
    while at.value is not None:  # a clause at a time, until espeak-ng has set it to null
        phones = espeak.text_to_phonemes(ctypes.byref(at), UTF8, mode).decode()
        end = ctypes.cast(at, ctypes.c_void_p).value
        to = len(whole) if end is None else end - start
        # espeak-ng has read the first character of what follows, too, or a byte of it.
        clause = whole[read:to].decode(errors="replace")
        mark = _mark(clause if end is None else clause[:-1])
        read = to
        if phones := _SWITCH.sub("", phones).strip():
            sentence += f"{' ' if sentence else ''}{phones}{mark}"
        if mark and mark in ENDS and sentence:
            found.append(sentence)
            sentence = ""
    return [*found, sentence] if sentence else found


def _mark(clause: str) -> str:
    last = _LAST.search(clause)
    return MARKS[last[1]] if last else ""


@lru_cache(maxsize=4)
def _espeak(language: str) -> Any:
    """The library, set to a language: a copy of its own for each, as it has one state."""
    try:
        import espeakng_loader
        from phonemizer.backend.espeak.api import EspeakAPI
    except ImportError as error:
        raise MissingExtra("phones", "reading text as phones") from error
    espeak = EspeakAPI(espeakng_loader.get_library_path(), espeakng_loader.get_data_path())
    if espeak.set_voice_by_name(language.encode()):
        raise OvertureError(f"espeak-ng does not speak {language!r}: en-us, cs and vi are such names")
    return espeak
