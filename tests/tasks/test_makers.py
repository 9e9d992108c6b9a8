"""overture.tasks.makers: how often a flow is asked reaches the generator that speaks."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import overture.speak
from overture.data.table import Table
from overture.data.vocoder_mel import VocoderMel
from overture.tasks.made import Asked
from overture.tasks.makers import speech


def test_an_arm_is_asked_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def generator(folder: Path, *, steps: int | None, seed: int) -> Any:
        def mels(texts: Any, reference: Any) -> list[np.ndarray]:
            asked.append(texts)
            return [np.full((10, 80), -5.0, np.float32)]

        asked.append((folder, steps, seed))
        return SimpleNamespace(mel=VocoderMel(), mels=mels)

    monkeypatch.setattr(overture.speak, "generator", generator)
    table = Table.open("embedded", "duration between 2 and 4 and text is not null")
    make = speech(Path("run"), None, table, 3, lambda _: None, steps=4)
    wave = make(Asked(0, 1, 2))
    assert asked == [(Path("run"), 4, 3), [table.row(0)["text"]]] and len(wave) == 10 * 256
