"""overture.models.start where the run is larger than its start: which weights it begins with, and what is told."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from overture.cli.start import started
from overture.config import from_dict, override, to_dict
from overture.errors import OvertureError
from overture.models import surgery
from overture.models.start import continued, load, said
from overture.models.text import Bert, Head, Llama
from overture.models.wav2vec2 import Published
from overture.recipes import get
from overture.run import Grow, Plan, Run
from overture.train.engine import Engine
from overture.train.loop import train
from overture.train.state import checkpoints, read_weights, stored

from ..tasks import texts
from ..tasks.texts import DIM, documents, kept
from .test_start import SPEC, save_published

SMALL = Bert(**DIM, ffn=64, dropout=0.0)
LARGE = replace(SMALL, layers=3, dim=48, heads=3, ffn=96)


def reads(corpus: str, model: Any, updates: int = 4) -> Run:
    """As that of a recipe with a network of this kind."""
    recipe, plan = (
        "bert2bert" if isinstance(model, Bert) else "stability-gap",
        Plan(update=512.0, micro=512.0, longest_squared=1e6),
    )
    return replace(texts.reads(corpus, model, updates), recipe=recipe, plan=plan)


@pytest.fixture(scope="module")
def corpus() -> str:
    return kept(documents(40, seed=1), "texts-to-grow-on")


def trained(run: Run, home: Path) -> Run:
    with Engine.start() as engine:
        train(run, home / run.folder_name, engine=engine)
    return run


@pytest.mark.parametrize("method", ["fpi", "aki", "copy"])
def test_a_larger_run_begins_with_the_grown_weights_of_a_smaller(method: Any, corpus: str, tmp_path: Path) -> None:
    small = trained(reads(corpus, SMALL, updates=2), tmp_path)
    large = reads(corpus, LARGE, updates=1)
    large = replace(large, grow=Grow(method=method), seed=3, loop=replace(large.loop, keep_at=(0,)))
    run = continued(large, small.folder_name, tmp_path)
    assert run.model == LARGE and run.frontend.kept is not None
    trained(run, tmp_path)
    begun = read_weights(checkpoints(tmp_path / run.folder_name)[0])
    torch.manual_seed(3)
    fresh = {n: v.clone() for n, v in stored(LARGE.build(run.frontend)).items()}
    given = read_weights(checkpoints(tmp_path / small.folder_name)[-1])
    expected = surgery.grow(given, SMALL, LARGE, Grow(method=method), 3, fresh)
    assert begun.keys() == expected.keys() and all(torch.equal(begun[n], expected[n]) for n in expected)
    report = json.loads((tmp_path / run.folder_name / "run.json").read_text())["start"]
    assert report["grown"] == {
        "method": method,
        "seed": 3,
        "of": {"layers": 1, "dim": 32, "heads": 2, "ffn": 64},
        "to": {"layers": 3, "dim": 48, "heads": 3, "ffn": 96},
    }
    assert report["missing"] == report["unused"] == {} and report["matched"] == len(expected)
    words = f"GROWN by {method}, drawn from seed 3: layers 1, dim 32, heads 2, ffn 64, and now layers 3, dim 48"
    assert words in said(report) and "the first" not in said(report)
    again = replace(started(str(tmp_path / run.folder_name), None)[0], start=run.folder_name, start_weights=None)
    assert again.grow is None  # who goes on from it starts from what it has become
    assert load(again, LARGE.build(run.frontend), tmp_path)["grown"] is None


def test_stacking_adds_layers_alone(corpus: str, tmp_path: Path) -> None:
    small = trained(reads(corpus, replace(SMALL, layers=2), updates=1), tmp_path)
    deep = replace(reads(corpus, replace(SMALL, layers=5)), grow=Grow(method="stack"))
    run = continued(deep, small.folder_name, tmp_path)
    model: Any = run.model.build(run.frontend)
    load(run, model, tmp_path)
    weights = read_weights(checkpoints(tmp_path / small.folder_name)[-1])
    name = "network.bert.encoder.layer.{}.output.dense.weight"
    for to, of in enumerate((0, 1, 0, 1, 1)):
        assert torch.equal(model.state_dict()[name.format(to)], weights[name.format(of)])
    with pytest.raises(OvertureError, match="method=stack adds layers alone"):
        load(replace(run, model=LARGE), LARGE.build(run.frontend), tmp_path)


def test_what_does_not_grow_is_of_the_start_and_heads_are_fresh(corpus: str, tmp_path: Path) -> None:
    headed = Llama(**DIM, ffn=64, extra=(Head(name="old", outputs=2),))
    small = trained(reads(corpus, headed, updates=1), tmp_path)
    wide = Llama(layers=1, dim=64, heads=4, ffn=80, positions=128, extra=(Head(name="old", outputs=2),))
    run = continued(replace(reads(corpus, wide), grow=Grow()), small.folder_name, tmp_path)
    assert run.model == replace(wide, positions=64)
    report = load(run, run.model.build(run.frontend), tmp_path)
    (why,) = report["missing"]
    assert "fresh" in why and all(n.startswith("heads.old.") for n in report["missing"][why])
    with pytest.raises(OvertureError, match=r"positions=128 does not fit"):
        load(replace(run, model=wide), wide.build(run.frontend), tmp_path)


def test_a_larger_run_that_does_not_say_how_is_told(corpus: str, tmp_path: Path) -> None:
    small = trained(reads(corpus, SMALL, updates=1), tmp_path)
    large = reads(corpus, LARGE)
    assert continued(large, small.folder_name, tmp_path).model == SMALL  # as ever: sizes are the start's
    with pytest.raises(OvertureError, match=r"model\.layers=3 does not fit.*let it grow \(--set grow\.method=aki\)"):
        continued(large, small.folder_name, tmp_path, given=("model",))
    with pytest.raises(OvertureError, match="there is nothing to grow: name a smaller run with --start"):
        trained(replace(large, grow=Grow()), tmp_path)
    with pytest.raises(OvertureError, match="the very sizes of this run"):
        run = continued(replace(large, model=SMALL, grow=Grow()), small.folder_name, tmp_path)
        load(run, SMALL.build(run.frontend), tmp_path)


def test_growth_is_set_and_read_back_and_is_in_the_name_only_where_it_is() -> None:
    run = reads("embedded-text", LARGE)
    grown = override(run, {"grow.method": "fpi"})
    assert grown.grow == Grow(method="fpi") and grown.fingerprint != run.fingerprint
    assert from_dict(run, to_dict(grown)) == grown
    assert "grow" not in to_dict(run, named=True)
    with pytest.raises(OvertureError, match="is not one of fpi, aki, copy, stack"):
        override(run, {"grow.method": "api"})


def test_a_published_wav2vec2_grows(tmp_path: Path) -> None:
    """Wider and deeper, positions within their groups; the mask vector that it never used stays out of it."""
    small = replace(SPEC, layers=1)
    save_published(tmp_path / "published", spec=small)
    base = get("wav2vec2:tiny")
    large = replace(small, layers=2, dim=2 * small.dim, heads=2 * small.heads, ffn=3 * small.ffn)
    run = continued(replace(base, model=large, grow=Grow(method="fpi")), "published", tmp_path)
    assert run.model == replace(large, **{n: getattr(base.model, n) for n in ("dropout", "feature_gradient")})
    model: Any = run.model.build(run.frontend)
    report = load(run, model, tmp_path)
    assert report["grown"]["of"]["dim"] == small.dim and report["unused"] == report["missing"] == {}
    given = Published.open(tmp_path / "published").weights()
    bias = given["network.wav2vec2.encoder.pos_conv_embed.conv.bias"].view(small.position_groups, -1)
    grown = model.network.wav2vec2.encoder.pos_conv_embed.conv.bias.view(small.position_groups, -1)
    assert torch.equal(grown[:, : bias.shape[1]], bias)  # each group begins with its own channels
    assert all(set(wide.tolist()) == set(narrow.tolist()) for wide, narrow in zip(grown, bias))
