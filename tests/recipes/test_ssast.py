"""overture.recipes.ssast: the published sizes, and what of its sheet of traps is about the recipe itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.models.patch import PatchTransformer
from overture.objectives.patches import PatchPrediction
from overture.recipes import get
from overture.recipes.ssast import AST, BASE, FRAME, SMALL, TINY, claim
from overture.run import Run

SIZES = ("tiny", "default", "published")


def objective(run: Run) -> PatchPrediction:
    found = run.players[0].objective
    assert isinstance(found, PatchPrediction)
    return found


@pytest.mark.parametrize(("model", "million"), [(BASE, 89), (SMALL, 23), (TINY, 6)])
def test_the_published_sizes(model: PatchTransformer, million: int) -> None:
    with torch.device("meta"):
        built = model.build(AST)
    d = model.dim
    layer = 4 * (d * d + d) + 2 * d * 4 * d + 4 * d + d + 4 * d
    embeddings = 256 * d + d + 2 * d + (512 + 2) * d
    heads = d + 2 * (d * d + d + d * 256 + 256)  # the mask vector; two MLPs d -> d -> 256
    total = sum(p.numel() for p in built.parameters())
    assert total == 12 * layer + 2 * d + embeddings + heads
    # The published counts are of timm's distilled DeiT with its two heads for the 1000 classes of ImageNet, which SSAST does not use.
    assert round((total + 2 * (d * 1000 + 1000)) / 1e6) == million
    assert built.config.position_grid == [8, 64]


def test_the_frame_model_has_as_many_patches_and_nearly_as_many_parameters() -> None:
    with torch.device("meta"):
        frame = replace(BASE, patch=FRAME, stride=FRAME).build(AST)
        square = BASE.build(AST)
    assert frame.config.position_grid == [1, 512]
    assert frame.state_dict().keys() == square.state_dict().keys()
    assert sum(p.numel() for p in frame.parameters()) == sum(p.numel() for p in square.parameters())


def test_the_published_numbers() -> None:
    run = get("ssast:published")
    assert run.model == BASE and run.frontend == AST
    assert (AST.mean, AST.std, AST.window_type, AST.mels) == (-4.2677393, 2 * 4.5689974, "hanning", 128)
    assert round(objective(run).mask.share * 512) == 400 and objective(run).mask.sizes == (3, 4, 5)
    assert not objective(run).mask.faithful
    optim = run.players[0].optim
    assert (optim.lr, optim.betas, optim.weight_decay) == (1e-4, (0.95, 0.999), 5e-7)
    assert round(optim.warmup * run.loop.updates) == 1000
    assert run.loop.updates == pytest.approx(10 * 2.2e6 / 24, rel=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_no_size_forgets_lambda_or_lets_patches_overlap_or_zeroes_positions(size: str) -> None:
    run = get(f"ssast:{size}")
    assert (objective(run).discriminative, objective(run).generative) == (1.0, 10.0)
    assert run.model.patch == run.model.stride and run.model.positions == "learned" and run.model.class_tokens == 2
    assert run.model.order == "frequency"
    longest = round(run.data.max_seconds * run.frontend.frame_rate)
    assert run.model.frames // 16 >= longest // 16  # no position is interpolated in pre-training


def test_the_default_says_its_size() -> None:
    run = get("ssast:default")
    with torch.device("meta"):
        model = run.model.build(run.frontend)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(2.0, abs=0.05)


def test_a_clip_is_the_mean_of_its_patches_and_not_a_class_token() -> None:
    run = get("ssast:tiny")
    torch.manual_seed(0)
    model = run.model.build(run.frontend).eval()
    x = torch.randn(1, 96, 128)
    with torch.no_grad():
        states, steps = model.states(x, torch.tensor([96]))
        patches = model(x).patch_states
    assert steps.tolist() == [6] and states[-1].shape == (1, 6, 32)
    torch.testing.assert_close(states[-1].mean(1), patches.flatten(1, 2).mean(1))


def test_the_claim_varies_nothing_but_the_losses_and_the_patches() -> None:
    arms = {a.name: a for a in claim().study.arms}
    assert arms["scratch"].kind == arms["scratch, frames"].kind == "untrained"
    weights = {
        n: (objective(a.run).discriminative, objective(a.run).generative)
        for n, a in arms.items()
        if a.kind == "trained"
    }
    assert weights == {
        "generative": (0.0, 10.0),
        "discriminative": (1.0, 0.0),
        "joint": (1.0, 10.0),
        "joint, frames": (1.0, 10.0),
    }
    for name, arm in arms.items():
        heads = {k for k in ("discriminative", "generative") if getattr(objective(arm.run), k)}
        assert set(arm.run.model.pretext) == heads or arm.kind == "untrained"
        assert arm.finetune_model is None  # never another patch shape than was pre-trained
        assert arm.run.model.patch == arm.run.model.stride == (FRAME if "frames" in name else (16, 16))
        assert objective(arm.run).mask.sizes == ((1,) if "frames" in name else (3, 4, 5))
    same = {
        (
            a.run.plan,
            a.run.loop,
            a.run.frontend,
            a.run.players[0].optim,
            a.run.data,
            replace(a.run.model, patch=(1, 1), stride=(1, 1), pretext=()),
        )
        for a in arms.values()
    }
    assert len(same) == 1


def clips(update: int) -> Batch:
    """Mixtures of three fixed pictures: any visible patch says something of the hidden ones."""
    pictures = np.random.default_rng(0).normal(size=(3, 96, 128))
    shares = np.random.default_rng(update).normal(size=(16, 3)) / np.sqrt(3)
    x = torch.from_numpy(np.tensordot(shares, pictures, 1).astype(np.float32))
    return Batch(rows=torch.arange(16) + 16 * update, x=x, lengths=torch.full((16,), 96))


def test_it_learns_to_find_and_to_fill_in() -> None:
    watch = {"discriminative": [], "generative": []}
    for kind, weights in (("discriminative", (1.0, 0.0)), ("generative", (0.0, 10.0))):
        torch.manual_seed(0)
        sizes = {"patch": (32, 8), "stride": (32, 8), "frames": 96, "layers": 2, "dim": 64, "heads": 2, "ffn": 128}
        model = replace(TINY, **sizes, pretext=(kind,)).build(AST)
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        for update in range(70):
            objective = PatchPrediction(discriminative=weights[0], generative=weights[1])
            loss = objective(model, clips(update % 2), Draws(0, update))
            optimizer.zero_grad()
            (loss.sum / loss.targets).backward()
            optimizer.step()
            watch[kind].append({n: float(v) for n, v in loss.watch.items()})
    found, filled = watch["discriminative"], watch["generative"]
    assert found[0]["patch_accuracy"] < 0.1 < 0.4 < found[-1]["patch_accuracy"]
    assert found[-1]["discriminative"] < 0.6 * found[0]["discriminative"]
    assert filled[-1]["mse"] < 0.9 * filled[0]["mse"]
