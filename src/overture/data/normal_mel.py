"""Mel spectrograms of a vocoder, made to have about mean 0 and deviation 1: what a generator of frames learns from.

A flow begins at noise of deviation 1, so that is how wide what it ends at should be (as in Voicebox, Le et al. 2023, arXiv:2306.15687). Two numbers
for a whole corpus, and not one of each channel or utterance: loud stays loud, and they are undone without knowing the utterance.
`overture.data.level` measures them. An exported folder carries a copy of this file.
"""

from dataclasses import dataclass, fields

import numpy as np

from overture.data.vocoder_mel import VocoderMel


@dataclass(frozen=True, kw_only=True)
class NormalMel(VocoderMel):
    """(log-mel - mean) / std. The defaults are those of the English rows of the embedded corpus, at 16 kHz."""

    mean: float = -4.85  # natural log
    std: float = 2.62

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """(N,) float32 in -1..1 at `rate` -> (T, mels) float32. N must be at least one window."""
        return np.asarray((super().__call__(wave) - self.mean) / self.std, dtype=np.float32)

    @property
    def plain(self) -> VocoderMel:
        """The front end of its vocoder."""
        return VocoderMel(**{f.name: getattr(self, f.name) for f in fields(VocoderMel)})

    def log_mel(self, x: np.ndarray) -> np.ndarray:
        """(T, mels) of this front end -> the same of `VocoderMel`, for its vocoder."""
        return np.asarray(x * self.std + self.mean, dtype=np.float32)
