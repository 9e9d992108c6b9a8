"""overture.objectives.w2v_bert: what its losses are made of, who learns from which, and what is watched."""

import re
from dataclasses import replace

import pytest
import torch

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.features import LogMel
from overture.data.masks import batch_mask
from overture.errors import OvertureError
from overture.models.modeling_w2v_bert import W2vBertModel
from overture.models.w2v_bert import W2vBert
from overture.objectives.contrastive import contrastive_loss, diversity, sample_negatives
from overture.objectives.w2v_bert import ContrastAndPredict
from overture.quantize.gumbel import Annealing, gumbel_noise

SIZES = W2vBert(
    context_blocks=2,
    mlm_blocks=1,
    dim=16,
    heads=2,
    ffn=24,
    channels=3,
    entries=12,
    code_dim=8,
    contrast_dim=6,
    dropout=0.0,
    attention_dropout=0.0,
)
TASK = ContrastAndPredict(temperature=Annealing(factor=0.9))


def build(sizes: W2vBert = SIZES) -> W2vBertModel:
    torch.manual_seed(0)
    return sizes.build(LogMel())


def batch(*lengths: int) -> Batch:
    x = torch.randn(len(lengths), max(lengths), 80, generator=torch.Generator().manual_seed(1))
    count = torch.tensor(lengths)
    return Batch(
        rows=torch.arange(len(lengths)), x=x * (torch.arange(max(lengths)) < count[:, None])[..., None], lengths=count
    )


def gradients(task: ContrastAndPredict, model: W2vBertModel, given: Batch, update: int = 0) -> dict[str, torch.Tensor]:
    """Of the mean over targets, by parameter; those without any, or with zeros only, left out."""
    model.zero_grad(set_to_none=True)
    loss = task(model, given, Draws(0, update))
    (loss.sum / loss.targets).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}


def test_the_loss_is_the_sum_of_its_parts_computed_apart() -> None:
    model, given, draws = build(), batch(300, 220), Draws(0, 3)
    task = replace(TASK, contrastive=0.7, mlm=1.3, diversity=0.2)
    loss = task(model, given, draws)
    steps = model.steps(given.lengths)
    masked = batch_mask(task.mask, given.rows, steps, 75, 25.0, draws)
    counts = masked.sum(1)
    output = model(given.x, given.valid, mask_time_indices=masked, output_hidden_states=True)
    noise = gumbel_noise(draws, given.rows, counts, 1, 12)
    codes = model.head.quantizer(output.extract_features[masked], 2.0 * 0.9**3, noise)
    context = model.head.project_context(output.hidden_states[2][masked])  # of block N
    negatives = sample_negatives(draws, given.rows, counts, 100)
    contrast = contrastive_loss(context, model.head.project_code(codes.vectors), negatives, ids=codes.drawn)
    logits = model.head.ids(output.last_hidden_state[masked])
    nll = -logits.log_softmax(-1)[torch.arange(len(logits)), codes.ids[:, 0]]
    spread = diversity(codes.probabilities)
    count = int(counts.sum())
    torch.testing.assert_close(loss.sum, 0.7 * contrast.sum + 1.3 * nll.sum() + 0.2 * count * spread)
    assert int(loss.targets) == count
    expected = {"contrastive": contrast.sum / count, "mlm": nll.mean(), "diversity": spread}
    for name, value in expected.items():
        torch.testing.assert_close(loss.watch[name], value.detach())
    assert loss.frames.shape == (75 + 55, 16) and not loss.frames.requires_grad


def test_the_meters_are_always_on() -> None:
    model, given = build(), batch(200, 160)
    always = {"diversity", "temperature", "codes_used", "code_perplexity", "top_code"}
    contrast, predict = {"contrastive", "accuracy", "live_negatives"}, {"mlm", "mlm_accuracy"}
    tall = build(replace(SIZES, context_blocks=3, mlm_blocks=0))
    for task, network, names in (
        (TASK, model, always | contrast | predict),
        (replace(TASK, contrastive=0.0), model, always | predict),
        (replace(TASK, mlm=0.0), tall, always | contrast),
    ):
        watch = task(network, given, Draws(0, 0)).watch
        assert set(watch) == names
        assert all(v.ndim == 0 and not v.requires_grad and bool(torch.isfinite(v)) for v in watch.values())


def test_the_temperature_falls_to_its_least_with_the_number_of_the_update() -> None:
    values = [TASK.temperature.at(u) for u in (0, 1, 2, 13, 14, 10_000)]
    assert values == pytest.approx([2.0, 1.8, 1.62, 2.0 * 0.9**13, 0.5, 0.5]) and values[3] > 0.5
    model, given = build(), batch(160)
    assert float(TASK(model, given, Draws(0, 2)).watch["temperature"]) == pytest.approx(1.62)


def test_blocks_above_n_learn_nothing_from_the_contrast() -> None:
    model, given = build(), batch(300, 220)
    contrast = set(gradients(replace(TASK, mlm=0.0), model, given))
    predict = set(gradients(replace(TASK, contrastive=0.0, diversity=0.0), model, given))
    assert not [n for n in contrast if n.startswith(("layers.2.", "head.ids"))]
    assert {n.split(".")[1] for n in contrast if n.startswith("layers.")} == {"0", "1"}
    assert {n.split(".")[1] for n in predict if n.startswith("layers.")} == {"0", "1", "2"}
    assert not [n for n in predict if n.startswith("head.project")]
    assert {n for n, _ in model.named_parameters()} == contrast | predict


@pytest.mark.parametrize("targets", ["argmax", "sampled"])
def test_prediction_reaches_the_codebook_only_straight_through(targets: str) -> None:
    model, given = build(), batch(300, 220)
    alone = replace(TASK, contrastive=0.0, diversity=0.0, targets=targets)
    detached = gradients(alone, model, given)
    through = gradients(replace(alone, target_gradient="straight-through"), model, given)
    assert not [n for n in detached if "quantizer" in n]
    assert [n for n in through if "quantizer" in n] == [
        "head.quantizer.weight_proj.weight",
        "head.quantizer.weight_proj.bias",
    ]
    for name in ("head.ids.weight", "layers.2.ffn1.intermediate_dense.weight"):  # the predictor's own side is the same
        torch.testing.assert_close(detached[name], through[name])
    # A gradient of the prediction's loss through its targets, and not of another one: a step along it lowers the loss.
    before = float(alone(model, given, Draws(0, 0)).sum.detach())
    with torch.no_grad():
        model.head.quantizer.weight_proj.weight -= 5.0 * through["head.quantizer.weight_proj.weight"]
    assert float(alone(model, given, Draws(0, 0)).sum) < before


def test_sampled_targets_are_the_codes_of_the_contrast() -> None:
    model, given, draws = build(), batch(400, 400), Draws(0, 0)
    seen = []
    hook = model.head.quantizer.register_forward_hook(lambda module, args, out: seen.append(out))
    sums = {t: float(replace(TASK, contrastive=0.0, targets=t)(model, given, draws).sum) for t in ("argmax", "sampled")}
    hook.remove()
    assert torch.equal(seen[0].ids, seen[1].ids) and not torch.equal(seen[0].ids, seen[0].drawn)
    assert sums["argmax"] != sums["sampled"]


def test_collapsed_codes_are_a_zero_of_the_contrast_only_where_ties_are_masked() -> None:
    model, given = build(), batch(400, 300)
    with torch.no_grad():
        model.head.quantizer.weight_proj.weight.zero_()
        model.head.quantizer.weight_proj.bias[3] = 1e4
    found = {k: replace(TASK, identical=k)(model, given, Draws(0, 0)).watch for k in ("mask", "keep")}
    assert float(found["mask"]["contrastive"]) == 0.0 and float(found["keep"]["contrastive"]) > 2.0
    for watch in found.values():
        assert float(watch["live_negatives"]) == 0.0 and float(watch["top_code"]) == 1.0
        assert float(watch["code_perplexity"]) == pytest.approx(1.0) and float(watch["diversity"]) > 0.9


def test_padding_changes_neither_loss_nor_gradient() -> None:
    """Three utterances at once and one by one; diversity, a function of the micro-batch, is left out."""
    model, task = build(), replace(TASK, diversity=0.0)
    given = batch(300, 180, 90)
    together, total = gradients(task, model, given), task(model, given, Draws(0, 0))
    apart: dict[str, torch.Tensor] = {}
    targets, summed = 0, 0.0
    for b, n in enumerate(given.lengths.tolist()):
        one = Batch(rows=given.rows[b : b + 1], x=given.x[b : b + 1, :n], lengths=given.lengths[b : b + 1])
        loss = task(model, one, Draws(0, 0))
        targets, summed = targets + int(loss.targets), summed + float(loss.sum)
        for name, value in gradients(task, model, one).items():
            apart[name] = apart.get(name, 0) + value * loss.targets
    assert targets == int(total.targets) and summed == pytest.approx(float(total.sum), rel=1e-4)
    for name, value in together.items():
        torch.testing.assert_close(value, apart[name] / targets, rtol=1e-3, atol=1e-6, msg=name)


def test_what_health_is_told_to_watch_is_what_moves() -> None:
    model, given = build(), batch(300, 220)
    names = [n for n, _ in model.named_parameters()]
    alone = replace(TASK, contrastive=0.0, diversity=0.0)
    for task in (TASK, replace(TASK, contrastive=0.0), replace(alone, target_gradient="straight-through"), alone):
        said = {n for n in names if re.search(task.learns, n)}
        assert said and said <= set(gradients(task, model, given))
    assert "codevectors" in TASK.learns and "quantizer" not in alone.learns


def test_errors_say_the_way_out() -> None:
    with pytest.raises(OvertureError, match=r"data\.min_seconds"):
        TASK(build(), batch(4, 3), Draws(0, 0))
    with pytest.raises(OvertureError, match=r"model\.mlm_blocks"):
        TASK(build(replace(SIZES, mlm_blocks=0)), batch(200), Draws(0, 0))
