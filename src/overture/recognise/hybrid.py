"""Hybrid recognition: a network's state posteriors in a hidden Markov model of words (Bourlard & Morgan 1994), as in HYKIST (arXiv 2309.15869).

A frame has a class, the state of a phone or letter that an alignment put there; there is no blank, and nothing here is CTC. Bayes turns
what the network says, p(s|x), into what the model needs, p(x|s) up to a constant: log p(s|x) - a log p(s), with the priors p(s) of the
training targets. Words are found by Viterbi search with token passing (Young et al. 1989): a token is a path's end, and of the
tokens in one state of the lexicon's prefix tree with one history of the language model the best goes on. So without pruning
the search is exact; a beam and a cap on tokens make it fast. Tokens of a frame are rows of numpy arrays.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from overture.errors import OvertureError
from overture.recognise.lexicon import SILENCE, Network, Topology
from overture.recognise.lm import END, UNKNOWN
from overture.run import Frontend

LN10 = math.log(10)


# ---- frames and their classes


@dataclass(frozen=True)
class Timing:
    """Which time an encoder's states stand for: state i for the `window` that begins at i * `hop`."""

    window: float  # s; 0 where the front end pads, so that its frames are centred on i * hop
    hop: float  # s

    @classmethod
    def of(cls, encoder: Any, frontend: Frontend) -> "Timing":
        """Asked of the length arithmetic of both, from two states on; padding counts as even on both sides.

        Raises OvertureError when that is not the frame rate that the encoder states, as after a change of strides or of the
        sampling rate that forgot the other.
        """

        def states(count: int) -> int:
            return int(encoder.steps(torch.tensor([frontend.steps(count)]))[0])

        def shortest(wanted: int) -> int:
            """Samples that have so many states."""
            low, high = -1, 60 * frontend.rate  # states(low) < wanted <= states(high)
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if states(middle) >= wanted else (middle, high)
            return high

        second = shortest(2)  # not the first: some networks pad whatever is too short for one
        hop = (shortest(22) - second) / 20 / frontend.rate
        if abs(hop * float(encoder.frame_rate) - 1) > 1e-3:
            raise OvertureError(
                f"the encoder says {float(encoder.frame_rate):g} frames a second and makes {1 / hop:g} of {frontend.rate} Hz samples. "
                "Strides and sampling rate must be changed together."
            )
        return cls(window=second / frontend.rate - hop, hop=hop)

    def factor(self, label_rate: float) -> int:
        """How many labels a state has. Raises OvertureError when that is no whole number."""
        factor = round(self.hop * label_rate)
        if factor < 1 or abs(self.hop * label_rate - factor) > 1e-3 * factor:
            raise OvertureError(
                f"states {1000 * self.hop:g} ms apart cannot have labels {1000 / label_rate:g} ms apart: one must be a multiple of the other"
            )
        return factor

    def times(self, steps: int, factor: int) -> np.ndarray:
        """(steps * factor,) s: the middle of each label's share of its state, around the middle of the window."""
        places = (np.arange(steps * factor) + 0.5) / factor - 0.5  # in states
        return places * self.hop + self.window / 2

    def check(self, end: float, steps: int, factor: int, row: str) -> None:
        """Whether an alignment that ends at `end` s fits a recording of `steps` states. Raises OvertureError when not.

        The labels left over, T_align - factor * T_enc, are what a window that fits no more leaves: for wav2vec 2.0 (window 25 ms, hop 20 ms)
        and labels of 10 ms from 0 to 2. Half a label is allowed for rounding, no more: else labels and states drift apart.
        """
        rate = factor / self.hop
        low = (self.window - self.hop) * rate
        over = end * rate - steps * factor
        if not low - 0.5 <= over < low + factor + 0.5:
            raise OvertureError(
                f"row {row!r}: its alignment lasts {end:.3f} s ({end * rate:.1f} labels), its {steps} states have {steps * factor}; "
                f"{math.floor(low)} to {math.floor(low + factor)} labels may be left over. "
                "Was the alignment made of another recording, or is the sampling rate wrong?"
            )


def frame_targets(symbols: Sequence[str], bounds: np.ndarray, times: np.ndarray, topology: Topology) -> np.ndarray:
    """(N,) int64 class at each of `times` (s), -1 outside of the alignment.

    `symbols` (P,) and `bounds` (P + 1,) s: an alignment. The states of a symbol divide its time equally, because an alignment says no more.
    """
    at = np.searchsorted(bounds, times, side="right") - 1
    inside = (at >= 0) & (at < len(symbols))
    at = at.clip(0, len(symbols) - 1)
    first = np.array([topology.first(s) for s in symbols])
    states = np.array([1 if s == SILENCE else topology.states for s in symbols])
    share = (times - bounds[at]) / (bounds[at + 1] - bounds[at])
    part = np.minimum((share * states[at]).astype(np.int64), states[at] - 1)
    return np.where(inside, first[at] + part, -1)


def from_ctc(places: Sequence[tuple[int, int]], text: str, timing: Timing, end: float) -> tuple[list[str], np.ndarray]:
    """A CTC alignment as one without blanks: symbols (P,) and bounds (P + 1,) s, from 0 to `end`.

    `places`: first and last + 1 state of each character of `text`. CTC puts a character where it is sure, not where it is said:
    what lies between two characters is halved between them; spaces and both ends are silence.
    """
    if len(places) != len(text) or not text.strip():
        raise ValueError(f"{len(places)} places of {len(text)} characters")
    symbols = [SILENCE, *(SILENCE if c == " " else c for c in text), SILENCE]
    edges = np.array([places[0][0], *((a[1] + b[0]) / 2 for a, b in pairwise(places)), places[-1][1]])
    inner = ((edges - 0.5) * timing.hop + timing.window / 2).clip(0, end)
    bounds = np.array([0.0, *inner, end])
    kept = np.flatnonzero(np.diff(bounds) > 0)
    return [symbols[i] for i in kept], np.append(bounds[kept], end)


@dataclass(frozen=True)
class Statistics:
    """What training targets say of the states, in nats."""

    log_prior: np.ndarray  # (C,) their shares of the labelled frames: exp sums to 1
    log_loop: np.ndarray  # (C,) staying in a state for one more frame
    log_leave: np.ndarray  # (C,) going on

    @classmethod
    def of(cls, targets: Iterable[np.ndarray], classes: int) -> "Statistics":
        """`targets`: (T_i,) classes of each training utterance, -1 where a frame has none.

        One frame and one visit more than counted, so that a state which no training frame has is rare and not impossible.
        """
        frames, visits = np.ones(classes), np.ones(classes)
        for labels in targets:
            known = labels[labels >= 0]
            frames += np.bincount(known, minlength=classes)
            heads = np.concatenate([[True], known[1:] != known[:-1]]) if len(known) else np.zeros(0, dtype=bool)
            visits += np.bincount(known[heads], minlength=classes)
        leave = visits / (frames + 1)  # never 1: a state of one frame a visit may still be repeated
        return cls(np.log(frames / frames.sum()), np.log1p(-leave), np.log(leave))


# ---- search


class WordModel(Protocol):
    """A language model of words: `recognise.lm.NGram`, or any other."""

    def start(self) -> Any:
        """The state at the start of a sentence. States can be compared and hashed."""

    def score(self, state: Any, word: str) -> tuple[float, Any]:
        """log10 p(word | state) and the state after it. END ends a sentence, after UNKNOWN nothing is remembered."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Weights, to be tuned on development rows, and how much is searched."""

    prior_scale: float = 0.5  # a in log p(s|x) - a log p(s)
    lm_weight: float = 8.0  # of the language model's natural log: frames are alike, so sound is counted too often
    beam: float = 10.0  # tokens worse than the best by more than this times max(1, lm_weight) nats are dropped
    tokens: int = 3000  # and of the others, in each frame, all but the best so many


class Heard(NamedTuple):
    """A word and its frames."""

    word: str
    first: int
    last: int  # + 1


@dataclass(frozen=True)
class Spoken:
    """The best path."""

    words: tuple[Heard, ...]
    score: float  # nats
    complete: bool  # false: no token was at the end of a word after the last frame; the words are those it had finished

    @property
    def text(self) -> str:
        return " ".join(w.word for w in self.words)


class _Tokens(NamedTuple):
    """The ends of N paths, (N,) each."""

    history: np.ndarray  # number of the language model's state
    state: np.ndarray  # of the network
    score: np.ndarray  # nats
    trace: np.ndarray  # of the last word's end, -1 before the first
    since: np.ndarray  # frame at which the word under way began

    def take(self, which: np.ndarray) -> "_Tokens":
        return _Tokens(*(values[which] for values in self))


def _joined(parts: Sequence[_Tokens]) -> _Tokens:
    return _Tokens(*(np.concatenate(values) for values in zip(*parts)))


class _Histories:
    """The language model behind numbers: asked once for a word after a history."""

    def __init__(self, lm: WordModel, words: Sequence[str]) -> None:
        self.lm, self.words = lm, words
        self.states: list[Any] = [lm.start()]
        self.numbers: dict[Any, int] = {self.states[0]: 0}
        self.known: dict[int, tuple[float, int]] = {}

    def after(self, histories: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) histories and numbers of words -> (N,) nats and (N,) histories."""
        keys = (histories * len(self.words) + words).tolist()
        known = self.known
        found = [known[key] if key in known else self._ask(key) for key in keys]
        return np.array([f[0] for f in found]), np.array([f[1] for f in found], dtype=np.int64)

    def _ask(self, key: int) -> tuple[float, int]:
        history, word = divmod(key, len(self.words))
        score, state = self.lm.score(self.states[history], self.words[word])
        if (number := self.numbers.get(state)) is None:
            number = self.numbers[state] = len(self.states)
            self.states.append(state)
        found = self.known[key] = score * LN10, number
        return found

    def ends(self, histories: np.ndarray) -> np.ndarray:
        """(N,) -> (N,) nats of the sentence ending there."""
        return np.array([self.lm.score(self.states[h], END)[0] * LN10 for h in histories.tolist()])


class Decoder:
    """Finds the words of utterances."""

    def __init__(self, network: Network, statistics: Statistics, lm: WordModel) -> None:
        self.network, self.statistics, self.lm = network, statistics, lm
        self.histories = _Histories(lm, network.words)
        self.hope = _hope(network, lm)

    def __call__(self, log_posteriors: np.ndarray, search: Search) -> Spoken:
        """(T, C) log p(s|x) -> the best words. Exact where the search is wide enough that nothing is pruned.

        The score of a path is the sum of log p(s|x) - a log p(s) over its frames, the log probabilities of looping and leaving
        (leaving the last state included), and lm_weight times the language model's of its words and of the sentence's end.
        """
        if len(self.histories.known) > 1_000_000:
            self.histories = _Histories(self.lm, self.network.words)  # bounds memory; costs questions only
        network, statistics = self.network, self.statistics
        if log_posteriors.ndim != 2 or log_posteriors.shape[1] != len(statistics.log_prior):
            raise ValueError(f"posteriors {log_posteriors.shape} of {len(statistics.log_prior)} classes")
        scores = log_posteriors.astype(np.float64) - search.prior_scale * statistics.log_prior  # (T, C)
        loop, leave = statistics.log_loop[network.emit], statistics.log_leave[network.emit]  # (S,)
        hope, width = search.lm_weight * self.hope, search.beam * max(1.0, search.lm_weight)
        traces: list[tuple[int, int, int, int]] = []  # before, word, first, last + 1
        none = np.zeros(1, dtype=np.int64)
        start = _Tokens(none, none, np.zeros(1), none - 1, none)
        tokens = start
        for t, frame in enumerate(scores):
            if t == 0:
                tokens = self._enter(start, 0, silence=True)
            else:
                going = tokens._replace(score=tokens.score + leave[tokens.state])
                stay = tokens._replace(score=tokens.score + loop[tokens.state])
                ended, words = self._word_ends(going, search)
                # Those are entered into every word: what the beam would drop there is dropped before.
                near = ended.score + hope[0] >= (stay.score + hope[stay.state]).max() - width
                ended = self._write(ended.take(near), words[near], t, traces)
                silent = self._enter(going.take(going.state == 0), t, silence=False)
                tokens = _joined([stay, self._onwards(going), silent, self._enter(ended, t, silence=True)])
            tokens = tokens._replace(score=tokens.score + frame[network.emit[tokens.state]])
            hoped = tokens.score + hope[tokens.state]
            tokens = self._recombined(tokens.take(hoped >= hoped.max() - width))
            if len(tokens.score) > search.tokens:
                hoped = tokens.score + hope[tokens.state]
                tokens = tokens.take(np.argpartition(hoped, -search.tokens)[-search.tokens :])
        return self._best(start if len(scores) == 0 else tokens, leave, len(scores), search, traces)

    def _recombined(self, tokens: _Tokens) -> _Tokens:
        """The best token of each history and state."""
        return tokens.take(_best_of_each(tokens.history * len(self.network.emit) + tokens.state, tokens.score))

    def _onwards(self, tokens: _Tokens) -> _Tokens:
        """To the states that follow in the tree."""
        source, places = _spread(self.network.arcs, tokens.state)
        return tokens.take(source)._replace(state=self.network.targets[places])

    def _word_ends(self, tokens: _Tokens, search: Search) -> tuple[_Tokens, np.ndarray]:
        """Tokens that have said a word, and the words: the history is the new one, of each new history there is the best token."""
        source, places = _spread(self.network.ends, tokens.state)
        words, ended = self.network.spoken[places], tokens.take(source)
        gain, histories = self.histories.after(ended.history, words)
        ended = ended._replace(score=ended.score + search.lm_weight * gain, history=histories)
        best = _best_of_each(histories, ended.score)
        return ended.take(best), words[best]

    def _write(self, ended: _Tokens, words: np.ndarray, t: int, traces: list[tuple[int, int, int, int]]) -> _Tokens:
        """Notes the words that ended before frame `t`; the tokens then point at the notes."""
        begin = len(traces)
        traces.extend(zip(ended.trace.tolist(), words.tolist(), ended.since.tolist(), [t] * len(words)))
        return ended._replace(trace=np.arange(begin, len(traces)))

    def _enter(self, tokens: _Tokens, t: int, *, silence: bool) -> _Tokens:
        """From between words into the first state of each word and, where `silence` says so, into silence."""
        roots = np.concatenate([[0], self.network.roots]) if silence else self.network.roots
        count = len(tokens.score)
        entered = tokens.take(np.repeat(np.arange(count), len(roots)))
        return entered._replace(state=np.tile(roots, count), since=np.full(count * len(roots), t))

    def _best(
        self, tokens: _Tokens, leave: np.ndarray, end: int, search: Search, traces: list[tuple[int, int, int, int]]
    ) -> Spoken:
        """The best of the paths that are between words after the last frame."""
        final = tokens
        if end:
            going = tokens._replace(score=tokens.score + leave[tokens.state])
            ended, words = self._word_ends(going, search)
            final = _joined([going.take(going.state == 0), self._write(ended, words, end, traces)])
        complete = len(final.score) > 0
        if complete:
            final = final._replace(score=final.score + search.lm_weight * self.histories.ends(final.history))
        else:
            final = tokens
        best = int(final.score.argmax())
        heard, trace = list[Heard](), int(final.trace[best])
        while trace >= 0:
            trace, word, first, last = traces[trace]
            heard.append(Heard(self.network.words[word], first, last))
        return Spoken(tuple(reversed(heard)), float(final.score[best]), complete)


def _best_of_each(keys: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The places (K,) of the best score of each key, ascending by key; of equal ones the first."""
    order = np.argsort(keys, kind="stable")
    keys, scores = keys[order], scores[order]
    heads = np.flatnonzero(np.diff(keys, prepend=-1))
    if len(heads) == len(keys):
        return order
    group = np.repeat(np.arange(len(heads)), np.diff(heads, append=len(keys)))
    best = np.flatnonzero(scores == np.maximum.reduceat(scores, heads)[group])
    return order[best[np.flatnonzero(np.diff(group[best], prepend=-1))]]


def _hope(network: Network, lm: WordModel) -> np.ndarray:
    """(S,) nats: what the language model will say, without a history, of the likeliest word that a state leads to.

    Only pruning looks at it: a token within a word stands beside those that have paid for theirs. Silence is before a word.
    """
    _, nothing = lm.score(lm.start(), UNKNOWN)
    alone = np.array([lm.score(nothing, word)[0] * LN10 for word in network.words])
    hope = np.full(len(network.emit), -np.inf)
    for state in range(len(hope) - 1, 0, -1):  # a state's successors have higher numbers
        words = network.spoken[network.ends[state] : network.ends[state + 1]]
        after = network.targets[network.arcs[state] : network.arcs[state + 1]]
        hope[state] = max([*alone[words], *hope[after]])
    hope[0] = hope[network.roots].max()
    return hope


def _spread(offsets: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For rows in a row: of each of `states` (N,), all places offsets[s] .. offsets[s + 1], and which of the N each belongs to."""
    counts = offsets[states + 1] - offsets[states]
    source = np.repeat(np.arange(len(states)), counts)
    before = np.cumsum(counts) - counts
    return source, np.arange(len(source)) - before[source] + offsets[states][source]
