"""A corpus of text as ids: encoded once, in one packed file mapped into memory, with the place of every token in its text."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from overture.config import fingerprint, to_dict
from overture.data.once import made_once
from overture.data.tokens import Tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from overture.data.table import Table

AHEAD = 256  # documents encoded at a time


class Encoded:
    """The documents of a table as ids, in one packed file mapped into memory: named by what made it, made once."""

    def __init__(self, folder: Path, tokenizer: "Tokenizer") -> None:
        self.folder, self.tokenizer = folder, tokenizer
        self.offsets = np.load(folder / "offsets.npy", allow_pickle=False)  # (N + 1,) tokens
        kind = json.loads((folder / "source.json").read_text(encoding="utf8"))["dtype"]
        self._ids: np.ndarray = np.memmap(folder / "ids.bin", dtype=kind, mode="r")
        self._starts: np.ndarray = np.memmap(folder / "starts.bin", dtype=np.uint32, mode="r")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(N,) tokens of each document."""
        return np.diff(self.offsets)

    def ids(self, document: int, first: int = 0, last: int | None = None) -> np.ndarray:
        """(n,) int64 ids of a document, from its token `first` up to `last`."""
        begin, end = int(self.offsets[document]), int(self.offsets[document + 1])
        return np.asarray(self._ids[begin + first : end if last is None else min(end, begin + last)], dtype=np.int64)

    def starts(self, document: int) -> np.ndarray:
        """(n,) int64: where in its text, by character, each token begins. Structure known by characters is found by `np.searchsorted`."""
        return np.asarray(self._starts[self.offsets[document] : self.offsets[document + 1]], dtype=np.int64)

    @classmethod
    def open(cls, table: "Table", tokens: Tokens, progress: Callable[[float], None] | None = None) -> "Encoded":
        """`table` encoded by its tokenizer, from the cache or now. Raises OvertureError where a tokenizer cannot be had or nothing be written."""
        from overture.data.table import corpora_home

        tokenizer = tokens.tokenizer(table)
        made_of = {
            "table": table.fingerprint,
            "rows": len(table),
            "tokenizer": fingerprint(tokenizer.to_str()),
            "format": 1,
        }
        folder = corpora_home().parent / "features" / fingerprint(made_of)
        about = made_of | {"tokens": to_dict(tokens)}
        made_once(folder, lambda part: cls._write(part, table, tokenizer, about, progress), "the cache of tokens")
        return cls(folder, tokenizer)

    @staticmethod
    def _write(
        folder: Path,
        table: "Table",
        tokenizer: "Tokenizer",
        made_of: dict[str, Any],
        progress: Callable[[float], None] | None,
    ) -> None:
        kind = "uint16" if tokenizer.get_vocab_size() <= 1 << 16 else "uint32"
        offsets = [0]
        texts = table.columns.column("text")
        with (folder / "ids.bin").open("wb") as ids, (folder / "starts.bin").open("wb") as starts:
            for first in range(0, len(table), AHEAD):
                batch = [t or "" for t in texts.slice(first, AHEAD).to_pylist()]
                for found in tokenizer.encode_batch(batch, add_special_tokens=False):
                    ids.write(np.array(found.ids, dtype=kind).tobytes())
                    starts.write(np.array([a for a, _ in found.offsets], dtype=np.uint32).tobytes())
                    offsets.append(offsets[-1] + len(found.ids))
                if progress is not None:
                    progress(first / len(table))
        np.save(folder / "offsets.npy", np.array(offsets, dtype=np.int64))
        (folder / "source.json").write_text(json.dumps({**made_of, "dtype": kind}, indent=1), encoding="utf8")
