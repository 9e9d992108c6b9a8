"""overture.recipes.flow_tts: the published size counted by hand, and values that its sheet names."""

import torch

from overture.config import from_dict, to_dict
from overture.data.phones import PHONES, FramePhones
from overture.recipes.flow_tts import claim, default, published, tiny


def test_the_published_size() -> None:
    run = published()
    with torch.device("meta"):
        model = run.model.build(run.frontend)
    d, ffn, mels = 1024, 4096, 100
    layer = 4 * (d * d + d) + 2 * d * ffn + ffn + d + 4 * d  # attention, feed-forward, two norms
    join = 2 * d * d + d  # in the upper half
    front = (len(PHONES) + 1) * d + (2 * mels + d) * d + d + d * (d // 16) * 31 + d + 2 * (d * d + d)
    assert sum(p.numel() for p in model.parameters()) == 24 * layer + 12 * join + front + 2 * d + d * mels + mels
    assert (run.frontend.rate, run.frontend.mels, run.frontend.hop) == (24_000, 100, 256)
    objective = run.players[0].objective
    assert (objective.span, objective.alone, objective.untold) == ((0.7, 1.0), 0.3, 0.2)
    assert round(run.plan.update * run.frontend.frame_rate) == 307_200


def test_every_size_is_told_phones_and_survives_json() -> None:
    for run in (tiny(), default(), published()):
        assert run.data.phones == FramePhones() and run.data.phones.name == run.players[0].objective.phones
        assert from_dict(run, to_dict(run)) == run


def test_the_claim_asks_one_network_in_three_ways() -> None:
    arms = claim().study.arms
    assert len({a.run.fingerprint for a in arms}) == 1
    assert {a.steps: a.name for a in arms if a.kind == "trained"} == {n: f"{n} evaluations" for n in (4, 8, 32)}
    with torch.device("meta"):
        model = arms[0].run.model.build(arms[0].run.frontend)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 2.1
