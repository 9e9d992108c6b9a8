"""Seeds side by side: the study finds everything done, and what fails is told with its seed."""

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
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
    one = study("speaker-id", seeds=(0,))
    run = one.arms[2].run
    nothing = replace(one.arms[2], run=replace(run, data=replace(run.data, where="duration > 1000")))
    with pytest.raises(OvertureError, match=r"seed 0 failed, what the others did is kept: "):
        ahead.gather(replace(one, arms=(nothing,)), tmp_path, untold, processes=1)


def test_what_seeds_share_is_made_before_any_of_them_begins(tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match=r"^task 'speaker-id' needs at least two values"):
        ahead.gather(study("speaker-id", seeds=(0,), min_count=10_000), tmp_path, untold, processes=1)


def sleeper() -> None:
    threading.Thread(target=ahead._end_with_parent, daemon=True).start()
    time.sleep(120)


def test_seeds_end_with_whoever_started_them() -> None:
    """Else they would go on unseen, on runs that the same command takes up again."""
    code = (
        "import multiprocessing, time; from tests.test_ahead import sleeper\n"
        "if __name__ == '__main__':\n"
        "    child = multiprocessing.get_context('spawn').Process(target=sleeper)\n"
        "    child.start(); print(child.pid, flush=True); time.sleep(120)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        until = time.monotonic() + 60
        while child.num_threads() < 2 and time.monotonic() < until:  # it has not come to its own code yet
            time.sleep(0.1)
        parent.kill()
        gone, alive = psutil.wait_procs([child], timeout=30)
    assert gone and not alive
