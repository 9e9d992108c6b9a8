"""Shared by all tests: caches and corpora live in a folder of the session, never in the user's home."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from overture.cli import app

from .forks import Forks
from .laws.crew import Crew


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the workers of this session have in common."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def overture_home(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[Path]:
    """$OVERTURE_HOME and the caches of transformers, for this session; one thread, so that two workers do not fight."""
    import torch

    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("home")
    (shared / "features").mkdir(exist_ok=True)
    (home / "features").symlink_to(shared / "features")  # each is computed by one worker for all
    before = {name: os.environ.get(name) for name in ("OVERTURE_HOME", "HF_HOME", "HF_MODULES_CACHE", "HF_HUB_OFFLINE")}
    os.environ |= {
        "OVERTURE_HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_MODULES_CACHE": str(home / "hf"),
        "HF_HUB_OFFLINE": "1",
    }
    yield home
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def torchrun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    """Run `overture run` on one process, which is this, or on two of gloo, which stay for the next test."""
    crew: Crew | None = None

    def go(processes: int, *arguments: str) -> None:
        nonlocal crew
        if processes == 1:
            app(["run", *arguments], standalone_mode=False)
            return
        assert processes == 2
        crew = crew or Crew(2, tmp_path_factory.mktemp("crew"))
        try:
            crew(["run", *arguments])
        except BaseException:
            crew.dismiss()  # the next test gets a fresh one
            crew = None
            raise

    yield go
    if crew is not None:
        crew.dismiss()


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory, overture_home: Path) -> Iterator[Forks]:
    """New processes that have transformers and no Overture on their path."""
    first = (
        "import sys; sys.modules['overture'] = None\n"
        "import numpy, torch, transformers.modeling_utils\n"
        "from transformers import AutoFeatureExtractor, AutoModel, AutoTokenizer\n"
    )
    forks = Forks(tmp_path_factory.mktemp("strangers"), first)
    yield forks
    forks.end()
