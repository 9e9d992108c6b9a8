"""The recipe of the stability gap: its sizes, and the traps of continual pre-training."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from overture.data.mixture import Epochs
from overture.data.table import Table
from overture.recipes import stability_gap
from overture.recipes.stability_gap import BEST, OPEN_LLAMA, TINY_LLAMA
from overture.run import log_spaced


@pytest.mark.parametrize(("spec", "parameters"), [(OPEN_LLAMA, 3_426_473_600), (TINY_LLAMA, 1_100_048_384)])
def test_published_sizes(spec: object, parameters: int) -> None:
    """Of open_llama_3b_v2 and TinyLlama-1.1B, as their checkpoints are counted."""
    frontend = stability_gap.published().frontend
    with torch.device("meta"):
        assert sum(p.numel() for p in spec.build(frontend).parameters()) == parameters  # type: ignore[attr-defined]


def test_arms_differ_in_their_data_alone() -> None:
    """Equal tokens, warm-up, rate, start and moments to look at."""
    arms = [a for a in stability_gap.claim().study.arms if a.kind == "trained"]
    assert len({(a.run.players, a.run.loop, a.run.plan, a.run.model, a.run.frontend, a.stages) for a in arms}) == 1
    assert len({a.run.data for a in arms}) == len(arms) == 5


def test_the_first_updates_are_looked_at() -> None:
    """The dip is over soon: at least four looks in the first 5 % of training."""
    loop = stability_gap.claim().study.arms[1].run.loop
    assert loop.keep_at is not None and loop.keep_at[0] == 0 and loop.keep_at[-1] == loop.updates
    assert sum(0 < u <= 0.05 * loop.updates for u in loop.keep_at) >= 4
    assert log_spaced(1000, 4) == (0, 1, 10, 100, 1000)


def corpus(rows: int = 4000) -> Table:
    """Genes and what was there before, with perplexities."""
    rng = np.random.default_rng(0)
    genes = rng.random(rows) < 0.3
    columns = {
        "id": [f"r{i}" for i in range(rows)],
        "text": ["x" * int(n) for n in rng.integers(20, 400, rows)],
        "corpus": ["go-terms" if g else "manual" for g in genes],
        "ppl": rng.lognormal(5, 1, rows),
    }
    return Table(pa.table(columns), name="toy", root=Path())


def test_the_best_quarter_is_that_of_lowest_perplexity() -> None:
    table = corpus()
    best, genes = table.where(BEST), table.where("corpus = 'go-terms'")
    assert len(best) == pytest.approx(len(genes) / 4, abs=1)
    rest = set(genes.numpy("id")) - set(best.numpy("id"))
    worst = max(best.numpy("ppl"))
    assert set(best.numpy("corpus")) == {"go-terms"}
    assert all(p >= worst for i, p in zip(genes.numpy("id"), genes.numpy("ppl")) if i in rest)


def test_the_mixture_keeps_its_proportions_and_draws_the_domain_anew() -> None:
    arms = {a.name: a.run.data.mix for a in stability_gap.claim().study.arms}
    table = corpus().where(f"({BEST}) OR corpus <> 'go-terms'")
    sizes = np.array([len(t) for t in table.numpy("text")])
    rule = arms["best quarter, mixture"]
    assert rule is not None
    epochs = Epochs(rule, table, sizes, seed=0)
    drawn = [epochs(e) for e in (0, 1)]
    for rows in drawn:
        share = sizes[rows][table.numpy("corpus")[rows] == "go-terms"].sum() / sizes[rows].sum()
        assert share == pytest.approx(0.82, abs=0.01)
    assert sorted(drawn[0]) != sorted(drawn[1])
