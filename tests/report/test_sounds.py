"""overture.report.sounds: what was made can be heard on the page, to the sample, in one file of bounded size."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from overture.errors import OvertureError
from overture.provenance import of_audio
from overture.report import sounds, write_comparison_report, write_run_report
from overture.verdicts import Score
from tests.report.test_report import Page, a_result, a_run, read


def tone(hertz: float) -> np.ndarray:
    wave: np.ndarray = (0.3 * np.sin(2 * np.pi * hertz * np.arange(4000) / 8000)).astype(np.float32)
    return wave


def recorded(folder: Path, made: list[tuple[str, np.ndarray, int]]) -> None:
    """What a task leaves beside a result."""
    (folder / "audio").mkdir(parents=True)
    for i, (_, wave, rate) in enumerate(made):
        sf.write(folder / "audio" / f"{i}.flac", np.clip(wave, -1, 1), rate)
    listed = [{"caption": caption, "file": f"{i}.flac"} for i, (caption, *_) in enumerate(made)]
    (folder / "audio" / "index.json").write_text(json.dumps(listed))


def heard(page: Page) -> list[tuple[str, np.ndarray, int]]:
    """Of each player its label, and what it plays."""
    found = []
    for player in page.of("audio"):
        kind, _, content = str(player["src"]).partition(";base64,")
        assert "controls" in player and kind == "data:audio/flac"
        wave, rate = sf.read(io.BytesIO(base64.b64decode(content)), dtype="float32")
        found.append((str(player["aria-label"]), wave, rate))
    return found


def test_what_is_written_is_listed_and_played(tmp_path: Path) -> None:
    sounds.write(tmp_path, [("one", tone(200)), ("too loud", 5 * tone(300))], 8000)
    info = sf.info(str(tmp_path / "audio" / "1.wav"))
    assert (info.subtype, info.samplerate, info.frames) == ("PCM_16", 8000, 4000)
    loudest = sf.read(str(tmp_path / "audio" / "1.wav"))[0].max()
    assert loudest == pytest.approx(1.0, abs=1e-4)  # cut, not turned over
    found = sounds.players({"arm": tmp_path})
    assert [(caption, [name for name, _ in said]) for caption, said in found.groups] == [
        ("one", ["arm"]),
        ("too loud", ["arm"]),
    ]


def test_a_run_is_heard_to_the_sample(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "r")
    assert "Listen" not in read(write_run_report(folder)).text
    made = [("“Good bye.”", tone(200), 8000), ("too loud <b>", 5 * tone(300), 16_000)]
    recorded(folder, made)
    page = read(write_run_report(folder))
    assert "Listen “Good bye.” too loud <b>" in page.text and "did not fit" not in page.text
    for (label, wave, rate), (caption, given, its_rate) in zip(heard(page), made, strict=True):
        assert (label, rate) == (caption, its_rate)
        np.testing.assert_allclose(wave, np.clip(given, -1, 1), atol=1e-4)


def test_arms_that_said_the_same_stand_together(tmp_path: Path) -> None:
    recorded(tmp_path / "a", [("one", tone(200), 8000), ("two", tone(300), 8000)])
    recorded(tmp_path / "b", [("two", tone(400), 8000), ("one", tone(500), 8000)])
    folders = {"tera": tmp_path / "a", "recordings": tmp_path / "b", "silent": tmp_path / "c"}
    page = read(write_comparison_report(a_result(), {}, tmp_path / "page.html", folders))
    assert "Listen one tera recordings two tera recordings" in page.text
    assert [label for label, *_ in heard(page)] == ["tera: one", "recordings: one", "tera: two", "recordings: two"]
    for (_, wave, _), hertz in zip(heard(page), (200, 500, 300, 400), strict=True):
        np.testing.assert_allclose(wave, tone(hertz), atol=1e-4)
    assert "Listen" not in read(write_comparison_report(a_result(), {}, tmp_path / "none.html")).text


def test_a_page_is_bounded_and_says_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, 4000).astype(np.float32)
    for name in "ab":
        recorded(tmp_path / name, [(str(i), noise, 8000) for i in range(5)])
    size = (tmp_path / "a" / "audio" / "0.flac").stat().st_size
    monkeypatch.setattr(sounds, "MOST", 5 * size)  # of two arms: two captions whole, and no half of a third
    page = read(write_comparison_report(a_result(), {}, tmp_path / "page.html", {n: tmp_path / n for n in "ab"}))
    assert [label for label, *_ in heard(page)] == ["a: 0", "b: 0", "a: 1", "b: 1"]
    assert "3 more captions did not fit into this page" in page.text
    assert len(page.source) < len(read(write_comparison_report(a_result(), {}, tmp_path / "0.html")).source) + 7 * size
    monkeypatch.setattr(sounds, "MOST", 1)
    none = read(write_comparison_report(a_result(), {}, tmp_path / "page.html", {"a": tmp_path / "a"}))
    assert "5 more captions did not fit" in none.text and heard(none) == []


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("{", r'index\.json is no list of \{"caption", "file"\}'),
        ('[{"caption": "a"}]', r"is no list of .*'file'"),
        ("[1]", "is no list of"),
        ('[{"caption": "a", "file": "../run.json"}]', r"lists '\.\./run\.json', which is no file beside it"),
        ('[{"caption": "a", "file": "gone.wav"}]', r"lists 'gone\.wav', which is no file beside it"),
        ('[{"caption": "a", "file": "index.json"}]', r"index\.json is no WAV, FLAC or Ogg file"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, listed: str, message: str) -> None:
    folder = a_run(tmp_path / "r")
    (folder / "audio").mkdir()
    (folder / "audio" / "index.json").write_text(listed)
    with pytest.raises(OvertureError, match=message):
        write_run_report(folder)


def test_the_result_of_a_study_says_where_its_arms_are_heard(tmp_path: Path) -> None:
    assert sounds.of_result({}, tmp_path) == {}
    found = sounds.of_result(json.loads('{"audio": {"flow": "judged/judge-1"}}'), tmp_path)
    assert found == {"flow": tmp_path / "judged" / "judge-1"}


def test_of_each_arm_the_first_seed_and_the_first_trial_that_left_recordings_is_heard() -> None:
    def score(*folder: str) -> Score:
        return Score(0.0, np.zeros(1), np.ones(1), {"audio": folder[0]} if folder else {}, None)

    words = {"log-mel": [score()], "flow": [score("judged/a"), score("judged/b")]}
    voice = {"log-mel": [score("judged/c")], "flow": [score("judged/d")]}
    assert of_audio([words, voice]) == {"log-mel": "judged/c", "flow": "judged/a"}
    assert of_audio([{"log-mel": [score()]}]) == {}
