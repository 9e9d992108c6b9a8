"""overture.models.surgery: growth preserves the function, AKI takes what is new from above, and weights add up."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from overture.data.features import LogMel, Waveform
from overture.data.tokens import Tokens
from overture.errors import OvertureError
from overture.models.axes import axes, layer_of
from overture.models.patch import PatchTransformer
from overture.models.spectrogram import SpectrogramTransformer
from overture.models.surgery import Map, Maps, add, copy, difference, folded, grow, stack, unfolded, widen
from overture.models.text import Bert, Gpt2, Llama
from overture.models.wav2vec2 import Wav2Vec2
from overture.run import Grow
from overture.train.state import stored

TEXT, SPEECH = Tokens(vocabulary=300), Waveform(rate=16_000)
BERT = Bert(layers=2, dim=24, heads=3, ffn=40, positions=32, dropout=0.0)
LLAMA = Llama(layers=2, dim=24, heads=3, ffn=40, positions=32)
GPT2 = Gpt2(layers=2, dim=24, heads=3, positions=32, dropout=0.0)
WAV = Wav2Vec2(
    conv_dim=(16,) * 7, layers=2, dim=24, heads=3, ffn=40, position_groups=4, positions=8, entries=8, code_dim=8, projection=8, dropout=0.0
)  # fmt: skip
ALL = {"bert": BERT, "llama": LLAMA, "tied-llama": replace(LLAMA, tied=True), "gpt2": GPT2, "wav2vec2": WAV}
ALL["stable-wav2vec2"] = replace(WAV, stable_layer_norm=True)
ALL["patches"] = PatchTransformer(
    layers=2, dim=24, heads=3, ffn=40, frames=64, pretext=("discriminative", "generative")
)
FRAMES = LogMel(mels=16)
EACH = pytest.mark.parametrize("spec", ALL.values(), ids=ALL.keys())


def built(spec: Any, seed: int) -> Any:
    """In float64, with weights and norms far from what they are initialised to."""
    torch.manual_seed(seed)
    frontends = {Wav2Vec2: SPEECH, PatchTransformer: FRAMES}
    model = spec.build(frontends.get(type(spec), TEXT)).double().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn_like(p) * 0.3 + ("norm" in name.lower() and name.endswith("weight")))
    for norm in (
        m for m in model.modules() if type(m).__name__ == "LlamaRMSNorm"
    ):  # transformers' own works in float32
        norm.forward = lambda x, m=norm: nn.functional.rms_norm(x, x.shape[-1:], m.weight, m.variance_epsilon)
    return model


def wider(spec: Any, times: float = 2, layers: int | None = None) -> Any:
    ffn = {} if isinstance(spec, Gpt2) else {"ffn": round(spec.ffn * times)}
    sizes = {"dim": round(spec.dim * times), "heads": round(spec.heads * times), **ffn}
    return replace(spec, **sizes, layers=layers or spec.layers)


def even(small: Any, large: Any) -> Maps:
    """Maps that copy every index equally often."""

    def each(a: int, b: int) -> Map:
        return Map(np.arange(b) % a, np.arange(b) >= a)

    a, b = axes(small), axes(large)
    return Maps(
        each(a.hidden // a.groups, b.hidden // b.groups),
        a.groups,
        tuple(each(a.heads, b.heads).each(a.head) for _ in range(a.layers)),
        tuple(each(a.ffn, b.ffn) for _ in range(a.layers)),
    )


def weights_of(model: Any) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in stored(model).items()}


def filled(spec: Any, weights: dict[str, Tensor]) -> Any:
    model = built(spec, seed=5)
    fresh = stored(model)
    given = weights if weights.keys() == fresh.keys() else folded(weights, fresh)
    assert given.keys() == fresh.keys()
    model.load_state_dict(given, strict=False)
    return model


@torch.no_grad()
def answers(model: Any) -> Tensor:
    """Logits of text; of speech the projected states, which masked prediction is made of."""
    torch.manual_seed(1)
    if hasattr(model, "vocabulary"):
        ids = torch.randint(5, 300, (2, 12))
        return model.logits(model.hidden(ids, torch.tensor([12, 9])))
    if not hasattr(model, "outputs"):
        return model.head.generative(model.states(torch.randn(2, 64, 16).double(), torch.tensor([64, 50]))[0][-1])
    found: Tensor = model.outputs(torch.randn(2, 4000).double(), torch.tensor([4000, 3100]))["projected_states"]
    return found


def without_norms(model: Any) -> Any:
    """The same with norms that only multiply and add."""
    for module in model.modules():
        if "Norm" in type(module).__name__ and hasattr(module, "weight"):
            bias = getattr(module, "bias", None)
            module.forward = lambda x, w=module.weight, b=bias: x * w + (0 if b is None else b)
    return model


@EACH
def test_a_network_whose_indices_are_copied_equally_often_computes_the_same(spec: Any) -> None:
    small = built(spec, seed=0)
    large = filled(wider(spec), widen(unfolded(weights_of(small)), axes(spec), even(spec, wider(spec))))
    assert answers(small).std() > 0.1  # there is something to tell apart
    assert (answers(large) - answers(small)).abs().max() < 1e-8


@EACH
def test_any_map_preserves_the_function_but_for_norms(spec: Any) -> None:
    """Drawn maps: exact where norms only scale; with norms, within half a standard deviation at a stream of 24, and nearer than AKI."""
    large_spec = wider(spec, times=5 / 3)
    maps = Maps.drawn(axes(spec), axes(large_spec), seed=3)
    assert len({tuple(np.bincount(m.of)) for m in maps.ffn}) == spec.layers  # each layer its own, not all equally often
    small = built(spec, seed=0)
    given = unfolded(weights_of(small))
    large = filled(large_spec, widen(given, axes(spec), maps))
    aki = filled(large_spec, widen(given, axes(spec), maps, above=True))
    drift, further = ((answers(m) - answers(small)).abs().mean() / answers(small).std() for m in (large, aki))
    assert 1e-6 < drift < 0.5 and drift < further
    exact = (answers(without_norms(large)) - answers(without_norms(small))).abs().max()
    assert exact < 1e-8 * answers(without_norms(small)).abs().max().clamp_min(1.0)


@EACH
def test_without_the_division_by_copies_another_function_comes_out(spec: Any) -> None:
    small = built(spec, seed=0)
    table = {name: words.replace("/", "=") for name, words in axes(spec).table.items()}
    undivided = replace(axes(spec), table=table)
    large = filled(wider(spec), widen(unfolded(weights_of(small)), undivided, even(spec, wider(spec))))
    assert (answers(large) - answers(small)).abs().max() > 0.1


@EACH
def test_only_heads_and_ffn_grow_exactly(spec: Any) -> None:
    """With the stream as it was no norm counts anything twice, however uneven the copies are."""
    if isinstance(spec, Gpt2):
        pytest.skip("its ffn is four times the stream")
    large_spec = replace(spec, ffn=spec.ffn + 7)
    small = built(spec, seed=0)
    grown = grow(weights_of(small), spec, large_spec, Grow(method="fpi"), 0, weights_of(built(large_spec, 9)))
    assert (answers(filled(large_spec, grown)) - answers(small)).abs().max() < 1e-8


def test_each_word_by_hand() -> None:
    """Stream of 2 that becomes 3 (the second copied), an ffn of 2 that becomes 3 (the first copied), one head."""
    spec = Bert(layers=1, dim=2, heads=1, ffn=2, positions=4)
    old = np.array([False, False, True])
    head = Map(np.arange(2), np.zeros(2, bool))
    maps = Maps(Map(np.array([0, 1, 1]), old), 1, (head,), (Map(np.array([0, 1, 0]), old),))
    name = "network.bert.encoder.layer.0."
    weights = {
        f"{name}intermediate.dense.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        f"{name}output.dense.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        f"{name}output.LayerNorm.weight": torch.tensor([1.0, 2.0]),
        "network.cls.predictions.transform.LayerNorm.weight": torch.tensor([1.0, 2.0]),
        "network.bert.embeddings.word_embeddings.weight": torch.tensor([[1.0, 2.0]]),
    }
    into, out, norm, last, embedding = widen(weights, axes(spec), maps).values()
    assert into.tolist() == [[1, 1, 1], [3, 2, 2], [1, 1, 1]]
    assert out.tolist() == [[0.5, 2, 0.5], [1.5, 4, 1.5], [1.5, 4, 1.5]]
    assert norm.tolist() == [1, 2, 2] and last.tolist() == [1, 1, 1] and embedding.tolist() == [[1, 2, 2]]


def test_gpt2_keeps_queries_keys_and_values_apart() -> None:
    heads = Map(np.array([0, 1, 1]), np.array([False, False, True])).each(2)
    assert heads.of.tolist() == [0, 1, 2, 3, 2, 3]
    assert heads.times(3).of.tolist() == [0, 1, 2, 3, 2, 3, 4, 5, 6, 7, 6, 7, 8, 9, 10, 11, 10, 11]
    assert heads.copies.tolist() == [1, 1, 2, 2, 2, 2]


@EACH
def test_aki_takes_what_is_new_from_the_layer_above(spec: Any) -> None:
    """With the upper layer's own maps, after its own division; in the last layer, and in norms, FPI."""
    large_spec = wider(spec)
    before, maps = axes(spec), Maps.drawn(axes(spec), axes(large_spec), seed=1)
    given = unfolded(weights_of(built(spec, seed=0)))
    fpi, aki = widen(given, before, maps), widen(given, before, maps, above=True)
    changed = {name for name in fpi if not torch.equal(fpi[name], aki[name])}
    products = {n for n in fpi if layer_of(n) == 0 and "orm" not in n.rpartition(".")[0][-12:] and "ln_" not in n}
    assert changed == products
    for name in changed:
        words = before.of(name)
        dim = next(d for d, word in enumerate(words) if word[0] not in "/=-")
        new = torch.from_numpy(maps.at(words[dim], 0).new)
        above = fpi[name.replace(".0.", ".1.")]
        assert torch.equal(aki[name].movedim(dim, 0)[new], above.movedim(dim, 0)[new])
        assert torch.equal(aki[name].movedim(dim, 0)[~new], fpi[name].movedim(dim, 0)[~new])


def test_layers_are_stacked_and_the_rest_comes_from_the_top() -> None:
    name = "network.bert.encoder.layer.{}.output.dense.bias"
    weights = {name.format(i): torch.tensor([float(i)]) for i in range(3)} | {
        "network.cls.predictions.bias": torch.ones(1)
    }
    found = stack(weights, 3, 8)
    assert [found[name.format(i)].item() for i in range(8)] == [0, 1, 2, 0, 1, 2, 1, 2] and len(found) == 9
    assert stack(weights, 3, 3).keys() == weights.keys()


@EACH
def test_a_direct_copy_has_the_small_network_in_its_corner_and_the_rest_fresh(spec: Any) -> None:
    large_spec = wider(spec, layers=3)
    given, fresh = weights_of(built(spec, seed=0)), weights_of(built(large_spec, seed=1))
    found = grow(given, spec, large_spec, Grow(method="copy"), 0, fresh)
    assert {n: v.shape for n, v in found.items()} == {n: v.shape for n, v in fresh.items()}
    before, maps = axes(spec), Maps.drawn(axes(spec), axes(large_spec), seed=0)
    mixed, small, new = unfolded(found), unfolded(given), unfolded(fresh)
    for name, value in mixed.items():
        kept = torch.isclose(value, new[name])
        if layer_of(name) == 2:
            assert kept.all()
        else:
            assert int((~kept).sum()) == small[name].numel()
    for name, value in copy(small, before, maps, new).items():
        assert torch.allclose(value, mixed[name])


def test_a_weight_normed_product_is_the_same_after_folding() -> None:
    weights = weights_of(built(WAV, seed=0))
    again = folded(unfolded(weights), weights)
    assert again.keys() == weights.keys()
    product = unfolded(again)["network.wav2vec2.encoder.pos_conv_embed.conv.weight"]
    conv = built(WAV, seed=0).network.wav2vec2.encoder.pos_conv_embed.conv
    assert torch.allclose(product, conv.weight)


def test_maps_are_drawn_from_the_seed_and_are_uniform() -> None:
    a, b = axes(BERT), axes(wider(BERT, times=100))
    one, same, other = (Maps.drawn(a, b, seed).group.of for seed in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    assert np.array_equal(one[:24], np.arange(24))
    share = np.bincount(one[24:]) / len(one[24:])
    assert np.abs(share - 1 / 24).max() < 5 * np.sqrt(1 / 24 / len(one[24:]))


@pytest.mark.parametrize(
    ("small", "large", "how", "message"),
    [
        (BERT, replace(BERT, dim=12, heads=3), "fpi", "hidden of 24 cannot become 12"),
        (BERT, replace(BERT, layers=1), "aki", "layers of 2 cannot become 1"),
        (BERT, replace(BERT, dim=48), "fpi", "heads of size 8 cannot become heads of size 16.*set model.heads to 6"),
        (BERT, replace(BERT, dropout=0.1), "fpi", "the very sizes of this run"),
        (BERT, replace(BERT, ffn=80), "stack", "method=stack adds layers alone"),
        (LLAMA, replace(LLAMA, dim=48, heads=6, groups=3), "fpi", "model.groups=3: 6 heads of queries share 3"),
        (SpectrogramTransformer(), SpectrogramTransformer(), "fpi", "a SpectrogramTransformer are not described"),
        (PatchTransformer(positions="sinusoid"), PatchTransformer(), "fpi", "would see its patches elsewhere"),
    ],
)  # fmt: skip
def test_what_cannot_grow_is_said(small: Any, large: Any, how: Any, message: str) -> None:
    with pytest.raises(OvertureError, match=message):
        grow({}, small, large, Grow(method=how), 0, {})


def test_a_parameter_that_nobody_described_is_named() -> None:
    with pytest.raises(
        OvertureError, match=r"what the dimensions of network\.bert\.pooler\.dense\.weight are is not known"
    ):
        grow({"network.bert.pooler.dense.weight": torch.ones(24, 24)}, BERT, wider(BERT), Grow(), 0, {})
    wrong = {"network.bert.embeddings.word_embeddings.weight": torch.ones(9, 23)}
    with pytest.raises(OvertureError, match=r"word_embeddings.weight is \(9, 23\), and its hidden should be 24"):
        grow(wrong, BERT, wider(BERT), Grow(), 0, {})


def test_a_difference_added_to_its_base_is_the_other_network() -> None:
    """Norms and embeddings too; to the bit in bf16, whose difference is taken in float32; and with a scale."""
    base, other = ({n: v.float() for n, v in weights_of(built(replace(LLAMA, tied=True), s)).items()} for s in (0, 1))
    change = difference(other, base)
    assert change.keys() == base.keys() == weights_of(built(replace(LLAMA, tied=True), 0)).keys()
    for name, value in add(base, change).items():
        assert torch.allclose(value, other[name], rtol=0, atol=1e-6)
    for name, value in add(base, change, 0.5).items():
        assert torch.allclose(value, (base[name] + other[name]) / 2, atol=1e-6)
    low, near = ({n: (v + e).bfloat16() for n, v in base.items()} for e in (0, 1e-2))
    change = difference(near, low)
    assert all(v.dtype == torch.float32 for v in change.values())
    again = add(low, change)
    assert all(v.dtype == torch.bfloat16 and torch.equal(v, near[n]) for n, v in again.items())


def test_weights_of_different_networks_do_not_add() -> None:
    base = {"a": torch.ones(2), "b": torch.ones(3)}
    with pytest.raises(OvertureError, match="b stand on one side only"):
        difference(base, {"a": torch.ones(2)})
    with pytest.raises(OvertureError, match=r"b is \(3,\) on one side and \(2,\)"):
        add(base, {"a": torch.ones(2), "b": torch.ones(2)})


def test_norms_are_what_without_norms_thinks() -> None:
    found = {type(m).__name__ for m in built(LLAMA, 0).modules() if "Norm" in type(m).__name__}
    assert found == {"LlamaRMSNorm"} and any(isinstance(m, nn.LayerNorm) for m in built(BERT, 0).modules())
