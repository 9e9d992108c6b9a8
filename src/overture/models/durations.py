"""How long phones last: the mean log duration of a phone between its neighbours, counted in a corpus.

The smallest model that a synthesiser can plan by, and no network: Voicebox (Le et al. 2023, arXiv:2306.15687, section 3.3) has two of them, of which
the one that predicts means is as good to the ear. What is seen rarely leans on what is seen often: the phone between its two neighbours on the phone
before its right one, that on the phone alone, that on all. A prompt says how fast its speaker is (`pace`).

What it lacks: where in a phrase a phone stands (beyond its neighbours, so the last syllables are lengthened by the phone before silence alone),
stress, focus, and any spread: two renderings of a text last equally long. Pauses are where the phones say SIL, and as long as pauses are on average.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from overture import jsonfile
from overture.data.phones import SILENCE, FramePhones, labels_at, phone_ids
from overture.data.table import Table
from overture.errors import OvertureError

FILE = "durations.json"
LEAN = 4.0  # examples that a context needs to be trusted as much as the wider one
EDGE = "|"  # what stands before the first phone and after the last


@dataclass(frozen=True)
class PhoneDurations:
    """`seen`: of each context ("", "AH", "AH T", "M AH T") the number of examples and their mean log duration (of s)."""

    seen: Mapping[str, tuple[float, float]]

    @classmethod
    def count(cls, utterances: Iterable[tuple[Sequence[str], np.ndarray]]) -> Self:
        """Of the phones (P,) of each utterance and when each ends (P,) s. Raises ValueError where there is none."""
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for phones, ends in utterances:
            logs = np.log(np.diff(ends, prepend=0.0)).tolist()
            for contexts, log in zip(_contexts(phones), logs, strict=True):
                for context in contexts:
                    sums[context][0] += 1
                    sums[context][1] += log
        if not sums:
            raise ValueError("no phone to count")
        return cls({context: (n, total / n) for context, (n, total) in sums.items()})

    @classmethod
    def of(cls, table: Table, columns: FramePhones) -> Self:
        """Of the rows of a corpus that have phones. Raises OvertureError as `FramePhones.rows`."""
        rows = table.take(columns.rows(table))
        phones, ends = (rows.columns.column(c).to_pylist() for c in columns.columns)
        return cls.count((p, np.array(e)) for p, e in zip(phones, ends, strict=True))

    def seconds(self, phones: Sequence[str], pace: float = 1.0) -> np.ndarray:
        """(P,) float64 s that each of `phones` lasts; those that are not silence times `pace`."""
        logs = np.array([self._log(contexts) for contexts in _contexts(phones)])
        return np.asarray(np.exp(logs) * np.where(_spoken(phones), pace, 1.0))

    def pace(self, phones: Sequence[str], ends: np.ndarray) -> float:
        """How many times as long as expected the phones of an utterance last, by geometric mean, silence apart; 1 where it is silent.

        `ends`: (P,) s when each ends.
        """
        spoken = _spoken(phones)
        if not spoken.any():
            return 1.0
        logs = np.log(np.diff(ends, prepend=0.0)) - np.log(self.seconds(phones))
        return float(np.exp(logs[spoken].mean()))

    def labels(self, phones: Sequence[str], frame_rate: float, pace: float = 1.0) -> np.ndarray:
        """(T,) int64 position in PHONES of each frame at `frame_rate` Hz of an utterance of `phones`: each has one frame or more.

        Raises ValueError for a phone that there is not.
        """
        ends = np.cumsum(np.maximum(self.seconds(phones, pace), 1 / frame_rate))
        steps = max(len(phones), round(float(ends[-1]) * frame_rate))
        bounds = np.concatenate([[0.0], ends]) * (steps / frame_rate / ends[-1])
        found = labels_at(np.arange(len(phones)), bounds, steps, frame_rate)  # (T,) which of the phones
        missing = np.setdiff1d(np.arange(len(phones)), found)
        return np.asarray(phone_ids(phones)[np.sort(np.concatenate([found, missing]))])

    def _log(self, contexts: Sequence[str]) -> float:
        mean = 0.0
        for i, context in enumerate(contexts):
            n, own = self.seen.get(context, (0.0, 0.0))
            mean = own if i == 0 else (n * own + LEAN * mean) / (n + LEAN)
        return mean

    def save(self, path: Path) -> None:
        jsonfile.write(path, {context: list(numbers) for context, numbers in sorted(self.seen.items())})

    @classmethod
    def load(cls, path: Path) -> Self:
        """What `save` wrote. Raises OvertureError for anything else."""
        try:
            return cls(
                {str(context): (float(n), float(mean)) for context, (n, mean) in jsonfile.read_object(path).items()}
            )
        except (OSError, TypeError, ValueError) as error:
            raise OvertureError(f"{path} does not say how long phones last ({error}). Train the run again.") from error


def _contexts(phones: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """Of each phone all that its duration is looked up by, the widest last."""
    around = [EDGE, *phones, EDGE]
    return [
        ("", p, f"{p} {after}", f"{before} {p} {after}") for before, p, after in zip(around, around[1:], around[2:])
    ]


def _spoken(phones: Sequence[str]) -> np.ndarray:
    return np.array([p != SILENCE for p in phones], dtype=bool)
