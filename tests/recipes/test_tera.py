"""overture.recipes.tera: the published size, and what of its sheet of traps is about the recipe itself."""

from dataclasses import replace

import torch

from overture.recipes import get
from overture.recipes.tera import TIME, TIME_FREQUENCY, TIME_FREQUENCY_MAGNITUDE, claim


def test_the_published_size() -> None:
    run = get("tera:published")
    with torch.device("meta"):
        model = run.model.build(run.frontend)
    head = sum(p.numel() for p in model.head.parameters())
    total = sum(p.numel() for p in model.parameters())
    # 3 BERT layers of H=768, FFN 3072; the projection of 80 channels; the head H x H and H x 80.
    layer = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    assert total - head == 3 * layer + 80 * 768 + 768 + 2 * 768
    assert head == 768 * 768 + 768 + 2 * 768 + 768 * 80 + 80
    assert (run.players[0].optim.lr, run.players[0].optim.warmup, run.players[0].optim.clip, run.loop.updates) == (
        2e-4,
        0.07,
        5.0,
        1_000_000,
    )


def test_the_magnitude_alteration_is_not_silently_off() -> None:
    for size in ("tiny", "default", "published"):
        assert get(f"tera:{size}").players[0].objective.alteration.noise_probability == 0.15


def test_the_claim_varies_nothing_but_the_alteration() -> None:
    arms = {a.name: a for a in claim().study.arms}
    assert {a.kind for a in arms.values()} == {"trained", "untrained", "input"}  # never without both controls
    alterations = {n: arms[n].run.players[0].objective.alteration for n in ("T", "T+F", "T+F+M")}
    assert alterations == {"T": TIME, "T+F": TIME_FREQUENCY, "T+F+M": TIME_FREQUENCY_MAGNITUDE}
    loops = {replace(a.run.loop, tolerate=()) for a in arms.values()}  # a rule that is let go changes no number
    rest = {(a.run.model, a.run.plan, a.run.frontend, a.run.players[0].optim) for a in arms.values()}
    assert len(loops) == len(rest) == 1
