"""Shared by all tests: caches and corpora live in a folder of the session, never in the user's home."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def overture_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """$OVERTURE_HOME and the caches of transformers, for this session; one thread, so that two workers do not fight."""
    import torch

    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("home")
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "features"
    shared.mkdir(exist_ok=True)
    (home / "features").symlink_to(shared)  # each is computed by one worker for all
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
