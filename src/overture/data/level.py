"""How loud the frames of a corpus are and how much they differ: the two numbers that a front end normalises by."""

from dataclasses import fields

import numpy as np

from overture.data.source import Live
from overture.data.table import Table
from overture.data.vocoder_mel import VocoderMel


def level(table: Table, mel: VocoderMel, rows: int = 500) -> tuple[float, float]:
    """Mean and deviation of the log-mel magnitudes of so many rows of a corpus, evenly spaced: `mean` and `std` of its `NormalMel`.

    Raises OvertureError naming a row that cannot be read.
    """
    plain = VocoderMel(**{f.name: getattr(mel, f.name) for f in fields(VocoderMel)})
    live = Live(table, plain)
    chosen = np.unique(np.linspace(0, len(table) - 1, rows).astype(int))
    frames = np.concatenate([live[int(i)] for i in chosen]).astype(np.float64)  # (T, F)
    return float(frames.mean()), float(frames.std())
