"""The loss, and transcripts that do not fit."""

import torch

from overture.models.tuned import FrameHead
from overture.recognise.decode import greedy
from overture.recognise.units import Characters
from overture.tasks.ctc import Infeasible, ctc_loss_sum, ctc_losses, frames_needed, infeasible


def test_loss_is_a_sum_over_characters_and_ignores_padding():
    torch.manual_seed(0)
    logits = torch.randn(3, 12, 6)
    targets, sizes = torch.tensor([[1, 2, 3], [4, 4, 0], [0, 0, 0]]), torch.tensor([3, 2, 0])
    lengths = torch.tensor([12, 9, 5])
    total, count = ctc_loss_sum(logits, lengths, targets, sizes)
    assert count == 3 + 2 + 1  # an empty transcript counts as one
    alone = [
        ctc_losses(logits[i : i + 1, :n], lengths[i : i + 1], targets[i : i + 1], sizes[i : i + 1])
        for i, n in enumerate(lengths)
    ]
    torch.testing.assert_close(total, torch.cat(alone).sum())
    empty = -logits[2, :5].log_softmax(-1)[:, 0].sum()
    torch.testing.assert_close(alone[2][0], empty)


def test_infeasible_transcripts_are_exactly_those_of_infinite_loss():
    alphabet = Characters("abl")
    rows = []
    for text in ("ball", "baal", "bbaall", "lab", ""):
        ids = alphabet.encode(text, row=text)
        for frames in range(1, 10):
            loss = ctc_losses(
                torch.zeros(1, frames, len(alphabet)),
                torch.tensor([frames]),
                torch.tensor([ids]).long(),
                torch.tensor([len(ids)]),
            )
            assert bool(torch.isinf(loss)) == bool(infeasible([(text, frames, ids)])), (text, frames)
        rows.append((text, 5, ids))
    assert frames_needed(alphabet.encode("ball", row="")) == 5
    assert infeasible(rows) == [Infeasible("bbaall", 5, 9)]


def test_head_fine_tunes_an_encoder_on_a_planted_alignment():
    torch.manual_seed(0)
    alphabet = Characters("abcd")
    encoder, head = torch.nn.Linear(8, 16), FrameHead(16, len(alphabet), dropout=0.0)
    codes = torch.randn(len(alphabet), 8)
    targets = torch.randint(1, len(alphabet), (6, 4))
    frames = torch.stack([targets, torch.zeros_like(targets)], 2).flatten(1)  # each character, then a blank
    x = codes[frames]
    optim = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.02)
    lengths, sizes = torch.full((6,), 8), torch.full((6,), 4)
    for _ in range(150):
        total, count = ctc_loss_sum(head(encoder(x)), lengths, targets, sizes)
        optim.zero_grad()
        (total / count).backward()
        optim.step()
    assert greedy(head(encoder(x)), lengths) == targets.tolist()
