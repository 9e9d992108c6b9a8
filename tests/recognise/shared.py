"""Frames that Overture and pyctcdecode both decode (see make_pyctcdecode.py). No test, and no torch: the maker runs in an environment of its own."""

import json
from pathlib import Path

import numpy as np

from overture.recognise.units import Characters

HERE = Path(__file__).parent
EXPECTED = HERE / "pyctcdecode.json"
TEXTS = [
    "the floor is slippery and the door is shut",
    "who locked the door of the laboratory",
    "i found a key on the floor of the plane",
    "the queen of the amazon wants her crown back",
    "give the queen her crown and she will let you go",
    "you should not have come here",
    "i should have stayed in the plane",
    "where is the pilot of this plane",
    "the pilot is in the village with the others",
    "we have to find the village before it gets dark",
    "it is dark in the laboratory",
    "what is this key for",
    "this key does not fit the door",
    "the others went to look for the queen",
    "let me go and find the others",
    "there is a crown on the floor",
]
SPOKEN = [
    "the key of the laboratory",
    "where is the crown",
    "the queen is in the plane",
    "who wants this key",
    "i have to find the pilot",
    "you should let me go",
    "the zebra is on the floor",  # 'zebra' is unknown to the model, but its letters are not
    "it gets dark before we go",
]
SETTINGS = [  # of the language model: weight, bonus, and what an unknown word costs, in log10 as pyctcdecode counts it
    None,
    {"alpha": 0.5, "beta": 1.5, "unk": -10.0},
    {"alpha": 1.0, "beta": 3.0, "unk": -3.0},
]


def units() -> Characters:
    return Characters.of([*TEXTS, *SPOKEN])


def frames(text: str, number: int, noise: float = 1.25) -> np.ndarray:
    """Log probabilities (T, C) of a recogniser that mishears: each character for one or two frames, then blanks, amid noise."""
    random = np.random.RandomState(number)  # its stream is the same in every version of numpy
    path = []
    for i in units().encode(text, row=text):
        path += [i] * random.randint(1, 3) + [0] * random.randint(1, 3)
    logits = noise * random.standard_normal((len(path), len(units())))
    logits[np.arange(len(path)), path] += 6
    space = units().characters.index(" ") + 1
    logits[np.flatnonzero(np.array(path) == space)[-1] + 1 :, space] -= (
        30  # pyctcdecode takes a space at the end for an unknown word
    )
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def expected() -> list[list[dict[str, object]]]:
    """By setting, by sentence: what pyctcdecode found."""
    found: list[list[dict[str, object]]] = json.loads(EXPECTED.read_text(encoding="utf8"))["hypotheses"]
    return found
