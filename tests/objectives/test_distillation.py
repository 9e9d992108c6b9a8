"""overture.objectives.distillation: clean input for both, sums over dimensions, and the pretext task as it is."""

from dataclasses import dataclass, replace

import pytest
import torch

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.models.text import TextModel
from overture.objectives import Loss
from overture.objectives.distillation import Distillation
from overture.objectives.masked_tokens import MaskedTokens
from overture.train.teacher import Teacher

from .toys_text import model, text

ALL = (40, 64, 9, 17)
BOTH = Distillation(pretext=MaskedTokens())


def student(teacher_seed: int = 1) -> TextModel:
    net = model()
    net.teacher = Teacher(model(seed=teacher_seed))  # type: ignore[assignment]
    return net


@dataclass(frozen=True)
class Silent:
    """A pretext task that does not tell how many targets an example has."""

    def __call__(self, net: TextModel, batch: Batch, draws: Draws) -> Loss:
        return MaskedTokens()(net, batch, draws)._replace(counts=None)


def test_the_distance_is_summed_over_dimensions_of_clean_states_and_added_to_the_pretext_loss() -> None:
    net, batch, draws = student(), text(*ALL), Draws(0, 4)
    alone = MaskedTokens()(net, batch, draws)
    assert alone.counts is not None and alone.counts.sum() == alone.targets
    own, other = (n.hidden(batch.x, batch.lengths) for n in (net, net.teacher.network))
    first = (own[:, 0] - other[:, 0]).square().sum(1)
    for weight in (1.0, 2.5):
        both = replace(BOTH, weight=weight)(net, batch, draws)
        assert int(both.targets) == int(alone.targets)
        torch.testing.assert_close(both.sum, alone.sum + weight * (first * alone.counts).sum())
    torch.testing.assert_close(both.watch["apart"], first.mean())
    means = [
        (o[:n].mean(0) - t[:n].mean(0)).square().sum()
        for o, t, n in zip(own, other, batch.lengths.tolist(), strict=True)
    ]
    whole = replace(BOTH, whole="mean")(net, batch, draws)
    torch.testing.assert_close(whole.sum, alone.sum + (torch.stack(means) * alone.counts).sum())


def test_of_examples_of_one_length_it_is_the_plain_mean() -> None:
    both = BOTH(student(), text(30, 30, 30), Draws(0, 0))
    torch.testing.assert_close(both.sum / both.targets, both.watch["pretext"] + both.watch["apart"])


def test_one_that_is_its_teacher_learns_the_pretext_task_alone() -> None:
    net, batch = student(teacher_seed=0), text(*ALL)
    torch.testing.assert_close(BOTH(net, batch, Draws(0, 0)).sum, MaskedTokens()(net, batch, Draws(0, 0)).sum)


def test_accumulation_and_padding_change_nothing() -> None:
    net, batch = student(), text(*ALL)
    whole = BOTH(net, batch, Draws(0, 1))
    parts = [
        BOTH(
            net,
            Batch(rows=batch.rows[i : i + 1], x=batch.x[i : i + 1, :n], lengths=batch.lengths[i : i + 1]),
            Draws(0, 1),
        )
        for i, n in enumerate(ALL)
    ]
    torch.testing.assert_close(sum(p.sum for p in parts), whole.sum)
    assert sum(int(p.targets) for p in parts) == int(whole.targets)


def test_the_teacher_gets_no_gradient_and_is_no_part_of_the_model() -> None:
    net = student()
    before = {n: p.clone() for n, p in net.teacher.network.named_parameters()}
    BOTH(net, text(*ALL), Draws(0, 0)).sum.backward()
    assert all(p.grad is None and torch.equal(p, before[n]) for n, p in net.teacher.network.named_parameters())
    assert all(p.grad is not None for p in net.parameters())
    assert not net.teacher.network.training and "teacher" not in " ".join(net.state_dict())


def test_without_weight_nobody_is_listened_to() -> None:
    free = replace(BOTH, weight=0.0)
    net = model()  # without a teacher
    torch.testing.assert_close(free(net, text(*ALL), Draws(0, 0)).sum, MaskedTokens()(net, text(*ALL), Draws(0, 0)).sum)
    assert (free.listens_to, BOTH.listens_to, replace(BOTH, averaged=True).listens_to) == (None, "run", "average")


def test_a_task_that_does_not_tell_its_targets_by_example_is_refused() -> None:
    with pytest.raises(OvertureError, match="Silent does not tell how many each has"):
        Distillation(pretext=Silent())(student(), text(*ALL), Draws(0, 0))
