"""Classes of frames, from a frozen encoder: frames without a label do not count, test frames reach nothing."""

import numpy as np
import pytest

from overture.errors import OvertureError
from overture.tasks.classify_frames import classify_frames
from overture.tasks.features import Frames

from .conftest import SPOKEN, table

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
