"""Parameterisations of linear layers: gradients, what is kept in memory, supports, merging, on networks of speech and text."""

import gc
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from overture.config import from_dict, override, to_dict
from overture.errors import OvertureError
from overture.models.text import Gpt2
from overture.models.transforms import NAMES, Lora, LowRank, Masked, SparseLowRank, Transform, find
from overture.models.transforms.apply import apply, counts, linear_layers, merge
from overture.models.transforms.linear import Factored, Sparse, draw, factored, merged
from overture.recipes import get

SLTRAIN = SparseLowRank(rank=4, alpha=2.0, density=0.1)
ALL: tuple[Transform, ...] = (LowRank(rank=4), SLTRAIN, Masked(sparsity=0.75), Lora(rank=4, alpha=8.0))
ROWS, IN, OUT = 5, 12, 20


def conv1d(outputs: int, inputs: int) -> nn.Module:
    from transformers.pytorch_utils import Conv1D

    made: nn.Module = Conv1D(outputs, inputs)
    return made


def layer(transform: Transform, *, conv: bool = False, seed: int = 0, trained: bool = False) -> Factored:
    """One whose parameters are all random, so that no gradient is zero by chance of the beginning."""
    torch.manual_seed(seed)
    dense = conv1d(OUT, IN) if conv else nn.Linear(IN, OUT)
    made = Factored(dense, transform, draw(seed, "x"), trained=trained)
    with torch.no_grad():
        for p in made.parameters():
            p.normal_()
    return made.double()


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_gradients_are_those_of_the_dense_expression(transform: Transform, conv: bool) -> None:
    made = layer(transform, conv=conv)
    x = torch.randn(2, ROWS, IN, dtype=torch.float64, requires_grad=True)
    names = [n for n, p in made.named_parameters() if p.requires_grad]
    parameters = [dict(made.named_parameters())[n] for n in names]

    def written_out(x: torch.Tensor) -> torch.Tensor:
        whole = torch.zeros(made.shape, dtype=torch.float64)
        if made.left is not None and made.right is not None:
            whole = whole + made.factor * made.left @ made.right
        if made.values is not None:
            places = torch.zeros(made.values.numel(), whole.numel(), dtype=torch.float64)
            places[torch.arange(len(places)), made.support.long()] = 1  # type: ignore[union-attr]
            whole = whole + (made.values.T @ places).view(made.shape)
        if made.weight is not None:
            whole = whole + made.weight
        return x @ (whole if conv else whole.T) + made.bias

    out = torch.randn(2, ROWS, OUT, dtype=torch.float64)
    torch.testing.assert_close(made(x), written_out(x))
    mine = torch.autograd.grad((made(x) * out).sum(), [x, *parameters])
    theirs = torch.autograd.grad((written_out(x) * out).sum(), [x, *parameters])
    for name, a, b in zip(["x", *names], mine, theirs):
        torch.testing.assert_close(a, b, msg=name)
    torch.testing.assert_close(made.dense()(x), made(x))
    if made.values is not None:
        function = lambda *given: Sparse.apply(*given, made.support, made.factor, made.shape, conv)  # noqa: E731
        given = (x, made.left, made.right, made.values)
        assert torch.autograd.gradcheck(function, given)


def alive(shape: tuple[int, ...]) -> int:
    gc.collect()
    found = [o for o in gc.get_objects() if type(o) in (torch.Tensor, nn.Parameter)]
    return sum(t.numel() == shape[0] * shape[1] or tuple(t.shape) in (shape, shape[::-1]) for t in found)


@pytest.mark.parametrize("autocast", [False, True])
def test_no_dense_matrix_lives_between_forward_and_backward(autocast: bool) -> None:
    torch.manual_seed(0)
    chain = nn.Sequential(*(Factored(nn.Linear(37, 41), SLTRAIN, draw(0, "a"), trained=False) for _ in range(1)))
    x, kept = torch.randn(3, 37, requires_grad=True), []

    def keep(t: torch.Tensor) -> torch.Tensor:
        kept.append(tuple(t.shape))
        return t

    before = alive((41, 37))
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        out = chain(x)
    assert before == alive((41, 37)) == 0
    assert (3, 37) in kept and not [s for s in kept if np.prod(s) >= 41 * 37]
    out.float().sum().backward()
    del out
    assert alive((41, 37)) == 0 and x.grad is not None
    # the same look finds the matrix that an ordinary layer keeps
    dense = nn.Linear(37, 41)
    assert alive((41, 37)) == 1 and dense


def test_bf16_is_close_to_fp32() -> None:
    made = layer(SLTRAIN).float()
    x = torch.randn(ROWS, IN)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = made(x)
    assert rounded.dtype == torch.bfloat16
    rounded.float().square().sum().backward()
    gradients = {n: p.grad.clone() for n, p in made.named_parameters() if p.grad is not None}
    made.zero_grad()
    made(x).square().sum().backward()
    for name, p in made.named_parameters():
        assert gradients[name].dtype == torch.float32 and p.grad is not None
        assert float((gradients[name] - p.grad).norm() / p.grad.norm()) < 0.03, name


def test_support() -> None:
    sizes: dict[str, list[int]] = {}
    for seed, name in [(0, "a"), (0, "b"), (1, "a"), (0, "a")]:
        made = Factored(nn.Linear(64, 48), SparseLowRank(rank=4, density=0.03), draw(seed, name), trained=False)
        assert made.support is not None and made.support.dtype == torch.int32
        places = made.support.tolist()
        assert (
            places == sorted(set(places))
            and len(places) == int(0.03 * 48 * 64)
            and places[0] >= 0
            and places[-1] < 48 * 64
        )
        sizes.setdefault(f"{seed}{name}", []).extend(places)
    again = sizes["0a"]
    assert again[: len(again) // 2] == again[len(again) // 2 :]
    assert sizes["0b"] != again[: len(again) // 2] != sizes["1a"]
    for share, places in ((0.75, 1024), (0.9, 409)):  # floor(0.1 * 4096), also where 1 - 0.9 is a little less
        masked = Factored(nn.Linear(64, 64), Masked(sparsity=share), draw(0, "a"), trained=False)
        assert int((masked.dense().weight != 0).sum()) == places == masked.values.numel()  # type: ignore[union-attr, operator, arg-type]


def test_it_begins_as_the_papers_say() -> None:
    torch.manual_seed(0)
    dense = nn.Linear(256, 192)
    made = Factored(dense, SparseLowRank(rank=32, alpha=8.0, density=0.1), draw(0, "a"), trained=False)
    whole = made.dense().weight
    assert made.factor == 8.0 / 32 and float(made.scale) == 0.25  # type: ignore[arg-type]
    assert int((whole != 0).sum()) == int(0.1 * 256 * 192)  # W = S
    assert 0.99 / 16 < float(whole.detach().abs().max()) <= 1 / 16  # uniform to 1 / sqrt(d_in)
    assert made.bias is dense.bias
    masked = Factored(dense, Masked(sparsity=0.5), draw(0, "a"), trained=False).dense().weight
    assert torch.equal(masked[masked != 0], dense.weight[masked != 0])
    low = Factored(dense, LowRank(rank=64), draw(0, "a"), trained=False).dense().weight
    assert float(low.detach().std()) == pytest.approx(1 / np.sqrt(3 * 256), rel=0.1)
    lora = Factored(dense, Lora(rank=8), draw(0, "a"), trained=True)
    assert torch.equal(lora.dense().weight, dense.weight)  # type: ignore[arg-type]
    assert [n for n, p in lora.named_parameters() if p.requires_grad] == ["bias", "left", "right"]
    with pytest.raises(OvertureError, match=r"transform\.rank=192"):
        Factored(dense, LowRank(rank=192), draw(0, "a"), trained=False)
    with pytest.raises(OvertureError, match="neither none nor all"):
        Factored(dense, Masked(sparsity=1.0), draw(0, "a"), trained=False)


@pytest.mark.parametrize("recipe", ["tera", "wav2vec2", "w2v-bert", "ssast", "structural", "stability-gap"])
def test_on_networks_of_speech_and_text(recipe: str) -> None:
    run = get(f"{recipe}:tiny")
    torch.manual_seed(0)
    model = run.model.build(run.frontend).eval()
    plain = {n: tuple(v.shape) for n, v in model.state_dict().items()}
    given = (
        torch.randint(6, 300, (2, 9))
        if run.on_text
        else torch.randn(2, 640 if not run.frontend.dim else 40, *([run.frontend.dim] if run.frontend.dim else []))
    )
    lengths = torch.tensor([given.shape[1]] * 2)
    for transform in (LowRank(rank=3), SLTRAIN, Masked(sparsity=0.5)):
        names = apply(model, transform, seed=3)
        assert names and all("layer" in n and "head" not in n for n in names)
        assert not [n for n in names if n in linear_layers(model)]
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p) * 0.02)
            before = model.states(given, lengths)[0]
            stored = {n: v.clone() for n, v in model.state_dict().items()}
            assert factored(stored) == sorted(names)
            merge(model)
            after = model.states(given, lengths)[0]
        for a, b in zip(before, after, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        assert {n: tuple(v.shape) for n, v in model.state_dict().items()} == plain
        read = merged(stored)
        assert read.keys() == plain.keys()
        assert all(torch.equal(read[n], v) for n, v in model.state_dict().items())
    kept = [n for n in linear_layers(model) if n not in names]
    assert any("head" in n or "project" in n for n in kept)


def test_gpt2_whose_matrices_lie_the_other_way() -> None:
    front = get("stability-gap:tiny").frontend
    model = Gpt2(layers=1, dim=16, heads=2, positions=32, dropout=0.0).build(front).eval()
    plain, ids, lengths = (
        {n: tuple(v.shape) for n, v in model.state_dict().items()},
        torch.randint(6, 300, (1, 8)),
        torch.tensor([8]),
    )
    assert len(apply(model, SLTRAIN, seed=0)) == 4
    before = model.states(ids, lengths)[0][-1]
    after = merge(model).states(ids, lengths)[0][-1]  # type: ignore[operator]
    torch.testing.assert_close(before, after)
    assert {n: tuple(v.shape) for n, v in model.state_dict().items()} == plain


def test_refused() -> None:
    def network() -> Any:
        run = get("tera:tiny")
        return run.model.build(run.frontend)

    with pytest.raises(OvertureError, match=r"found in none of the \d+ linear layers.*query"):
        apply(network(), LowRank(rank=2, include="mlp"), seed=0)
    with pytest.raises(OvertureError, match="found in none"):  # heads stay dense, whatever is asked
        apply(network(), LowRank(rank=2, include=r"^head\."), seed=0)
    with pytest.raises(OvertureError, match="--transform lora"):
        apply(network(), SLTRAIN, seed=0, trained=True)
    with pytest.raises(OvertureError, match="--start"):
        apply(network(), Lora(), seed=0)
    with pytest.raises(OvertureError, match="not trained as sparse"):
        apply(network(), Masked(), seed=0, trained=True)


def test_of_a_sparse_start_the_support_is_kept() -> None:
    run = get("tera:tiny")
    model = run.model.build(run.frontend)
    apply(model, Masked(sparsity=0.8), seed=1)
    before = {n: v.clone() for n, v in merge(model).state_dict().items()}
    apply(model, Masked(sparsity=0.8), seed=2, trained=True)
    for name, value in merge(model).state_dict().items():
        assert torch.equal(value, before[name]), name


def test_counts_are_those_of_the_flop_counter() -> None:
    for transform in ALL:
        torch.manual_seed(0)
        model = nn.ModuleDict(
            {"layers": nn.ModuleList([nn.Sequential(nn.Linear(24, 40), nn.Linear(40, 24))]), "head": nn.Linear(24, 7)}
        )
        whole = counts(model, 11)
        apply(model, transform, seed=0, trained=isinstance(transform, Lora))
        found = counts(model, 11)
        x = torch.randn(11, 24)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model["head"](model["layers"][0](x))  # type: ignore[index]
        assert found.flops == counter.get_total_flops(), transform
        layers = [m for m in model.modules() if isinstance(m, Factored)]
        assert found.parameters - whole.parameters == sum(p.numel() for m in layers for p in m.parameters()) - (
            2 * 24 * 40 + 64
        )
        assert found.skipping <= found.flops and (found.skipping < whole.flops) is not isinstance(transform, Lora)
        assert (found.trained == found.parameters) is not isinstance(transform, Lora)
        assert found.bytes == sum(v.numel() * v.element_size() for v in model.state_dict().values())


def test_masked_skips_what_is_zero() -> None:
    """Forward FLOPs of the layers fall to a quarter at 75 %; the head's stay."""
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.Sequential(nn.Linear(64, 64))]), "head": nn.Linear(64, 10)})
    whole = counts(model)
    apply(model, Masked(sparsity=0.75), seed=0)
    assert counts(model).skipping == 2 * (64 * 16 + 640) and counts(model).flops == whole.flops


def test_config_tells_the_kinds_apart() -> None:
    for template in (None, *NAMES.values()):
        for transform in (None, *NAMES.values()):
            run = replace(get("tera:tiny"), transform=transform)
            read = from_dict(replace(run, transform=template), json.loads(json.dumps(to_dict(run))))
            assert read == run and read.fingerprint == run.fingerprint
    assert get("tera:tiny").fingerprint != replace(get("tera:tiny"), transform=LowRank()).fingerprint
    run = get("tera:tiny")
    assert override(run, {"transform.rank": "5"}).transform == LowRank(rank=5)
    assert override(run, {"transform.density": "0.1", "transform.rank": "5"}).transform == SparseLowRank(
        rank=5, density=0.1
    )
    assert override(run, {"transform.sparsity": "0.5"}).transform == Masked(sparsity=0.5)
    assert override(replace(run, transform=Lora()), {"transform.rank": "3"}).transform == Lora(rank=3)
    assert find("sltrain") == SparseLowRank() and find("none") is None
    with pytest.raises(OvertureError, match="sltrain"):
        find("sl-train")
