"""One update of a small language model (forward, backward, clipping, AdamW) on the same 4,096 tokens: head-to-head B4.

COMMAND   python benchmarks/text_step.py
RUNTIME   5 minutes on two cores

Two networks of 4 layers, D=256, a vocabulary of 8,192: a Llama by causal, a BERT by masked language modelling. Ours is `Trainer.step` as
`overture run` calls it. The peers:
  transformers   the same network with its own forward pass, attention and loss under `transformers.Trainer` (bf16=True, use_cpu=True, fused AdamW,
                 its defaults otherwise); a turn is what lies between its on_step_begin and on_step_end.
  litgpt         litgpt 0.5.13's GPT (the Llama only) with the lines of its `pretrain.fit`, under torch's autocast to bf16, as its precision
                 "bf16-mixed" is; and `litgpt-compiled`, under torch.compile, as its pretrain does. Its files are unpacked beside the benchmark's
                 data, not installed, since it requires lightning, which the step does not use.
All sides start from the same weights and see the same tokens and masks; their losses are compared before anything is timed, and told again after all
turns, when every side has learnt from as many tokens.
"""

import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from common import Side, alternate, finish, machine, parser, reply, take_turns, trainer_turns, versions, wait_for_turn
from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.text import Pack
from overture.data.tokens import Tokens
from overture.models.text import Bert, Llama
from overture.objectives.causal import Causal
from overture.objectives.masked_tokens import MaskedTokens
from overture.run import Data, Loop, Optim, Plan, Player, Run

LITGPT = "0.5.13"
LENGTH, ROWS = 128, 32
ROUNDS, WARM_UP = 9, 2
OPTIM = Optim(
    lr=3e-4, warmup=0.0, hold=1.0, betas=(0.9, 0.95), clip=1.0
)  # constant, so that all sides have one schedule
MODELS = {
    "llama": (Llama(layers=4, dim=256, heads=4, ffn=704, positions=LENGTH), Causal()),
    "bert": (Bert(layers=4, dim=256, heads=4, ffn=1024, dropout=0.0, positions=LENGTH), MaskedTokens()),
}


def the_run(name: str) -> Run:
    model, objective = MODELS[name]
    return Run(
        recipe="text-step",
        size=name,
        data=Data(corpus="embedded-text", text=Pack(length=LENGTH, framed=name == "bert")),
        frontend=Tokens(vocabulary=8192),
        model=model,
        players=(Player(objective=objective, optim=OPTIM),),
        plan=Plan(update=float(LENGTH * ROWS), micro=float(LENGTH * ROWS), longest_squared=1e9),
        loop=Loop(updates=10_000),
    )


def the_batch(run: Run, rows: int) -> Batch:
    """Full stretches of the embedded text."""
    from overture.train.examples import Training

    training = Training.prepare(run)
    full = np.flatnonzero(training.examples.lengths == LENGTH)[:rows]
    return training.examples.batch(full, Draws(0, 0))


def build(run: Run) -> Any:
    import torch

    torch.manual_seed(run.seed)
    return run.model.build(run.frontend).train()


def labels_of(run: Run, model: Any, batch: Batch, update: int) -> tuple[Any, Any]:
    """(B, T) input ids and labels, -100 where there is nothing to predict, as transformers' losses want them."""
    objective = run.players[0].objective
    if isinstance(objective, MaskedTokens):
        x, taken = objective.corruption(model, batch, Draws(run.seed, update))
        return x, batch.x.masked_fill(~taken, -100)
    return batch.x, batch.x


def measured_loss(model: Any, loss: Any) -> float:
    """In fp32, of the masks of update 0: what is compared between sides."""
    import torch

    model.eval()
    with torch.no_grad():
        value = float(loss())
    model.train()
    return value


def ours(run: Run, batch: Batch) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from overture.train.engine import Engine
    from overture.train.loop import Trainer

    with Engine.start() as engine:
        trainer = Trainer(run, engine)
        model = trainer.state.model

        def loss() -> Any:
            found = run.players[0].objective(model, batch, Draws(run.seed, 0))
            return found.sum / found.targets

        before = measured_loss(model, loss)
        with FlopCounterMode(display=False) as counter:
            trainer.backward(0, [(batch, True)], Draws(run.seed, 0))

        def step() -> None:
            _, _, findings = trainer.step([(batch, True)])
            assert not findings, findings
            trainer.state.update += 1

        take_turns(
            step,
            at_end=lambda: {"loss": measured_loss(model, loss)},
            loss=before,
            parameters=sum(p.numel() for p in model.parameters()),
            flops=counter.get_total_flops(),
            precision="bf16" if trainer.bf16 else "fp32",
            threads=torch.get_num_threads(),
            tokens=int(batch.lengths.sum()),
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

    ours = build(run)
    network = ours.network
    network.set_attn_implementation("sdpa")  # its own default

    def loss_of(model: Any, inputs: Any, update: int) -> Any:
        x, labels = labels_of(run, ours, batch, update)
        return model(input_ids=x, labels=labels).loss

    reply(loss=measured_loss(network, lambda: loss_of(network, None, 0)))
    trainer_turns(network, loss_of, OPTIM, work, {"input_ids": torch.zeros(1, dtype=torch.int64)})
    plain = build(run).network  # the other's forward pass now has autocast around it
    plain.load_state_dict(network.state_dict())
    reply(loss=measured_loss(plain, lambda: loss_of(plain, None, 0)))


def unpack_litgpt(work: Path) -> Path:
    """litgpt's files, fetched with pip once. Raises when the package index cannot be reached."""
    tree = work / f"litgpt-{LITGPT}"
    if not tree.exists():
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", f"litgpt=={LITGPT}", "-d", str(work)]
        subprocess.run(pip, check=True)
        with zipfile.ZipFile(next(work.glob(f"litgpt-{LITGPT}-*.whl"))) as archive:
            archive.extractall(tree)
    return tree


def litgpt(run: Run, batch: Batch, work: Path, *, compiled: bool) -> None:
    import torch

    home = unpack_litgpt(work) / "litgpt"
    for name in ("litgpt", "litgpt.scripts"):  # without their __init__, which imports lightning
        package = types.ModuleType(name)
        package.__path__ = [str(home / name.partition(".")[2])]
        sys.modules[name] = package
    converter: Any = types.ModuleType("litgpt.scripts.convert_hf_checkpoint")
    converter.qkv_reassemble = None  # of checkpoints of an older form
    sys.modules[converter.__name__] = converter
    from litgpt.config import Config  # type: ignore[import-not-found]
    from litgpt.model import GPT  # type: ignore[import-not-found]

    spec: Any = run.model
    source = build(run).network
    config = Config(
        name="benchmark",
        block_size=LENGTH,
        n_layer=spec.layers,
        n_head=spec.heads,
        n_embd=spec.dim,
        intermediate_size=spec.ffn,
        padded_vocab_size=run.frontend.vocabulary,
        vocab_size=run.frontend.vocabulary,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=source.config.rms_norm_eps,
        mlp_class_name="LLaMAMLP",
    )
    model = GPT(config)
    model.load_state_dict(_named_as_litgpt(source.state_dict(), spec.layers))
    x = batch.x
    inputs, targets = x[:, :-1].contiguous(), x[:, 1:].contiguous()

    def loss_of(network: Any) -> Any:
        logits = network(inputs)  # litgpt.utils.chunked_cross_entropy's own arithmetic, in its chunks of 128
        logits, wanted = logits.reshape(-1, logits.size(-1)).split(128), targets.reshape(-1).split(128)
        parts = [torch.nn.functional.cross_entropy(a, b, reduction="none") for a, b in zip(logits, wanted)]
        return torch.cat(parts).mean()

    def loss() -> float:
        return measured_loss(model, lambda: loss_of(model))

    before = loss()
    network: Any = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=OPTIM.lr, betas=OPTIM.betas, weight_decay=OPTIM.weight_decay, fused=True
    )

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(network)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIM.clip)
        optimizer.step()
        optimizer.zero_grad()

    take_turns(step, at_end=lambda: {"loss": loss()}, loss=before)


def _named_as_litgpt(weights: dict[str, Any], layers: int) -> dict[str, Any]:
    """Llama's weights under litgpt's names: the two networks are the same."""
    import torch

    named = {
        "transformer.wte.weight": weights["model.embed_tokens.weight"],
        "transformer.ln_f.weight": weights["model.norm.weight"],
        "lm_head.weight": weights["lm_head.weight"],
    }
    for i in range(layers):
        ours, theirs = f"model.layers.{i}.", f"transformer.h.{i}."
        named[f"{theirs}attn.qkv.weight"] = torch.cat([weights[f"{ours}self_attn.{n}_proj.weight"] for n in "qkv"])
        for old, new in (
            ("self_attn.o_proj", "attn.proj"),
            ("input_layernorm", "norm_1"),
            ("post_attention_layernorm", "norm_2"),
            ("mlp.gate_proj", "mlp.fc_1"),
            ("mlp.up_proj", "mlp.fc_2"),
            ("mlp.down_proj", "mlp.proj"),
        ):
            named[f"{theirs}{new}.weight"] = weights[f"{ours}{old}.weight"]
    return named


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", choices=list(MODELS))
    options.add_argument("--without-litgpt", action="store_true", help="where no package index can be reached")
    args = options.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.side:
        run = the_run(args.model)
        batch = the_batch(run, 4 if args.quick else ROWS)
        {
            "matrix-product": lambda: matrix_product(run),
            "ours": lambda: ours(run, batch),
            "transformers": lambda: transformers_trainer(run, batch, args.work),
            "litgpt": lambda: litgpt(run, batch, args.work, compiled=False),
            "litgpt-compiled": lambda: litgpt(run, batch, args.work, compiled=True),
        }[args.side]()
        return
    if not args.without_litgpt:
        unpack_litgpt(args.work)
    about, sizes = machine(), {}
    the_batch(the_run("llama"), 1)  # the tokenizer is trained and the text encoded once, before any side begins
    for model in MODELS:
        names = ["ours", "transformers"]
        if model == "llama" and not args.without_litgpt:
            names += ["litgpt", "litgpt-compiled"]
        print(f"{model}: {', '.join(names)}", flush=True)
        given = ["--model", model, "--work", str(args.work), *(["--quick"] if args.quick else [])]
        sides = {name: Side(__file__, name, *given) for name in names}
        peak = Side(__file__, "matrix-product", *given)
        losses = {name: side.ready["loss"] for name, side in sides.items()}
        if max(losses.values()) - min(losses.values()) > 1e-4 * losses["ours"]:
            raise RuntimeError(f"the sides do not compute the same loss: {losses}")
        rounds = 2 if args.quick else ROUNDS
        alternate([*sides.values(), peak], rounds, warm_up=WARM_UP)
        ready, flops_per_s = sides["ours"].ready, peak["flops"]["median"]
        peak.close()
        found = {
            name: {"seconds": side["seconds"], "cpu_seconds": side["cpu"], "peak_memory_mb": round(side.close())}
            for name, side in sides.items()
        }
        seconds = {name: value["seconds"]["median"] for name, value in found.items()}
        sizes[model] = {
            **found,
            "ratio": {name: seconds[name] / seconds["ours"] for name in names[1:]},
            "losses": losses,
            "losses_after": {name: side.last["loss"] for name, side in sides.items()},
            "tokens_learnt_from": ready["tokens"] * (WARM_UP + rounds),
            "parameters": ready["parameters"],
            "tokens_per_s": {name: ready["tokens"] / value for name, value in seconds.items()},
            "gflop_per_update": ready["flops"] / 1e9,
            "gflop_per_s": ready["flops"] / seconds["ours"] / 1e9,
            "matrix_peak_gflop_per_s": flops_per_s / 1e9,
            "share_of_matrix_peak": ready["flops"] / seconds["ours"] / flops_per_s,
            "precision": ready["precision"],
            "threads": ready["threads"],
        }
    main_size = sizes["llama"]
    result = {
        "work": "one update of a language model of 4 layers, D=256, on 4,096 tokens; the Llama, the BERT under 'sizes'",
        "ours": main_size["ours"],
        "peer": {"name": "transformers.Trainer, same network and precision", **main_size["transformers"]},
        "ratio": main_size["ratio"]["transformers"],
        "runs": ROUNDS,
        "machine": about,
        "versions": versions("transformers", "accelerate") | ({} if args.without_litgpt else {"litgpt": LITGPT}),
        "sizes": sizes,
        "notes": [
            "Losses of the first update, in fp32, agree to 1e-4 on all sides before timing.",
            "losses_after: of the same tokens and masks, in fp32, when every side has made all its updates on them.",
            "GFLOP counts matrix products and attention only, as torch's FlopCounterMode does.",
        ],
    }
    finish("text_step", result, quick=args.quick)


if __name__ == "__main__":
    main()
