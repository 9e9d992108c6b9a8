"""overture.models.wav2vec2: the same numbers as transformers' own class, frames that keep their rate, checkpoints that fit or are refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from overture.data.features import LogMel, Waveform
from overture.errors import OvertureError
from overture.models.wav2vec2 import Published, Wav2Vec2, Wav2Vec2Encoder

SMALL = Wav2Vec2(
    conv_dim=(8, 8, 16, 16, 16, 16, 12),
    layers=2,
    dim=16,
    heads=2,
    ffn=24,
    positions=16,
    position_groups=4,
    entries=6,
    code_dim=8,
    projection=10,
    dropout=0.0,
)
KINDS = {
    "small": SMALL,
    "LARGE": replace(SMALL, stable_layer_norm=True, conv_bias=True),
    "BASE": replace(SMALL, feature_norm="group"),
    "odd": replace(SMALL, positions=15),
}


def built(spec: Wav2Vec2 = SMALL, rate: int = 16_000) -> Wav2Vec2Encoder:
    torch.manual_seed(0)
    return spec.build(Waveform(rate=rate)).eval()


def samples(*lengths: int) -> torch.Tensor:
    x = torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(1))
    for i, n in enumerate(lengths):
        x[i, n:] = 0
    return x


def original(encoder: Wav2Vec2Encoder) -> Any:
    """transformers' class, untouched, with the same weights under the same names."""
    from transformers import Wav2Vec2ForPreTraining

    model = Wav2Vec2ForPreTraining(encoder.spec.config()).eval()
    model.load_state_dict(encoder.network.state_dict())
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_of_transformers(kind: str) -> None:
    encoder = built(KINDS[kind])
    x, lengths = samples(9000, 6100), torch.tensor([9000, 6100])
    if kind == "BASE":  # whose group norm hears padding: nothing to compare but equal lengths
        lengths = torch.tensor([9000, 9000])
    mask = torch.arange(9000)[None] < lengths[:, None]
    with torch.no_grad():
        hidden, steps = encoder.states(x, lengths)
        wanted = original(encoder).wav2vec2(x, attention_mask=mask.long(), output_hidden_states=True)
    assert steps.tolist() == original(encoder)._get_feat_extract_output_lengths(lengths).tolist()
    assert len(hidden) == SMALL.layers + 1
    assert {tuple(h.shape) for h in hidden} == {(2, int(steps.max()), SMALL.dim)}
    for i, n in enumerate(steps.tolist()):
        torch.testing.assert_close(hidden[-1][i, :n], wanted.last_hidden_state[i, :n], rtol=1e-4, atol=2e-5)
        for mine, theirs in zip(hidden[:-1], wanted.hidden_states):  # its last is as ours, but before the last norm
            torch.testing.assert_close(mine[i, :n], theirs[i, :n], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", ["small", "LARGE"])
def test_gradients_are_those_of_transformers(kind: str) -> None:
    encoder = built(KINDS[kind])
    theirs, x = original(encoder).wav2vec2, samples(5000, 5000)
    weight = torch.randn(16, generator=torch.Generator().manual_seed(2))
    (encoder.states(x, torch.tensor([5000, 5000]))[0][-1] @ weight).sum().backward()
    (theirs(x).last_hidden_state @ weight).sum().backward()
    found = dict(encoder.network.wav2vec2.named_parameters())
    for name, parameter in theirs.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name].grad, parameter.grad, rtol=1e-3, atol=2e-5, msg=name)


def test_the_likeliest_codes_are_those_of_transformers() -> None:
    encoder, x = built(), samples(7000)
    with torch.no_grad():
        wanted = original(encoder)(x)
        _, features = encoder.project(encoder.frames(x))
        quantized, projected = encoder.quantize(features[0], 1.0, None)
    assert quantized.ids.shape == (features.shape[1], SMALL.groups)
    torch.testing.assert_close(projected, wanted.projected_quantized_states[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rate", [16_000, 8_000, 32_000])
def test_frames_come_fifty_times_a_second(rate: int) -> None:
    spec = SMALL.for_rate(rate)
    encoder = built(spec, rate)
    assert spec.conv_kernel == SMALL.conv_kernel and (spec.conv_stride[-1] == 1 if rate == 8_000 else True)
    ten, twenty = (int(encoder.steps(torch.tensor([s * rate]))) for s in (10, 20))
    assert twenty - ten == 500 and abs(ten - 500) <= 2
    x = samples(rate)
    with torch.no_grad():
        (*_, last), lengths = encoder.states(x, torch.tensor([rate]))
    assert last.shape[1] == int(lengths[0]) and abs(last.shape[1] - 50) <= 2


def test_stride_surgery_changes_no_shape() -> None:
    narrow, wide = built(SMALL.for_rate(8_000), 8_000), built()
    assert {n: p.shape for n, p in narrow.named_parameters()} == {n: p.shape for n, p in wide.named_parameters()}
    assert SMALL.for_rate(8_000).conv_stride == (5, 2, 2, 2, 2, 2, 1)
    assert SMALL.for_rate(16_000) == SMALL


def test_another_rate_without_surgery_is_refused() -> None:
    with pytest.raises(
        OvertureError, match=r"25 frames a second of 8000 Hz.*model.conv_stride=\[5, 2, 2, 2, 2, 2, 1\]"
    ):
        SMALL.build(Waveform(rate=8_000))
    with pytest.raises(OvertureError, match=r"no strides .* at 11025 Hz"):
        SMALL.for_rate(11_025)
    with pytest.raises(OvertureError, match="Waveform"):
        SMALL.build(LogMel())


def test_a_clip_shorter_than_a_frame_has_none() -> None:
    assert built().steps(torch.tensor([0, 399, 400, 719, 720])).tolist() == [0, 0, 1, 1, 2]


def test_hiding_puts_the_mask_vector_where_the_mask_is() -> None:
    encoder = built()
    hidden, mask = torch.randn(2, 5, 16), torch.zeros(2, 5, dtype=torch.bool)
    mask[1, 3] = True
    out = encoder.hide(hidden, mask)
    assert torch.equal(out[1, 3], encoder.network.wav2vec2.masked_spec_embed)
    assert torch.equal(out[~mask], hidden[~mask])


def test_a_dropped_layer_passes_its_input_on_and_has_a_gradient_of_zero() -> None:
    encoder = built()
    hidden, valid = torch.randn(2, 20, 16), torch.ones(2, 20, dtype=torch.bool)
    states = encoder.context(hidden, valid, (False, True))
    assert torch.equal(states[1], states[2]) and not torch.equal(states[0], states[1])
    states[2].square().sum().backward()
    gradients = [[p.grad for p in layer.parameters()] for layer in encoder.layers]
    assert all(g is not None and bool((g == 0).all()) for g in gradients[1])
    assert any(g is not None and bool((g != 0).any()) for g in gradients[0])


def test_gradients_of_the_front_end_are_scaled() -> None:
    norms = {}
    for scale in (1.0, 0.1):
        encoder = built(replace(SMALL, feature_gradient=scale))
        encoder.states(samples(3000), torch.tensor([3000]))[0][-1].square().sum().backward()
        weights = encoder.network.wav2vec2.feature_extractor.conv_layers[0].conv.weight
        norms[scale] = (float(weights.grad.norm()), float(encoder.layers[0].attention.q_proj.weight.grad.norm()))
    assert norms[0.1][0] == pytest.approx(0.1 * norms[1.0][0], rel=1e-4) and norms[0.1][1] == norms[1.0][1]


def test_half_precision_states_stay_close() -> None:
    encoder, x = built(), samples(9000, 7000)
    with torch.no_grad():
        exact = encoder.states(x, torch.tensor([9000, 7000]))[0][-1]
        with torch.autocast("cpu", torch.bfloat16):
            rough = encoder.states(x, torch.tensor([9000, 7000]))[0][-1].float()
    assert float((exact - rough)[0].norm() / exact[0].norm()) < 0.05


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A checkpoint as transformers writes it, of another seed than `built`."""
    from transformers import Wav2Vec2ForPreTraining

    torch.manual_seed(7)
    Wav2Vec2ForPreTraining(KINDS["LARGE"].config()).save_pretrained(tmp_path / "published")
    return tmp_path / "published"


def test_a_published_checkpoint_is_read_by_our_names(published: Path) -> None:
    found = Published.open(published)
    assert (found.spec, found.rate, found.normalised) == (KINDS["LARGE"], 16_000, True)
    given, weights = load_file(published / "model.safetensors"), found.weights()
    assert weights.keys() == built(KINDS["LARGE"]).state_dict().keys()
    assert all(torch.equal(weights[f"network.{n}"], v) for n, v in given.items())


def test_old_names_and_those_of_a_bare_encoder_are_known(published: Path, tmp_path: Path) -> None:
    from transformers import Wav2Vec2Model

    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    weights = load_file(published / "model.safetensors")
    for new, before in old.items():
        weights = {n.replace(new, before): v for n, v in weights.items()}
    assert any(n.endswith("weight_g") for n in weights)
    save_file(weights, published / "model.safetensors", metadata={"format": "pt"})
    names = built(KINDS["LARGE"]).state_dict().keys()
    assert Published.open(published).weights().keys() == names
    Wav2Vec2Model(KINDS["LARGE"].config()).save_pretrained(tmp_path / "bare")
    bare = Published.open(tmp_path / "bare").weights().keys()
    assert bare == {n for n in names if n.startswith("network.wav2vec2.")}


def test_a_checkpoint_of_another_rate_says_so_in_its_preprocessor(published: Path) -> None:
    from transformers import Wav2Vec2FeatureExtractor

    Wav2Vec2FeatureExtractor(sampling_rate=8_000, do_normalize=False).save_pretrained(published)
    found = Published.open(published)
    assert (found.rate, found.normalised) == (8_000, False)
    assert found.spec.frame_rate == 25  # 320 samples of 8 kHz: 40 ms, and not 20


def test_what_is_no_checkpoint_is_said(published: Path, tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match=r"config\.json cannot be read"):
        Published.open(tmp_path)
    (published / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(OvertureError, match=r"model\.safetensors cannot be read .* copy it again"):
        Published.open(published).weights()
    (published / "model.safetensors").rename(published / "pytorch_model.bin")
    with pytest.raises(OvertureError, match="Pickled weights are not read"):
        Published.open(published).weights()
    about = json.loads((published / "config.json").read_text())
    for change, said in (
        ({"model_type": "hubert"}, "'hubert'"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps=1e-06 is not supported, only 1e-05"),
        ({"add_adapter": True}, "add_adapter=True is not supported"),
    ):
        (published / "config.json").write_text(json.dumps(about | change))
        with pytest.raises(OvertureError, match=said):
            Published.open(published)
