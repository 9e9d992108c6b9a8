"""Classes of utterances, from a frozen encoder: the probe finds the state and the rate, and test rows reach nothing."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from overture.errors import OvertureError
from overture.tasks.classify import classify
from overture.tasks.metrics import paired_bootstrap

from .conftest import table


def planted(n=400, classes=8, states=5, dim=24, layer=2, signal=2.5, seed=0):
    """Only one state carries the class; the states differ in scale by orders of magnitude."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    x = rng.normal(size=(n, states, dim))
    x[:, layer] += signal * rng.normal(size=(classes, dim))[y]
    x = (x * np.logspace(2, -2, states)[:, None]).astype(np.float32)
    names = [f"word {i}" for i in y]
    rows = table(
        n,
        text=names,
        gender=[["female", "male", None][i % 3] for i in range(n)],
        speaker=[f"s{i % 5}" for i in range(n)],
    )
    return x, rows


PARTS = {"train": np.arange(240), "dev": np.arange(240, 320), "test": np.arange(320, 400)}


def test_finds_the_state_that_carries_the_class():
    x, rows = planted()
    result = classify(x, rows, target="text", **PARTS)
    assert result.value == 1.0 and result.metric == "accuracy" and result.interval == (1.0, 1.0)
    assert np.argmax(result.layer_weights) == 2 and sum(result.layer_weights) == pytest.approx(1)
    x, rows = planted(layer=4)  # the faintest of all: 1e-2 beside 1e2
    result = classify(x, rows, target="text", **PARTS)
    assert result.value == 1.0 and np.argmax(result.layer_weights) == 4


def test_no_signal_gives_chance():
    x, rows = planted(signal=0.0, classes=2)
    result = classify(x, rows, target="text", **PARTS)
    assert result.interval[0] < 0.5 < result.interval[1]


def test_sweep_picks_the_sane_rate():
    x, rows = planted(signal=0.6)
    result = classify(x, rows, target="text", rates=(1e-7, 1e-2, 1e3), epochs=30, **PARTS)
    assert result.rate == 1e-2 and not result.rate_at_edge
    assert result.dev[1e-2] > max(result.dev[1e-7], result.dev[1e3]) and max(result.dev_curve) == result.dev[1e-2]


def test_a_rate_that_diverges_harms_no_other():
    x, rows = planted()
    result = classify(x, rows, target="text", rates=(1e-2, 1e38), **PARTS)
    assert result.dev == {1e-2: 1.0, 1e38: None} and result.value == 1.0


def test_equal_to_the_bit():
    x, rows = planted(signal=0.5)
    a, b = (classify(x, rows, target="text", epochs=20, seed=3, **PARTS) for _ in range(2))
    assert a.layer_weights == b.layer_weights and a.dev == b.dev and a.predictions.equals(b.predictions)
    c = classify(x, rows, target="text", epochs=20, seed=4, **PARTS)
    assert c.layer_weights != a.layer_weights


def test_test_rows_do_not_reach_training():
    x, rows = planted(signal=0.5)
    a = classify(x, rows, target="text", epochs=10, **PARTS)
    x[PARTS["test"]] = 1e4
    b = classify(x, rows, target="text", epochs=10, **PARTS)
    assert a.layer_weights == b.layer_weights and a.dev == b.dev


def test_groups_and_predictions_sum_to_the_whole(tmp_path):
    x, rows = planted(signal=0.5)
    result = classify(x, rows, target="text", epochs=10, **PARTS)
    assert {r.column for r in result.by_group} == {"gender", "speaker"}
    for column in ("gender", "speaker"):
        here = [r for r in result.by_group if r.column == column]
        assert sum(r.utterances for r in here) == 80
        assert sum(r.value * r.total for r in here) / 80 == pytest.approx(result.value)
    result.write_predictions(tmp_path / "predictions.parquet")
    back = pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    assert [p["id"] for p in back] == [f"u{i}" for i in PARTS["test"]]
    assert all(p["correct"] == (p["reference"] == p["hypothesis"]) for p in back)
    assert sum(p["correct"] for p in back) / 80 == result.value
    assert paired_bootstrap(result.counts, result.counts).p == 1


def test_constant_dimensions_are_left_out():
    x, rows = planted()
    x[:, :, 0] = 7.0
    x[PARTS["test"], :, 0] = 1e6  # varies in test only: nothing was learnt about it
    assert classify(x, rows, target="text", **PARTS).value == 1.0


def test_what_a_user_can_get_wrong():
    x, rows = planted()
    with pytest.raises(OvertureError, match="twice"):
        classify(x, rows, target="text", **PARTS | {"test": np.arange(319, 400)})
    with pytest.raises(OvertureError, match="dev part has no rows"):
        classify(x, rows, target="text", **PARTS | {"dev": np.array([], int)})
    with pytest.raises(OvertureError, match=r"row 'u321'.*'word 1', which no training row has"):
        classify(
            x, rows, target="text", **PARTS | {"train": np.flatnonzero(np.arange(240) % 8 != 1), "dev": np.array([240])}
        )
    with pytest.raises(OvertureError, match=r"row 'u2' .*has no gender"):
        classify(x, rows, target="gender", **PARTS)
    with pytest.raises(OvertureError, match="nothing to tell apart"):
        classify(x, table(400, text=["same"] * 400), target="text", **PARTS)
    with pytest.raises(OvertureError, match="diverged"):
        classify(x, rows, target="text", epochs=2, rates=(1e37, 1e38), **PARTS)
