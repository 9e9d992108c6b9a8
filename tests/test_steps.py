"""Steps: named by what they are made of, made once, made again when a kill left them unfinished."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from overture.steps import Step


@dataclass(frozen=True)
class Sizes:
    width: int = 1


def nothing(folder: Path) -> None: ...


def step(name: str = "labels", *, inputs: tuple[Step, ...] = (), **made_of: Any) -> Step:
    return Step(name, made_of, nothing, inputs)


def test_the_fingerprint_is_of_everything_that_decides_and_of_nothing_else() -> None:
    features, others = step("features", mels=80), step("features", mels=40)
    plain = step(k=100, model=Sizes(), inputs=(features,))
    different = [
        step("units", k=100, model=Sizes(), inputs=(features,)),
        step(k=101, model=Sizes(), inputs=(features,)),
        step(k=100, model=Sizes(2), inputs=(features,)),
        step(k=100, model=Sizes()),
        step(k=100, model=Sizes(), inputs=(others,)),
        step(k=100, model=Sizes(), inputs=(step("features", mels=80, inputs=(others,)),)),  # deep below
        step(k=100, model=Sizes(), inputs=(features, others)),
    ]
    marks = [s.fingerprint for s in (plain, *different)]
    assert len(set(marks)) == len(marks)
    same = Step("labels", {"model": Sizes(), "k": 100}, lambda folder: None, (features,))
    assert same.fingerprint == plain.fingerprint  # neither the order of names nor the code


def test_a_finished_step_is_not_made_again(tmp_path: Path) -> None:
    made: list[str] = []

    def make(name: str) -> Step:
        def fill(folder: Path) -> None:
            made.append(name)
            (folder / "data").write_text(name)

        return Step(name, {"name": name}, fill)

    first = make("first")
    last = Step("last", {}, make("last").make, (first, make("second")))
    folder = last.perform(tmp_path)
    assert made == ["first", "second", "last"] and (folder / "data").read_text() == "last"
    assert folder.name == f"last-{last.fingerprint}"
    record = json.loads((folder / "step.json").read_text())
    assert record["inputs"] == [f"first-{first.fingerprint}", f"second-{make('second').fingerprint}"]
    assert record["fingerprint"] == last.fingerprint and record["seconds"] >= 0
    assert last.perform(tmp_path) == folder and made == ["first", "second", "last"]
    assert {p.name.split("-")[0] for p in tmp_path.glob("[!.]*")} == {"first", "second", "last"}


def test_an_unfinished_step_is_made_again_and_finds_what_it_left(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def fill(folder: Path) -> None:
        seen.append(sorted(p.name for p in folder.iterdir()))
        (folder / f"part-{len(seen)}").touch()
        if len(seen) == 1:
            raise KeyboardInterrupt

    unfinished = Step("features", {}, fill)
    with pytest.raises(KeyboardInterrupt):
        unfinished.perform(tmp_path)
    assert not list(tmp_path.glob("*/step.json"))
    folder = unfinished.perform(tmp_path)
    assert seen == [[], ["part-1"]] and (folder / "step.json").exists()
    (folder / "step.json").unlink()
    unfinished.perform(tmp_path)
    assert len(seen) == 3


def test_a_step_whose_input_is_gone_has_it_made_again_only(tmp_path: Path) -> None:
    made: list[str] = []
    below = Step("below", {}, lambda folder: made.append("below"))
    above = Step("above", {}, lambda folder: made.append("above"), (below,))
    above.perform(tmp_path)
    (tmp_path / f"below-{below.fingerprint}" / "step.json").unlink()
    above.perform(tmp_path)
    assert made == ["below", "above", "below"]


def test_who_asks_for_what_is_being_made_waits_for_it(tmp_path: Path) -> None:
    made: list[int] = []
    begun = Barrier(2)

    def fill(folder: Path) -> None:
        begun.wait(10)  # the other one asks now
        time.sleep(0.2)
        made.append(1)
        (folder / "data").write_text("whole")

    def second() -> str:
        begun.wait(10)
        return (Step("features", {}, fill).perform(tmp_path) / "data").read_text()

    with ThreadPoolExecutor(2) as pool:
        first, other = pool.submit(Step("features", {}, fill).perform, tmp_path), pool.submit(second)
        assert other.result() == "whole" and (first.result() / "step.json").exists()
    assert made == [1]
