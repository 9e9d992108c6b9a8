"""overture.objectives.flow: the formula, what is hidden and what is told, each example by itself, targets without context and padding."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.normal_mel import NormalMel
from overture.models.flow import FlowTransformer, Stream
from overture.models.modeling_flow import Condition
from overture.objectives.flow import FlowMatching

SIZES = FlowTransformer(layers=2, dim=16, heads=2, ffn=24, phone_dim=8)


def batch(*lengths: int, channels: int = 80, first: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(0)
    t = max(lengths)
    x = torch.randn(len(lengths), t, channels, generator=generator)
    found = Batch(
        rows=torch.arange(first, first + len(lengths)),
        x=x,
        lengths=torch.tensor(lengths),
        channels={"phone": torch.randint(0, 40, (len(lengths), t), generator=generator)},
    )
    return replace(found, x=x * found.valid[..., None])


class Recorder(torch.nn.Module):
    """Predicts a fixed velocity and keeps what it was given."""

    null = 40

    def __init__(self, velocity: torch.Tensor) -> None:
        super().__init__()
        self.velocity = torch.nn.Parameter(velocity)

    def forward(self, x: torch.Tensor, valid: torch.Tensor, *, time: torch.Tensor, condition: Condition) -> Any:
        self.given = (x, valid, time, condition)
        return SimpleNamespace(velocity=self.velocity, last_hidden_state=torch.zeros(*x.shape[:2], 4))


def test_the_loss_is_the_written_formula() -> None:
    some, objective = batch(30, 21, 26, channels=5), FlowMatching(least=0.1)
    model = Recorder(torch.randn(3, 30, 5))
    loss = objective(model, some, Draws(0, 0))
    noise, time, hidden, untold = objective.draw(some, Draws(0, 0))
    x, valid, at, told = model.given
    assert torch.equal(at, time) and torch.equal(valid, some.valid)
    by_hand = 0.0
    for b, t in hidden.nonzero().tolist():
        x0, x1 = noise[b, t], some.x[b, t]
        torch.testing.assert_close(x[b, t], (1 - 0.9 * time[b]) * x0 + time[b] * x1)
        by_hand += float(((model.velocity[b, t].detach() - (x1 - 0.9 * x0)) ** 2).sum())
    assert float(loss.sum.detach()) == pytest.approx(by_hand, rel=1e-5)
    assert int(loss.targets) == 5 * int(hidden.sum()) and loss.counts.tolist() == (5 * hidden.sum(1)).tolist()
    for b in range(3):
        shown = some.x[b] * ~hidden[b][:, None]
        assert torch.equal(told.context[b], shown) and (not untold[b] or not shown.any())
        assert torch.equal(told.phones[b], torch.full((30,), 40) if untold[b] else some.channels["phone"][b])


def test_targets_are_hidden_frames_and_neither_context_nor_padding() -> None:
    some, objective = batch(40, 25), FlowMatching(alone=0.0, untold=0.0)
    model = Recorder(torch.zeros(2, 40, 80))
    objective(model, some, Draws(0, 3)).sum.backward()
    hidden = objective.draw(some, Draws(0, 3)).hidden
    assert not (hidden & ~some.valid).any() and (some.valid & ~hidden).any()
    gradient = model.velocity.grad.abs().sum(2) > 0
    assert torch.equal(gradient, hidden)


def test_spans_are_of_the_examples_own_length() -> None:
    some = batch(200, 20, channels=1)
    shares: dict[int, list[float]] = {200: [], 20: []}
    for update in range(300):
        hidden = FlowMatching(alone=0.0, untold=0.0).draw(some, Draws(0, update)).hidden
        for b, n in enumerate((200, 20)):
            where = hidden[b].nonzero()[:, 0]
            assert where[-1] - where[0] + 1 == len(where)  # one span, without gaps
            shares[n].append(len(where) / n)
    for n, found in shares.items():
        assert min(found) >= 0.7 - 0.5 / n and max(found) <= 1.0
        assert np.mean(found) == pytest.approx(0.85, abs=0.02) and np.std(found) == pytest.approx(
            0.3 / 12**0.5, abs=0.02
        )


def test_examples_lose_their_context_each_by_itself_and_as_often_as_promised() -> None:
    some, objective = batch(*[30] * 40, channels=1), FlowMatching()
    untold, alone, mixed, times = [], [], 0, []
    for update in range(50):
        drawn = objective.draw(some, Draws(1, update))
        untold += drawn.untold.tolist()
        alone += drawn.hidden.all(1)[~drawn.untold].tolist()
        mixed += 0 < int(drawn.untold.sum()) < 40
        times += drawn.time.tolist()
        assert drawn.hidden[drawn.untold].all()  # nothing told: everything to be found
    assert mixed > 45  # never the whole batch or none of it
    assert np.mean(untold) == pytest.approx(0.2, abs=0.03)
    # spans of .983 and more of 30 frames are all of them too: .3 + .7 / 18
    assert np.mean(alone) == pytest.approx(0.3 + 0.7 * (1 - 29.5 / 30) / 0.3, abs=0.04)
    assert np.mean(times) == pytest.approx(0.5, abs=0.02) and np.std(times) == pytest.approx(12**-0.5, abs=0.02)


def test_an_example_gets_the_same_beside_others_and_alone() -> None:
    some, objective = batch(40, 25, 33), FlowMatching()
    whole = objective.draw(some, Draws(2, 5))
    for b, n in enumerate(some.lengths.tolist()):
        one = Batch(rows=some.rows[b : b + 1], x=some.x[b : b + 1, :n], lengths=some.lengths[b : b + 1])
        found = objective.draw(one, Draws(2, 5))
        assert torch.equal(found.noise[0], whole.noise[b, :n]) and not whole.noise[b, n:].any()
        assert torch.equal(found.hidden[0], whole.hidden[b, :n])
        assert found.time[0] == whole.time[b] and found.untold[0] == whole.untold[b]
    assert not torch.equal(objective.draw(some, Draws(2, 6)).noise, whole.noise)
    noise = FlowMatching().draw(batch(400, 400), Draws(0, 0)).noise
    assert abs(float(noise.mean())) < 0.02 and float(noise.std()) == pytest.approx(1, abs=0.02)


def test_streams_are_told_and_dropped_with_the_rest() -> None:
    torch.manual_seed(0)
    model = replace(SIZES, streams=(Stream(name="laughter", dim=2),)).build(NormalMel())
    some, objective = batch(30, 20), FlowMatching(streams=("laughter",))
    with pytest.raises(ValueError, match="its laughter"):
        objective(model, some, Draws(0, 0))
    full = replace(some, channels={**some.channels, "laughter": torch.ones(2, 30, 2)})
    objective(model, full, Draws(0, 0)).sum.backward()
    assert model.streams["laughter"].weight.grad.any()
    model.zero_grad()
    replace(objective, untold=1.0)(model, full, Draws(0, 0)).sum.backward()
    assert not model.streams["laughter"].weight.grad.any() and not model.phone.weight.grad[:40].any()
    assert model.phone.weight.grad[40].any()


def test_it_learns_to_say_what_the_phones_say() -> None:
    """Two phones, each always the same frame: told which, the flow goes there; the error of a flow that is told nothing stays above."""
    torch.manual_seed(0)
    model = FlowTransformer(layers=2, dim=32, heads=2, ffn=64, phone_dim=8).build(NormalMel(mels=4, high=8000.0))
    of = torch.tensor([[2.0, -2.0, 2.0, -2.0], [-2.0, 2.0, -2.0, 2.0]])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    objective = FlowMatching(alone=1.0, untold=0.0)
    phones = torch.randint(0, 2, (8, 12), generator=torch.Generator().manual_seed(0))
    some = Batch(rows=torch.arange(8), x=of[phones], lengths=torch.full((8,), 12), channels={"phone": phones})
    losses = []
    for update in range(120):
        optimizer.zero_grad()
        loss = objective(model, some, Draws(0, update))
        (loss.sum / loss.targets).backward()
        optimizer.step()
        losses.append(float(loss.sum.detach() / loss.targets))
    assert np.mean(losses[-10:]) < 0.35 * losses[0]
