"""overture.train.health: each rule fires on its illness, planted in a real run, and on nothing else."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from overture.errors import OvertureError
from overture.models.spectrogram import SpectrogramTransformer
from overture.objectives.reconstruction import MaskedReconstruction
from overture.quantize.ema import EmaCodebook, restart_keys
from overture.quantize.gumbel import GumbelCodebook, gumbel_noise
from overture.quantize.meters import usage
from overture.recipes import get
from overture.run import Frontend, Learning, Loop, Optim, Player, Run
from overture.train import health
from overture.train.engine import Engine
from overture.train.loop import Outcome, train
from overture.train.track import read_metrics

ENTRIES = 16


@dataclass(frozen=True, kw_only=True)
class Ill(MaskedReconstruction):
    """The objective of TERA with an illness planted in what it returns."""

    illness: str = ""

    def __call__(self, model: Any, batch: Any, draws: Any) -> Any:
        loss = super().__call__(model, batch, draws)
        frames = loss.frames
        if self.illness == "variance":  # all frames are one vector, as after a collapse
            frames = frames[:1].expand(len(frames), -1) + 1e-6 * frames
        if self.illness == "rank":  # all frames lie on one line
            frames = frames[:, :1] * torch.linspace(-1, 1, frames.shape[1])
        if self.illness == "unused":  # the head is left out of the loss, its parameters never learn
            output = model(batch.x, batch.valid)
            return loss._replace(sum=output.last_hidden_state.square().sum())
        if self.illness == "nan" and draws.update == 3:
            return loss._replace(sum=loss.sum * float("nan"))
        return loss._replace(frames=frames)


@dataclass(frozen=True, kw_only=True)
class Coded:
    """The tiny network of TERA with a codebook beside it, and two linear layers that predict codes and decode them."""

    network: SpectrogramTransformer = field(
        default_factory=lambda: SpectrogramTransformer(layers=1, dim=32, heads=2, ffn=64, dropout=0.0)
    )
    ema: bool = False

    def build(self, frontend: Frontend) -> nn.Module:
        model = self.network.build(frontend)
        gumbel = GumbelCodebook(frontend.dim, 1, ENTRIES, 8)
        model.quantizer = EmaCodebook(frontend.dim, ENTRIES) if self.ema else gumbel
        model.predict = nn.Linear(self.network.dim, ENTRIES)
        model.decode = nn.Linear(frontend.dim if self.ema else 8, frontend.dim)
        return model


@dataclass(frozen=True, kw_only=True)
class Codes(MaskedReconstruction):
    """Reconstruction, and the codebook of an auto-encoder beside it; with an illness of codebooks planted."""

    illness: str = ""
    learns: str = r"^quantizer\.(weight_proj|codevectors|codes)"

    def __call__(self, model: Any, batch: Any, draws: Any) -> Any:
        loss = super().__call__(model, batch, draws)
        x = batch.x[batch.valid]  # (N, F)
        if self.illness == "collapse":  # what the codebook sees fades, so that soon its bias decides alone
            x = x * 0.8**draws.update
        temperature = 2.0 if self.illness == "temperature" else max(0.5, 2 * 0.99**draws.update)
        predicted = model.predict(model(batch.x, batch.valid).last_hidden_state[batch.valid])  # (N, V)
        if isinstance(model.quantizer, EmaCodebook):
            keys = restart_keys(draws, batch.rows, batch.lengths)
            found = model.quantizer(x) if self.illness == "still" else model.quantizer(x, draws.update, keys)
        else:
            noise = gumbel_noise(draws, batch.rows, batch.lengths, 1, ENTRIES)
            found = model.quantizer(x, temperature, noise)
        decoding = (
            (model.decode(found.vectors) - batch.x[batch.valid]).abs().sum()
        )  # codes have to say what the frame is
        guess = nn.functional.cross_entropy(predicted, found.ids[:, 0], reduction="sum")
        watch = {n: v.detach() for n, v in usage(found.ids, ENTRIES).items()}
        watch |= {"temperature": torch.tensor(temperature), "guess": guess.detach() / len(x)}
        return loss._replace(sum=loss.sum + decoding + guess, watch=watch)


def run(illness: str, updates: int = 60) -> Run:
    tiny = get("tera:tiny")
    player = replace(tiny.players[0], objective=Ill(illness=illness))
    return replace(
        tiny, players=(player,), loop=replace(tiny.loop, updates=updates, log_every=5, checkpoint_every=1000)
    )


def coded(illness: str, updates: int = 60, *, ema: bool = False, parameters: str = "", **loop: Any) -> Run:
    player = Player(objective=Codes(illness=illness), optim=Optim(lr=5e-3), parameters=parameters)
    return replace(
        get("tera:tiny"),
        model=Coded(ema=ema),
        players=(player,),
        loop=Loop(updates=updates, precision="fp32", log_every=5, checkpoint_every=1000, **loop),
    )


def findings(folder: Path) -> list[dict[str, Any]]:
    return [r for r in read_metrics(folder) if r["kind"] == "health"]


def go(run: Run, folder: Path) -> Outcome:
    with Engine.start() as engine:
        return train(run, folder, engine=engine)


@pytest.mark.parametrize(
    ("ill", "rule", "words"),
    [
        (run("variance"), "vanished variance", "collapsed"),
        (run("rank"), "vanished rank", "one line"),
        (run("unused"), "no gradient", "head"),
        (run("nan"), "not finite", "weights were not touched"),
        (coded("collapse", 100), "collapsed codebook", "nearly all frames have one code"),
        (coded("temperature"), "stuck temperature", "temperature is 2 at update 5 as at update 1"),
        (
            coded("", parameters=r"^(?!quantizer)"),
            "frozen codebook",
            "quantizer.codevectors, quantizer.weight_proj.bias",
        ),
        (coded("still", ema=True, parameters=r"."), "frozen codebook", "quantizer.codes did not change in 20 updates"),
    ],
    ids=["variance", "rank", "unused", "nan", "codebook", "temperature", "left out", "no update"],
)
def test_a_planted_illness_stops_the_run_with_its_cause(ill: Run, rule: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(health.IllRun, match=words):
        go(ill, tmp_path)
    (finding,) = findings(tmp_path)
    assert finding["rule"] == rule and finding["stopped"]
    assert json.loads((tmp_path / "bad_update.json").read_text())["rows"]


def test_the_collapse_looks_like_success(tmp_path: Path) -> None:
    """Prediction of the codes gets ever better; the rule stops the run in spite of that."""
    with pytest.raises(health.IllRun, match="a loss near zero means nothing"):
        go(coded("collapse", 100), tmp_path)
    first, *_, last = (r["watch"] for r in read_metrics(tmp_path) if r["kind"] == "update")
    assert first["code_perplexity"] > 3 > 1.5 > last["code_perplexity"]
    assert first["guess"] > 2 > 0.5 > last["guess"]


@pytest.mark.parametrize("healthy", [run(""), coded(""), coded("", ema=True)], ids=["frames", "gumbel", "ema"])
def test_a_healthy_run_has_no_finding(healthy: Run, tmp_path: Path) -> None:
    assert go(healthy, tmp_path).finished
    assert findings(tmp_path) == []


def test_a_tolerated_rule_is_recorded_once_and_does_not_stop(tmp_path: Path) -> None:
    assert go(coded("collapse", 65, tolerate=("collapsed codebook",)), tmp_path).finished
    (finding,) = findings(tmp_path)
    assert finding["rule"] == "collapsed codebook" and finding["stopped"] is False and finding["update"] <= 60
    assert not (tmp_path / "bad_update.json").exists()
    with pytest.raises(health.IllRun, match="stuck temperature"):  # another rule's tolerance does not help
        go(coded("temperature", tolerate=("collapsed codebook",)), tmp_path / "other")


@pytest.mark.parametrize("name", ["collapsed codebok", "not finite", ""])
def test_only_rules_can_be_tolerated(name: str, tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match="is no rule that can be tolerated"):
        go(coded("", tolerate=(name,)), tmp_path)


def test_what_learns_must_exist(tmp_path: Path) -> None:
    ill = coded("")
    player = replace(ill.players[0], objective=Codes(learns="codebok"))
    with pytest.raises(OvertureError, match="'codebok' learns, but no parameter"):
        go(replace(ill, players=(player,)), tmp_path)
    assert isinstance(Codes(), Learning) and not isinstance(MaskedReconstruction(), Learning)


def numbers(update: int, **changed: float) -> dict[str, float]:
    healthy = {"variance": 0.5, "rank": 20.0, "dim": 32.0, "code_perplexity": 9.0, "top_code": 0.4, "temperature": 1.0}
    return {"update": update, **healthy, **changed}


def rules(*records: dict[str, float]) -> list[str]:
    watch = health.Watch()
    return [finding.rule for record in records for finding in watch.check(record)]


def test_a_codebook_is_collapsed_when_it_is_so_twice_and_not_in_the_beginning() -> None:
    ill = {"code_perplexity": 1.2, "top_code": 0.99}
    assert rules(numbers(60, **ill), numbers(80, temperature=0.9, **ill)) == ["collapsed codebook"]
    assert rules(numbers(60, top_code=0.99), numbers(80, temperature=0.9, top_code=0.99)) == ["collapsed codebook"]
    assert rules(numbers(60, **ill), numbers(80), numbers(100, **ill), numbers(120)) == []
    assert rules(numbers(20, **ill), numbers(40, **ill), numbers(60, **ill)) == []
    # The verdict comes again as long as it is ill; after a resume, with the second record.
    assert rules(*(numbers(u, **ill) for u in (60, 80, 100))) == ["collapsed codebook"] * 2


def test_a_temperature_at_its_least_is_not_stuck() -> None:
    assert rules(numbers(1), numbers(20)) == ["stuck temperature"]
    assert rules(numbers(1, temperature=2.0), numbers(2, temperature=2 * 0.999995)) == []
    assert rules(*(numbers(u, temperature=max(0.5, 2 * 0.9**u)) for u in (1, *range(10, 100, 10)))) == []
    assert rules(numbers(400, temperature=0.5), numbers(420, temperature=0.5)) == []  # resumed there


@given(
    start=st.floats(0.5, 5),
    factor=st.floats(0.9, 0.999995),
    every=st.integers(1, 50),
    perplexity=st.lists(st.floats(1.5, 300), min_size=12, max_size=12),
    spread=st.tuples(st.floats(1.1e-4, 100), st.floats(1.51, 700), st.floats(0, 0.98)),
)
@settings(max_examples=200, deadline=None)
def test_healthy_numbers_never_fire(
    start: float, factor: float, every: int, perplexity: list[float], spread: tuple[float, float, float]
) -> None:
    variance, rank, top = spread
    updates = [1, *range(every + 1, 12 * every, every)]
    records = [
        numbers(
            u,
            temperature=max(0.4, start * factor ** (u - 1)),
            code_perplexity=p,
            variance=variance,
            rank=rank,
            top_code=top,
        )
        for u, p in zip(updates, perplexity)
    ]
    assert rules(*records) == []
    assert rules(*({"update": u, "accuracy": 1.0, "contrastive": 0.0} for u in updates)) == []  # not measured: silent


def test_a_discriminator_diverges_twice_before_it_is_told() -> None:
    """Planted in a real run in tests/objectives/test_vocoder.py."""

    def record(update: float, loss: float) -> dict[str, float]:
        return {"update": update, "discriminator_loss": loss}

    assert rules(record(60, 1.2), record(80, 1.2)) == ["diverging discriminator"]
    assert rules(record(60, 1.2), record(80, 0.9), record(100, 1.2)) == []
    assert rules(record(40, 9.0), record(60, 1.2)) == []  # not settled
    assert rules(record(60, 0.0), record(80, 0.0)) == []  # that they always can tell stops nobody
    assert health.WATCHED["diverging discriminator"] == {"watch": "discriminator_loss", "limit": 1.0, "fires": "above"}


def test_spread_measures_rank_and_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    full = torch.randn(512, 8, generator=generator)
    assert health.spread(full)["rank"] == pytest.approx(8, abs=0.2)
    assert health.spread(full * 3)["variance"] == pytest.approx(3, abs=0.2)
    assert health.spread(full + 100)["variance"] == pytest.approx(1, abs=0.1)  # a shift is no variance
    plane = full[:, :2] @ torch.randn(2, 8, generator=generator)
    assert health.spread(plane)["rank"] <= 2.01
    assert health.spread(torch.ones(100, 8)) == {"variance": 0.0, "rank": 0.0, "dim": 8.0}


def test_every_rule_on_numbers_is_described_for_the_report() -> None:
    assert set(health.WATCHED) == {r.name for r in health.RULES} | {"not finite"}
    assert health.WATCHED["collapsed codebook"] == {"watch": "code_perplexity", "limit": 1.5, "fires": "below"}
    assert health.WATCHED["stuck temperature"] == {"watch": "temperature"}


def sharded(rank: int, folder: str) -> None:
    """A codebook (1, V, D), as FSDP shards it: rank 1 holds nothing of it, and has to come to the verdict of rank 0."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))

    def shard(value: float) -> Any:
        return distribute_tensor(torch.full((1, 4, 2), value), mesh, [Shard(0)])

    model = nn.Module()
    model.codes, model.still = nn.Parameter(shard(1.0)), nn.Parameter(shard(1.0))
    model.codes.grad, model.still.grad = shard(1.0), shard(0.0)
    found = health.GradientWatch(dict(model.named_parameters()), patience=1).look()
    assert found is not None and found.message.startswith("still had no gradient")
    motion = health.MotionWatch(model, ["codes", "still"], patience=1)
    assert motion.look() is None
    with torch.no_grad():
        model.codes.add_(1.0)
    found = motion.look()
    assert found is not None and found.message.startswith("still did not change")
    dist.destroy_process_group()


def test_all_ranks_come_to_one_verdict_on_a_sharded_codebook(tmp_path: Path) -> None:
    mp.spawn(sharded, (str(tmp_path),), nprocs=2)
