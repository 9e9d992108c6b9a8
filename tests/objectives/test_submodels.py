"""overture.objectives.submodels: which layers see a batch, which learn, how often, and what that costs."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.tokens import Tokens
from overture.errors import OvertureError
from overture.models.text import Bert, Gpt2, Llama
from overture.objectives.causal import Causal
from overture.objectives.masked_tokens import MaskedTokens
from overture.objectives.submodels import SubModels
from overture.run import Cycling
from overture.train.engine import Engine
from overture.train.examples import Training
from overture.train.loop import Trainer, train
from overture.train.state import checkpoints, read_weights

from ..tasks.texts import DIM, documents, kept, reads

SIX = Bert(**{**DIM, "layers": 6}, ffn=64, dropout=0.0)
BATCH = Batch(rows=torch.arange(2), x=torch.randint(5, 300, (2, 20)), lengths=torch.tensor([20, 14]))


def built(spec: Any = SIX) -> Any:
    torch.manual_seed(0)
    return spec.build(Tokens(vocabulary=300))


def update_of(depth: int, objective: SubModels, model: Any) -> Draws:
    return next(d for u in range(9) if objective.depth(model, d := Draws(0, u)) == depth)


def test_each_depth_comes_equally_often_in_an_order_drawn_anew() -> None:
    model, objective = built(), SubModels(block=2)
    found = [objective.depth(model, Draws(3, u)) for u in range(60)]
    assert all(sorted(found[u : u + 3]) == [2, 4, 6] for u in range(0, 60, 3))
    assert len({tuple(found[u : u + 3]) for u in range(0, 60, 3)}) > 3
    assert found == [objective.depth(model, Draws(3, u)) for u in range(60)]
    assert found != [objective.depth(model, Draws(4, u)) for u in range(60)]
    assert isinstance(objective, Cycling) and objective.cycle(model) == 3 and not isinstance(MaskedTokens(), Cycling)
    with pytest.raises(OvertureError, match=r"objective\.block=4: 6 layers are not so many blocks"):
        SubModels(block=4).depth(model, Draws(0, 0))


@pytest.mark.parametrize("depth", [2, 4, 6])
def test_only_the_top_block_of_the_sub_model_and_the_head_learn(depth: int) -> None:
    model, objective = built(), SubModels(block=2)
    loss = objective(model, BATCH, draws := update_of(depth, objective, model))
    loss.sum.backward()
    learnt = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    layers = {int(n.split("layer.")[1].split(".")[0]) for n in learnt if "layer." in n}
    assert layers == {depth - 2, depth - 1}
    assert {
        "network.cls.predictions.bias",
        "network.bert.embeddings.word_embeddings.weight",
    } <= learnt  # the shared head
    assert ("network.bert.embeddings.position_embeddings.weight" in learnt) == (depth == 2)
    assert len(model.layers) == 6 and not any(layer._forward_pre_hooks for layer in model.layers)
    cut = built(replace(SIX, layers=depth))
    cut.load_state_dict(model.state_dict(), strict=False)
    assert torch.equal(MaskedTokens()(cut, BATCH, draws).sum, loss.sum)  # what a network of so many layers would have


@pytest.mark.parametrize(
    "spec", [Llama(**{**DIM, "layers": 4}, ffn=64), Gpt2(**{**DIM, "layers": 4}, dropout=0.0)], ids=["llama", "gpt2"]
)
def test_decoders_too(spec: Any) -> None:
    model, objective = built(spec), SubModels(objective=Causal(), block=2)
    objective(model, BATCH, update_of(4, objective, model)).sum.backward()
    learnt = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert {i for i in range(4) if any(f".{i}." in n for n in learnt)} == {2, 3}


def test_training_moves_nothing_else_and_its_flops_are_those_of_its_updates(tmp_path: Path) -> None:
    corpus = kept(documents(40), "texts-bottom-up")
    plain = reads(corpus, replace(SIX, layers=2), updates=4)
    player = replace(plain.players[0], objective=SubModels(block=1))
    run = replace(plain, players=(player,), loop=replace(plain.loop, keep_at=(0, 1, 2, 3, 4)))
    with Engine.start() as engine:
        ended = train(run, tmp_path / "run", engine=engine)
        shallow = replace(plain, model=replace(SIX, layers=1))
        both, one = (Trainer(r, engine).try_largest(Training.prepare(r)) for r in (plain, shallow))
        cycle = Trainer(run, engine).try_largest(Training.prepare(run))
        forward = [passed(r, Training.prepare(r).largest(engine)) for r in (shallow, plain)]
    # the deeper sub-model passes its lower layer forward alone, and its upper one asks for no gradient of what goes into queries, keys and values
    asked = 3 * 2 * 512 * 32 * 32
    assert one < cycle < both and cycle == one + (forward[1] - forward[0] - asked) // 2
    per_token = json.loads((tmp_path / "run" / "flops.json").read_text())["flops_per_padded_unit"]
    assert ended.flops == pytest.approx(per_token * ended.tokens)
    model = built(replace(SIX, layers=2))
    weights = [read_weights(path) for path in checkpoints(tmp_path / "run")]
    for update, (before, after) in enumerate(pairwise(weights)):
        depth = player.objective.depth(model, Draws(run.seed, update))  # type: ignore[attr-defined]
        for layer_number in range(2):
            moved = any(_moved(before, after, n) for n in before if f"layer.{layer_number}." in n)
            assert moved == (layer_number == depth - 1)
        assert _moved(before, after, "network.cls.predictions.bias")
        assert _moved(before, after, "network.bert.embeddings.position_embeddings.weight") == (depth == 1)


@torch.no_grad()
def passed(run: Any, batches: Any) -> int:
    """FLOPs of a forward pass."""
    model = built(run.model)
    with FlopCounterMode(display=False) as counter:
        for batch, _ in batches:
            model.hidden(batch.x, batch.lengths)
    return int(counter.get_total_flops())


def _moved(before: dict[str, Tensor], after: dict[str, Tensor], name: str) -> bool:
    return not np.array_equal(before[name].numpy(), after[name].numpy())
