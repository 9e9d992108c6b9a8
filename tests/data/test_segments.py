"""overture.data.segments: which token is of which segment, to the character; control tokens before every segment; and columns that cannot be."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overture.data.draws import Draws
from overture.data.encoded import Encoded
from overture.data.segments import PackSegments, Prefix, Scores, segments
from overture.data.table import Table
from overture.data.text import Pack, padded
from overture.data.tokens import Tokens
from overture.errors import OvertureError

TEXTS = ["import os\n\n\ndef f( x ):\n    return x  \n", "é = '日本'\nx=1", "a = 1\n" * 9, "# last\n"]
FRONT = Tokens(vocabulary=300, blocks=("<|aligned|>", "<|misaligned|>"))
GOOD, BAD = (FRONT.special.block(b) for b in FRONT.blocks)
DRAWS = Draws(0, 0)


def table(**changes: object) -> Table:
    ends = [np.cumsum([len(line) for line in t.splitlines(keepends=True)]).tolist() for t in TEXTS]
    scores = [[0.0, 0.0, 0.0, 0.3, 0.2], [0.0, 0.4], [0.0] * 8 + [0.1], [0.0]]
    columns = {"id": list("abcd"), "text": TEXTS, "segments": ends, "pep8_segments": scores, **changes}
    return Table(pa.table(columns), name="tiny", root=Path())


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    return Encoded.open(table(), FRONT)


def everything(pack: PackSegments, encoded: Encoded, rows: Table, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The whole stream: ids and scores."""
    packed = pack.prepare(encoded, rows, FRONT.special, seed)
    found = [packed.fetch(i, DRAWS) for i in range(len(packed.lengths))]
    assert [len(e.ids) for e in found] == packed.lengths.tolist()
    assert all(len(e.channels["score"]) == len(e.ids) and e.channels["score"].dtype == np.float32 for e in found)
    return np.concatenate([e.ids for e in found]), np.concatenate([e.channels["score"] for e in found])


def test_every_token_has_the_score_of_its_line(encoded: Encoded) -> None:
    rows = table()
    tokenizer = FRONT.tokenizer(rows)
    known = Scores(rows, "pep8")
    pack = PackSegments(length=7)
    packed = pack.prepare(encoded, rows, FRONT.special, 0)
    for d, text in enumerate(TEXTS):
        of = packed.scored.segments(d)
        ids = packed.scored.ids(d)
        lines = [tokenizer.decode(ids[of == s].tolist()) for s in range(len(known.of(d)[0]))]
        assert lines == text.splitlines(keepends=True)  # byte for byte, through characters of three bytes
        assert np.array_equal(packed.scored.scores(d), known.of(d)[1][of])
    ids, scores = everything(pack, encoded, rows)
    plain = Pack(length=7).prepare(encoded, rows, FRONT.special, 0)
    assert np.array_equal(ids, np.concatenate([plain.fetch(i, DRAWS).ids for i in range(len(plain.lengths))]))
    assert not scores[ids == FRONT.special.end].any()


def test_a_word_that_brings_its_space_belongs_to_its_own_sentence() -> None:
    # "A b. C d": tokens A, " b", ".", " C", " d"; sentences end behind the space, at 5
    assert segments(np.array([0, 1, 3, 4, 6]), np.array([5, 8])).tolist() == [0, 0, 0, 1, 1]
    # three tokens of one character, then one
    assert segments(np.array([0, 1, 1, 1, 2]), np.array([1, 2, 3])).tolist() == [0, 1, 1, 1, 2]
    assert segments(np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []


@pytest.mark.parametrize("framed", [False, True])
def test_a_control_token_stands_before_every_line(encoded: Encoded, framed: bool) -> None:
    rows = table()
    pack = PackSegments(length=11, framed=framed, prefix=Prefix(threshold=0.1, omit=0.0))
    ids, scores = everything(pack, encoded, rows)
    special = FRONT.special
    ids, scores = ids[~np.isin(ids, [special.cls, special.sep])], scores[~np.isin(ids, [special.cls, special.sep])]
    packed = pack.prepare(encoded, rows, special, 0)
    expected: list[int] = []
    for d in packed.order:
        of = packed.scored.segments(int(d))
        text = encoded.ids(int(d))
        for s, score in enumerate(Scores(rows, "pep8").of(int(d))[1]):
            expected += [GOOD if score <= np.float32(0.1) else BAD, *text[of == s]]  # 0.1 itself is aligned
        expected += [] if framed else [special.end]
    assert ids.tolist() == expected
    assert (ids == BAD).sum() == 3 and (ids == GOOD).sum() == 17 - 3
    assert set(np.round(scores[ids == BAD], 3)) == {np.float32(0.2), np.float32(0.3), np.float32(0.4)}


def test_omitted_tokens_are_a_share_and_the_same_in_every_epoch() -> None:
    columns = {
        "text": ["a\n" * 50] * 100,
        "segments": [list(range(2, 101, 2))] * 100,
        "pep8_segments": [[0.0] * 50] * 100,
    }
    many = Table(pa.table({"id": [str(i) for i in range(100)], **columns}), name="many", root=Path())
    encoded = Encoded.open(many, FRONT)
    pack = PackSegments(length=64, prefix=Prefix(omit=0.1))
    counts = []
    for seed in range(3):
        packed = pack.prepare(encoded, many, FRONT.special, seed)
        once, again = ([packed.fetch(0, Draws(seed, update)).ids.tolist() for _ in range(1)] for update in (0, 9))
        assert once == again
        ids, _ = everything(pack, encoded, many, seed)
        counts.append(int((ids == GOOD).sum()))
    assert len(set(counts)) > 1
    assert all(abs(n - 4500) < 4 * np.sqrt(5000 * 0.09) for n in counts)  # 4 standard deviations


def test_shuffled_scores_are_the_same_scores_elsewhere(encoded: Encoded) -> None:
    rows = table()
    own = Scores(rows, "pep8").values
    other = PackSegments(shuffled=True).prepare(encoded, rows, FRONT.special, 1).scored.known.values
    assert sorted(own) == sorted(other) and own.tolist() != other.tolist()


def test_channels_are_padded_as_numbers(encoded: Encoded) -> None:
    packed = PackSegments(length=16).prepare(encoded, table(), FRONT.special, 0)
    last = len(packed.lengths) - 1
    arrays = padded([packed.fetch(0, DRAWS), packed.fetch(last, DRAWS)], 0)
    assert arrays["channels"]["score"].dtype == np.float32 and arrays["channels"]["document"].dtype == np.int64


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(alphabet=" aé日\n", max_size=12), min_size=1, max_size=5))
def test_segments_cover_a_text_and_rise(texts: list[str]) -> None:
    ends = [np.cumsum([len(s) for s in t.splitlines(keepends=True)], dtype=int).tolist() for t in texts]
    rows = pa.table({
        "id": [str(i) for i in range(len(texts))], "text": texts,
        "segments": pa.array(ends, pa.list_(pa.int32())), "pep8_segments": pa.array([[0.5] * len(e) for e in ends], pa.list_(pa.float32())),
    })  # fmt: skip
    found = Scores(Table(rows, name="h", root=Path()), "pep8")
    assert [found.of(d)[0].tolist() for d in range(len(texts))] == ends


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pep8_segments": [[0.0]] * 4}, r"row 0 \(a\): 5 ends of segments, and 1 scores"),
        (
            {"segments": [[10, 11, 12, 24, 38], [9, 12], list(range(6, 55, 6)), [7]]},
            r"row 0 \(a\): its segments end at character 38, its text at 39",
        ),
        (
            {"segments": [[10, 10, 12, 24, 39], [9, 12], list(range(6, 55, 6)), [7]]},
            r"row 0 \(a\): its segments end at 10 after 10",
        ),
        ({"pep8_segments": [[0.0] * 5, [0.0, None], [0.0] * 9, [0.0]]}, r"row 1 \(b\): a segment without a number"),
        ({"pep8_segments": [[0.0] * 5, None, [0.0] * 9, [0.0]]}, r"row 1 \(b\) has no pep8_segments.*IS NOT NULL"),
        ({"segments": [1, 2, 3, 4]}, "holds int64, not a list"),
    ],
)
def test_columns_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(OvertureError, match=message):
        Scores(table(**changes), "pep8")


def test_what_is_missing_is_named(encoded: Encoded) -> None:
    with pytest.raises(OvertureError, match=r"no column 'toxicity_segments'.*overture data score tiny --with toxicity"):
        Scores(table(), "toxicity")
    bare = Tokens(vocabulary=300)
    with pytest.raises(OvertureError, match=r"no block '<\|aligned\|>'"):
        PackSegments(prefix=Prefix()).prepare(encoded, table(), bare.special, 0)
    with pytest.raises(OvertureError, match="omit"):
        Prefix(omit=1.0)
