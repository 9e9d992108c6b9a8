"""Near duplicates: found by hashing, decided by comparing, and every document accounted for."""

import csv
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overture import jsonfile
from overture.corpora.build import Listing
from overture.corpora.dedup import HASHES, OVERLOOKED, bands, dedup, nearest_before, shingles
from overture.corpora.text import build_text
from overture.data.table import Table, about_corpus
from overture.errors import MissingExtra, OvertureError

pytest.importorskip("datasketch")
TEN = "one two three four five six seven eight nine ten"


def jaccard(a: str, b: str) -> float:
    """By sets of words, without hashing."""

    def grams(text: str) -> set[tuple[str, ...]]:
        words = text.casefold().split()
        return {tuple(words[i : i + 5]) for i in range(max(len(words) - 4, 1))}

    return len(grams(a) & grams(b)) / len(grams(a) | grams(b))


def test_shingles_are_word_five_grams() -> None:
    assert len(shingles(TEN)) == 6 and len(shingles("one two")) == 1
    assert (shingles(TEN) == shingles("One, two; THREE four\n\nfive-six seven... eight nine 'ten'!")).all()
    assert len(shingles("one " * 100)) == 1
    assert len(shingles("我们今天去图书馆看书")) == 6  # ten characters, each a word
    assert len(shingles("")) == 1 and shingles("").tolist() != shingles("...").tolist()


@pytest.mark.parametrize("near", [0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_hashing_overlooks_few_pairs(near: float) -> None:
    number, rows = bands(near)
    assert number >= 2 and number * rows <= HASHES and (1 - near**rows) ** number <= OVERLOOKED


def test_a_pair_counts_from_the_threshold_on() -> None:
    other = TEN.replace("ten", "eleven")  # 6 grams each, 5 in common: 5 / 7
    assert jaccard(TEN, other) == pytest.approx(5 / 7)
    assert list(nearest_before([TEN, other], 0.7)) == [(None, 0.0), (0, pytest.approx(5 / 7))]
    assert list(nearest_before([TEN, other], 0.72)) == [(None, 0.0), (None, 0.0)]
    assert list(nearest_before([TEN, TEN.upper() + "!"], 1.0)) == [(None, 0.0), (0, 1.0)]


def test_being_near_is_not_passed_on() -> None:
    words = [f"w{i}" for i in range(60)]
    chain = [" ".join(words[i : i + 40]) for i in (0, 4, 8)]  # 36 grams each; the first and the last share 28
    assert jaccard(chain[0], chain[1]) == pytest.approx(32 / 40) and jaccard(chain[0], chain[2]) == pytest.approx(
        28 / 44
    )
    assert [other for other, _ in nearest_before(chain, 0.8)] == [None, 0, None]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.4, 0.6, 0.8]))
def test_it_finds_what_comparing_all_pairs_finds(seed: int, near: float) -> None:
    draw = random.Random(seed)
    texts: list[str] = []
    for _ in range(25):
        words = (
            draw.choice(texts).split()
            if texts and draw.random() < 0.7
            else [f"w{draw.randrange(500)}" for _ in range(30)]
        )
        texts.append(" ".join(w if draw.random() > 0.03 else f"w{draw.randrange(500)}" for w in words))
    kept: list[int] = []
    for number, (other, similarity) in enumerate(nearest_before(texts, near)):
        best = max((jaccard(texts[number], texts[k]) for k in kept), default=0.0)
        if other is None:
            # a pair is overlooked with a probability below 0.1 % at the threshold and far less above it
            assert best < near + 0.1, (seed, number)
            kept.append(number)
        else:
            assert other in kept and similarity >= near
            assert similarity == pytest.approx(jaccard(texts[number], texts[other]))


@pytest.fixture
def corpus(home: Path) -> Path:
    """Six documents: 1 near to 0, 4 near to 3 (which keeps its listing), in two languages."""
    code = "def f(a, b, c, d, e):\n\n\n    return a + b + c + d + e  # all of them together\n"
    rows = [
        {
            "id": "a",
            "text": [TEN, "A second paragraph, with its words."],
            "language": "en",
            "licence": "CC0-1.0",
            "label": "x",
        },
        {"id": "b", "text": [TEN.title(), "A second paragraph; with its words!"], "language": "en", "label": "y"},
        {"id": "c", "text": "Something else altogether.", "language": "en"},
        {"id": "d", "text": code, "kind": "code", "language": "en"},
        {"id": "e", "text": code.replace("# all", "#  all"), "kind": "code", "language": "en"},
        {"id": "f", "text": "Algo muy distinto de lo anterior.", "language": "es"},
    ]

    def importer(folder: Path) -> Listing:
        (folder / "LICENCES").mkdir()
        (folder / "LICENCES/mine.copyright").write_text("CC0-1.0")
        return Listing(rows=rows)

    build_text("mine", importer)
    return home / "corpora"


def test_count_in_is_count_out_and_each_is_named(corpus: Path) -> None:
    told: list[tuple[int, int]] = []
    about = dedup("less", "mine", near=0.8, progress=lambda done, of: told.append((done, of)))
    less, mine = Table.open("less"), Table.open("mine")
    assert less.numpy("id").tolist() == ["a", "c", "d", "f"]
    with (corpus / "less/dropped.tsv").open(encoding="utf8", newline="") as file:
        record = list(csv.DictReader(file, delimiter="\t"))
    assert about["read"] == len(mine) == len(less) + len(record) and about["near_duplicates_dropped"] == 2
    assert [(r["row"], r["id"], r["kind"]) for r in record] == [
        ("2", "b", "near duplicate"),
        ("5", "e", "near duplicate"),
    ]
    assert record[0]["what"] == "shares 1.00 of its word 5-grams with a"
    kept = mine.where("id IN ('a', 'c', 'd', 'f')")
    for column in mine.columns.column_names:
        assert less.numpy(column).tolist() == kept.numpy(column).tolist(), column
    assert about["dedup"]["from"] == "mine" and about["dedup"]["fingerprint"] == mine.fingerprint
    assert (corpus / "less/LICENCES/mine.copyright").read_text() == "CC0-1.0"
    assert told[-1] == (6, 6)


def test_scores_stay_with_what_made_them(corpus: Path) -> None:
    about = about_corpus(corpus / "mine") | {"scores": {"length": {"scorer": "x"}}}
    jsonfile.write(corpus / "mine/corpus.json", about)
    assert dedup("less", "mine")["scores"] == {"length": {"scorer": "x"}}


def test_a_part_of_a_corpus(corpus: Path) -> None:
    about = dedup("less", "mine", where="id >= 'b'")
    assert Table.open("less").numpy("id").tolist() == ["b", "c", "d", "f"] and about["read"] == 5
    assert [line.split("\t")[0] for line in (corpus / "less/dropped.tsv").read_text().splitlines()[1:]] == ["5"]


def test_rows_of_a_foreign_table_without_text_are_left_out_on_the_record(home: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "bare").mkdir()
    pq.write_table(
        pa.table({"id": ["a", "b", "c"], "text": ["x y z", None, "X, y, z"]}), tmp_path / "bare/table.parquet"
    )
    about = dedup("less", str(tmp_path / "bare"))
    assert (about["read"], about["rows"], about["problems"], about["near_duplicates_dropped"]) == (
        3,
        1,
        {"empty text": 1},
        1,
    )


def test_what_cannot_be_done_is_said(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for near in (0.1, 1.5):
        with pytest.raises(OvertureError, match=r"--near .*from 0\.3 to 1"):
            dedup("less", "mine", near=near)
    with pytest.raises(OvertureError, match=r"'embedded' is speech"):
        dedup("less", "embedded")
    with pytest.raises(OvertureError, match=r"no row of 'mine' is left"):
        dedup("less", "mine", where="language = 'xx'")
    with pytest.raises(OvertureError, match=r"'mine' cannot be made of itself"):
        dedup("mine", "mine", replace=True)
    assert sorted(p.name for p in corpus.iterdir()) == ["mine"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"overture\[dedup\]"):
        dedup("less", "mine")
