"""Masked language modelling by any corruption: which tokens are taken, and what becomes of them.

BERT (Devlin et al. 2019) takes 15 % and makes 80 % of them [MASK], 10 % a random token, and keeps 10 %. A triple of other shares is another
task: (0, 1, 0) is SLM, "swap language modelling" (Di Liello 2023, arXiv:2309.08272, part 1), without any [MASK].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.objectives import Loss
from overture.objectives.vocabulary import token_losses

if TYPE_CHECKING:
    from overture.models.text import TextModel

TAKE, MADE, RANDOM = 0, 1, 2  # purposes of draws
Swap = Callable[[np.ndarray, np.random.Generator], np.ndarray]  # (n,) ids -> (n,) others


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """round(`share` n) of an example's n tokens that are not special are taken (one at least), each of these exactly one of three ways.

    `unit`: tokens are taken one by one, in spans of `width` tokens, or by whole words (of `data.words.PackWords`), as many as fit into that
    number of tokens and one at least. Shares are of what is taken, rounded for each example. A random token
    is no special one and never the original: so it always is a change, and nothing to predict can be read off.
    """

    share: float = 0.15
    mask: float = 0.8
    random: float = 0.1  # the rest is kept
    unit: Literal["token", "span", "word"] = "token"
    width: int = 3  # of a span

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and self.mask >= 0 and self.random >= 0 and self.mask + self.random <= 1 + 1e-9):
            raise OvertureError(
                f"corruption: share {self.share:g} must be in (0, 1], mask {self.mask:g} and random {self.random:g} at most 1 together"
            )

    def __call__(
        self, model: "TextModel", batch: Batch, draws: Draws, swap: Swap | None = None
    ) -> tuple[Tensor, Tensor]:
        """(B, T) ids after corruption, and (B, T) bool, true where a token was taken. `swap` draws the random tokens; None: all alike.

        Raises OvertureError where there is no [MASK] token, or `unit` is "word" and nobody says what a word is.
        """
        special = model.special
        if self.mask and special.mask < 0:
            raise OvertureError(
                "these tokens have no [MASK]: set the corruption's mask share to 0, or take another tokenizer"
            )
        x = batch.x.cpu().numpy().copy()
        taken = np.zeros(x.shape, dtype=bool)
        free = ordinary_places(model, batch).cpu().numpy()
        ordinary = ordinary_ids(model)
        swap = swap or (lambda ids, rng: others(ids, ordinary, rng))
        if self.unit == "word" and "word" not in batch.channels:
            raise OvertureError('corruption.unit="word" needs the words of a text: set data.text to PackWords')
        words = batch.channels["word"].cpu().numpy() if self.unit == "word" else x  # x: nobody looks at it
        for line, own, some, row, word in zip(x, free, taken, batch.rows.tolist(), words):
            places = np.flatnonzero(own)
            places = self.take(places, draws.example(row, TAKE), word[places])
            some[places] = True
            order = draws.example(row, MADE).permutation(places)
            masked, swapped = round(self.mask * len(order)), round((self.mask + self.random) * len(order))
            line[order[:masked]] = special.mask
            changed = order[masked:swapped]
            line[changed] = swap(line[changed], draws.example(row, RANDOM))
        return torch.from_numpy(x).to(batch.x.device), torch.from_numpy(taken).to(batch.x.device)

    def take(self, free: np.ndarray, rng: np.random.Generator, words: np.ndarray) -> np.ndarray:
        """Which of the places `free` (n,) are taken, ascending. `words` (n,) number the word of each, where words are the unit."""
        if len(free) == 0:
            return free
        count = min(len(free), max(1, round(self.share * len(free))))
        if self.unit == "token":
            return np.sort(rng.choice(free, count, replace=False))
        if self.unit == "word":
            _, of, sizes = np.unique(words, return_inverse=True, return_counts=True)
            left, chosen = count, []
            for number in rng.permutation(len(sizes)):
                if sizes[number] <= left:
                    left -= sizes[number]
                    chosen.append(number)
            return free[np.isin(of, chosen or [sizes.argmin()])]
        first = np.zeros(len(free), dtype=np.int64)  # turn of the first span that covers a place
        turn = rng.permutation(len(free))
        first[:] = turn
        for i in range(1, self.width):
            first[i:] = np.minimum(first[i:], turn[: len(free) - i])
        return np.sort(free[np.lexsort((np.arange(len(free)), first))[:count]])


def ordinary_ids(model: "TextModel") -> np.ndarray:
    """All ids that are not special, ascending."""
    return np.setdiff1d(np.arange(model.vocabulary), model.special.ids)


def ordinary_places(model: "TextModel", batch: Batch) -> Tensor:
    """(B, T) bool: where a token stands that is not special."""
    return batch.valid & ~torch.isin(batch.x, torch.tensor(model.special.ids, device=batch.x.device))


def others(ids: np.ndarray, among: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each of `ids` (n,) another one, all of `among` (m,), ascending, being equally likely; each of `ids` has to be one of these."""
    drawn = rng.integers(len(among) - 1, size=len(ids))
    return np.asarray(among[drawn + (drawn >= np.searchsorted(among, ids))])


@dataclass(frozen=True, kw_only=True)
class MaskedTokens:
    """-log p of the original of every token that was taken, in nats; also of those that were kept."""

    corruption: Corruption = Corruption()

    def __call__(self, model: "TextModel", batch: Batch, draws: Draws) -> Loss:
        x, taken = self.corruption(model, batch, draws)
        hidden = model.hidden(x, batch.lengths)  # (B, T, D)
        before, weight, bias = model.output
        loss, each = token_losses(before(hidden[taken]), weight, bias, batch.x[taken])
        counts = taken.sum(1)  # (B,)
        frames = hidden.detach()[batch.valid].float()
        return Loss(sum=loss, targets=counts.sum(), watch={"nats": each.mean()}, frames=frames, counts=counts)
