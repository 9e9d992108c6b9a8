"""Words as rows of sounds or letters, and the network of hidden Markov states that they share as prefixes.

What a hybrid decoder walks (`recognise/hybrid.py`): each symbol is a row of states that may be repeated and never skipped, words with
the same beginning share its states (Ney et al. 1992), silence may stand before, between and after words. There is no blank: this is
not CTC. A word without a pronunciation is left out and counted, never guessed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from overture.errors import MissingExtra, OvertureError

SILENCE = "SIL"  # its one state has number 0
Pronunciations = Mapping[str, tuple[tuple[str, ...], ...]]  # word -> one or more rows of symbols


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Which hidden Markov states there are, and so which classes a frame has: silence, then `states` in a row for each symbol."""

    symbols: tuple[str, ...]  # phones or letters, silence apart
    states: int  # of a symbol; also the fewest label frames it lasts

    def __len__(self) -> int:
        """How many classes."""
        return 1 + len(self.symbols) * self.states

    def first(self, symbol: str) -> int:
        """The class of the first state of `symbol`. Raises OvertureError for a symbol that there is not."""
        if symbol == SILENCE:
            return 0
        if symbol not in self._numbers:
            raise OvertureError(f"no states for the symbol {symbol!r}. Known: {SILENCE} {' '.join(self.symbols)}")
        return 1 + self._numbers[symbol] * self.states

    @property
    def _numbers(self) -> dict[str, int]:
        return _numbered(self.symbols)


@lru_cache(maxsize=8)
def _numbered(symbols: tuple[str, ...]) -> dict[str, int]:
    return {symbol: i for i, symbol in enumerate(symbols)}


@lru_cache(maxsize=1)
def english() -> Pronunciations:
    """The dictionary that pocketsphinx carries (CMU's, without stress, 126 thousand words). Raises MissingExtra without the library."""
    try:
        import pocketsphinx
    except ImportError as error:
        raise MissingExtra("align", "the dictionary of English") from error
    return read(Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict")))


def read(path: Path) -> Pronunciations:
    """A dictionary in CMU's format: a word and its symbols a line; further pronunciations of it as `word(2)`.

    Raises OvertureError naming the line for one without symbols, or a file that cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OvertureError(f"{path}: no dictionary can be read there ({error})") from error
    found: dict[str, tuple[tuple[str, ...], ...]] = {}
    for number, line in enumerate(lines, 1):
        name, *symbols = line.partition("#")[0].split() or [""]
        if not name or name.startswith(";;;"):
            continue
        if not symbols:
            raise OvertureError(
                f"{path}, line {number}: {name!r} has no pronunciation. Add its symbols or delete the line."
            )
        if name.endswith(")") and name[:-1].rpartition("(")[2].isdigit():
            name = name.rpartition("(")[0]
        if (one := tuple(symbols)) not in (others := found.get(name, ())):
            found[name] = (*others, one)
    return found


def spelt(words: Iterable[str]) -> Pronunciations:
    """Each word as its letters, for languages without a dictionary: how regular the spelling is decides what that is worth."""
    return {word: (tuple(word),) for word in words}


@dataclass(frozen=True)
class Lexicon:
    """The words that can be recognised."""

    words: tuple[str, ...]  # sorted; a word's number is its place
    pronunciations: tuple[tuple[tuple[str, ...], ...], ...]  # of each word
    missing: tuple[str, ...]  # sorted; words asked for that the dictionary lacks: never recognised

    @classmethod
    def of(cls, words: Iterable[str], dictionary: Pronunciations) -> "Lexicon":
        """Those of `words` that `dictionary` has. Raises OvertureError when it has none."""
        asked = sorted(set(words))
        known = [w for w in asked if dictionary.get(w)]
        if not known:
            raise OvertureError(
                f"no word has a pronunciation ({len(asked)} asked for, such as {asked[:3]}): is the dictionary of another language?"
            )
        return cls(tuple(known), tuple(dictionary[w] for w in known), tuple(w for w in asked if w not in set(known)))

    def unknown(self, texts: Iterable[str]) -> tuple[int, int]:
        """(words in `texts` that the lexicon lacks, all words): their ratio is the OOV rate, which no decoder can get below."""
        known, found = set(self.words), [w for text in texts for w in text.split()]
        return sum(w not in known for w in found), len(found)


@dataclass(frozen=True)
class Network:
    """The prefix tree, unrolled into hidden Markov states. State 0 is silence, the states of the tree follow.

    Each state has a loop to itself, which is not listed.
    """

    words: tuple[str, ...]
    emit: np.ndarray  # (S,) int64 class of each state
    arcs: np.ndarray  # (S + 1,) int64: the successors of state s are targets[arcs[s] : arcs[s + 1]]
    targets: np.ndarray  # (A,) int64
    ends: np.ndarray  # (S + 1,) int64: the words that end with state s are spoken[ends[s] : ends[s + 1]]
    spoken: np.ndarray  # (E,) int64 numbers of words
    roots: np.ndarray  # (R,) int64 first states of words


def build_network(lexicon: Lexicon, topology: Topology) -> Network:
    """The network of all words of `lexicon`. Raises OvertureError for a symbol that the topology lacks."""
    emit, follow, words = [0], [list[int]()], [list[int]()]  # of each state; state 0 is silence
    heads: dict[tuple[int, str], int] = {}  # (last state before it, symbol) -> its first state; -1: at the root
    roots: list[int] = []
    for number, pronunciations in enumerate(lexicon.pronunciations):
        for symbols in pronunciations:
            here = -1
            for symbol in symbols:
                if (head := heads.get((here, symbol))) is None:
                    head = heads[here, symbol] = len(emit)
                    (roots if here < 0 else follow[here]).append(head)
                    first = topology.first(symbol)
                    if first == 0:
                        raise OvertureError(f"{lexicon.words[number]!r}: {SILENCE} stands between words, not in them")
                    for k in range(topology.states):
                        emit.append(first + k)
                        words.append([])
                        follow.append([head + k + 1] if k + 1 < topology.states else [])
                here = head + topology.states - 1
            if number not in words[here]:
                words[here].append(number)
    arcs, targets = _rows(follow)
    ends, spoken = _rows(words)
    return Network(lexicon.words, np.array(emit), arcs, targets, ends, spoken, np.array(roots, dtype=np.int64))


def _rows(lists: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Lists of different lengths as (N + 1,) offsets and all their values in a row."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in lists])]).astype(np.int64)
    return offsets, np.array([value for row in lists for value in row], dtype=np.int64)
