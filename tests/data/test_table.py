"""Opening, asking and refusing tables."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from overture.data.audio import read
from overture.data.table import COLUMNS, Table, find_corpus
from overture.errors import OvertureError


def corpus(folder: Path, **columns: list[object]) -> Path:
    folder.mkdir()
    pq.write_table(pa.table(columns), folder / "table.parquet")
    return folder


def test_the_embedded_corpus_is_what_it_promises() -> None:
    table = Table.open("embedded")
    assert set(COLUMNS) <= set(table.columns.column_names)
    assert table.columns.column("text").null_count == table.columns.column("speaker").null_count == 0
    assert len(set(table.numpy("id"))) == len(table) == len(set(table.numpy("sha1")))
    many = table.sql("SELECT speaker FROM rows GROUP BY 1 HAVING count(*) >= 40")
    assert many.num_rows >= 8
    assert table.where("language LIKE 'en%'").hours > 0.75
    words = table.sql("SELECT keyword, count(*) n FROM rows WHERE keyword IS NOT NULL GROUP BY 1").to_pydict()
    assert len(words["keyword"]) >= 20 and min(words["n"]) >= 5
    folder = find_corpus("embedded")
    assert sum(p.stat().st_size for p in folder.rglob("*")) < 8e6
    assert "modified version" in (folder / "LICENCES" / "README.md").read_text()


def test_utterances_of_a_packed_file_are_cut_exactly() -> None:
    """What is read by seeking is what lies there when the file is decoded from its beginning, to the sample."""
    table = Table.open("embedded", "speaker = 'carlo-flora'")
    row = table.row(0)
    whole = read(row["audio"], rate=16_000)
    for i in (1, 40, 133, len(table) - 1):
        row = table.row(i)
        cut = read(row["audio"], rate=16_000, start=row["start"], duration=row["duration"])
        at = round(row["start"] * 16_000)
        assert len(cut) == round(row["duration"] * 16_000)
        lag = np.correlate(whole[at - 50 : at + len(cut) + 50], cut, "valid")
        assert np.argmax(lag) == 50
        # Opus is predictive: decoding from elsewhere differs a little where a seek begins (30 dB below the signal), and not in time
        assert np.sqrt(np.mean((cut - whole[at : at + len(cut)]) ** 2)) < 0.03 * np.sqrt(np.mean(cut**2))


def test_selections_keep_their_row_numbers() -> None:
    table = Table.open("embedded")
    some = table.where("language = 'it-IT' AND duration < 1")
    assert 0 < len(some) < len(table)
    assert (some.numpy("id") == table.numpy("id")[some.rows]).all()
    again = some.where("duration < 0.5")
    assert (again.numpy("id") == table.numpy("id")[again.rows]).all()
    assert some.fingerprint != table.fingerprint == Table.open("embedded").fingerprint
    assert some.hours == pytest.approx(some.numpy("duration").sum() / 3600)


def test_a_wrong_expression_names_the_columns() -> None:
    with pytest.raises(OvertureError, match=r"--where .spekaer = 'x'(.|\n)*Columns of 'embedded': id,.* speaker,"):
        Table.open("embedded", "spekaer = 'x'")
    for wrong, said in (
        ("spekaer = 'x'", "there is no column 'spekaer'. Did you mean 'speaker'"),
        ('language = "es"', "there is no column 'es'. Text stands in single quotes: 'es'. Columns of"),
        ("duration >", "Parser Error: syntax error at or near"),
        ("lenght(text) > 3", "Scalar Function with name lenght does not exist. Columns of"),
        ("zzzzzzzz = 1", "there is no column 'zzzzzzzz'. Columns of"),
    ):
        with pytest.raises(OvertureError) as caught:
            Table.open("embedded", wrong)
        assert said in str(caught.value) and "\n" not in str(caught.value) and "LINE" not in str(caught.value)
    with pytest.raises(OvertureError, match="Did you mean 'speaker'"):
        Table.open("embedded").numpy("speeker")


def test_an_expression_reads_nothing_but_the_table(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    secret = pa.table({"a": [1]})  # duckdb would find a variable of this name
    table = Table.open("embedded")
    for source in (f"read_csv('{tmp_path}/secret.csv')", f"'{tmp_path}/secret.csv'", "secret"):
        with pytest.raises(OvertureError):
            table.where(f"duration > (SELECT max(a) FROM {source})")
    assert secret.num_rows == 1
    with pytest.raises(OvertureError):
        table.sql(f"COPY rows TO '{tmp_path}/out.csv'")
    assert not (tmp_path / "out.csv").exists()


def test_no_such_corpus_says_what_there_is() -> None:
    with pytest.raises(OvertureError, match=r"no corpus 'embeded'. Did you mean 'embedded'"):
        Table.open("embeded")


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "table.parquet").write_text("not Parquet")
    with pytest.raises(OvertureError, match=r"table\.parquet is not a readable Parquet file"):
        Table.open(str(tmp_path / "a"))
    with pytest.raises(
        OvertureError, match=r"lacks the column\(s\) audio, duration \(for recordings; .*it has id, said"
    ):
        Table.open(str(corpus(tmp_path / "b", id=["1"], said=["x"])))
    with pytest.raises(OvertureError, match=r"lacks the column\(s\) id; it has text"):
        Table.open(str(corpus(tmp_path / "d", text=["x"])))
    folder = corpus(tmp_path / "c", id=["1"], audio=["a.wav"], duration=[1.0])
    (folder / "corpus.json").write_text("{")
    with pytest.raises(OvertureError, match=r"corpus\.json is not valid JSON"):
        Table.open(str(folder))
    (folder / "corpus.json").write_text("[]")
    with pytest.raises(OvertureError, match="does not describe a corpus"):
        Table.open(str(folder))


@pytest.mark.parametrize("audio", ["../secret.wav", "/etc/passwd", "a/../../x.wav"])
def test_a_row_cannot_point_out_of_its_corpus(tmp_path: Path, audio: str) -> None:
    table = Table.open(str(corpus(tmp_path / "a", id=["u1"], audio=[audio], duration=[1.0])))
    with pytest.raises(OvertureError, match=r"row 0 \(u1\).*leaves the folder"):
        table.row(0)


def test_recordings_may_lie_elsewhere(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "a", id=["1"], audio=["x/a.wav"], duration=[1.0])
    (folder / "corpus.json").write_text(json.dumps({"name": "n", "root": str(tmp_path / "elsewhere")}))
    table = Table.open(str(folder))
    assert table.row(0)["audio"] == str(tmp_path / "elsewhere" / "x" / "a.wav") and table.name == "n"
