"""overture.quantize.random_projection: ids that anyone with the seed gets."""

import numpy as np
import torch

from overture.quantize.meters import usage
from overture.quantize.random_projection import RandomProjection


def frames(n: int = 500, dim: int = 40) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(0))


def test_ids_are_those_of_the_definition() -> None:
    quantizer = RandomProjection(40, 64, 16, groups=3, seed=5)
    found = quantizer(frames())
    assert found.ids.shape == (500, 3) and found.ids.dtype == torch.int64 and found.vectors.shape == (500, 48)
    for g in range(3):
        projected = frames().double() @ quantizer.projection[g].double()
        projected /= projected.norm(dim=1, keepdim=True)
        distance = (projected[:, None] - quantizer.codes[g].double()[None]).norm(dim=-1)  # (N, V)
        assert torch.equal(found.ids[:, g], distance.argmin(1))
        assert torch.equal(found.vectors[:, 16 * g : 16 * (g + 1)], quantizer.codes[g][found.ids[:, g]])
    assert not torch.equal(found.ids[:, 0], found.ids[:, 1])


def test_nothing_learns_and_the_seed_decides() -> None:
    before = torch.get_rng_state()
    one, same, other = (RandomProjection(40, 64, 16, seed=s) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert list(one.parameters()) == [] and set(one.state_dict()) == {"projection", "codes"}
    x = frames().requires_grad_()
    assert torch.equal(one(x).ids, same(x).ids) and not torch.equal(one(x).ids, other(x).ids)
    assert not one(x).vectors.requires_grad
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x).ids, other(x).ids)
    np.testing.assert_allclose(one.codes.norm(dim=-1).numpy(), 1, rtol=1e-6)
    assert float(one.projection.abs().max()) <= (6 / 56) ** 0.5


def test_normalised_frames_use_many_codes_and_precision_does_not_matter() -> None:
    quantizer = RandomProjection(40, 64, 16)
    assert float(usage(quantizer(frames()).ids, 64)["codes_used"]) > 0.9
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer(frames()).ids, RandomProjection(40, 64, 16)(frames()).ids)
    assert torch.equal(quantizer(frames()).ids, quantizer(frames().repeat(30, 1)).ids[:500])  # more than one chunk
