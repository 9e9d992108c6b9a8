"""From log probabilities of frames to text: the best path, and prefix beam search (Graves 2012; Hannun et al. 2014) with a language model.

A beam holds prefixes, each with the summed probability of all paths that write it, ending in a blank and not. A hypothesis scores

    ln p(ids | frames) + lm_weight * ln p(tokens, end) + word_bonus * tokens - unknown * unknown tokens

where the tokens of the language model are words or units (`lm.counts_units` tells which). Units are scored at once. A word is
scored when it ends, and until then ranked by the most frequent word that begins like it (look-ahead: Steinbiss et al. 1994).
Probabilities are kept linear and scaled by the best prefix at each frame: no logarithm of a sum is ever taken.
"""

import math
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from overture.errors import OvertureError
from overture.recognise.align import forced
from overture.recognise.lm import END, UNKNOWN, NGram, State, counts_units, token
from overture.recognise.units import BLANK, Units

LN10 = math.log(10)


def greedy(log_probs: Tensor, lengths: Tensor) -> list[list[int]]:
    """The best path: (B, T, C) scores (logits will do), (B,) -> ids with repeats merged and blanks removed."""
    best = log_probs.argmax(-1)  # (B, T)
    new = torch.ones_like(best, dtype=torch.bool)
    new[:, 1:] = best[:, 1:] != best[:, :-1]
    valid = torch.arange(best.shape[1], device=best.device)[None] < lengths[:, None].to(best.device)
    keep = (new & valid & (best != BLANK)).cpu()
    best = best.cpu()
    return [ids[k].tolist() for ids, k in zip(best, keep)]


@dataclass(frozen=True, kw_only=True)
class Beam:
    """How to search. `lm_weight`, `word_bonus` and `unknown` count only with a language model; tune them on development rows, never on test rows.

    A weight that is not balanced by a bonus deletes words, and without a price for unknown words two known ones are merged into one
    that is not. On 20 sentences of English dialogue as simulated frames (8 % unknown words) greedy decoding had a word error rate of
    60 %, the best of nine weights and bonuses on these same sentences 29 %, and with a price of 6 nats 8 %.
    """

    width: int = 32  # prefixes kept from frame to frame
    lm_weight: float = 0.5  # of the language model's natural logarithm
    word_bonus: float = 1.5  # nats for each token of the language model
    unknown: float = 6.0  # nats taken for each token that the language model does not know
    prune: float = 12.0  # nats below the best prefix at which a prefix is dropped
    token_prune: float = 7.0  # nats below the best unit of a frame at which a unit is not tried
    n_best: int = 1  # hypotheses handed back

    def __post_init__(self) -> None:
        for name, least in (("width", 1), ("n_best", 1), ("lm_weight", 0), ("unknown", 0), ("token_prune", 0)):
            if getattr(self, name) < least:
                raise OvertureError(f"beam search: {name} is {getattr(self, name)}, the least is {least}")
        if self.prune <= 0:
            raise OvertureError(f"beam search: prune is {self.prune}, it must be above 0")


@dataclass(frozen=True)
class Hypothesis:
    """What was said, perhaps."""

    ids: list[int]  # (L,)
    text: str
    score: float  # nats
    frames: list[int]  # (L,) the frame at which each id begins, on the best path of the ids


class _Prefix:
    """A node of the tree of prefixes that are in the beam, or on the way to one that is."""

    __slots__ = (
        *("parent", "children", "id", "kept", "blank", "label", "total", "new_blank", "new_label"),
        *("lm", "state", "word", "closed", "rank", "ranks"),
    )

    def __init__(self, parent: "_Prefix | None", unit: int, lm: float, state: State, word: str, rank: float) -> None:
        self.parent = parent
        self.id = unit
        self.lm = lm  # nats of the tokens that have ended
        self.state = state  # of the language model after them
        self.word = word  # letters since the last word ended
        self.rank = (
            rank  # lm, and what the word so far promises: what the prefix is compared by, beside its probability
        )
        self.ranks: dict[int, float] = {}  # of its children, as far as asked
        self.closed: tuple[float, State] | None = None  # lm and state if its word ends here, once asked
        self.children: dict[int, _Prefix] = {}
        self.kept = False  # in the beam
        self.blank = self.label = self.total = (
            0.0  # probability of paths ending in a blank, in the unit, in either; scaled
        )
        self.new_blank = self.new_label = 0.0  # the same one frame later

    def ids(self) -> list[int]:
        found: list[int] = []
        node = self
        while node.parent is not None:
            found.append(node.id)
            node = node.parent
        return found[::-1]

    def leave(self) -> None:
        """Out of the tree, with what led only here."""
        node = self
        while not node.kept and not node.children and node.parent is not None:
            if node.parent.children.pop(node.id, None) is None:  # gone before, with a child of its own
                return
            node = node.parent


class _Tokens:
    """Scores of the tokens a prefix has written, for a language model over words, over units, or for the bonus alone."""

    def __init__(self, units: Units, lm: NGram | None, beam: Beam) -> None:
        self.lm, self.weight, self.bonus, self.unknown = lm, beam.lm_weight * LN10, beam.word_bonus, beam.unknown
        self.ends_word = [spelling.startswith(" ") for spelling in units.spellings]
        self.letters = [spelling.lstrip() for spelling in units.spellings]
        self.units = [token(s) for s in units.spellings] if lm is not None and counts_units(lm, units) else None
        self.ahead = lm.ahead if lm is not None and self.units is None else None
        self.space = next((i for i, spelling in enumerate(units.spellings) if spelling == " "), -1)
        self.most = 2 * max(self.bonus, 0.0)  # that a unit can add to the lm of a prefix

    def root(self) -> _Prefix:
        """No text yet. As after a space, one more space changes nothing."""
        return _Prefix(None, max(self.space, BLANK), 0.0, self.lm.start() if self.lm is not None else None, "", 0.0)

    def child(self, x: _Prefix, unit: int) -> _Prefix:
        """A new node: `unit` follows `x`."""
        if self.units is not None:
            lm, state = self._scored(x, self.units[unit])
            made = _Prefix(x, unit, lm, state, "", lm)
        else:
            lm, state = self.close(x) if self.ends_word[unit] else (x.lm, x.state)
            word = self.letters[unit] if self.ends_word[unit] else x.word + self.letters[unit]
            made = _Prefix(x, unit, lm, state, word, lm + self._promise(word))
        x.children[unit] = made
        return made

    def rank(self, x: _Prefix, unit: int) -> float:
        """Of the prefix where `unit` follows `x`."""
        found = x.ranks.get(unit)
        if found is None:
            if self.units is not None:
                found = self._scored(x, self.units[unit])[0]
            elif self.ends_word[unit]:
                found = self.close(x)[0] + self._promise(self.letters[unit])
            else:
                found = x.lm + self._promise(x.word + self.letters[unit])
            x.ranks[unit] = found
        return found

    def close(self, x: _Prefix) -> tuple[float, State]:
        """lm and state if the word of `x`, if any, ends here."""
        if self.units is not None or not x.word:
            return x.lm, x.state
        if x.closed is None:
            x.closed = self._scored(x, x.word)
        return x.closed

    def end(self, x: _Prefix) -> float:
        """lm at the end of the utterance."""
        lm, state = self.close(x)
        return lm if self.lm is None else lm + self.weight * self.lm.score(state, END)[0]

    def _promise(self, word: str) -> float:
        """What the best word that begins like this adds at least, by its frequency alone; nats."""
        if self.ahead is None or not word:
            return 0.0
        p = self.ahead.get(word)
        return (
            self.weight * (self.ahead[UNKNOWN] if p is None else p) + self.bonus - (self.unknown if p is None else 0.0)
        )

    def _scored(self, x: _Prefix, word: str) -> tuple[float, State]:
        if self.lm is None:
            return 0.0, None
        p, state = self.lm.score(x.state, word)
        return x.lm + self.weight * p + self.bonus - (0.0 if word in self.lm else self.unknown), state


def beam_search(
    log_probs: NDArray[np.floating], units: Units, lm: NGram | None = None, beam: Beam | None = None
) -> list[Hypothesis]:
    """Hypotheses of one utterance's log probabilities (T, C), nats, best first; none where there are no frames.

    Spaces at either end or in a row are one hypothesis with the text without them; `score` sums over them too.
    Raises ValueError when C is not `len(units)` or a value is not a log probability.
    """
    beam = beam or Beam()
    if log_probs.ndim != 2 or log_probs.shape[1] != len(units):
        raise ValueError(f"log probabilities {log_probs.shape} for {len(units)} units: (T, {len(units)}) are wanted")
    if not len(log_probs):
        return []
    if not log_probs.max() < 1e-3:  # NaN too
        raise ValueError("these are no log probabilities: take log_softmax first")
    tokens = _Tokens(units, lm, beam)
    order = np.argsort(-log_probs[:, 1:], axis=1, kind="stable") + 1  # (T, C - 1) units, best first
    tried = (log_probs[:, 1:] >= log_probs.max(1, keepdims=True) - beam.token_prune).sum(1)  # (T,) how many of them
    root = tokens.root()
    root.blank = root.total = 1.0
    root.kept = True
    prefixes, scale = [root], 0.0
    for row, best, n in zip(log_probs.astype(np.float64), order, tried.tolist()):
        units_tried = best[:n].tolist()
        extensions = list(zip(units_tried, row[best[:n]].tolist()))
        prefixes, mass = _advance(prefixes, np.exp(row).tolist(), extensions, tokens, beam)
        scale += math.log(mass)

    masses: dict[_Prefix, float] = {}
    for x in prefixes:  # a space at the end is none
        x_text = x.parent if x.id == tokens.space and x.parent is not None else x
        masses[x_text] = masses.get(x_text, 0.0) + x.total
    scored = sorted(((math.log(m) + tokens.end(x), x) for x, m in masses.items()), key=itemgetter(0), reverse=True)
    hypotheses = []
    for score, x in scored[: beam.n_best]:
        ids = x.ids()
        hypotheses.append(Hypothesis(ids, units.decode(ids), score + scale, forced(log_probs, ids).first.tolist()))
    return hypotheses


def _advance(
    prefixes: list[_Prefix], p: list[float], extensions: list[tuple[int, float]], tokens: _Tokens, beam: Beam
) -> tuple[list[_Prefix], float]:
    """The beam one frame later, best first, and the probability that its best prefix was divided by, as were all others.

    `p` are the probabilities of the blank and all units, `extensions` the units that may lead to new prefixes and their log
    probabilities, best first.
    """
    log, space = math.log, tokens.space
    best, least = -math.inf, math.inf
    for x in prefixes:
        x.new_blank = x.total * p[BLANK]
        x.new_label = x.label * p[x.id]
        if x.id == space:  # two spaces are one
            x.new_label += x.blank * p[space]
    for x in prefixes:
        for unit, child in x.children.items():
            if child.kept:
                child.new_label += (x.blank if unit == x.id else x.total) * p[unit]
    candidates: list[tuple[float, _Prefix, int]] = []  # score, prefix, what follows it (BLANK: nothing)
    for x in prefixes:
        if (mass := x.new_blank + x.new_label) > 0:
            candidates.append((log(mass) + x.rank, x, BLANK))
            best, least = max(best, candidates[-1][0]), min(least, candidates[-1][0])
    # what is below the last of a full beam cannot enter it
    floor = max(best - beam.prune, least if len(candidates) >= beam.width else -math.inf)
    for x in prefixes:
        children, ranks = x.children, x.ranks
        total = log(x.total)
        most = x.lm + tokens.most
        for unit, log_p in extensions:
            score = total + log_p
            if score + most <= floor:
                break  # and so are all less probable units
            if unit == x.id:
                if unit == space or not x.blank:
                    continue
                score = log(x.blank) + log_p
            if unit in children and children[unit].kept:
                continue
            rank = ranks.get(unit)
            score += tokens.rank(x, unit) if rank is None else rank
            if score > floor:
                candidates.append((score, x, unit))
                floor = max(floor, score - beam.prune)
    candidates.sort(key=itemgetter(0), reverse=True)
    candidates = [c for c in candidates[: beam.width] if c[0] >= floor]

    masses = [
        x.new_blank + x.new_label if unit == BLANK else (x.blank if unit == x.id else x.total) * p[unit]
        for _, x, unit in candidates
    ]
    most_mass = max(masses)
    kept = []
    for x in prefixes:
        x.kept = False
    for (_, x, unit), mass in zip(candidates, masses):
        if (total := mass / most_mass) == 0:  # hundreds of nats below the best
            continue
        if unit == BLANK:
            x.blank, x.label = x.new_blank / most_mass, x.new_label / most_mass
        else:
            x = x.children.get(unit) or tokens.child(x, unit)
            x.blank, x.label = 0.0, total
        x.total = total
        x.kept = True
        kept.append(x)
    for x in prefixes:
        if not x.kept:
            x.leave()
    return kept, most_mass
