"""`overture compare` with arms that hear and read, as a person types it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from overture.data.states import EncoderStates
from overture.data.table import Table
from overture.models.adapters import ConvGlu
from overture.models.speech_text import SpeechText
from overture.models.text import Pretrained
from overture.recipes import get
from overture.run import Run
from tests.data.test_states import saved as small_whisper
from tests.models import small_lm

from .conftest import Typed

Overture = Callable[..., Typed]
SHORT = "speaker in ('joe', 'bob', 'tam') and duration between 0.6 and 0.99"  # the encoder of these tests hears 1 s


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A corpus whose continuations are written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("overture.train.speed.matrix_peak", lambda engine, bf16: 1e9)
    rows = Table.open("embedded", SHORT)
    goes_on = [f" and then {text}" for text in rows.columns.column("text").to_pylist()]
    columns = rows.columns.append_column("continuation", pa.array(goes_on))
    Table(columns, name=rows.name, root=rows.root, rows=rows.rows).save("said")
    return "said"


@pytest.fixture
def published(tmp_path: Path) -> Run:
    """blsp between a Whisper and a Gemma, both random, named after no weights yet."""
    base, gemma = get("blsp"), small_lm.folder(tmp_path / "gemma")
    small_whisper(tmp_path / "whisper")
    return replace(
        base,
        frontend=replace(
            base.frontend, audio=EncoderStates(model=str(tmp_path / "whisper")), tokens=Pretrained(model=str(gemma)).tokens()
        ),
        model=SpeechText(adapter=ConvGlu(bottleneck=8), lm=Pretrained(model=str(gemma))),
        plan=replace(base.plan, update=256.0, micro=256.0),
        loop=replace(base.loop, precision="fp32"),
    )  # fmt: skip


def compared(answer: Typed) -> dict[str, Any]:
    assert answer.status == 0, answer.err
    found: dict[str, Any] = json.loads(Path(answer.out.split("result: ")[1].splitlines()[0]).read_text(encoding="utf8"))
    return found


def test_arms_that_hear_are_compared(
    overture: Overture, said: str, published: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"fresh": get("blsp:tiny"), "published": published}
    monkeypatch.setattr("overture.recipes.get", lambda name: known[name])
    result = compared(
        overture("compare", *known, "--data", said, "--budget", "2e3tok", "--seeds", "1", "--task", "gap-closure")
    )
    arms = {f"{name}{kind}" for name in known for kind in ("", ", untrained")}
    assert set(result["arms"]) == arms  # a front end alone says nothing
    assert result["task"] == "gap-closure" and result["best"] in arms
    for name in known:
        (probe,) = result["probes"][name]
        assert {"nats_speech", "nats_exchanged", "nats_text", "nats_nothing"} <= probe.keys()
        assert result["cost_by_arm"][name]["updates"] >= 10
    # Hearing nothing and reading are of the language model alone, so training cannot have changed them.
    for name in known:
        (trained,), (untrained,) = result["probes"][name], result["probes"][f"{name}, untrained"]
        for condition in ("nats_text", "nats_nothing"):
            assert trained[condition] == pytest.approx(untrained[condition], rel=1e-4)
        assert trained["nats_speech"] != untrained["nats_speech"]


@pytest.mark.parametrize(
    ("recipe", "task", "said"),
    [
        ("tera:tiny", "gap-closure", "a run of tera does not answer to speech: gap-closure, heard-word, echo, repeat are for"),
        ("blsp:tiny", "speaker-id", "a run of blsp answers to speech, which task 'speaker-id' does not judge: --task takes gap-closure, "),
    ],
)  # fmt: skip
def test_a_run_and_a_task_that_do_not_suit_are_refused_before_anything_is_measured(
    overture: Overture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, task: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = overture("compare", recipe, "--budget", "1e9flop", "--task", task)
    assert answer.status == 1 and said in answer.err
    assert not list(tmp_path.rglob("*.json"))
