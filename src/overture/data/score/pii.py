"""Personal data by its form: addresses, numbers, passwords in URLs. What has no form, such as names, it does not see.

The count a character is the PII score of Korbak et al. (2023, arXiv:2302.08582), who use scrubadub.
"""

import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from overture.data.score import Ready
from overture.data.score.text import scored, texts
from overture.data.table import Table

BYTE = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
PATTERN = re.compile(
    r"(?P<credentials>\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/@]+@[^\s/]+)"
    r"|(?P<email>\b[\w.+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}\b)"
    rf"|(?P<ip>(?<![\w.-]){BYTE}(?:\.{BYTE}){{3}}(?![\w-]|\.\d))"
    # international, of eight digits or more, or in groups, the first of them perhaps in brackets; no dates, no decimals, no plain long numbers
    r"|(?P<phone>(?<![\w.+/-])(?:\+(?=(?:[ ().-]{0,2}\d){8})[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{2,4}(?:[ .-]?\d{2,4}){1,4}"
    r"|\(\d{2,5}\)[ ]?\d{3,4}[ .-]?\d{3,4}|\d{3}[ .-]\d{3}[ .-]\d{4})(?![\w/-]|\.\d))"
)
KINDS = ("email", "phone", "ip", "credentials")


@dataclass(frozen=True, kw_only=True)
class PersonalData:
    """`pii`, hits a character, and the hits of each kind: `pii_email`, `pii_phone`, `pii_ip`, `pii_credentials`."""

    segments: bool = False  # hits a character of each segment too, in `pii_segments`

    @property
    def columns(self) -> tuple[str, ...]:
        found = ("pii", *(f"pii_{kind}" for kind in KINDS))
        return (*found, "pii_segments") if self.segments else found

    def sources(self, table: Table) -> dict[str, Any]:
        return {"pattern": PATTERN.pattern}

    def ready(self, table: Table) -> Ready:
        def rate(text: str) -> float | None:
            return sum(1 for _ in PATTERN.finditer(text)) / len(text) if text else None

        def score(rows: Table) -> dict[str, pa.Array]:
            hits = [None if text is None else [m.lastgroup for m in PATTERN.finditer(text)] for text in texts(rows)]
            counts = {
                f"pii_{k}": pa.array([None if h is None else h.count(k) for h in hits], pa.int32()) for k in KINDS
            }
            return scored(rows, "pii", rate, self.segments) | counts

        return Ready(score)
