"""overture.quantize.gumbel: the quantizer of transformers, with its ids and without its global generator."""

from typing import Any

import numpy as np
import pytest
import torch

from overture.data.draws import Draws
from overture.quantize.gumbel import GumbelCodebook, gumbel_noise
from overture.quantize.meters import usage

N, DIM, G, V, CODE = 60, 24, 2, 16, 32


def theirs() -> Any:
    from transformers import Wav2Vec2Config
    from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer

    config = Wav2Vec2Config(
        conv_dim=(DIM,) * 7, num_codevector_groups=G, num_codevectors_per_group=V, codevector_dim=CODE
    )
    torch.manual_seed(1)
    module = Wav2Vec2GumbelVectorQuantizer(config).train()
    torch.nn.init.uniform_(module.codevectors)
    torch.nn.init.normal_(module.weight_proj.weight)
    return module


def frames(seed: int = 0) -> torch.Tensor:
    return torch.randn(N, DIM, generator=torch.Generator().manual_seed(seed))


def ours(module: Any) -> GumbelCodebook:
    codebook = GumbelCodebook(DIM, G, V, CODE)
    assert not any(codebook.load_state_dict(module.state_dict()))  # strict: no name missing, none too many
    return codebook


def test_vectors_and_perplexity_are_those_of_transformers_in_evaluation() -> None:
    module = theirs().eval()
    vectors, perplexity = module(frames()[None])
    found = ours(module)(frames())
    torch.testing.assert_close(found.vectors, vectors[0])
    assert float(usage(found.ids, V)["code_perplexity"]) * G == pytest.approx(float(perplexity), rel=1e-5)
    assert found.drawn is None and found.ids.shape == (N, G) and found.ids.dtype == torch.int64
    # With a mask: theirs leaves frames out of its mean, here they are not handed in.
    mask = torch.arange(N) % 3 == 0
    _, perplexity = module(frames()[None], mask[None])
    assert float(usage(ours(module)(frames()[mask]).ids, V)["code_perplexity"]) * G == pytest.approx(
        float(perplexity), rel=1e-5
    )


def test_training_is_that_of_transformers_with_the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values, perplexity of the softmax, and gradients of codes, projection and input."""
    module = theirs()
    codebook, temperature = ours(module), 1.7
    module.temperature = temperature
    noise = gumbel_noise(Draws(0, 0), torch.tensor([4]), torch.tensor([N]), G, V)
    monkeypatch.setattr(
        torch.nn.functional,
        "gumbel_softmax",
        lambda logits, tau, hard: straight_through((logits + noise.view(logits.shape)) / tau),
    )
    x, y = frames().requires_grad_(), frames().requires_grad_()
    weight = torch.randn(N, CODE, generator=torch.Generator().manual_seed(3))
    vectors, perplexity = module(x[None])
    (vectors[0] * weight).sum().backward()
    found = codebook(y, temperature, noise)
    (found.vectors * weight).sum().backward()
    torch.testing.assert_close(found.vectors, vectors[0])
    mean = found.probabilities.detach().mean(0)
    assert float(torch.exp(-torch.xlogy(mean, mean).sum(-1)).sum()) == pytest.approx(
        float(perplexity.detach()), rel=1e-5
    )
    torch.testing.assert_close(y.grad, x.grad)
    for (name, mine), (_, other) in zip(codebook.named_parameters(), module.named_parameters()):
        assert mine.grad is not None and mine.grad.abs().sum() > 0, name
        torch.testing.assert_close(mine.grad, other.grad)


def straight_through(scores: torch.Tensor) -> torch.Tensor:
    soft = torch.softmax(scores, -1)
    hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
    return hard - soft.detach() + soft


def test_ids_and_probabilities_do_not_see_the_noise_but_the_codes_do() -> None:
    codebook = GumbelCodebook(DIM, G, V, CODE)
    with torch.no_grad():
        codebook.weight_proj.weight.mul_(0.1)
    noise = gumbel_noise(Draws(0, 0), torch.tensor([4]), torch.tensor([N]), G, V)
    still, noisy = codebook(frames()), codebook(frames(), 2.0, noise)
    assert torch.equal(still.ids, noisy.ids) and torch.equal(still.probabilities, noisy.probabilities)
    assert noisy.drawn is not None and not torch.equal(noisy.drawn, noisy.ids)
    codes = codebook.codevectors.view(G, V, -1)
    for found, ids in ((still, still.ids), (noisy, noisy.drawn)):
        wanted = torch.cat([codes[g, ids[:, g]] for g in range(G)], dim=1)
        torch.testing.assert_close(found.vectors, wanted)


def test_evaluation_gives_the_codes_a_gradient() -> None:
    codebook = GumbelCodebook(DIM, G, V, CODE)
    codebook(frames()).vectors.square().sum().backward()
    assert codebook.codevectors.grad is not None and codebook.codevectors.grad.abs().sum() > 0


def test_noise_is_gumbel_and_belongs_to_its_utterance() -> None:
    noise = gumbel_noise(Draws(0, 0), torch.tensor([1]), torch.tensor([5000]), 1, 8).double()
    assert noise.isfinite().all()
    assert float(noise.mean()) == pytest.approx(np.euler_gamma, abs=0.02)
    assert float(noise.var()) == pytest.approx(np.pi**2 / 6, abs=0.05)
    rows, counts = torch.tensor([9, 4, 6]), torch.tensor([5, 0, 7])
    together = gumbel_noise(Draws(0, 3), rows, counts, G, V)
    assert together.shape == (12, G, V) and together.dtype == torch.float32
    assert torch.equal(together[5:], gumbel_noise(Draws(0, 3), rows[2:], counts[2:], G, V))
    assert not torch.equal(together[:5], gumbel_noise(Draws(0, 4), rows[:1], counts[:1], G, V))


def test_nothing_is_drawn_from_the_global_generator() -> None:
    codebook = GumbelCodebook(DIM, G, V, CODE)
    before = torch.get_rng_state()
    codebook(frames(), 2.0, gumbel_noise(Draws(0, 0), torch.tensor([1]), torch.tensor([N]), G, V))
    assert torch.equal(before, torch.get_rng_state())


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be shared"):
        GumbelCodebook(DIM, 3, V, CODE)
