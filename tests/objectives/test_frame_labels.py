"""Frame cross-entropy: labels through a column, finer than the states, on labelled frames only, never of another number than the states."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.features import Waveform
from overture.errors import OvertureError
from overture.models.tuned import FrameHead, Tuned
from overture.objectives.frame_labels import FrameLabels, label_logits, write_labels
from overture.run import Labelled

from ..tasks.toys import HOP, WINDOW, Strided

CLASSES, FACTOR = 5, 2
OBJECTIVE = FrameLabels(classes=CLASSES, factor=FACTOR)


def model() -> Tuned:
    torch.manual_seed(0)
    encoder = Strided().build(Waveform())
    return Tuned(encoder, FrameHead(encoder.dim, FACTOR * CLASSES, dropout=0.0), Waveform())


def batch(steps: list[int], labels: list[list[int]]) -> Batch:
    """Utterances of so many states, noise."""
    lengths = torch.tensor([WINDOW + (n - 1) * HOP for n in steps])
    x = torch.zeros(len(steps), int(lengths.max()))
    for b, n in enumerate(lengths.tolist()):
        x[b, :n] = torch.from_numpy(np.random.default_rng(steps[b]).normal(size=n).astype(np.float32))
    padded = nn.utils.rnn.pad_sequence([torch.tensor(y) for y in labels], batch_first=True)
    return Batch(torch.arange(len(steps)), x, lengths, padded, torch.tensor([len(y) for y in labels]))


def test_labels_survive_their_column() -> None:
    labels = [0, 0, 3, -1, -1, 4]
    assert write_labels(labels) == "0:2 3:1 -1:2 4:1"
    assert isinstance(OBJECTIVE, Labelled) and OBJECTIVE.encode(write_labels(labels), "r") == labels
    assert OBJECTIVE.encode("", "r") == []
    for wrong in ("5:1", "-2:1", "1", "1:2:3", "1:x"):
        with pytest.raises(OvertureError, match=r"row 'u7', column 'frame_labels': .* Align again"):
            OBJECTIVE.encode(wrong, "u7")


def test_labels_of_a_state_stand_side_by_side() -> None:
    logits = torch.arange(2 * 3 * FACTOR * CLASSES).view(2, 3, -1)  # (B, T, factor * C)
    fine = label_logits(logits, FACTOR)
    assert fine.shape == (2, 3 * FACTOR, CLASSES)
    for b, t, k in ((0, 0, 0), (0, 0, 1), (1, 2, 1)):
        assert torch.equal(fine[b, FACTOR * t + k], logits[b, t, k * CLASSES : (k + 1) * CLASSES])


def test_the_loss_is_that_of_each_labelled_frame() -> None:
    tuned, labels = model(), [[0, 1, 2, 3], [4, -1, 2, 2, 1, 0]]
    given = batch([2, 3], labels)
    loss = OBJECTIVE(tuned, given, Draws(0, 0))
    hidden, _ = tuned(given.x, given.lengths)
    log_p = label_logits(tuned.head(hidden), FACTOR).log_softmax(-1)
    expected = -sum(log_p[b, t, y] for b, row in enumerate(labels) for t, y in enumerate(row) if y >= 0)
    assert float(loss.sum.detach()) == pytest.approx(float(expected.detach()), rel=1e-5) and int(loss.targets) == 9
    right = sum(int(log_p[b, t].argmax()) == y for b, row in enumerate(labels) for t, y in enumerate(row) if y >= 0)
    assert float(loss.watch["accuracy"]) == pytest.approx(right / 9)
    assert len(loss.frames) == 5 and not loss.frames.requires_grad


def test_neither_padding_nor_company_change_the_loss() -> None:
    tuned, labels = model(), [[0, 1, 2, 3], [4, -1, 2, 2, 1, 0]]
    together = OBJECTIVE(tuned, batch([2, 3], labels), Draws(0, 0))
    alone = [OBJECTIVE(tuned, batch([n], [y]), Draws(0, 0)) for n, y in zip((2, 3), labels)]
    assert float(together.sum.detach()) == pytest.approx(sum(float(a.sum.detach()) for a in alone), rel=1e-5)
    assert int(together.targets) == sum(int(a.targets) for a in alone)


def test_an_utterance_without_a_label_teaches_nothing() -> None:
    tuned = model()
    loss = OBJECTIVE(tuned, batch([2], [[-1] * 4]), Draws(0, 0))
    assert float(loss.sum.detach()) == 0 and int(loss.targets) == 0 and float(loss.watch["accuracy"]) == 0
    loss.sum.backward()
    assert all(p.grad is None or not p.grad.any() for p in tuned.parameters())


@pytest.mark.parametrize("count", [3, 5, 2])
def test_another_number_of_labels_than_states_is_an_error(count: int) -> None:
    with pytest.raises(OvertureError, match=rf"row number 1: {count} labels, 2 states of 2 labels each"):
        OBJECTIVE(model(), batch([2, 2], [[0] * 4, [0] * count]), Draws(0, 0))
    with pytest.raises(ValueError, match="labels"):
        OBJECTIVE(model(), Batch(torch.arange(1), torch.zeros(1, WINDOW), torch.tensor([WINDOW])), Draws(0, 0))


def test_the_whole_encoder_learns_half_frames() -> None:
    """Loud and quiet halves of states: only a head with its own scores for each half can tell them apart."""
    rng, tuned = np.random.default_rng(0), model()
    loud = rng.integers(0, 2, (4, 2 * 8))  # (B, half states)
    samples = np.repeat(loud, HOP // 2, axis=1) * 0.95 + 0.05
    x = torch.from_numpy((samples * rng.normal(size=samples.shape)).astype(np.float32))
    steps = (x.shape[1] - WINDOW) // HOP + 1
    labels = torch.from_numpy(loud[:, : FACTOR * steps].copy())
    given = Batch(torch.arange(4), x, torch.full((4,), x.shape[1]), labels, torch.full((4,), FACTOR * steps))
    optimizer = torch.optim.Adam([p for p in tuned.parameters() if p.requires_grad], lr=0.01)
    before = {n: p.detach().clone() for n, p in tuned.named_parameters()}
    losses = []
    for update in range(60):
        loss: Any = OBJECTIVE(tuned, given, Draws(0, update))
        mean: Tensor = loss.sum / loss.targets
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
        losses.append(float(mean.detach()))
    assert losses[-1] < 0.3 * losses[0] and float(loss.watch["accuracy"]) > 0.95
    moved = {n.split(".")[1] for n, p in tuned.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {"convolve", "mix", "output"}  # the quantizer is pre-training's
