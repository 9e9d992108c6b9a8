"""overture.train.state and loop: kills, full disks, Ctrl-C, damaged checkpoints, changed data."""

import json
import random
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from overture.errors import OvertureError
from overture.recipes import get
from overture.run import Run
from overture.train.engine import Engine
from overture.train.loop import train
from overture.train.state import checkpoints, load_weights

from ..forks import Forks
from ..laws.conftest import tensors


def tiny(updates: int = 12, every: int = 4) -> Run:
    run = get("tera:tiny")
    return replace(run, loop=replace(run.loop, updates=updates, checkpoint_every=every))


def trained(run: Run, folder: Path) -> Path:
    with Engine.start() as engine:
        train(run, folder, engine=engine)
    return folder


def command(run: Run, out: Path) -> list[str]:
    settings = {"loop.updates": run.loop.updates, "loop.checkpoint_every": run.loop.checkpoint_every}
    given = [x for k, v in settings.items() for x in ("--set", f"{k}={v}")]
    return ["-m", "overture", "run", "tera:tiny", "--out", str(out), *given]


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    first = "import overture.cli, overture.report, overture.train.loop, transformers.models.bert.modeling_bert"
    made = Forks(tmp_path_factory.mktemp("forks"), first)
    yield made
    made.end()


def test_killed_at_random_moments_it_loses_at_most_an_interval_and_ends_the_same(tmp_path: Path, forks: Forks) -> None:
    run = tiny(updates=40, every=1)  # a checkpoint every update: most kills hit a write
    whole = tensors(trained(run, tmp_path / "whole"))
    folder = tmp_path / run.folder_name
    rng, last = random.Random(0), -1
    for _ in range(4):
        process = forks.start(*command(run, tmp_path))
        deadline = time.monotonic() + 60
        while process.running and len(checkpoints(folder)) == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        before = checkpoints(folder)[-1:]
        while process.running and checkpoints(folder)[-1:] == before and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.15)
        process.send(signal.SIGKILL)
        process.wait()
        done = int(checkpoints(folder)[-1].name.removeprefix("update-"))
        assert done >= last  # nothing that was saved is ever lost
        last = done
        for path in checkpoints(folder):
            load_weights(path, run.model.build(run.frontend))  # every checkpoint that is seen is whole
    again = tensors(trained(run, folder))
    assert [n for n in whole if not torch.equal(whole[n], again[n])] == []
    assert 0 < last <= 40


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_and_the_same_command_goes_on(number: signal.Signals, tmp_path: Path, forks: Forks) -> None:
    run = tiny(updates=3000, every=10_000)
    process = forks.start(*command(run, tmp_path))
    metrics = tmp_path / run.folder_name / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while (not metrics.exists() or metrics.read_text().count("\n") < 3) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send(number)
    ended = process.wait(60)
    assert ended.status == 130 and "the same command goes on" in ended.said
    (saved,) = checkpoints(tmp_path / run.folder_name)
    assert 0 < int(saved.name.removeprefix("update-")) < 3000


def test_a_full_disk_is_a_clear_error_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    run = tiny()
    stopped = replace(run, loop=replace(run.loop, updates=12))
    folder = tmp_path / "run"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writes then fail with an error, as on a full disk

    def on_record(record: dict[str, object]) -> None:
        if record["kind"] == "checkpoint":
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))

    try:
        with (
            Engine.start() as engine,
            pytest.raises(OvertureError, match=r"update 8 could not be written .*update-00000004 is whole"),
        ):
            train(stopped, folder, engine=engine, on_record=on_record)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["update-00000004"]
    whole = tensors(trained(run, tmp_path / "whole"))
    again = tensors(trained(run, folder))
    assert all(torch.equal(whole[n], again[n]) for n in whole)


def test_a_damaged_checkpoint_is_named_and_the_way_out_works(tmp_path: Path) -> None:
    run = tiny()
    trained(run, tmp_path)
    last = checkpoints(tmp_path)[-1]
    (file,) = last.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    with Engine.start() as engine, pytest.raises(OvertureError, match=f"{last.name} cannot be read"):
        train(run, tmp_path, engine=engine)
    shutil.rmtree(last)
    assert tensors(trained(run, tmp_path)).keys() and checkpoints(tmp_path)[-1].name == last.name


def test_old_checkpoints_are_removed_and_parts_are_not_taken_for_whole_ones(tmp_path: Path) -> None:
    run = tiny(every=2)
    trained(run, tmp_path)
    assert [p.name for p in checkpoints(tmp_path)] == ["update-00000010", "update-00000012"]
    (tmp_path / "checkpoints" / "update-00000099").mkdir()  # no state.json: a torn one
    assert checkpoints(tmp_path)[-1].name == "update-00000012"


def test_a_changed_corpus_is_refused(tmp_path: Path) -> None:
    run = tiny()
    trained(run, tmp_path)
    about = json.loads((tmp_path / "run.json").read_text())
    about["data"]["fingerprint"] = "000000000000"
    (tmp_path / "run.json").write_text(json.dumps(about))
    with pytest.raises(OvertureError, match="has changed since"):
        trained(run, tmp_path)


def test_the_average_of_the_weights_is_kept_and_is_what_is_loaded(tmp_path: Path) -> None:
    run = replace(tiny(), loop=replace(tiny().loop, ema=0.5))
    trained(run, tmp_path)
    found = tensors(tmp_path)
    model = run.model.build(run.frontend)
    load_weights(checkpoints(tmp_path)[-1], model)
    name = "layers.0.output.dense.weight"
    assert torch.equal(model.state_dict()[name], found[f"ema/{name}"]) and not torch.equal(
        found[f"ema/{name}"], found[f"model/{name}"]
    )


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    trained(tiny(), tmp_path)
    other = replace(get("tera:tiny").model, layers=3).build(get("tera:tiny").frontend)
    with pytest.raises(OvertureError, match="of another model"):
        load_weights(checkpoints(tmp_path)[-1], other)


def test_no_file_of_a_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    trained(tiny(), tmp_path)
    files = [p for p in checkpoints(tmp_path)[-1].rglob("*") if p.is_file()]
    assert sorted({p.suffix for p in files}) == [".json", ".safetensors"]
    assert all(p.stat().st_size > 0 for p in files)
