"""Runs on samples: which rows, how long, what is heard in them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from overture.data.draws import Draws
from overture.data.features import LogMel
from overture.data.render import SpokenText
from overture.data.sample import Respond
from overture.data.tokens import Tokens
from overture.errors import OvertureError
from overture.models.adapters import ConvGlu
from overture.models.speech_text import SpeechText
from overture.models.text import Llama
from overture.objectives.answers import Answers, answer_losses
from overture.run import Data, Loop, Plan, Player, Run
from overture.train.examples import Training, kind_of
from overture.train.samples import Samples, exchanged, packing

FEW = "duration < 3 and speaker in ('joe', 'bob', 'tam')"
RUN = Run(
    recipe="blsp",
    size="tiny",
    data=Data(where=FEW, sample=Respond(instruction="Go on:", column="text"), max_seconds=2.5),
    frontend=SpokenText(audio=LogMel(mels=20), tokens=Tokens(vocabulary=400, corpus="embedded-text")),
    model=SpeechText(
        adapter=ConvGlu(kernels=(3, 3), bottleneck=8), lm=Llama(layers=1, dim=16, heads=2, ffn=32, positions=512)
    ),
    players=(Player(objective=Answers(), parameters="^adapter"),),
    plan=Plan(update=1024.0, micro=512.0, longest_squared=2.0**18),
    loop=Loop(updates=4, precision="fp32"),
)


@pytest.fixture(scope="module")
def samples() -> Samples:
    return Samples.prepare(RUN)


def test_lengths_are_those_of_what_is_given(samples: Samples) -> None:
    indices = np.array([0, 3, 5])
    batch = samples.batch(indices, Draws(0, 0))
    assert batch.lengths.tolist() == samples.lengths[indices].tolist()
    slots = (batch.channels["audio"] >= 0).sum(1)
    assert batch.audio_lengths is not None
    assert slots.tolist() == RUN.model.adapter.steps(batch.audio_lengths).tolist()  # type: ignore[attr-defined]
    model = RUN.model.build(RUN.frontend)
    assert model.hidden(batch).shape == (*batch.x.shape, 16)


def test_the_answer_and_its_end_are_learnt_and_nothing_else_is(samples: Samples) -> None:
    """By the ids, and by where the loss has a gradient: neither the instruction, nor what is heard, nor padding."""
    indices = np.array([0, 3, 5])
    batch = samples.batch(indices, Draws(0, 0))
    learnt = batch.channels["learnt"] > 0
    tokens: Tokens = RUN.frontend.tokens
    for i, row in enumerate(indices):
        said = str(samples.table.row(int(row))["text"])
        answer = tokens.tokenizer().encode(said, add_special_tokens=False).ids
        assert batch.x[i][learnt[i]].tolist() == [*answer, tokens.special.end]
    heard = batch.channels["audio"] >= 0
    assert heard.any() and not (learnt & heard).any() and not (learnt & ~batch.valid).any()
    model = RUN.model.build(RUN.frontend)
    hidden = model.hidden(batch).detach().requires_grad_()
    answer_losses(model, hidden, batch)[0].backward()
    assert hidden.grad is not None
    decides = torch.zeros_like(learnt)
    decides[:, :-1] = learnt[:, 1:]
    assert torch.equal(hidden.grad.abs().sum(-1) > 0, decides)


def test_rows_that_are_left_out_are_counted(samples: Samples) -> None:
    assert samples.left_out["too long"] > 0 and samples.left_out["without a value"] == 0
    assert float(samples.table.numpy("duration").max()) <= 2.5
    assert kind_of(RUN) is Samples and samples.about()["left_out"] == samples.left_out


def test_a_column_that_is_not_there() -> None:
    run = replace(RUN, data=replace(RUN.data, sample=Respond()))
    with pytest.raises(OvertureError, match=r"no column 'continuation'.*overture data score"):
        Samples.prepare(run)


def test_what_is_not_computed_once_is_refused() -> None:
    with pytest.raises(OvertureError, match=r"data\.cache=true"):
        Samples.prepare(replace(RUN, data=replace(RUN.data, cache=False)))


def test_in_the_control_each_row_hears_another(samples: Samples) -> None:
    run = replace(RUN, data=replace(RUN.data, sample=replace(RUN.data.sample, exchanged=True)))  # type: ignore[type-var]
    other = Samples.prepare(run)
    assert (other.heard != np.arange(len(other.table))).all()
    assert sorted(other.heard.tolist()) == list(range(len(other.table)))
    row = 2
    assert samples.sample(row).heard[0].row == row and other.sample(row).heard[0].row == other.heard[row]
    same = [s.sample(row).ids[s.sample(row).learnt].tolist() for s in (samples, other)]
    assert same[0] == same[1]


def test_packed_examples_hold_every_row_once(samples: Samples) -> None:
    run = replace(RUN, data=replace(RUN.data, packed=300))
    packed = Samples.prepare(run)
    assert sorted(r for rows in packed.bins for r in rows.tolist()) == list(range(len(packed.table)))
    assert packed.lengths.max() <= 300 and len(packed.bins) < len(samples.bins)
    several = next(i for i, rows in enumerate(packed.bins) if len(rows) > 1)
    batch = packed.batch(np.array([several]), Draws(0, 0))
    assert int(batch.channels["document"].max()) == len(packed.bins[several]) - 1


def test_the_plan_counts_tokens() -> None:
    training = Training.prepare(RUN)
    rows = training.plan.updates(0)[0]
    assert training.examples.unit == "tokens"
    assert len(rows) * training.examples.lengths[rows].max() <= RUN.plan.update


@given(st.integers(2, 60), st.integers(0, 5))
def test_nobody_keeps_its_own(rows: int, seed: int) -> None:
    found = exchanged(rows, seed)
    assert (found != np.arange(rows)).all() and sorted(found.tolist()) == list(range(rows))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=50), st.integers(9, 20))
def test_packing_fits(sizes: list[int], length: int) -> None:
    bins = packing(np.array(sizes), length, 0)
    assert sorted(r for rows in bins for r in rows.tolist()) == list(range(len(sizes)))
    filled = [sum(sizes[r] for r in rows) for rows in bins]
    assert max(filled) <= length
    assert sum(2 * f <= length for f in filled) <= 1  # two halves would share one


def test_a_sample_longer_than_an_example() -> None:
    with pytest.raises(OvertureError, match="longest sample, 12"):
        packing(np.array([3, 12]), 10, 0)
