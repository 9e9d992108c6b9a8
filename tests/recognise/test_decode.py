"""The decoder against all paths, against the definition of its score, and against pyctcdecode."""

import itertools
import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from overture.config import fingerprint, from_dict, to_dict
from overture.errors import OvertureError
from overture.recognise.decode import LN10, Beam, beam_search, greedy
from overture.recognise.lm import END, NGram, sentences
from overture.recognise.units import Characters, Phones, Pieces, Units, make_units
from tests.recognise import shared

with_kenlm = pytest.mark.skipif(find_spec("kenlm") is None, reason="needs the extra 'lm'")
EVERYTHING = {"width": 10**6, "prune": 1e9, "token_prune": 1e9, "n_best": 10**6}


def noise(frames: int, size: int, seed: int = 0) -> np.ndarray:
    return np.log(np.random.default_rng(seed).dirichlet(np.full(size, 0.5), frames)).astype(np.float32)


def all_texts(log_probs: np.ndarray, units: Units) -> dict[str, float]:
    """The log probability of every text, summed over all paths that write it."""
    found: dict[str, float] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        text = units.decode([c for c, _ in itertools.groupby(path) if c])
        score = sum(float(log_probs[t, c]) for t, c in enumerate(path))
        found[text] = np.logaddexp(found.get(text, -math.inf), score)
    return found


@pytest.mark.parametrize("units", [Characters("abc"), Characters(" ab"), Phones(("a", "ɜː", "b"), "en-us")])
@pytest.mark.parametrize("frames", [1, 2, 3, 6])
def test_sums_over_all_paths(units, frames):
    log_probs = noise(frames, len(units), frames)
    expected = all_texts(log_probs, units)
    found = beam_search(log_probs, units, beam=Beam(**EVERYTHING))
    assert {h.text: h.score for h in found} == pytest.approx(expected, abs=1e-5) and len(found) == len(expected)
    assert all(a.score >= b.score for a, b in itertools.pairwise(found))
    assert all(units.decode(h.ids) == h.text for h in found)
    assert math.fsum(math.exp(h.score) for h in found) == pytest.approx(1, abs=1e-4)


def test_score_is_that_of_ctc_loss():
    units, log_probs = Characters("abcd"), noise(7, 5, 3)
    for found in beam_search(log_probs, units, beam=Beam(**EVERYTHING))[:200]:
        loss = F.ctc_loss(
            torch.tensor(log_probs)[:, None], torch.tensor([found.ids]).long(), torch.tensor([7]), torch.tensor([len(found.ids)]), reduction="sum"
        )  # fmt: skip
        assert found.score == pytest.approx(-float(loss), abs=1e-4)


def lm_score(lm: NGram, tokens: list[str], beam: Beam) -> float:
    unknown = sum(t not in lm for t in tokens)
    return (
        beam.lm_weight * LN10 * lm.sentence(" ".join(tokens)) + beam.word_bonus * len(tokens) - beam.unknown * unknown
    )


@pytest.mark.parametrize("weights", [(0.7, 1.0, 2.0), (1.3, 0.0, 0.0), (0.0, 0.0, 0.0), (0.4, -1.0, 5.0)])
def test_words_are_scored_as_defined(weights):
    units, log_probs = Characters(" ab"), noise(6, 4, 1)
    lm = NGram.estimate(["a b", "ab a", "b ab", "a a b"], 3)
    beam = Beam(**EVERYTHING, lm_weight=weights[0], word_bonus=weights[1], unknown=weights[2])
    expected = {text: p + lm_score(lm, text.split(), beam) for text, p in all_texts(log_probs, units).items()}
    found = beam_search(log_probs, units, lm, beam)
    assert {h.text: h.score for h in found} == pytest.approx(expected, abs=1e-4)
    assert found[0].text == max(expected, key=expected.__getitem__)


def test_units_are_scored_as_defined():
    beam = Beam(**EVERYTHING, lm_weight=0.8, word_bonus=0.5, unknown=3.0)
    units, log_probs = Characters(" abc"), noise(5, 5, 2)
    lm = NGram.estimate(sentences(["ab a", "ba ab", "b"], units, "units"), 3)  # 'c' is unknown
    found = beam_search(log_probs, units, lm, beam)
    ctc = all_texts(log_probs, units)
    for h in found:  # a space at the end, or a second one, is in the probability of the frames and not in the model's
        tokens = [c.replace(" ", "\u2581") for c in h.text]
        assert h.score == pytest.approx(ctc[h.text] + lm_score(lm, tokens, beam), abs=1e-4)
    assert len(found) == len(ctc)


def test_phones_are_words():
    """A model over words of phones and one over phones as units are the same model."""
    units, log_probs = Phones(("a", "b", "tʃ"), "en-us"), noise(5, 4, 4)
    texts = ["a b tʃ", "b a", "tʃ a b"]
    words = NGram.estimate(texts, 2)
    tokens = NGram.estimate([" ".join("\u2581" + p for p in t.split()) for t in texts], 2)
    first, second = (beam_search(log_probs, units, lm, Beam(**EVERYTHING)) for lm in (words, tokens))
    assert {h.text: h.score for h in first} == pytest.approx({h.text: h.score for h in second}, abs=1e-6)


def test_pieces_make_words():
    units = Pieces(("\u2581", "a", "b", "\u2581a", "ab"), ("\u2581 a", "a b"))
    lm = NGram.estimate(["a ab", "ab b a"], 2)
    beam = Beam(**EVERYTHING, lm_weight=0.6, word_bonus=1.0, unknown=4.0)
    log_probs = noise(4, 6, 5)
    ctc: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(6), repeat=4):
        ids = [c for c, _ in itertools.groupby(path) if c]
        ids = [
            i for at, i in enumerate(ids) if i != 1 or (at and ids[at - 1] != 1)
        ]  # bare marks at the beginning or in a row
        ids = ids[:-1] if ids[-1:] == [1] else ids
        score = sum(float(log_probs[t, c]) for t, c in enumerate(path))
        ctc[tuple(ids)] = np.logaddexp(ctc.get(tuple(ids), -math.inf), score)
    found = beam_search(log_probs, units, lm, beam)
    assert {tuple(h.ids) for h in found} == set(ctc)
    for h in found:
        assert h.score == pytest.approx(ctc[tuple(h.ids)] + lm_score(lm, h.text.split(), beam), abs=1e-4)
        assert h.text == units.decode(h.ids) == " ".join(w for _, _, w in units.words(h.ids))


@pytest.mark.parametrize(
    ("setting", "scorer"), [(0, None), (1, "own"), (2, "own"), pytest.param(1, "kenlm", marks=with_kenlm)]
)
def test_hypotheses_equal_those_of_pyctcdecode(setting, scorer, tmp_path):
    chosen, units, lm = shared.SETTINGS[setting], shared.units(), None
    beam = {"width": 100, "prune": 25.0, "token_prune": 9.0}
    if chosen is not None:
        lm = NGram.estimate(shared.TEXTS, 3)
        beam |= {"lm_weight": chosen["alpha"], "word_bonus": chosen["beta"]}
        beam |= {"unknown": -chosen["alpha"] * chosen["unk"] * LN10}
        if scorer == "kenlm":
            lm.write(tmp_path / "lm.arpa")
            lm = NGram.read(tmp_path / "lm.arpa")
    mended = 0
    for number, (spoken, expected) in enumerate(zip(shared.SPOKEN, shared.expected()[setting])):
        log_probs = shared.frames(spoken, number)
        found = beam_search(log_probs, units, lm, Beam(**beam))[0]
        assert found.text == expected["text"]
        # without a model its pruning loses up to a fifth of a hypothesis' probability that ours keeps, and the other way round
        assert found.score == pytest.approx(expected["score"], abs=0.2 if chosen is None else 0.03)
        best = units.decode(greedy(torch.tensor(log_probs)[None], torch.tensor([len(log_probs)]))[0])
        mended += (found.text == spoken) - (best == spoken)
    assert mended == (0 if chosen is None else 2)


def test_narrow_default_beam_still_mends_what_was_misheard():
    units, lm = shared.units(), NGram.estimate(shared.TEXTS, 3)
    right = {"beam": 0, "greedy": 0}
    for number, spoken in enumerate(shared.SPOKEN):
        log_probs = shared.frames(spoken, number)
        right["beam"] += beam_search(log_probs, units, lm)[0].text == spoken
        best = greedy(torch.tensor(log_probs)[None], torch.tensor([len(log_probs)]))[0]
        right["greedy"] += units.decode(best) == spoken
    assert right == {"beam": 8, "greedy": 6}


def test_unit_model_prefers_what_it_has_seen():
    units = make_units("characters", shared.TEXTS)
    lm = NGram.estimate(sentences(shared.TEXTS, units, "units"), 5)
    ids = units.encode("the queen", row="r")
    log_probs = np.full((2 * len(ids), len(units)), 1e-4)
    log_probs[np.arange(0, 2 * len(ids), 2), ids] = log_probs[1::2, 0] = 1.0
    heard = 2 * 4  # the 'q' sounds like 'k', hardly like itself
    log_probs[heard] = 1e-4
    log_probs[heard, units.encode("k", row="r")], log_probs[heard, units.encode("q", row="r")] = 0.9, 0.1
    log_probs = np.log(log_probs / log_probs.sum(1, keepdims=True)).astype(np.float32)
    assert beam_search(log_probs, units)[0].text == "the kueen"
    assert beam_search(log_probs, units, lm, Beam(lm_weight=1.0))[0].text == "the queen"


def test_frames_of_ids():
    units = Characters(" ab")
    path = [0, 2, 2, 0, 2, 1, 0, 0, 3, 3, 1, 0]  # "aa b"
    log_probs = np.log(np.where(np.eye(4)[path] > 0, 0.97, 0.01)).astype(np.float32)
    best = beam_search(log_probs, units)[0]
    assert best.text == "aa b" and best.ids == [2, 2, 1, 3] and best.frames == [1, 4, 5, 8]


def test_greedy_merges_and_stops_at_the_length():
    path = torch.tensor([[1, 1, 0, 1, 2, 2, 3, 3], [0, 0, 0, 0, 4, 4, 4, 4], [2, 2, 0, 2, 0, 0, 0, 0]])
    scores = F.one_hot(path, 5).float()
    assert greedy(scores, torch.tensor([6, 4, 8])) == [[1, 1, 2], [], [2, 2]]


def test_long_silence_and_certain_frames_do_not_underflow():
    units = Characters("ab")
    log_probs = np.full((3000, 3), -200.0, np.float32)
    log_probs[:, 0] = 0.0
    log_probs[1000] = log_probs[2000] = [-100.0, -0.0, -300.0]
    best = beam_search(log_probs, units)[0]
    assert best.text == "aa" and best.score == pytest.approx(0, abs=1e-3) and best.frames == [1000, 2000]
    impossible = np.where(log_probs > -150, log_probs, -np.inf)
    assert beam_search(impossible, units)[0].text == "aa"
    assert (
        beam_search(log_probs[990:1010], units, beam=Beam(**EVERYTHING))[0].text == "a"
    )  # keeps what is 4000 nats below


def test_the_tree_of_prefixes_holds_only_the_beam_and_what_leads_to_it(monkeypatch):
    from overture.recognise import decode

    advance, sizes = decode._advance, []

    def watched(*args):
        kept, mass = advance(*args)
        top = kept[0]
        while top.parent is not None:
            top = top.parent
        nodes = [top]
        for node in nodes:
            nodes += node.children.values()
        assert {id(n) for n in nodes if n.kept} == {id(n) for n in kept}
        assert all(n.kept or n.children for n in nodes) and all(n.parent.children[n.id] is n for n in nodes[1:])
        sizes.append(len(nodes))
        return kept, mass

    monkeypatch.setattr(decode, "_advance", watched)
    beam_search(noise(120, 5), Characters("abcd"))
    beam_search(noise(60, 5), Characters("abc "), NGram.estimate(["a b", "ab ca"], 2), Beam(width=7))
    assert len(sizes) == 180 and max(sizes) > 32


def test_what_is_refused():
    units = Characters("ab")
    assert beam_search(np.zeros((0, 3), np.float32), units) == []
    with pytest.raises(ValueError, match=r"\(T, 3\) are wanted"):
        beam_search(noise(4, 5), units)
    with pytest.raises(ValueError, match="log_softmax"):
        beam_search(np.ones((4, 3), np.float32), units)
    with pytest.raises(ValueError, match="log_softmax"):
        beam_search(np.full((4, 3), np.nan, np.float32), units)
    for wrong in ({"width": 0}, {"lm_weight": -1.0}, {"unknown": -1.0}, {"n_best": 0}, {"prune": 0.0}):
        with pytest.raises(OvertureError, match=next(iter(wrong))):
            Beam(**wrong)


def test_beam_is_a_configuration():
    beam = Beam(width=8, lm_weight=1.5)
    assert from_dict(Beam(), to_dict(beam)) == beam and fingerprint(beam) != fingerprint(Beam())


def test_end_of_sentence_counts():
    """Of two equal endings the model takes the one that ends sentences."""
    units = Characters(" abc")
    lm = NGram.estimate(["a b", "c b", "b a c a b"], 2)
    p = np.full((3, 5), 1e-6)
    p[0, 2] = p[1, 1] = 1.0
    p[2, 3] = p[2, 4] = 0.5
    assert lm.score(("b",), END)[0] > lm.score(("c",), END)[0]
    assert beam_search(np.log(p / p.sum(1, keepdims=True)).astype(np.float32), units, lm)[0].text == "a b"
