"""overture.recipes.hifi_gan: the published size and numbers, and a claim that varies nothing but the training."""

from math import prod
from typing import Any

import torch

from overture.recipes.hifi_gan import EXEMPT, claim, default, published, tiny


def test_the_published_size() -> None:
    """V1: 13.92 M in the paper's table 1. Weight normalisation stores a length more for each output channel."""
    run: Any = published()
    with torch.device("meta"):
        model = run.model.build(run.frontend)
    assert sum(p.numel() for n, p in model.network.named_parameters() if not n.endswith("original0")) == 13_926_017
    generator, discriminator = run.players
    for player in (generator, discriminator):
        assert (player.optim.lr, player.optim.betas, player.optim.weight_decay) == (2e-4, (0.8, 0.99), 0.01)
        assert player.objective.segment == 8192
    assert (generator.objective.mel_weight, generator.objective.feature_weight) == (45.0, 2.0)
    assert (run.frontend.rate, run.model.mel.hop, run.model.mel.high) == (22_050, 256, 8_000.0)
    assert run.plan.update / run.data.max_seconds == 16 and run.loop.updates == 2_500_000


def test_crops_hold_a_segment_and_samples_are_not_cached() -> None:
    sizes: list[Any] = [tiny(), default(), published()]
    for run in sizes:
        segment = run.players[0].objective.segment
        assert segment == run.players[1].objective.segment and segment < run.data.max_seconds * run.frontend.rate
        assert (
            not run.data.cache
            and run.frontend.rate == run.model.mel.rate
            and prod(run.model.rates) == run.model.mel.hop
        )


def test_the_claim_has_the_control_that_learns_nothing() -> None:
    found = claim()
    arms = {arm.name: arm for arm in found.study.arms}
    assert {name: arm.kind for name, arm in arms.items()} == {
        "griffin-lim": "input",
        "untrained": "untrained",
        "hifi-gan": "trained",
    }
    assert len({arm.run for arm in arms.values()}) == 1
    assert all("recording" in trial.outside for trial in found.study.trials if trial.task != "copy-synthesis")
    assert set(EXEMPT) == {6}
