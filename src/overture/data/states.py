"""A frozen speech encoder as a front end: its states are cached once and mapped into memory, as any other features are.

Whisper's log-mel is that of transformers, of the utterance alone and not of 30 s; the network is `models.speech_encoder`.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from overture import jsonfile
from overture.data.lengths import windows
from overture.errors import OvertureError
from overture.models import sources

if TYPE_CHECKING:  # a `Run` holds `EncoderStates`, and must stay light
    from overture.models.speech_encoder import SpeechEncoder

RATE, WINDOW, HOP = 16_000, 400, 160  # Hz, samples of a log-mel frame, and from one to the next
# What Whisper's log-mel is made by, as transformers names it: another one would be no Whisper's.
EXTRACTOR = {"sampling_rate": RATE, "n_fft": WINDOW, "hop_length": HOP, "dither": 0.0}
# D of the published encoders, so that a run can be counted where its encoder is not installed
WIDTHS = {"whisper-tiny": 384, "whisper-base": 512, "whisper-small": 768, "whisper-medium": 1024, "whisper-large": 1280}
# One utterance at a time has all cores, or the accelerator: networks in several threads would fight over them.
ONE = Lock()


@dataclass(frozen=True, kw_only=True)
class EncoderStates:
    """Hidden states of a Whisper encoder, 50 a second. T = ceil(N // 160 / 2); an utterance may last as long as the encoder has positions for."""

    model: str = "whisper-base"  # of 'overture models list', or a folder in transformers' format
    layer: int | None = None  # 0: before the first layer; None: the output, behind the last layer and its norm
    weights: str | None = None  # hash of the encoder, by `settled`: other weights are another run and another cache

    rate = RATE
    frame_rate = RATE / HOP / 2  # Hz

    @property
    def dim(self) -> int:
        """D. Raises OvertureError where a model that has no published size is not there, and where it is no Whisper or has no such layer."""
        if self.model in WIDTHS and not Path(self.model).exists():
            return WIDTHS[self.model]
        return int(self._config["d_model"])

    def steps(self, count: int) -> int:
        """T of an utterance of `count` samples."""
        return windows(count // HOP, 3, 2, 1)

    def settled(self) -> "EncoderStates":
        """The same, named after the weights that the model has now. Raises OvertureError, see `dim` and `SpeechEncoder.load`."""
        from overture.models.speech_encoder import SpeechEncoder

        _ = self._config
        return replace(self, weights=SpeechEncoder.load(self.folder).mark)

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """(N,) float32 at 16 kHz -> (T, D) float32, on a GPU where there is one. Called from several threads.

        Raises ValueError for an utterance that is too short for a log-mel frame or too long for the encoder, and OvertureError for a model that
        is not there, or has other weights than these are named after.
        """
        import torch

        config, steps = self._config, self.steps(len(wave))
        if len(wave) < WINDOW:
            raise ValueError(f"an utterance of {len(wave)} samples is shorter than one window of {WINDOW}")
        if steps > (most := config["max_source_positions"]):
            raise ValueError(
                f"{len(wave) / RATE:.2f} s are longer than the {most / self.frame_rate:g} s that {self.model} has positions for"
            )
        if self.weights is None:
            raise OvertureError(
                "frontend.weights does not say which weights the states are of: take EncoderStates(...).settled()"
            )
        with ONE:
            encoder, extractor, device = _loaded(self.folder, self.weights)
        mel = extractor(wave, sampling_rate=RATE, padding="do_not_pad", truncation=False, return_tensors="pt")
        x = mel["input_features"].transpose(1, 2)  # (1, T', F)
        with ONE, torch.inference_mode():
            hidden, _ = encoder.states(x.to(device), torch.tensor([x.shape[1]], device=device))
            found: np.ndarray = hidden[-1 if self.layer is None else self.layer][0].cpu().numpy()
        return found

    @property
    def folder(self) -> Path:
        """Where the model is. Raises OvertureError where it is not."""
        return sources.find(self.model)

    @property
    def _config(self) -> dict[str, Any]:
        """The model's own, without torch."""
        path = self.folder / "config.json"
        config = jsonfile.read_object(path)
        if config.get("model_type") != "whisper":
            raise OvertureError(f"{path}: model_type is {config.get('model_type')!r}, and not 'whisper'")
        if self.layer is not None and not 0 <= self.layer <= config["encoder_layers"]:
            raise OvertureError(f"frontend.layer={self.layer}: {self.model} has layers 0 to {config['encoder_layers']}")
        return config


@lru_cache(maxsize=2)
def _loaded(folder: Path, weights: str) -> "tuple[SpeechEncoder, Any, Any]":
    """Encoder, extractor of log-mel, and device, once a process. Raises OvertureError where the folder holds other weights."""
    import torch
    from transformers import WhisperFeatureExtractor

    from overture.models.speech_encoder import SpeechEncoder

    encoder = SpeechEncoder.load(folder)
    if (mark := encoder.mark) != weights:
        raise OvertureError(
            f"{folder} has other weights ({mark}) than those this front end is named after ({weights}): it has changed since. "
            "Give the command again"
        )
    wanted = EXTRACTOR | {"feature_size": encoder.network.num_mel_bins}
    path = folder / "preprocessor_config.json"
    said = jsonfile.read_object(path) if path.exists() else {}
    for name, value in wanted.items():
        if said.get(name, value) != value:
            raise OvertureError(f"{path}: {name}={said[name]!r} is not supported, only Whisper's {value!r}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return encoder.to(device), WhisperFeatureExtractor(feature_size=wanted["feature_size"]), device
