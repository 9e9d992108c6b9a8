"""overture.objectives.binary: the loss and F1, by hand."""

import math

import pytest
import torch

from overture.objectives.binary import answers, watched


def test_losses_and_f1_by_hand() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5, -3.0, 1.0])
    truth = torch.tensor([True, True, False, False, True])
    found = answers(logits, truth)
    p = [1 / (1 + math.exp(-v)) for v in logits.tolist()]
    by_hand = [-math.log(q if t else 1 - q) for q, t in zip(p, truth.tolist())]
    torch.testing.assert_close(found.losses, torch.tensor(by_hand))
    assert found.wrong.tolist() == [False, True, True, False, False]
    assert float(found.f1) == pytest.approx(2 * 2 / (2 * 2 + 2)) and float(found.accuracy) == pytest.approx(3 / 5)
    assert set(watched(found, "a_")) == {"a_nats", "a_f1", "a_accuracy"}


def test_always_no_is_accurate_and_has_no_f1() -> None:
    truth = torch.arange(100) < 15
    found = answers(torch.full((100,), -5.0), truth)
    assert float(found.accuracy) == pytest.approx(0.85) and float(found.f1) == 0.0
    assert float(answers(torch.full((3,), -5.0), torch.zeros(3, dtype=torch.bool)).f1) == 0.0
