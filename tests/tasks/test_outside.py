"""References from outside: which fits which metric, and that the probe is that of our encoders."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overture.data.table import Table
from overture.errors import OvertureError
from overture.tasks import outside, whisper
from overture.tasks.classify import classify

from .conftest import table


def test_reference_goes_through_the_probe_of_our_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.arange(120) % 3
    states = np.eye(3, 8, dtype=np.float32)[y] + 0.01 * np.random.default_rng(0).normal(size=(120, 8)).astype(
        np.float32
    )
    rows = {"train": np.arange(60), "dev": np.arange(60, 80), "test": np.arange(80, 120)}
    effects = table(120, label=[f"class {i}" for i in y])
    monkeypatch.setitem(outside.REFERENCES, "planted", lambda t: states[: len(t)])
    found = outside.reference("planted", effects, "label", rows, 0)
    same = classify(states[:, None], effects, target="label", **rows, seed=0)
    assert found.value == 1.0 == same.value and found.dev == same.dev and found.interval == (1.0, 1.0)
    assert found.predictions.column("id").to_pylist() == [f"u{i}" for i in range(80, 120)]


def test_a_recogniser_is_given_the_test_rows_and_the_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def score(name: str, table: Table, target: str, test: np.ndarray, seed: int, **rest: Any) -> str:
        asked.append((name, target, test.tolist(), seed, rest["metric"]))
        rest["tell"]({"kind": "note"})
        return "the result"

    monkeypatch.setattr(whisper, "score", score)
    rows = {"train": np.arange(2), "dev": np.arange(2, 4), "test": np.arange(4, 6)}
    told: list[dict[str, Any]] = []
    for metric in ("cer", "wer"):
        assert (
            outside.reference("whisper-base", table(6), "text", rows, 7, metric=metric, tell=told.append)
            == "the result"
        )
    assert asked == [("whisper-base", "text", [4, 5], 7, metric) for metric in ("cer", "wer")] and len(told) == 2


@pytest.mark.parametrize(
    "name, metric, says",
    [
        ("yamnt", "accuracy", r"no reference 'yamnt'.*'yamnet'"),
        ("yamnet", "cer", "'yamnet' cannot be scored in cer; whisper-base, whisper-tiny-en can"),
        ("whisper-base", "accuracy", "'whisper-base' cannot be scored in accuracy; yamnet, ge2e can"),
        ("whisper-base", "wer", "'whisper-base' is not installed .*overture models get whisper-base"),
        ("yamnet", "accuracy", "overture models get yamnet|pip install"),
    ],
)
def test_a_reference_that_cannot_be_had_says_why(
    name: str, metric: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path))
    rows = {"train": np.arange(1), "dev": np.arange(1, 2), "test": np.arange(2, 3)}
    with pytest.raises(OvertureError, match=says):
        outside.reference(name, table(3, text=["a", "b", "c"]), "text", rows, 0, metric=metric)
