"""How clean a recording is, by the energies of its frames: no model, no reference.

Noise is what the quietest tenth of the frames has, speech what the loudest twentieth has. A recording without a pause
shows no noise and gets too low a ratio, one cut out of digital silence gets a very high one: scores rank, they do not measure a room.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from overture.data import audio
from overture.data.score import Ready
from overture.data.score.text import column
from overture.data.table import Table
from overture.errors import OvertureError

FRAME, HOP = 0.025, 0.010  # s
QUIET, LOUD = 10.0, 95.0  # percentiles of the power of frames
FLOOR = 10**-9.0  # power, -90 dBFS: the noise of 16 bits, below which nothing was recorded
ABOVE = 10.0  # dB over the noise from which a frame counts as speech
THREADS = 2


@dataclass(frozen=True, kw_only=True)
class SpeechToNoise:
    """`snr`, dB of the loud frames over the quiet ones, and `speech`, the share of frames 10 dB or more above the quiet ones."""

    columns = ("snr", "speech")

    def sources(self, table: Table) -> dict[str, Any]:
        return {"frame": [FRAME, HOP], "percentiles": [QUIET, LOUD], "above": ABOVE}

    def ready(self, table: Table) -> Ready:
        """Raises OvertureError for a corpus of text."""
        if table.is_text:
            raise OvertureError(f"corpus {table.name!r} is text: the scorer snr listens to recordings")

        def one(rows: Table, index: int) -> tuple[float | None, float | None]:
            row = rows.row(index)
            try:
                samples, rate = audio.read_native(row["audio"], start=row.get("start") or 0.0, duration=row["duration"])
            except audio.UnreadableAudio as error:
                raise OvertureError(
                    f"row {row['id']!r}: {error}. Import the corpus again, or leave the row out."
                ) from error
            return ratio(samples.mean(axis=1), rate)

        def score(rows: Table) -> dict[str, pa.Array]:
            with ThreadPoolExecutor(THREADS) as pool:
                found = list(pool.map(lambda index: one(rows, index), range(len(rows))))
            return {"snr": column([snr for snr, _ in found]), "speech": column([share for _, share in found])}

        return Ready(score)


def ratio(wave: np.ndarray, rate: int) -> tuple[float | None, float | None]:
    """(N,) samples at `rate` Hz -> dB of speech over noise, share of frames above the noise; None for a wave of fewer than two frames."""
    size, hop = round(FRAME * rate), round(HOP * rate)
    if len(wave) < size + hop:
        return None, None
    wave = wave.astype(np.float64)
    sums = np.append(0.0, np.cumsum((wave - wave.mean()) ** 2))
    power = np.maximum((sums[size:] - sums[:-size])[::hop] / size, FLOOR)
    quiet, loud = np.percentile(power, [QUIET, LOUD])
    return float(10 * np.log10(loud / quiet)), float((power >= quiet * 10 ** (ABOVE / 10)).mean())
