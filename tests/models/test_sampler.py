"""overture.models.sampler: a flow that is known exactly, guidance, what is known stays, and a batch equals one by one."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from overture.data.normal_mel import NormalMel
from overture.models.flow import FlowTransformer
from overture.models.modeling_flow import Condition, FlowModel
from overture.models.sampler import Prompt, Sampler

MEAN, DEVIATION = 3.0, 0.5


def gaussian(x: Tensor, time: float) -> Tensor:
    """The velocity that carries N(0, 1) to N(3, .5^2) along straight paths of independent pairs: E[x1 - x0 | x_t]."""
    variance = (1 - time) ** 2 + (time * DEVIATION) ** 2
    return MEAN + (time * DEVIATION**2 - (1 - time)) / variance * (x - time * MEAN)


def test_noise_becomes_the_data_and_midpoint_needs_fewer_evaluations() -> None:
    start = Sampler().noise(range(20), [200] * 20, 1)
    errors = {}
    for method in ("euler", "midpoint"):
        for steps in (4, 8, 16):
            x, evaluations = Sampler(method=method, steps=steps).integrate(gaussian, start)
            assert evaluations == steps * (1 if method == "euler" else 2)
            errors[method, evaluations] = float(
                (x - (MEAN + DEVIATION * start)).abs().max()
            )  # the exact end of each path
    x, _ = Sampler(steps=16).integrate(gaussian, start)
    assert float(x.mean()) == pytest.approx(MEAN, rel=0.01) and float(x.std()) == pytest.approx(DEVIATION, rel=0.03)
    assert errors["euler", 8] / errors["euler", 16] == pytest.approx(2, rel=0.15)  # of first order
    assert errors["midpoint", 16] / errors["midpoint", 32] > 3.5  # of second, at least
    assert errors["midpoint", 8] < 0.1 * errors["euler", 8] and errors["midpoint", 16] < 0.1 * errors["euler", 16]


class Pulled(torch.nn.Module):
    """Velocity 1 where it is told something and -1 where it is not; counts its passes."""

    null = 40
    passes = 0

    def forward(self, x: Tensor, valid: Tensor, *, time: Tensor, condition: Condition) -> Any:
        self.passes += 1
        untold = (condition.phones == self.null).all(1) & ~condition.context.flatten(1).any(1)
        return SimpleNamespace(velocity=torch.where(untold, -1.0, 1.0)[:, None, None].expand_as(x))


def told() -> tuple[Condition, Tensor, Tensor]:
    known = torch.arange(6)[None] < torch.tensor([[2], [0]])
    context = torch.full((2, 6, 3), 5.0) * known[..., None]
    return Condition(context, torch.full((2, 6), 7)), known, torch.tensor([6, 4])


@pytest.mark.parametrize("method", ["euler", "midpoint"])
def test_guidance_goes_beyond_what_is_told_and_costs_a_second_pass(method: Any) -> None:
    condition, known, lengths = told()
    for guidance, velocity in ((0.0, 1.0), (1.0, 3.0), (2.0, 5.0)):
        model, sampler = Pulled(), Sampler(method=method, steps=3, guidance=guidance)
        made = sampler.sample(model, condition, known, lengths, [0, 1])
        assert made.evaluations == 3 * (2 if method == "midpoint" else 1)
        assert made.passes == model.passes == made.evaluations * (2 if guidance else 1)
        start = sampler.noise([0, 1], [6, 4], 3)
        torch.testing.assert_close(made.x[0, 2:], start[0, 2:] + velocity)
        torch.testing.assert_close(made.x[1, :4], start[1, :4] + velocity)


def test_known_frames_stay_and_padding_is_empty() -> None:
    condition, known, lengths = told()
    made = Sampler(steps=2).sample(Pulled(), condition, known, lengths, [0, 1]).x
    assert torch.equal(made[0, :2], condition.context[0, :2]) and not (made[0, 2:] == 5.0).any()
    assert not made[1, 4:].any()


@pytest.fixture(scope="module")
def model() -> FlowModel:
    torch.manual_seed(0)
    return FlowTransformer(layers=2, dim=16, heads=2, ffn=24, phone_dim=8).build(NormalMel(mels=20)).eval()


def test_an_utterance_does_not_depend_on_its_batch(model: FlowModel) -> None:
    rng = np.random.default_rng(0)
    sizes = ((5, 14), (0, 21), (9, 10))
    prompts = [Prompt(rng.normal(size=(k, 20)).astype(np.float32), rng.integers(0, 40, t)) for k, t in sizes]
    sampler, keys = Sampler(steps=2), [3, 8, 5]
    together = sampler.speak(model, prompts, keys)
    assert [x.shape for x in together] == [(t - k, 20) for k, t in sizes]
    for prompt, key, made in zip(prompts, keys, together, strict=True):
        np.testing.assert_allclose(sampler.speak(model, [prompt], [key])[0], made, rtol=1e-4, atol=1e-4)
    again = sampler.speak(model, prompts, keys)
    assert all(np.array_equal(a, b) for a, b in zip(together, again, strict=True))
    assert not np.allclose(sampler.speak(model, prompts[:1], [4])[0], together[0], atol=0.1)
    assert not np.allclose(Sampler(steps=2, seed=1).speak(model, prompts[:1], [3])[0], together[0], atol=0.1)
    with pytest.raises(ValueError, match="prompt 0: 9 frames of phones, of which 9 are known"):
        sampler.speak(model, [Prompt(np.zeros((9, 20), np.float32), np.zeros(9, np.int64))], [0])


def test_what_is_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="0 steps"):
        Sampler(steps=0)
