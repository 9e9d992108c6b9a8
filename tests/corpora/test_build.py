"""From rows to a corpus folder: whole, or not at all."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from overture.corpora.build import Listing, build
from overture.data.check import Problem
from overture.data.table import Table
from overture.errors import OvertureError

Put = Callable[..., Path]


def importer(rows: list[dict[str, object]], root: Path, **more: object) -> Callable[[Path], Listing]:
    return lambda folder: Listing(rows=[dict(r) for r in rows], root=root, **more)  # type: ignore[arg-type]


def leftovers(home: Path) -> list[str]:
    return sorted(p.name for p in (home / "corpora").glob("*")) if (home / "corpora").exists() else []


def test_a_corpus_is_measured_and_recorded(home: Path, put: Put, tmp_path: Path) -> None:
    put("in/a.wav", 0)
    put("in/b.flac", 1, stereo=True)
    rows = [
        {"audio": "a.wav", "text": "one", "language": "en", "speaker": 7, "gender": "Female", "snr": 3.5, "tags": ["x"], "n": 2, "seen": True},
        {"audio": "b.flac", "text": "", "language": None, "n": None, "snr": 4, "id": "second"},
    ]  # fmt: skip
    about = build("mine", importer(rows, tmp_path / "in", notes={"layout": "test"}))
    table = Table.open("mine")
    first, second = table.row(0), table.row(1)
    assert first["audio"] == str(tmp_path / "in" / "a.wav") and first["id"] == "a" and second["id"] == "second"
    assert (first["speaker"], first["gender"], first["snr"], first["n"], first["seen"]) == ("7", "f", 3.5, 2, True)
    assert json.loads(first["tags"]) == ["x"] and second["tags"] is None and second["text"] is None
    assert first["rate"] == 16_000 and second["channels"] == 2
    assert first["duration"] == sf.info(tmp_path / "in" / "a.wav").duration
    assert about["warnings"] == {"no text": 1, "stereo": 1} and about["layout"] == "test"
    assert about["rows"] == 2 and about["hours"] == pytest.approx(table.hours, abs=1e-4)
    assert about == json.loads((home / "corpora" / "mine" / "corpus.json").read_text())
    assert leftovers(home) == ["mine"]


def test_exact_duplicates_are_left_out_and_named(home: Path, put: Put, tmp_path: Path) -> None:
    put("a.wav", 0)
    put("b.flac", 0)
    put("c.wav", 1)
    put("d.wav", 0)
    texts = {"a.wav": "x", "b.flac": "x", "c.wav": "y", "d.wav": "z"}
    about = build("mine", importer([{"audio": f, "text": t} for f, t in texts.items()], tmp_path))
    assert (
        about["duplicates_dropped"] == 2
        and about["duplicates_with_another_text"] == 1
        and Table.open("mine").numpy("id").tolist() == ["a", "c"]
    )
    assert "b\tb.flac\tduplicate\tthe same samples as a" in (home / "corpora/mine/dropped.tsv").read_text()


def test_every_kind_of_bad_row_is_reported_together_and_nothing_is_written(
    home: Path, put: Put, tmp_path: Path, speech: list[np.ndarray]
) -> None:
    for i, name in enumerate(("good", "again")):
        put(f"in/{name}.wav", i)
    put("outside.wav", 2)
    put("in/odd.wav", 3, rate=2_000)
    (tmp_path / "in/text.wav").write_text("no sound")
    sf.write(tmp_path / "in/empty.wav", np.zeros(0, dtype=np.float32), 16_000)
    sf.write(tmp_path / "in/long.wav", np.tile(speech[0], 60), 16_000)
    bad = speech[4].copy()
    bad[5] = np.nan
    sf.write(tmp_path / "in/nan.wav", bad, 16_000, subtype="FLOAT")
    names = ["good", "again", "odd", "text", "empty", "long", "nan", "absent", "../outside"]
    rows: list[dict[str, object]] = [{"audio": f"{n}.wav", "id": n, "text": "x"} for n in names]
    rows += [{"audio": "again.wav", "id": "good"}, {"audio": ""}, {"audio": "again.wav", "start": "soon"}]
    expected = {
        "odd": "odd rate", "text": "unreadable", "empty": "empty", "long": "too long", "nan": "bad samples", "absent": "missing file",
        "../outside": "outside",
    }  # fmt: skip
    extra = Problem(kind="bad row", what="has 2 fields", file="list.tsv", row=2, field="")
    with pytest.raises(OvertureError) as caught:
        build("mine", importer(rows, tmp_path / "in", problems=[extra]), limit=12.0)
    said = str(caught.value)
    assert "11 problems (nothing was written)" in said and leftovers(home) == []
    assert "row 2, list.tsv: has 2 fields" in said
    assert "row 10, again.wav, id: 'good' is also the id of row 1. Give each its own id." in said
    for kind in [*expected.values(), "duplicate id", "bad field", "bad row"]:
        assert f" x {kind} (" in said, kind

    about = build("mine", importer(rows, tmp_path / "in", problems=[extra]), limit=12.0, on_problem="skip")
    assert Table.open("mine").numpy("id").tolist() == ["good", "again"]
    assert about["problems"] == dict.fromkeys(expected.values(), 1) | {"duplicate id": 1, "bad row": 1, "bad field": 2}
    dropped = [line.split("\t") for line in (home / "corpora/mine/dropped.tsv").read_text().splitlines()[1:]]
    assert {d[1]: d[3] for d in dropped if d[1] in expected} == expected and len(dropped) == 11


def test_a_corpus_is_not_overwritten_unless_asked_and_kept_when_its_successor_fails(
    home: Path, put: Put, tmp_path: Path
) -> None:
    put("a.wav", 0)
    good = importer([{"audio": "a.wav", "text": "x"}], tmp_path)
    build("mine", good)
    with pytest.raises(OvertureError, match="--replace"):
        build("mine", good)
    with pytest.raises(OvertureError):
        build("mine", importer([{"audio": "absent.wav"}], tmp_path), replace=True)
    assert len(Table.open("mine")) == 1 and leftovers(home) == ["mine"]
    build("mine", importer([{"audio": "a.wav", "text": "new"}], tmp_path), replace=True)
    assert Table.open("mine").row(0)["text"] == "new" and leftovers(home) == ["mine"]


def test_an_importer_that_breaks_leaves_nothing(home: Path) -> None:
    def broken(folder: Path) -> Listing:
        (folder / "half").write_text("written")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build("mine", broken)
    assert leftovers(home) == []


def test_a_full_disk_is_said_and_leaves_nothing(
    home: Path, put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a.wav", 0)

    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with pytest.raises(OvertureError, match=r"No space left on device.*OVERTURE_HOME"):
        build("mine", importer([{"audio": "a.wav"}], tmp_path))
    assert leftovers(home) == []


def test_copied_recordings_make_a_corpus_that_can_move(home: Path, put: Put, tmp_path: Path) -> None:
    put("in/x/a.wav", 0)
    put("in/b.wav", 1)
    build("mine", importer([{"audio": "x/a.wav"}, {"audio": "b.wav"}], tmp_path / "in"), copy=True)
    moved = (home / "corpora" / "mine").rename(tmp_path / "moved")
    (tmp_path / "in").rename(tmp_path / "gone")
    table = Table.open(str(moved))
    assert table.row(0)["audio"] == str(moved / "audio/x/a.wav") and Path(table.row(1)["audio"]).is_file()


def test_several_utterances_of_one_file(home: Path, put: Put, tmp_path: Path, speech: list[np.ndarray]) -> None:
    sf.write(tmp_path / "long.wav", np.concatenate(speech[:4]), 16_000)
    cuts = [{"audio": "long.wav", "start": s, "duration": 0.25} for s in (0.0, 0.5, 1.0)]
    build("mine", importer([*cuts, {"audio": "long.wav", "start": 1.25}], tmp_path))
    table = Table.open("mine")
    assert table.numpy("id").tolist() == ["long", "long@0.500", "long@1.000", "long@1.250"]
    assert table.numpy("duration")[:3].tolist() == [0.25] * 3
    assert table.numpy("duration")[3] == pytest.approx(sum(map(len, speech[:4])) / 16_000 - 1.25)


def test_names_and_nothing_to_import(home: Path, tmp_path: Path) -> None:
    for name in ("", "../x", "a b", ".hidden"):
        with pytest.raises(OvertureError, match="cannot name a corpus"):
            build(name, importer([], tmp_path))
    with pytest.raises(OvertureError, match="no recordings found"):
        build("mine", importer([], tmp_path))
    with pytest.raises(OvertureError, match="no row is left"):
        build("mine", importer([{"audio": "absent.wav"}], tmp_path), on_problem="skip")


def test_columns_that_differ_only_in_case(home: Path, put: Put, tmp_path: Path) -> None:
    put("a.wav", 0)
    with pytest.raises(OvertureError, match="upper and lower case: text"):
        build("mine", importer([{"audio": "a.wav", "Text": "x"}], tmp_path))
