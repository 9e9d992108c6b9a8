"""overture.corpora.join: rows of several corpora under one name, each still saying what it said."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

from overture.cli.data import app
from overture.corpora.add import add
from overture.corpora.build import Listing
from overture.corpora.derive import derive
from overture.corpora.join import join
from overture.corpora.text import build_text
from overture.data import audio
from overture.data.augment import WaveAugment
from overture.data.table import Table, about_corpus, corpora_home
from overture.errors import OvertureError


@pytest.fixture(autouse=True)
def corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`north` (three recordings, a column `dialect`) and `south` (three, one of them also in `north`)."""
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path / "home"))
    rng = np.random.default_rng(0)
    for name, language in (("north", "fi"), ("south", "it")):
        (tmp_path / name).mkdir()
        lines = ["path\ttext\tlicence" + ("\tdialect" if name == "north" else "")]
        for i in range(3):
            sf.write(tmp_path / name / f"{i}.wav", 0.1 * rng.standard_normal(8_000), 16_000)
            lines.append(f"{i}.wav\t{name} {i}\tCC0-1.0" + ("\tsavo" if name == "north" else ""))
        if name == "south":
            shutil.copy(tmp_path / "north" / "0.wav", tmp_path / "south" / "0.wav")
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n")
        add(
            name,
            tmp_path / name,
            transcripts=tmp_path / f"{name}.tsv",
            fill={"language": language},
            audio=tmp_path / name,
        )


def test_rows_keep_what_they_say_and_a_recording_in_both_is_taken_once() -> None:
    result = CliRunner().invoke(app, ["join", "both", "north", "south"])
    assert result.exit_code == 0, result.output
    both, north = Table.open("both"), Table.open("north")
    assert both.numpy("id").tolist() == ["north/0", "north/1", "north/2", "south/1", "south/2"]
    assert both.numpy("corpus").tolist() == ["north"] * 3 + ["south"] * 2
    assert both.numpy("dialect").tolist() == ["savo"] * 3 + [None] * 2
    assert both.numpy("language").tolist() == ["fi"] * 3 + ["it"] * 2 and set(both.numpy("licence")) == {"CC0-1.0"}
    waves = [audio.read(t.row(1)["audio"], rate=16_000) for t in (both, north)]
    np.testing.assert_array_equal(*waves)
    about = about_corpus(corpora_home() / "both")
    assert about["joined"] == {n: Table.open(n).fingerprint for n in ("north", "south")}
    assert about["duplicates_dropped"] == 1


def test_a_selection_is_joined_and_bad_input_leaves_nothing() -> None:
    join("some", ["north", "south"], where="text LIKE '%1'")
    assert Table.open("some").numpy("text").tolist() == ["north 1", "south 1"]
    join("part", ["north"], where="text LIKE '%1'")
    assert Table.open("part").numpy("text").tolist() == ["north 1"]
    for parts, where, words in (
        (["north"], None, "two or more"),
        (["north", "north"], None, "two or more"),
        (["north", "soth"], None, "Did you mean 'south'"),
        (["north", "south"], "language = 'fi'", "no row of south"),
        (["north", "south"], "dialect = 'savo'", "no column 'dialect'"),
    ):
        with pytest.raises(OvertureError, match=words):
            join("bad", parts, where=where)
    assert not (corpora_home() / "bad").exists()


def test_texts_in_latin_letters(tmp_path: Path) -> None:
    manifest = tmp_path / "east.tsv"
    manifest.write_text("path\ttext\tlicence\n1.wav\tЩука\tCC0-1.0\n", encoding="utf8")
    add(
        "east",
        tmp_path / "north",
        transcripts=manifest,
        fill={"language": "bg"},
        audio=tmp_path / "north",
        replace=True,
    )
    join("plain", ["south", "east"])
    assert "Щука" in set(Table.open("plain").numpy("text"))
    CliRunner().invoke(app, ["join", "latin", "south", "east", "--latin"], catch_exceptions=False)
    texts = set(Table.open("latin").numpy("text"))
    assert "Štuka" in texts and "south 1" in texts


def test_texts_are_joined_too_and_keep_their_paragraphs() -> None:
    def importer(rows: list[dict[str, object]]) -> Callable[[Path], Listing]:
        return lambda folder: Listing(rows=rows)

    program = "def f():\n\n\n    pass\n"
    build_text(
        "prose", importer([{"id": "a", "text": ["Щука", "x:\n  y"], "language": "bg"}, {"id": "b", "text": "Same."}])
    )
    build_text("code", importer([{"id": "a", "text": program, "kind": "code"}, {"id": "c", "text": "Same."}]))
    about = join("texts", ["prose", "code"])
    table = Table.open("texts")
    assert table.numpy("id").tolist() == ["prose/a", "prose/b", "code/a"] and about["duplicates_dropped"] == 1
    assert table.numpy("text").tolist() == ["Щука\n\nx:\n  y", "Same.", program]
    assert table.numpy("corpus").tolist() == ["prose", "prose", "code"]
    join("latin", ["prose", "code"], latin=True)
    assert Table.open("latin").row(0)["text"] == "Štuka\n\nx:\n  y"
    with pytest.raises(OvertureError, match="north is speech and prose text: join corpora of one kind"):
        join("bad", ["north", "prose"])
    with pytest.raises(OvertureError, match="'prose' is text"):
        derive("bad", "prose", WaveAugment(speed=(1.0,), mulaw=True, share=1.0))
