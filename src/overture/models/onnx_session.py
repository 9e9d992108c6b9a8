"""Networks of installed models that come as ONNX, run by onnxruntime."""

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

from overture.errors import MissingExtra
from overture.models.sources import installed


def session(model: str, file: str) -> Any:
    """An `InferenceSession` of a file of the installed `model`, on one thread. Raises MissingExtra; OvertureError when it is not installed."""
    if not importlib.util.find_spec("onnxruntime"):
        raise MissingExtra("onnx", f"the model {model!r}")
    return _opened(installed(model) / file)


@lru_cache(maxsize=4)
def _opened(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
