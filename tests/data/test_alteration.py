"""overture.data.alteration: the toy traps of TERA about what is altered, as properties."""

import numpy as np
import pytest
import torch

from overture.data.alteration import Alteration
from overture.data.batch import Batch
from overture.data.draws import Draws

TIME = Alteration(frequency_share=0, noise_probability=0)
BAND = Alteration(time_share=0, noise_probability=0)
NOISE = Alteration(time_share=0, frequency_share=0, noise_probability=1.0)
T, F = 300, 80


def batch(rows: int = 1, first: int = 0, lengths: list[int] | None = None) -> Batch:
    x = torch.randn(rows, T, F, generator=torch.Generator().manual_seed(first)) + 5  # nothing is zero by chance
    kept = torch.tensor(lengths or [T] * rows)
    return Batch(
        rows=torch.arange(first, first + rows), x=x * (torch.arange(T)[None] < kept[:, None])[..., None], lengths=kept
    )


def test_time_blocks_are_seventy_milliseconds_and_fifteen_percent() -> None:
    for rate, width in ((100.0, 7), (50.0, 4), (200.0, 14)):  # 70 ms at any frame rate
        _, mask = TIME(batch(200), Draws(0, 0), rate)
        frames = mask[..., 0]
        assert bool((mask == frames[..., None]).all())  # all channels of a chosen frame
        share = frames.float().mean().item()
        assert 0.12 < share <= 0.15 + 1e-6  # blocks may overlap, so somewhat under 15 %
        runs = [len(r) for row in frames.int().tolist() for r in "".join(map(str, row)).split("0") if r]
        assert min(runs) == width


def test_the_die_is_rolled_once_an_utterance() -> None:
    b = batch(2000)
    altered, mask = TIME(b, Draws(0, 0), 100.0)
    kinds = []
    for i in range(2000):
        chosen = mask[i, :, 0]
        zero = (altered[i, chosen] == 0).all(-1)
        same = (altered[i, chosen] == b.x[i, chosen]).all(-1)
        assert bool(zero.all()) or not bool(zero.any())  # never mixed within an utterance
        kinds.append("zero" if zero.all() else "same" if same.all() else "other")
        assert torch.equal(altered[i, ~chosen], b.x[i, ~chosen])
    share = {k: kinds.count(k) / 2000 for k in ("zero", "other", "same")}
    assert share == {
        "zero": pytest.approx(0.8, abs=0.03),
        "other": pytest.approx(0.1, abs=0.025),
        "same": pytest.approx(0.1, abs=0.025),
    }
    # The unchanged ones are still predicted.
    assert all(mask[i].any() for i in range(2000))


def test_replaced_frames_come_from_the_same_utterance() -> None:
    b = batch(5)
    altered, mask = Alteration(time_zero=0, time_replace=1.0, frequency_share=0, noise_probability=0)(
        b, Draws(0, 0), 100.0
    )
    for i in range(5):
        own = {tuple(f) for f in b.x[i].tolist()}
        assert all(tuple(f) in own for f in altered[i, mask[i, :, 0]].tolist())


def test_the_band_has_a_random_width_from_zero_and_reaches_all_valid_frames_only() -> None:
    b = batch(600, lengths=[200] * 600)
    altered, mask = BAND(b, Draws(0, 0), 100.0)
    widths = mask[:, 0].sum(-1)
    assert set(widths.tolist()) == set(range(17))  # U{0..16} for 80 channels
    assert bool((mask[:, :200] == mask[:, :1]).all()) and not mask[:, 200:].any()
    assert not altered[mask].any() and torch.equal(altered[~mask], b.x[~mask])


def test_noise_is_on_by_default_hits_fifteen_percent_and_leaves_mask_and_target() -> None:
    b = batch(2000)
    before = b.x.clone()
    altered, mask = Alteration(time_share=0.15, frequency_share=0)(b, Draws(0, 0), 100.0)
    noisy = torch.tensor([bool((altered[i, ~mask[i, :, 0]] != b.x[i, ~mask[i, :, 0]]).any()) for i in range(2000)])
    assert noisy.float().mean().item() == pytest.approx(0.15, abs=0.03)
    assert torch.equal(b.x, before)  # the target stays clean
    assert 0.12 < mask[noisy].float().mean().item() < 0.16  # noise does not widen the mask
    altered, mask = NOISE(b, Draws(0, 0), 100.0)
    assert bool(mask.all())  # noise alone: everything is predicted
    assert float((altered - b.x).std()) == pytest.approx(0.2, abs=0.005)


def test_padding_is_never_altered_or_counted() -> None:
    b = batch(50, lengths=[int(n) for n in np.random.default_rng(0).integers(20, T, 50)])
    for policy in (Alteration(), NOISE):
        altered, mask = policy(b, Draws(0, 0), 100.0)
        assert not mask[~b.valid].any() and not altered[~b.valid].any()


def test_draws_do_not_depend_on_the_batch() -> None:
    whole, mask = Alteration()(batch(8), Draws(1, 2), 100.0)
    b = batch(8)
    part = Batch(rows=b.rows[5:6], x=b.x[5:6], lengths=b.lengths[5:6])
    alone, alone_mask = Alteration()(part, Draws(1, 2), 100.0)
    assert torch.equal(alone[0], whole[5]) and torch.equal(alone_mask[0], mask[5])
    assert not torch.equal(Alteration()(part, Draws(1, 3), 100.0)[1], alone_mask)


@pytest.mark.parametrize("frames", [1, 3, 7, 8, 20])
def test_clips_of_hardly_a_block(frames: int) -> None:
    b = Batch(rows=torch.tensor([0]), x=torch.ones(1, frames, F), lengths=torch.tensor([frames]))
    for update in range(20):
        altered, mask = Alteration()(b, Draws(0, update), 100.0)
        assert altered.shape == mask.shape == (1, frames, F) and bool(torch.isfinite(altered).all())
