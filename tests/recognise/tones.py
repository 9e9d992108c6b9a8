"""A recogniser whose every answer is known: each letter is a tone, and a frame depends on a few frames around it and on no others."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from overture.data.lengths import windows
from overture.recognise.decode import Beam
from overture.recognise.lm import NGram
from overture.recognise.units import Characters

RATE, HOP, SIZE = 8_000, 160, 400  # Hz, samples
LETTERS = "abcde "  # 500 Hz, 1000 Hz, ...
AROUND = 8  # frames on either side that a frame depends on
TONE, GAP = 640, 480  # samples
WORDS = ("abba", "cab", "deed", "a", "bead", "add", "ebb", "dada", "bace")


@dataclass(frozen=True)
class Tones:
    """Overture's `Recogniser`, for tones."""

    lm: NGram | None = None
    beam: Beam = field(default_factory=Beam)
    about: dict[str, Any] = field(default_factory=lambda: {"decoding": {"lm": None}, "licence": ["CC0-1.0"]})
    rate: int = RATE
    frame_rate: float = RATE / HOP
    units: Characters = field(default_factory=lambda: Characters(LETTERS))
    longest: list[float] = field(default_factory=list)  # s of audio of each call, to watch

    def log_probs(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.longest.append(sum(map(len, waves)) / RATE)
        return [self._one(wave) for wave in waves]

    def _one(self, wave: np.ndarray) -> np.ndarray:
        """(N,) -> (T, 7) with T = (N - 400) // 160 + 1, as strided convolutions have it."""
        assert wave.dtype == np.float32 and windows(len(wave), SIZE, HOP) > 0
        frames = sliding_window_view(wave, SIZE)[::HOP]  # (T, SIZE)
        spectrum = np.abs(frames @ _basis()) / (SIZE / 2)  # (T, 6): 1 for a tone at full scale
        scores = np.concatenate([np.full((len(frames), 1), 5.0), 15 * spectrum**2], 1)
        # What stands around a frame counts a little, and the edge of a window counts as nothing: frames near one come out otherwise.
        padded = np.pad(scores, ((AROUND, AROUND), (0, 0)))
        scores = scores + 0.1 * sliding_window_view(padded, 2 * AROUND + 1, axis=0).mean(-1)
        return (scores - np.log(np.exp(scores).sum(1, keepdims=True))).astype(np.float32)


def _basis() -> np.ndarray:
    """(SIZE, 6) complex."""
    hertz = 500 * np.arange(1, len(LETTERS) + 1)
    return np.exp(-2j * np.pi * np.arange(SIZE)[:, None] * hertz / RATE)


def spoken(
    words: Sequence[str], *, pauses: Sequence[float] | None = None, space: bool = False
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """(N,) float32 at 8 kHz and the beginning and end of each word, s. pauses: s of silence before each; space: a space in front."""
    parts: list[np.ndarray] = [np.zeros(GAP, np.float32)]
    times = []
    for i, word in enumerate(words):
        if i or space:
            parts += [_tone(" "), np.zeros(GAP, np.float32)]
        if pauses is not None:
            parts.append(np.zeros(round(pauses[i] * RATE), np.float32))
        begin = sum(map(len, parts))
        for letter in word:
            parts += [_tone(letter), np.zeros(GAP, np.float32)]
        times.append((begin / RATE, (sum(map(len, parts)) - GAP) / RATE))
    return np.concatenate(parts), times


def _tone(letter: str) -> np.ndarray:
    hertz = 500 * (LETTERS.index(letter) + 1)
    return (0.9 * np.sin(2 * np.pi * hertz * np.arange(TONE) / RATE)).astype(np.float32)


def said(count: int, seed: int = 0) -> tuple[list[str], list[float]]:
    """Words and the pauses before them: mostly none, now and then up to 1 s."""
    rng = np.random.default_rng(seed)
    words = [WORDS[i] for i in rng.integers(len(WORDS), size=count)]
    pauses = np.where(rng.random(count) < 0.2, rng.uniform(0, 1, count), 0)
    return words, pauses.tolist()
