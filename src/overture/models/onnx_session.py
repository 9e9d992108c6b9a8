"""Networks of installed models that come as ONNX, run by onnxruntime."""

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

from overture.errors import MissingExtra
from overture.models.sources import installed


def session(model: str, file: str, *, seed: int | None = None) -> Any:
    """An `InferenceSession` of a file of the installed `model`, on one thread. Raises MissingExtra; OvertureError when it is not installed.

    `seed`: of a network that draws random numbers itself. What it draws goes on from run to run, so each such session is a new one.
    """
    if not importlib.util.find_spec("onnxruntime"):
        raise MissingExtra("onnx", f"the model {model!r}")
    path = installed(model) / file
    return _kept(path) if seed is None else _opened(path, seed)


@lru_cache(maxsize=4)
def _kept(path: Path) -> Any:
    return _opened(path)


def _opened(path: Path, seed: int | None = None) -> Any:
    import onnxruntime

    if seed is not None:
        onnxruntime.set_seed(seed)  # of the sessions that are opened from now on
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
