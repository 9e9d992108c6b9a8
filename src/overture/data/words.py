"""Which word each token is of: so that corruption can take whole words, whatever pieces a tokenizer cuts them into.

A word is a run of letters and digits, or any other single character, with the white space that a tokenizer puts before it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from overture.data.draws import Draws
from overture.data.text import Example, Pack, Packed

if TYPE_CHECKING:
    from overture.data.encoded import Encoded
    from overture.data.table import Table
    from overture.data.tokens import Special


@dataclass(frozen=True, kw_only=True)
class PackWords(Pack):
    """A `Pack` with the channel `word`: the number of a token's word within the example. CLS, SEP and end tokens are of none, -1."""

    def prepare(self, encoded: "Encoded", table: "Table", special: "Special", seed: int) -> "PackedWords":
        return PackedWords(self, encoded, table, special, seed)


class PackedWords(Packed):
    """The stretches of a `PackWords`."""

    def __init__(self, pack: PackWords, encoded: "Encoded", table: "Table", special: "Special", seed: int) -> None:
        """Raises OvertureError, see `Packed`."""
        super().__init__(pack, encoded, table, special, seed)
        self.starts_of, self.texts = encoded.starts, table.columns.column("text")

    def fetch(self, index: int, draws: Draws) -> Example:
        example = super().fetch(index, draws)
        parts, before = [], 0
        for row, first, last, ended in self.pieces(index):
            found = before + words(self.texts[row].as_py() or "", self.starts_of(row)[first:last])
            before = int(found[-1]) + 1 if len(found) else before
            parts.append(np.append(found, [-1] * ended))
        word = np.pad(np.concatenate(parts), int(self.pack.framed), constant_values=-1)
        return Example(example.ids, {**example.channels, "word": word.astype(np.int64)})


def words(text: str, starts: np.ndarray) -> np.ndarray:
    """(T,) where in `text`, by character, tokens begin, one after the other -> (T,) the word of each, numbered from 0."""
    goes_on = [s > 0 and text[s].isalnum() and text[s - 1].isalnum() for s in starts.tolist()]
    begins = ~np.array(goes_on, dtype=bool) & (
        np.diff(starts, prepend=-1) > 0
    )  # a character of several bytes may be several tokens
    begins[:1] = True
    return np.asarray(begins.cumsum() - 1)
