"""From stretches of speech to utterances: which of them are one, and where a long one is cut.

IndicWav2Vec (arXiv:2111.03945) makes its 17 thousand hours so: voice activity, then pieces of 20 s of what is longer than 25 s, wherever that
falls. Here pieces end in pauses, and only where nobody pauses at the quietest place about. Times are whole milliseconds of the recording.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from overture.errors import OvertureError

HOP = 20  # ms whose power is one number: what a cut is looked for by

Span = tuple[int, int]  # ms, start and end


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """What pieces are wanted, all in seconds."""

    wished: float = 20.0  # stretches are joined up to this
    longest: float = 25.0  # no piece is longer
    shortest: float = 1.0  # what is shorter is left out
    pause: float = 0.5  # no longer pause is joined over

    def __post_init__(self) -> None:
        """Raises OvertureError for lengths that leave no room for each other."""
        if not 0.1 <= self.shortest <= self.wished / 2 <= self.longest / 2 < float("inf"):
            raise OvertureError(
                f"shortest {self.shortest:g} s, wished {self.wished:g} s, longest {self.longest:g} s: the shortest is 0.1 s at least and "
                "half the wished length at most, the longest no less than the wished one"
            )
        if not 0 <= self.pause <= self.longest:
            raise OvertureError(f"pause {self.pause:g} s: from 0 to the longest piece, {self.longest:g} s")


@dataclass(frozen=True)
class Pieces:
    """What becomes of the speech of one recording. All spans are in order and apart; two that touch were cut where nobody pauses."""

    kept: list[Span]
    short: list[Span]  # below `Lengths.shortest`

    @property
    def hard(self) -> list[int]:
        """ms of the cuts where nobody pauses."""
        spans = sorted(self.kept + self.short)
        return [end for (_, end), (start, _) in pairwise(spans) if end == start]


def pieces(stretches: Iterable[Span], power: np.ndarray, how: Lengths) -> Pieces:
    """Stretches of speech in order, and (T,) power of each 20 ms of the recording -> the pieces to keep and what is too short for one.

    Stretches are joined over pauses of at most `pause` while the piece is not over `wished`; to one below `shortest` also up to `longest`, rather
    than lose it. A stretch over `longest` is cut first, at the quietest 20 ms between half of `wished` and `longest`, which leaves no part below
    `shortest`.
    """
    wished, longest, shortest, pause = (round(1000 * s) for s in (how.wished, how.longest, how.shortest, how.pause))
    found: list[Span] = []
    for stretch in stretches:
        for start, end in _parts(stretch, power, wished, longest, shortest):
            if found and start - found[-1][1] <= pause:
                first, last = found[-1]
                rest = min(last - first, end - start) < shortest  # one of the two would be left out
                if end - first <= (longest if rest else wished):
                    found[-1] = (first, end)
                    continue
            found.append((start, end))
    return Pieces(
        kept=[(a, b) for a, b in found if b - a >= shortest], short=[(a, b) for a, b in found if b - a < shortest]
    )


def _parts(stretch: Span, power: np.ndarray, wished: int, longest: int, shortest: int) -> Iterator[Span]:
    start, end = stretch
    while end - start > longest:
        at = _quietest(power, start + wished // 2, min(start + longest, end - shortest), start + wished)
        yield start, at
        start = at
    yield start, end


def _quietest(power: np.ndarray, low: int, high: int, near: int) -> int:
    """The middle of the quietest 20 ms from `low` to `high` ms; of those that are alike within 1 dB the one nearest to `near`."""
    first = low // HOP
    about = power[first : max(first + 1, high // HOP)]
    middles = (first + np.arange(len(about))) * HOP + HOP // 2
    decibels = np.round(10 * np.log10(np.maximum(about, 1e-12)))
    best = np.lexsort((np.abs(middles - near), decibels))[0]
    return int(np.clip(middles[best], low, high))


class Power:
    """Mean square of each 20 ms of what goes by, at a rate of which that is a whole number of samples."""

    def __init__(self, rate: int) -> None:
        self.size, self.samples = rate * HOP // 1000, 0
        self._rest, self._found = np.zeros(0, np.float32), [np.zeros(0)]

    def hear(self, block: np.ndarray) -> None:
        """(N,) samples, the next."""
        wave = np.concatenate([self._rest, block])
        whole = len(wave) // self.size * self.size
        self._found.append(np.square(wave[:whole].reshape(-1, self.size), dtype=np.float64).mean(axis=1))
        self._rest, self.samples = wave[whole:], self.samples + len(block)

    def all(self) -> np.ndarray:
        """(T,) of all that went by, the last one of what is left."""
        rest = [np.square(self._rest, dtype=np.float64).mean(keepdims=True)] if len(self._rest) else []
        return np.concatenate(self._found + rest)


def words_within(words: Sequence[dict[str, object]], span: Span) -> list[dict[str, object]]:
    """Those whose middle is in `span` (ms), with their times from its beginning; `words`: dictionaries with `start` and `end`, in seconds."""
    start, end = (ms / 1000 for ms in span)
    inside = []
    for word in words:
        a, b = float(str(word["start"])), float(str(word["end"]))
        if start <= (a + b) / 2 < end:
            times = {"start": round(max(a - start, 0.0), 3), "end": round(min(b, end) - start, 3)}
            inside.append(word | times)
    return inside
