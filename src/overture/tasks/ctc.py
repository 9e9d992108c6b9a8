"""Characters by connectionist temporal classification (Graves et al. 2006): alphabet, loss, head, greedy decoding.

Nothing here is particular to a language: an alphabet is whatever letters the training transcripts use.
"""

import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from overture.errors import OvertureError

BLANK = 0  # the id that stands for "no new character"; the first character has id 1
_APOSTROPHES = dict.fromkeys(map(ord, "\u2019\u02bc\uff07"), "'")


def normalise(text: str) -> str:
    """A transcript as it is learnt and scored: NFC, lower case, letters, their marks and apostrophes, single spaces.

    Everything else (punctuation, digits, symbols) becomes a space; invisible format characters (soft hyphen, zero-width
    joiners) vanish, and typographic apostrophes become '. Digits go because a digit does not say how it is read: write
    numbers out, or leave such rows away (--where "NOT regexp_matches(text, '[0-9]')").
    """
    lowered = unicodedata.normalize("NFC", text).lower().translate(_APOSTROPHES)
    kept = []
    for c in unicodedata.normalize("NFC", lowered):
        category = unicodedata.category(c)
        if category[0] in "LM" or c == "'":
            kept.append(c)
        elif category != "Cf":
            kept.append(" ")
    return " ".join("".join(kept).split())


@dataclass(frozen=True)
class Alphabet:
    """The characters a CTC head can write. Id 0 is the blank, character i of `characters` has id i + 1."""

    characters: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Every character of the normalised training transcripts, sorted by code point.

        Raises OvertureError when no text has a letter.
        """
        found = sorted({c for text in texts for c in normalise(text)})
        if not any(c not in " '" for c in found):
            raise OvertureError(
                "no alphabet: the training transcripts have no letters. Check the text column and the training rows."
            )
        return cls(tuple(found))

    def __len__(self) -> int:
        """Size of the head: the characters and the blank."""
        return len(self.characters) + 1

    def encode(self, text: str, *, row: str, drop: bool = False) -> list[int]:
        """Ids of the normalised `text`. `row` is the row's id, for the error.

        Raises OvertureError for a character outside the alphabet, unless `drop` leaves such characters away (to watch a
        loss on held-out rows; references for scoring are never encoded, so what the alphabet lacks is an error there).
        """
        ids = {c: i + 1 for i, c in enumerate(self.characters)}
        out = []
        for c in normalise(text):
            if c in ids:
                out.append(ids[c])
            elif not drop:
                name = unicodedata.name(c, f"U+{ord(c):04X}")
                raise OvertureError(
                    f"row {row!r}: the transcript has {c!r} ({name}), which the alphabet of the training transcripts "
                    "lacks. Correct the transcript, leave the row away, or build the alphabet with it."
                )
        return out

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids without blanks, white space collapsed."""
        return " ".join("".join(self.characters[i - 1] for i in ids).split())

    def save(self, path: str | Path) -> None:
        """As JSON, written whole or not at all."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps({"characters": list(self.characters)}, ensure_ascii=False), encoding="utf8")
        partial.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The alphabet that `save` wrote. Raises OvertureError when the file is none."""
        try:
            found = json.loads(Path(path).read_text(encoding="utf8"))
            characters = tuple(found["characters"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OvertureError(
                f"{path} is not an alphabet ({error}). Expected JSON with a list 'characters'."
            ) from error
        if (
            not characters
            or len(set(characters)) < len(characters)
            or any(not isinstance(c, str) or len(c) != 1 for c in characters)
        ):
            raise OvertureError(f"{path}: 'characters' must be a list of single, different characters.")
        return cls(characters)


class CTCHead(nn.Module):
    """From an encoder's last hidden state to character scores, for fine-tuning the whole encoder."""

    def __init__(self, dim: int, alphabet: Alphabet, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(dim, len(alphabet))

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) -> logits (B, T, C)."""
        scores: Tensor = self.output(self.dropout(hidden))
        return scores


def ctc_losses(logits: Tensor, logit_lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Negative log likelihood of each transcript, in nats: (B, T, C), (B,), (B, S) padded ids, (B,) -> (B,).

    Infinite where the frames cannot hold the transcript (see `infeasible`). Always computed in float32.
    """
    log_probs = logits.float().log_softmax(-1).transpose(0, 1)  # (T, B, C)
    return F.ctc_loss(log_probs, targets, logit_lengths, target_lengths, blank=BLANK, reduction="none")


def ctc_loss_sum(
    logits: Tensor, logit_lengths: Tensor, targets: Tensor, target_lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """(sum of the losses in nats, count of characters): arguments as in `ctc_losses`.

    The count is characters, so that the loss reads as nats a character, whatever the length of the utterances, and long
    utterances weigh more than short ones, as they do in CER. An empty transcript counts as one character: its blanks have
    a loss as well.
    """
    return ctc_losses(logits, logit_lengths, targets, target_lengths).sum(), target_lengths.clamp(min=1).sum()


def greedy_decode(log_probs: Tensor, lengths: Tensor) -> list[list[int]]:
    """The best path: (B, T, C) scores (logits will do), (B,) -> ids with repeats merged and blanks removed."""
    best = log_probs.argmax(-1)  # (B, T)
    new = torch.ones_like(best, dtype=torch.bool)
    new[:, 1:] = best[:, 1:] != best[:, :-1]
    valid = torch.arange(best.shape[1], device=best.device)[None] < lengths[:, None].to(best.device)
    keep = (new & valid & (best != BLANK)).cpu()
    best = best.cpu()
    return [ids[k].tolist() for ids, k in zip(best, keep)]


def frames_needed(ids: Sequence[int]) -> int:
    """Fewest frames that can hold a transcript: one a character and a blank between equal neighbours."""
    return len(ids) + sum(a == b for a, b in pairwise(ids))


@dataclass(frozen=True)
class Infeasible:
    """A row whose frames cannot hold its transcript: its loss is infinite, so it must not be trained on."""

    id: str
    frames: int
    needed: int


def infeasible(rows: Iterable[tuple[str, int, Sequence[int]]]) -> list[Infeasible]:
    """Of `rows` (id, frames of the encoder, encoded transcript), those with too few frames for their transcript."""
    checked = (Infeasible(name, int(frames), frames_needed(ids)) for name, frames, ids in rows)
    return [row for row in checked if row.frames < row.needed]
