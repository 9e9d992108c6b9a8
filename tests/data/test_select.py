"""overture.data.select: budgets to the nearest row, from either end of one order, nested, with a control of the same size."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overture.config import from_dict, to_dict
from overture.data.select import Select, numbers
from overture.data.table import Table
from overture.errors import OvertureError

rows_ = st.lists(st.tuples(st.integers(1, 50), st.one_of(st.none(), st.integers(0, 5))), min_size=1, max_size=60)


def text(rows: list[tuple[int, int | None]]) -> Table:
    columns = {
        "id": [f"r{i}" for i in range(len(rows))],
        "text": ["x" * n for n, _ in rows],
        "score": pa.array([s for _, s in rows], pa.float32()),
    }
    return Table(pa.table(columns), name="made", root=Path())


def speech(seconds: list[float], **columns: list[object]) -> Table:
    base = {"id": [f"r{i}" for i in range(len(seconds))], "audio": ["x.wav"] * len(seconds), "duration": seconds}
    return Table(pa.table(base | columns), name="spoken", root=Path())


@settings(deadline=None, max_examples=100)
@given(rows_, st.floats(0.01, 1.0), st.booleans(), st.sampled_from(["score", None]), st.integers(0, 3))
def test_the_budget_is_met_to_the_nearest_row_by_the_first_of_the_order(
    rows: list[tuple[int, int | None]], share: float, descending: bool, column: str | None, seed: int
) -> None:
    of = text(rows)
    size, score = np.array([n for n, _ in rows]), of.numpy("score")
    there = np.flatnonzero(~np.isnan(score)) if column else np.arange(len(rows))
    if not len(there):
        return
    budget = max(1, int(share * size[there].sum()))
    ranked = Select(column=column, descending=descending, characters=budget, seed=seed).ranked(of)
    assert len(set(ranked)) == len(ranked) > 0 and set(ranked) <= set(there)
    rest = sorted(set(there) - set(ranked))
    if column:
        values = score[ranked] * (-1 if descending else 1)
        assert (np.diff(values) >= 0).all()
        assert not rest or values.max() <= (score[rest] * (-1 if descending else 1)).min()
    total = size[ranked].sum()
    if len(ranked) > 1:  # one row is chosen even where none were nearer
        assert abs(total - budget) <= abs(total - size[ranked[-1]] - budget)
    whole = Select(column=column, descending=descending, characters=int(size[there].sum()), seed=seed).ranked(of)
    assert len(whole) == len(there)
    assert ranked.tolist() == whole[: len(ranked)].tolist()  # a smaller budget is the beginning of a larger one
    if len(ranked) < len(whole):
        assert abs(total - budget) <= abs(total + size[whole[len(ranked)]] - budget)


def test_both_ends_and_a_random_control_have_one_size_and_one_distribution() -> None:
    rng = np.random.default_rng(0)
    rows = [(int(n), None) for n in rng.integers(20, 200, 500)]
    of = text(rows)
    of = Table(of.columns.set_column(2, "hate", pa.array(rng.random(500))), name="made", root=Path())
    size, hate = np.array([n for n, _ in rows]), of.numpy("hate")
    most = Select(column="hate", characters=10_000).rows(of)
    least = Select(column="hate", descending=False, characters=10_000).rows(of)
    luck = Select(characters=10_000).rows(of)
    for found in (most, least, luck):
        assert abs(size[found].sum() - 10_000) <= 100 and (np.diff(found) > 0).all()  # half of the longest row, so 1 %
    assert hate[most].min() > hate[least].max() and abs(hate[luck].mean() - 0.5) < 0.1
    # as much as a filter keeps, at random
    kept = of.where("hate < 0.3")
    like = Select(like="hate < 0.3").rows(of)
    assert abs(size[like].sum() - size[kept.rows].sum()) <= 100 and abs(hate[like].mean() - 0.5) < 0.1
    # draws depend on the seed and the id, not on the place of a row
    other = of.take(np.arange(500)[::-1])
    assert {*other.numpy("id")[Select(characters=10_000).rows(other)]} == {*of.numpy("id")[luck]}
    assert {*Select(characters=10_000, seed=1).rows(of)} != {*luck}


def test_hours_of_speech_as_a_run_hears_them() -> None:
    of = speech([30.0] * 240, snr=[float(i) for i in range(240)])
    assert len(Select(column="snr", hours=0.5).rows(of)) == 60
    assert Select(column="snr", hours=0.5).rows(of).min() == 180
    assert len(Select(column="snr", hours=0.5).rows(of, longest=15.0)) == 120
    assert len(Select(like="snr < 10").rows(of)) == 10


def test_what_cannot_be_selected_is_told() -> None:
    of, told = speech([3600.0] * 3, snr=[1.0, None, 3.0], name=["a", "b", "c"]), text([(10, 1)])
    for select, table, said in (
        (Select(hours=2.6, column="snr"), of, r"2\.6 h were asked for, the rows of 'spoken' with a snr have 2"),
        (Select(characters=10), of, "'spoken' is measured in hours"),
        (Select(hours=1), told, "'made' is measured in characters"),
        (Select(), told, "has no budget"),
        (Select(column="snrr", hours=1), of, "no column 'snrr'. Did you mean 'snr'"),
        (Select(column="name", hours=1), of, "holds string, not numbers"),
        (Select(like="snrr > 1"), of, "there is no column 'snrr'"),
        (Select(like="snr > 9"), of, "no row of 'spoken' has snr > 9"),
    ):
        with pytest.raises(OvertureError, match=said):
            select.rows(table)
    with pytest.raises(OvertureError, match="a budget is one of"):
        Select(hours=1, like="true")
    with pytest.raises(OvertureError, match="above 0"):
        Select(hours=0)
    assert Select(hours=2.2, column="snr").rows(of).tolist() == [0, 2]  # two hours are nearer than what is not there
    assert np.isnan(numbers(of, "snr")[1])


def test_it_survives_json() -> None:
    of = Select(column="snr", hours=1.5, seed=2)
    assert from_dict(Select(), to_dict(of)) == of
