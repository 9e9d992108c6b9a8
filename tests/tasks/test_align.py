"""Forced alignment: the phones of the words that are said, in order; what cannot be aligned is counted; frames get the right label."""

import json
import sys

import numpy as np
import pyarrow as pa
import pytest

from overture.data.table import Table
from overture.errors import MissingExtra, OvertureError
from overture.tasks import align
from overture.tasks.align import PHONES, Alignment, aligned, frame_labels, phones, plausible, read, words

SIL = PHONES.index("SIL")
TWO = "text IN ('Added.', 'All circuits are busy now.')"


def english(where: str) -> Table:
    return Table.open("embedded", f"language = 'en-US' AND {where}")


def with_texts(table: Table, texts: list[str | None]) -> Table:
    """The same recordings, other transcripts."""
    at = table.columns.column_names.index("text")
    return Table(table.columns.set_column(at, "text", pa.array(texts)), name=table.name, root=table.root)


def test_classes_are_fixed():
    assert len(PHONES) == 40 and list(PHONES) == sorted(set(PHONES))


def test_frame_labels_at_boundaries():
    alignment = Alignment(("SIL", "HH", "AH"), np.array([0.0, 0.02, 0.025, 0.05]), -20.0)
    hh, ah = PHONES.index("HH"), PHONES.index("AH")
    # centres at 5, 15, 25, ... ms: that on a boundary belongs to the phone that begins, HH holds no centre, 55 ms is outside
    assert frame_labels(alignment, 6, 100).tolist() == [SIL, SIL, ah, ah, ah, -1]
    assert frame_labels(alignment, 3, 50).tolist() == [SIL, ah, -1]  # 10, 30, 50 ms: the end is outside
    assert frame_labels(alignment, 12, 200).tolist() == [SIL] * 4 + [hh] + [ah] * 5 + [-1] * 2
    assert frame_labels(alignment, 0, 100).tolist() == []
    late = Alignment(("AH",), np.array([0.02, 0.04]), -20.0)
    assert frame_labels(late, 4, 100).tolist() == [-1, -1, ah, ah]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't, STOP!", ["don't", "stop"]),
        ("a half-way  house…", ["a", "half", "way", "house"]),
        ("‘Hello,’ he said", ["hello", "he", "said"]),
        ("the dogs' don’t", ["the", "dogs", "don't"]),
        ("'cause", ["'cause"]),
        ("press 1", "digits or marks that do not say how they are read"),
        ("(laughs) stop", "digits or marks that do not say how they are read"),
        ("stop, Zxqv", "words that the dictionary lacks"),
        ("…", "no words"),
        (None, "no words"),
    ],
)
def test_words(text: str | None, expected: list[str] | str):
    known = {"don't", "stop", "a", "half", "way", "house", "hello", "he", "said", "the", "dogs", "'cause", "laughs"}
    assert words(text, known.__contains__) == expected


def test_outliers_are_below_not_above():
    scores = np.array([-20.0, -21, -22, -23, -24, -60, -2])
    assert plausible(scores).tolist() == [True] * 5 + [False, True]
    assert plausible(np.array([-20.0])).tolist() == [True] and plausible(np.zeros(0)).tolist() == []


def test_without_the_library_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(MissingExtra, match=r"overture\[align\]"):
        phones(english(TWO), np.arange(2))
    with pytest.raises(MissingExtra, match=r"overture\[align\]"):
        aligned(english(TWO), tmp_path)


def test_phones_of_the_words_in_order():
    pytest.importorskip("pocketsphinx")
    table = english(TWO)
    assert sorted(table.numpy("text")) == ["Added.", "All circuits are busy now."]
    found = dict(zip(table.numpy("text"), phones(table, np.arange(len(table)))))
    durations = dict(zip(table.numpy("text"), table.numpy("duration")))
    spoken = {text: [p for p in a.phones if p != "SIL"] for text, a in found.items()}
    assert spoken["Added."] in (["AE", "D", "AH", "D"], ["AE", "D", "IH", "D"])
    circuits = spoken["All circuits are busy now."]
    assert circuits[:2] == ["AO", "L"] and circuits[2:5] == ["S", "ER", "K"] and circuits[-2:] == ["N", "AW"]
    assert circuits[-6:-2] == ["B", "IH", "Z", "IY"]
    for text, a in found.items():
        assert len(a.bounds) == len(a.phones) + 1 and a.bounds[0] == 0
        assert a.bounds[-1] == pytest.approx(durations[text], abs=1e-3)
        assert (np.diff(a.bounds) >= 0.0299).all()  # three states of 10 ms
        assert all(x != y for x, y in zip(a.phones, a.phones[1:]) if "SIL" in (x, y))


def test_speech_is_louder_than_silence():
    pytest.importorskip("pocketsphinx")
    from overture.data import audio

    table = english("text = 'Login incorrect. Mailbox?'")
    (alignment,) = phones(table, np.arange(1))
    row = table.row(0)
    wave = audio.read(row["audio"], rate=16_000, start=row["start"], duration=row["duration"])
    power = np.square(wave[: len(wave) // 160 * 160].reshape(-1, 160)).mean(1)
    labels = frame_labels(alignment, len(power), 100)
    assert alignment.phones.count("SIL") == 2  # between the sentences, and at the end
    assert power[labels != SIL].mean() > 100 * power[labels == SIL].mean()


def test_an_alignment_does_not_depend_on_its_neighbours():
    pytest.importorskip("pocketsphinx")
    table = english("duration < 2.5")
    there = phones(table, np.arange(6))
    back = phones(table, np.arange(6)[::-1])[::-1]
    for a, b in zip(there, back):
        assert isinstance(a, Alignment) and isinstance(b, Alignment)
        assert a.phones == b.phones and a.score == b.score and np.array_equal(a.bounds, b.bounds)


def test_what_is_left_out_is_counted(tmp_path):
    pytest.importorskip("pocketsphinx")
    table = english("duration BETWEEN 1 AND 3").take(np.arange(10))
    texts = [*table.numpy("text")[:6], "stop the zxqvish thing", "press 1", None, "now " * 40]
    path = aligned(with_texts(table, texts), tmp_path)
    counts = json.loads((path.parent / "counts.json").read_text())
    reasons = counts["left out"]
    assert reasons["words that the dictionary lacks"] == 1 and reasons["no words"] == 1
    assert reasons["digits or marks that do not say how they are read"] == 1
    assert counts["rows"] == 10 and counts["aligned"] + sum(reasons.values()) == 10
    found = read(path)
    assert len(found) == counts["aligned"] and set(found) <= set(
        table.numpy("id")[:6]
    )  # forty words in 3 s are not said
    direct = dict(zip(table.numpy("id"), phones(table, np.arange(6))))
    for name, a in found.items():
        assert a.phones == direct[name].phones and np.array_equal(a.bounds, direct[name].bounds)


def test_done_once_and_resumed(tmp_path, monkeypatch):
    pytest.importorskip("pocketsphinx")
    monkeypatch.setattr(align, "PART", 2)
    table = english("duration < 2.5").take(np.arange(6))
    told: list[float] = []

    def stop(share: float) -> None:
        told.append(share)
        if len(told) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        aligned(table, tmp_path / "a", stop)
    told = [0.0] * 10
    path = aligned(table, tmp_path / "a", stop)
    assert len(told) == 12 and told[-1] == 1.0  # two of six rows were left
    again = aligned(table, tmp_path / "a", lambda share: pytest.fail("done already"))
    assert again == path and not list(path.parent.glob("part-*"))
    whole = read(aligned(table, tmp_path / "b"))
    assert whole.keys() == read(path).keys() and all(whole[k].phones == a.phones for k, a in read(path).items())


def test_other_languages_are_refused(tmp_path):
    pytest.importorskip("pocketsphinx")
    table = Table.open("embedded", "language = 'es-MX'").take(np.arange(3))
    with pytest.raises(OvertureError, match=r"none of 3 rows.*not English.*3.*English only"):
        aligned(table, tmp_path)


def test_unreadable_recordings_are_named(tmp_path):
    pytest.importorskip("pocketsphinx")
    table = english(TWO)
    gone = Table(table.columns, name="gone", root=tmp_path)
    with pytest.raises(OvertureError, match=str(table.numpy("id")[0])):
        phones(gone, np.arange(2))


def test_no_file_of_alignments(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_text("no")
    with pytest.raises(OvertureError, match="no file of alignments"):
        read(path)
