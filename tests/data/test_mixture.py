"""overture.data.mixture: shares by hours, epochs drawn exactly and anew, equal hours, nobody guessed."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from overture import outcome
from overture.config import from_dict, override, to_dict
from overture.data.mixture import Epochs, Fixed, Matched, Mix, Mixture, classes, composition, matched, rows_of, sizes
from overture.data.plan import BatchPlan, Position
from overture.data.table import Table
from overture.errors import OvertureError
from overture.recipes import get
from overture.run import Data, Run
from overture.train.engine import Engine
from overture.train.examples import Training
from overture.train.loop import train
from overture.train.track import read_metrics

from ..laws.conftest import tensors

SIZES = {"big": (400, 9.0), "small": (900, 1.0), "rare": (10, 3.6)}  # rows and seconds of each: 1, .25 and .01 h
HOURS = {"big": 1.0, "rare": 0.01, "small": 0.25}


def table(**sizes: tuple[int, float]) -> Table:
    values = [v for v, (n, _) in (sizes or SIZES).items() for _ in range(n)]
    seconds = [s for n, s in (sizes or SIZES).values() for _ in range(n)]
    columns = {
        "id": [f"r{i}" for i in range(len(values))],
        "audio": ["x.wav"] * len(values),
        "duration": seconds,
        "language": values,
        "speaker": [f"{v}{i % 7}" for i, v in enumerate(values)],
    }
    return Table(pa.table(columns), name="made", root=Path())


def epochs(alpha: float, of: Table, seed: int = 0) -> Epochs:
    return Epochs(Mixture(column="language", alpha=alpha), of, of.numpy("duration"), seed)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.7, 1.0])
def test_shares_and_epochs_are_exactly_those_of_the_formula(alpha: float) -> None:
    of = table()
    total = sum(HOURS.values())
    weight = {v: (h / total) ** alpha for v, h in HOURS.items()}
    p = {v: w / sum(weight.values()) for v, w in weight.items()}
    drawn = epochs(alpha, of)
    assert drawn.values == ["big", "rare", "small"]
    assert drawn.shares.tolist() == pytest.approx([p["big"], p["rare"], p["small"]], rel=1e-12)
    assert drawn.shares.sum() == pytest.approx(1)
    languages = of.numpy("language")
    for epoch in range(3):
        rows = drawn(epoch)
        assert len(rows) == drawn.counts.sum()
        for value, (count, seconds) in SIZES.items():
            ratio = p[value] * total / HOURS[value]
            own = rows[languages[rows] == value]
            assert len(own) == max(1, round(ratio * count))
            # every row of a language is as long as the others, so its hours are exact but for half a row
            assert abs(len(own) * seconds / 3600 - p[value] * total) <= seconds / 3600 / 2 + 1e-9
            if ratio < 1 - 1e-9:  # without replacement
                assert len(set(own)) == len(own)
            elif len(own) > 5:  # with
                assert len(set(own)) < len(own)


def test_the_ends_are_all_alike_and_as_the_corpus_is() -> None:
    assert epochs(0.0, table()).shares.tolist() == pytest.approx([1 / 3] * 3)
    natural = epochs(1.0, table())
    assert natural.ratios.tolist() == pytest.approx([1, 1, 1])
    assert natural.counts.tolist() == [SIZES[v][0] for v in natural.values]


def test_alpha_is_on_hours_and_not_on_utterances_and_not_inverted() -> None:
    """`small` has the most rows and a quarter of the hours of `big`."""
    for alpha in (0.5, 0.7):
        big, _, small = epochs(alpha, table()).shares
        assert big / small == pytest.approx(4**alpha)
    rare = [epochs(a, table()).shares[1] for a in (1.0, 0.7, 0.5, 0.0)]
    assert rare == sorted(rare)  # the lower, the more of what is rare


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.floats(0.5, 15)), min_size=1, max_size=6),
    st.floats(0, 1),
    st.integers(0, 9),
    st.integers(0, 99),
)
def test_an_epoch_is_a_pure_function_and_of_its_own_rows(
    sizes: list[tuple[int, float]], alpha: float, seed: int, epoch: int
) -> None:
    of = table(**{f"l{i}": size for i, size in enumerate(sizes)})
    a, b = epochs(alpha, of, seed), epochs(alpha, of, seed)
    a(epoch + 1)  # whatever was asked for before
    assert np.array_equal(a(epoch), b(epoch))
    codes = classes(of, "language")[1]
    assert np.bincount(codes[a(epoch)], minlength=len(sizes)).tolist() == a.counts.tolist()


def test_epochs_and_seeds_differ() -> None:
    of = table()
    a = epochs(0.7, of)
    assert not np.array_equal(a(0), a(1)) and not np.array_equal(a(0), epochs(0.7, of, seed=1)(0))
    seen = {int(r) for e in range(12) for r in a(e)}
    assert len(seen) == len(of)  # nothing is left out for ever


@pytest.mark.parametrize("nothing", [None, float("nan"), "", "  "])
def test_rows_without_a_value_are_a_class_of_their_own(nothing: Any) -> None:
    of = table(f=(60, 5.0), m=(90, 5.0), u=(300, 5.0))
    values = [nothing if v == "u" else v for v in of.numpy("language")]
    column = pa.array([str(v) if isinstance(v, float) else v for v in values])
    if isinstance(nothing, float):
        column = pa.array([{"f": 1.0, "m": 2.0}.get(v, nothing) for v in values])
    of = Table(of.columns.set_column(3, "language", column), name="made", root=Path())
    f, m = ("1.0", "2.0") if isinstance(nothing, float) else ("f", "m")
    assert classes(of, "language")[0] == [f, m, None]
    drawn = epochs(0.0, of)
    assert drawn.shares.tolist() == pytest.approx([1 / 3] * 3)
    for value, first, last in ((f, 0, 60), (m, 60, 150)):
        rows = matched(of, "language", [value], 0.06)
        assert first <= rows.min() and rows.max() < last
    with pytest.raises(OvertureError, match="no row of 'made' has language='None'"):
        matched(of, "language", ["None"], 0.01)


def varied(seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    count = 3000
    columns = {
        "id": [f"r{i}" for i in range(count)],
        "audio": ["x.wav"] * count,
        "duration": rng.gamma(3, 2, count) + 0.5,
        "gender": [[None, "female", "male"][i] for i in rng.integers(0, 3, count)],
        "speaker": [f"s{i}" for i in rng.integers(0, 40, count)],
    }
    columns["duration"][np.array(columns["gender"]) == "male"] *= 1.7  # another style: longer utterances
    return Table(pa.table(columns), name="varied", root=Path())


@pytest.mark.parametrize("hours", [0.05, 0.3, 1.0])
def test_hours_are_equal_to_one_percent(hours: float) -> None:
    of = varied()
    seconds, gender = of.numpy("duration"), of.numpy("gender")
    rows = matched(of, "gender", ("female", "male"), hours, seed=4)
    assert np.array_equal(rows, np.unique(rows)) and {*gender[rows]} == {"female", "male"}
    found = [float(seconds[rows[gender[rows] == v]].sum()) / 3600 for v in ("female", "male")]
    assert abs(found[0] - found[1]) <= 0.01 * hours and all(abs(h - hours) <= 0.005 * hours for h in found)
    assert np.array_equal(rows, matched(of, "gender", ("female", "male"), hours, seed=4))
    assert not np.array_equal(rows, matched(of, "gender", ("female", "male"), hours, seed=5))
    # what is drawn of one value does not depend on which others are
    alone = matched(of, "gender", ("female",), hours, seed=4)
    assert np.array_equal(alone, rows[gender[rows] == "female"])


def test_a_draw_favours_neither_long_nor_short_utterances() -> None:
    of = varied()
    seconds = of.numpy("duration")[of.numpy("gender") == "female"]
    means = [of.numpy("duration")[matched(of, "gender", ("female",), 0.3, seed=s)].mean() for s in range(20)]
    assert np.mean(means) == pytest.approx(seconds.mean(), rel=0.03)


def test_hours_are_of_what_an_epoch_hears() -> None:
    of = varied()
    rows = matched(of, "gender", ("female", "male"), 0.5, longest=6.0)
    seconds, gender = np.minimum(of.numpy("duration"), 6.0), of.numpy("gender")
    assert all(abs(seconds[rows[gender[rows] == v]].sum() / 1800 - 1) <= 0.005 for v in ("female", "male"))


def test_what_cannot_be_matched_is_said() -> None:
    of = varied()
    for values, hours, said in (
        (("femal",), 1.0, r"gender='femal'\. Did you mean 'female'"),
        (("female",), 100.0, r"100 h of gender='female' were asked for, 'varied' has 1\."),
        (("female",), 0.0003, "come no nearer than"),
        ((), 1.0, "name one value or more"),
        (("male", "male"), 1.0, "each once"),
        (("male",), 0.0, "hours above 0"),
    ):
        with pytest.raises(OvertureError, match=said):
            matched(of, "gender", values, hours)
    with pytest.raises(OvertureError, match="no column 'gendr'"):
        matched(of, "gendr", ("male",), 1.0)
    with pytest.raises(OvertureError, match=r"mix\.alpha=1\.5: between 0"):
        Mixture(alpha=1.5)
    with pytest.raises(OvertureError, match="have no length"):
        epochs(0.5, table(a=(3, 1.0), b=(2, 0.0)))


def test_a_plan_deals_out_what_is_drawn() -> None:
    of = table()
    lengths = of.numpy("duration")
    plans = [BatchPlan(lengths, update=60, micro=60, seed=2, draw=epochs(0.5, of, 2)) for _ in range(2)]
    plans[1].updates(5)
    for epoch in (0, 1, 5):
        updates = plans[0].updates(epoch)
        assert all(np.array_equal(a, b) for a, b in zip(updates, plans[1].updates(epoch), strict=True))
        assert sorted(np.concatenate(updates)) == sorted(epochs(0.5, of, 2)(epoch))
        assert all(len(rows) * lengths[rows].max() <= 60 for rows in updates)
        assert 0 <= plans[0].padding(epoch) < 0.2
    at, seen = Position(), 0
    while at.epoch < 3:
        seen, at = seen + 1, at.next(plans[0])
    assert seen == sum(len(plans[0].updates(e)) for e in range(3))


def test_the_largest_update_is_planned_also_when_no_epoch_has_drawn_it_yet() -> None:
    of = table(common=(4000, 2.0), long=(1, 15.0))
    plan = BatchPlan(of.numpy("duration"), update=60, micro=60, draw=lambda epoch: np.arange(100))
    assert of.numpy("duration")[plan.largest()].max() == 15.0


MIXED = Mixture(column="language", alpha=0.3)
WHERE = "(speaker in ('joe', 'bob', 'bud') or (language = 'fr-CA' and kind = 'letter')) and duration between 0.6 and 2"


def tiny(**changes: Any) -> Run:
    run = override(get("tera:tiny"), {"loop.updates": "6", "loop.checkpoint_every": "2", "loop.log_every": "1"})
    return replace(run, data=replace(run.data, **{"where": WHERE, **changes}))


def test_a_mixed_run_stopped_and_resumed_is_never_stopped(tmp_path: Path) -> None:
    run = tiny(mix=MIXED)
    run = replace(run, plan=replace(run.plan, update=60.0, micro=60.0))

    class Killed(Exception):
        pass

    def trained(folder: Path, die: int | None = None) -> dict[str, Any]:
        def on_record(record: dict[str, Any]) -> None:
            if record["kind"] == "checkpoint" and record["update"] == die:
                raise Killed

        with Engine.start() as engine:
            if die is None:
                train(run, folder, engine=engine, on_record=on_record)
            else:
                with pytest.raises(Killed):
                    train(run, folder, engine=engine, on_record=on_record)
        return tensors(folder)

    whole = trained(tmp_path / "whole")
    assert max(r["epoch"] for r in read_metrics(tmp_path / "whole") if r["kind"] == "update") > 0  # over an epoch's end
    trained(tmp_path / "parts", 2)
    trained(tmp_path / "parts", 4)
    parts = trained(tmp_path / "parts")
    assert [n for n in whole if not torch.equal(whole[n], parts[n])] == []
    # what was heard stands in run.json
    told = json.loads((tmp_path / "parts" / "run.json").read_text())["data"]["composition"]
    table_, _ = rows_of(run.data)
    values = sorted(set(table_.numpy("language")))
    assert told == composition(run.data, table_) and [c["value"] for c in told] == values and len(values) > 1
    assert sum(c["share"] for c in told) == pytest.approx(1)
    by_hand = Epochs(MIXED, table_, np.minimum(table_.numpy("duration"), run.data.max_seconds), run.seed)
    assert [c["drawn"] for c in told] == by_hand.counts.tolist()
    plan = Training.prepare(run).plan
    assert sorted(np.concatenate(plan.updates(1))) == sorted(by_hand(1))


def test_matched_rows_are_what_is_trained_on(tmp_path: Path) -> None:
    voices = Table.open("embedded", WHERE).numpy("speaker")
    values, counts = np.unique(voices.astype(str), return_counts=True)
    two = tuple(str(v) for v in values[np.argsort(-counts)][:2])
    few = Matched(column="speaker", values=two, hours=0.006, seed=1)
    run = tiny(matched=few, min_seconds=0.7)
    table_, too_short = rows_of(run.data)
    assert {*table_.numpy("speaker")} == set(two) and too_short > 0
    lines = composition(run.data, table_)
    assert [c["value"] for c in lines] == sorted(two) and all(c["speakers"] == 1 for c in lines)
    assert all(c["hours"] == pytest.approx(0.006, rel=0.005) for c in lines) and "share" not in lines[0]
    training = Training.prepare(run)
    assert np.array_equal(training.examples.table.rows, table_.rows) and training.examples.too_short == too_short
    both = composition(replace(run.data, mix=MIXED), table_)
    assert [c["column"] for c in both][:3] == ["speaker", "speaker", "language"] and "share" in both[-1]
    with Engine.start() as engine:
        ended = train(replace(run, loop=replace(run.loop, updates=1)), tmp_path / "run", engine=engine)
    assert ended.finished and outcome.same_data(run, tmp_path / "run")
    assert not outcome.same_data(tiny(), tmp_path / "run")


def test_they_are_part_of_a_run_and_set_from_the_command_line() -> None:
    run = tiny()
    mixed = override(run, {"data.mix.alpha": "0.5"})
    assert mixed.data.mix == Mixture(alpha=0.5) and mixed.fingerprint != run.fingerprint
    parted = override(
        run,
        {"data.matched.column": "language", "data.matched.values": '["en", "fr"]', "data.matched.hours": "0.01"},
    )
    assert parted.data.matched == Matched(column="language", values=("en", "fr"), hours=0.01)
    assert from_dict(run, json.loads(json.dumps(to_dict(parted)))) == parted
    whole = override(run, {"data.mix": '{"column": "speaker"}'})
    assert whole.data.mix == Mixture(column="speaker") and override(whole, {"data.mix": "none"}).data == run.data
    with pytest.raises(OvertureError, match=r"no field 'alhpa'\. Did you mean 'data\.mix\.alpha'"):
        override(run, {"data.mix.alhpa": "0.5"})
    assert composition(Data(), table()) == []


def by_size(of: Table, rows: np.ndarray, column: str = "language") -> dict[str, float]:
    """Share of the seconds of `rows` that each value has."""
    seconds, values = of.numpy("duration")[rows], of.numpy(column)[rows]
    return {v: float(seconds[values == v].sum() / seconds.sum()) for v in np.unique(of.numpy(column))}


# LLaMA's proportions with the new domain in place of its web part, as stability-gap's strategy III
LLAMA = (("domain", 0.82), ("code", 0.045), ("wiki", 0.045), ("books", 0.045), ("arxiv", 0.025), ("forum", 0.02))


@pytest.mark.parametrize("redraw", [True, False])
def test_fixed_shares_are_exact_in_every_epoch_and_drawn_anew_or_once(redraw: bool) -> None:
    rng = np.random.default_rng(0)
    names = [name for name, _ in LLAMA]
    value = rng.choice(names, 6000, p=[0.6, 0.1, 0.1, 0.1, 0.05, 0.05])
    columns = {
        "id": [str(i) for i in range(6000)],
        "audio": ["x"] * 6000,
        "duration": rng.gamma(3, 2, 6000),
        "source": value,
    }
    of = Table(pa.table(columns), name="made", root=Path())
    epochs = Epochs(Fixed(shares=LLAMA, redraw=redraw), of, of.numpy("duration"), 5)
    seconds = of.numpy("duration")
    drawn = [epochs(epoch) for epoch in range(4)]
    for rows in drawn:
        assert abs(seconds[rows].sum() - seconds.sum()) <= len(LLAMA) * seconds.max() / 2
        found = by_size(of, rows, "source")
        for name, share in LLAMA:
            # of its target no further than half a row
            assert (
                abs(found[name] * seconds[rows].sum() - share * seconds.sum())
                <= seconds[value == name].max() / 2 + 1e-6
            )
            assert found[name] == pytest.approx(share, abs=0.001)
    same = [np.array_equal(drawn[0], rows) for rows in drawn[1:]]
    assert same == [not redraw] * 3
    # what is heard more than once is heard as often as the others, to one time
    times = np.bincount(drawn[0][value[drawn[0]] == "domain"], minlength=6000)[value == "domain"]
    assert set(times) <= {1, 2}
    assert np.array_equal(drawn[2], Epochs(Fixed(shares=LLAMA, redraw=redraw), of, seconds, 5)(2))  # pure


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(0.5, 20.0)), min_size=2, max_size=4),
    st.lists(st.integers(0, 10), min_size=4, max_size=4),
    st.integers(0, 3),
)
def test_any_shares_are_met_to_half_a_row(sizes: list[tuple[int, float]], parts: list[int], epoch: int) -> None:
    of = table(**{chr(97 + i): s for i, s in enumerate(sizes)})
    weights = parts[: len(sizes)]
    if not sum(weights):
        return
    shares = tuple((chr(97 + i), w / sum(weights)) for i, w in enumerate(weights))
    rows = Epochs(Fixed(column="language", shares=shares), of, of.numpy("duration"), 1)(epoch)
    total = of.numpy("duration").sum()
    for (name, share), (_, seconds) in zip(shares, sizes):
        heard = of.numpy("duration")[rows[of.numpy("language")[rows] == name]].sum()
        assert abs(heard - share * total) <= seconds / 2 + 1e-6


def test_replay_is_a_share_of_the_old_and_the_rest_as_it_is() -> None:
    of = table(old=(500, 4.0), new=(300, 2.0), newer=(100, 3.0))
    epochs = Epochs(Fixed(column="language", shares=(("old", 0.1),)), of, of.numpy("duration"), 0)
    found = by_size(of, epochs(0))
    assert found["old"] == pytest.approx(0.1, rel=0.01)
    assert found["new"] / found["newer"] == pytest.approx(600 / 300, rel=0.02)
    old = [set(epochs(e)[of.numpy("language")[epochs(e)] == "old"]) for e in range(2)]
    assert old[0] != old[1]


def test_shares_that_are_none_are_told() -> None:
    for shares, said in (
        ((("a", 0.7), ("b", 0.6)), "sum to 1.3"),
        ((("a", -0.1),), "0 or above"),
        ((("a", 0.5), ("a", 0.5)), "each value once"),
    ):
        with pytest.raises(OvertureError, match=said):
            Fixed(shares=shares)
    of = table(a=(3, 1.0), b=(3, 1.0))
    with pytest.raises(OvertureError, match=r"no row has language='aa'"):
        Epochs(Fixed(column="language", shares=(("aa", 0.5),)), of, of.numpy("duration"), 0)
    with pytest.raises(OvertureError, match=r"sum to 0\.5, and no other language is there"):
        Epochs(Fixed(column="language", shares=(("a", 0.25), ("b", 0.25))), of, of.numpy("duration"), 0)


@dataclass(frozen=True, kw_only=True)
class Worst:
    """A toy of Skill-it's update: p ~ sizes exp(rate loss), of the losses as they were last measured."""

    column: str = "language"
    rate: float = 1.0
    exact: bool = True
    redraw: bool = True

    def weights(self, mix: Mix) -> np.ndarray:
        weight = mix.sizes if mix.losses is None else mix.sizes * np.exp(self.rate * mix.losses)
        return np.asarray(weight / weight.sum())


def test_a_rule_may_follow_the_losses() -> None:
    of = table(a=(200, 1.0), b=(400, 1.0), c=(200, 2.0))
    epochs = Epochs(Worst(), of, of.numpy("duration"), 2)
    assert by_size(of, epochs(0)) == pytest.approx({"a": 0.2, "b": 0.4, "c": 0.4})
    losses = {"c": 0.0, "a": float(np.log(3)), "b": 0.0}
    shares = epochs.weights(step=10, losses=losses)  # by name, in whatever order they were measured
    assert shares.tolist() == pytest.approx([0.6 / 1.4, 0.4 / 1.4, 0.4 / 1.4])
    found = by_size(of, epochs(1, shares))
    assert [found[v] for v in "abc"] == pytest.approx(shares.tolist(), abs=1 / 1000)
    # a state that is the same gives the same rows, whatever was drawn before
    again = Epochs(Worst(), of, of.numpy("duration"), 2)
    assert np.array_equal(again(1, again.weights(step=10, losses=losses)), epochs(1, shares))
    with pytest.raises(OvertureError, match=r"losses of \['a'\], but the values of language are"):
        epochs.weights(losses={"a": 1.0})
    with pytest.raises(OvertureError, match="expected 3 shares that sum to 1"):
        epochs.weights(losses={"a": float("nan"), "b": 0.0, "c": 0.0})


def test_a_mixture_counts_in_whatever_sizes_are_given() -> None:
    of = table()
    seconds = of.numpy("duration")
    tokens = np.round(seconds * 1000)
    for rule in (Mixture(alpha=0.4), Fixed(column="language", shares=(("rare", 0.2),))):
        assert np.array_equal(Epochs(rule, of, seconds, 3)(1), Epochs(rule, of, tokens, 3)(1))
    documents = Table(pa.table({"id": ["a", "b"], "text": ["xy", None]}), name="t", root=Path())
    assert sizes(documents).tolist() == [2, 0] and sizes(of, 5.0).max() == 5.0
