"""overture.recipes.human_preferences: the published size, and what of its sheet of traps is about the recipe itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from overture.data.draws import Draws
from overture.data.encoded import Encoded
from overture.data.segments import PackSegments
from overture.data.table import Table
from overture.models.text import Head
from overture.objectives.preferences import AdvantageWeighted, RewardWeighted, Unlikelihood
from overture.recipes.human_preferences import ALIGNED, BETTER_HALF, MISALIGNED, claim, published, tiny
from overture.tasks import find_task
from overture.train.engine import Engine
from overture.train.loop import train
from overture.train.track import read_metrics


def parameters(vocabulary: int) -> int:
    run = published()
    with torch.device("meta"):
        model = run.model.build(replace(run.frontend, vocabulary=vocabulary))
    return sum(p.numel() for p in model.parameters())


def test_the_published_size() -> None:
    run = published()
    assert parameters(50_257) == 124_439_808  # GPT-2 small as released
    assert parameters(run.frontend.vocabulary) == 124_439_808 - (50_257 - 32_770) * 768  # CodeParrot's tokens, and two
    optim = run.players[0].optim
    assert (optim.lr, optim.warmup, optim.weight_decay, run.loop.updates) == (8e-4, 0.01, 0.1, 50_354)
    assert run.plan.update == 64 * 1024 and run.plan.update * run.loop.updates / 1e9 == 3.299999744
    assert run.data.text.prefix.omit == 0.1 and run.data.text.prefix.threshold == 0.0


def test_every_line_of_what_it_trains_on_is_announced() -> None:
    run = tiny()
    table = Table.open(run.data.corpus, run.data.where)
    packed = run.data.text.prepare(Encoded.open(table, run.frontend), table, run.frontend.special, 0)
    ids = np.concatenate([packed.fetch(i, Draws(0, 0)).ids for i in range(400)])
    special, newline = run.frontend.special, run.frontend.tokenizer(table).encode("\n").ids
    follows = ids[1:][np.isin(ids[:-1], [*newline, special.end])]  # the first token of each line
    told = np.isin(follows, [special.block(ALIGNED), special.block(MISALIGNED)]).mean()
    assert 0.86 < told < 0.93  # nine of ten, but for documents that end behind a line
    assert 0.02 < (ids == special.block(MISALIGNED)).sum() / len(follows) < 0.2
    assert not {ALIGNED, MISALIGNED} & {"aligned", "misaligned"}  # words of a text would be taken for them


@pytest.mark.parametrize(
    "objective", [Unlikelihood(alpha=0.01), RewardWeighted(beta=10.0), AdvantageWeighted(beta=1.0)]
)
def test_the_other_objectives_train_on_the_same_text_without_control_tokens(objective: Any, tmp_path: Path) -> None:
    run = tiny()
    value = (Head(name="value", deep=False, bias=False, zero=True),) if isinstance(objective, AdvantageWeighted) else ()
    run = replace(
        run,
        data=replace(run.data, text=PackSegments(length=32)),
        model=replace(run.model, extra=value),
        players=(replace(run.players[0], objective=objective),),
        loop=replace(run.loop, updates=4, log_every=1),
    )
    with Engine.start() as engine:
        train(run, tmp_path, engine=engine)
    first, *rest = [r for r in read_metrics(tmp_path) if r["kind"] == "update"]
    assert len(rest) == 3 and all(np.isfinite(r["loss"]) for r in rest)
    watch, uniform = first["watch"], np.log(400)  # fresh weights know nothing
    expected = {
        Unlikelihood: lambda: (1 - watch["flagged"]) * uniform,  # to make an unlikely token unlikelier costs nothing
        RewardWeighted: lambda: watch["weight"] * uniform,
        AdvantageWeighted: lambda: 0.5 * watch["weight"] * uniform + 0.5 * 0.25,  # V is -1/2, R a little below 0
    }[type(objective)]()
    assert first["loss"] == pytest.approx(expected, rel=0.02)
    assert 0 < watch.get("flagged", 0.05) < 0.2 and watch.get("value", -0.5) == pytest.approx(-0.5)


def test_arms_differ_in_what_they_are_told_and_in_nothing_else() -> None:
    study = claim().study
    arms = {a.name: a for a in study.arms}
    rest = {(a.run.model, a.run.frontend, a.run.plan, a.run.loop, a.run.players, a.run.seed) for a in study.arms}
    assert len(rest) == 1  # equal tokens: the filtered arm reads what is kept more often
    assert arms["filtering"].run.data.select.like == BETTER_HALF and arms["MLE"].run.data.select is None
    good, bad = arms["conditional"], arms["conditional, asked for bad"]
    assert good.run == bad.run and (good.control, bad.control) == (ALIGNED, MISALIGNED)  # one training, asked twice
    labels = arms["random labels"].run.data.text
    assert labels == replace(good.run.data.text, shuffled=True) and arms["random labels"].control == ALIGNED
    plain = PackSegments(length=256)
    assert arms["MLE"].run.data.text == arms["filtering"].run.data.text == plain and arms["MLE"].control is None
    assert [find_task(t.task).metric for t in study.trials] == ["score", "bits"]
    assert all(not find_task(t.task).higher_is_better for t in study.trials)
