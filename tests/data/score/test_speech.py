"""overture.data.score.speech: dB that were put in come out, noise lowers the ratio of real speech."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from overture.data.audio import read
from overture.data.score import scorer
from overture.data.score.annotate import score
from overture.data.score.speech import ratio
from overture.data.table import Table
from overture.errors import OvertureError

RATE = 16_000


@pytest.mark.parametrize("decibels", [10.0, 20.0, 40.0])
def test_the_ratio_that_was_put_in_comes_out(decibels: float) -> None:
    rng = np.random.default_rng(0)
    loud = np.zeros(10 * RATE)
    loud[2 * RATE : 8 * RATE] = rng.normal(0, 0.1, 6 * RATE)  # 6 s of 10
    noise = rng.normal(0, 0.1 * 10 ** (-decibels / 20), 10 * RATE)
    snr, speech = ratio(loud + noise, RATE)
    assert snr == pytest.approx(10 * np.log10(1 + 10 ** (decibels / 10)), abs=1.5)  # percentiles are not means
    if decibels > 10:
        assert speech == pytest.approx(0.6, abs=0.01)


def test_silence_and_short_waves() -> None:
    assert ratio(np.zeros(RATE), RATE) == (0.0, 0.0)
    assert ratio(np.zeros(400), RATE) == (None, None)
    offset = np.random.default_rng(0).normal(0, 0.01, RATE)
    assert ratio(offset + 0.3, RATE)[0] == pytest.approx(ratio(offset, RATE)[0])  # a constant is no sound


def test_noise_lowers_the_ratio_of_real_speech() -> None:
    table = Table.open("embedded", "duration BETWEEN 2 AND 4 AND language = 'en-US'")
    row = table.row(0)
    wave = read(row["audio"], rate=RATE, start=row["start"], duration=row["duration"])
    rng = np.random.default_rng(0)
    found = [ratio(wave + rng.normal(0, level, len(wave)), RATE)[0] for level in (0.0, 0.01, 0.03, 0.1)]
    assert all(a is not None and b is not None and a > b + 3 for a, b in pairwise(found))


def test_of_a_corpus(notes: Table) -> None:
    table = Table.open("embedded", "duration < 1 AND speaker = 'bob'")
    found = score(scorer("snr"), table)
    assert len(found["snr"]) == len(table) > 3 and min(found["snr"].to_pylist()) > 0
    row = table.row(2)
    assert ratio(read(row["audio"], rate=row["rate"], start=row["start"], duration=row["duration"]), row["rate"])[
        0
    ] == pytest.approx(found["snr"][2].as_py(), abs=1e-3)
    with pytest.raises(OvertureError, match="'score-notes' is text"):
        scorer("snr").ready(notes)
    gone = Table(table.columns, name="gone", root=Path("/nowhere"))
    with pytest.raises(OvertureError, match=r"row '.*cannot be read as audio"):
        score(scorer("snr"), gone)
