"""overture.objectives.vocoder: the published losses, segments that are the utterance's own, and two players who do not touch each other."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.vocoder_mel import Samples
from overture.errors import OvertureError
from overture.models.modeling_vocoder import Opinion, Vocoder
from overture.models.vocoder import Discriminators, HifiGan
from overture.objectives.vocoder import DiscriminatorLoss, GeneratorLoss, players, segments, told_apart
from overture.run import Data, Loop, Optim, Plan, Run
from overture.train import health
from overture.train.engine import Engine
from overture.train.loop import Trainer, train
from overture.train.track import read_metrics

TINY = HifiGan(
    channels=32,
    rates=(8, 8, 4),
    kernels=(3,),
    dilations=(1, 3),
    critics=Discriminators(periods=(2, 3), scales=1, width=2),
)


def run(updates: int = 40, lr: float = 2e-3, critics: float = 2e-4) -> Run:
    generator, discriminator = players(segment=4096, optim=Optim(lr=lr, betas=(0.8, 0.99), warmup=0.0, clip=None))
    return Run(
        recipe="vocoder",
        size="tiny",
        frontend=Samples(),
        model=TINY,
        players=(generator, replace(discriminator, optim=replace(discriminator.optim, lr=critics))),
        data=Data(where="duration between 0.5 and 3", max_seconds=0.5, cache=False),
        plan=Plan(update=2.0, micro=2.0),
        loop=Loop(updates=updates, precision="fp32", log_every=5, checkpoint_every=1000),
    )


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    torch.manual_seed(0)
    return TINY.build(Samples())


def batch(*counts: int, first: int = 0) -> Batch:
    """Utterances of so many samples, each of its row number, with loud padding."""
    x = torch.full((len(counts), max(counts)), 0.9)
    for i, count in enumerate(counts):
        wave = np.random.default_rng(first + i).uniform(-0.5, 0.5, count) * np.hanning(count)
        x[i, :count] = torch.from_numpy(wave.astype(np.float32))
    return Batch(rows=torch.arange(first, first + len(counts)), x=x, lengths=torch.tensor(counts))


@given(counts=st.lists(st.integers(1024, 9000), min_size=1, max_size=3), update=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_a_segment_is_the_utterances_own(vocoder: Vocoder, counts: list[int], update: int) -> None:
    """Its samples stand in the utterance, on a frame, and its mel is what the front end says of these frames."""
    given_batch, size = batch(*counts), 4096
    found = segments(vocoder, given_batch, Draws(0, update), size)
    assert found.real.shape == (len(counts), size) and found.mel.shape == (len(counts), 16, 80)
    for i, count in enumerate(counts):
        whole = np.zeros(
            max(count, size), np.float32
        )  # a shorter one is followed by silence, not by the padding of its batch
        whole[:count] = given_batch.x[i, :count].numpy()
        starts = range(0, len(whole) - size + 1, 256)
        at = [s for s in starts if np.array_equal(whole[s : s + size], found.real[i].numpy())]
        assert at
        expected = np.exp(TINY.mel(whole)[at[0] // 256 :][:16])
        np.testing.assert_allclose(found.mel[i].exp().numpy(), expected, rtol=1e-3, atol=1e-6)


def test_segments_depend_on_the_row_and_the_update_alone(vocoder: Vocoder) -> None:
    many = segments(vocoder, batch(40_000, 50_000, 60_000), Draws(3, 5), 4096)
    one = segments(vocoder, batch(60_000, first=2), Draws(3, 5), 4096)
    assert torch.equal(many.real[2], one.real[0])
    assert not torch.equal(segments(vocoder, batch(60_000, first=2), Draws(3, 6), 4096).real, one.real)


def test_segments_reach_both_ends_of_an_utterance(vocoder: Vocoder) -> None:
    ramp = Batch(rows=torch.tensor([0]), x=torch.arange(4096 + 512)[None].float(), lengths=torch.tensor([4096 + 512]))
    begun = {int(segments(vocoder, ramp, Draws(0, u), 4096).real[0, 0]) for u in range(30)}
    assert begun == {0, 256, 512}


def test_sizes_that_are_no_frames_are_refused(vocoder: Vocoder) -> None:
    for size in (4000, 512):
        with pytest.raises(OvertureError, match=f"segment={size} must be a multiple of the hop of 256"):
            segments(vocoder, batch(9000), Draws(0, 0), size)


def test_told_apart_by_hand() -> None:
    real, made = Opinion(torch.tensor([[1.0, 0.0]]), []), Opinion(torch.tensor([[0.5, 0.5]]), [])
    assert told_apart([real], [made]).tolist() == [0.5 + 0.25]
    assert told_apart([real, real], [made, real]).tolist() == [0.5 + 0.25 + 0.5 + 0.5]


def test_the_losses_are_the_published_ones(vocoder: Vocoder) -> None:
    """As hifi-gan's `models.py` and `train.py` write them, over the whole batch at once."""
    given_batch, draws = batch(9000, 7000, 5000), Draws(0, 0)
    mel, y = segments(vocoder, given_batch, draws, 4096)
    with torch.no_grad():
        y_hat = vocoder(mel)
        real, made = vocoder.discriminator(y), vocoder.discriminator(y_hat)
        adversarial = sum(torch.mean((1 - d.score) ** 2) for d in made)
        features = 2 * sum(
            torch.mean(torch.abs(a - b)) for r, g in zip(real, made) for a, b in zip(r.features, g.features)
        )
        error = 45 * F.l1_loss(vocoder.mel(y), vocoder.mel(y_hat))
        critics = sum(torch.mean((1 - r.score) ** 2) + torch.mean(g.score**2) for r, g in zip(real, made))
        generator = GeneratorLoss(segment=4096)(vocoder, given_batch, draws)
        discriminator = DiscriminatorLoss(segment=4096)(vocoder, given_batch, draws)
    torch.testing.assert_close(generator.sum / generator.targets, adversarial + features + error)
    torch.testing.assert_close(discriminator.sum / discriminator.targets, critics)
    assert int(generator.targets) == int(discriminator.targets) == 3
    torch.testing.assert_close(generator.watch["discriminator_loss"], critics / 3)
    torch.testing.assert_close(generator.watch["mel_l1"], error / 45)


@pytest.mark.parametrize("index", [0, 1], ids=["generator", "discriminator"])
def test_each_player_reaches_all_its_own_parameters_and_no_others(index: int) -> None:
    with Engine.start() as engine:
        trainer = Trainer(run(), engine)
        trainer.backward(index, [(batch(9000, 6000), True)], Draws(0, 0))
    own = ("network.", "discriminator.")[index]
    for name, parameter in trainer.state.model.named_parameters():
        if name.startswith(own):
            assert parameter.grad is not None and bool(parameter.grad.any()), name
        else:
            assert parameter.grad is None, name


@pytest.mark.parametrize("index", [0, 1], ids=["generator", "discriminator"])
def test_a_batch_of_three_is_three_of_one(index: int) -> None:
    whole = batch(9000, 6000, 3000)
    parts = [
        Batch(rows=whole.rows[i : i + 1], x=whole.x[i : i + 1, : int(n)], lengths=whole.lengths[i : i + 1])
        for i, n in enumerate(whole.lengths)
    ]
    with Engine.start() as engine:
        trainer, found = Trainer(run(), engine), []
        for batches in ([(whole, True)], [(part, True) for part in parts]):
            result = trainer.backward(index, batches, Draws(0, 0))
            gradients = [p.grad.clone() for p in trainer.parameters[index].values() if p.grad is not None]
            found.append((result.loss, torch.cat([g.flatten() for g in gradients])))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-4 * float(found[0][1].abs().max()))


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [r for r in read_metrics(folder) if r["kind"] == kind]


def test_a_few_updates_lower_the_mel_loss(tmp_path: Path) -> None:
    """Measured: 1.87 at update 1, a mean of 1.16 at updates 30, 35 and 40."""
    with Engine.start() as engine:
        assert train(run(), tmp_path, engine=engine).finished
    errors = [r["watch"]["mel_l1"] for r in records(tmp_path, "update")]
    assert np.mean(errors[-3:]) < 0.75 * errors[0]
    assert not records(tmp_path, "health")


def test_discriminators_that_diverge_stop_the_run(tmp_path: Path) -> None:
    with Engine.start() as engine, pytest.raises(health.IllRun, match="they diverge, and the generator follows them"):
        train(run(updates=60, critics=1.0), tmp_path, engine=engine)
    (finding,) = records(tmp_path, "health")
    assert finding["rule"] == "diverging discriminator"
