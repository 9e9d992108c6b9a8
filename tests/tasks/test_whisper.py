"""Whisper as a reference: which rows it hears in which language, and how what it writes is scored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf

from overture.data.table import Table
from overture.errors import OvertureError
from overture.models import sources
from overture.models.whisper import Heard, Whisper
from overture.tasks import metrics, whisper

HOME = sources.home()  # the user's own: tests have another
SAID = ["Oh, OK!", "Dobrý den.", "five fish", "Нар.", "that's all", "..."]
WRITTEN = ["oh ok", "Dobry den", "5 fish", "Нар", "That is all?", "no"]
TAGS = ["en-GB", "cs", "en", "mul", None, "en"]


@pytest.fixture
def spoken(tmp_path: Path) -> Table:
    """Row i is a tone of i + 1 tenths of a second, at another rate; the first row's recording is row 2's, from its middle."""
    durations = [0.1 * (i + 1) for i in range(6)]
    for i, seconds in enumerate(durations):
        sf.write(tmp_path / f"{i}.wav", np.full(round(8_000 * seconds), (i + 1) / 10, np.float32), 8_000)
    columns = {
        "id": [f"u{i}" for i in range(6)],
        "audio": [str(tmp_path / ("2.wav" if i == 0 else f"{i}.wav")) for i in range(6)],
        "start": [0.15, *[0.0] * 5],
        "duration": durations,
        "text": SAID,
        "language": TAGS,
        "speaker": ["a", "a", "a", "b", "b", "b"],
    }
    return Table(pa.table(columns), name="toy", root=tmp_path)


class Echo:
    """Writes what the length and the level of a wave stand for."""

    code, multilingual = Whisper.code, True

    def __init__(self, languages: tuple[str, ...] = ("en", "cs")) -> None:
        self.languages, self.asked = languages, []  # type: ignore[var-annotated]

    def hear(self, waves: Sequence[np.ndarray], languages: Sequence[str | None], batch: int) -> list[Heard]:
        out = []
        for wave, language in zip(waves, languages):
            row = round(len(wave) / 1_600) - 1
            level = 3 if row == 0 else row + 1
            assert wave.dtype == np.float32 and np.median(wave) == pytest.approx(level / 10, abs=0.01)
            self.asked.append((row, language))
            out.append(Heard(WRITTEN[row], language or "bg", language is None))
        return out


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Echo:
    found = Echo()
    monkeypatch.setattr(whisper, "installed", lambda name: Path(name))
    monkeypatch.setattr(whisper.Whisper, "load", lambda folder, device: found)
    return found


@pytest.mark.parametrize("chunk", [1, 64])
def test_each_row_in_its_language_and_scored_as_our_recognisers(
    chunk: int, spoken: Table, echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whisper, "CHUNK", chunk)
    test, told = np.array([4, 0, 3, 1, 2, 5]), list[dict[str, Any]]()
    found = whisper.score("whisper-base", spoken, "text", test, 3, metric="cer", tell=told.append)
    assert sorted(echo.asked) == [(0, "en"), (1, "cs"), (2, "en"), (3, None), (4, None), (5, "en")]
    references = ["that s all", "oh ok", "нар", "dobrý den", "five fish", ""]
    hypotheses = ["that is all", "oh ok", "нар", "dobry den", "5 fish", "no"]
    counts = metrics.cer(references, hypotheses)
    assert found.metric == "cer" and found.value == counts.value and found.interval is not None
    assert found.interval == metrics.bootstrap(*counts, seed=3)
    predictions = found.predictions.to_pydict()
    assert predictions["id"] == ["u4", "u0", "u3", "u1", "u2", "u5"]
    assert (predictions["reference"], predictions["hypothesis"]) == (references, hypotheses)
    assert predictions["errors"] == counts.events.tolist() and predictions["total"] == counts.totals.tolist()
    words = metrics.wer(references, hypotheses)
    assert (predictions["wer_errors"], predictions["wer_total"]) == (words.events.tolist(), words.totals.tolist())
    assert predictions["language"] == ["bg", "en", "bg", "cs", "en", "en"]
    assert predictions["detected"] == [True, False, True, False, False, False]
    assert [(g.column, g.group) for g in found.by_group if g.column == "speaker"] == [
        ("speaker", "a"),
        ("speaker", "b"),
    ]
    (note,) = told
    assert note["kind"] == "note" and "whisper-base has to detect" in note["text"]
    assert note["text"].endswith(": 1 x no language, 1 x mul")


def test_word_errors_are_the_value_where_the_task_asks_for_them(spoken: Table, echo: Echo) -> None:
    told: list[dict[str, Any]] = []
    found = whisper.score("whisper-base", spoken, "text", np.array([1, 2]), 0, metric="wer", tell=told.append)
    assert (found.metric, found.value) == ("wer", 0.5) and not told
    assert found.predictions.column("cer_total").to_pylist() == [9, 9]


def test_a_corpus_without_languages_is_all_detected(spoken: Table, echo: Echo) -> None:
    told: list[dict[str, Any]] = []
    bare = Table(spoken.columns.drop_columns(["language"]), name="toy", root=spoken.root)
    whisper.score("whisper-base", bare, "text", np.arange(6), 0, metric="cer", tell=told.append)
    assert [language for _, language in echo.asked] == [None] * 6 and "6 x no language" in told[0]["text"]


def test_an_english_model_refuses_what_is_not_said_to_be_english(spoken: Table, echo: Echo) -> None:
    echo.languages, echo.multilingual = ("en",), False
    with pytest.raises(
        OvertureError, match=r"knows English only.*: 1 x cs, 1 x mul, 1 x no language\. Take 'whisper-base'"
    ):
        whisper.score("whisper-tiny-en", spoken, "text", np.arange(6), 0, metric="cer", tell=pytest.fail)
    found = whisper.score("whisper-tiny-en", spoken, "text", np.array([0, 2]), 0, metric="cer", tell=pytest.fail)
    assert found.predictions.column("language").to_pylist() == ["en", "en"]


def test_rows_without_a_transcript_are_named(spoken: Table, echo: Echo) -> None:
    texts = pa.array([*SAID[:5], None])
    bare = Table(spoken.columns.set_column(4, "text", texts), name="toy", root=spoken.root)
    with pytest.raises(OvertureError, match=r"row 'u5' of 'toy' has no text"):
        whisper.score("whisper-base", bare, "text", np.arange(6), 0, metric="cer", tell=pytest.fail)


@pytest.mark.skipif(not sources.complete("whisper-tiny-en"), reason="whisper-tiny-en is not installed")
def test_the_real_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(HOME.parent))
    prompts = Table.open("embedded", "language = 'en-US' AND duration BETWEEN 2 AND 4 AND text IS NOT NULL").take(
        np.arange(4)
    )
    found = whisper.score("whisper-tiny-en", prompts, "text", np.array([2, 0]), 0, metric="cer", tell=pytest.fail)
    assert found.value < 0.15 and found.predictions.column("id").to_pylist() == prompts.numpy("id")[[2, 0]].tolist()
