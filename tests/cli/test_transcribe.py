"""`overture transcribe` as a person types it, with a recogniser of tones in place of one on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

import overture as package
from overture.recognise import transcribe as recognise
from overture.recognise.lm import NGram
from overture.recognise.recogniser import Recogniser
from tests.recognise.tones import RATE, Tones, spoken


@pytest.fixture
def tones(monkeypatch) -> list[Path]:
    """The folders that a recogniser was loaded from."""
    asked: list[Path] = []
    monkeypatch.setattr(Recogniser, "load", lambda folder: asked.append(folder) or Tones())
    return asked


@pytest.fixture
def talks(tmp_path, monkeypatch) -> Path:
    """The folder that the command runs in: a.wav says "cab deed", b.wav "abba", after a pause of 2 s "bead"."""
    monkeypatch.chdir(tmp_path)
    sf.write("a.wav", spoken(["cab", "deed"])[0], RATE)
    sf.write("b.wav", spoken(["abba", "bead"], pauses=[0.0, 2.0])[0], RATE)
    return tmp_path


def test_printed(overture, tones, talks):
    found = overture("transcribe", "b.wav", "--model", "runs/asr")
    assert (found.status, found.out) == (0, "abba\nbead\n") and tones == [Path("runs/asr")]
    assert "1 file, 0:0" in found.err and "real-time factor" in found.err
    assert overture("transcribe", "a.wav", "b.wav", "--model", "m").out == "a.wav\tcab deed\nb.wav\tabba bead\n"
    rows = overture("transcribe", "a.wav", "b.wav", "--model", "m", "--format", "json").out.splitlines()
    assert [json.loads(row)["text"] for row in rows] == ["cab deed", "abba bead"]
    lines = overture("transcribe", "a.wav", "b.wav", "--model", "m", "--format", "ctm").out.splitlines()
    assert [line.split()[:2] + line.split()[4:5] for line in lines] == [
        ["a", "1", "cab"], ["a", "1", "deed"], ["b", "1", "abba"], ["b", "1", "bead"],
    ]  # fmt: skip


def test_written(overture, tones, talks):
    words = [w for name in ("text", "srt", "ctm", "json") for w in ("--format", name)]
    found = overture("transcribe", "a.wav", "b.wav", "--model", "runs/asr", "--out", "out/new", *words)
    assert (found.status, found.out) == (0, "") and "b.wav: 2 words in 0:0" in found.err
    out = talks / "out" / "new"
    assert sorted(p.name for p in out.iterdir()) == [f"{a}.{e}" for a in "ab" for e in ("ctm", "json", "srt", "txt")]
    assert (out / "b.txt").read_text() == "abba\nbead\n" and (out / "b.srt").read_text().count("-->") == 2
    record = json.loads((out / "a.json").read_text())
    assert record["model"] == "runs/asr" and record["lm"] is None and record["overture"] == package.__version__
    assert record["licence"] == ["CC0-1.0"] and [w["text"] for w in record["words"]] == ["cab", "deed"]


def test_what_is_there_is_not_written_over(overture, tones, talks):
    Path("out").mkdir()
    Path("out/b.txt").write_text("mine")
    command = ("transcribe", "a.wav", "b.wav", "--model", "m", "--out", "out")
    found = overture(*command)
    assert found.status == 1 and "out/b.txt is there already: --existing skip" in found.err and not tones
    assert not Path("out/a.txt").exists()
    found = overture(*command, "--existing", "skip")
    assert found.status == 0 and "b.wav: there already, kept" in found.err
    assert Path("out/a.txt").read_text() == "cab deed\n" and Path("out/b.txt").read_text() == "mine"
    assert overture(*command, "--existing", "skip").status == 0 and len(tones) == 1  # nothing left to load a model for
    assert overture(*command, "--existing", "replace").status == 0
    assert Path("out/b.txt").read_text() == "abba\nbead\n"


def test_bad_files_are_reported_the_others_go_on_and_the_status_is_1(overture, tones, talks):
    Path("bad.wav").write_text("no sound")
    sf.write("none.wav", np.zeros(0), RATE)
    sf.write("silent.wav", np.zeros(RATE), RATE)
    sf.write("two.flac", np.tile(spoken(["add"])[0][:, None], 2), RATE)
    names = ["absent.wav", "bad.wav", "a.wav", "none.wav", "silent.wav", "two.flac"]
    found = overture("transcribe", *names, "--model", "m", "--out", "out")
    assert found.status == 1
    for said in (
        "absent.wav: does not exist",
        "bad.wav: cannot be read as audio",
        "none.wav: 0 s of audio",
        "silent.wav: note silent",
        "two.flac: note 2 channels were averaged",
        "3 of 6 files could not be transcribed: absent.wav, bad.wav, none.wav",
    ):
        assert said in found.err
    assert {p.name: p.read_text() for p in Path("out").iterdir()} == {
        "a.txt": "cab deed\n", "silent.txt": "\n", "two.txt": "add\n",
    }  # fmt: skip


def test_a_language_model_of_choice(overture, tones, talks):
    NGram.estimate(["cab deed", "deed cab"], order=2).write("mine.arpa")
    command = ("transcribe", "a.wav", "--model", "m", "--format", "json")
    record = json.loads(overture(*command, "--lm", "mine.arpa", "--lm-weight", "0.3").out)
    assert (
        record["text"] == "cab deed"
        and record["lm"]["file"] == "mine.arpa"
        and record["lm"]["beam"]["lm_weight"] == 0.3
    )
    assert json.loads(overture(*command, "--lm", "none").out)["lm"] is None
    found = overture(*command, "--lm-weight", "0.3")
    assert found.status == 1 and "there is no language model. Name one with --lm" in found.err
    found = overture(*command, "--lm", "absent.arpa")
    assert found.status == 1 and "no language model absent.arpa" in found.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a.wav", "--format", "str"), "no such format. Did you mean 'srt'?"),
        (("a.wav", "b.wav", "--format", "srt"), "need a folder: --out DIR"),
        (("a.wav", "--format", "srt", "--format", "text"), "need a folder: --out DIR"),
        (("a.wav", "sub/a.flac", "--out", "out"), "a.wav and sub/a.flac would both be written to out/a.txt"),
        (("a.wav", "b.wav", "a.wav"), "named twice: a.wav"),
        (("a.wav", "--out", "b.wav"), "--out b.wav is a file"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(overture, tones, talks, words, said):
    found = overture("transcribe", *words, "--model", "m")
    assert found.status == 1 and said in found.err and not tones


def test_interrupted(overture, tones, talks, monkeypatch):
    before = recognise.transcribe

    def interrupted(files, *rest, **options):
        yield from before(files[:1], *rest, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(recognise, "transcribe", interrupted)
    found = overture("transcribe", "a.wav", "b.wav", "--model", "m", "--out", "out")
    assert found.status == 130 and "1 of 2 files are written, --existing skip goes on" in found.err
    assert [p.name for p in Path("out").iterdir()] == ["a.txt"]


def test_a_folder_that_is_no_recogniser(overture, talks):
    found = overture("transcribe", "a.wav", "--model", "runs/none")
    assert found.status == 1 and "runs/none is no recogniser" in found.err


def test_progress_of_a_long_recording_off_a_terminal(overture, tones, talks, monkeypatch):
    from overture.cli import transcribe

    monkeypatch.setattr(transcribe, "EVERY", 0.0)
    sf.write("long.wav", spoken(["cab", "deed"] * 60)[0], RATE)
    found = overture("transcribe", "long.wav", "--model", "m")
    lines = [line for line in found.err.splitlines() if line.startswith("  1/1 long.wav: ")]
    assert len(lines) > 2 and "of 1:" in lines[-1] and "real-time factor 0." in lines[-1]
