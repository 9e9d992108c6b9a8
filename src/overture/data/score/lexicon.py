"""A list of words, and the share of a text that is in it: C4's list of bad words, terms of a domain, names.

To select by a list is another experiment than to select by a classifier, and has another column.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overture.data.score import Ready
from overture.data.score.text import scored, word_pattern, words
from overture.data.table import Table
from overture.errors import OvertureError


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """Hits a word. A term may be of several words; case does not count, and a term inside of a word is none."""

    name: str = "lexicon"
    file: str = ""  # one term a line; lines that begin with # are remarks
    segments: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.name, f"{self.name}_segments") if self.segments else (self.name,)

    def sources(self, table: Table) -> dict[str, Any]:
        return {"terms": len(self.terms()), "sha1": hashlib.sha1("\n".join(self.terms()).encode()).hexdigest()}

    def terms(self) -> list[str]:
        """Raises OvertureError when there is no such file, it is not UTF-8, or it names nothing."""
        if not self.file:
            raise OvertureError(f"{self.name} needs a list of words: --set {self.name}.file=FILE, one term a line")
        try:
            lines = Path(self.file).read_text(encoding="utf8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise OvertureError(f"{self.name}.file={self.file}: cannot be read ({error})") from error
        found = {" ".join(words(line.lower())) for line in lines if not line.startswith("#")} - {""}
        if not found:
            raise OvertureError(f"{self.name}.file={self.file} names no term")
        return sorted(found)

    def ready(self, table: Table) -> Ready:
        letter = word_pattern().pattern.removesuffix("+")
        terms = sorted(self.terms(), key=len, reverse=True)  # the longest first: 'black list' before 'black'
        pattern = re.compile(f"(?<!{letter})(?:{'|'.join(map(re.escape, terms))})(?!{letter})")

        def score(text: str) -> float | None:
            found = words(text.lower())
            return len(pattern.findall(" ".join(found))) / len(found) if found else None

        return Ready(lambda rows: scored(rows, self.name, score, self.segments))
