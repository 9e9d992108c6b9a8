"""overture.objectives.preferences: losses by hand, gradients by autograd, and that a score concerns the tokens it is of and no others."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.tokens import Tokens
from overture.errors import OvertureError
from overture.models.text import Head, Llama, TextModel
from overture.objectives import vocabulary
from overture.objectives.causal import Causal
from overture.objectives.preferences import AdvantageWeighted, RewardWeighted, Unlikelihood

DRAWS = Draws(0, 0)
VALUE = Head(name="value", deep=False, bias=False, zero=True)


@pytest.fixture(scope="module")
def model() -> TextModel:
    torch.manual_seed(0)
    return Llama(layers=1, dim=16, heads=2, ffn=32, positions=32, init=0.5, extra=(VALUE,)).build(
        Tokens(vocabulary=300)
    )


def batch(scores: list[list[float]] | None = None) -> Batch:
    x = torch.tensor([[5, 20, 21, 22, 23], [5, 30, 31, 0, 0]])
    channels = {} if scores is None else {"score": torch.tensor(scores)}
    return Batch(rows=torch.tensor([0, 1]), x=x, lengths=torch.tensor([5, 3]), channels=channels)


SCORES = [[0.0, 0.0, 0.5, 0.0, 0.2], [0.0, 0.1, 0.0, 9.0, 9.0]]  # 9: of padding


def known(model: TextModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the 6 predicted tokens: p, score, and the value at the token before."""
    with torch.no_grad():
        hidden = model.hidden(batch().x, batch().lengths)
        p = model.logits(hidden).double().softmax(-1)
        v = -torch.sigmoid(model.heads["value"](hidden)[..., 0].double())
    places = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1), (1, 2)]
    x = batch().x
    return (
        np.array([float(p[b, t - 1, x[b, t]]) for b, t in places]),
        np.array([SCORES[b][t] for b, t in places]),
        np.array([float(v[b, t - 1]) for b, t in places]),
    )


def test_unlikelihood_by_hand(model: TextModel) -> None:
    p, score, _ = known(model)
    for threshold, alpha in ((0.0, 1.0), (0.15, 0.01)):
        flagged = score > threshold
        expected = -np.log(p[~flagged]).sum() - alpha * np.log(1 - p[flagged]).sum()
        found = Unlikelihood(threshold=threshold, alpha=alpha)(model, batch(SCORES), DRAWS)
        assert found.sum.item() == pytest.approx(expected, rel=1e-5)
        assert int(found.targets) == 6
        assert float(found.watch["flagged"]) == pytest.approx(flagged.mean())


def test_a_score_that_is_the_threshold_is_not_flagged(model: TextModel) -> None:
    at = Unlikelihood(threshold=0.5)(model, batch(SCORES), DRAWS)
    assert at.sum.item() == pytest.approx(Causal()(model, batch(), DRAWS).sum.item(), rel=1e-6)


def test_reward_weights_by_hand(model: TextModel) -> None:
    p, score, _ = known(model)
    found = RewardWeighted(beta=0.1)(model, batch(SCORES), DRAWS)
    assert found.sum.item() == pytest.approx(-(np.exp(-score / 0.1) * np.log(p)).sum(), rel=1e-5)
    good = [[-1.0] * 5] * 2  # a reward of 1, whose exp(R / beta) is 22,026: clipped
    clipped = RewardWeighted(beta=0.1)(model, batch(good), DRAWS)
    assert clipped.sum.item() == pytest.approx(-1000 * np.log(p).sum(), rel=1e-5)


def test_advantage_weights_by_hand_and_the_value_is_of_the_position_before(model: TextModel) -> None:
    with torch.no_grad():
        model.heads["value"][0].weight.normal_(generator=torch.Generator().manual_seed(3))
    p, score, v = known(model)
    assert len(set(v.round(4))) > 3
    advantage = -score - v
    expected = 0.3 * -(np.exp(advantage / 0.7) * np.log(p)).sum() + 0.7 * (advantage**2).sum()
    found = AdvantageWeighted(beta=0.7, alpha=0.3)(model, batch(SCORES), DRAWS)
    assert found.sum.item() == pytest.approx(expected, rel=1e-5)


def test_values_begin_at_a_half_and_are_a_constant_in_the_weight(model: TextModel) -> None:
    head = model.heads["value"][0].weight
    with torch.no_grad():
        head.zero_()
    assert model.heads["value"][0].bias is None
    found = AdvantageWeighted(alpha=1.0)(model, batch(SCORES), DRAWS)
    assert float(found.watch["value"]) == pytest.approx(-0.5)
    (slope,) = torch.autograd.grad(found.sum, head, allow_unused=True)
    assert slope is None or not slope.any()  # nothing of the first term reaches the values
    states = AdvantageWeighted(alpha=0.0)(model, batch(SCORES), DRAWS)
    slopes = torch.autograd.grad(states.sum, [head, model.network.lm_head.weight], allow_unused=True)
    assert slopes[0].abs().max() > 1e-3 and (slopes[1] is None or not slopes[1].any())


@pytest.mark.parametrize("chunk", [300 * 2, 1 << 24])  # two tokens at a time, and all
def test_the_gradient_of_unlikelihood_is_that_of_its_formula(
    model: TextModel, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "CHUNK", chunk)
    parameters = [model.network.lm_head.weight, model.network.model.layers[0].mlp.up_proj.weight]
    found = torch.autograd.grad(Unlikelihood(alpha=0.3)(model, batch(SCORES), DRAWS).sum, parameters)
    given = batch(SCORES)
    hidden = model.hidden(given.x, given.lengths)
    p = model.logits(hidden)[:, :-1].softmax(-1).gather(-1, given.x[:, 1:, None])[..., 0]
    each = torch.where(given.channels["score"][:, 1:] > 0, -0.3 * torch.log(1 - p), -torch.log(p))
    expected = torch.autograd.grad(each[given.valid[:, 1:]].sum(), parameters)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_token_that_is_certain_has_a_finite_unlikelihood() -> None:
    weight = torch.tensor([[50.0], [-50.0]], requires_grad=True)
    sure = SimpleNamespace(output=(torch.nn.Identity(), weight, None), hidden=lambda x, lengths: torch.ones(1, 2, 1))
    zeros, ones = torch.zeros(1, 2, dtype=torch.long), torch.ones(1, 2)
    given = Batch(rows=torch.tensor([0]), x=zeros, lengths=torch.tensor([2]), channels={"score": ones})
    found = Unlikelihood()(sure, given, DRAWS)  # type: ignore[arg-type]
    assert found.sum.item() == pytest.approx(-np.log(1e-20), rel=1e-6)
    (slope,) = torch.autograd.grad(found.sum, weight)
    assert not slope.any()


@pytest.mark.parametrize("objective", [Unlikelihood(), RewardWeighted(beta=1.0), AdvantageWeighted()])
def test_one_flagged_segment_changes_the_loss_at_its_own_targets_alone(model: TextModel, objective: object) -> None:
    with torch.no_grad():
        model.heads["value"][0].weight.zero_()
    slopes = {}
    for name, scores in (("clean", [[0.0] * 5] * 2), ("flagged", [[0, 0, 0.5, 0.5, 0], [0.0] * 5])):
        given = batch(scores)
        hidden = model.hidden(given.x, given.lengths).detach().requires_grad_()

        heard = SimpleNamespace(output=model.output, heads=model.heads, hidden=lambda x, lengths, at=hidden: at)
        (slopes[name],) = torch.autograd.grad(objective(heard, given, DRAWS).sum, hidden)  # type: ignore[operator]
    changed = (slopes["clean"] != slopes["flagged"]).any(-1)
    assert changed.tolist() == [[False, True, True, False, False], [False] * 5]  # the states before tokens 2 and 3


def test_what_is_missing_is_said(model: TextModel) -> None:
    with pytest.raises(OvertureError, match="PackSegments"):
        RewardWeighted()(model, batch(), DRAWS)
    bare = Llama(layers=1, dim=16, heads=2, ffn=32, positions=32).build(Tokens(vocabulary=300))
    with pytest.raises(OvertureError, match="Head"):
        AdvantageWeighted()(bare, batch(SCORES), DRAWS)
