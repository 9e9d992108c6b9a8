"""overture.models.patch: cutting, orders, positions on other grids, padding, context, class tokens, and the way to transformers' AST."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ASTConfig, ASTModel

from overture.data.features import KaldiFbank, LogMel
from overture.errors import OvertureError
from overture.models.modeling_patch import PatchModel, fit, sinusoid_grid
from overture.models.modeling_spectrogram import sinusoids
from overture.models.patch import PatchTransformer

MEL = LogMel(mels=16)  # 100 Hz
SIZES = PatchTransformer(patch=(4, 5), stride=(4, 5), frames=50, layers=2, dim=16, heads=2, ffn=24)


def built(seed: int = 0, **changes: Any) -> PatchModel:
    torch.manual_seed(seed)
    model = replace(SIZES, **changes).build(MEL).eval()
    with torch.no_grad():  # so that biases and norms take part
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def frames(*lengths: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(len(lengths), max(lengths), MEL.mels, generator=torch.Generator().manual_seed(seed))


def full(x: torch.Tensor) -> torch.Tensor:
    return torch.full((len(x),), x.shape[1])


@pytest.mark.parametrize("stride", [(4, 5), (2, 3), (4, 1)])
def test_patches_are_cut_where_they_should_be(stride: tuple[int, int]) -> None:
    model, x = built(stride=stride), frames(23, 23)
    patches = model.patches(x, full(x))
    rows, columns = (16 - 4) // stride[0] + 1, (23 - 5) // stride[1] + 1
    assert patches.shape == (2, rows, columns, 20)
    for f, t in ((0, 0), (1, 2), (rows - 1, columns - 1)):
        down, along = f * stride[0], t * stride[1]
        cut = x[1, along : along + 5, down : down + 4].T  # frequency first, as the published models take their input
        assert torch.equal(patches[1, f, t], cut.flatten())


def test_the_embedding_is_the_convolution_of_its_name() -> None:
    for stride in ((4, 5), (2, 3)):
        model, x = built(stride=stride), frames(23)
        projection = model.embeddings.patch_embeddings.projection
        expected = projection(x.transpose(1, 2)[:, None])  # (B, D, F', T')
        found = model.embeddings.patch_embeddings(model.patches(x, full(x)))
        torch.testing.assert_close(found, expected.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


def test_orders_number_the_same_patches_differently() -> None:
    grid = torch.arange(12).view(1, 3, 4)  # f * T' + t
    assert built(order="frequency").tokens(grid)[0].tolist() == list(range(12))
    assert built(order="time").tokens(grid)[0].tolist() == [f * 4 + t for t in range(4) for f in range(3)]
    x = frames(23, 17)
    outputs = []
    for order in ("frequency", "time"):
        outputs.append(built(order=order)(x, torch.arange(23)[None] < torch.tensor([[23], [17]])).patch_states)
    torch.testing.assert_close(outputs[0][:, :, :3], outputs[1][:, :, :3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("class_tokens", [0, 1, 2])
@pytest.mark.parametrize("positions", ["learned", "sinusoid", "none"])
def test_padding_reaches_nothing(positions: str, class_tokens: int) -> None:
    model = built(positions=positions, class_tokens=class_tokens)
    lengths = torch.tensor([23, 64, 3])  # shorter than the learned grid, longer than it, shorter than a patch
    x = frames(*lengths.tolist())
    other = x.clone()
    for b, n in enumerate(lengths.tolist()):
        x[b, n:], other[b, n:] = 0.0, 100.0
    with torch.no_grad():
        together, steps = model.states(x, lengths)
        assert steps.tolist() == [4, 12, 1] == model.steps(lengths).tolist()
        assert len(together) == SIZES.layers + 1 and together[0].shape == (3, 12, 16)
        for b, n in enumerate(lengths.tolist()):
            alone, _ = model.states(x[b : b + 1, :n], lengths[b : b + 1])
            filled, _ = model.states(other, lengths)
            for a, t, o in zip(alone, together, filled):
                own = int(steps[b])
                assert a.shape[1] == own
                torch.testing.assert_close(a[0], t[b, :own], rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(o[b, :own], t[b, :own], rtol=1e-4, atol=1e-5)


def test_an_utterance_shorter_than_a_patch_has_a_state() -> None:
    model, x = built(), frames(1)
    states, steps = model.states(x, torch.tensor([1]))
    assert steps.tolist() == [1] and states[-1].shape == (1, 1, 16) and bool(states[-1].isfinite().all())
    assert (states[-1] - model.states(2 * x, torch.tensor([1]))[0][-1]).abs().max() > 1e-3  # and it is about its frames


def test_a_steps_state_is_the_mean_of_its_patches() -> None:
    model, x = built(), frames(40, 40)
    with torch.no_grad():
        output = model(x, output_hidden_states=True)
        states, _ = model.states(x, full(x))
    assert output.patch_states.shape == (2, 4, 8, 16)
    torch.testing.assert_close(output.last_hidden_state, output.patch_states.mean(1))
    assert all(map(torch.equal, states, output.hidden_states))
    torch.testing.assert_close(
        states[-1].mean(1), model.tokens(output.patch_states).mean(1)
    )  # of the clip: all patches alike
    assert model(x).hidden_states is None and len(model(x, return_dict=False)) == 2


def test_the_learned_grid_is_cropped_in_the_middle_and_interpolated_beyond() -> None:
    model = built()
    with torch.no_grad():
        model.embeddings.position_embeddings[:, 2:] = torch.arange(40.0)[None, :, None].expand(1, 40, 16)  # f * 10 + t
    at = lambda rows, columns: model.embeddings.learned(rows, columns, torch.tensor([columns]))[0, :, :, 0]  # noqa: E731
    grid = torch.arange(40.0).view(4, 10)
    assert torch.equal(at(4, 10), grid)
    assert torch.equal(at(4, 6), grid[:, 2:8])
    assert torch.equal(at(2, 7), grid[1:3, 2:9])
    for shape in ((4, 20), (7, 10), (7, 23)):
        expected = torch.nn.functional.interpolate(grid[None, None], shape, mode="bilinear", align_corners=False)[0, 0]
        torch.testing.assert_close(at(*shape), expected)
    mixed = torch.nn.functional.interpolate(grid[None, None, 1:3], (2, 20), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(at(2, 20), mixed)  # cut along frequency, interpolated along time


def test_every_size_fits_as_in_ast() -> None:
    for have in (7, 8):
        grid = torch.arange(float(have)).view(1, 1, 1, have)
        for size in range(1, have + 1):
            found = fit(grid, 3, size).flatten().tolist()
            start = int(have / 2) - int(size / 2)  # as the published code writes it
            assert found == list(range(start, start + size))
        assert fit(grid, 3, 3 * have).shape[3] == 3 * have


def test_learned_positions_of_a_batch_are_those_of_each_alone() -> None:
    embeddings = built().embeddings
    steps = torch.tensor([3, 12, 3, 10])
    together = embeddings.learned(4, 12, steps)
    for b, n in enumerate(steps.tolist()):
        assert torch.equal(together[b, :, :n], embeddings.learned(4, n, steps[b : b + 1])[0])
        assert not together[b, :, n:].any()
    together.sum().backward()
    assert bool(embeddings.position_embeddings.grad[:, 2:].any())


def test_positions_and_class_tokens_do_not_start_at_zero() -> None:
    torch.manual_seed(0)
    embeddings = SIZES.build(MEL).embeddings
    for name in ("position_embeddings", "cls_token", "distillation_token"):
        assert 0.01 < float(getattr(embeddings, name).detach().std()) < 0.03, name


def test_sinusoids_in_one_and_in_two_dimensions() -> None:
    flat, grid = sinusoid_grid(1, 9, 16, torch.device("cpu")), sinusoid_grid(3, 9, 16, torch.device("cpu"))
    assert torch.equal(flat[0], sinusoids(9, 16, torch.device("cpu")))
    assert (
        grid.shape == (3, 9, 16)
        and torch.equal(grid[2, 4, :8], grid[2, 7, :8])
        and torch.equal(grid[0, 4, 8:], grid[2, 4, 8:])
    )
    assert grid[1, 4, 0] == pytest.approx(math.sin(1)) and grid[1, 4, 8] == pytest.approx(math.sin(4))


def test_positions_without_parameters_share_weights_with_none() -> None:
    none, sinusoid = built(positions="none"), built(positions="sinusoid", seed=7)
    assert {n: p.shape for n, p in none.state_dict().items()} == {n: p.shape for n, p in sinusoid.state_dict().items()}
    sinusoid.load_state_dict(none.state_dict())
    x = frames(40)
    assert (none(x).last_hidden_state - sinusoid(x).last_hidden_state).abs().max() > 1e-2


def test_a_smaller_stride_has_the_same_weights() -> None:
    wide, narrow = built(), built(stride=(2, 3), seed=7)
    narrow.load_state_dict(wide.state_dict())
    assert narrow(frames(50)).patch_states.shape == (1, 7, 16, 16)
    assert narrow.frame_rate == pytest.approx(100 / 3) and wide.frame_rate == 20


def test_masked_patches_are_hidden_and_keep_their_positions() -> None:
    model, x = built(), frames(40)
    masked = torch.zeros(1, 4, 8, dtype=torch.bool)
    masked[0, 2, 3] = masked[0, 0, 5] = True
    other = x.clone()
    other[0, 15:20, 8:12] += 3.0  # patch (2, 3)
    with torch.no_grad():
        a, b = (model(v, masked=masked).patch_states for v in (x, other))
        assert torch.equal(a, b)  # nothing of a hidden patch is left
        assert (model(x).patch_states - model(other).patch_states).abs().max() > 1e-3
        first = model.hidden(x, full(x), masked)[0]
        positions = model.embeddings.learned(4, 8, torch.tensor([8]))[0]
        for f, t in ((2, 3), (0, 5)):
            torch.testing.assert_close(first[0, f, t], model.head.mask + positions[f, t])
        torch.testing.assert_close(first[0, 1, 1], model.hidden(x, full(x))[0][0, 1, 1])


@pytest.mark.parametrize("class_tokens", [0, 2])
def test_what_is_outside_the_context_is_never_read_in_any_layer(class_tokens: int) -> None:
    model, x = built(layers=3, class_tokens=class_tokens, positions="none"), frames(40)
    context = torch.zeros(1, 4, 8, dtype=torch.bool)
    context[0, :, ::2] = True
    other = x.clone()
    other[0, 15:20, 8:12] += 3.0  # patch (2, 3), outside
    with torch.no_grad():
        a, b = (model(v, context=context).patch_states for v in (x, other))
        same = (a - b).abs().amax(-1)[0] < 1e-6  # (F', T')
        assert same.sum() == 31 and not same[2, 3]  # it reads, and is not read
        inside = x.clone()
        inside[0, 20:25, 8:12] += 3.0  # patch (2, 4), in the context
        assert bool(((a - model(inside, context=context).patch_states).abs().amax(-1) > 1e-6).all())
        everything = model(x, context=torch.ones_like(context)).patch_states
        torch.testing.assert_close(everything, model(x).patch_states)


def test_the_context_is_what_gathering_keys_and_values_gives() -> None:
    """The columns left out are as if keys and values had been computed from the context alone, in each layer."""
    model, x = built(layers=2, class_tokens=0, positions="none"), frames(40)
    context = torch.rand(1, 4, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    kept = model.tokens(context)[0]
    with torch.no_grad():
        h = model.tokens(model.hidden(x, full(x))[0])[0]  # (N, D)
        for layer in model.layers:
            normed, attention = layer.layernorm_before(h), layer.attention
            q, k, v = attention.q_proj(normed), attention.k_proj(normed[kept]), attention.v_proj(normed[kept])
            q, k, v = (m.unflatten(-1, (2, 8)).transpose(0, 1) for m in (q, k, v))  # (H, N or |S|, D / H)
            read = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(8), -1) @ v
            h = h + attention.o_proj(read.transpose(0, 1).flatten(1))
            h = h + layer.mlp(layer.layernorm_after(h))
        found = model.tokens(model(x, context=context).patch_states)[0]
    torch.testing.assert_close(found, model.layernorm(h), rtol=1e-4, atol=1e-5)


def test_without_positions_permuted_tokens_give_permuted_states() -> None:
    model = built(patch=(16, 1), stride=(16, 1), positions="none", class_tokens=0)
    x, order = frames(40), torch.randperm(40, generator=torch.Generator().manual_seed(3))
    context = torch.rand(1, 1, 40, generator=torch.Generator().manual_seed(0)) < 0.5
    with torch.no_grad():
        straight = model(x, context=context).last_hidden_state
        permuted = model(x[:, order], context=context[..., order]).last_hidden_state
        torch.testing.assert_close(permuted, straight[:, order], rtol=0, atol=1e-5)
        placed = built(patch=(16, 1), stride=(16, 1), positions="sinusoid", class_tokens=0)
        assert (placed(x[:, order]).last_hidden_state - placed(x).last_hidden_state[:, order]).abs().max() > 1e-2


def test_the_encoder_is_transformers_ast_key_by_key() -> None:
    """Every key of `ASTModel` but none of the heads is ours by the same name and shape, and the outputs are the same."""
    config = ASTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        patch_size=4,
        frequency_stride=4,
        time_stride=4,
        max_length=40,
        num_mel_bins=16,
        layer_norm_eps=1e-6,
    )
    torch.manual_seed(0)
    theirs = ASTModel(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # class tokens and positions start at zero there
            parameter.add_(0.1 * torch.randn(parameter.shape))
    mine = built(patch=(4, 4), stride=(4, 4), frames=40)
    keys = {n: p.shape for n, p in theirs.state_dict().items()}
    ours = {n: p.shape for n, p in mine.state_dict().items() if not n.startswith("head.")}
    assert keys == ours
    assert {n.split(".")[0] for n in keys} == {"embeddings", "layers", "layernorm"}
    report = mine.load_state_dict(theirs.state_dict(), strict=False)
    assert not report.unexpected_keys and all(n.startswith("head.") for n in report.missing_keys)
    x = frames(40, 40)
    with torch.no_grad():
        expected = theirs(x).last_hidden_state  # (B, 2 + N, D), frequency-major
        torch.testing.assert_close(mine.tokens(mine(x).patch_states), expected[:, 2:], rtol=1e-4, atol=1e-5)


def test_round_trip_through_transformers(tmp_path: Path) -> None:
    model = built(order="time", pretext=("generative", "position"))
    model.save_pretrained(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    again = PatchModel.from_pretrained(tmp_path).eval()
    assert {n: p.shape for n, p in again.state_dict().items()} == {n: p.shape for n, p in model.state_dict().items()}
    x = frames(31, 40)
    mask = torch.arange(40)[None] < torch.tensor([[31], [40]])
    with torch.no_grad():
        for a, b in zip(model(x, mask).to_tuple(), again(x, mask).to_tuple(), strict=True):
            assert torch.equal(a, b)


def test_heads_are_those_asked_for() -> None:
    both, position = built().head, built(pretext=("position",)).head
    assert {n.split(".")[0] for n in both.state_dict()} == {"mask", "discriminative", "generative"}
    assert {n.split(".")[0] for n in position.state_dict()} == {"position"} and position.mask is None
    x = torch.randn(3, 16)
    assert both.discriminative(x).shape == both.generative(x).shape == (3, 4 * 5)
    assert position.position(x).shape == (3, 4 * 10)
    assert [type(m).__name__ for m in both.generative] == ["Linear", "ReLU", "Linear"]
    assert [type(m).__name__ for m in position.position] == ["LayerNorm", "Linear"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": (128, 2), "stride": (128, 2)}, "128 channels do not fill frames of 16"),
        ({"patch": (5, 5), "stride": (5, 5)}, "do not fill"),
        ({"stride": (4, 6)}, "go unseen"),
        ({"frames": 4}, "shorter than one patch"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OvertureError, match=message):
        replace(SIZES, **changes).build(MEL)


def test_sizes_follow_the_front_end() -> None:
    model = replace(SIZES, patch=(16, 16), stride=(16, 16), frames=1024).build(KaldiFbank())
    assert model.config.position_grid == [8, 64] and model.frame_rate == 6.25
    assert model(torch.randn(1, 100, 128)).patch_states.shape == (1, 8, 6, 16)


def test_half_precision_states_stay_close() -> None:
    model, x = built(), frames(40, 33)
    mask = torch.arange(40)[None] < torch.tensor([[40], [33]])
    with torch.no_grad():
        exact = model(x, mask).last_hidden_state
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(x, mask).last_hidden_state.float()
    assert torch.corrcoef(torch.stack([exact[:, :6].flatten(), rough[:, :6].flatten()]))[0, 1] > 0.999
