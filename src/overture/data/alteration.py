"""Alteration along time, frequency and magnitude: TERA's corruption (arXiv 2007.06028, section III-B), also SpecAugment.

Everything is drawn per utterance from `Draws`, on its valid frames only. Widths in time are seconds, so a front end with
another frame rate alters the same stretch of speech.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from overture.data.batch import Batch
from overture.data.draws import Draws


@dataclass(frozen=True, kw_only=True)
class Alteration:
    """What is altered, how often. A share or probability of 0 switches its kind off."""

    time_share: float = 0.15  # of the frames, before overlap of blocks
    time_width: float = 0.070  # s, of a block
    time_zero: float = 0.8  # chance that an utterance's blocks are set to zero
    time_replace: float = 0.1  # chance that they are overwritten with other stretches of it; else they stay as they are
    frequency_share: float = 0.2  # largest width of the zeroed band, of the channels; the width is uniform from 0
    noise_probability: float = 0.15  # of adding noise to an utterance
    noise_std: float = 0.2

    def __call__(self, batch: Batch, draws: Draws, frame_rate: float) -> tuple[Tensor, Tensor]:
        """(B, T, F) clean frames -> altered copy and bool mask, both (B, T, F): which elements are to be predicted.

        The mask covers all channels of chosen frames (also when the die left them unchanged) and the zeroed band on
        every valid frame; noise does not widen it. Where noise is the only kind switched on, it covers all valid frames.
        """
        altered = batch.x.cpu().numpy().copy()  # (B, T, F)
        mask = np.zeros(altered.shape, dtype=bool)
        width = max(1, round(self.time_width * frame_rate))
        for b, (row, length) in enumerate(zip(batch.rows.tolist(), batch.lengths.tolist())):
            rng = draws.example(row)
            clean = batch.x[b, :length].cpu().numpy()
            if self.time_share:
                self._alter_time(altered[b, :length], mask[b, :length], clean, width, rng)
            if self.frequency_share:
                channels = altered.shape[2]
                band = int(rng.integers(int(self.frequency_share * channels) + 1))
                first = int(rng.integers(channels - band + 1))
                altered[b, :length, first : first + band] = 0
                mask[b, :length, first : first + band] = True
            if rng.random() < self.noise_probability:
                altered[b, :length] += rng.normal(0, self.noise_std, clean.shape).astype(np.float32)
            if not self.time_share and not self.frequency_share:
                mask[b, :length] = True
        return torch.from_numpy(altered).to(batch.x.device), torch.from_numpy(mask).to(batch.x.device)

    def _alter_time(
        self, x: np.ndarray, mask: np.ndarray, clean: np.ndarray, width: int, rng: np.random.Generator
    ) -> None:
        blocks = round(self.time_share * len(x) / width)
        starts = max(len(x) - width, 1)
        blocks = min(blocks, starts)  # a clip of hardly more than a block
        chosen = (rng.choice(starts, blocks, replace=False)[:, None] + np.arange(width)).ravel()
        chosen = chosen[chosen < len(x)]
        mask[chosen] = True
        die = rng.random()  # one for the whole utterance
        if die < self.time_zero:
            x[chosen] = 0
        elif die < self.time_zero + self.time_replace:
            other = (rng.choice(starts, blocks, replace=False)[:, None] + np.arange(width)).ravel()
            x[chosen] = clean[other[: len(chosen)]]
