"""A transformers feature extractor for each front end: transformers' own for samples, ours around the spectral ones.

An exported folder carries a copy of this file and of what it imports, so `AutoFeatureExtractor` loads it without Overture.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
from transformers import BatchFeature, SequenceFeatureExtractor, Wav2Vec2FeatureExtractor

from overture.data.features import KaldiFbank, LogMel, Waveform
from overture.data.normal_mel import NormalMel

FRONTENDS = {"LogMel": LogMel, "KaldiFbank": KaldiFbank, "NormalMel": NormalMel}


class SpectralFeatureExtractor(SequenceFeatureExtractor):
    """Waveforms -> `input_values` (B, T, F) float32, zero-padded, and `attention_mask` (B, T)."""

    model_input_names = ["input_values", "attention_mask"]  # noqa: RUF012  # transformers wants a list

    def __init__(self, frontend: str = "LogMel", options: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.frontend, self.options = frontend, dict(options or {})
        self._compute = FRONTENDS[frontend](**self.options)
        kwargs = {"feature_size": self._compute.dim, "sampling_rate": self._compute.rate, "padding_value": 0.0} | kwargs
        super().__init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        kept: dict[str, Any] = super().to_dict()
        kept.pop("_compute", None)
        return kept

    def __call__(
        self,
        raw_speech: np.ndarray | list[np.ndarray] | list[float],
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        **_: Any,  # `padding`, as all feature extractors take it: to the longest, always
    ) -> BatchFeature:
        """One waveform (N,) or a list of them, mono, at `sampling_rate` Hz. Raises ValueError for another rate than the model's."""
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise ValueError(
                f"the model was trained on audio at {self.sampling_rate} Hz, got {sampling_rate} Hz: resample first"
            )
        one = (isinstance(raw_speech, np.ndarray) and raw_speech.ndim == 1) or np.isscalar(raw_speech[0])
        waves = [raw_speech] if one else list(raw_speech)
        parts = [self._compute(np.asarray(wave, dtype=np.float32)) for wave in waves]
        longest = max(len(p) for p in parts)
        values = np.zeros((len(parts), longest, parts[0].shape[1]), dtype=np.float32)
        mask = np.zeros((len(parts), longest), dtype=np.int64)
        for i, part in enumerate(parts):
            values[i, : len(part)], mask[i, : len(part)] = part, 1
        return BatchFeature({"input_values": values, "attention_mask": mask}, tensor_type=return_tensors)


def extractor_of(frontend: Any) -> SequenceFeatureExtractor:
    """What computes the features of `frontend` (a `Waveform`, or one of `FRONTENDS`) in transformers."""
    if isinstance(frontend, Waveform):
        return Wav2Vec2FeatureExtractor(sampling_rate=frontend.rate, do_normalize=True, return_attention_mask=True)
    return SpectralFeatureExtractor(type(frontend).__name__, asdict(frontend))
