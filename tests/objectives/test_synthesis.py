"""overture.objectives.synthesis: the formula by hand, a batch as the sum of its utterances, what is refused."""

from dataclasses import replace
from math import exp, log
from typing import Any

import pytest
import torch

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.normal_mel import NormalMel
from overture.errors import OvertureError
from overture.models.synthesiser import END, FIRST, Synthesiser, SynthesiserModel
from overture.objectives.synthesis import Synthesis, off_diagonal

SIZES = Synthesiser(
    layers=2,
    dim=24,
    heads=4,
    ffn=32,
    prenet=12,
    postnet=10,
    voice=6,
    dropout=0.0,
    prenet_dropout=0.0,
    postnet_dropout=0.0,
)


def build(**sizes: Any) -> SynthesiserModel:
    torch.manual_seed(0)
    return replace(SIZES, **sizes).build(NormalMel(mels=5))


def batch(*sizes: tuple[int, int]) -> Batch:
    """`sizes`: frames and symbols of each utterance."""
    generator = torch.Generator().manual_seed(0)
    lengths, label_lengths = (torch.tensor(line) for line in zip(*sizes))
    x = torch.randn(len(sizes), int(lengths.max()), 5, generator=generator)
    labels = torch.randint(FIRST, FIRST + 9, (len(sizes), int(label_lengths.max())), generator=generator)
    found = Batch(
        rows=torch.arange(len(sizes)),
        x=x,
        lengths=lengths,
        labels=labels,
        label_lengths=label_lengths,
        voices=torch.randn(len(sizes), 6, generator=generator),
    )
    return replace(found, x=x * found.valid[..., None])


@pytest.mark.parametrize("reduction", [1, 2, 3])
def test_the_loss_is_the_written_formula(reduction: int) -> None:
    model, some, objective = build(reduction=reduction), batch((11, 5), (7, 6)), Synthesis(guide=0.7, width=0.3)
    loss = objective(model, some, Draws(0, 0))
    with torch.no_grad():
        made = model(some.x, some.lengths, some.labels, some.label_lengths, some.voices)
    by_hand = astray = 0.0
    for b, (frames, size) in enumerate(((11, 5), (7, 6))):
        steps = -(-frames // reduction)
        for t in range(frames):
            for found in (made.before, made.after):
                missing = found[b, t] - some.x[b, t]
                by_hand += float((missing**2).mean() + missing.abs().mean())
            logit = float(made.stop[b, t])
            by_hand += 5 * log(1 + exp(-logit)) if t == frames - 1 else log(1 + exp(logit))
            step = t // reduction
            for layer in made.read:
                for head in (0, 1):
                    for n in range(size):
                        far = 1 - exp(-((n / size - step / steps) ** 2) / (2 * 0.3**2))
                        astray += float(layer[b, head, step, n]) * far / 4
    assert float(loss.sum.detach()) == pytest.approx(by_hand + 0.7 * astray, rel=1e-4)
    assert int(loss.targets) == 18 and loss.counts is not None and loss.counts.tolist() == [11, 7]
    assert float(loss.watch["off_diagonal"]) == pytest.approx(astray / 18, rel=1e-4)
    assert len(loss.frames) == sum(-(-t // reduction) for t in (11, 7))


def test_a_batch_is_the_sum_of_its_utterances() -> None:
    model, some = build(), batch((11, 5), (4, 9), (8, 3))
    whole = Synthesis()(model, some, Draws(0, 0))
    parts = []
    assert some.labels is not None and some.label_lengths is not None and some.voices is not None
    for b, (t, n) in enumerate(((11, 5), (4, 9), (8, 3))):
        one = slice(b, b + 1)
        parts.append(
            Synthesis()(
                model,
                replace(
                    some,
                    rows=some.rows[one],
                    x=some.x[one, :t],
                    lengths=some.lengths[one],
                    labels=some.labels[one, :n],
                    label_lengths=some.label_lengths[one],
                    voices=some.voices[one],
                ),
                Draws(0, 0),
            )
        )
    assert float(whole.sum.detach()) == pytest.approx(sum(float(p.sum.detach()) for p in parts), rel=1e-5)
    assert int(whole.targets) == sum(int(p.targets) for p in parts)


def test_the_diagonal_is_of_each_utterances_own_length() -> None:
    far = off_diagonal(torch.tensor([4, 2]), torch.tensor([2, 4]), (4, 4), 0.4)
    assert far[0, 0, 0] == far[1, 1, 2] == far[0, 2, 1] == 0
    assert float(far[0, 0, 1]) == pytest.approx(1 - exp(-0.25 / 0.32))
    assert float(far[1, 0, 3]) == pytest.approx(1 - exp(-0.5625 / 0.32))


def test_a_text_is_phones_and_others_are_refused_by_row() -> None:
    assert Synthesis().encode(["AA", "AE"], "a") == [FIRST, FIRST + 1, END]
    with pytest.raises(OvertureError, match=r"row 'a' has no phones.*phones IS NOT NULL"):
        Synthesis().encode("", "a")
    with pytest.raises(OvertureError, match=r"row 'a', column 'phones'.*Score it again"):
        Synthesis().encode(["AA", "QQ"], "a")


def test_nobody_and_another_kind_of_voice_are_refused() -> None:
    some = batch((11, 5))
    with pytest.raises(OvertureError, match=r"model\.voice=6 numbers.*gives no vector"):
        Synthesis()(build(), replace(some, voices=None), Draws(0, 0))
    with pytest.raises(OvertureError, match=r"model\.voice=4 numbers.*gives 6 numbers"):
        Synthesis()(build(voice=4), some, Draws(0, 0))
