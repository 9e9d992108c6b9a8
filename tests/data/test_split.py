"""Parts that share nothing they must not share."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overture.data.split import Split, divide, normal, same_recordings, split
from overture.data.table import Table, corpora_home
from overture.errors import OvertureError

THREE = {"train": 0.8, "dev": 0.1, "test": 0.1}
MANY = "speaker IN (SELECT speaker FROM rows GROUP BY 1 HAVING count(*) >= 40)"


@pytest.fixture(scope="module")
def embedded() -> Table:
    return Table.open("embedded")


def table(**columns: list[object]) -> Table:
    n = len(next(iter(columns.values())))
    full = {
        "id": [f"u{i}" for i in range(n)], "audio": [f"{i}.wav" for i in range(n)], "duration": [1.0] * n,
        "sha1": [f"h{i}" for i in range(n)], "text": [f"text {i}" for i in range(n)], "speaker": ["s"] * n, "language": ["en"] * n,
    }  # fmt: skip
    return Table(pa.table(full | columns), name="made", root=Path())


def values(data: Table, parts: Split, column: str) -> list[set[str]]:
    return [{normal(v) if column == "text" else v for v in data.numpy(column)[r]} for r in parts.rows.values()]


def disjoint(sets: list[set[str]]) -> bool:
    return sum(len(s) for s in sets) == len(set().union(*sets))


def test_shares_are_met_and_rows_are_in_one_part(embedded: Table) -> None:
    found = split(embedded, THREE)
    together = np.concatenate(list(found.rows.values()))
    assert sorted(together) == list(range(len(embedded))) and found.left_out == 0
    assert [len(r) for r in found.rows.values()] == pytest.approx([len(embedded) * s for s in THREE.values()], abs=1.5)
    assert found.counts["train"]["rows"] == len(found.rows["train"])
    assert found.counts["test"]["hours"] == pytest.approx(found.table(embedded, "test").hours, abs=1e-3)


@pytest.mark.parametrize("by", ["speaker", "text", "sha1"])
def test_disjoint(embedded: Table, by: str) -> None:
    for seed in (0, 1):
        found = split(embedded, THREE, by=by, seed=seed)
        assert disjoint(values(embedded, found, by)) and found.left_out == 0
        shares = [len(r) / len(embedded) for r in found.rows.values()]
        assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.05)
    assert values(embedded, found, by) != values(embedded, split(embedded, THREE, by=by, seed=0), by)


def test_texts_are_the_same_whatever_their_case_and_punctuation() -> None:
    assert normal("Oh,  OK!") == normal("oh ok") == "oh ok" and normal("¿Qué?") == "qué" != normal("que")
    assert normal("हिन्दी।") == "हिन्दी"
    data = table(text=["Yes!", "yes", "No", "no.", "Why?", "why", "who", "when"])
    found = split(data, {"a": 0.5, "b": 0.5}, by="text")
    assert disjoint(values(data, found, "text"))


def test_speaker_identification_has_every_speaker_in_every_part_and_no_text_twice(embedded: Table) -> None:
    data = embedded.where(MANY)
    found = split(data, THREE, by="text", stratify="speaker")
    assert disjoint(values(data, found, "text"))
    speakers = values(data, found, "speaker")
    assert speakers[0] == speakers[1] == speakers[2] and len(speakers[0]) >= 8


def test_both_at_once_only_by_leaving_rows_out(embedded: Table) -> None:
    with pytest.raises(OvertureError, match=r"differ in speaker and text"):
        split(embedded, THREE, by=("speaker", "text"))
    found = split(embedded, THREE, by=("speaker", "text"), cross="drop")
    assert disjoint(values(embedded, found, "speaker")) and disjoint(values(embedded, found, "text"))
    assert 0 < found.left_out < 0.1 * len(embedded)
    assert found.left_out + sum(len(r) for r in found.rows.values()) == len(embedded)


def test_both_at_once_where_all_say_the_same() -> None:
    data = table(speaker=[f"s{i // 20}" for i in range(400)], text=[f"t {i % 20}" for i in range(400)])
    found = split(data, THREE, by=("speaker", "text"), cross="drop")
    assert disjoint(values(data, found, "speaker")) and disjoint(values(data, found, "text"))
    assert all(len(r) >= 5 for r in found.rows.values())


def test_equal_recordings_never_cross() -> None:
    data = table(sha1=[f"h{i // 2}" for i in range(40)])
    for method in ("balanced", "hash"):
        assert disjoint(values(data, split(data, {"a": 0.5, "b": 0.5}, method=method), "sha1"))


def test_groups_follow_chains_of_shared_values() -> None:
    data = table(
        speaker=["a", "a", "b", "b", "c", "c"], text=["1 x", "2 x", "2 x", "3 x", "4 x", "5 x"], sha1=list("uvwxyz")
    )
    found = split(data, {"p": 0.6, "q": 0.4}, by=("speaker", "text"))
    assert values(data, found, "speaker") == [{"a", "b"}, {"c"}]


def test_hash_keeps_old_rows_where_they_were_when_a_corpus_grows(embedded: Table) -> None:
    half = embedded.take(np.arange(0, len(embedded), 2))
    for by in ("speaker", "text"):
        small = split(half, THREE, by=by, method="hash", seed=5)
        large = split(embedded, THREE, by=by, method="hash", seed=5)
        for part in THREE:
            assert set(half.numpy("id")[small.rows[part]]) <= set(embedded.numpy("id")[large.rows[part]])


def test_fewer_groups_than_parts_is_an_error(embedded: Table) -> None:
    with pytest.raises(OvertureError, match=r"3 parts cannot be made of 1 group that differ in speaker"):
        split(embedded.where("language = 'it-IT'"), THREE, by="speaker")
    two = embedded.where("speaker IN ('joe', 'bob')")
    assert [len(r) > 0 for r in split(two, {"a": 0.9, "b": 0.1}, by="speaker").rows.values()] == [True, True]


def test_missing_values_and_wrong_shares_are_errors(embedded: Table) -> None:
    with pytest.raises(OvertureError, match=r"rows of 'made' have no speaker.*--where \"speaker IS NOT NULL\""):
        split(table(speaker=["a", None, "b"]), {"a": 0.5, "b": 0.5}, by="speaker")
    for parts in ({"a": 1.0}, {"a": 0.5, "b": 0.6}, {"a": 1.0, "b": 0.0}):
        with pytest.raises(OvertureError, match=r"sum to 1"):
            split(embedded, parts)
    with pytest.raises(OvertureError, match=r"Did you mean 'speaker'"):
        split(embedded, THREE, by="speeker")
    with pytest.raises(OvertureError, match=r"part 'dev' got none of 1 values of speaker: 'rare' \(1 rows\)"):
        split(table(speaker=["s"] * 50 + ["rare"]), THREE, stratify="speaker")
    with pytest.raises(OvertureError, match=r"no rows to split"):
        split(embedded.where("false"), THREE)


def test_recorded_and_loaded_again(embedded: Table, tmp_path: Path) -> None:
    found = split(embedded, THREE, by="speaker", seed=3)
    found.save(tmp_path / "split.json", embedded)
    again = Split.load(tmp_path / "split.json", embedded)
    assert again.rule == found.rule and again.counts == found.counts
    assert all((again.rows[p] == found.rows[p]).all() for p in THREE)
    assert len(again.table(embedded, "dev")) == len(found.rows["dev"])
    with pytest.raises(OvertureError, match=r"split again"):
        Split.load(tmp_path / "split.json", embedded.where("duration > 1"))
    with pytest.raises(OvertureError, match=r"no part 'tets'. Did you mean 'test'"):
        again.table(embedded, "tets")
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(OvertureError, match=r"not a recorded split"):
        Split.load(tmp_path / "no.json", embedded)


@settings(max_examples=60, deadline=None)
@given(
    speakers=st.lists(st.integers(0, 8), min_size=6, max_size=60),
    texts=st.lists(st.integers(0, 12), min_size=60, max_size=60),
    seed=st.integers(0, 99),
    by=st.sampled_from(["speaker", "text"]),
)
def test_any_corpus_is_divided_completely_or_refused(speakers: list[int], texts: list[int], seed: int, by: str) -> None:
    data = table(speaker=[f"s{i}" for i in speakers], text=[f"t{i}" for i in texts[: len(speakers)]])
    groups = len(set(data.numpy(by)))
    parts = {"a": 0.6, "b": 0.4}
    if groups < 2:
        with pytest.raises(OvertureError):
            split(data, parts, by=by, seed=seed)
        return
    found = split(data, parts, by=by, seed=seed)
    assert disjoint(values(data, found, by))
    assert sorted(np.concatenate(list(found.rows.values()))) == list(range(len(data)))
    assert all(len(r) for r in found.rows.values())


def kept(name: str, data: Table, **derived: str) -> Table:
    """`data` as a corpus of that name, with what its corpus.json says of what it was derived from."""
    folder = corpora_home() / name
    folder.mkdir(parents=True)
    pq.write_table(data.columns, folder / "table.parquet")
    about = {"name": name, **({"derived": derived} if derived else {})}
    (folder / "corpus.json").write_text(json.dumps(about), encoding="utf8")
    return Table.open(name)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path))


@pytest.mark.usefixtures("home")
def test_recordings_that_two_corpora_share_are_found() -> None:
    heard = kept("heard", table(sha1=["a", "b", "c", None], id=["1", "2", "3", "4"]))
    test = kept("test", table(sha1=["x", "b", None], id=["1", "2b", "4"]))
    assert same_recordings(heard, [test]).tolist() == [False, True, False, False]  # ids of other corpora mean nothing
    assert same_recordings(heard, []).tolist() == [False] * 4
    assert same_recordings(heard, [test, heard.take(np.array([3]))]).tolist() == [False, True, False, True]
    # A selection that a study keeps is of the same corpus, whatever it is called.
    view = heard.take(np.array([0, 2]))
    assert same_recordings(heard, [Table.open(view.save("heard~1a2b3c"))]).tolist() == [True, False, True, False]


@pytest.mark.usefixtures("home")
def test_a_recording_is_the_same_down_a_telephone() -> None:
    """Its samples have another hash then, also after two such steps."""
    clean = kept("clean", table(sha1=["a", "b", "c"], id=["1", "2", "3"]))
    noisy = kept("noisy", table(sha1=["d", "e"], id=["2", "3"], derived_from=["clean"] * 2), **{"from": "clean"})
    phone = kept("phone", table(sha1=["f"], id=["3"], derived_from=["noisy"]), **{"from": "noisy"})
    other = kept("other", table(sha1=["g"], id=["3"]))
    assert same_recordings(clean, [noisy]).tolist() == [False, True, True]
    assert same_recordings(phone, [clean]).tolist() == [True] and same_recordings(clean, [phone]).tolist() == [
        False,
        False,
        True,
    ]
    assert not same_recordings(other, [clean, noisy, phone]).any()


@pytest.mark.usefixtures("home")
def test_without_hashes_nothing_is_said_to_be_disjoint() -> None:
    plain = table(sha1=["a", "b"])
    bare = kept("bare", Table(plain.columns.drop_columns(["sha1"]), name="bare", root=Path()))
    with pytest.raises(OvertureError, match="share recordings cannot be told: 'bare' has no column 'sha1'"):
        same_recordings(plain, [bare])
    assert same_recordings(bare, [bare.take(np.array([0]))]).sum() == 1  # the same corpus: by id


def test_parts_of_a_split_share_no_recording(embedded: Table) -> None:
    found = split(embedded, THREE, by="speaker")
    train, test = (found.table(embedded, part) for part in ("train", "test"))
    assert not same_recordings(train, [test]).any() and same_recordings(embedded, [test]).sum() >= len(test)


def test_parts_given_by_the_corpus_itself() -> None:
    table = Table.open("embedded", "speaker in ('joe', 'bob', 'tam')")
    parts = {
        "train": "speaker != 'bob' and duration > 1",
        "dev": "speaker = 'bob' and duration > 2",
        "test": "speaker = 'bob' and duration <= 2",
    }
    found = divide(table, parts, apart=["speaker", "text"])
    texts = {name: {normal(t) for t in table.numpy("text")[rows]} for name, rows in found.rows.items()}
    assert not texts["train"] & texts["test"] and not texts["train"] & texts["dev"] and not texts["dev"] & texts["test"]
    for name, rows in found.rows.items():  # all that its expression asks for, but for what is kept apart
        asked = set(table.where(parts[name]).numpy("id"))
        assert set(table.numpy("id")[rows]) <= asked
        gone = asked - set(table.numpy("id")[rows])
        later = set().union(*(texts[n] for n in list(parts)[list(parts).index(name) + 1 :]))
        assert {normal(t) for i, t in zip(table.numpy("id"), table.numpy("text")) if i in gone} <= later
    assert found.rule["shared"] == {"speaker": 1} and found.rule["by"] == ["text"]  # dev and test are one voice: said
    assert divide(table, {"train": "speaker = 'joe'", "test": "speaker = 'bob'"}, apart=["speaker"]).rule["by"] == [
        "speaker"
    ]
    with pytest.raises(OvertureError, match="is in two parts, train and test"):
        divide(table, {"train": "speaker = 'joe'", "test": "duration > 0"})
    with pytest.raises(OvertureError, match=r"no row of 'embedded' is left for test \(speaker = 'nobody'\)"):
        divide(table, {"train": "speaker = 'joe'", "test": "speaker = 'nobody'"})
