"""overture.recipes.ge2e: the published size, what arms share, which voices are kept from them, and what an exported encoder is used by."""

from dataclasses import replace

import torch

from overture.export.card import _use
from overture.models.transforms.apply import outline
from overture.recipes import get
from overture.recipes.ge2e import CROP, DEV, FOUR, MEL, OTHERS, TEST, TWELVE, claim


def test_the_published_size() -> None:
    run = get("ge2e:published")
    layers = [4 * 768 * (inputs + 256 + 2) + 256 * 768 for inputs in (40, 256, 256)]
    assert sum(p.numel() for p in outline(run).parameters()) == sum(layers) + 1  # and w
    grid, player = run.data.grid, run.players[0]
    assert grid is not None and (grid.values, grid.rows, run.frontend.mels, run.data.max_seconds) == (64, 10, 40, 1.6)
    assert (player.optim.lr, player.optim.weight_decay, player.optim.clip) == (1e-4, 0.0, 3.0)


def test_an_update_is_computed_at_once_in_every_size() -> None:
    for size in ("tiny", "default", "published"):
        run = get(f"ge2e:{size}")
        grid = run.data.grid
        assert grid is not None and run.plan.micro == run.plan.update
        assert abs(grid.values * grid.rows * run.data.max_seconds - run.plan.update) < 1e-9
        assert run.plan.update * run.data.max_seconds <= run.plan.longest_squared


def test_arms_differ_in_whom_they_hear_alone() -> None:
    arms = {a.name: a for a in claim().study.arms}
    assert {a.kind for a in arms.values()} == {"trained", "untrained", "input"}
    bare = {replace(a.run, data=replace(a.run.data, matched=None)).fingerprint for a in arms.values()}
    assert len(bare) == 1
    matched = [a.run.data.matched for a in arms.values() if a.kind == "trained"]
    assert [m and m.values for m in matched] == [FOUR, OTHERS, TWELVE]
    assert {m and round(m.hours * len(m.values), 9) for m in matched} == {0.19}
    grid = arms["12 voices"].run.data.grid
    assert grid is not None and grid.values == len(FOUR) == len(
        OTHERS
    )  # one batch has all the voices of the small arms
    shares = [m.hours * 3600 / CROP for m in matched if m]
    assert min(shares) > grid.rows  # a voice has a row of its own for each place in an update


def test_no_voice_is_both_heard_and_judged() -> None:
    assert set(FOUR).isdisjoint(OTHERS) and {*FOUR, *OTHERS} < set(TWELVE)
    assert len({*TWELVE, *DEV, *TEST}) == len(TWELVE) + len(DEV) + len(TEST)
    (trial,) = claim().study.trials
    parts = dict(trial.parts)
    for part, voices in (("dev", DEV), ("test", TEST)):
        assert [w.strip("'") for w in parts[part].partition("(")[2].rstrip(")").split(", ")] == list(voices)


def test_the_card_says_how_a_voice_becomes_a_vector() -> None:
    run = get("ge2e:tiny")
    model = run.model.build(MEL).eval()
    kind, use, _ = _use(run, model)
    (line,) = [u for u in use if u.startswith("vector = ")]
    names: dict[str, object] = {"model": model, "inputs": {"input_values": torch.randn(1, 50, 40)}}
    exec(line, names)
    vector = names["vector"]
    assert kind == "feature-extraction" and isinstance(vector, torch.Tensor) and vector.shape == (1, 16)
    torch.testing.assert_close(vector.norm(), torch.tensor(1.0))
