"""Phones and when they are said: as a corpus has them in two columns, and as labels of the frames of an utterance.

A corpus gets the columns from the scorer of the same name (`overture data score CORPUS --with phones`): `phones`, a list for each row, and
`phone_ends`, the second at which each ends; the first begins at 0 and there are no gaps. Silence, at the ends and between words, is a phone of
its own. Rows that could not be aligned have neither.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overture.errors import OvertureError

if TYPE_CHECKING:  # a `Run` holds a `FramePhones`, and must stay light
    import numpy as np

    from overture.data.table import Table

SILENCE = "SIL"
PHONES: tuple[str, ...] = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH", "K", "L", "M", "N",
    "NG", "OW", "OY", "P", "R", "S", "SH", "SIL", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip  # ARPAbet without stress, sorted: a class is a position here

Labels = Callable[[int, int], "np.ndarray"]  # index of a row, its frames T -> (T,) int64


@dataclass(frozen=True)
class Alignment:
    """The phones of one utterance, without a gap."""

    phones: tuple[str, ...]  # (P,) of PHONES; silence and noise are SIL, never twice in a row
    bounds: "np.ndarray"  # (P + 1,) float64 s, ascending: phone i lasts from bounds[i] to bounds[i + 1]
    score: float  # mean over phones of the acoustic score a frame, silence apart; log units of the model, higher fits better


def frame_labels(alignment: Alignment, steps: int, frame_rate: float) -> "np.ndarray":
    """(steps,) int64 position in PHONES of each frame of an encoder at `frame_rate` Hz; -1 outside the alignment.

    The frame's centre decides, (i + 0.5) / frame_rate s; a centre on a boundary belongs to the phone that begins. Front ends put
    their windows up to half a frame beside that, which is less than an alignment is sure of.
    """
    return labels_at(phone_ids(alignment.phones), alignment.bounds, steps, frame_rate)


def phone_ids(phones: Sequence[str]) -> "np.ndarray":
    """(P,) int64 position of each in PHONES. Raises ValueError for one that is not there."""
    import numpy as np

    return np.array([PHONES.index(p) for p in phones], dtype=np.int64)


def labels_at(ids: "np.ndarray", bounds: "np.ndarray", steps: int, frame_rate: float) -> "np.ndarray":
    """(P,) classes, (P + 1,) s where each begins and ends -> (steps,) int64 as `frame_labels`."""
    import numpy as np

    centres = (np.arange(steps) + 0.5) / frame_rate
    at = np.searchsorted(bounds, centres, side="right") - 1  # (steps,) phone
    inside = (at >= 0) & (at < len(ids))
    return np.where(inside, ids[np.clip(at, 0, len(ids) - 1)], -1)


@dataclass(frozen=True, kw_only=True)
class FramePhones:
    """Each batch says which phone is spoken at each frame: `Batch.channels[name]`, (B, T) int64 positions in PHONES."""

    name: str = "phone"  # the corpus has `NAMEs` and `NAME_ends`

    @property
    def columns(self) -> tuple[str, str]:
        return f"{self.name}s", f"{self.name}_ends"

    def rows(self, table: "Table") -> "np.ndarray":
        """(K,) int64 indices of the rows of `table` that were aligned. Raises OvertureError where none was, and for a corpus without columns."""
        import numpy as np

        if missing := [c for c in self.columns if c not in table.columns.column_names]:
            raise OvertureError(
                f"corpus {table.name!r} has no column {missing[0]!r}: 'overture data score {table.name} --with phones' aligns its phones"
            )
        there = [~np.asarray(table.columns.column(c).is_null()) for c in self.columns]
        found = np.flatnonzero(np.logical_and(*there))
        if len(found) == 0:
            raise OvertureError(f"no row of corpus {table.name!r} has phones: the aligner knows English alone")
        return found

    def labels(self, table: "Table", frame_rate: float) -> Labels:
        """What reads the labels of a row of `table` at `frame_rate` Hz. That raises OvertureError, naming the row, for a phone that there is not
        and for an alignment that ends before or after the recording."""
        import numpy as np

        ids = table.columns.column("id")
        phones, ends = (table.columns.column(c) for c in self.columns)

        def of(index: int, steps: int) -> np.ndarray:
            name = ids[index].as_py()
            try:
                classes = phone_ids(phones[index].as_py())
            except ValueError as error:
                raise OvertureError(f"row {name!r}, column {self.columns[0]!r}: {error}. Score it again.") from error
            bounds = np.array([0.0, *ends[index].as_py()])
            if len(bounds) != len(classes) + 1:
                raise OvertureError(
                    f"row {name!r}: {len(classes)} {self.columns[0]} and {len(bounds) - 1} {self.columns[1]}. Score it again."
                )
            found = labels_at(classes, bounds, steps, frame_rate)
            if (found < 0).any() or bounds[-1] > (steps + 2) / frame_rate:  # such as a recording that was sped up since
                raise OvertureError(
                    f"row {name!r}: its phones end at {bounds[-1]:.2f} s, its recording at {steps / frame_rate:.2f}. Score it again."
                )
            return found

        return of
