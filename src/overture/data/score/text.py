"""What scorers of text share: words, segments, and columns of scores of both; and the two simplest scorers.

A segment is a sentence, in code (rows of kind 'code') a line. Segments follow each other without a gap, white space belongs to the one
before it, so that a text is its segments put together, and a score of each can be carried to tokens (Korbak et al. 2023, arXiv:2302.08582).
"""

import re
import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from overture.data.score import Ready
from overture.data.table import Table
from overture.errors import OvertureError

Scores = Callable[[str], float | None]  # of one text or segment; None: nothing to score
# a mark that ends sentences, what may close behind it, and white space before something that may begin one; marks of CJK need no space
SENTENCE = re.compile(
    r"""(?:[.!?…।॥؟]+["'”’»)\]]*\s+(?=["'“‘«„¿¡(\[\-–—]*[^\W_a-zà-öø-ÿа-я])|[。！？]+[”」』）]*\s*|\n\s*)"""
)
ABBREVIATED = re.compile(r"(?:\b(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|vs|etc|e\.g|i\.e|cf|No|Fig|Sr|Jr|z\.B|Nr)\.)\s+\Z")


def ends(text: str, code: bool = False) -> list[int]:
    """Where the segments of a text end, in characters; the last is its length. A text of n lines of code has n."""
    if code:
        found = [m.end() for m in re.finditer("\n", text)]
    else:
        found = [
            m.end() for m in SENTENCE.finditer(text) if not ABBREVIATED.search(text, max(0, m.start() - 8), m.end())
        ]
        begin = len(text) - len(text.lstrip())
        found = [end for end in found if end > begin]
    if text and (not found or found[-1] < len(text)):
        found.append(len(text))
    return found


def segments(text: str, code: bool = False) -> list[str]:
    """The segments themselves; together they are the text."""
    stops = ends(text, code)
    return [text[a:b] for a, b in zip([0, *stops[:-1]], stops)]


@cache
def word_pattern() -> re.Pattern[str]:
    """Runs of letters, digits and the marks that stand on them: Python's own \\w ends a word of Devanagari at each vowel sign."""
    marks = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in ("Mn", "Mc"))
    return re.compile(rf"[\w{marks}]+")


def words(text: str) -> list[str]:
    found: list[str] = word_pattern().findall(text)
    return found


def texts(table: Table) -> list[str | None]:
    """The text of each row. Raises OvertureError where rows have no such column, or none has one."""
    if "text" not in table.columns.column_names:
        raise OvertureError(f"corpus {table.name!r} has no column 'text' to score")
    found: list[str | None] = table.columns.column("text").to_pylist()
    return found


def are_code(table: Table) -> np.ndarray:
    """(N,) bool, which rows are programs."""
    if "kind" not in table.columns.column_names:
        return np.zeros(len(table), dtype=bool)
    return np.array([kind == "code" for kind in table.columns.column("kind").to_pylist()], dtype=bool)


def column(values: Sequence[float | None]) -> pa.Array:
    """Scores of rows."""
    return pa.array([None if v is None or v != v else v for v in values], pa.float32())


def lists(values: Sequence[Sequence[float | None] | None]) -> pa.Array:
    """Scores of the segments of rows."""
    return pa.array(values, pa.list_(pa.float32()))


def scored(table: Table, name: str, score: Scores, by_segment: bool) -> dict[str, pa.Array]:
    """`score` of each document and, if `by_segment`, of each of its segments."""
    found = texts(table)
    columns = {name: column([None if text is None else score(text) for text in found])}
    if by_segment:
        code = are_code(table)
        columns[f"{name}_segments"] = lists(
            [None if text is None else [score(s) for s in segments(text, bool(c))] for text, c in zip(found, code)]
        )
    return columns


@dataclass(frozen=True, kw_only=True)
class Segments:
    """Where segments end: `segments`, a list of numbers of characters. Every scorer of segments brings it along."""

    columns = ("segments",)

    def sources(self, table: Table) -> dict[str, Any]:
        return {}

    def ready(self, table: Table) -> Ready:
        def score(rows: Table) -> dict[str, pa.Array]:
            found = [None if t is None else ends(t, bool(c)) for t, c in zip(texts(rows), are_code(rows))]
            return {"segments": pa.array(found, pa.list_(pa.int32()))}

        return Ready(score)


@dataclass(frozen=True, kw_only=True)
class Length:
    """`characters` and `words` of a text."""

    columns = ("characters", "words")

    def sources(self, table: Table) -> dict[str, Any]:
        return {}

    def ready(self, table: Table) -> Ready:
        def score(rows: Table) -> dict[str, pa.Array]:
            found = texts(rows)
            return {
                "characters": pa.array([None if t is None else len(t) for t in found], pa.int32()),
                "words": pa.array([None if t is None else len(words(t)) for t in found], pa.int32()),
            }

        return Ready(score)
