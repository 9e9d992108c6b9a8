"""overture.recipes.wav2vec2: the published size, and what of its sheets' traps is about the recipe itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from overture.config import flatten, override
from overture.data.draws import Draws
from overture.quantize.gumbel import Annealing
from overture.recipes import get
from overture.recipes.wav2vec2 import EXEMPT, claim
from overture.run import Run
from overture.train.engine import Engine
from overture.train.examples import Training
from overture.train.loop import Trainer

SIZES = ("tiny", "default", "published")


def test_the_published_size_is_transformers_base() -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

    run = get("wav2vec2:published")
    with torch.device("meta"):
        model = run.model.build(run.frontend)
        base = Wav2Vec2ForPreTraining(Wav2Vec2Config())  # the defaults of their configuration are BASE
    assert {n: p.shape for n, p in model.network.named_parameters()} == {n: p.shape for n, p in base.named_parameters()}
    assert sum(p.numel() for p in model.parameters()) == 95_044_608  # the paper's 95 M
    optim, objective = run.players[0].optim, run.players[0].objective
    assert (optim.lr, optim.warmup, run.loop.updates) == (5e-4, 0.08, 400_000)
    assert (objective.negatives, objective.kappa, objective.diversity, objective.identical) == (100, 0.1, 0.1, "mask")
    assert objective.temperature == Annealing(first=2.0, least=0.5, factor=0.999995)
    assert run.plan.update == pytest.approx(1.6 * 3600, rel=0.03)  # "a total batch size of 1.6 h"
    assert run.data.max_seconds * run.frontend.rate == 250_000


@pytest.mark.parametrize("size", SIZES)
def test_frames_come_fifty_times_a_second_and_half_of_them_are_hidden(size: str) -> None:
    run = get(f"wav2vec2:{size}")
    assert run.frontend.rate / np.prod(run.model.conv_stride) == 50
    mask = run.players[0].objective.mask
    shares = [mask.draw(750, 50.0, Draws(0, u).example(0)).mean() for u in range(40)]
    assert 0.45 < float(np.mean(shares)) < 0.52


@pytest.mark.parametrize("size", ["tiny", "default"])
def test_the_small_sizes_are_padding_safe_and_keep_identical_negatives(size: str) -> None:
    run = get(f"wav2vec2:{size}")
    assert run.model.feature_norm == "layer" and run.players[0].objective.identical == "keep"


def test_the_temperature_falls_within_the_run() -> None:
    for size in ("default", "published"):
        run = get(f"wav2vec2:{size}")
        objective = run.players[0].objective
        middle, last = (objective.temperature.at(u) for u in (run.loop.updates // 4, run.loop.updates - 1))
        assert 2.0 > middle > last == 0.5


def gradients(run: Run) -> tuple[dict[str, torch.Tensor], int]:
    with Engine.start() as engine:
        training, trainer = Training.prepare(run), Trainer(run, engine)
        batches = training.batches(training.plan.updates(0)[0], 0, engine)
        trainer.backward(0, batches, Draws(run.seed, 0))
    return {n: p.grad for n, p in trainer.parameters[0].items()}, len(batches)


def test_without_diversity_accumulation_changes_no_gradient() -> None:
    """Laws 2 and 5 are broken by the diversity loss and by nothing else."""
    assert set(EXEMPT) == {2, 5}
    still = override(get("wav2vec2:tiny"), {"model.dropout": "0", "players.0.objective.diversity": "0"})
    assert not [n for n, v in flatten(still).items() if n.endswith("dropout") and v]
    found = []
    for micro in (8.0, 2.0):
        found.append(gradients(replace(still, plan=replace(still.plan, update=8.0, micro=micro))))
    (once, one), (many, several) = found
    assert one == 1 and several >= 4
    for name in once:
        torch.testing.assert_close(once[name], many[name], rtol=1e-3, atol=1e-6, msg=name)


def test_the_claim_varies_nothing_but_identical_negatives() -> None:
    arms = {a.name: a for a in claim().study.arms}
    assert {a.kind for a in arms.values()} == {"trained", "untrained", "input"}  # never without both controls
    kept, masked = arms["wav2vec 2.0"].run, arms["ties masked"].run
    assert (kept.players[0].objective.identical, masked.players[0].objective.identical) == ("keep", "mask")
    assert arms["untrained"].run == arms["log-mel"].run == kept
    different = {n for n, v in flatten(kept).items() if v != flatten(masked)[n]}
    assert different == {"players.0.objective.identical", "loop.tolerate"}
