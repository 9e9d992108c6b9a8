"""overture.models.w2v_bert: lengths, padding, positions against transformers', states, and a round trip through its files."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Wav2Vec2ConformerConfig
from transformers.models.wav2vec2_conformer import modeling_wav2vec2_conformer as theirs

from overture.data.features import KaldiFbank, LogMel
from overture.models.modeling_w2v_bert import (
    ConformerBlock,
    ConvolutionModule,
    W2vBertConfig,
    W2vBertModel,
    relative_positions,
    rotary_positions,
)
from overture.models.w2v_bert import W2vBert

SIZES = {
    "context_blocks": 2,
    "mlm_blocks": 1,
    "dim": 16,
    "heads": 2,
    "ffn": 24,
    "channels": 3,
    "entries": 12,
    "code_dim": 8,
    "contrast_dim": 6,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "init": 0.1,
}
POSITIONS = ["relative", "rotary", "none"]


def build(**changes: object) -> W2vBertModel:
    torch.manual_seed(0)
    return W2vBert(**{**SIZES, **changes}).build(LogMel()).eval()


def frames(*lengths: int, features: int = 80) -> torch.Tensor:
    return torch.randn(len(lengths), max(lengths), features, generator=torch.Generator().manual_seed(1))


def test_steps_are_those_the_convolutions_make() -> None:
    model = build()
    assert model.frame_rate == 25.0  # 40 ms
    lengths = torch.arange(1, 60)
    steps = model.steps(lengths)
    assert steps.tolist() == [-(-int(n) // 4) for n in lengths]
    with torch.no_grad():
        for n in (1, 2, 3, 4, 5, 31, 32, 33):
            hidden, found = model.states(frames(n), torch.tensor([n]))
            assert hidden[-1].shape == (1, -(-n // 4), 16) and found.tolist() == [-(-n // 4)]


@pytest.mark.parametrize("positions", POSITIONS)
def test_padding_reaches_no_state_whatever_stands_in_it(positions: str) -> None:
    model = build(positions=positions)
    lengths = torch.tensor([41, 22, 64])
    x = frames(*lengths.tolist())
    found = []
    with torch.no_grad():
        for filling in (0.0, 50.0, float("nan")):
            padded = x.clone()
            for b, n in enumerate(lengths):
                padded[b, n:] = filling
            found.append(model.states(padded, lengths))
        for b, n in enumerate(lengths.tolist()):
            alone, steps = model.states(x[b : b + 1, :n], torch.tensor([n]))
            for states, together in found:
                assert together[b] == steps[0]
                for one, many in zip(alone, states, strict=True):
                    torch.testing.assert_close(one[0], many[b, : steps[0]], rtol=1e-4, atol=1e-5)


def test_the_leak_that_our_convolution_module_stops_is_real() -> None:
    """Transformers' module, and ours without the mask, do see the padding."""
    config = build().config
    x, valid = torch.randn(1, 9, 16, generator=torch.Generator().manual_seed(3)), torch.ones(1, 9, 1)
    valid[:, 6:] = 0
    other = torch.where(valid > 0, x, x.flip(-1))
    torch.manual_seed(0)
    ours, published = ConvolutionModule(config).eval(), theirs.Wav2Vec2ConformerConvolutionModule(config).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(x, valid)[:, :6], ours(other, valid)[:, :6], rtol=0, atol=0)
        assert (ours(x, torch.ones_like(valid)) - ours(other, torch.ones_like(valid)))[:, :6].abs().max() > 1e-3
        assert (published(x) - published(other))[:, :6].abs().max() > 1e-3
    assert not [m for m in build().modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def test_without_padding_a_block_is_transformers_but_for_its_norm() -> None:
    """Their block with our norm in place of the batch norm, same weights: same outputs, attention and positions included."""

    class Channels(nn.LayerNorm):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, D, T)
            return super().forward(x.transpose(1, 2)).transpose(1, 2)

    model = build()
    ours = model.layers[0]
    config = Wav2Vec2ConformerConfig(**{k: v for k, v in model.config.to_dict().items() if k != "model_type"})
    config._attn_implementation = "eager"
    block = theirs.Wav2Vec2ConformerEncoderLayer(config).eval()
    block.conv_module.batch_norm = Channels(16)
    names = {"pointwise1": "pointwise_conv1", "depthwise": "depthwise_conv", "pointwise2": "pointwise_conv2"}
    weights = {}
    for name, value in ours.state_dict().items():
        name = name.replace("depthwise_norm", "batch_norm")
        for a, b in names.items():
            name = name.replace(f"conv_module.{a}.", f"conv_module.{b}.")
        weights[name] = value[..., None] if "pointwise_conv" in name else value
    block.load_state_dict(weights)
    x = torch.randn(2, 13, 16, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        positions = relative_positions(13, 16, x)
        mine = ours(x, torch.ones(2, 13, 1), torch.zeros(2, 1, 1, 13), positions)
        torch.testing.assert_close(mine, block(x, relative_position_embeddings=positions), rtol=1e-4, atol=1e-5)


def test_positions_are_transformers() -> None:
    config = Wav2Vec2ConformerConfig(hidden_size=16, num_attention_heads=2, max_source_positions=40)
    x = torch.zeros(1, 23, 16)
    torch.testing.assert_close(
        relative_positions(23, 16, x), theirs.Wav2Vec2ConformerRelPositionalEmbedding(config)(x), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        rotary_positions(23, 8, x), theirs.Wav2Vec2ConformerRotaryPositionalEmbedding(config)(x), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("positions", POSITIONS)
def test_attention_knows_of_places_where_it_is_told(positions: str) -> None:
    """Far states turned round: the convolution of 5 steps cannot see it, attention does only with positions."""
    model = build(positions=positions)
    features = torch.randn(1, 30, model.features.dim, generator=torch.Generator().manual_seed(5))
    turned = features.clone()
    turned[:, 15:27] = features[:, 15:27].flip(1)
    steps = torch.tensor([30])
    with torch.no_grad():
        a, b = (model.hidden(f, steps)[1][0, 3] for f in (features, turned))  # block 1, far from what was turned
    assert torch.allclose(a, b, atol=1e-6) == (positions == "none")


def test_states_and_outputs_are_of_one_pass() -> None:
    model = build()
    x, lengths = frames(40, 40), torch.tensor([40, 40])
    with torch.no_grad():
        states, steps = model.states(x, lengths)
        output = model(x, output_hidden_states=True)
        assert steps.tolist() == [10, 10] and len(states) == 4  # the projection and N + M
        assert all(map(torch.equal, states, output.hidden_states))
        assert torch.equal(output.context, states[2]) and torch.equal(output.last_hidden_state, states[3])
        assert output.mlm_logits.shape == (2, 10, 12) and output.code_ids.shape == (2, 10)
        torch.testing.assert_close(states[0], model.project(output.extract_features))
        by_hand = model.head.quantizer.weight_proj(output.extract_features).argmax(-1)
        assert torch.equal(output.code_ids, by_hand)
        assert model(x, return_dict=False)[0].shape == (2, 10, 16)
        assert build(mlm_blocks=0)(x).mlm_logits is None


def test_hidden_steps_are_hidden_from_the_blocks_and_from_nothing_else() -> None:
    model = build()
    x, masked = frames(40), torch.zeros(1, 10, dtype=torch.bool)
    masked[0, 4] = True
    with torch.no_grad():
        plain, hidden = (
            model(x, output_hidden_states=True, mask_time_indices=m) for m in (torch.zeros_like(masked), masked)
        )
        assert torch.equal(plain.extract_features, hidden.extract_features)
        differs = (plain.hidden_states[0] != hidden.hidden_states[0]).any(-1)
        assert torch.equal(differs, masked)
        torch.testing.assert_close(hidden.hidden_states[0][masked], model.project(model.head.mask)[None])
        assert hidden.code_ids is None and hidden.mlm_logits is None


@pytest.mark.parametrize("frontend", [LogMel(mels=40, hop=0.02), KaldiFbank()])
def test_sizes_follow_the_front_end(frontend: LogMel | KaldiFbank) -> None:
    built = W2vBert(**SIZES).build(frontend)
    assert built.frame_rate == frontend.frame_rate / 4 and built.dim == 16
    assert built.features.dim == 3 * frontend.mels // 4
    assert built(frames(9, features=frontend.dim)).last_hidden_state.shape == (1, 3, 16)


def test_fresh_weights_follow_the_seed_and_transformers_scales() -> None:
    one, again = build(), build()
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), again.state_dict().values(), strict=True))
    wide = build(entries=200, code_dim=64).requires_grad_(False)
    codebook = wide.head.quantizer
    assert float(codebook.weight_proj.weight.std()) == pytest.approx(1.0, rel=0.05)
    assert not codebook.weight_proj.bias.any()
    assert 0 <= float(codebook.codevectors.min()) < float(codebook.codevectors.max()) <= 1
    assert float(wide.layers[0].ffn1.intermediate_dense.weight.std()) == pytest.approx(0.1, rel=0.1)
    assert wide.layers[0].self_attn.pos_bias_u.any() and wide.head.mask.std() > 0.2
    assert wide.config.layerdrop == 0.0 and isinstance(wide.layers[0], ConformerBlock)


def test_round_trip_through_transformers(tmp_path: Path) -> None:
    model = build(positions="rotary", context_blocks=1)
    model.save_pretrained(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    config = W2vBertConfig.from_pretrained(tmp_path)
    for name in ("features", "frame_rate", "conv_channels", "context_blocks", "position_embeddings_type", "layerdrop"):
        assert getattr(config, name) == getattr(model.config, name), name
    again = W2vBertModel.from_pretrained(tmp_path).eval()
    assert {n: p.shape for n, p in again.state_dict().items()} == {n: p.shape for n, p in model.state_dict().items()}
    x, mask = frames(11, 16), torch.ones(2, 16, dtype=torch.int64)
    mask[0, 11:] = 0
    with torch.no_grad():
        for a, b in zip(model(x, mask).to_tuple(), again(x, mask).to_tuple(), strict=True):
            assert torch.equal(a, b)
