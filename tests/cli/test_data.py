"""`overture data` as a person types it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile as sf
from typer.testing import CliRunner

from overture.cli.data import app
from overture.data.audio import read
from overture.data.table import Table
from overture.errors import OvertureError

run = CliRunner()


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "110")
    folder = tmp_path / "in"
    folder.mkdir()
    table = Table.open("embedded", "duration < 1")
    for i in range(6):
        row = table.row(i)
        sf.write(
            folder / f"{i}.wav", read(row["audio"], rate=16_000, start=row["start"], duration=row["duration"]), 16_000
        )
    sf.write(folder / "again.flac", sf.read(folder / "0.wav")[0], 16_000)
    lines = [f"{i}.wav\ttext {i}\ts{i % 2}\t{'fr' if i < 2 else 'en'}" for i in range(6)] + [
        "again.flac\ttext 0\ts0\tfr"
    ]
    (folder / "list.tsv").write_text("path\tsaid\tspeaker\tlanguage\n" + "\n".join(lines) + "\n")
    return folder


def said(*words: object) -> str:
    result = run.invoke(app, [str(w) for w in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_add_and_show(clips: Path, tmp_path: Path) -> None:
    out = said("add", "mine", clips, "-t", clips / "list.tsv", "-c", "text=said", "--fill", "licence=CC0-1.0")
    assert "mine: 6 utterances" in out and "1 x the same recording again" in out and "data show mine" in out
    out = said("show", "mine", "--by", "language,speaker", "--plot", tmp_path / "plot.png")
    assert "en 67 %, fr 33 %" in out and "CC0-1.0 100 %" in out and "1 exact duplicates" in out and "█" in out
    groups = [line.split()[:3] for line in out.splitlines() if line.strip().startswith(("en ", "fr "))]
    assert sorted(groups) == [["en", "s0", "2"], ["en", "s1", "2"], ["fr", "s0", "1"], ["fr", "s1", "1"]]
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    assert "2 of 6" in said("show", "mine", "--where", "language = 'fr'")
    with pytest.raises(OvertureError, match=r"no row of 'mine' is left"):
        said("show", "mine", "--where", "language = 'xx'")
    with pytest.raises(OvertureError, match=r"--by speeker: .*Did you mean 'speaker'"):
        said("show", "mine", "--by", "speeker")
    with pytest.raises(OvertureError, match=r"--plot .*does not exist"):
        said("show", "mine", "--plot", tmp_path / "absent" / "p.png")


def test_problems_and_hints(clips: Path) -> None:
    (clips / "bad.wav").write_text("no sound")
    bare = clips.parent / "bare"
    shutil.copytree(clips, bare, ignore=shutil.ignore_patterns("*.tsv"))
    with pytest.raises(OvertureError, match=r"bad\.wav, audio: cannot be decoded"):
        said("add", "mine", bare)
    out = said("add", "mine", bare, "--on-problem", "skip")
    assert "left out (dropped.tsv names them): 1 x cannot be decoded; 1 x the same recording again" in out
    assert "6 x no transcript" in out
    assert "1 x unreadable (dropped.tsv)" in said("show", "mine")
    with pytest.raises(OvertureError, match=r"--column 'text': write NAME=VALUE"):
        said("add", "other", clips, "-c", "text")
    out = said("add", "other", clips, "-t", clips / "list.tsv")
    assert "no column of transcripts" in out and "1 recordings in the folder are not in list.tsv" in out


def test_the_one_table_of_a_folder_is_taken_and_of_several_one_must_be_named(clips: Path) -> None:
    said("add", "found", clips)
    assert Table.open("found").numpy("speaker").tolist() == [f"s{i % 2}" for i in range(6)]
    (clips / "other.csv").write_text("path,text\n0.wav,x\n")
    with pytest.raises(OvertureError, match=r"several tables \(list\.tsv, other\.csv\)"):
        said("add", "several", clips)


def test_list_shows_what_is_here_and_what_can_be_got(clips: Path) -> None:
    said("add", "mine", clips, "-t", clips / "list.tsv")
    out = said("list")
    assert "embedded" in out and "mine" in out and "amazon-queen" in out and "35 MB" in out and "overture[g722]" in out


def test_show_the_embedded_corpus_and_any_table(clips: Path, tmp_path: Path) -> None:
    out = said("show", "embedded", "--by", "speaker", "--most", "3")
    assert "without text" in out and "more groups" in out and "fingerprint" in out
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "bare").mkdir()
    columns = {"id": ["a", "b"], "audio": ["a.wav", "b.wav"], "duration": [1.0, 4.0], "kind": ["x", None]}
    pq.write_table(pa.table(columns), tmp_path / "bare/table.parquet")
    out = said("show", tmp_path / "bare", "--by", "kind", "--plot", tmp_path / "p.png")
    assert "(none)" in out and "2" in out


def test_get_refuses_what_is_no_source_or_folder(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match=r"Did you mean 'klettres'"):
        said("get", "kletres")
    with pytest.raises(OvertureError, match=r"is not a folder"):
        said("get", "klettres", "--debs", tmp_path / "absent")


def test_the_verbs_are_cheap_to_import() -> None:
    heavy = "torch pyarrow duckdb soundfile matplotlib av lhotse datasets"
    code = f"import sys, overture.cli.data, overture.corpora; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- text


@pytest.fixture
def letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of five texts, of which one is another again and one nearly another."""
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "110")
    long = " ".join(f"word{i}" for i in range(40))
    rows = [
        ("Hola a todos.", "es", "greeting", "2001-05-01"), ("Hello to all.", "en", "greeting", "2024-01-31"), (long, "en", "list", ""),
        (long + " more", "en", "list", ""), ("Hello to all.", "en", "list", ""),
    ]  # fmt: skip
    path = tmp_path / "letters.tsv"
    path.write_text("said\tlang\tlabel\ttime\n" + "".join("\t".join(row) + "\n" for row in rows))
    return path


def test_add_show_and_thin_out_text(letters: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasketch")
    out = said("add", "mine", letters, "--text", "-c", "text=said", "--fill", "licence=CC0-1.0")
    assert (
        "mine: 4 documents, 569 characters" in out and "1 x the same text again (1 of them with another label)" in out
    )
    out = said("show", "mine", "--by", "language,label", "--plot", tmp_path / "plot.png")
    assert "13 shortest, 141 median, 274 longest, characters" in out
    assert "2: en 75 %, es 25 %" in out and "2: greeting 50 %, list 50 %" in out and "2001-05-01 to 2024-01-31" in out
    assert "hours" not in out and "speakers" not in out and "1 exact duplicates" in out and "█" in out
    groups = [line.split()[:4] for line in out.splitlines() if line.strip().startswith(("en  ", "es  "))]
    assert groups == [["en", "list", "2", "543"], ["en", "greeting", "1", "13"], ["es", "greeting", "1", "13"]]
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    assert "3 of 4" in said("show", "mine", "--where", "language = 'en'")
    out = said("dedup", "less", "--from", "mine", "--near", "0.9")
    assert "less: 3 documents" in out and "1 x nearly the same text as another" in out
    assert "0 exact duplicates, 1 near ones left out" in said("show", "less")
    out = said("list")
    assert "569 chars" in out and "2.8 M chars" in out and "mine without near duplicates" in out and "go-terms" in out
    assert "5.9 M chars" in out and "4.50 h" in out and "overture[bible]" in out


def test_show_a_bare_table_of_text(letters: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "bare").mkdir()
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["x", None]}), tmp_path / "bare/table.parquet")
    out = said("show", tmp_path / "bare", "--by", "id", "--plot", tmp_path / "p.png")
    facts = [line.split() for line in out.splitlines()]
    assert ["characters", "1"] in facts and ["without", "text", "1", "(50", "%)"] in facts


def test_options_that_do_not_go_together_are_said(letters: Path) -> None:
    with pytest.raises(OvertureError, match=r"--audio, --copy: of recordings, and --text says that"):
        said("add", "mine", letters, "--text", "--copy", "--audio", letters.parent)
    with pytest.raises(OvertureError, match=r"--limit: of recordings"):
        said("add", "mine", letters, "--text", "--limit", "5")
    with pytest.raises(OvertureError, match=r"--document line: needs --text"):
        said("add", "mine", letters, "--document", "line")
    with pytest.raises(OvertureError, match=r"no column holds text.*--column text=NAME"):
        said("add", "mine", letters, "--text")
    bare = letters.parent / "docs"
    bare.mkdir()
    (bare / "a.txt").write_text("x")
    with pytest.raises(OvertureError, match=r"For documents pass --text"):
        said("add", "mine", bare)
