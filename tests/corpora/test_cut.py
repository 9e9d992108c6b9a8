"""overture.corpora.cut: utterances where they were planted, hours that add up, rows that point into the recording. By a fake detector, of energy,
and by the installed one."""

import csv
import importlib.util
import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

from overture.cli.data import app
from overture.corpora.add import add
from overture.corpora.build import Listing
from overture.corpora.cut import cut
from overture.corpora.text import build_text
from overture.data.audio import read
from overture.data.cutting import Lengths
from overture.data.score import scorer
from overture.data.score.annotate import annotate, score
from overture.data.table import Table, about_corpus, corpora_home
from overture.errors import OvertureError
from overture.models import sources, vad

HOME = sources.home()  # the user's own: tests have another
READY = sources.complete("silero-vad") and bool(importlib.util.find_spec("onnxruntime"))
RATE = 16_000
PAUSES = (0.9, 0.25, 2.0, 0.3, 0.8, 1.5)  # s before each group of utterances; those up to .5 s join
HOW = Lengths(wished=5.0, longest=6.0, shortest=0.3)


def energy(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """(T,) for Silero's network: whether a frame of 32 ms is above -52 dBFS."""
    wave = np.concatenate([np.zeros(0, np.float32), *blocks])
    frames = np.pad(wave, (0, -len(wave) % vad.FRAME)).reshape(-1, vad.FRAME)
    return np.where(np.sqrt((frames**2).mean(axis=1)) > 2.5e-3, 0.9, 0.1).astype(np.float32)


@pytest.fixture(autouse=True)
def planted(tmp_path: Path, speech: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """The corpus `radio`: two files of one name, real speech between pauses of known lengths, and `hiss`, without any. Returns where in both
    of the first two somebody begins and ends, pauses of half a second joined over."""
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(vad, "probabilities", energy)
    rng, parts, truth, at = np.random.default_rng(0), [], [], 0.0
    for pause, wave in zip(PAUSES, speech, strict=False):
        loud = np.flatnonzero(np.abs(wave) > 0.02)
        wave = wave[loud[0] : loud[-1]]
        at += pause
        if pause > 0.5:
            truth.append((at, at + len(wave) / RATE))
        else:
            truth[-1] = (truth[-1][0], at + len(wave) / RATE)
        at += len(wave) / RATE
        parts += [np.zeros(round(pause * RATE)), wave]
    clean = np.concatenate([*parts, np.zeros(RATE)])
    for name, noise in (("mon/a", 3e-4), ("tue/a", 1e-3), ("hiss", 1e-3)):
        wave = noise * rng.standard_normal(len(clean)) + (name != "hiss") * clean
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(tmp_path / "in" / f"{name}.flac", wave, RATE)
    words = [{"text": f"w{i}", "start": a, "end": b} for i, (a, b) in enumerate(truth)] + [
        {"word": " late", "start": len(clean) / RATE - 0.3, "end": len(clean) / RATE}
    ]
    rows = [
        {"path": "mon/a.flac", "text": "all that is said", "speaker": "ann", "station": 7, "translation_en": "all", "words": words},
        {"path": "tue/a.flac", "text": "all that is said", "speaker": "bob", "station": 8},
        {"path": "hiss.flac", "text": "nothing", "speaker": "bob", "station": 8},
    ]  # fmt: skip
    (tmp_path / "in" / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    add("radio", tmp_path / "in", transcripts=tmp_path / "in" / "list.jsonl", fill={"language": "en", "licence": "CC0"})
    return truth


def spans(table: Table, of: str) -> list[tuple[float, float]]:
    rows = [row for row in map(table.row, range(len(table))) if row["cut_from"] == of]
    return [(row["start"], row["start"] + row["duration"]) for row in rows]


def report(name: str) -> list[dict[str, str]]:
    with (corpora_home() / name / "cuts.tsv").open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_utterances_are_where_they_were_planted(planted: list[tuple[float, float]]) -> None:
    cut("cut", "radio", HOW)
    table = Table.open("cut")
    for of in ("mon/a", "tue/a"):
        found = spans(table, of)
        assert len(found) == len(planted) == 4
        np.testing.assert_allclose(found, planted, atol=0.1)
    ids = table.numpy("id").tolist()
    assert len(set(ids)) == len(ids) == 8 and ids == [
        f"{of}@{round(1000 * start)}" for of in ("mon/a", "tue/a") for start, _ in spans(table, of)
    ]
    wave = read(Path(Table.open("radio").row(0)["audio"]), rate=RATE)
    row = table.row(2)
    first = round(row["start"] * RATE)
    mine = read(row["audio"], rate=RATE, start=row["start"], duration=row["duration"])
    np.testing.assert_array_equal(mine, wave[first : first + len(mine)])
    assert not (corpora_home() / "cut" / "audio").exists()


def test_rows_keep_what_is_true_of_a_piece_and_words_by_their_times() -> None:
    annotate("radio", {"snr": scorer("snr")})
    cut("cut", "radio", HOW)
    table = Table.open("cut")
    assert table.numpy("speaker").tolist() == ["ann"] * 4 + ["bob"] * 4
    assert table.numpy("station").tolist() == [7] * 4 + [8] * 4 and set(table.numpy("language")) == {"en"}
    assert set(table.numpy("derived_from")) == {"radio"}
    assert table.numpy("text").tolist() == ["w0", "w1", "w2", "w3"] + [None] * 4
    first = json.loads(table.row(1)["words"])
    assert [w["text"] for w in first] == ["w1"] and 0 <= first[0]["start"] < 0.1
    assert not {"translation_en", "snr"} & set(table.columns.column_names)
    found = about_corpus(corpora_home() / "cut")["cut"]
    assert found["columns_left"] == ["text", "words", "translation_en"] and found["words_outside"] == 1


def test_seconds_in_are_seconds_out() -> None:
    cut("cut", "radio", Lengths(wished=5.0, longest=6.0, shortest=0.8))
    radio, table, lines = Table.open("radio"), Table.open("cut"), report("cut")
    assert [line["id"] for line in lines] == ["mon/a", "tue/a", "hiss"]
    for line, duration in zip(lines, radio.numpy("duration"), strict=True):
        kept, short, silence = (float(line[f"{k}_s"]) for k in ("kept", "short", "silence"))
        assert kept + short + silence == pytest.approx(duration, abs=2e-3)
        own = spans(table, line["id"])
        assert len(own) == int(line["rows"]) and sum(b - a for a, b in own) == pytest.approx(kept, abs=2e-3)
    assert sum(int(line["short_pieces"]) for line in lines) > 0
    with (corpora_home() / "cut" / "dropped.tsv").open(encoding="utf8", newline="") as file:
        dropped = list(csv.DictReader(file, delimiter="\t"))
    assert [d["id"] for d in dropped if d["kind"] == "no speech"] == ["hiss"]
    short = [d for d in dropped if d["kind"] == "too short"]
    assert len(short) == sum(int(line["short_pieces"]) for line in lines) and all("@" in d["id"] for d in short)
    about = about_corpus(corpora_home() / "cut")
    assert about["cut"]["without_speech"] == ["hiss"] and about["cut"]["rows"] == about["rows"] == len(table)
    assert about["cut"]["seconds"]["total"] == pytest.approx(radio.hours * 3600, abs=0.01)


def test_speech_without_a_pause_is_cut_within_the_longest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wave = 0.1 * rng.standard_normal(20 * RATE)
    wave[round(2.5 * RATE) : round(2.54 * RATE)] *= 0.5  # a dip, no pause
    (tmp_path / "long").mkdir()
    sf.write(tmp_path / "long" / "talk.wav", wave, RATE)
    add("talk", tmp_path / "long")
    about = cut("cut", "talk", Lengths(wished=3.0, longest=4.0, shortest=0.5))
    found = spans(Table.open("cut"), "talk")
    assert found[0][1] == pytest.approx(2.52, abs=0.02) and found[0][0] == 0 and found[-1][1] == pytest.approx(20)
    assert all(b == pytest.approx(c) for (_, b), (c, _) in pairwise(found)) and max(b - a for a, b in found) <= 4.001
    assert about["cut"]["cuts_in_speech"] == len(found) - 1 >= 4
    assert [float(s) for s in report("cut")[0]["cut_in_speech_at_s"].split()] == pytest.approx(
        [b for _, b in found[:-1]]
    )


def test_pieces_of_pieces_and_of_parts_of_a_file() -> None:
    """A row that begins within its file: times and ids are the file's."""
    cut("cut", "radio", HOW)
    before = Table.open("cut")
    cut("again", "cut", Lengths(wished=5.0, longest=6.0, shortest=0.2, pause=0.0))
    table = Table.open("again")
    assert len(table) > len(before)
    whole = {row["id"]: row for row in map(before.row, range(len(before)))}
    for row in map(table.row, range(len(table))):
        parent = whole[row["cut_from"]]
        assert parent["start"] - 1e-6 <= row["start"] and row["audio"] == parent["audio"]
        assert row["start"] + row["duration"] <= parent["start"] + parent["duration"] + 1e-3
        assert row["id"] == f"{parent['id']}@{round(1000 * row['start'])}"


def test_the_command_says_where_the_hours_went_and_does_nothing_twice(tmp_path: Path) -> None:
    words = ["cut", "radio-cut", "--from", "radio", "--shortest", "0.3", "--wished", "5", "--longest", "6"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    for said in (
        "radio-cut: 8 utterances",
        "in 3 recordings",
        "nobody speaks in 1: hiss",
        "not carried over",
        "translation_en",
        "cuts.tsv",
    ):
        assert said in result.output
    made = (corpora_home() / "radio-cut" / "corpus.json").stat().st_mtime_ns
    assert CliRunner().invoke(app, words).exit_code == 0
    assert (corpora_home() / "radio-cut" / "corpus.json").stat().st_mtime_ns == made
    with pytest.raises(OvertureError, match="there is a corpus 'radio-cut' already"):
        cut("radio-cut", "radio", Lengths())


def test_bad_input_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_text("notes", lambda folder: Listing(rows=[{"id": "a", "text": "A note."}]))
    for parent, where, how, said in (
        ("radoi", None, HOW, "Did you mean 'radio'"),
        ("notes", None, HOW, "'notes' is text"),
        ("radio", "station = 9", HOW, "no row of 'radio' is left"),
        ("radio", "id = 'hiss'", HOW, "nothing is left of 'radio': 1 of its 1 recordings have no speech"),
        ("radio", None, Lengths(shortest=9, wished=20), "in stretches below 9 s"),
    ):
        with pytest.raises(OvertureError, match=said):
            cut("bad", parent, how, where=where)
    with pytest.raises(OvertureError, match="cannot be made of itself"):
        cut("radio", "radio", HOW)
    (tmp_path / "in" / "tue" / "a.flac").write_bytes(b"no longer audio")
    with pytest.raises(
        OvertureError, match=r"row 'tue/a': .*tue/a.flac: cannot be read as audio.*leave the row out with --where"
    ):
        cut("bad", "radio", HOW)
    wave = read(tmp_path / "in" / "mon" / "a.flac", rate=RATE)
    sf.write(tmp_path / "in" / "tue" / "a.flac", wave[: RATE * 2], RATE)
    with pytest.raises(OvertureError, match=r"row 'tue/a': .*ends after 2.00 s, where the corpus has"):
        cut("bad", "radio", HOW)
    monkeypatch.undo()
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path / "home"))
    with pytest.raises(OvertureError, match=r"overture models get silero-vad|overture\[onnx\]"):
        cut("bad", "radio", HOW)
    assert not (corpora_home() / "bad").exists() and not list(corpora_home().glob(".bad*"))


@pytest.mark.parametrize("words, said", [([{"text": "a", "start": 1}], "word 1"), ('[{"text"', "not JSON")])
def test_words_without_times_are_refused(words: object, said: str, tmp_path: Path) -> None:
    row = {"path": "mon/a.flac", "words": words}
    (tmp_path / "in" / "list.jsonl").write_text(json.dumps(row) + "\n")
    add("worded", tmp_path / "in", transcripts=tmp_path / "in" / "list.jsonl")
    with pytest.raises(OvertureError, match=rf"row 'mon/a', column 'words'.*{said}"):
        cut("bad", "worded", HOW)


def test_a_filter_by_snr_is_not_undone_by_peak_normalisation(tmp_path: Path) -> None:
    """The published pipeline's trap: what is brought to full scale after, or before, keeps its place on either side of a threshold."""
    cut("cut", "radio", HOW)
    table = Table.open("cut")
    found = np.array(score(scorer("snr"), table)["snr"].to_pylist())
    for name in ("loud", "soft"):
        (tmp_path / name).mkdir()
        for i in range(len(table)):
            row = table.row(i)
            wave = read(row["audio"], rate=RATE, start=row["start"], duration=row["duration"])
            wave = wave / np.abs(wave).max() if name == "loud" else 0.3 * wave
            sf.write(tmp_path / name / f"{i}.wav", wave, RATE, subtype="FLOAT")
        add(name, tmp_path / name)
        other = Table.open(name)
        assert (other.numpy("peak") > 0.99).all() == (name == "loud")
        np.testing.assert_allclose(score(scorer("snr"), other)["snr"].to_pylist(), found, atol=0.01)
    assert found[:4].mean() > found[4:].mean() + 3  # the files differ in noise by 10 dB


@pytest.mark.skipif(not READY, reason="overture models get silero-vad, and the extra 'onnx'")
def test_by_the_installed_detector(planted: list[tuple[float, float]], monkeypatch: pytest.MonkeyPatch) -> None:
    home = corpora_home().parent
    monkeypatch.undo()
    monkeypatch.setenv("OVERTURE_HOME", str(home))
    (home / "models").symlink_to(HOME)
    cut("cut", "radio", HOW)
    table = Table.open("cut")
    assert set(table.numpy("cut_from")) == {"mon/a", "tue/a"}
    for of in ("mon/a", "tue/a"):
        found = spans(table, of)
        assert len(found) == len(planted)
        assert np.median(np.abs(np.array(found) - planted)) < 0.1
