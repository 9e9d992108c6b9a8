"""The laws of the design, over every recipe in the index. A recipe that cannot promise one says so in its module as
`EXEMPT = {law number: reason}`, and then the test expects the law to be broken."""

import hashlib
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from overture.config import fingerprint, flatten, from_dict, override, to_dict
from overture.data.draws import Draws
from overture.data.lengths import samples
from overture.data.once import DONE, made_once
from overture.errors import OvertureError
from overture.recipes import INDEX, claims, get, load
from overture.run import Run
from overture.train.engine import Engine
from overture.train.examples import Training
from overture.train.health import IllRun
from overture.train.loop import Trainer, train
from overture.train.track import read_metrics

from ..forks import Forks
from .conftest import tensors

CURVES = Path(__file__).parent / "curves"


class Killed(Exception):
    """Stands for a process that dies."""


def trained(run: Run, folder: Path, *, die_after: int | None = None) -> dict[str, Any]:
    def on_record(record: dict[str, Any]) -> None:
        if record["kind"] == "checkpoint" and record["update"] == die_after:
            raise Killed

    with Engine.start() as engine:
        if die_after is None:
            train(run, folder, engine=engine, on_record=on_record)
        else:
            with pytest.raises(Killed):
                train(run, folder, engine=engine, on_record=on_record)
    return tensors(folder)


@pytest.fixture
def went_well(recipe: str, run: Run, shared: Path) -> Path:
    """The folder of the run from its beginning to its end, trained once for all laws that look at it."""

    def write(part: Path) -> None:
        trained(run, part)
        (part / DONE).touch()

    return made_once(shared / "went well" / recipe, write, "the run")


def gradients(run: Run, rows: np.ndarray | None = None) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of the first player for the first planned update, and in how many micro-batches they were computed."""
    with Engine.start() as engine:
        training, trainer = Training.prepare(run), Trainer(run, engine)
        rows = training.plan.updates(0)[0] if rows is None else rows
        batches = training.batches(rows, 0, engine)
        trainer.backward(0, batches, Draws(run.seed, 0))
    return {n: p.grad for n, p in trainer.parameters[0].items()}, len(batches)


def test_law_1_stopped_and_resumed_twice_is_never_stopped(run: Run, went_well: Path, tmp_path: Path) -> None:
    whole = tensors(went_well)
    trained(run, tmp_path / "parts", die_after=4)
    trained(run, tmp_path / "parts", die_after=8)
    parts = trained(run, tmp_path / "parts")
    assert whole.keys() == parts.keys() and any(n.startswith("optim/") for n in whole)
    assert [n for n in whole if not torch.equal(whole[n], parts[n])] == []
    curves = [
        [(r["update"], r["loss"]) for r in read_metrics(folder) if r["kind"] == "update"]
        for folder in (went_well, tmp_path / "parts")
    ]
    assert [c for c in curves[0] if c[0] % 2 == 0] == [c for c in curves[1] if c[0] % 2 == 0]


def test_law_2_one_batch_is_its_utterances_accumulated(still: Run) -> None:
    in_tokens = still.on_text or still.hears_and_reads
    update, micro = (still.plan.update, still.plan.update / 4) if in_tokens else (8.0, 2.0)
    once = replace(still, plan=replace(still.plan, update=update, micro=update))
    many = replace(still, plan=replace(still.plan, update=update, micro=micro))
    a, micro_a = gradients(once)
    b, micro_b = gradients(many)
    assert micro_a == 1 and micro_b >= 4
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-6, msg=name)


def test_law_3_padding_does_not_change_an_output(still: Run) -> None:
    torch.manual_seed(0)
    model = still.model.build(still.frontend).eval()
    generator = torch.Generator().manual_seed(1)
    if still.on_text:
        few, many, fillings = 9, 23, [0, 7]
        short, long = (torch.randint(6, still.frontend.vocabulary, (n,), generator=generator) for n in (few, many))
    else:
        few, many = (samples(seconds, still.frontend.frame_rate) for seconds in (0.37, 0.9))
        channels, fillings = [still.frontend.dim] if still.frontend.dim else [], [0.0, 7.0]
        short, long = (torch.randn(n, *channels, generator=generator) for n in (few, many))
    with torch.no_grad():
        alone, length = model.states(short[None], torch.tensor([few]))
        assert length.tolist() == model.steps(torch.tensor([few])).tolist()
        for filling in fillings:  # whatever stands in the padding
            padded = torch.full((2, *long.shape), filling)
            padded[0, :few], padded[1] = short, long
            beside, lengths = model.states(padded, torch.tensor([few, many]))
            for a, b in zip(alone, beside, strict=True):
                n = int(length[0])
                assert int(lengths[0]) == n
                torch.testing.assert_close(a[0, :n], b[0, :n], rtol=1e-4, atol=1e-5)


def test_law_4_every_trainable_parameter_learns_and_every_frozen_one_stays(run: Run, tmp_path: Path) -> None:
    def digest(tensor: torch.Tensor) -> str:
        return hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()

    with Engine.start() as engine:
        learning = {n: p.requires_grad for n, p in Trainer(run, engine).state.model.named_parameters()}
    names = [n for n, learns in learning.items() if learns]
    own = [n for n in names if re.search(run.players[0].parameters, n)]
    idle, frozen = set(learning) - set(names), set(own[: len(own) // 2])
    pattern = "^(" + "|".join(n.replace(".", r"\.") for n in own if n not in frozen) + ")$"
    part = replace(run, players=(replace(run.players[0], parameters=pattern), *run.players[1:]))
    for this, still_there in ((run, idle), (part, idle | frozen)):
        with Engine.start() as engine:
            training, trainer = Training.prepare(this), Trainer(this, engine)
            before = {n: digest(p) for n, p in trainer.state.model.named_parameters()}
            seen: set[str] = set()
            for number in range(3):
                trainer.step(training.batches(training.plan.updates(0)[number], number, engine))
                trainer.state.update += 1
                seen |= {
                    n for n, p in trainer.state.model.named_parameters() if p.grad is not None and bool(p.grad.any())
                }
            after = {n: digest(p) for n, p in trainer.state.model.named_parameters()}
        assert seen == set(learning) - still_there
        assert {n for n in learning if before[n] == after[n]} == still_there


def two_ranks_are_one(
    still: Run, engines: list[str], more: list[str], out: Path, torchrun: Callable[..., None], shared: Path
) -> None:
    """Trains `still`, with `more` settings, on one process (once for all engines) and under each engine on two; all log and leave the same."""
    none = [f"{n}=0" for n in flatten(still) if n.endswith("dropout")]
    settings = [*none, "loop.updates=4", "loop.log_every=1", *more]
    arguments = [f"{still.recipe}:tiny", *(x for s in settings for x in ("--set", s))]

    def write(part: Path) -> None:
        torchrun(1, *arguments, "--out", str(part))
        (part / DONE).touch()

    alone = made_once(shared / "one rank" / fingerprint(arguments), write, "the run")
    (one,) = (path for path in alone.iterdir() if path.is_dir())
    first = tensors(one)
    for engine in engines:
        torchrun(2, *arguments, "--out", str(out / engine), "--engine", engine)
        (two,) = (out / engine).iterdir()
        for a, b in zip(read_metrics(one), read_metrics(two), strict=True):
            if a["kind"] == "update":
                assert a["targets"] == b["targets"]
                assert math.isclose(a["loss"], b["loss"], rel_tol=1e-4) and math.isclose(
                    a["grad_norm"], b["grad_norm"], rel_tol=1e-3
                )
        second = tensors(two)
        assert first.keys() == second.keys()
        for name in first:
            if name.startswith("model/"):
                torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=2e-4, msg=f"{engine}: {name}")


@pytest.mark.parametrize("engine", ["ddp", "fsdp"])
def test_law_5_two_ranks_are_one(
    still: Run, recipe: str, engine: str, tmp_path: Path, torchrun: Callable[..., None], shared: Path
) -> None:
    if engine == "fsdp" and len(still.players) > 1:
        with pytest.raises(OvertureError, match="use --engine ddp"):
            Trainer(still, Engine(0, 2, torch.device("cpu"), "fsdp"))
        return
    two_ranks_are_one(still, [engine], [], tmp_path, torchrun, shared)


@pytest.mark.parametrize("name", ["wav2vec2", "w2v-bert"])
def test_law_5_is_broken_by_the_diversity_loss_alone(
    name: str, tmp_path: Path, torchrun: Callable[..., None], shared: Path
) -> None:
    still = get(f"{name}:tiny")
    assert 5 in load(name).EXEMPT and still.players[0].objective.diversity > 0
    two_ranks_are_one(still, ["ddp", "fsdp"], ["players.0.objective.diversity=0"], tmp_path, torchrun, shared)


def test_law_6_export_gives_the_same_outputs_in_transformers(
    run: Run, went_well: Path, tmp_path: Path, stranger: Forks
) -> None:
    from overture.export import export

    out = export(went_well, tmp_path / "hf")
    # As a stranger would: a new process, no Overture on its path.
    read = (
        "from transformers import AutoModel, AutoTokenizer\n"
        f"model = AutoModel.from_pretrained({str(out)!r})\n"
        f"tokenizer = AutoTokenizer.from_pretrained({str(out)!r})\n"
        "inputs = tokenizer('Some text', return_tensors='pt', return_token_type_ids=False)\n"
        "print('shape', tuple(model(**inputs).last_hidden_state.shape))\n"
    )
    heard = (
        "import numpy as np, torch\n"
        "from transformers import AutoFeatureExtractor, AutoModel\n"
        f"model = AutoModel.from_pretrained({str(out)!r}, trust_remote_code=True)\n"
        f"extractor = AutoFeatureExtractor.from_pretrained({str(out)!r}, trust_remote_code=True)\n"
        "wave = (np.sin(np.arange(extractor.sampling_rate) / 9) * 0.1).astype('float32')\n"
        "print('shape', tuple(model(**extractor(wave, sampling_rate=extractor.sampling_rate, return_tensors='pt')).last_hidden_state.shape))\n"
    )
    ended = stranger.run("-c", read if run.on_text else heard)
    assert ended.status == 0, ended.said
    assert "shape (1, " in ended.said


@pytest.mark.parametrize("size", ["tiny", "default", "published"])
def test_law_7_config_survives_json(recipe: str, size: str) -> None:
    run = get(f"{recipe}:{size}")
    changed = override(run, {"seed": "7", "data.where": "duration > 1", "players.0.optim.lr": "0.5"})
    again = from_dict(run, json.loads(json.dumps(to_dict(changed))))
    assert again == changed and again.fingerprint == changed.fingerprint != run.fingerprint
    assert fingerprint(to_dict(run, named=True)) == run.fingerprint


def test_law_8_the_loss_curve_is_the_reference_curve(recipe: str, went_well: Path) -> None:
    reference = json.loads((CURVES / f"{recipe}.json").read_text())
    found = {r["update"]: r["loss"] for r in read_metrics(went_well) if r["kind"] == "update"}
    for update, low, high in zip(reference["update"], reference["low"], reference["high"], strict=True):
        assert low <= found[update] <= high, f"update {update}: {found[update]:.4f} is outside {low:.4f} to {high:.4f}"


def test_law_9_health_stops_a_run_that_explodes(run: Run, tmp_path: Path) -> None:
    optim = replace(run.players[0].optim, lr=1e30, warmup=0.0, clip=1e30)
    ill = replace(run, players=(replace(run.players[0], optim=optim), *run.players[1:]))
    with Engine.start() as engine, pytest.raises(IllRun, match="not finite"):
        train(ill, tmp_path, engine=engine)
    findings = [r for r in read_metrics(tmp_path) if r["kind"] == "health"]
    assert findings[-1]["stopped"] and len(json.loads((tmp_path / "bad_update.json").read_text())["rows"]) > 0


def test_law_10_listing_loads_no_torch() -> None:
    code = (
        "import sys; from overture.cli import app; app(['list'], standalone_mode=False)\n"
        "print(sorted(set(sys.modules) & {'torch', 'transformers', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("[]") and all(name in done.stdout for name in INDEX)


def test_every_recipe_has_what_the_index_promises(recipe: str) -> None:
    from overture.study import Claim

    module = load(recipe)
    claim = module.claim()
    assert isinstance(claim, Claim) and claim.recipe == recipe and claim.expected
    arms = {a.name for a in claim.study.arms}
    assert {name for pair in claim.expected for name in pair} <= arms
    assert len(claim.study.seeds) >= 3
    assert Path(module.__file__).read_text().count("\n") <= 150 + 40 * len(claims(recipe)[1:])
    assert INDEX[recipe].paper.split(":")[1] in module.__doc__
