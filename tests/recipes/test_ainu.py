"""overture.recipes.ainu: the published size, and the factorial."""

import torch

from overture.recipes import get
from overture.recipes.ainu import claim
from overture.recipes.hykist import MULTILINGUAL


def test_the_published_size_is_xlsr_53s() -> None:
    run = get("ainu:published")
    with torch.device("meta"):
        model = run.model.build(run.frontend)
    assert sum(p.numel() for p in model.parameters()) == 317_390_592
    assert run.loop.updates == 100_000 and run.players[0].objective.temperature.least == 0.1


def test_arms_differ_by_the_two_factors_only() -> None:
    study = claim().study
    arms = {arm.name: arm for arm in study.arms if arm.kind != "untrained"}
    assert {(a.kind, a.also) for a in arms.values()} == {
        (k, a.also) for k in ("start", "trained") for a in arms.values()
    }
    assert len({a.run for a in arms.values()}) == len({a.stages for a in arms.values()}) == 1 and len(arms) == 6
    (stage,) = arms["base"].stages
    assert stage == MULTILINGUAL and "language <> 'cs'" in str(stage.data.where)  # the base has not heard the target


def test_the_target_is_told_apart_by_sentence() -> None:
    parts = dict(claim().study.trials[0].parts)
    assert all(expression.startswith("substr(md5(text), 1, 1)") for expression in parts.values())
    dev, test = (
        set(parts[p].split("IN")[-1].split("=")[-1].strip(" ()").replace("'", "").split(", ")) for p in ("dev", "test")
    )
    left_out = set(parts["train"].split("NOT IN")[1].strip(" ()").replace("'", "").split(", "))
    assert dev | test == left_out and not dev & test


def test_other_languages_labels_are_not_those_of_the_target() -> None:
    for arm in claim().study.arms:
        assert arm.also is None or (
            arm.also.startswith("corpus = 'tuxpaint' AND language IN (") and "cs" not in arm.also
        )
