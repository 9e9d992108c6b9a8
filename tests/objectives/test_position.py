"""overture.objectives.position: the classes, the context, exactly N tokens, equivariance, errors in time."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.features import LogMel
from overture.data.masks import RandomKeep
from overture.errors import OvertureError
from overture.models.modeling_patch import PatchModel
from overture.models.patch import PatchTransformer
from overture.objectives.position import PositionPrediction

MEL = LogMel(mels=16)
SIZES = PatchTransformer(
    patch=(16, 2),
    stride=(16, 2),
    frames=40,
    positions="none",
    class_tokens=0,
    layers=2,
    dim=16,
    heads=2,
    ffn=24,
    pretext=("position",),
)
OBJECTIVE = PositionPrediction(context=RandomKeep(share=0.4))


def built(**changes: Any) -> PatchModel:
    torch.manual_seed(0)
    model = replace(SIZES, **changes).build(MEL).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return model


def clips(*lengths: int) -> Batch:
    x = torch.randn(len(lengths), max(lengths), 16, generator=torch.Generator().manual_seed(1))
    return Batch(rows=torch.arange(len(lengths)) + 3, x=x, lengths=torch.tensor(lengths))


class Spy(nn.Module):
    """The model, keeping the context that it is called with, and answering with given states instead where there are some."""

    def __init__(self, model: PatchModel) -> None:
        super().__init__()
        self.model, self.context = model, None

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.model, name)

    def forward(self, *arguments: Any, **named: Any) -> Any:
        self.context = named["context"]
        return self.model(*arguments, **named)


def test_the_loss_is_the_cross_entropy_of_all_tokens_places() -> None:
    model, batch = Spy(built()), clips(40, 40, 40)
    loss = OBJECTIVE(model, batch, Draws(0, 1))
    assert model.context.shape == (3, 1, 20) and model.context.sum((1, 2)).tolist() == [8, 8, 8]
    states = model.model(batch.x, context=model.context).patch_states[:, 0]  # (B, N, D)
    logits = model.head.position(states)
    expected = sum(float(F.cross_entropy(logits[b], torch.arange(20), reduction="sum").detach()) for b in range(3))
    assert float(loss.sum.detach()) == pytest.approx(expected, rel=1e-5) and int(loss.targets) == 60
    guess = logits.argmax(-1)
    distance = (guess - torch.arange(20)).abs().float()
    assert float(loss.watch["accuracy"]) == pytest.approx(float((guess == torch.arange(20)).float().mean()))
    assert float(loss.watch["chance"]) == pytest.approx(1 / 20)
    assert float(loss.watch["position_error"]) == pytest.approx(float(distance.mean()))
    loudness = batch.x.view(3, 20, 32).mean(-1)
    loud = torch.stack([row > row.sort().values[9] for row in loudness])  # the upper half
    assert loud.sum(1).tolist() == [10, 10, 10]
    assert float(loss.watch["position_error_loud"]) == pytest.approx(float(distance[loud].mean()))
    assert loss.frames.shape == (60, 16) and not loss.frames.requires_grad


def test_contexts_are_drawn_for_each_clip_anew_each_update() -> None:
    model, batch = Spy(built()), clips(40, 40)
    OBJECTIVE(model, batch, Draws(0, 0))
    first = model.context
    assert not torch.equal(first[0], first[1])
    OBJECTIVE(model, batch, Draws(0, 1))
    assert not torch.equal(first, model.context)
    alone = Batch(rows=batch.rows[1:], x=batch.x[1:], lengths=batch.lengths[1:])
    OBJECTIVE(model, alone, Draws(0, 0))
    assert torch.equal(model.context[0], first[1])


def test_eta_0_is_full_attention() -> None:
    model = Spy(built())
    PositionPrediction(context=RandomKeep(share=1.0))(model, clips(40), Draws(0, 0))
    assert bool(model.context.all())


def test_permuting_tokens_permutes_logits() -> None:
    """No leak of position anywhere between the frames and the head."""
    model, x = built(), clips(40, 40).x
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    context = torch.rand(2, 1, 20, generator=torch.Generator().manual_seed(0)) < 0.4
    moved = x.view(2, 20, 2, 16)[:, order].flatten(1, 2)
    with torch.no_grad():
        logits = model.head.position(model.tokens(model(x, context=context).patch_states))
        permuted = model.head.position(model.tokens(model(moved, context=context[..., order]).patch_states))
    torch.testing.assert_close(permuted, logits[:, order], rtol=0, atol=1e-5)
    assert (logits[:, order] - logits).abs().max() > 1e-2


@pytest.mark.parametrize("order", ["frequency", "time"])
def test_the_error_of_a_grid_is_in_time(order: str) -> None:
    """A head that always answers 0, which is the patch of the lowest row and the first step."""
    model = built(patch=(4, 2), stride=(4, 2), order=order)
    with torch.no_grad():
        model.head.position[1].weight.zero_()
        model.head.position[1].bias.zero_()[0] = 1.0
    loss = OBJECTIVE(model, clips(40), Draws(0, 0))
    assert int(loss.targets) == 80 and float(loss.watch["chance"]) == pytest.approx(1 / 80)
    assert float(loss.watch["position_error"]) == pytest.approx(sum(range(20)) / 20)
    assert float(loss.watch["accuracy"]) == pytest.approx(1 / 80)


def test_a_network_that_knows_nothing_is_at_chance() -> None:
    model = built()
    with torch.no_grad():
        model.head.position[1].weight.zero_()
        model.head.position[1].bias.zero_()
    loss = OBJECTIVE(model, clips(40), Draws(0, 0))
    assert float(loss.sum / loss.targets) == pytest.approx(math.log(20))


def test_identical_frames_cannot_be_told_apart() -> None:
    """Silence: the logits of all tokens are equal, so accuracy is chance whatever the weights."""
    batch = clips(40)
    silent = replace(batch, x=torch.ones_like(batch.x))
    loss = OBJECTIVE(built(), silent, Draws(0, 0))
    assert float(loss.watch["accuracy"]) == pytest.approx(1 / 20)
    assert float(loss.sum / loss.targets) >= math.log(20)
    assert float(loss.watch["position_error_loud"]) == 0.0  # none is louder than the median


@pytest.mark.parametrize(
    ("changes", "lengths", "message"),
    [
        ({}, (40, 38), r"exactly.*rows \[4\] have \[19\].*data.min_seconds.*0\.4"),
        ({}, (42,), r"exactly.*have \[21\]"),
        ({"positions": "sinusoid"}, (40,), "set 'none'"),
        ({"positions": "learned"}, (40,), "set 'none'"),
        ({"stride": (16, 1)}, (40,), "overlap"),
        ({"pretext": ("generative",)}, (40,), "position head"),
    ],
)
def test_what_would_give_the_place_away_is_refused(
    changes: dict[str, Any], lengths: tuple[int, ...], message: str
) -> None:
    with pytest.raises(OvertureError, match=message):
        OBJECTIVE(built(**changes), clips(*lengths), Draws(0, 0))


def test_frames_beyond_the_last_whole_token_do_not_count() -> None:
    assert int(OBJECTIVE(built(), clips(41), Draws(0, 0)).targets) == 20
