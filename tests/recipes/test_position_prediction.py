"""overture.recipes.position_prediction: sizes, and every way in which a place could leak or a comparison could cheat."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.features import LogMel
from overture.errors import OvertureError
from overture.objectives import Loss
from overture.objectives.position import PositionPrediction
from overture.recipes import get
from overture.recipes.position_prediction import OVERLAPPING, SEPARATE, TOKENS, claim, published
from overture.run import Run
from overture.train.engine import Engine
from overture.train.examples import Training
from overture.train.loop import Trainer

SIZES = ("tiny", "default", "published")


def test_the_published_size_is_a_placeholder_and_says_so() -> None:
    run = published()
    assert "unverified" in (published.__doc__ or "")
    with torch.device("meta"):
        model = run.model.build(run.frontend)
    layer = 4 * (384 * 384 + 384) + 2 * 384 * 1536 + 1536 + 384 + 4 * 384
    trunk = 12 * layer + 2 * 384 + 40 * 384 + 384
    head = 2 * 384 + 384 * TOKENS + TOKENS
    assert sum(p.numel() for p in model.parameters()) == trunk + head
    assert round(trunk / 1e6) == 21  # ViT-S without its patches and classes
    assert sum(p.numel() for p in model.head.parameters()) == head


@pytest.mark.parametrize("size", SIZES)
def test_no_size_knows_positions(size: str) -> None:
    run = get(f"position-prediction:{size}")
    model = run.model
    assert (model.positions, model.class_tokens, model.pretext) == ("none", 0, ("position",))
    assert model.patch == model.stride
    seconds = model.frames / run.frontend.frame_rate
    assert run.data.min_seconds == run.data.max_seconds == seconds  # crops, never padding
    with torch.device("meta"):
        built = model.build(run.frontend)
    assert built.config.classes == TOKENS and not hasattr(built.embeddings, "position_embeddings")


def test_every_planned_batch_has_whole_clips_only() -> None:
    run = get("position-prediction:tiny")
    with Engine.start() as engine:
        training = Training.prepare(run)
        for number, rows in enumerate(training.plan.updates(0)[:5]):
            for batch, _ in training.batches(rows, number, engine):
                assert set(batch.lengths.tolist()) == {TOKENS} and batch.x.shape[1] == TOKENS


def test_shorter_clips_are_refused_with_a_way_out() -> None:
    run = get("position-prediction:tiny")
    short = replace(run, data=replace(run.data, where="duration between 0.5 and 0.9", min_seconds=0.0))
    with Engine.start() as engine:
        training, trainer = Training.prepare(short), Trainer(short, engine)
        batches = training.batches(training.plan.updates(0)[0], 0, engine)
        with pytest.raises(OvertureError, match=r"data\.min_seconds"):
            trainer.backward(0, batches, Draws(0, 0))


@pytest.mark.parametrize("arm", ["MP3, none", "overlapping MP3, positions"])
def test_permuting_the_tokens_permutes_the_logits(arm: str) -> None:
    run = next(a.run for a in claim().study.arms if a.name == arm)
    torch.manual_seed(0)
    model = run.model.build(run.frontend).eval()
    width = run.model.patch[1]
    tokens = run.model.frames // width
    x = torch.randn(2, tokens * width, run.frontend.dim)
    context = torch.rand(2, 1, tokens) < 0.5
    order = torch.randperm(tokens)
    moved = x.unflatten(1, (tokens, width))[:, order].flatten(1, 2)
    with torch.no_grad():
        logits = model.head.position(model(x, context=context).last_hidden_state)
        permuted = model.head.position(model(moved, context=context[..., order]).last_hidden_state)
    torch.testing.assert_close(permuted, logits[:, order], rtol=0, atol=1e-5)


def correlation(frontend: LogMel) -> float:
    """Of neighbouring frames of white noise: nothing but shared samples can make them alike."""
    wave = np.random.default_rng(0).normal(size=16_000 * 4).astype(np.float32)
    x = frontend(wave)[2:-2]  # (T, F) without the reflected edges
    return float(np.mean([np.corrcoef(x[:-1, f], x[1:, f])[0, 1] for f in range(x.shape[1])]))


def test_separate_windows_share_no_samples_and_overlapping_ones_do() -> None:
    assert SEPARATE.window == SEPARATE.hop and OVERLAPPING.window > OVERLAPPING.hop
    assert abs(correlation(SEPARATE)) < 0.05
    assert correlation(OVERLAPPING) > 0.12


@pytest.mark.parametrize(
    "frontend", sorted({r.frontend for r in (a.run for a in claim().study.arms)} | {SEPARATE}, key=str)
)
def test_no_filter_falls_between_the_bins_of_a_short_window(frontend: LogMel) -> None:
    """A channel without a bin would be constant, and so infinite after normalisation."""
    x = frontend(np.random.default_rng(0).normal(size=16_000).astype(np.float32))
    assert np.abs(x).max() < 20 and (x.std(0) > 0.9).all()


def test_recordings_long_enough_for_pre_training_have_all_tokens() -> None:
    for run in (published(), get("position-prediction:default"), *arms().values()):
        assert run.data.min_seconds == run.data.max_seconds == run.model.frames / run.frontend.frame_rate
        shortest = round(run.data.min_seconds * run.frontend.rate)
        assert run.frontend.steps(shortest) >= run.model.frames  # cropped to them, never filled up


def train(model: torch.nn.Module, frames: object, updates: int) -> list[Loss]:
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for update in range(updates):
        x = frames(update)  # type: ignore[operator]
        batch = Batch(rows=torch.arange(len(x)) + len(x) * update, x=x, lengths=torch.full((len(x),), x.shape[1]))
        loss = PositionPrediction()(model, batch, Draws(0, update))
        optimizer.zero_grad()
        (loss.sum / loss.targets).backward()
        optimizer.step()
        losses.append(loss)
    return losses


def tiny_model() -> torch.nn.Module:
    run = get("position-prediction:tiny")
    torch.manual_seed(0)
    model: torch.nn.Module = replace(run.model, dropout=0.0).build(run.frontend)
    return model


def noise(update: int) -> torch.Tensor:
    return torch.randn(32, TOKENS, 40, generator=torch.Generator().manual_seed(update))


def test_nothing_can_be_learnt_from_noise() -> None:
    """Frames without order have no place; whatever is learnt from them has leaked."""
    losses = train(tiny_model(), noise, 80)
    late = torch.stack([loss.sum.detach() / loss.targets for loss in losses[-20:]]).mean()
    accuracy = torch.stack([loss.watch["accuracy"] for loss in losses[-20:]]).mean()
    assert float(late) > math.log(TOKENS) - 0.01
    assert float(accuracy) < 1.3 / TOKENS
    assert float(losses[-1].watch["chance"]) == pytest.approx(1 / TOKENS)


def test_places_are_learnt_where_the_content_has_them() -> None:
    """A channel that rises through the clip, from another start each time."""

    def rising(update: int) -> torch.Tensor:
        x = noise(update)
        start = torch.rand(32, 1, generator=torch.Generator().manual_seed(update))
        x[:, :, 0] = torch.linspace(-3, 3, TOKENS) + start
        return x

    losses = train(tiny_model(), rising, 80)
    assert float(losses[-1].watch["position_error"]) < 0.4 * float(losses[0].watch["position_error"])
    assert float(losses[-1].sum.detach() / losses[-1].targets) < math.log(TOKENS) - 0.5


def arms() -> dict[str, Run]:
    return {a.name: a.run for a in claim().study.arms}


def test_the_claim_trains_once_what_is_fine_tuned_with_and_without_positions() -> None:
    by_name = {a.name: a for a in claim().study.arms}
    with_, without = by_name["MP3, positions"], by_name["MP3, none"]
    assert with_.run.fingerprint == without.run.fingerprint
    assert without.finetune_model is None and without.run.model.positions == "none"  # truly without
    assert with_.finetune_model == replace(without.run.model, positions="sinusoid")
    assert by_name["scratch, positions"].finetune_model == with_.finetune_model
    assert by_name["scratch, none"].finetune_model is None and by_name["scratch, none"].run.model.positions == "none"
    assert {a.kind for n, a in by_name.items() if "scratch" in n} == {"untrained"}
    assert len({(r.plan, r.loop, r.data, r.players[0].optim) for r in arms().values()}) == 1
    assert by_name["reconstruction, positions"].run.model.positions == "sinusoid"
    sizes = {(a.run.model.layers, a.run.model.dim, a.run.model.heads, a.run.model.ffn) for a in by_name.values()}
    assert len(sizes) == 1


def test_the_weights_of_a_trunk_without_positions_fit_one_with() -> None:
    for arm in claim().study.arms:
        if arm.finetune_model is not None:
            models = [spec.build(arm.run.frontend) for spec in (arm.run.model, arm.finetune_model)]
            found = models[1].load_state_dict(models[0].state_dict(), strict=False)
            assert not found.missing_keys and not found.unexpected_keys, arm.name


def test_shuffled_frames_leave_the_clip_vector_without_positions_unchanged() -> None:
    arm = next(a for a in claim().study.arms if a.name == "MP3, positions")
    x, order = torch.randn(2, 30, 40), torch.randperm(30)
    moved = []
    for spec in (arm.run.model, arm.finetune_model):
        torch.manual_seed(0)
        model = spec.build(arm.run.frontend).eval()
        with torch.no_grad():
            a, b = (model.states(v, torch.tensor([30, 30]))[0][-1].mean(1) for v in (x, x[:, order]))
        moved.append(float((a - b).abs().max()))
    assert moved[0] < 1e-5 < 1e-2 < moved[1]
