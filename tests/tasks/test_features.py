"""Caches of frozen states: padding, order, rates, damage."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf
import torch
from torch import nn

from overture.data.batch import States
from overture.data.source import Live
from overture.data.table import Table
from overture.errors import OvertureError
from overture.tasks.controls import InputEncoder
from overture.tasks.features import frames, pooled

RATE = 1000


@dataclass(frozen=True)
class Windows:
    """A toy frontend: 10 samples a frame, as they are."""

    rate: int = RATE
    frame_rate: float = 100.0
    dim: int = 10

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        if len(wave) < 10:
            raise ValueError("shorter than a frame")
        return wave[: len(wave) // 10 * 10].reshape(-1, 10)


class Toy(nn.Module):
    """Two states; a window of three frames that knows padding from lengths; dropout that must be off."""

    frame_rate, dim = 100.0, 10

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(10, 10, 3, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()
        self.batches: list[tuple[int, ...]] = []

    def states(self, x: torch.Tensor, lengths: torch.Tensor) -> States:
        assert not torch.is_grad_enabled()
        self.batches.append(tuple(lengths.tolist()))
        h = self.dropout(self.conv(x.transpose(1, 2)).transpose(1, 2))
        pad = torch.arange(x.shape[1])[None] >= lengths[:, None]
        return States((x.masked_fill(pad[..., None], torch.nan), h + 100 * pad[..., None]), lengths)  # poisoned padding


@pytest.fixture
def corpus(tmp_path):
    rng = np.random.default_rng(0)
    seconds = [0.9, 0.1, 0.53, 1.7, 0.31, 0.1, 2.0]
    for i, s in enumerate(seconds):
        sf.write(tmp_path / f"{i}.wav", rng.uniform(-0.5, 0.5, round(s * RATE)), RATE, subtype="FLOAT")
    columns = {"id": [f"u{i}" for i in range(7)], "audio": [f"{i}.wav" for i in range(7)], "duration": seconds}
    return Table(pa.table(columns), name="toy", root=tmp_path)


def alone(encoder, corpus, i):
    x = torch.from_numpy(Windows()(sf.read(corpus.root / f"{i}.wav", dtype="float32")[0]))[None]
    encoder.eval()
    with torch.no_grad():
        h = encoder.states(x, torch.tensor([x.shape[1]])).hidden
    return torch.stack([s[0] for s in h], 1)


def test_pooled_is_the_mean_of_the_utterance_alone(corpus, tmp_path):
    torch.manual_seed(0)
    encoder = Toy().train()
    encoder.frozen.eval()
    out = pooled(encoder, Live(corpus, Windows()), corpus, cache=tmp_path / "cache", fingerprint="f", batch_seconds=3.0)
    assert out.shape == (7, 2, 10) and out.dtype == np.float32
    assert encoder.training and encoder.dropout.training and not encoder.frozen.training  # left as it was
    assert max(len(b) for b in encoder.batches) > 1 and max(len(b) * max(b) for b in encoder.batches) <= 300
    for i in range(7):
        np.testing.assert_allclose(out[i], alone(encoder, corpus, i).mean(0), atol=1e-6)


def test_cache_is_read_again_and_refused_for_other_rows(corpus, tmp_path):
    encoder = Toy()
    first = np.array(pooled(encoder, Live(corpus, Windows()), corpus, cache=tmp_path, fingerprint="f"))
    calls = len(encoder.batches)
    assert np.array_equal(pooled(encoder, Live(corpus, Windows()), corpus, cache=tmp_path, fingerprint="f"), first)
    assert len(encoder.batches) == calls
    with pytest.raises(OvertureError, match="other rows"):
        pooled(
            encoder,
            Live(corpus.take(np.array([1, 0])), Windows()),
            corpus.take(np.array([1, 0])),
            cache=tmp_path,
            fingerprint="f",
        )


def test_frames_of_every_row_and_averages(corpus, tmp_path):
    torch.manual_seed(0)
    encoder = Toy()
    whole = frames(encoder, Live(corpus, Windows()), corpus, cache=tmp_path / "c", fingerprint="f", batch_seconds=3.0)
    assert whole.packed.dtype == np.float16 and whole.averaged == 1 and whole.frame_rate == 100
    half = frames(encoder, Live(corpus, Windows()), corpus, cache=tmp_path / "c", fingerprint="f", max_rate=40.0)
    assert half.averaged == 3 and half.frame_rate == pytest.approx(100 / 3)
    for i in range(7):
        expected = alone(encoder, corpus, i).numpy()
        np.testing.assert_allclose(whole[i], expected, atol=2e-3)
        assert half.lengths[i] == -(-len(expected) // 3)
        np.testing.assert_allclose(half[i][-1], expected[3 * (half.lengths[i] - 1) :].mean(0), atol=2e-3)
        np.testing.assert_allclose(half[i][0], expected[:3].mean(0), atol=2e-3)
    assert whole.lengths.sum() == len(whole.packed)
    at = frames(encoder, Live(corpus, Windows()), corpus, cache=tmp_path / "c", fingerprint="f", max_rate=100.0)
    assert at.averaged == 1


def test_nothing_is_left_of_a_failed_run(corpus, tmp_path):
    class Broken(Toy):
        def states(self, x: torch.Tensor, lengths: torch.Tensor) -> States:
            hidden = torch.where((lengths > 100)[:, None, None], torch.inf, x)
            return States((hidden,), lengths)

    for run in (pooled, frames):
        with pytest.raises(OvertureError, match="row 'u3': the encoder's states are not finite"):
            run(Broken(), Live(corpus, Windows()), corpus, cache=tmp_path / "cache", fingerprint="f", batch_seconds=1.0)
    assert list((tmp_path / "cache").iterdir()) == []


def test_float16_overflow_is_an_error(corpus, tmp_path):
    class Loud(Toy):
        def states(self, x: torch.Tensor, lengths: torch.Tensor) -> States:
            return States((x * 1e6,), lengths)

    with pytest.raises(OvertureError, match="beyond float16"):
        frames(Loud(), Live(corpus, Windows()), corpus, cache=tmp_path / "cache", fingerprint="f")


def test_bad_rows_are_named(corpus, tmp_path):
    sf.write(tmp_path / "5.wav", np.zeros(5), RATE)
    with pytest.raises(OvertureError, match=r"row 'u5'.*shorter than a frame"):
        pooled(Toy(), Live(corpus, Windows()), corpus, cache=tmp_path / "cache", fingerprint="f")
    (tmp_path / "5.wav").unlink()
    with pytest.raises(OvertureError, match="row 'u5'"):
        pooled(Toy(), Live(corpus, Windows()), corpus, cache=tmp_path / "cache", fingerprint="f")

    class Strided(Toy):
        def states(self, x: torch.Tensor, lengths: torch.Tensor) -> States:
            return States((x[:, ::20],), lengths // 20)

    sf.write(tmp_path / "5.wav", np.zeros(100), RATE)
    with pytest.raises(OvertureError, match=r"row 'u1'.*it no frame"):
        pooled(Strided(), Live(corpus, Windows()), corpus, cache=tmp_path / "cache", fingerprint="f")
    with pytest.raises(OvertureError, match="no rows"):
        pooled(
            Toy(),
            Live(corpus.take(np.array([], np.int64)), Windows()),
            corpus.take(np.array([], np.int64)),
            cache=tmp_path / "cache",
            fingerprint="g",
        )


def test_input_control_is_the_input(corpus, tmp_path):
    control = InputEncoder(10, 100.0)
    out = frames(control, Live(corpus, Windows()), corpus, cache=tmp_path / "c", fingerprint="input")
    assert out.packed.shape[1:] == (1, 10)
    np.testing.assert_allclose(out[3][:, 0], Windows()(sf.read(corpus.root / "3.wav", dtype="float32")[0]), atol=1e-3)
    with pytest.raises(ValueError, match="made for"):
        control.states(torch.zeros(1, 5, 9), torch.tensor([5]))
