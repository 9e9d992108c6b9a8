"""Layouts that people have, and what is wrong with them."""

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from overture.corpora.add import add
from overture.data.table import Table
from overture.errors import MissingExtra, OvertureError

Put = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_home(home: Path) -> Path:
    return home


@pytest.fixture
def clips(put: Put, tmp_path: Path) -> Path:
    """in/a.wav, in/b.wav, in/c.wav"""
    for i, name in enumerate("abc"):
        put(f"in/{name}.wav", i)
    return tmp_path / "in"


def rows(name: str = "mine") -> list[dict[str, Any]]:
    table = Table.open(name)
    return [table.row(i) for i in range(len(table))]


@pytest.mark.parametrize("separator, ending", [("\t", "tsv"), (",", "csv"), (";", "csv"), ("|", "csv")])
def test_tables_with_usual_names(clips: Path, separator: str, ending: str) -> None:
    header = ["path", "sentence", "client_id", "sex", "locale", "split", "votes", "code", "level"]
    lines = [
        header,
        ["a.wav", "Hi", "s1", "male", "en", "train", "3", "007", "A1"],
        ["b.wav", "", "s2", "", "en", "test", "", "012", "B2"],
    ]
    file = clips / f"list.{ending}"
    file.write_text("\ufeff" + "\n".join(separator.join(x) for x in lines) + "\n", encoding="utf8")
    about = add("mine", clips, transcripts=file, fill={"licence": "CC0-1.0", "language": "fr"})
    first, second = rows()
    assert (first["text"], first["speaker"], first["gender"], first["language"]) == ("Hi", "s1", "m", "en")
    assert (first["split"], first["votes"], first["code"], first["given_level"]) == ("train", 3, "007", "A1")
    assert (second["votes"], second["text"], second["gender"], second["licence"]) == (None, None, None, "CC0-1.0")
    assert first["source"] == "in" and about["recordings_not_listed"] == 1 and about["warnings"] == {"no text": 1}


def test_quotes_in_tsv_are_text_and_in_csv_quotes(clips: Path) -> None:
    (clips / "t.tsv").write_text('path\ttext\na.wav\t"Hi" he said\nb.wav\t"open\n')
    add("tsv", clips, transcripts=clips / "t.tsv")
    assert [r["text"] for r in rows("tsv")] == ['"Hi" he said', '"open']
    (clips / "t.csv").write_text('path,text\na.wav,"Hi, ""you""\nthere"\nb.wav,x,y\n')
    with pytest.raises(OvertureError, match=r"row 4, t\.csv: has 3 fields, the first line names 2 columns"):
        add("csv", clips, transcripts=clips / "t.csv")
    add("csv", clips, transcripts=clips / "t.csv", on_problem="skip")
    assert rows("csv")[0]["text"] == 'Hi, "you"\nthere'


def test_json_lines(clips: Path) -> None:
    lines = [
        {"audio_filepath": "a.wav", "text": "x", "offset": 0.1, "duration": 0.2, "meta": {"k": 1}},
        {"audio_filepath": "b.wav", "text": "y"},
    ]
    (clips / "m.json").write_text("\n".join(json.dumps(x) for x in lines))
    add("mine", clips, transcripts=clips / "m.json")
    first, second = rows()
    assert (first["start"], first["duration"], json.loads(first["meta"])) == (0.1, 0.2, {"k": 1})
    assert second["duration"] == sf.info(clips / "b.wav").duration
    (clips / "m.json").write_text('{"audio": "a.wav"}\n{"audio": \n[1]\n')
    with pytest.raises(OvertureError, match=r"(?s)row 2, m\.json: is not JSON.*row 3, m\.json: is not an object"):
        add("bad", clips, transcripts=clips / "m.json")


def test_a_duration_without_a_start_is_measured_instead(clips: Path) -> None:
    (clips / "m.tsv").write_text("path\ttext\tduration\na.wav\tx\t99\n")
    add("mine", clips, transcripts=clips / "m.tsv")
    assert rows()[0]["duration"] == sf.info(clips / "a.wav").duration


def test_odd_column_names_are_told(clips: Path) -> None:
    (clips / "m.tsv").write_text("soundfile\twhat was said\na.wav\tx\n")
    with pytest.raises(
        OvertureError, match=r"no column names the recordings .*: soundfile, what was said.*--column audio=NAME"
    ):
        add("mine", clips, transcripts=clips / "m.tsv")
    with pytest.raises(OvertureError, match=r"no column 'sound' \(--column audio=sound\). Did you mean 'soundfile'"):
        add("mine", clips, transcripts=clips / "m.tsv", columns={"audio": "sound"})
    about = add("no-text", clips, transcripts=clips / "m.tsv", columns={"audio": "soundfile"})
    assert "--column text=NAME" in about["no_text_column"]
    add("mine", clips, transcripts=clips / "m.tsv", columns={"audio": "soundfile", "text": "what was said"})
    assert rows()[0]["text"] == "x"
    (clips / "m.tsv").write_text("path\ttext\ttext\na.wav\tx\ty\n")
    with pytest.raises(OvertureError, match=r"names 'text' more than once"):
        add("twice", clips, transcripts=clips / "m.tsv")


def test_a_wrong_encoding_names_the_line_and_the_way_out(clips: Path) -> None:
    (clips / "m.tsv").write_bytes("path\ttext\na.wav\tplain\nb.wav\tse\xf1or\n".encode("cp1252"))
    with pytest.raises(OvertureError, match=r"m\.tsv, line 3: byte 0xf1 is not utf-8.*--encoding cp1252"):
        add("mine", clips, transcripts=clips / "m.tsv")
    add("mine", clips, transcripts=clips / "m.tsv", encoding="cp1252")
    assert rows()[1]["text"] == "señor"
    (clips / "m.tsv").write_bytes("path\ttext\na.wav\tx\n".encode("utf-16"))
    with pytest.raises(OvertureError, match=r"line 1: .*--encoding utf-16"):
        add("wide", clips, transcripts=clips / "m.tsv")
    add("wide", clips, transcripts=clips / "m.tsv", encoding="utf-16")
    with pytest.raises(OvertureError, match=r"'utf-99' is not known"):
        add("odd", clips, transcripts=clips / "m.tsv", encoding="utf-99")


def test_paths_may_be_relative_to_the_manifest_and_may_not_leave_the_folder(
    clips: Path, put: Put, tmp_path: Path
) -> None:
    (tmp_path / "m.tsv").write_text("path\ttext\nin/a.wav\tx\n")
    add("beside", clips, transcripts=tmp_path / "m.tsv")
    assert rows("beside")[0]["audio"] == str(clips / "a.wav")
    put("other.wav", 5)
    (clips / "m.tsv").write_text(f"path\ttext\na.wav\tx\n../other.wav\ty\n{tmp_path}/other.wav\tz\n")
    with pytest.raises(OvertureError, match=r"(?s)2 problems.*row 3, ../other.wav, audio: leaves the folder .*--audio"):
        add("out", clips, transcripts=clips / "m.tsv")
    (tmp_path / "n.tsv").write_text(f"path\ttext\n{clips}/a.wav\tx\n{tmp_path}/other.wav\tz\n")
    add("wide", clips, transcripts=tmp_path / "n.tsv", audio=tmp_path)
    assert [r["id"] for r in rows("wide")] == ["in/a", "other"]


def test_bare_recordings_and_texts_beside_them(clips: Path, put: Put) -> None:
    put("in/deep/d.OGG".lower(), 3)
    (clips / "b.txt").write_text(" what\n is said ")
    about = add("mine", clips)
    assert [(r["id"], r["text"]) for r in rows()] == [("a", None), ("b", "what is said"), ("c", None), ("deep/d", None)]
    assert about["layout"] == "folder of recordings"


def test_a_table_in_the_folder_is_found_and_may_be_named_itself(clips: Path) -> None:
    (clips / "metadata.csv").write_text("file_name,transcription\na.wav,x\n")
    assert add("mine", clips)["manifest"] == "metadata.csv"
    (clips / "list.tsv").write_text("path\ttext\nb.wav\ty\n")
    add("named", clips / "list.tsv")
    assert rows("named")[0]["text"] == "y"


def test_librispeech(put: Put, tmp_path: Path) -> None:
    for i, key in enumerate(("19-198-0000", "19-198-0001", "27-5-0000")):
        speaker, chapter, _ = key.split("-")
        put(f"L/dev-clean/{speaker}/{chapter}/{key}.flac", i)
    (tmp_path / "L/dev-clean/19/198/19-198.trans.txt").write_text("19-198-0000 ONE TWO\n19-198-0001 THREE\n")
    (tmp_path / "L/dev-clean/27/5/27-5.trans.txt").write_text("27-5-0000 FOUR\n27-5-0001 LOST\n")
    (tmp_path / "L/SPEAKERS.TXT").write_text(
        "; comment\n19  | F | dev-clean | 8.1 | A Name\n27 | M | dev-clean | 8 | B\n"
    )
    with pytest.raises(OvertureError, match=r"row 2, dev-clean/27/5/27-5-0001\.flac, audio: does not exist"):
        add("mine", tmp_path / "L")
    add("mine", tmp_path / "L", on_problem="skip")
    assert [(r["text"], r["speaker"], r["gender"], r["split"]) for r in rows()] == [
        ("ONE TWO", "19", "f", "dev-clean"), ("THREE", "19", "f", "dev-clean"), ("FOUR", "27", "m", "dev-clean"),
    ]  # fmt: skip
    add("inner", tmp_path / "L/dev-clean", on_problem="skip")
    assert {r["split"] for r in rows("inner")} == {"dev-clean"}


def test_common_voice(put: Put, tmp_path: Path) -> None:
    for i in range(4):
        put(f"cv/clips/c{i}.mp3", i)
    header = "client_id\tpath\tsentence\tup_votes\tage\tgender\tlocale\n"
    line = "{0}\tc{1}.mp3\tText {1}\t2\ttwenties\tfemale_feminine\teu\n"
    (tmp_path / "cv/validated.tsv").write_text(header + "".join(line.format("x" * 8, i) for i in range(3)))
    (tmp_path / "cv/train.tsv").write_text(header + line.format("x" * 8, 0))
    (tmp_path / "cv/test.tsv").write_text(header + line.format("x" * 8, 1))
    (tmp_path / "cv/invalidated.tsv").write_text(header + line.format("x" * 8, 3))
    add("mine", tmp_path / "cv")
    assert [(r["id"], r["split"], r["gender"], r["language"], r["up_votes"]) for r in rows()] == [
        ("c0", "train", "f", "eu", 2), ("c1", "test", "f", "eu", 2), ("c2", "validated", "f", "eu", 2),
    ]  # fmt: skip
    (tmp_path / "cv/train.tsv").write_text("client_id\tpath\tsaid\nx\tc0.mp3\ty\n")
    with pytest.raises(OvertureError, match=r"train\.tsv: no column for text. Its columns: client_id, path, said"):
        add("bad", tmp_path / "cv")


def kaldi(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text(text)
    return folder


def test_kaldi(clips: Path, tmp_path: Path) -> None:
    data = kaldi(
        tmp_path / "data", wav_scp=f"r1 {clips}/a.wav\nr2 {clips}/b.wav\n", text="u1 hello there\nu2 yes\nu9 nobody\n",
        segments="u1 r1 0.1 0.3\nu2 r2 0 -1\n", utt2spk="u1 s1\nu2 s2\n", spk2gender="s1 f\ns2 m\n", utt2lang="u1 en\n",
    )  # fmt: skip
    about = add("mine", data)
    first, second = rows()
    assert (first["id"], first["text"], first["speaker"], first["gender"], first["language"]) == (
        "u1",
        "hello there",
        "s1",
        "f",
        "en",
    )
    assert (first["start"], first["duration"]) == (0.1, pytest.approx(0.2)) and about["texts_without_audio"] == 1
    assert second["duration"] == sf.info(clips / "b.wav").duration


def test_kaldi_commands_are_never_run(clips: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    scp = f"u1 a.wav\nu2 touch {trap}; cat a.wav |\nu3 raw.ark:17\n"
    data = kaldi(tmp_path / "data", wav_scp=scp)
    with pytest.raises(
        OvertureError,
        match=r"(?s)row 2, wav\.scp, u2: is a command.*row 3, wav\.scp, u3: 'raw\.ark:17' points into an archive",
    ):
        add("mine", data, audio=clips)
    add("mine", data, audio=clips, on_problem="skip")
    assert [r["id"] for r in rows()] == ["u1"] and not trap.exists()
    bad = kaldi(tmp_path / "bad", wav_scp="u1 a.wav\n", segments="u1 u1 0 x\nu2 r7 0 1\nu3 u1 0 0.2\n")
    with pytest.raises(
        OvertureError, match=r"(?s)row 1, segments, u1: is not.*row 2, segments, u2: names the recording 'r7'"
    ):
        add("worse", bad, audio=clips)


def test_lhotse_cuts(clips: Path, tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    recordings = [lhotse.Recording.from_file(clips / f"{n}.wav") for n in "ab"]
    cuts = [r.to_cut() for r in recordings]
    part = lhotse.SupervisionSegment
    cuts[0].supervisions = [
        part(
            id="s1",
            recording_id="a",
            start=0.0,
            duration=0.2,
            text="x",
            speaker="p",
            language="en",
            custom={"snr": 3.0},
        ),
        part(id="s2", recording_id="a", start=0.2, duration=0.1, text="y", speaker="q", gender="M"),
    ]
    cuts[1] = cuts[1].truncate(offset=0.1, duration=0.2)
    for ending in ("jsonl", "jsonl.gz"):
        file = tmp_path / f"train_cuts.{ending}"
        lhotse.CutSet.from_cuts(cuts).to_file(file)
        add("mine", file, replace=True)
        one, two, three = rows()
        assert (one["id"], one["text"], one["speaker"], one["snr"], one["duration"]) == ("s1", "x", "p", 3.0, 0.2)
        assert (two["start"], two["gender"]) == (0.2, "m") and (three["start"], three["text"]) == (0.1, None)
    folder = tmp_path / "cuts"
    folder.mkdir()
    lhotse.CutSet.from_cuts([cuts[0], cuts[1].mix(cuts[0]), cuts[1].perturb_speed(1.1)]).to_file(
        folder / "c_cuts.jsonl.gz"
    )
    with pytest.raises(
        OvertureError, match=r"(?s)row 2, .*: is a MixedCut.*row 3, .*changed while reading.*save_audios"
    ):
        add("mixed", folder)
    with gzip.open(tmp_path / "bad_cuts.jsonl.gz", "wt") as file:
        file.write('{"id": "x", "start": 0, "type": "MonoCut"}\n')
    with pytest.raises(OvertureError, match=r"not a manifest of lhotse cuts"):
        add("bad", tmp_path / "bad_cuts.jsonl.gz")


@pytest.fixture
def stored(speech: list[np.ndarray]) -> Callable[[list[int]], pa.Table]:
    """A table of recordings as Hugging Face stores them, with its description of the columns."""

    def make(which: list[int]) -> pa.Table:
        cells = []
        for i in which:
            buffer = io.BytesIO()
            sf.write(buffer, speech[i], 16_000, format="FLAC" if i % 2 else "WAV")
            cells.append({"bytes": buffer.getvalue(), "path": f"{i}.{'flac' if i % 2 else 'wav'}"})
        features = {
            "audio": {"_type": "Audio", "sampling_rate": 16_000}, "sentence": {"dtype": "string", "_type": "Value"},
            "label": {"names": ["no", "yes"], "_type": "ClassLabel"},
        }  # fmt: skip
        columns = {
            "audio": pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "sentence": [f"said {i}" for i in which], "label": pa.array([i % 2 for i in which], pa.int64()),
        }  # fmt: skip
        return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})

    return make


def test_hugging_face_parquet(stored: Callable[[list[int]], pa.Table], tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "hf/data").mkdir(parents=True)
    pq.write_table(stored([0, 1]), tmp_path / "hf/data/train-00000-of-00002.parquet")
    pq.write_table(stored([2]), tmp_path / "hf/data/train-00001-of-00002.parquet")
    pq.write_table(stored([3]), tmp_path / "hf/data/test-00000-of-00001.parquet")
    about = add("mine", tmp_path / "hf")
    assert sorted((r["text"], r["label"], r["split"]) for r in rows()) == [
        ("said 0", "no", "train"), ("said 1", "yes", "train"), ("said 2", "no", "train"), ("said 3", "yes", "test"),
    ]  # fmt: skip
    assert about["root"] == "." and {Path(r["audio"]).suffix for r in rows()} == {".wav", ".flac"}
    pq.write_table(stored([4]).replace_schema_metadata(None), tmp_path / "plain.parquet")
    add("plain", tmp_path / "plain.parquet")
    assert rows("plain")[0]["text"] == "said 4"
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "mute.parquet")
    with pytest.raises(OvertureError, match=r"no column holds recordings. Columns: text"):
        add("mute", tmp_path / "mute.parquet")
    (tmp_path / "bad.parquet").write_text("not Parquet")
    with pytest.raises(OvertureError, match=r"bad\.parquet cannot be read as a Hugging Face dataset"):
        add("bad", tmp_path / "bad.parquet")


def test_hugging_face_saved_to_disk(stored: Callable[[list[int]], pa.Table], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    pq.write_table(stored([0, 1, 2]), tmp_path / "x.parquet")
    data = datasets.Dataset.from_parquet(str(tmp_path / "x.parquet"), cache_dir=str(tmp_path / "cache"))
    data = data.cast_column("audio", datasets.Audio(decode=False))
    data.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"a": data.select([0, 1]), "b": data.select([2])}).save_to_disk(str(tmp_path / "two"))
    add("one", tmp_path / "one")
    add("two", tmp_path / "two")
    assert [r["text"] for r in rows("one")] == ["said 0", "said 1", "said 2"]
    assert [(r["text"], r["split"]) for r in rows("two")] == [("said 0", "a"), ("said 1", "a"), ("said 2", "b")]


def test_missing_extras_are_named(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    monkeypatch.setitem(__import__("sys").modules, "lhotse", None)
    (tmp_path / "x.parquet").write_bytes(b"")
    with pytest.raises(MissingExtra, match=r"overture\[huggingface\]"):
        add("mine", tmp_path / "x.parquet")
    (tmp_path / "cuts.jsonl").write_text('{"id": "x", "type": "MonoCut"}\n')
    with pytest.raises(MissingExtra, match=r"overture\[lhotse\]"):
        add("mine", tmp_path / "cuts.jsonl")


def test_what_is_not_there_or_no_table(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match=r"does not exist"):
        add("mine", tmp_path / "absent")
    with pytest.raises(OvertureError, match=r"no transcripts at"):
        add("mine", clips, transcripts=tmp_path / "absent.tsv")
    with pytest.raises(OvertureError, match=r"is one file; give the folder"):
        add("mine", clips / "a.wav")
    with pytest.raises(OvertureError, match=r"name it with --transcripts"):
        add("mine", clips, columns={"text": "x"})
    with pytest.raises(OvertureError, match=r"is not a folder"):
        add("mine", clips, audio=tmp_path / "absent")
    with pytest.raises(OvertureError, match=r"--audio is for tables"):
        add("mine", clips, audio=tmp_path)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(OvertureError, match=r"no recordings found"):
        add("mine", tmp_path / "nothing")


def test_columns_from_the_names_of_files(put: Put, tmp_path: Path) -> None:
    """As the Free Spoken Digit Dataset names its recordings."""
    for i, name in enumerate(("7_george_0", "7_jackson_12", "0_george_1")):
        put(f"digits/recordings/{name}.wav", i)
    add("digits", tmp_path / "digits", named="{text}_{speaker}_{take}", fill={"language": "en"})
    found = {(r["text"], r["speaker"], r["take"], r["language"]) for r in rows("digits")}
    assert found == {("7", "george", 0, "en"), ("7", "jackson", 12, "en"), ("0", "george", 1, "en")}
    add("folders", tmp_path / "digits", named="{kind}/{text}_{speaker}_{take}")
    assert {r["kind"] for r in rows("folders")} == {"recordings"}
    put("digits/odd.wav", 4)
    with pytest.raises(
        OvertureError, match=r"odd\.wav, audio: is not named as '\{text\}_\{speaker\}_\{take\}' says. Rename it"
    ):
        add("odd", tmp_path / "digits", named="{text}_{speaker}_{take}")
    add("odd", tmp_path / "digits", named="{text}_{speaker}_{take}", on_problem="skip")
    assert len(rows("odd")) == 3
    for wrong in ("{text}{speaker}", "{text}_{text}", "name", "{duration}_{text}", "{text_{speaker}"):
        with pytest.raises(OvertureError, match=r"--named "):
            add("wrong", tmp_path / "digits", named=wrong)
