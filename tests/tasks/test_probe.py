"""What the probes share: heads that do not feel each other, and the scale of states."""

import numpy as np
import torch

from overture.tasks.probe import Heads, scale


def test_heads_do_not_feel_each_other():
    """A head of the sweep is the head trained alone, and its updates are torch's Adam."""
    torch.manual_seed(0)
    x, y = torch.randn(3, 40, 6), torch.randint(4, (40,))
    swept, alone = Heads((1e-3, 1e-2), 3, 6, 4, "cpu"), Heads((1e-2,), 3, 6, 4, "cpu")
    mixture, weight, bias = (v.detach()[0].clone().requires_grad_() for v in alone.values)
    adam = torch.optim.Adam([mixture, weight, bias], lr=1e-2)
    for _ in range(20):
        for heads in (swept, alone):
            logits = heads.logits(x)
            each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.repeat(len(logits)), reduction="none")
            heads.step(each.view(len(logits), -1).mean(1).sum())
        mixed = (mixture.softmax(0)[:, None, None] * x).sum(0)
        adam.zero_grad()
        torch.nn.functional.cross_entropy(mixed @ weight + bias, y).backward()
        adam.step()
    for ours, single, theirs in zip(swept.values, alone.values, (mixture, weight, bias)):
        torch.testing.assert_close(ours[1:], single)
        torch.testing.assert_close(single[0], theirs, atol=1e-5, rtol=1e-4)


def test_a_dimension_that_does_not_vary_is_left_out() -> None:
    mean, inverse = scale(np.array([[1.0, 5.0]]), np.array([[4.0, 0.0]]))
    assert mean.tolist() == [[1, 5]] and inverse.tolist() == [[0.5, 0]]
