"""overture.recipes.w2v_bert: the published size, its sheet of traps, and the claim's arms."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from overture.config import override
from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.masks import batch_mask
from overture.models.modeling_w2v_bert import W2vBertModel
from overture.recipes import get
from overture.recipes.w2v_bert import COLLAPSES, EXEMPT, SMALL, TASK, claim
from overture.run import Run
from overture.train.engine import Engine
from overture.train.examples import Training
from overture.train.health import check_tolerated
from overture.train.loop import Trainer, train
from overture.train.track import read_metrics

ALL = ("tiny", "default", "published")


@pytest.fixture
def run() -> Run:
    """The tiny run without dropout."""
    return override(get("w2v-bert:tiny"), {"model.dropout": "0"})


def noise(*lengths: int) -> Batch:
    x = torch.randn(len(lengths), max(lengths), 80, generator=torch.Generator().manual_seed(1))
    count = torch.tensor(lengths)
    real = torch.arange(max(lengths)) < count[:, None]
    return Batch(rows=torch.arange(len(lengths)), x=x * real[..., None], lengths=count)


def test_the_published_size() -> None:
    run = get("w2v-bert:published")
    with torch.device("meta"):
        model = run.model.build(run.frontend)
    d, e, v = 1024, 128 * 20, 1024
    feed = 2 * d + d * 4096 + 4096 + 4096 * d + d
    attention = 2 * d + 4 * (d * d + d) + d * d + 2 * d  # with relative positions and their two biases
    convolution = 2 * d + 2 * d * d + 5 * d + 2 * d + d * d  # kernel 5
    block = 2 * feed + attention + convolution + 2 * d
    assert sum(p.numel() for p in model.layers.parameters()) == 24 * block
    front = 128 * 9 + 128 + 128 * 128 * 9 + 128 + 2 * e + e * d + d
    heads = e + (e * v + v) + v * 1024 + 2 * (1024 * 768 + 768) + d * v + v
    total = sum(p.numel() for p in model.parameters())
    assert total == 24 * block + front + heads
    assert 0.55e9 < total < 0.65e9  # the paper's 0.6 B
    assert (len(model.layers), model.config.context_blocks, model.config.num_attention_heads) == (24, 12, 8)
    assert model.head.quantizer.codevectors.shape == (1, 1024, 1024)
    task, optim = run.players[0].objective, run.players[0].optim
    assert (optim.lr, round(optim.warmup * run.loop.updates), run.loop.updates) == (2e-3, 25_000, 400_000)
    assert (task.contrastive, task.mlm, task.diversity, task.kappa, task.negatives) == (1.0, 1.0, 0.1, 0.1, 100)
    assert (task.identical, task.targets, task.target_gradient) == ("mask", "argmax", "none")
    assert run.data.max_seconds == 32.0


@pytest.mark.parametrize("size", ALL)
def test_spans_are_400_ms_and_half_of_the_steps_are_hidden(size: str) -> None:
    run = get(f"w2v-bert:{size}")
    with torch.device("meta"):
        model = run.model.build(run.frontend)
    assert model.frame_rate == 25.0  # steps of 40 ms, so 10 of them
    task, rows = run.players[0].objective, torch.arange(200)
    assert (task.mask.start, task.mask.seconds) == (0.065, 0.4)
    steps = torch.full((200,), 375)  # 15 s
    mask = batch_mask(task.mask, rows, steps, 375, model.frame_rate, Draws(0, 0)).numpy()
    assert 0.45 < mask.mean() < 0.52
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(int), axis=1)
    spans = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    assert spans.min() == 10


def test_the_quantizer_sees_the_features_unmasked_and_its_ids_are_the_targets(run: Run) -> None:
    torch.manual_seed(0)
    model, given, seen = run.model.build(run.frontend), noise(400, 250), []
    hook = model.head.quantizer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    task, draws = run.players[0].objective, Draws(0, 0)
    task(model, given, draws)
    hook.remove()
    steps = model.steps(given.lengths)
    mask = batch_mask(task.mask, given.rows, steps, 100, 25.0, draws)
    clean, _ = model.features(given.x, given.lengths)
    assert len(seen) == 1 and torch.equal(seen[0], clean[mask])
    assert not (seen[0] == model.head.mask).all(-1).any()
    # Codes of the same steps in a pass that hides nothing: the same.
    assert torch.equal(model.head.quantizer(seen[0]).ids[:, 0], model(given.x, given.valid).code_ids[mask])


def test_no_layer_is_ever_dropped(run: Run) -> None:
    for size in ALL:
        this = get(f"w2v-bert:{size}")
        with torch.device("meta"):
            assert this.model.build(this.frontend).config.layerdrop == 0.0
    model = run.model.build(run.frontend).train()
    calls: list[int] = []
    for layer in model.layers:
        layer.register_forward_hook(lambda *_: calls.append(1))
    for update in range(20):
        run.players[0].objective(model, noise(60), Draws(0, update))
    assert len(calls) == 20 * len(model.layers)


def test_the_temperature_is_annealed_at_every_size() -> None:
    for size in ALL:
        this = get(f"w2v-bert:{size}")
        task, updates = this.players[0].objective, this.loop.updates
        course = [task.temperature.at(u) for u in (0, 1, updates // 2, updates)]
        assert course[0] == 2.0 and course[0] > course[1] > course[2] >= course[3]
    assert TASK.temperature.at(get("w2v-bert").loop.updates) == 0.5
    published = get("w2v-bert:published").players[0].objective
    assert published.temperature.at(400_000) == pytest.approx(2.0 * 0.999995**400_000)


def test_two_losses_teach_two_stacks_and_only_the_contrast_the_codebook() -> None:
    torch.manual_seed(0)
    small = replace(SMALL, dim=16, heads=2, ffn=24, channels=2, entries=12, code_dim=8, contrast_dim=8)
    model, given = small.build(get("w2v-bert").frontend), noise(300, 200)

    def taught(task: object) -> set[str]:
        model.zero_grad(set_to_none=True)
        task(model, given, Draws(0, 0)).sum.backward()
        return {n for n, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}

    assert isinstance(model, W2vBertModel) and model.config.context_blocks == 2 and len(model.layers) == 4
    contrast = taught(replace(TASK, mlm=0.0))
    assert not [n for n in contrast if n.startswith(("layers.2.", "layers.3.", "head.ids"))]
    assert [n for n in contrast if n.startswith("layers.1.")]
    alone = replace(TASK, contrastive=0.0, diversity=0.0)
    assert not [n for n in taught(alone) if n.startswith("head.quantizer")]
    assert "head.quantizer.weight_proj.weight" in taught(replace(alone, target_gradient="straight-through"))
    assert taught(TASK) == {n for n, _ in model.named_parameters()}


def gradients(run: Run, micro: float) -> tuple[dict[str, torch.Tensor], int]:
    plan = replace(run.plan, update=8.0, micro=micro)
    with Engine.start() as engine:
        training = Training.prepare(replace(run, plan=plan))
        trainer = Trainer(replace(run, plan=plan), engine)
        batches = training.batches(training.plan.updates(0)[0], 0, engine)
        trainer.backward(0, batches, Draws(run.seed, 0))
    return {n: p.grad for n, p in trainer.parameters[0].items()}, len(batches)


def test_law_2_holds_but_for_the_diversity_loss(run: Run) -> None:
    assert set(EXEMPT) == {2, 5} and all("diversity" in reason for reason in EXEMPT.values())
    player = run.players[0]
    without = replace(run, players=(replace(player, objective=replace(player.objective, diversity=0.0)),))
    (once, one), (many, several) = gradients(without, 8.0), gradients(without, 2.0)
    assert one == 1 and several >= 4 and all(bool(g.any()) for g in once.values())
    for name in once:
        torch.testing.assert_close(once[name], many[name], rtol=1e-3, atol=1e-6, msg=name)


def test_prediction_alone_collapses_with_a_gradient_through_its_targets_and_not_without(tmp_path: Path) -> None:
    """The paper's ablation in small: the loss and accuracy look like success, the codes say what it is."""
    arm = next(a.run for a in claim().study.arms if a.name == "MLM")
    assert arm.players[0].objective.target_gradient == "straight-through"
    taught = replace(arm.players[0], optim=replace(arm.players[0].optim, lr=3e-3))
    detached = replace(
        taught,
        objective=replace(taught.objective, target_gradient="none"),
        parameters=r"^(?!head\.(quantizer|project_))",  # nothing teaches the codebook
    )
    tiny = get("w2v-bert:tiny")
    model = replace(tiny.model, entries=16, dropout=0.0)
    loop = replace(tiny.loop, updates=60, log_every=20, checkpoint_every=60, tolerate=arm.loop.tolerate)
    found = {}
    for name, player in (("taught", taught), ("detached", detached)):
        with Engine.start() as engine:
            train(replace(tiny, model=model, players=(player,), loop=loop), tmp_path / name, engine=engine)
        found[name] = [r for r in read_metrics(tmp_path / name) if r["kind"] == "update"][-1]["watch"]
    assert found["taught"]["code_perplexity"] < 1.5 and found["taught"]["mlm_accuracy"] > 0.95
    assert found["detached"]["code_perplexity"] > 4 and found["detached"]["mlm_accuracy"] < 0.6


def test_the_claims_arms_differ_in_their_losses_only() -> None:
    study = claim().study
    arms = {a.name: a for a in study.arms}
    assert {a.kind for a in study.arms} == {"trained", "untrained", "input"}
    trained = [a for a in study.arms if a.kind == "trained"]
    assert (
        len({(a.run.plan, a.run.data, a.run.frontend, a.run.players[0].optim, a.run.loop.updates) for a in trained})
        == 1
    )
    depth = {a.run.model.context_blocks + a.run.model.mlm_blocks for a in trained}
    assert depth == {4}  # the contrastive arm is as deep, its loss on top
    assert {replace(a.run.model, context_blocks=2, mlm_blocks=2) for a in trained} == {SMALL}
    assert arms["contrastive"].run.model.context_blocks == 4
    tasks = {a.name: a.run.players[0].objective for a in trained}
    assert tasks["both"].identical == "keep" and replace(tasks["both"], identical="mask") == tasks["both, ties masked"]
    assert tasks["contrastive"].mlm == tasks["MLM"].contrastive == 0.0
    assert {a.name for a in trained if a.run.loop.tolerate} == {"MLM", "both, ties masked"}
    check_tolerated(COLLAPSES)


def test_every_arm_names_just_the_parameters_that_its_losses_teach() -> None:
    """A parameter without gradient would stop the run; one that is left out though it learns would weaken the arm."""
    for arm in claim().study.arms:
        if arm.kind != "trained":
            continue
        small = replace(arm.run.model, dim=16, heads=2, ffn=24, channels=2, entries=12, code_dim=8, contrast_dim=8)
        with Engine.start() as engine:
            trainer = Trainer(replace(arm.run, model=small), engine)
            trainer.backward(0, [(noise(300, 200), True)], Draws(0, 0))
        own = trainer.parameters[0]
        assert {n for n, p in own.items() if p.grad is not None and bool(p.grad.any())} == set(own), arm.name
        model = trainer.state.model.requires_grad_(True)
        model.zero_grad(set_to_none=True)
        arm.run.players[0].objective(model, noise(300, 200), Draws(0, 0)).sum.backward()
        taught = {n for n, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
        assert taught == set(own), arm.name
