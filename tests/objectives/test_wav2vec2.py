"""overture.objectives.wav2vec2: transformers' loss and gradients for the same masks, negatives and noise; what each part does."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.features import Waveform
from overture.data.masks import SpanMask, batch_mask
from overture.errors import OvertureError
from overture.models.wav2vec2 import Wav2Vec2, Wav2Vec2Encoder
from overture.objectives import Loss
from overture.objectives.contrastive import sample_negatives
from overture.objectives.wav2vec2 import Contrastive
from overture.quantize.gumbel import Annealing, gumbel_noise

SMALL = Wav2Vec2(
    conv_dim=(8, 8, 16, 16, 16, 16, 12),
    layers=2,
    dim=16,
    heads=2,
    ffn=24,
    positions=16,
    position_groups=4,
    entries=4,
    code_dim=8,
    projection=10,
    dropout=0.0,
)


def built(spec: Wav2Vec2 = SMALL) -> Wav2Vec2Encoder:
    torch.manual_seed(0)
    return spec.build(Waveform()).train()


def batch_of(*lengths: int) -> Batch:
    x = torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(1))
    for i, n in enumerate(lengths):
        x[i, n:] = 0
    return Batch(rows=torch.arange(len(lengths)) + 3, x=x, lengths=torch.tensor(lengths))


def theirs(encoder: Wav2Vec2Encoder, batch: Batch, objective: Contrastive, draws: Draws, monkeypatch: Any) -> Any:
    """transformers' whole forward pass with our mask, negatives and noise, and their class."""
    from transformers import Wav2Vec2ForPreTraining

    model = Wav2Vec2ForPreTraining(encoder.spec.config()).train()
    model.load_state_dict(encoder.network.state_dict())
    temperature = objective.temperature.at(draws.update)
    model.set_gumbel_temperature(temperature)
    steps = encoder.steps(batch.lengths)
    total = int(steps.max())
    mask = batch_mask(objective.mask, batch.rows, steps, total, 50.0, draws)
    counts = mask.sum(1)
    at = mask.flatten().nonzero().squeeze(1)
    negatives = torch.zeros(len(batch.rows) * total, objective.negatives, dtype=torch.int64)
    negatives[at] = at[sample_negatives(draws, batch.rows, counts, objective.negatives)]
    groups, entries = encoder.spec.groups, encoder.spec.entries
    noise = torch.zeros(len(batch.rows) * total, groups, entries)
    noise[at] = gumbel_noise(draws, batch.rows, counts, groups, entries)

    def with_our_noise(logits: torch.Tensor, tau: float, hard: bool) -> torch.Tensor:
        soft = torch.softmax((logits + noise.view_as(logits)) / tau, -1)
        one = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
        return one - soft.detach() + soft

    monkeypatch.setattr(torch.nn.functional, "gumbel_softmax", with_our_noise)
    return model, model(
        batch.x,
        attention_mask=batch.valid.long(),
        mask_time_indices=mask,
        sampled_negative_indices=negatives.view(len(batch.rows), total, -1),
    )


@pytest.mark.parametrize("update", [0, 900])
def test_loss_and_gradients_are_those_of_transformers(update: int, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, batch = built(), batch_of(16_000, 11_000, 14_500)
    objective, draws = Contrastive(negatives=9, temperature=Annealing(factor=0.999)), Draws(0, update)
    model, wanted = theirs(encoder, batch, objective, draws, monkeypatch)
    found = objective(encoder, batch, draws)
    assert float(found.watch["live_negatives"]) < 1  # with 4 x 4 codes some negatives equal the positive
    torch.testing.assert_close(found.sum, wanted.loss, rtol=1e-5, atol=1e-4)
    m = found.targets
    torch.testing.assert_close(found.watch["contrastive"] * m, wanted.contrastive_loss.detach(), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.watch["diversity"] * m, wanted.diversity_loss.detach(), rtol=1e-5, atol=1e-4)
    found.sum.backward()
    wanted.loss.backward()
    gradients = {n: p.grad for n, p in encoder.network.named_parameters()}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=2e-4, msg=name)


def test_keeping_identical_negatives_costs_more_than_masking_them() -> None:
    encoder, batch = built(replace(SMALL, entries=2)), batch_of(16_000)
    with torch.no_grad():
        found = {i: Contrastive(identical=i)(encoder, batch, Draws(0, 0)) for i in ("mask", "keep")}  # type: ignore[arg-type]
    assert float(found["keep"].watch["contrastive"]) > float(found["mask"].watch["contrastive"]) + 0.05
    for name in ("diversity", "accuracy", "live_negatives", "code_perplexity"):
        assert torch.equal(found["keep"].watch[name], found["mask"].watch[name])


def parts(loss: Loss) -> dict[str, float]:
    return {name: float(value) for name, value in loss.watch.items()}


def test_the_loss_is_the_weighted_sum_of_its_parts() -> None:
    encoder, batch = built(), batch_of(9_000, 12_000)
    with torch.no_grad():
        loss = Contrastive(diversity=0.7, penalty=3.0)(encoder, batch, Draws(0, 0))
    watch = parts(loss)
    assert float(loss.sum / loss.targets) == pytest.approx(
        watch["contrastive"] + 0.7 * watch["diversity"] + 3.0 * watch["penalty"], rel=1e-5
    )
    assert loss.frames.shape == (int(encoder.steps(batch.lengths).sum()), 16)
    assert not any(v.requires_grad for v in loss.watch.values()) and not loss.frames.requires_grad


def test_the_penalty_is_the_mean_square_of_the_valid_features_of_each_utterance() -> None:
    encoder, batch = built(), batch_of(9_000, 12_000)
    with torch.no_grad():
        loss = Contrastive(penalty=1.0)(encoder, batch, Draws(0, 0))
        frames, steps = encoder.frames(batch.x), encoder.steps(batch.lengths)
        counts = [int(SpanMask().draw(int(n), 50.0, Draws(0, 0).example(r)).sum()) for n, r in zip(steps, (3, 4))]
        wanted = sum(c * frames[i, :n].square().mean() for i, (c, n) in enumerate(zip(counts, steps.tolist())))
    assert float(loss.watch["penalty"]) == pytest.approx(float(wanted) / sum(counts), rel=1e-4)
    assert int(loss.targets) == sum(counts)


def test_an_utterance_weighs_the_same_alone_and_in_a_batch() -> None:
    """Without diversity, which is of a batch: losses and gradients of two utterances are those of each, added."""
    objective = Contrastive(diversity=0.0, penalty=1.0)
    both = batch_of(9_000, 12_000)
    encoder = built()
    together = objective(encoder, both, Draws(0, 5))
    together.sum.backward()
    gradients = {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}
    encoder.zero_grad()
    sums, targets = [], 0
    for i in (0, 1):
        n = int(both.lengths[i])
        alone = Batch(rows=both.rows[i : i + 1], x=both.x[i : i + 1, :n], lengths=both.lengths[i : i + 1])
        loss = objective(encoder, alone, Draws(0, 5))
        loss.sum.backward()
        sums.append(loss.sum.detach())
        targets += int(loss.targets)
    torch.testing.assert_close(together.sum.detach(), torch.stack(sums).sum(), rtol=1e-5, atol=1e-4)
    assert int(together.targets) == targets
    for name, parameter in encoder.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-4, msg=name)


def test_every_parameter_learns_and_only_through_masked_frames() -> None:
    encoder, batch = built(), batch_of(9_000)
    Contrastive()(encoder, batch, Draws(0, 0)).sum.backward()
    assert [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_temperature_is_a_function_of_the_update() -> None:
    objective = Contrastive()
    assert objective.temperature.at(0) == 2.0 and objective.temperature.at(10**7) == 0.5
    assert objective.temperature.at(1000) == pytest.approx(2.0 * 0.999995**1000)
    encoder, batch = built(), batch_of(9_000)
    with torch.no_grad():
        watched = [float(objective(encoder, batch, Draws(0, u)).watch["temperature"]) for u in (0, 1000)]
    assert watched == pytest.approx([objective.temperature.at(0), objective.temperature.at(1000)])


def test_layers_are_left_out_alike_in_all_micro_batches_of_an_update() -> None:
    encoder = built(replace(SMALL, layer_drop=0.5))
    left_out: list[tuple[bool, ...]] = []
    context = encoder.context

    def listen(hidden: Any, valid: Any, dropped: tuple[bool, ...] = (), **options: Any) -> Any:
        left_out.append(dropped)
        return context(hidden, valid, dropped, **options)

    encoder.context = listen  # type: ignore[method-assign]
    with torch.no_grad():
        for update in range(12):
            for lengths in ((9_000,), (8_000, 7_000)):
                Contrastive()(encoder, batch_of(*lengths), Draws(0, update))
    assert left_out[0::2] == left_out[1::2]
    assert len(set(left_out)) > 1 and 4 < sum(map(sum, left_out[::2])) < 20


def test_a_batch_without_two_frames_is_said() -> None:
    with pytest.raises(OvertureError, match=r"data\.min_seconds"):
        Contrastive()(built(), batch_of(500, 450), Draws(0, 0))


def test_a_short_utterance_beside_a_long_one_is_no_trouble() -> None:
    loss = Contrastive()(built(), batch_of(16_000, 900, 450), Draws(0, 0))
    assert bool(torch.isfinite(loss.sum))
