"""The recipe of SLTrain: its sizes as the paper counts them, and arms that are equal where they have to be."""

from dataclasses import replace

import pytest

from overture.models.transforms import LowRank, Masked, SparseLowRank
from overture.models.transforms.apply import linear_layers, outline
from overture.models.transforms.linear import Factored
from overture.objectives.w2v_bert import ContrastAndPredict
from overture.recipes import claim, sltrain
from overture.recipes.sltrain import RANK, SIZES, SPARSITY
from overture.run import Run


def millions(run: Run) -> float:
    return sum(p.numel() for p in outline(run).parameters()) / 1e6


@pytest.mark.parametrize(
    ("size", "full", "low", "ours"),
    [("60M", 58.1, 42.8, 43.5), ("130M", 134.1, 94.0, 96.5), ("350M", 367.9, 185.2, 194.3), ("1B", 1338.8, 609, 645)],
)
def test_published_sizes_are_those_of_table_2(size: str, full: float, low: float, ours: float) -> None:
    """In millions; the paper leaves out the decimals."""
    run = sltrain.published(size)
    assert isinstance(run.transform, SparseLowRank)
    assert millions(replace(run, transform=None)) == pytest.approx(full, rel=5e-4, abs=0.06)
    assert millions(replace(run, transform=LowRank(rank=run.transform.rank))) == pytest.approx(low, rel=1e-3, abs=0.06)
    assert millions(run) == pytest.approx(ours, rel=1e-3, abs=0.06)


def test_what_is_not_a_matrix_of_attention_or_feed_forward_stays_dense() -> None:
    model = outline(sltrain.published())
    under = [n for n, m in model.named_modules() if isinstance(m, Factored)]
    assert len(under) == 8 * 7 and list(linear_layers(model)) == ["network.lm_head"]
    dense = sum(p.numel() for n, p in model.named_parameters() if n.endswith("weight"))
    assert dense == 2 * 32_000 * 512 + 17 * 512  # embeddings, head, norms: counted, as the paper does


def test_published_run_is_the_released_script() -> None:
    run, optim = sltrain.published(), sltrain.published().players[0].optim
    assert run.transform == SparseLowRank(rank=128, alpha=32.0, density=0.03)
    assert (optim.lr, optim.weight_decay, optim.clip, optim.final) == (3e-3, 0.0, None, 0.1)
    assert optim.warmup * run.loop.updates == pytest.approx(1_100) and run.plan.update == 512 * 256
    assert SIZES["7B"][1].density == 0.05


@pytest.mark.parametrize("name", ["sltrain", "sltrain:speech"])
def test_arms_differ_in_their_matrices_alone_and_controls_have_as_many_parameters(name: str) -> None:
    arms = {a.name: a.run for a in claim(name).study.arms}
    assert len({replace(run, transform=None) for run in arms.values()}) == 1
    counts = {name: millions(run) for name, run in arms.items()}
    assert counts["SLTrain"] <= counts["low rank, as many"] < 1.02 * counts["SLTrain"]
    assert counts["low rank"] < counts["SLTrain"] < 0.7 * counts["full"]
    ours = arms["SLTrain"].transform
    assert isinstance(ours, SparseLowRank)
    assert arms["low rank"].transform == LowRank(rank=ours.rank)
    assert arms["low rank, as many"].transform == LowRank(rank=RANK)
    if name == "sltrain":
        assert {a.rates for a in claim(name).study.arms} == {(1e-3, 3e-3)}  # baselines are tuned as ours is
        assert counts["sparse, as many"] == pytest.approx(counts["SLTrain"], rel=0.01)
        assert arms["sparse, as many"].transform == Masked(sparsity=SPARSITY)


def test_on_speech_the_layers_of_the_conformer_are_replaced_and_heads_are_not() -> None:
    """Two feed-forward networks of two, five of attention, two beside the convolution, in each of 2 + 2 blocks."""
    (ours,) = (a.run for a in claim("sltrain:speech").study.arms if a.name == "SLTrain")
    model = outline(ours)
    assert sum(isinstance(m, Factored) for m in model.modules()) == 4 * (2 * 2 + 5 + 2)
    assert all(n == "project" or n.startswith("head.") for n in linear_layers(model))
    (player,) = ours.players
    assert isinstance(player.objective, ContrastAndPredict)
    cooling, updates = player.objective.temperature, ours.loop.updates
    assert cooling.at(updates // 2) == cooling.least < cooling.at(int(0.45 * updates))
