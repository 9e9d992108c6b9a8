"""overture.tasks.masked: what hidden tokens cost, the way there, and the FLOPs of it over all that was trained on since a network grew."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from overture.data.tokens import Tokens
from overture.errors import OvertureError
from overture.laboratory import check
from overture.models.start import continued
from overture.models.text import Bert, Llama
from overture.objectives.submodels import SubModels
from overture.report import results_markdown
from overture.run import Grow, Run
from overture.study import Arm, Claim, Study, Trial
from overture.tasks import find_task
from overture.tasks.masked import costs, flops, judge
from overture.train.engine import Engine
from overture.train.examples import tokens_of
from overture.train.loop import train

from .texts import DIM, documents, kept, reads

SMALL = Bert(**DIM, ffn=64, dropout=0.0)
LARGE = replace(SMALL, layers=2, dim=48, heads=3, ffn=96)


@pytest.fixture(scope="module")
def corpus() -> str:
    return kept(documents(), "planted-masks")


def run_of(corpus: str, model: Any = SMALL, updates: int = 4) -> Run:
    run = replace(reads(corpus, model, updates), recipe="bert2bert")
    return replace(run, loop=replace(run.loop, keep_at=(0, 2, updates)))


def trained(run: Run, home: Path) -> Path:
    with Engine.start() as engine:
        train(run, home / run.folder_name, engine=engine)
    return home / run.folder_name


def test_a_network_that_knows_nothing_pays_for_the_vocabulary(corpus: str) -> None:
    """Uniform over 300 tokens: log 300 nats each; 15 % of a row's tokens are asked for, one at least."""
    run, table = run_of(corpus), documents(30, seed=3)
    model: Any = run.model.build(tokens_of(run))
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    rows = np.array([4, 11, 2])
    found = costs(model, run, table, rows)
    assert found.value == pytest.approx(math.log(300), rel=1e-5)
    assert np.all(found.totals >= 1) and np.all(found.totals <= round(0.15 * 30))
    assert found.events == pytest.approx(math.log(300) * found.totals, rel=1e-5)


def test_what_is_asked_depends_on_the_row_alone(corpus: str) -> None:
    """Not on seeds, batches or the order of rows; and the numbers are those of the whole network's own logits."""
    run, table = run_of(corpus), documents(50, seed=3)
    torch.manual_seed(0)
    model: Any = run.model.build(tokens_of(run))
    rows = np.arange(50)
    one, again = costs(model, run, table, rows), costs(model, replace(run, seed=9), table, rows)
    assert np.array_equal(one.events, again.events) and np.array_equal(one.totals, again.totals)
    assert model.training is False and 0.9 * math.log(300) < one.value < 1.1 * math.log(300)
    few = costs(model, run, table, rows[:3])
    assert np.allclose(few.events, one.events[:3], rtol=1e-4)


def test_the_way_and_its_flops(corpus: str, tmp_path: Path) -> None:
    run, table, task = run_of(corpus), documents(30, seed=3), find_task("held-out-masked")
    folder = trained(run, tmp_path)
    from overture.train.state import checkpoints, load_weights

    model: Any = run.model.build(tokens_of(run))
    load_weights(checkpoints(folder)[-1], model)
    dev, test = np.arange(10), np.arange(10, 30)
    last = costs(model, run, table, test).value
    found = judge(task, model, run, folder, table, dev=dev, test=test)
    assert found.value == last and found.rate == 4.0 and found.metric == "nats"
    assert [p.update for p in found.trajectory] == [0, 2, 4] and list(found.dev) == [0.0, 2.0, 4.0]
    load_weights(checkpoints(folder)[0], model)
    assert found.trajectory[0].value == costs(model, run, table, dev).value
    assert found.trajectory[0].flops == 0.0
    about = json.loads((folder / "flops.json").read_text())["flops_per_padded_unit"]
    seen = json.loads((folder / "checkpoints/update-00000004/state.json").read_text())["seen"]
    assert found.trajectory[-1].flops == pytest.approx(about * seen)
    control = judge(task, model, run, None, table, dev=dev, test=test)
    assert [p.update for p in control.trajectory] == [0] and control.trajectory[0].flops == 0.0


def test_flops_are_of_all_training_since_the_network_grew(corpus: str, tmp_path: Path) -> None:
    small = trained(run_of(corpus), tmp_path)
    first = continued(replace(run_of(corpus, LARGE), grow=Grow()), small.name, tmp_path)
    grown = trained(first, tmp_path)
    onward = trained(continued(run_of(corpus, LARGE, updates=3), grown.name, tmp_path), tmp_path)
    own = json.loads((onward / "flops.json").read_text())["flops_per_padded_unit"]
    seen = json.loads((onward / "checkpoints/update-00000003/state.json").read_text())["seen"]
    assert flops(grown, 0) == 0.0  # the small one's are not counted
    assert flops(onward, 0) == flops(grown, 4) > 0
    assert flops(onward, 3) == pytest.approx(flops(grown, 4) + own * seen)


def test_a_decoder_is_told_of_the_task_that_is_for_it(corpus: str) -> None:
    run = reads(corpus, Llama(**DIM, ffn=64))
    with pytest.raises(OvertureError, match="for one that writes there is held-out"):
        rows = np.arange(3)
        judge(
            find_task("held-out-masked"),
            run.model.build(Tokens(vocabulary=300)),
            run,
            None,
            documents(),
            dev=rows,
            test=rows,
        )


def test_a_claim_of_growth_comes_to_a_verdict_with_savings(corpus: str, tmp_path: Path) -> None:
    source, large = run_of(corpus), run_of(corpus, LARGE)
    grown = replace(large, grow=Grow(method="fpi"))
    trial = Trial(task="held-out-masked", reach="scratch")
    player = replace(large.players[0], objective=SubModels(block=1))
    first = replace(large, grow=Grow(), players=(player,), loop=replace(large.loop, updates=2, keep_at=None))
    rest = replace(large, loop=replace(large.loop, updates=2, keep_at=(0, 2)))
    arms = (
        Arm(name="scratch", run=large),
        Arm(name="FPI", run=grown, stages=(source,)),
        Arm(name="two stages", run=rest, stages=(source, first)),
    )
    claim = Claim(
        recipe="bert2bert",
        text="It saves.",
        study=Study(corpus=corpus, arms=arms, trials=(trial,), seeds=(0, 1)),
        expected=(("FPI", "scratch"),),
    )
    found = check(claim, tmp_path / "runs", lambda _: None)
    assert found["metric"] == "nats per masked token" and found["verdict"] in ("holds", "does not hold", "undecided")
    assert found["savings"]["reach"] == "scratch"
    arms_ = found["savings"]["arms"]
    assert set(arms_) == {"scratch", "FPI", "two stages"} and len(arms_["FPI"]["seeds"]) == 2
    two = found["probes"]["two stages"][0]["trajectory"]
    whole = found["probes"]["scratch"][0]["trajectory"][-1]["flops"]
    assert [p["update"] for p in two] == [0, 2] and 0 < two[0]["flops"] < two[-1]["flops"]
    assert two[-1]["flops"] < whole  # as many updates, some of them of sub-models; the small network is not counted
    assert all(s is not None and s >= 0 for s in arms_["scratch"]["seeds"])  # it comes to where it ends
    assert "FLOPs saved until an arm knows of the development rows what scratch knows in the end: " in results_markdown(
        [found]
    )
