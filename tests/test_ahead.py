"""Seeds side by side: the study finds everything done, and what fails is told with its seed."""

from pathlib import Path
from typing import Any

import pytest

from overture import ahead
from overture.errors import OvertureError
from overture.laboratory import Laboratory

from .test_laboratory import study, untold


def no_pairs(number: int, arms: dict[str, Any]) -> list[tuple[str, str]]:
    return []


def test_a_study_finds_done_what_its_seeds_did_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, told = study("speaker-id"), list[dict[str, Any]]()
    ahead.gather(one, tmp_path, told.append, processes=2)
    assert {r["text"][:8] for r in told if r["kind"] == "stage"} == {"[seed 0]", "[seed 1]"}

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("something was left to do")

    monkeypatch.setattr("overture.train.loop.train", never)
    monkeypatch.setattr("overture.judging.judge", never)
    found = Laboratory(one, tmp_path, untold).conduct(no_pairs)
    assert {arm: len(of["seeds"]) for arm, of in found["arms"].items()} == {"log-mel": 2, "untrained": 2, "tera": 2}


def test_a_seed_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match=r"seed 0 failed.*needs at least two values"):
        ahead.gather(study("speaker-id", seeds=(0,), min_count=10_000), tmp_path, untold, processes=1)
