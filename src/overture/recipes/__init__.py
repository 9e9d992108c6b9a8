"""The index of recipes: name -> module, what it is for, paper. Light: importing it imports no recipe.

A recipe module has `tiny()`, `default()` and `published()`, each returning a complete `Run`, and `claim()`.
"""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from overture.errors import OvertureError, near
from overture.run import Run

SIZES = ("tiny", "default", "published")
Size = Literal["tiny", "default", "published"]


@dataclass(frozen=True)
class Entry:
    """One line of the index."""

    module: str
    title: str
    paper: str
    good_for: str  # in the words of someone who looks for it


INDEX: dict[str, Entry] = {
    "tera": Entry(
        "tera",
        "Reconstruct log-mel frames altered in time, frequency and magnitude",
        "arXiv:2007.06028",
        "small encoder for frozen features; few labels; little compute, trains on a laptop CPU; phones, keywords and other "
        "content; telephone or clinic recordings without text; masked reconstruction, Mockingjay, SpecAugment",
    ),
}


def load(name: str) -> ModuleType:
    """The module of a recipe. Raises OvertureError with near names."""
    if name not in INDEX:
        raise OvertureError(f"no recipe {name!r}. {near(name, INDEX)} 'overture list' shows them all.")
    return importlib.import_module(f"overture.recipes.{INDEX[name].module}")


def get(spec: str) -> Run:
    """The run that `name` or `name:size` stands for (size: tiny, default, published). Raises OvertureError."""
    name, _, size = spec.partition(":")
    module = load(name)
    if (size or "default") not in SIZES:
        raise OvertureError(f"recipe {name!r} has no size {size!r}. {near(size, SIZES)}")
    run: Run = getattr(module, size or "default")()
    return run
