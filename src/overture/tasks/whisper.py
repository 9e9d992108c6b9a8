"""Whisper as a reference: it writes down the test rows, each in the language that its column says, and is scored as our recognisers are.

It has heard 680,000 hours with their transcripts, perhaps some of a corpus that is on the web; nothing of it is fitted here, so training and
development rows are not looked at.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from overture.data import audio
from overture.data.split import normal
from overture.data.table import Table
from overture.errors import OvertureError
from overture.models.sources import installed
from overture.models.whisper import RATE, Heard, Whisper
from overture.tasks import metrics
from overture.tasks.probe import ProbeResult, scored, strings

METRICS = {"cer": metrics.cer, "wer": metrics.wer}
CHUNK, BATCH = 64, 8  # rows that are read, and windows that are encoded, at a time

Tell = Callable[[dict[str, Any]], None]


def score(name: str, table: Table, target: str, test: np.ndarray, seed: int, *, metric: str, tell: Tell) -> ProbeResult:
    """The installed model `name` ("whisper-base", "whisper-tiny-en") on the rows `test` of `table`, in `metric` ("cer", "wer").

    Both sides are compared without case, punctuation and spacing, and no more: "5" for "five" is an error. A language that the row does not say, or
    that the model does not know, is detected, and `tell` is told how often. `predictions` also has the other metric's counts, the language that
    was written, and whether it was detected. `seed`: of the bootstrap. Raises OvertureError when the model is not installed, knows English only and
    rows do not say that they are English, or rows have no transcript.
    """
    began = time.perf_counter()
    references = [normal(text) for text in strings(table, target, test)]
    heard = transcripts(name, table, test, tell)
    hypotheses = [normal(h.text) for h in heard]
    counts = {m: count(references, hypotheses) for m, count in METRICS.items()}
    found = scored(
        table,
        test,
        metric,
        counts[metric],
        references,
        hypotheses,
        rate=0.0,  # nothing is trained
        dev={},
        dev_curve=[],
        layer_weights=[],
        left_out=[],
        began=began,
        seed=seed,
    )
    (other,) = METRICS.keys() - {metric}
    columns = {
        f"{other}_errors": counts[other].events,
        f"{other}_total": counts[other].totals,
        "language": [h.language for h in heard],
        "detected": [h.detected for h in heard],
    }
    predictions = found.predictions
    for column, values in columns.items():
        predictions = predictions.append_column(column, pa.array(values))
    return replace(found, predictions=predictions)


def transcripts(name: str, table: Table, test: np.ndarray, tell: Tell) -> list[Heard]:
    """What the installed model `name` writes of the rows `test` of `table`. Raises OvertureError, see `score`."""
    whisper = Whisper.load(installed(name), device="cuda" if torch.cuda.is_available() else "cpu")
    said = table.numpy("language")[test].tolist() if "language" in table.columns.column_names else [None] * len(test)
    codes = [whisper.code(tag) for tag in said]
    unknown = Counter(str(tag or "no language") for tag, code in zip(said, codes) if code is None)
    rows = ", ".join(f"{n} x {tag}" for tag, n in unknown.most_common())
    if unknown and whisper.multilingual:
        tell({"kind": "note", "text": f"{name} has to detect the language of rows that say none that it knows: {rows}"})
    elif unknown:
        raise OvertureError(
            f"{name!r} knows English only, and rows of {table.name!r} to be tested on do not say that they are English: {rows}. "
            "Take 'whisper-base', or leave such rows away."
        )
    return _hear(whisper, table, test, codes)


def _hear(whisper: Whisper, table: Table, test: np.ndarray, codes: list[str | None]) -> list[Heard]:
    """In the order of `test`; rows of about one length are heard together."""
    lengths = table.numpy("duration")[test]
    order = np.argsort(lengths, kind="stable")
    heard: dict[int, Heard] = {}
    for start in range(0, len(order), CHUNK):
        now = order[start : start + CHUNK].tolist()
        waves = []
        for i in now:
            row = table.row(int(test[i]))
            waves.append(audio.read(row["audio"], rate=RATE, start=row.get("start") or 0.0, duration=row["duration"]))
        heard |= dict(zip(now, whisper.hear(waves, [codes[i] for i in now], BATCH)))
    return [heard[i] for i in range(len(test))]
