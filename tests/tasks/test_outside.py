"""References from outside: which fits which metric, and that the probe is that of our encoders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf

from overture.data.table import Table
from overture.errors import OvertureError
from overture.models.dnsmos import Opinion
from overture.models.sources import SOURCES
from overture.tasks import find_task, outside, whisper
from overture.tasks.classify import classify
from overture.tasks.synthesised import Judges

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


@pytest.fixture
def spoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """Three recordings of one speaker; and judges: words are as many as a wave has seconds, sound is its level."""
    rows = []
    for i, text in enumerate(("One two.", "Three.", "Four five six.")):
        sf.write(tmp_path / f"{i}.wav", np.full(16_000, 0.1), 16_000)
        rows.append(
            {"id": f"u{i}", "audio": f"{i}.wav", "duration": 1.0, "speaker": "ann", "language": "en-US", "text": text}
        )

    def installed(language: str | None, of: Sequence[str]) -> Judges:
        hear = {
            "words": lambda waves: [" ".join(["one two three four"] * (len(wave) // 16_000)) for wave in waves],
            "sound": lambda wave: Opinion(float(np.median(wave)), 0.0, 0.0, 0.0),
        }
        return Judges(**{name: hear[name] for name in of})

    monkeypatch.setattr(Judges, "installed", staticmethod(installed))
    return Table(pa.Table.from_pylist(rows), name="said", root=tmp_path)


class Half:
    """A second of half of full scale a text, at another rate; "Three." it cannot say."""

    rate = 22_050

    def __init__(self, seed: int) -> None:
        assert seed == 7

    def __call__(self, text: str) -> np.ndarray:
        if text == "Three.":
            raise OvertureError("no three")
        return np.full(self.rate, 0.5, np.float32)


def said(name: str, table: Table, task: str, told: list[dict[str, Any]]) -> Any:
    of = find_task(task)
    rows = {"test": np.arange(len(table))}
    return outside.reference(name, table, of.target, rows, 7, metric=of.metric, task=of, tell=told.append)


def test_a_synthesiser_says_the_texts_of_the_rows(spoken: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(outside.REFERENCES, "half", outside.Says("piper-joe", Half))
    told: list[dict[str, Any]] = []
    words = said("half", spoken, "synthesis", told)
    found = {row["id"]: row["errors"] for row in words.predictions.to_pylist()}
    # "one two three four" against "one two", silence against "three", "one two three four" against "four five six"
    assert found == {"u0": 2, "u1": 1, "u2": 4} and words.value == pytest.approx(7 / 6)
    assert "row 'u1' is not said, which counts as silence: no three" in [event.get("text") for event in told]
    sound = said("half", spoken, "synthesis-sound", told)
    assert sound.value == pytest.approx((0.5 + 0 + 0.5) / 3, abs=0.01) and sound.others["real_time"]["value"] > 0


def test_a_synthesiser_is_compared_with_no_voice_and_copies_none(spoken: Table) -> None:
    for task, metric in (("synthesis-voice", "similarity"), ("copy-synthesis-words", "wer")):
        with pytest.raises(
            OvertureError, match=rf"'piper' cannot be scored in {metric}; recording can\. It says a text in a voice"
        ):
            said("piper", spoken, task, [])
    with pytest.raises(OvertureError, match="'piper' cannot be scored in wer; whisper-base"):
        outside.reference("piper", spoken, "text", {"test": np.arange(3)}, 0, metric="wer")
    with pytest.raises(OvertureError, match=r"'yamnet' cannot be scored in wer; piper, .*recording can"):
        said("yamnet", spoken, "synthesis", [])


@pytest.mark.parametrize(("language", "says"), [("cs", "but cs"), (None, "but no language")])
def test_a_synthesiser_says_english_rows_alone(spoken: Table, language: str | None, says: str) -> None:
    columns = spoken.columns.to_pylist()
    columns[2]["language"] = language
    other = Table(pa.Table.from_pylist(columns), name="said", root=spoken.root)
    with pytest.raises(OvertureError, match=f"'piper' speaks English only.*{says}"):
        said("piper", other, "synthesis", [])


def test_a_synthesiser_that_is_not_installed_says_how(
    spoken: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path))
    with pytest.raises(OvertureError, match=r"overture models get piper-joe|pip install"):
        said("piper", spoken, "synthesis", [])


def test_wheels_are_those_of_the_model() -> None:
    assert outside.wheels("piper") == [wheel.sha256 for wheel in SOURCES["piper-joe"].wheels]
    assert outside.wheels("whisper-base") == [wheel.sha256 for wheel in SOURCES["whisper-base"].wheels]
    assert outside.wheels("yamnet") == [wheel.sha256 for wheel in SOURCES["yamnet"].wheels]
    assert outside.wheels("recording") == []
