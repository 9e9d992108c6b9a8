"""overture.models.spectrogram: positions, hidden states, masks, and a round trip through transformers' own files."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from overture.data.features import KaldiFbank, LogMel
from overture.models.modeling_spectrogram import SpectrogramConfig, SpectrogramModel, sinusoids
from overture.models.spectrogram import SpectrogramTransformer

SIZES = SpectrogramTransformer(layers=2, dim=16, heads=2, ffn=24, dropout=0.0, attention_dropout=0.0)


@pytest.fixture
def model() -> SpectrogramModel:
    torch.manual_seed(0)
    return SIZES.build(LogMel()).eval()


def frames(*lengths: int, features: int = 80) -> torch.Tensor:
    return torch.randn(len(lengths), max(lengths), features, generator=torch.Generator().manual_seed(1))


def test_sinusoids_are_those_of_the_paper() -> None:
    found = sinusoids(50, 12, torch.device("cpu"))
    assert found.shape == (50, 12) and found.dtype == torch.float32
    for t in (0, 1, 49):
        for i in range(6):
            angle = t / 10_000 ** (2 * i / 12)
            assert found[t, 2 * i] == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[t, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_positions_matter(model: SpectrogramModel) -> None:
    x = frames(9)
    x[:] = x[:, :1]  # the same frame at every step: only its place can tell states apart
    with torch.no_grad():
        last = model(x).last_hidden_state
    assert (last[0, 0] - last[0, 8]).abs().max() > 1e-3


def test_hidden_states_are_the_projection_and_each_layer(model: SpectrogramModel) -> None:
    x = frames(30, 30)
    with torch.no_grad():
        output = model(x, output_hidden_states=True)
        assert len(output.hidden_states) == SIZES.layers + 1
        assert {tuple(h.shape) for h in output.hidden_states} == {(2, 30, 16)}
        assert torch.equal(output.hidden_states[-1], output.last_hidden_state)
        first = model.norm(model.project(x) + sinusoids(30, 16, x.device))
        torch.testing.assert_close(output.hidden_states[0], first)
        torch.testing.assert_close(output.reconstruction, model.head(output.last_hidden_state))
        assert output.reconstruction.shape == x.shape
        assert model(x).hidden_states is None
        states, lengths = model.states(x, torch.tensor([30, 30]))
        assert lengths.tolist() == [30, 30] and all(map(torch.equal, states, output.hidden_states))
        assert [tuple(t.shape) for t in model(x, return_dict=False)] == [(2, 30, 16), (2, 30, 80)]


def test_the_mask_hides_what_follows_and_nothing_else(model: SpectrogramModel) -> None:
    x, mask = frames(12, 20), torch.ones(2, 20, dtype=torch.int64)
    mask[0, 12:] = 0
    other = x.clone()
    other[0, 12:] = 100.0
    with torch.no_grad():
        a, b = (model(v, attention_mask=mask).last_hidden_state for v in (x, other))
        torch.testing.assert_close(a[0, :12], b[0, :12], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(a[0, :12], model(x[:1, :12]).last_hidden_state[0], rtol=1e-4, atol=1e-5)
        assert (model(x).last_hidden_state[0, :12] - model(other).last_hidden_state[0, :12]).abs().max() > 1e-3
        torch.testing.assert_close(model(x).last_hidden_state, model(x, mask.fill_(1)).last_hidden_state)
        torch.testing.assert_close(model.states(x, torch.tensor([12, 20]))[0][-1][0, :12], a[0, :12])


@pytest.mark.parametrize("frontend", [LogMel(mels=40, hop=0.02), KaldiFbank()])
def test_sizes_follow_the_front_end(frontend: LogMel | KaldiFbank) -> None:
    built = SIZES.build(frontend)
    assert (built.config.features, built.config.frame_rate) == (frontend.mels, 1 / frontend.hop)
    assert (built.dim, built.frame_rate) == (16, 1 / frontend.hop)
    assert built(frames(7, features=frontend.dim)).last_hidden_state.shape == (1, 7, 16)


def test_the_seed_decides_the_weights() -> None:
    built = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        built.append(SIZES.build(LogMel()).state_dict())
    assert all(torch.equal(built[0][n], built[1][n]) for n in built[0])
    assert not torch.equal(built[0]["project.weight"], built[2]["project.weight"])
    weights = built[0]["layers.0.intermediate.dense.weight"]
    assert float(weights.std()) == pytest.approx(0.02, rel=0.15) and not built[0]["project.bias"].any()


def test_round_trip_through_transformers(model: SpectrogramModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors"}  # nothing pickled, no code
    config = SpectrogramConfig.from_pretrained(tmp_path)
    for name in ("features", "frame_rate", "hidden_size", "num_hidden_layers", "num_attention_heads", "layer_norm_eps"):
        assert getattr(config, name) == getattr(model.config, name), name
    again = SpectrogramModel.from_pretrained(tmp_path).eval()
    assert {n: p.shape for n, p in again.state_dict().items()} == {n: p.shape for n, p in model.state_dict().items()}
    x, mask = frames(11, 16), torch.ones(2, 16, dtype=torch.bool)
    mask[0, 11:] = False
    with torch.no_grad():
        for a, b in zip(model(x, mask).to_tuple(), again(x, mask).to_tuple(), strict=True):
            assert torch.equal(a, b)


def test_half_precision_states_stay_close(model: SpectrogramModel) -> None:
    x = frames(25)
    with torch.no_grad():
        exact = model(x).last_hidden_state
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(x).last_hidden_state.float()
    assert np.corrcoef(exact.flatten(), rough.flatten())[0, 1] > 0.999
