"""Peak memory and time of an update of a Llama: AdamW on full matrices, SLTrain, and SLTrain with what its paper adds to it.

COMMAND   python benchmarks/sltrain_memory.py [--size 60M|130M|350M|1B|7B] [--rows 1]
RUNTIME   3 minutes on two cores at 350M; 2 minutes on a GPU

The network, rank and density of arXiv:2406.02214, 256 tokens a row. Four sides, each a process of its own; at 350M their peaks add up to 17 GB:
  full           fp32 AdamW, all gradients at once: what `overture run` does by default
  sltrain        the same under the transform
  sltrain-8bit   with states of 8 bits, each parameter stepping in the backward pass (needs overture[bits])
  full-8bit      the same on full matrices: how much of the saving is not SLTrain's
Memory is measured: on a GPU the peak that torch allocated, on a CPU the largest resident set less what the process held before the network was
built. The paper claims less memory and no speed; times say what that costs.
"""

import resource
from dataclasses import replace
from typing import Any

import psutil

from common import Side, alternate, cpu_seconds, finish, machine, parser, reply, summary, versions, wait_for_turn
from overture.recipes.sltrain import SIZES, published
from overture.run import Run

LENGTH = 256
ROUNDS = 5
SIDES = ("full", "sltrain", "sltrain-8bit", "full-8bit")
MB = 2**20


def the_run(side: str, size: str, rows: int, quick: bool) -> Run:
    run = published(size)
    if quick:
        run = replace(run, model=replace(run.model, layers=1, dim=256, heads=4, ffn=688))
    optim = run.players[0].optim
    if side.endswith("8bit"):
        optim = replace(optim, states="8bit", in_backward=True)
    return replace(
        run,
        transform=run.transform if side.startswith("sltrain") else None,
        players=(replace(run.players[0], optim=optim),),
        plan=replace(run.plan, update=float(rows * LENGTH), micro=float(rows * LENGTH)),
        loop=replace(run.loop, updates=10_000),
    )


def one_side(side: str, size: str, rows: int, quick: bool) -> None:
    import time

    import torch

    from overture.data.batch import Batch
    from overture.models.transforms.apply import counts
    from overture.train.engine import Engine
    from overture.train.loop import Trainer

    run = the_run(side, size, rows, quick)
    if run.players[0].optim.states:
        import bitsandbytes  # noqa: F401  # before memory is looked at
    with Engine.start() as engine:
        before = psutil.Process().memory_info().rss / MB
        trainer = Trainer(run, engine)
        state = trainer.state
        found = counts(state.model)
        moments = [v for values in state.optimizers["model"].state.values() for v in values.values()]
        ids = torch.randint(6, run.frontend.vocabulary, (rows, LENGTH), generator=torch.Generator().manual_seed(0))
        batch = Batch(rows=torch.arange(rows), x=ids, lengths=torch.full((rows,), LENGTH))
        reply(
            parameters=found.parameters,
            weights_mb=found.bytes / MB,
            moments_mb=sum(v.numel() * v.element_size() for v in moments) / MB,
            device=engine.device.type,
            precision="bf16" if trainer.bf16 else "fp32",
        )
        while wait_for_turn():
            cpu, begun = cpu_seconds(), time.perf_counter()
            record, _, ill = trainer.step([(batch, True)])
            if ill:
                raise RuntimeError(ill[0].message)
            state.update += 1
            if engine.device.type == "cuda":
                torch.cuda.synchronize()
                peak = torch.cuda.max_memory_allocated() / MB
            else:
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
            reply(
                seconds=time.perf_counter() - begun, cpu=cpu_seconds() - cpu, peak_memory_mb=peak, loss=record["loss"]
            )


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--size", choices=list(SIZES), default="350M")
    options.add_argument("--rows", type=int, default=1, help=f"of {LENGTH} tokens in an update")
    args = options.parse_args()
    if args.quick:
        args.rows = 1
    if args.side:
        one_side(args.side, args.size, args.rows, args.quick)
        return
    about = machine()
    found: dict[str, dict[str, Any]] = {}
    given = ["--size", args.size, "--rows", str(args.rows), *(["--quick"] if args.quick else [])]
    sides = [Side(__file__, name, *given) for name in SIDES]
    alternate(sides, 2 if args.quick else ROUNDS, warm_up=1)
    for side in sides:
        found[side.name] = {
            "seconds": side["seconds"],
            "cpu_seconds": side["cpu"],
            "peak_memory_mb": round(max(turn["peak_memory_mb"] for turn in side.turns)),
            "losses": summary([turn["loss"] for turn in side.turns])["all"],
            **side.ready,
        }
        side.close()
    ours, peer = found["sltrain-8bit"], found["full"]
    result = {
        "work": f"one update of a {args.size} Llama on {args.rows * LENGTH:,} tokens: SLTrain, 8 bits, stepping in the backward pass",
        "ours": ours,
        "peer": {"name": "AdamW on full matrices, in the same loop", **peer},
        "ratio": peer["seconds"]["median"] / ours["seconds"]["median"],
        "memory_ratio": {name: peer["peak_memory_mb"] / side["peak_memory_mb"] for name, side in found.items()},
        "runs": ROUNDS,
        "machine": about,
        "versions": versions("transformers", "bitsandbytes"),
        "sides": found,
        "notes": [
            "peak_memory_mb: on a CPU the largest resident set less that before the network was built, on a GPU what torch allocated.",
            "Parameters and products as the loop has them: fp32 and, where precision says so, bf16; the paper's parameters are bf16.",
        ],
    }
    finish("sltrain_memory", result, quick=args.quick)


if __name__ == "__main__":
    main()
