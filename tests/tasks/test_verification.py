"""overture.tasks.verification: error rates of planted scores, counted by hand, and speakers as units."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from overture.data.batch import States
from overture.data.features import LogMel
from overture.data.table import Table
from overture.errors import OvertureError
from overture.models.speaker import SpeakerLstm
from overture.study import Trial
from overture.tasks import outside
from overture.tasks.verification import Embedder, Trials, equal_error, vectors, verify
from overture.trials import Labelled

from .conftest import table

ROWS: dict[str, Any] = {"dev": np.arange(60), "test": np.arange(60, 160)}


def voices(
    speakers: int, each: int, noise: float, *, seed: int = 0, dim: int = 16
) -> tuple[np.ndarray, list[str | None]]:
    """Recordings of `speakers` voices, side by side, `noise` times as far apart as voices are."""
    rng = np.random.default_rng(seed)
    own = np.repeat(rng.normal(size=(speakers, dim)), each, axis=0)
    return own + noise * rng.normal(size=own.shape), [f"s{i}" for i in range(speakers) for _ in range(each)]


def test_speakers_apart_have_no_error_and_noise_has_half() -> None:
    x, names = voices(16, 10, 0.05)
    found = verify(x, table(160, speaker=names), target="speaker", **ROWS)
    assert found.value == found.eer == 0.0 and found.dev == {found.rate: 0.0}
    assert found.interval == found.eer_interval == (0.0, 0.0)
    x = np.random.default_rng(1).normal(size=(160, 64))
    found = verify(x, table(160, speaker=names), target="speaker", **ROWS)
    assert abs(found.value - 0.5) < 0.05 and abs(found.eer - 0.5) < 0.05
    assert found.eer_interval[0] < 0.5 < found.eer_interval[1]


def test_one_vector_for_all_is_half_wrong() -> None:
    _, names = voices(16, 10, 1.0)
    found = verify(np.ones((160, 4)), table(160, speaker=names), target="speaker", **ROWS)
    assert found.value == 0.5 and found.eer == pytest.approx(0.5)
    silent = verify(
        np.zeros((160, 4)), table(160, speaker=names), target="speaker", **ROWS
    )  # all ReLUs of a d-vector at 0
    assert silent.value == 0.5


def slow(x: np.ndarray, names: Any, threshold: float) -> dict[str, tuple[float, float]]:
    """Pair by pair: the shares refused and accepted of each speaker's trials."""
    wrong: dict[str, tuple[list[float], list[float]]] = {n: ([], []) for n in names}
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            if i != j:
                cosine = float(x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]))
                wrong[a][a != b].append(float(cosine >= threshold if a != b else cosine < threshold))
    return {n: (float(np.mean(r)), float(np.mean(a))) for n, (r, a) in wrong.items()}


def test_each_speaker_is_scored_pair_by_pair_at_the_threshold_of_others() -> None:
    x, names = voices(9, 4, 1.2)
    x, names = np.delete(x, [20, 21], axis=0), names[:20] + names[22:]  # one speaker has two recordings
    rows: dict[str, Any] = {"dev": np.arange(16), "test": np.arange(16, 34)}
    found = verify(x, table(34, speaker=names), target="speaker", **rows)
    refused, accepted = (np.array(list(slow(x[:16], names[:16], found.rate).values())).mean(0)).tolist()
    assert (
        abs(refused - accepted) < 0.1
        and min(refused, accepted) - 1e-9 <= found.dev[found.rate] <= max(refused, accepted) + 1e-9
    )
    expected = slow(x[16:], names[16:], found.rate)
    said = found.predictions.to_pydict()
    assert said["id"] == ["s4", "s5", "s6", "s7", "s8"] and said["reference"] == ["4", "2", "4", "4", "4"]
    for name, a, b, wrong in zip(said["id"], said["refused"], said["accepted"], said["wrong"], strict=True):
        assert (a, b) == pytest.approx(expected[name]) and wrong == pytest.approx(sum(expected[name]) / 2)
    assert found.value == pytest.approx(np.mean([sum(e) / 2 for e in expected.values()])) and 0 < found.value < 0.5
    assert found.interval is not None and found.interval[0] <= found.value <= found.interval[1]


@pytest.mark.parametrize(
    ("scores", "same", "eer"),
    [
        ([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 0], 0.0),
        ([0.9, 0.8, 0.7, 0.6], [0, 0, 1, 1], 1.0),
        ([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], 0.5),
        ([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [1, 1, 0, 1, 0, 0], 1 / 3),
        ([0.5, 0.5, 0.5], [1, 0, 0], 0.5),
    ],
)
def test_equal_error_by_hand(scores: list[float], same: list[int], eer: float) -> None:
    found = equal_error(np.array(scores), np.array(same, dtype=bool))
    assert found.eer == pytest.approx(eer)
    if eer == 0:
        assert found.threshold == pytest.approx(0.75)  # half way between the two kinds


def test_equal_error_is_that_of_scikit_learn_s_curve() -> None:
    from sklearn.metrics import roc_curve

    rng = np.random.default_rng(3)
    same = rng.random(3000) < 0.3
    scores, weights = rng.normal(size=3000) + 1.5 * same, rng.random(3000)
    order = np.argsort(-scores)
    false, true, _ = roc_curve(same, scores, sample_weight=weights, drop_intermediate=False)
    at = int(np.argmin(np.abs(false - (1 - true))))
    found = equal_error(scores[order], same[order], weights[order])
    assert found.eer == pytest.approx((false[at] + 1 - true[at]) / 2, abs=1e-3)
    with pytest.raises(ValueError, match="highest scores first"):
        equal_error(scores, same)


def test_weights_of_speakers_are_as_their_repetition() -> None:
    x, names = voices(5, 4, 1.0)
    trials = Trials.of(x, table(20, speaker=names), "speaker", np.arange(20), "test", lambda event: None)
    without = Trials.of(x, table(20, speaker=names), "speaker", np.arange(12), "test", lambda event: None)
    one, two = trials._sides()
    zeros = trials.operating(np.array([1.0, 1.0, 1.0, 0.0, 0.0]))
    mine = trials.speaker < 3  # trials that are drawn with one of the three: they may be against the others
    used = (one | two) & mine[:, None]
    order = np.argsort(-trials.cosines[used])
    weights = np.where(one[used], 1 / 3, 1 / 16)
    assert zeros.eer == pytest.approx(equal_error(trials.cosines[used][order], one[used][order], weights[order]).eer)
    assert without.operating().eer == pytest.approx(without.operating(np.full(3, 2.0)).eer)


def test_what_cannot_be_verified_is_told() -> None:
    x, names = voices(16, 10, 0.1)
    names[60] = "alone"
    told: list[dict[str, object]] = []
    found = verify(x, table(160, speaker=names), target="speaker", **ROWS, tell=told.append)
    assert told == [{"kind": "note", "text": "1 test speakers have one recording: no trial of one voice"}]
    assert "alone" not in found.predictions.column("id").to_pylist() and len(found.counts.events) == 10
    with pytest.raises(OvertureError, match="1 of 1 dev speakers have two recordings or more"):
        verify(x, table(160, speaker=names), target="speaker", dev=np.arange(5), test=np.arange(60, 160))
    x[100] = np.nan
    with pytest.raises(OvertureError, match="not finite"):
        verify(x, table(160, speaker=names), target="speaker", **ROWS)


def lasting(*seconds: float, **more: list[str | None]) -> Table:
    columns = table(len(seconds), **more).columns.drop_columns("duration").append_column("duration", pa.array(seconds))
    return Table(columns, name="toy", root=Path())


class Toy(nn.Module):
    """An encoder without a vector of its own."""

    frame_rate, dim = 100.0, 40

    def states(self, x: Tensor, lengths: Tensor) -> States:
        return States((x, 2 * x), lengths)


@dataclass
class Planted:
    """Features by row."""

    rows: list[np.ndarray]

    def __getitem__(self, index: int) -> np.ndarray:
        return self.rows[index]


@pytest.mark.parametrize("own", [True, False])
def test_vectors_are_the_encoder_s_own_or_the_mean_of_its_last_states(own: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    planted = Planted([rng.normal(size=(n, 40)).astype(np.float32) for n in (30, 170, 90, 200)])
    torch.manual_seed(0)
    encoder: Any = SpeakerLstm(layers=1, dim=8, embedding=6).build(LogMel(mels=40)) if own else Toy()
    found = vectors(encoder, planted, lasting(0.3, 1.7, 0.9, 2.0), cache=tmp_path, fingerprint="x")
    for i, x in enumerate(planted.rows):
        with torch.no_grad():
            alone = encoder.embed(torch.from_numpy(x)[None], torch.tensor([len(x)]))[0] if own else 2 * x.mean(0)
        np.testing.assert_allclose(found[i], alone, rtol=1e-4, atol=1e-5)
    assert found.shape == (4, 6 if own else 40)
    assert int(Embedder(encoder).steps(torch.tensor([7]))) == 1


def test_no_recording_of_a_judged_voice_is_left_to_training() -> None:
    _, names = voices(12, 4, 1.0)
    of = lasting(*[1.0, 1.0, 9.0, 9.0] * 12, speaker=names)  # half of each is too long for the trial
    trial = Labelled(Trial(task="speaker-verification", where="duration < 2"), of, lambda event: None)
    judged = {names[4 * i] for i in range(12)} - set(trial.table.numpy("speaker")[trial.split.rows["train"]])
    assert len(trial.table) == 24 and 2 <= len(judged) <= 10
    assert sorted(trial.held.numpy("speaker")) == sorted(name for name in names if name in judged)


def test_a_reference_from_outside_is_verified_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    x, names = voices(16, 10, 0.8)
    of = table(160, speaker=names)
    monkeypatch.setitem(outside.REFERENCES, "planted", lambda t: x[: len(t)])
    found = outside.reference("planted", of, "speaker", {"train": np.arange(0), **ROWS}, 0, metric="hter")
    assert found.value == verify(x, of, target="speaker", **ROWS).value and found.metric == "hter"
