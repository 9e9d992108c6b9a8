"""Perplexity under an n-gram model of reference text: how likely a document is where that is the norm.

The ranking of stability-gap's domain corpus (Guo et al. 2024, arXiv:2406.14833: KenLM of clean medical text scores web pages, the lowest are
kept), and of CCNet before it. The model is our own Kneser-Ney (`recognise.lm`), so scores are the same on every machine. A low perplexity is not
quality by itself: boilerplate that repeats is the likeliest text of all, which is what `*_repetition` is there to show.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from overture.data.score import Ready
from overture.data.score.text import are_code, column, lists, segments, texts, words
from overture.data.table import Table
from overture.errors import OvertureError
from overture.recognise.lm import NGram
from overture.recognise.units import BOUNDARY

MOST = 2_000_000  # tokens a model is estimated of; of a larger reference, documents at random
AT_ONCE = 1_000  # documents of a reference that are read at a time
REPEATED = 5  # words that stood in a row before


@dataclass(frozen=True, kw_only=True)
class NGramPerplexity:
    """Perplexity a token, ends of segments counting as tokens; share of unknown tokens; share of repeated runs of five words.

    Columns `ppl`, `ppl_unknown`, `ppl_repetition`, or with another `name`. The rows of reference themselves score lower than they would unseen: leave
    them out, `--where "NOT (...)"`.
    """

    name: str = "ppl"
    reference: str | None = None  # a corpus; None: the one that is scored
    where: str | None = None  # SQL, which rows of it
    order: int = 3
    unit: Literal["words", "characters"] = "words"  # characters for scripts without spaces, and for little reference
    segments: bool = False  # of each segment too, in `ppl_segments`

    @property
    def columns(self) -> tuple[str, ...]:
        found = (self.name, f"{self.name}_unknown", f"{self.name}_repetition")
        return (*found, f"{self.name}_segments") if self.segments else found

    def sources(self, table: Table) -> dict[str, Any]:
        rows = self._reference(table)
        return {"reference": {"corpus": rows.name, "rows": len(rows), "fingerprint": rows.fingerprint}}

    def ready(self, table: Table) -> Ready:
        """Estimates the model. Raises OvertureError when the reference has no text."""
        model, used, total = self._model(self._reference(table))

        def score(rows: Table) -> dict[str, pa.Array]:
            whole: list[float | None] = []
            unknown: list[float | None] = []
            repeated: list[float | None] = []
            parts: list[list[float | None] | None] = []
            for text, code in zip(texts(rows), are_code(rows)):
                found = [] if text is None else [self._segment(model, s) for s in segments(text, bool(code))]
                logs, tokens, strange = np.array(found, dtype=np.float64).reshape(-1, 3).sum(axis=0)
                ends = sum(n > 0 for _, n, _ in found)
                whole.append(_perplexity(logs, tokens))
                unknown.append(strange / (tokens - ends) if tokens else None)
                repeated.append(None if text is None else repetition(text))
                parts.append(None if text is None else [_perplexity(p, n) for p, n, _ in found])
            columns = dict(zip(self.columns, (column(whole), column(unknown), column(repeated))))
            return columns | ({f"{self.name}_segments": lists(parts)} if self.segments else {})

        return Ready(score, {"reference_tokens": used, "reference_tokens_there": total})

    def _reference(self, table: Table) -> Table:
        whole = Table.open(self.reference) if self.reference else table
        rows = whole.where(self.where) if self.where else whole
        if not len(rows):
            raise OvertureError(f"ngram.where {self.where!r} leaves no row of {whole.name!r} to estimate a model of")
        return rows

    def _model(self, rows: Table) -> tuple[NGram, int, int]:
        lines: list[list[str]] = []
        total = used = 0
        order = np.random.default_rng(0).permutation(
            len(rows)
        )  # so that a reference in order of source is not cut short
        for start in range(0, len(rows), AT_ONCE):
            part = rows.take(order[start : start + AT_ONCE])
            for text, code in zip(texts(part), are_code(part)):
                for segment in segments(text or "", bool(code)):
                    tokens = self._tokens(segment)
                    total += len(tokens)
                    if total <= MOST:
                        lines.append(tokens)
                        used += len(tokens)
        return NGram.estimate((" ".join(tokens) for tokens in lines), self.order), used, total

    def _tokens(self, text: str) -> list[str]:
        text = text.lower()
        if self.unit == "characters":
            return list(" ".join(text.split()).replace(" ", BOUNDARY))
        return words(text)

    def _segment(self, model: NGram, text: str) -> tuple[float, int, int]:
        """log10 probability, tokens and the end, and how many are unknown; nothing where it has no token."""
        tokens = self._tokens(text)
        if not tokens:
            return 0.0, 0, 0
        return model.sentence(" ".join(tokens)), len(tokens) + 1, sum(token not in model for token in tokens)


def _perplexity(log10: float, tokens: float) -> float | None:
    return 10 ** (-log10 / tokens) if tokens else None


def repetition(text: str) -> float:
    """Share of its runs of five words that stood in the text before; 0 for a text of fewer."""
    found = words(text.lower())
    runs = [tuple(found[i : i + REPEATED]) for i in range(len(found) - REPEATED + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0
