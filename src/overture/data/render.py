"""From samples to what a network is given: ids, slots that vectors of speech go into, and which tokens are learnt.

A recording either becomes as many slots as its encoder and adapter make vectors of it (`Continuous`), or the units of speech that a column of
the table holds (`Discrete`). The same samples rendered the other way are another system, which makes the two comparable.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from overture.data.sample import Heard, Sample, Segment, code
from overture.data.states import EncoderStates
from overture.data.tokens import Special, Tokens
from overture.errors import OvertureError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, kw_only=True)
class SpokenText:
    """The front end of a run that hears and reads: of recordings `audio`, of text `tokens`."""

    audio: Any  # a Frontend
    tokens: Tokens

    @property
    def rate(self) -> int:
        """Hz, of the samples."""
        return int(self.audio.rate)

    @property
    def frame_rate(self) -> float:
        """Hz, of the features."""
        return float(self.audio.frame_rate)

    @property
    def dim(self) -> int:
        """F, of the features."""
        return int(self.audio.dim)

    def steps(self, count: int) -> int:
        """Features of `count` samples."""
        return int(self.audio.steps(count))

    def settled(self) -> "SpokenText":
        """The same, named after the weights that it hears with, where it has any."""
        return replace(self, audio=self.audio.settled()) if isinstance(self.audio, EncoderStates) else self

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """(N,) float32 -> (T, F) float32."""
        found: np.ndarray = self.audio(wave)
        return found


@dataclass(frozen=True)
class Rendered:
    """A sample as a network is given it."""

    ids: np.ndarray  # (T,) int64, the pad token at slots
    learnt: np.ndarray  # (T,) bool
    audio: np.ndarray  # (T,) int64, of a slot the number of its recording in `heard`; -1: a token
    heard: tuple[Heard, ...]  # in the order of their slots


class Renderer(Protocol):
    """Samples -> ids and slots."""

    def __call__(self, sample: Sample) -> Rendered: ...


class _Words:
    """The ids of all that is no recording. A document begins with the begin token, and a learnt last segment ends with the end token."""

    def __init__(self, tokenizer: "Tokenizer", special: Special) -> None:
        self.tokenizer, self.special = tokenizer, special

    def ids(self, segment: Segment) -> list[int]:
        if segment.kind == "text":
            found: list[int] = self.tokenizer.encode(str(segment.payload), add_special_tokens=False).ids
            return found
        return [self.special.block(name) for name in segment.named]

    def render(self, sample: Sample, slots: Callable[[Segment], list[int] | int]) -> Rendered:
        """`slots`: of a recording, its ids or how many slots it takes."""
        parts: list[tuple[list[int], bool, int]] = [([self.special.begin], False, -1)]
        heard: list[Heard] = []
        for segment in sample:
            if segment.kind != "audio":
                parts.append((self.ids(segment), segment.learnt, -1))
            elif isinstance(found := slots(segment), int):
                parts.append(([self.special.pad] * found, False, len(heard)))
                heard.append(segment.payload)  # type: ignore[arg-type]
            else:
                parts.append((found, segment.learnt, -1))
        if sample and sample[-1].learnt:
            parts.append(([self.special.end], True, -1))
        sizes = [len(ids) for ids, _, _ in parts]
        return Rendered(
            np.concatenate([np.array(ids, dtype=np.int64) for ids, _, _ in parts]),
            np.repeat([learnt for _, learnt, _ in parts], sizes),
            np.repeat([number for _, _, number in parts], sizes),
            tuple(heard),
        )


class Continuous:
    """Recordings are vectors of an adapter."""

    def __init__(self, tokenizer: "Tokenizer", special: Special, vectors: Callable[[Heard], int]) -> None:
        """`vectors`: how many a stretch of a recording becomes."""
        self.words, self.vectors = _Words(tokenizer, special), vectors

    def __call__(self, sample: Sample) -> Rendered:
        return self.words.render(sample, lambda segment: self.vectors(segment.payload))  # type: ignore[arg-type]


class Discrete:
    """Recordings are units of speech, tokens of the vocabulary."""

    def __init__(self, tokenizer: "Tokenizer", special: Special, units: Mapping[int, np.ndarray], rate: float) -> None:
        """`units`: of each row, the ids of its recording, `rate` a second. Raises OvertureError later, for units that are no tokens."""
        self.words, self.units, self.rate = _Words(tokenizer, special), units, rate

    def __call__(self, sample: Sample) -> Rendered:
        return self.words.render(sample, self._ids)

    def _ids(self, segment: Segment) -> list[int]:
        heard: Any = segment.payload
        if heard.row not in self.units:
            raise OvertureError(f"row {heard.row} has no units of speech: they are made before samples are rendered")
        first, last = (None if s is None else round(s * self.rate) for s in (heard.start, heard.stop))
        return [self.words.special.block(code(int(u))) for u in self.units[heard.row][first:last]]


def packed(parts: list[Rendered]) -> tuple[Rendered, np.ndarray]:
    """Several samples as one example, and (T,) the number of each token's sample: attention shall stay within it."""
    before = np.cumsum([0, *(len(p.heard) for p in parts)])
    whole = Rendered(
        np.concatenate([p.ids for p in parts]),
        np.concatenate([p.learnt for p in parts]),
        np.concatenate([np.where(p.audio < 0, -1, p.audio + n) for p, n in zip(parts, before)]),
        tuple(h for p in parts for h in p.heard),
    )
    return whole, np.repeat(np.arange(len(parts)), [len(p.ids) for p in parts])
