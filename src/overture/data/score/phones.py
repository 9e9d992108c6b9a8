"""Which phones are said, and when: forced alignment as columns, for what learns to speak (see `overture.data.phones`).

The alignments themselves are an artifact of `overture.tasks.align`, made once for a table and in parts, so a killed command goes on where it was.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from overture.data.score import Ready
from overture.errors import OvertureError

if TYPE_CHECKING:
    from overture.data.table import Table


@dataclass(frozen=True, kw_only=True)
class Phones:
    """`NAMEs`, the phones of a row from its beginning to its end, and `NAME_ends`, the second at which each ends.

    Both are null where a row could not be aligned: another language, words that the dictionary lacks, an alignment that fits far worse than others.
    """

    name: str = "phone"

    @property
    def columns(self) -> tuple[str, str]:
        return f"{self.name}s", f"{self.name}_ends"

    def sources(self, table: "Table") -> dict[str, Any]:
        from overture.tasks import align

        return {"aligner": align.version()}

    def ready(self, table: "Table") -> Ready:
        """Aligns all rows. Raises OvertureError for a corpus of text and where no row can be aligned, MissingExtra without the aligner."""
        from overture.tasks import align

        if table.is_text:
            raise OvertureError(f"corpus {table.name!r} is text: the scorer phones listens to recordings")
        path = align.aligned(table, align.kept())
        found = align.read(path)
        counts = json.loads((path.parent / "counts.json").read_text(encoding="utf8"))

        def score(rows: "Table") -> dict[str, pa.Array]:
            of = [found.get(i) for i in rows.columns.column("id").to_pylist()]
            phones = pa.array([a and list(a.phones) for a in of], pa.list_(pa.string()))
            ends = pa.array([a and a.bounds[1:].tolist() for a in of], pa.list_(pa.float32()))
            return dict(zip(self.columns, (phones, ends), strict=True))

        return Ready(score, notes={"aligned": counts["aligned"], **counts["left out"]})
