"""overture.models.adapters: lengths against torch's convolutions, the published size, gradients, padding, and pooling by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from overture.config import fingerprint, from_dict, to_dict
from overture.errors import OvertureError
from overture.models.adapters import Adapter, ConvGlu, PoolLinear

SPECS = [
    ConvGlu(bottleneck=6),
    ConvGlu(kernels=(3, 7), width=10, bottleneck=6),
    PoolLinear(),
    PoolLinear(pool=3),
]


def built(spec: ConvGlu | PoolLinear, inputs: int = 8, outputs: int = 12) -> Adapter:
    torch.manual_seed(0)
    return spec.build(inputs, outputs).double()


def states(*lengths: int, dim: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(lengths), max(lengths), dim, generator=generator).double(), torch.tensor(lengths)


def test_half_a_minute_is_188_vectors() -> None:
    assert ConvGlu().steps(1500) == 188
    assert PoolLinear().steps(1500) == 750


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 400), st.lists(st.sampled_from([1, 3, 5, 7, 9]), min_size=1, max_size=4))
def test_steps_are_what_torchs_convolutions_make(count: int, kernels: list[int]) -> None:
    x = torch.zeros(1, 1, count)
    for kernel in kernels:
        x = nn.Conv1d(1, 1, kernel, stride=2, padding=kernel // 2, device="meta")(x.to("meta"))
    spec = ConvGlu(kernels=tuple(kernels))
    assert spec.steps(count) == x.shape[2]
    assert spec.steps(np.array([count, 1])).tolist() == [x.shape[2], 1]
    assert spec.steps(torch.tensor([count, 1])).tolist() == [x.shape[2], 1]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 400), st.integers(1, 5))
def test_steps_of_pooling_are_those_of_torchs_with_a_rest(count: int, pool: int) -> None:
    expected = F.avg_pool1d(torch.zeros(1, 1, count), pool, ceil_mode=True).shape[2]
    spec = PoolLinear(pool=pool)
    assert spec.steps(count) == expected
    assert spec.steps(np.array([count])).tolist() == spec.steps(torch.tensor([count])).tolist() == [expected]


@pytest.mark.parametrize("spec", SPECS)
def test_nothing_becomes_nothing(spec: ConvGlu | PoolLinear) -> None:
    assert spec.steps(0) == 0


def test_the_published_adapter_has_47_million_parameters() -> None:
    with torch.device("meta"):
        adapter = ConvGlu().build(768, 4096)
    assert [tuple(c.weight.shape) for c in adapter.convolutions] == [(1536, 768, 5), (1536, 768, 5), (8192, 768, 5)]
    convolutions = 2 * (1536 * 768 * 5 + 1536) + 8192 * 768 * 5 + 8192
    assert sum(p.numel() for p in adapter.parameters()) == convolutions + 2 * 4096 * 512 + 2 * 4096 == 47_467_520
    assert adapter.norm.eps == 1e-5
    y, lengths = adapter(torch.zeros(1, 1500, 768, device="meta"), torch.tensor([1500], device="meta"))
    assert y.shape == (1, 188, 4096) and lengths.shape == (1,)


def test_the_layers_of_blsp_in_their_order() -> None:
    """Against the sheet's formula, written out for an utterance alone."""
    adapter = built(ConvGlu(bottleneck=6))
    x, lengths = states(21)
    hidden = x.transpose(1, 2)
    for c in adapter.convolutions:
        out = F.conv1d(hidden, c.weight, c.bias, stride=2, padding=2)
        half = out.shape[1] // 2
        hidden = out[:, :half] * torch.sigmoid(out[:, half:])
    hidden = hidden.transpose(1, 2)
    hidden = hidden + F.gelu(hidden @ adapter.down.weight.T) @ adapter.up.weight.T
    expected = (hidden - hidden.mean(-1, keepdim=True)) / (hidden.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    y, found = adapter(x, lengths)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-9)
    assert found.tolist() == [3]


@pytest.mark.parametrize("spec", SPECS)
def test_padding_reaches_no_vector_whatever_stands_in_it(spec: ConvGlu | PoolLinear) -> None:
    adapter = built(spec)
    x, lengths = states(41, 22, 64, 1)
    for filling in (0.0, 50.0, float("nan")):
        padded = F.pad(x, (0, 0, 0, 7), value=filling)
        for b, n in enumerate(lengths.tolist()):
            padded[b, n:] = filling
        together, found = adapter(padded, lengths)
        assert found.tolist() == adapter.steps(lengths).tolist()
        assert together.shape == (4, adapter.steps(x.shape[1] + 7), 12)
        for b, n in enumerate(lengths.tolist()):
            alone, steps = adapter(x[b : b + 1, :n], torch.tensor([n]))
            assert alone.shape[1] == steps[0] == found[b]
            torch.testing.assert_close(together[b, : steps[0]], alone[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("spec", SPECS)
def test_the_gradient_reaches_every_parameter_and_no_padding(spec: ConvGlu | PoolLinear) -> None:
    adapter = built(spec)
    x, lengths = states(40, 17)
    x.requires_grad_()
    y, found = adapter(x, lengths)
    sum((y[b, :n] ** 3).sum() for b, n in enumerate(found.tolist())).backward()
    for name, parameter in adapter.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert x.grad is not None
    assert x.grad[1, :17].abs().sum(-1).min() > 0 and not x.grad[1, 17:].any()


def test_pooling_by_hand() -> None:
    adapter = PoolLinear(pool=2).build(1, 1)
    with torch.no_grad():
        adapter.linear.weight.fill_(10.0)
        adapter.linear.bias.fill_(1.0)
    x = torch.tensor([[1.0, 3.0, 5.0, 9.0], [2.0, 4.0, 8.0, 1e6]])[..., None]
    y, lengths = adapter(x, torch.tensor([4, 3]))
    assert lengths.tolist() == [2, 2]
    assert y[..., 0].tolist() == [[21.0, 71.0], [31.0, 81.0]]  # the last is the mean of 8 alone, not of 8 and 0


@pytest.mark.parametrize("spec", SPECS)
def test_a_spec_is_part_of_a_configuration(spec: ConvGlu | PoolLinear) -> None:
    assert from_dict(type(spec)(), to_dict(spec)) == spec
    assert len({fingerprint(s) for s in SPECS}) == len(SPECS)


@pytest.mark.parametrize("kernels", [(4, 5), (), (0,)])
def test_a_kernel_without_a_middle_is_refused(kernels: tuple[int, ...]) -> None:
    with pytest.raises(OvertureError, match=r"adapter\.kernels"):
        ConvGlu(kernels=kernels)
    with pytest.raises(OvertureError, match=r"adapter\.pool"):
        PoolLinear(pool=0)
