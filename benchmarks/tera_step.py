"""One TERA update (alteration, forward, backward, clipping, AdamW) on the same 60 s of audio.

COMMAND   python benchmarks/tera_step.py
RUNTIME   3 minutes on two cores

Ours is `Trainer.step` as `overture run tera` calls it. The peers:
  transformers   the same network and the same objective under `transformers.Trainer` (bf16=True, use_cpu=True, fused AdamW, its defaults
                 otherwise); a turn is what lies between its on_step_begin and on_step_end.
  s3prl          the authors' own TERA (s3prl 0.4.18: TransformerForMaskedAcousticModel, AdamW_with_schedule, the lines of its Runner), in
                 fp32, since its mixed precision is CUDA's. Its files are unpacked beside the benchmark's data, not installed (it requires a
                 torchaudio, which the step does not use).
  s3prl-bf16     the same under torch's bf16 autocast for CPUs, which its users do not get; here so that the precision is not the difference.
Both sizes: H=256 without dropout, as tera:default, and H=768 with dropout 0.1, as tera:published. All sides start from the same weights, see the
same altered frames, and their losses are compared before anything is timed. The main ratio is against transformers' Trainer in the same precision.
"""

import importlib
import subprocess
import sys
import tarfile
import types
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common import Side, alternate, finish, machine, parser, reply, take_turns, trainer_turns, versions, wait_for_turn
from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.recipes import tera
from overture.run import Run

S3PRL = "0.4.18"
SIZES = {"H=256": tera.default, "H=768": tera.published}
ROUNDS = 9
SEED = 0


def the_run(size: str) -> Run:
    run = SIZES[size]()
    # a rate of 0 would let a step be skipped; a constant small one keeps all sides at the start of training
    player = run.players[0]
    optim = replace(player.optim, lr=1e-5, warmup=0.0, hold=1.0)
    return replace(run, players=(replace(player, optim=optim),), loop=replace(run.loop, updates=10_000))


def the_batch(seconds: float) -> Batch:
    """60 s of the embedded corpus as one padded batch of 8 utterances of like length, each made of several clips."""
    import torch

    from overture.data.features import LogMel
    from overture.data.source import Live
    from overture.data.table import Table

    table, rng = Table.open("embedded"), np.random.default_rng(SEED)
    live = Live(table, LogMel(normalise=False))
    order, parts = rng.permutation(len(table)).tolist(), []
    for length in np.linspace(seconds / 8 * 100, seconds / 8 * 94, 8).astype(int).tolist():  # frames
        frames = np.concatenate([live[order.pop()] for _ in range(max(2, length // 40))])[:length]
        parts.append((frames - frames.mean(0)) / frames.std(0))
    lengths = torch.tensor([len(p) for p in parts])
    x = torch.zeros(len(parts), int(lengths.max()), 80)
    for i, part in enumerate(parts):
        x[i, : len(part)] = torch.from_numpy(part)
    return Batch(rows=torch.arange(len(parts)), x=x, lengths=lengths)


def build(run: Run) -> Any:
    import torch

    torch.manual_seed(run.seed)
    return run.model.build(run.frontend).train()


def first_loss(model: Any, loss: Any) -> float:
    """The loss of update 0 without dropout, in fp32: what is compared between sides."""
    import torch

    model.eval()
    with torch.no_grad():
        value = float(loss(model))
    model.train()
    return value


def objective_loss(batch: Batch, run: Run, update: int, model: Any) -> Any:
    result = run.players[0].objective(model, batch, Draws(run.seed, update))
    return result.sum / result.targets


def ours(run: Run, batch: Batch) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from overture.train.engine import Engine
    from overture.train.loop import Trainer

    with Engine.start() as engine:
        trainer = Trainer(run, engine)
        model = trainer.state.model
        loss = first_loss(model, partial(objective_loss, batch, run, 0))
        with FlopCounterMode(display=False) as counter:
            trainer.backward(0, [(batch, True)], Draws(run.seed, 0))

        def step() -> None:
            _, _, findings = trainer.step([(batch, True)])
            assert not findings, findings
            trainer.state.update += 1

        take_turns(
            step,
            loss=loss,
            parameters=sum(p.numel() for p in model.parameters()),
            flops=counter.get_total_flops(),
            precision="bf16" if trainer.bf16 else "fp32",
            threads=torch.get_num_threads(),
        )


def matrix_product(run: Run) -> None:
    """What the machine can do in the same turns: a 2048-cube matrix product in the precision of ours."""
    from overture.train.engine import Engine
    from overture.train.speed import matrix_peak

    with Engine.start() as engine:
        bf16 = engine.bf16(run.loop.precision)
        reply()
        while wait_for_turn():
            reply(flops=matrix_peak(engine, bf16))


def transformers_trainer(run: Run, batch: Batch, work: Path) -> None:
    import torch

    model = build(run)
    reply(loss=first_loss(model, partial(objective_loss, batch, run, 0)))

    def loss_of(model: Any, inputs: Any, update: int) -> Any:
        return objective_loss(batch, run, update, model)

    trainer_turns(model, loss_of, run.players[0].optim, work, {"input_values": torch.zeros(1)})


def unpack_s3prl(work: Path) -> Path:
    """The files of s3prl's source distribution, fetched with pip once. Raises when the package index cannot be reached."""
    tree = work / f"s3prl-{S3PRL}"
    if not tree.exists():
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-binary",
            ":all:",
            f"s3prl=={S3PRL}",
            "-d",
            str(work),
        ]
        subprocess.run(command, check=True)
        with tarfile.open(work / f"{tree.name}.tar.gz") as archive:
            archive.extractall(work, filter="data")
    return tree


def s3prl(run: Run, batch: Batch, work: Path, *, bf16: bool) -> None:
    import torch

    sys.path.insert(0, str(unpack_s3prl(work) / "s3prl"))
    # What the pre-training expert imports for its data sets; the step uses none of it, and it needs torchaudio.
    wanted = {
        "pretrain.mockingjay.dataset": ("KaldiAcousticDataset", "OnlineAcousticDataset"),
        "upstream.baseline.extracter": ("get_extracter",),
        "upstream.baseline.preprocessor": ("get_preprocessor",),
        "utility.audio": ("plot_spectrogram_to_numpy",),
    }
    for name, members in wanted.items():
        for parent in ("upstream", "upstream.baseline", "utility"):
            sys.modules.setdefault(parent, _package(parent, unpack_s3prl(work) / "s3prl"))
        module = types.ModuleType(name)
        for member in members:
            setattr(module, member, None)
        sys.modules[name] = module
    expert = importlib.import_module("pretrain.mockingjay.pretrain_expert")
    optimizers = importlib.import_module("optimizers")
    tables = importlib.import_module("pretrain.mockingjay.task")
    spec, source = run.model, build(run)
    config = expert.TransformerConfig(
        {
            "hidden_size": spec.dim,
            "num_hidden_layers": spec.layers,
            "num_attention_heads": spec.heads,
            "hidden_act": "gelu",
            "intermediate_size": spec.ffn,
            "hidden_dropout_prob": spec.dropout,
            "attention_probs_dropout_prob": spec.attention_dropout,
            "initializer_range": 0.02,
            "layer_norm_eps": 1e-12,
            "share_layer": False,
            "pre_layer_norm": False,
        }
    )
    model = expert.TransformerForMaskedAcousticModel(config, input_dim=80, output_dim=80).train()
    model.load_state_dict(_named_as_s3prl(source.state_dict()))
    optimizer = optimizers.get_optimizer(
        [model], 10_000, {"name": "AdamW_with_schedule", "lr": 1e-5, "warmup_proportion": 0.07}
    )
    positions = tables.fast_position_encoding(batch.x.shape[1], spec.dim)
    update = 0

    def loss_of(network: Any, number: int) -> Any:
        altered, mask = run.players[0].objective.alteration(batch, Draws(run.seed, number), 100.0)
        loss, _ = network(altered, positions.expand(len(altered), -1, -1), mask, batch.valid.float(), batch.x)
        return loss

    def step() -> None:
        nonlocal update
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = loss_of(model, update)
        loss.backward()
        loss.item()  # as its Runner does
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), run.players[0].optim.clip)
        assert torch.isfinite(norm)
        optimizer.step()
        optimizer.zero_grad()
        update += 1

    take_turns(step, loss=first_loss(model, lambda network: loss_of(network, 0)))


def _package(name: str, home: Path) -> types.ModuleType:
    """An empty package whose submodules are found in `home`, so that its own __init__ (which imports every upstream) does not run."""
    module = types.ModuleType(name)
    module.__path__ = [str(home / name.replace(".", "/"))]
    return module


def _named_as_s3prl(weights: dict[str, Any]) -> dict[str, Any]:
    """Our weights under s3prl's names: the two networks are the same."""
    named = {}
    for name, value in weights.items():
        new = name.replace("layers.", "Transformer.encoder.layer.") if name.startswith("layers.") else name
        for old, theirs in (
            ("project.", "Transformer.input_representations.spec_transform."),
            ("norm.", "Transformer.input_representations.LayerNorm."),
            ("head.0.", "SpecHead.dense."),
            ("head.2.", "SpecHead.LayerNorm."),
            ("head.3.", "SpecHead.output."),
        ):
            if name.startswith(old):
                new = theirs + name.removeprefix(old)
        named[new] = value
    return named


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--size", choices=list(SIZES))
    options.add_argument("--without-s3prl", action="store_true", help="where no package index can be reached")
    args = options.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.side:
        run, batch = the_run(args.size), the_batch(6.0 if args.quick else 60.0)
        {
            "matrix-product": lambda: matrix_product(run),
            "ours": lambda: ours(run, batch),
            "transformers": lambda: transformers_trainer(run, batch, args.work),
            "s3prl": lambda: s3prl(run, batch, args.work, bf16=False),
            "s3prl-bf16": lambda: s3prl(run, batch, args.work, bf16=True),
        }[args.side]()
        return
    names = ["ours", "transformers"] + ([] if args.without_s3prl else ["s3prl", "s3prl-bf16"])
    if not args.without_s3prl:
        unpack_s3prl(args.work)
    about = machine()
    sizes = {}
    for size in SIZES:
        print(f"{size}: {', '.join(names)}", flush=True)
        options_ = ["--size", size, "--work", str(args.work), *(["--quick"] if args.quick else [])]
        sides = {name: Side(__file__, name, *options_) for name in names}
        peak = Side(__file__, "matrix-product", *options_)
        losses = {name: side.ready["loss"] for name, side in sides.items()}
        if max(losses.values()) - min(losses.values()) > 1e-4 * losses["ours"]:
            raise RuntimeError(f"the sides do not compute the same loss: {losses}")
        alternate([*sides.values(), peak], 2 if args.quick else ROUNDS if size == "H=256" else 5)
        ready, flops_per_s = sides["ours"].ready, peak["flops"]["median"]
        peak.close()
        found = {
            name: {"seconds": side["seconds"], "cpu_seconds": side["cpu"], "peak_memory_mb": round(side.close())}
            for name, side in sides.items()
        }
        seconds = {name: value["seconds"]["median"] for name, value in found.items()}
        sizes[size] = {
            **found,
            "ratio": {name: seconds[name] / seconds["ours"] for name in names[1:]},
            "cpu_ratio": {
                name: found[name]["cpu_seconds"]["median"] / found["ours"]["cpu_seconds"]["median"]
                for name in names[1:]
            },
            "losses": losses,
            "parameters": ready["parameters"],
            "gflop_per_update": ready["flops"] / 1e9,
            "gflop_per_s": ready["flops"] / seconds["ours"] / 1e9,
            "matrix_peak_gflop_per_s": flops_per_s / 1e9,
            "share_of_matrix_peak": ready["flops"] / seconds["ours"] / flops_per_s,
            "precision": ready["precision"],
            "threads": ready["threads"],
        }
    main_size = sizes["H=256"]
    result = {
        "work": "one TERA update, 60 s of audio, forward to AdamW; H=256 (tera:default), H=768 under 'sizes'",
        "ours": main_size["ours"],
        "peer": {"name": "transformers.Trainer, same network, objective and precision", **main_size["transformers"]},
        "ratio": main_size["ratio"]["transformers"],
        "runs": ROUNDS,
        "machine": about,
        "versions": versions("transformers", "accelerate") | ({} if args.without_s3prl else {"s3prl": S3PRL}),
        "sizes": sizes,
        "notes": [
            "Losses of the first update, fp32 and without dropout, agree to 1e-4 on all sides before timing.",
            "GFLOP counts matrix products and attention only, as torch's FlopCounterMode does.",
            *(
                []
                if args.without_s3prl
                else [
                    "s3prl runs in fp32, as for its users on a CPU; s3prl-bf16 is the same under autocast.",
                    "The altered input and the mask are ours on all sides, computed inside the step; s3prl's data pipeline is not part of it.",
                ]
            ),
        ],
    }
    finish("tera_step", result, quick=args.quick)


if __name__ == "__main__":
    main()
