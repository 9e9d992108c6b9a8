"""Hybrid decoding: what is found is what trying every path finds; labels are where they belong; priors are those of the targets."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest

from overture.data.features import LogMel, Waveform
from overture.data.lengths import windows
from overture.errors import OvertureError
from overture.recognise import hybrid, lexicon
from overture.recognise.hybrid import LN10, Decoder, Search, Statistics, Timing, frame_targets, from_ctc
from overture.recognise.lexicon import Lexicon, Topology, build_network
from overture.recognise.lm import END, UNKNOWN, NGram

WIDE = Search(beam=1e9, tokens=10**9)
WORDS = {
    "ab": (("A", "B"),),
    "a": (("A",), ("B", "B")),
    "ah": (("A",),),  # sounds like "a"
    "ba": (("B", "A"),),
    "c": (("C",),),
}


class Bigram:
    """log10 p of each pair of words, drawn at random; the state is the word before."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.table = {
            pair: float(-3 * rng.random()) for pair in product(("<s>", UNKNOWN, *WORDS), (*WORDS, END, UNKNOWN))
        }

    def start(self) -> str:
        return "<s>"

    def score(self, state: str, word: str) -> tuple[float, str]:
        return self.table[state, word], word


def every_sentence(states: int, frames: int) -> Iterator[tuple[tuple[str, ...], list[int]]]:
    """The words and the classes of the states of all that fits into `frames`; silence wherever it may stand."""
    topology = Topology(symbols=("A", "B", "C"), states=states)
    said = [(w, [topology.first(s) + k for s in p for k in range(states)]) for w, ps in WORDS.items() for p in ps]

    def go(words: tuple[str, ...], classes: list[int], quiet: bool) -> Iterator[tuple[tuple[str, ...], list[int]]]:
        if classes:
            yield words, classes
        if not quiet and len(classes) < frames:
            yield from go(words, [*classes, 0], True)
        for word, own in said:
            if len(classes) + len(own) <= frames:
                yield from go((*words, word), [*classes, *own], False)

    return go((), [], False)


def brute(
    scores: np.ndarray, statistics: Statistics, lm: Any, weight: float, states: int
) -> tuple[float, set[tuple[str, ...]]]:
    """The best score over every path, and the sentences that have it."""
    frames, best = len(scores), dict[tuple[str, ...], float]()
    for words, classes in every_sentence(states, frames):
        language, state = 0.0, lm.start()
        for word in (*words, END):
            p, state = lm.score(state, word)
            language += weight * LN10 * p
        for cuts in combinations(range(1, frames), len(classes) - 1):
            bounds = [0, *cuts, frames]
            total = language
            for c, first, last in zip(classes, bounds[:-1], bounds[1:]):
                total += (
                    scores[first:last, c].sum() + (last - first - 1) * statistics.log_loop[c] + statistics.log_leave[c]
                )
            best[words] = max(best.get(words, -np.inf), total)
    top = max(best.values())
    return top, {words for words, score in best.items() if score > top - 1e-9}


def tiny(states: int, seed: int) -> tuple[Decoder, np.ndarray]:
    """A decoder of WORDS with random statistics and language model, and posteriors of 12 frames."""
    rng = np.random.default_rng(seed)
    topology = Topology(symbols=("A", "B", "C"), states=states)
    size = len(topology)
    leave = rng.uniform(0.1, 0.9, size)
    statistics = Statistics(np.log(rng.dirichlet(np.ones(size))), np.log1p(-leave), np.log(leave))
    posteriors = np.log(rng.dirichlet(np.full(size, 0.3), size=12) + 1e-9)
    return Decoder(build_network(Lexicon.of(WORDS, WORDS), topology), statistics, Bigram(seed)), posteriors


@pytest.mark.parametrize("states", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 4, 5])
def test_the_search_is_exact(states: int, frames: int) -> None:
    for seed in range(12):
        decoder, posteriors = tiny(states, seed)
        search = replace(WIDE, prior_scale=(seed % 4) / 3, lm_weight=(0.0, 0.3, 1.0, 5.0)[seed // 3])
        found = decoder(posteriors[:frames], search)
        scores = posteriors[:frames] - search.prior_scale * decoder.statistics.log_prior
        score, sentences = brute(scores, decoder.statistics, decoder.lm, search.lm_weight, states)
        assert found.complete and found.score == pytest.approx(score, abs=1e-9)
        assert tuple(w.word for w in found.words) in sentences
        ends = [0, *(t for w in found.words for t in (w.first, w.last)), frames]
        assert ends == sorted(ends) and all(w.last > w.first for w in found.words)


def test_the_score_is_that_of_the_words_at_their_times() -> None:
    """The times are of the best path: the frames of the words, and silence between, account for the whole score."""
    decoder, posteriors = tiny(1, 3)
    statistics, topology = decoder.statistics, Topology(symbols=("A", "B", "C"), states=1)
    found = decoder(posteriors, WIDE)
    scores = posteriors - WIDE.prior_scale * statistics.log_prior

    def within(classes: list[int], first: int, last: int) -> float:
        """The best score of a row of states on these frames."""
        return max(
            sum(
                scores[a:b, c].sum() + (b - a - 1) * statistics.log_loop[c] + statistics.log_leave[c]
                for c, a, b in zip(classes, (first, *cuts), (*cuts, last))
            )
            for cuts in combinations(range(first + 1, last), len(classes) - 1)
        )

    total, before, state = 0.0, 0, "<s>"
    for word, first, last in found.words:
        total += within([0], before, first) if first > before else 0.0
        total += max(within([topology.first(s) for s in p], first, last) for p in WORDS[word] if len(p) <= last - first)
        total += WIDE.lm_weight * LN10 * decoder.lm.score(state, word)[0]
        before, state = last, word
    total += within([0], before, len(scores)) if len(scores) > before else 0.0
    assert found.score == pytest.approx(total + WIDE.lm_weight * LN10 * decoder.lm.score(state, END)[0])


def test_it_is_not_ctc() -> None:
    """Two equal sounds follow each other with nothing between, which CTC would read as one; no class stands for nothing."""
    topology = Topology(symbols=("A",), states=1)
    network = build_network(Lexicon.of(["a"], {"a": (("A",),)}), topology)
    statistics = Statistics(np.log([0.5, 0.5]), np.log([0.9, 0.1]), np.log([0.1, 0.9]))
    decoder = Decoder(network, statistics, NGram.estimate(["a a", "a a", "a a a"], order=2))
    found = decoder(np.log([[0.01, 0.99], [0.01, 0.99]]), replace(WIDE, lm_weight=0.1))
    assert [tuple(w) for w in found.words] == [("a", 0, 1), ("a", 1, 2)]
    assert len(topology) == 2 and set(network.emit) == {0, 1}
    assert not [n for m in (hybrid, lexicon) for n in vars(m) if "BLANK" in n.upper()]


def test_a_beam_loses_no_score_where_it_is_wide_and_never_gains_any() -> None:
    decoder, posteriors = tiny(2, 7)
    exact = decoder(posteriors, WIDE)
    assert decoder(posteriors, Search()).score == pytest.approx(exact.score)
    scores = [decoder(posteriors, replace(WIDE, beam=beam)).score for beam in (0.3, 1.0, 3.0)]
    scores += [decoder(posteriors, replace(WIDE, tokens=tokens)).score for tokens in (1, 4, 16)]
    assert max(scores) <= exact.score + 1e-9


def test_what_ends_within_a_word_is_said() -> None:
    topology = Topology(symbols=("A", "B"), states=2)
    network = build_network(Lexicon.of(["ab"], {"ab": (("A", "B"),)}), topology)
    statistics = Statistics(np.log(np.full(5, 0.2)), np.log(np.full(5, 0.5)), np.log(np.full(5, 0.5)))
    decoder = Decoder(network, statistics, NGram.estimate(["ab"], order=2))
    posteriors = np.full((3, 5), -100.0)
    posteriors[[0, 1, 2], [1, 2, 3]] = 0.0
    found = decoder(posteriors, replace(WIDE, beam=5.0))  # silence for three frames is far behind
    assert not found.complete and found.words == ()
    assert decoder(posteriors, WIDE).complete
    assert decoder(np.zeros((0, 5)), WIDE).text == ""
    with pytest.raises(ValueError, match="posteriors"):
        decoder(np.zeros((3, 4)), WIDE)


def test_words_and_their_times_come_back() -> None:
    """Sentences laid out as frames and blurred: the search reads them, with three states a phone."""
    dictionary = {w: (tuple(w),) for w in ("stop", "start", "art", "top", "tops", "a", "go", "got", "to", "otto")}
    topology = Topology(symbols=tuple(sorted({c for w in dictionary for c in w})), states=3)
    rng, classes = np.random.default_rng(0), len(topology)
    texts = [" ".join(rng.choice(sorted(dictionary), 5)) for _ in range(60)]
    lm = NGram.estimate(texts, order=3)
    laid = []
    for text in texts[:8]:
        symbols, bounds, times = ["SIL"], [0.0], []
        for word in text.split():
            begin = bounds[-1] + 0.1  # the end of what stands before the word
            for symbol in (*word, *(["SIL"] if rng.random() < 0.5 else [])):
                bounds.append(bounds[-1] + (0.1 if symbols[-1] == "SIL" else 0.06))
                symbols.append(symbol)
            times.append((word, begin))
        bounds.append(bounds[-1] + 0.1)
        steps = round(bounds[-1] * 50)
        labels = frame_targets(symbols, np.array(bounds), Timing(0.02, 0.02).times(steps, 2), topology)
        laid.append((text, labels))
    statistics = Statistics.of([labels for _, labels in laid], classes)
    decoder = Decoder(build_network(Lexicon.of(dictionary, dictionary), topology), statistics, lm)
    for text, labels in laid:
        posteriors = np.full((len(labels), classes), 0.3 / classes)
        posteriors[np.arange(len(labels)), labels] += 0.7
        found = decoder(np.log(posteriors * rng.lognormal(0, 0.5, posteriors.shape)), replace(Search(), lm_weight=1.0))
        assert found.text == text and found.complete
        assert all((labels[w.first : w.last] != 0).mean() > 0.9 for w in found.words)


# ---- frames


class Lengths:
    """An encoder that has lengths only: one window after the other."""

    def __init__(self, window: int, hop: int, frame_rate: float) -> None:
        self.window, self.hop, self.frame_rate = window, hop, frame_rate

    def steps(self, lengths: Any) -> Any:
        return windows(lengths, self.window, self.hop)


def leftovers(timing: Timing, encoder: Lengths, frontend: Any, factor: int) -> set[int]:
    """T_align - factor * T_enc over recordings of half a second and a little more, each of which is checked."""
    import torch

    found = set()
    for count in range(frontend.rate // 2, frontend.rate // 2 + 1_000, 7):
        end, steps = count / frontend.rate, int(encoder.steps(torch.tensor([frontend.steps(count)]))[0])
        timing.check(end, steps, factor, "r")
        found.add(math.floor(end * factor / timing.hop + 1e-6) - factor * steps)  # whole labels of the recording
        for wrong in (end - 0.035, end + 0.035, end * 2, end / 2):
            with pytest.raises(OvertureError, match=r"row 'r': its alignment lasts .* may be left over"):
                timing.check(wrong, steps, factor, "r")
    return found


def test_labels_fit_states_or_it_is_an_error() -> None:
    wav2vec2 = Lengths(400, 320, 50.0)
    timing = Timing.of(wav2vec2, Waveform())
    assert (timing.window, timing.hop) == (pytest.approx(0.025), pytest.approx(0.02)) and timing.factor(100.0) == 2
    assert leftovers(timing, wav2vec2, Waveform(), 2) == {0, 1, 2}  # T_align = 2 T_enc + 0..2
    halved = Lengths(400, 160, 50.0)  # 8 kHz and one stride halved: the window is twice as long
    timing = Timing.of(halved, Waveform(rate=8_000))
    assert timing.window == pytest.approx(0.05)
    assert leftovers(timing, halved, Waveform(rate=8_000), 2) == {3, 4}
    mel = Lengths(1, 1, 100.0)  # a front end that pads
    timing = Timing.of(mel, LogMel())
    assert timing.window == pytest.approx(0.0) and timing.factor(100.0) == 1
    assert leftovers(timing, mel, LogMel(), 1) == {-1}
    with pytest.raises(OvertureError, match="one must be a multiple of the other"):
        timing.factor(33.0)
    with pytest.raises(OvertureError, match="one must be a multiple of the other"):
        timing.factor(250.0)


def test_8_khz_into_an_unmodified_encoder_is_refused() -> None:
    with pytest.raises(OvertureError, match="says 50 frames a second and makes 25 of 8000 Hz samples"):
        Timing.of(Lengths(400, 320, 50.0), Waveform(rate=8_000))


def test_labels_are_where_the_windows_are() -> None:
    timing = Timing(0.025, 0.02)
    assert timing.times(3, 1) == pytest.approx([0.0125, 0.0325, 0.0525])  # middles of the windows
    assert timing.times(2, 2) == pytest.approx([0.0075, 0.0175, 0.0275, 0.0375])  # 5 ms to each side
    assert Timing(0.0, 0.01).times(3, 1) == pytest.approx([0.0, 0.01, 0.02])
    topology = Topology(symbols=("A", "B"), states=1)
    bounds = np.array([0.0, 0.5, 1.0])
    for factor in (1, 2, 4):
        times = timing.times(49, factor)
        labels = frame_targets(["A", "B"], bounds, times, topology)
        assert (labels[times < 0.5] == 1).all() and (labels[times >= 0.5] == 2).all()


def test_states_divide_their_symbol() -> None:
    topology = Topology(symbols=("A", "B"), states=3)
    times = (np.arange(16) + 0.5) / 100
    labels = frame_targets(["SIL", "A", "B"], np.array([0.0, 0.03, 0.09, 0.13]), times, topology)
    assert labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 5, 6, -1, -1, -1]
    assert frame_targets(["A"], np.array([0.02, 0.05]), times[:6], topology).tolist() == [-1, -1, 1, 2, 3, -1]


def test_priors_are_shares_of_the_targets() -> None:
    statistics = Statistics.of([np.array([0, 0, 1, 1, 1, 2, -1]), np.array([2, 2, 0])], 4)
    assert np.exp(statistics.log_prior).sum() == pytest.approx(1, abs=1e-12)
    assert np.exp(statistics.log_prior) == pytest.approx(
        np.array([4, 4, 4, 1]) / 13
    )  # each frame counted, and one more
    assert np.exp(statistics.log_leave) == pytest.approx([3 / 5, 2 / 5, 3 / 5, 1 / 2])
    assert np.exp(statistics.log_leave) + np.exp(statistics.log_loop) == pytest.approx(np.ones(4))
    assert Statistics.of([np.full(5, -1)], 2).log_prior == pytest.approx(np.log([0.5, 0.5]))


def test_priors_decide_between_what_sounds_alike() -> None:
    """Equal posteriors, one class four times as frequent: with the priors divided out, the rare one is the likelier."""
    topology = Topology(symbols=("A", "B"), states=1)
    dictionary = {"a": (("A",),), "b": (("B",),)}
    even = np.log(np.full(3, 0.5))
    statistics = Statistics(np.log([0.5, 0.4, 0.1]), even, even)
    decoder = Decoder(
        build_network(Lexicon.of(dictionary, dictionary), topology), statistics, NGram.estimate(["a", "b"], 2)
    )
    posteriors = np.log([[0.1, 0.5, 0.4]])
    assert decoder(posteriors, replace(WIDE, prior_scale=0.0)).text == "a"
    assert decoder(posteriors, replace(WIDE, prior_scale=1.0)).text == "b"


def test_a_ctc_alignment_loses_its_blanks() -> None:
    timing = Timing(0.02, 0.02)
    symbols, bounds = from_ctc([(2, 3), (5, 6), (8, 9), (9, 11)], "ab c", timing, 0.26)
    assert symbols == ["SIL", "a", "b", "SIL", "c", "SIL"]
    assert bounds == pytest.approx([0.0, 0.04, 0.08, 0.14, 0.18, 0.22, 0.26])  # halves of the gaps
    symbols, bounds = from_ctc([(0, 1), (1, 3)], "ab", timing, 0.06)
    assert symbols == ["a", "b"] and bounds == pytest.approx([0.0, 0.02, 0.06])  # no silence at the ends
    with pytest.raises(ValueError, match="2 places of 1 characters"):
        from_ctc([(0, 1), (1, 2)], "a", timing, 0.1)
