"""Forced alignment against all paths, and on long recordings."""

import itertools

import numpy as np
import pytest

from overture.errors import OvertureError
from overture.recognise import align
from overture.recognise.align import forced, frames_needed


def noise(frames: int, size: int, seed: int = 0) -> np.ndarray:
    return np.log(np.random.default_rng(seed).dirichlet(np.full(size, 0.5), frames)).astype(np.float32)


@pytest.mark.parametrize("ids", [[], [1], [1, 2], [1, 1], [2, 1, 2], [1, 1, 2], [2, 2, 2]])
def test_equals_the_best_of_all_paths(ids):
    for seed in range(4):
        log_probs = noise(6, 3, seed)
        scores = {
            path: sum(float(log_probs[t, c]) for t, c in enumerate(path))
            for path in itertools.product(range(3), repeat=6)
            if [c for c, _ in itertools.groupby(path) if c] == ids
        }
        if not scores:
            assert frames_needed(ids) > 6
            continue
        found = forced(log_probs, ids)
        best = max(scores, key=scores.__getitem__)
        labels = [0, *itertools.chain.from_iterable((i, 0) for i in ids)]
        assert found.total == pytest.approx(scores[best], abs=1e-5)
        assert tuple(labels[s] for s in found.path) == best
        runs = [list(group) for _, group in itertools.groupby(range(6), key=best.__getitem__)]
        spoken = [run for run in runs if best[run[0]]]
        assert found.first.tolist() == [run[0] for run in spoken] and found.last.tolist() == [run[-1] for run in spoken]
        means = [np.mean([log_probs[t, best[t]] for t in run]) for run in spoken]
        assert found.score == pytest.approx(means, abs=1e-5)


def test_planted_times():
    path = [0, 0, 3, 3, 0, 3, 1, 0, 0, 2, 2, 2]
    log_probs = np.log(np.where(np.eye(4)[path] > 0, 0.97, 0.01)).astype(np.float32)
    found = forced(log_probs, [3, 3, 1, 2])
    assert found.first.tolist() == [2, 5, 6, 9] and found.last.tolist() == [3, 5, 6, 11]
    assert found.path.tolist() == [0, 0, 1, 1, 2, 3, 5, 6, 6, 7, 7, 7]
    assert found.score == pytest.approx(np.log([0.97] * 4), abs=1e-5)


def test_long_recordings_are_aligned_in_a_window(monkeypatch):
    draw = np.random.default_rng(0)
    ids = draw.integers(1, 6, 400).tolist()
    path = [c for i in ids for c in [*[i] * draw.integers(1, 3), *[0] * draw.integers(1, 4)]]
    logits = draw.normal(size=(len(path), 6))
    logits[np.arange(len(path)), path] += 4
    log_probs = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
    exact = forced(log_probs, ids)
    monkeypatch.setattr(align, "EXACT", 0)
    monkeypatch.setattr(align, "WINDOW", 40)
    windowed = forced(log_probs, ids)
    assert np.array_equal(windowed.path, exact.path) and windowed.total == pytest.approx(exact.total)
    with pytest.raises(
        OvertureError, match="no probability"
    ):  # half of the text was never said: the window never gets to its end
        forced(log_probs[: len(path) // 2], ids)


def test_what_does_not_fit():
    with pytest.raises(OvertureError, match="3 units need 4 frames, there are 3"):
        forced(noise(3, 3), [1, 1, 2])
    with pytest.raises(OvertureError, match="need 1 frames"):
        forced(noise(0, 3), [])
    with pytest.raises(ValueError, match="between 1 and 2"):
        forced(noise(9, 3), [1, 0])
    with pytest.raises(ValueError, match="between 1 and 2"):
        forced(noise(9, 3), [3])
    impossible = noise(4, 3)
    impossible[:, 2] = -np.inf
    with pytest.raises(OvertureError, match="no probability"):
        forced(impossible, [1, 2])
