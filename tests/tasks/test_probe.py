"""Probes on planted signals: they must find the state, the rate and the alignment, and say what they left out."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from overture.data.table import Table
from overture.errors import OvertureError
from overture.tasks import TASKS, find_task
from overture.tasks.features import Frames
from overture.tasks.metrics import paired_bootstrap
from overture.tasks.probe import _Heads, _scale, classify, classify_frames, transcribe


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def table(n: int, **columns: list[str | None]) -> Table:
    base = {"id": [f"u{i}" for i in range(n)], "audio": ["x.wav"] * n, "duration": [1.0] * n}
    return Table(pa.table(base | columns), name="toy", root=Path())


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


def test_heads_do_not_feel_each_other():
    """A head of the sweep is the head trained alone, and its updates are torch's Adam."""
    torch.manual_seed(0)
    x, y = torch.randn(3, 40, 6), torch.randint(4, (40,))
    swept, alone = _Heads((1e-3, 1e-2), 3, 6, 4, "cpu"), _Heads((1e-2,), 3, 6, 4, "cpu")
    mixture, weight, bias = (v.detach()[0].clone().requires_grad_() for v in alone.values)
    adam = torch.optim.Adam([mixture, weight, bias], lr=1e-2)
    for _ in range(20):
        for heads in (swept, alone):
            logits = heads.logits(x)
            each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.repeat(len(logits)), reduction="none")
            heads.step(each.view(len(logits), -1).mean(1).sum())
        mixed = (mixture.softmax(0)[:, None, None] * x).sum(0)
        adam.zero_grad()
        torch.nn.functional.cross_entropy(mixed @ weight + bias, y).backward()
        adam.step()
    for ours, single, theirs in zip(swept.values, alone.values, (mixture, weight, bias)):
        torch.testing.assert_close(ours[1:], single)
        torch.testing.assert_close(single[0], theirs, atol=1e-5, rtol=1e-4)


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
    mean, inverse = _scale(np.array([[1.0, 5.0]]), np.array([[4.0, 0.0]]))
    assert mean.tolist() == [[1, 5]] and inverse.tolist() == [[0.5, 0]]
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


WORDS = ("anna", "otto", "lea", "mal", "tal", "not")


def spoken(n=60, states=3, dim=12, layer=1, noise=0.3, seed=0):
    """Utterances of toy words, each character two frames and now and then a blank one; only one state carries them."""
    rng = np.random.default_rng(seed)
    letters = sorted(set("".join(WORDS) + " "))
    codes = rng.normal(size=(len(letters) + 1, dim)) * 2
    packed, texts = [], []
    for _ in range(n):
        text = " ".join(rng.choice(WORDS, size=rng.integers(1, 4)))
        path = []
        for c in text:
            path += [letters.index(c) + 1] * 2 + [0] * (1 + int(rng.integers(2)))
        x = rng.normal(size=(len(path), states, dim)) * noise
        x[:, layer] += codes[path]
        packed.append((x * np.array([30, 1, 0.1])[:states, None]).astype(np.float16))
        texts.append(text)
    lengths = np.array([len(p) for p in packed])
    starts = np.cumsum(lengths) - lengths
    rows = table(n, text=texts, speaker=[f"s{i % 2}" for i in range(n)])
    return Frames(np.concatenate(packed), starts, lengths, 50.0, 1), rows


SPOKEN = {"train": np.arange(40), "dev": np.arange(40, 48), "test": np.arange(48, 60)}


def test_ctc_learns_a_planted_alignment():
    frames, rows = spoken()
    result = transcribe(frames, rows, **SPOKEN)
    assert result.metric == "cer" and result.value < 0.02 and np.argmax(result.layer_weights) == 1
    assert result.infeasible == [] and result.dev[result.rate] == min(result.dev.values())
    back = result.predictions.to_pylist()
    assert [p["reference"] for p in back] == [rows.row(i)["text"] for i in SPOKEN["test"]]
    assert sum(p["errors"] for p in back) / sum(p["total"] for p in back) == result.value
    again = transcribe(frames, rows, **SPOKEN)
    assert again.layer_weights == result.layer_weights and again.predictions.equals(result.predictions)


def test_ctc_says_what_it_left_out_and_scores_every_test_row():
    frames, rows = spoken()
    texts = list(rows.numpy("text"))
    texts[3] = "a" * 400
    texts[41] = "l" * 400
    texts[50] = "anna ж"  # a letter training never saw
    texts[51] = ""
    result = transcribe(frames, table(60, text=texts), **SPOKEN)
    assert [r.id for r in result.infeasible] == ["u3", "u41"] and result.infeasible[0].needed == 799
    back = result.predictions.to_pylist()
    assert len(back) == 12 and back[2]["reference"] == "anna ж" and back[2]["errors"] >= 1
    assert back[3]["total"] == 0 and back[3]["errors"] == len(back[3]["hypothesis"]) > 0


def test_ctc_at_a_frame_rate_too_low():
    frames, rows = spoken()
    short = Frames(frames.packed, frames.starts, np.full(60, 2), 2.0, 25)
    with pytest.raises(OvertureError, match=r"all 40 training rows have too few frames at 2 Hz"):
        transcribe(short, rows, **SPOKEN)


NAMES = ("A", "B", "C", "D", "E", "SIL")


def framed(n=60, states=3, dim=12, layer=1, noise=0.5, order=None, seed=0):
    """Utterances of runs of classes, every seventh frame without a label and nothing in it; only one state carries them.

    `order`: in which order the utterances lie in the cache.
    """
    rng = np.random.default_rng(seed)
    codes = rng.normal(size=(len(NAMES), dim)) * 2
    packed, labels = [], []
    for _ in range(n):
        ids = np.repeat(rng.integers(len(NAMES), size=rng.integers(2, 8)), 6)
        x = rng.normal(size=(len(ids), states, dim)) * noise
        x[:, layer] += codes[ids]
        x[::7] = 30 * rng.normal(size=x[::7].shape)  # a probe trained on these would be lost
        ids[::7] = -1
        packed.append((x * np.array([30, 1, 0.1])[:states, None]).astype(np.float16))
        labels.append(ids)
    order = np.arange(n) if order is None else order
    lengths, starts = np.array([len(p) for p in packed]), np.zeros(n, np.int64)
    starts[order] = np.cumsum(lengths[order]) - lengths[order]
    rows = table(n, text=[f"t{i}" for i in range(n)], speaker=[f"s{i % 2}" for i in range(n)])
    return Frames(np.concatenate([packed[i] for i in order]), starts, lengths, 100.0, 1), rows, labels


def test_frame_classes_are_learnt_and_frames_without_a_label_do_not_count():
    frames, rows, labels = framed()
    result = classify_frames(frames, rows, labels=labels, classes=NAMES, **SPOKEN)
    assert result.metric == "accuracy" and result.value > 0.97 and np.argmax(result.layer_weights) == 1
    known = [int((labels[i] >= 0).sum()) for i in SPOKEN["test"]]
    assert result.counts.totals.tolist() == known and result.counts.value == result.value
    assert sum(r.total for r in result.by_group if r.column == "speaker") == sum(known)
    back = result.predictions.to_pylist()
    assert [p["id"] for p in back] == [f"u{i}" for i in SPOKEN["test"]] and [p["total"] for p in back] == known
    for p in back:
        pairs = [[k.split(":") for k in p[side].split()] for side in ("reference", "hypothesis")]
        said, heard = ([name for name, count in runs for _ in range(int(count))] for runs in pairs)
        assert len(said) == p["total"] and sum(a == b for a, b in zip(said, heard)) == p["correct"]
    silent = [np.full_like(x, -1) if i == 50 else x for i, x in enumerate(labels)]  # an utterance with no label at all
    without = classify_frames(frames, rows, labels=silent, classes=NAMES, **SPOKEN)
    assert (
        without.counts.totals[2] == 0 == without.counts.events[2] and without.predictions["reference"][2].as_py() == ""
    )
    assert without.dev == result.dev and without.counts.totals.sum() == sum(known) - known[2]


def test_frame_classes_without_signal_are_chance():
    frames, rows, labels = framed(noise=200)
    result = classify_frames(frames, rows, labels=labels, classes=NAMES, **SPOKEN)
    assert result.value < 0.35


def test_frame_classes_do_not_depend_on_where_utterances_lie():
    frames, rows, labels = framed(noise=3.0)
    given = {"labels": labels, "classes": NAMES, "epochs": 5, "epoch_frames": 512, "batch": 64}
    a = classify_frames(frames, rows, **given, **SPOKEN)
    other, _, _ = framed(noise=3.0, order=np.random.default_rng(1).permutation(60))
    backwards = {k: v[::-1] for k, v in SPOKEN.items()}
    for b in (
        classify_frames(frames, rows, **given, **SPOKEN),
        classify_frames(other, rows, **given, **SPOKEN),
    ):
        assert a.layer_weights == b.layer_weights and a.dev == b.dev and a.predictions.equals(b.predictions)
    c = classify_frames(frames, rows, **given, **backwards)
    assert c.dev == a.dev and c.predictions.to_pylist() == a.predictions.to_pylist()[::-1]
    assert classify_frames(frames, rows, **given, **SPOKEN, seed=1).layer_weights != a.layer_weights


def test_test_frames_do_not_reach_training():
    frames, rows, labels = framed(noise=3.0)
    given = {"classes": NAMES, "epochs": 5}
    a = classify_frames(frames, rows, labels=labels, **given, **SPOKEN)
    changed = frames.packed.copy()
    changed[frames.starts[SPOKEN["test"][0]] :] = 7
    other = [x if i < 48 else np.zeros_like(x) for i, x in enumerate(labels)]
    spoilt = Frames(changed, frames.starts, frames.lengths, 100.0, 1)
    b = classify_frames(spoilt, rows, labels=other, **given, **SPOKEN)
    assert a.layer_weights == b.layer_weights and a.dev == b.dev and a.value != b.value


def test_what_a_user_can_get_wrong_with_frames():
    frames, rows, labels = framed(n=60)
    given = {"classes": NAMES, "epochs": 1}
    nothing = [np.full_like(x, -1) if 40 <= i < 48 else x for i, x in enumerate(labels)]
    with pytest.raises(OvertureError, match="dev part has no labelled frame"):
        classify_frames(frames, rows, labels=nothing, **given, **SPOKEN)
    with pytest.raises(OvertureError, match=r"one class only \('A'\)"):
        classify_frames(frames, rows, labels=[np.zeros_like(x) for x in labels], **given, **SPOKEN)
    with pytest.raises(OvertureError, match="twice"):
        classify_frames(frames, rows, labels=labels, **given, **SPOKEN | {"dev": np.arange(39, 48)})
    with pytest.raises(ValueError, match="row 0: "):
        classify_frames(frames, rows, labels=[labels[0][:-1], *labels[1:]], **given, **SPOKEN)
    with pytest.raises(ValueError, match="label 5 of 3 classes"):
        classify_frames(frames, rows, labels=labels, classes=NAMES[:3], **SPOKEN)
    # a class that only the test has is an error, not a crash
    new = [np.where(x >= 0, 0 if i % 2 else 1, -1) if i < 48 else np.where(x >= 0, 5, -1) for i, x in enumerate(labels)]
    assert classify_frames(frames, rows, labels=new, **given, **SPOKEN).value == 0


def test_tasks_are_consistent():
    for name, task in TASKS.items():
        assert task.name == name and task.target in task.columns
        assert task.higher_is_better == (task.metric == "accuracy") == (task.features in ("pooled", "aligned"))
        assert not set(task.shared) & set(task.disjoint + task.disjoint_if_possible)
    with pytest.raises(OvertureError, match="'speaker-id'"):
        find_task("speakerid")


def test_listing_tasks_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, overture.tasks; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
