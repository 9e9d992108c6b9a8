"""overture.models.flow: padding, time and phones matter or do not, streams begin silent, sizes, and a round trip through transformers' files."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from overture.data.features import Waveform
from overture.data.normal_mel import NormalMel
from overture.errors import OvertureError
from overture.models.flow import FlowTransformer, Stream
from overture.models.modeling_flow import Condition, FlowConfig, FlowModel, rotated, rotations
from overture.recipes.flow_tts import default, published

SIZES = FlowTransformer(layers=5, dim=32, heads=2, ffn=48, phone_dim=8)


@pytest.fixture
def model() -> FlowModel:
    torch.manual_seed(0)
    return SIZES.build(NormalMel()).eval()


def frames(*lengths: int) -> torch.Tensor:
    return torch.randn(len(lengths), max(lengths), 80, generator=torch.Generator().manual_seed(1))


def told(x: torch.Tensor) -> Condition:
    phones = torch.randint(0, 40, x.shape[:2], generator=torch.Generator().manual_seed(2))
    return Condition(x * (torch.arange(x.shape[1]) < 4)[None, :, None], phones)


def test_padding_reaches_nothing(model: FlowModel) -> None:
    x, few = frames(60, 60), 17
    condition, time = told(x), torch.tensor([0.3, 0.8])
    valid = torch.arange(60)[None] < torch.tensor([few, 60])[:, None]
    other, beyond = x.clone(), told(x)
    other[0, few:], beyond.context[0, few:], beyond.phones[0, few:] = 9.0, -5.0, 3
    alone = Condition(condition.context[:1, :few], condition.phones[:1, :few])
    with torch.no_grad():
        a = model(x, valid, time=time, condition=condition).velocity[0, :few]
        b = model(other, valid, time=time, condition=beyond).velocity[0, :few]
        c = model(x[:1, :few], time=time[:1], condition=alone).velocity[0]
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(a, c, rtol=1e-4, atol=1e-5)


def test_all_that_is_told_is_heard(model: FlowModel) -> None:
    x = frames(20)
    every, none = torch.ones(1, dtype=torch.bool), torch.zeros(1, dtype=torch.bool)
    with torch.no_grad():

        def at(time: float, condition: Condition) -> torch.Tensor:
            return model(x, time=torch.tensor([time]), condition=condition).velocity

        full = told(x)
        usual = at(0.4, full)
        silent = Condition(torch.zeros_like(full.context), full.phones)
        mute = Condition(full.context, torch.full_like(full.phones, model.null))
        swapped = Condition(full.context, full.phones.flip(1))
        for changed in (at(0.5, full), at(0.4, silent), at(0.4, mute), at(0.4, swapped)):
            assert (changed - usual).abs().max() > 1e-3
        assert torch.equal(at(0.4, full.without(every, model.null)), at(0.4, model.nothing(x)))
        assert torch.equal(at(0.4, full.without(none, model.null)), usual)
        torch.testing.assert_close(model(x).last_hidden_state, model.states(x, torch.tensor([20]))[0][-1])


def test_only_examples_that_are_named_lose_what_they_were_told() -> None:
    x = frames(9, 9, 9)
    full = Condition(x, torch.full((3, 9), 7), {"laughter": torch.ones(3, 9, 2)})
    left = full.without(torch.tensor([False, True, False]), 40)
    for i, gone in enumerate((False, True, False)):
        assert bool((left.context[i] == 0).all()) == bool((left.streams["laughter"][i] == 0).all()) == gone
        assert set(left.phones[i].tolist()) == {40 if gone else 7}


def test_a_new_stream_changes_nothing_until_it_has_learnt(model: FlowModel) -> None:
    more = replace(SIZES, streams=(Stream(name="laughter", dim=3),)).build(NormalMel()).eval()
    missing = more.load_state_dict(model.state_dict(), strict=False)
    assert missing.missing_keys == ["streams.laughter.weight"] and not missing.unexpected_keys
    x, time = frames(12), torch.tensor([0.5])
    loud = replace(told(x), streams={"laughter": torch.ones(1, 12, 3)})
    found = more(x, time=time, condition=loud).velocity
    assert torch.equal(found, model(x, time=time, condition=told(x)).velocity)
    found.square().sum().backward()
    assert more.streams["laughter"].weight.grad.any()  # but it learns from the first update on
    with pytest.raises(ValueError, match=r"streams \[\], and the network has \['laughter'\]"):
        more(x, time=time, condition=told(x))


def test_upper_layers_hear_the_lower_ones_that_mirror_them(model: FlowModel) -> None:
    assert [layer.join is not None for layer in model.layers] == [False, False, False, True, True]
    heard: list[tuple[torch.Tensor, ...]] = []
    for layer in model.layers:
        layer.register_forward_hook(lambda _, given, out: heard.append((given[3], out)))
    with torch.no_grad():
        model(frames(6))
    assert heard[3][0] is heard[1][1] and heard[4][0] is heard[0][1]
    assert all(heard[i][0] is None for i in range(3))


def test_positions_turn_pairs_and_know_distances_alone() -> None:
    turn = rotations(50, 8, torch.device("cpu"))
    assert turn.shape == (2, 50, 8)
    q, k = torch.randn(2, 1, 1, 1, 8)
    q, k = q.expand(1, 1, 50, 8), k.expand(1, 1, 50, 8)
    torch.testing.assert_close(rotated(q, turn).norm(dim=-1), q.norm(dim=-1))
    scores = (rotated(q, turn) @ rotated(k, turn).transpose(2, 3))[0, 0]
    torch.testing.assert_close(scores[3, 10], scores[30, 37], rtol=1e-4, atol=1e-4)
    assert (scores[3, 10] - scores[3, 11]).abs() > 1e-4


def test_sizes() -> None:
    with torch.device("meta"):
        of = {r.size: r.model.build(r.frontend) for r in (published(), default())}
    counts = {size: sum(p.numel() for p in m.parameters()) for size, m in of.items()}
    assert counts["published"] == pytest.approx(333e6, rel=0.01) and counts["default"] == pytest.approx(5.5e6, rel=0.01)
    assert (of["published"].config.features, of["published"].frame_rate) == (100, 93.75)
    with pytest.raises(OvertureError, match="dim=30 is not a multiple of twice"):
        replace(SIZES, dim=30).build(NormalMel())
    with pytest.raises(OvertureError, match="Waveform gives samples"):
        SIZES.build(Waveform())


def test_round_trip_through_transformers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = replace(SIZES, streams=(Stream(name="laughter", dim=3),)).build(NormalMel(mels=40)).eval()
    model.save_pretrained(tmp_path)
    assert FlowConfig.from_pretrained(tmp_path).streams == {"laughter": 3}
    again = FlowModel.from_pretrained(tmp_path).eval()
    x, mask = frames(11, 16)[..., :40], torch.ones(2, 16, dtype=torch.int64)
    mask[0, 11:] = 0
    with torch.no_grad():
        for a, b in zip(model(x, mask).to_tuple(), again(x, mask).to_tuple(), strict=True):
            assert torch.equal(a, b)
    assert all(torch.equal(p, again.state_dict()[n]) for n, p in model.state_dict().items())


def test_half_precision_stays_close(model: FlowModel) -> None:
    x = frames(25)
    with torch.no_grad():
        exact = model(x, condition=told(x)).velocity
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(x, condition=told(x)).velocity.float()
    assert torch.corrcoef(torch.stack([exact.flatten(), rough.flatten()]))[0, 1] > 0.999
