"""One wav2vec 2.0 update (mask, forward, loss, backward, AdamW) on the same 4 x 10 s of audio.

COMMAND   python benchmarks/wav2vec2_step.py            (where there is a GPU: the largest batch that fits each side, in doublings)
RUNTIME   6 minutes on two cores

Ours is `Trainer.step` as `overture run wav2vec2` calls it. The peer is `transformers.Wav2Vec2ForPreTraining` of the same sizes in the loop of
transformers' public example (examples/pytorch/speech-pretraining): accelerate with mixed_precision="bf16" where ours takes bf16, masks and
negatives drawn by its own functions in the step (as its collator does, which has no workers), the loss, `multiply_grads` by 1 / number of masked
frames, a norm with `.item()` for each parameter, torch's AdamW, the Gumbel temperature. It has no gradient clipping; ours clips.
Sizes: "small" is wav2vec2:default (4 layers, H=256, layer norm in the front end), "BASE" the paper's 95 M (group norm, dropout 0.1), both without
layer drop, feature penalty and gradient scaling, which transformers does not have or draws from the global generator.
Both sides start from the same weights; in fp32, without dropout, with our mask, negatives and noise in both, their losses and gradient norms are
compared before anything is timed. The loss alone (from Transformer outputs and code vectors to their gradients) is measured beside it, and the
convolutional front end with its backward pass.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from common import Side, alternate, finish, machine, parser, reply, run_process, take_turns, versions
from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.recipes import wav2vec2
from overture.run import Run

SIZES = {"small": wav2vec2.default, "BASE": wav2vec2.published}
ROUNDS = {"small": 9, "BASE": 5}
SEED = 0


def the_run(size: str) -> Run:
    run: Any = SIZES[size]()
    player = run.players[0]
    objective = replace(player.objective, penalty=0.0, identical="mask")
    optim = replace(
        player.optim, lr=1e-5, warmup=0.0, hold=1.0
    )  # a constant small one keeps both at the start of training
    return replace(
        run,
        model=replace(run.model, layer_drop=0.0, feature_gradient=1.0),
        players=(replace(player, objective=objective, optim=optim),),
        loop=replace(run.loop, updates=10_000),
    )


def the_batch(clips: int, seconds: float) -> Batch:
    """`clips` utterances of like length, each made of several clips of the embedded corpus."""
    import torch

    from overture.data.features import Waveform
    from overture.data.source import Live
    from overture.data.table import Table

    table, rng, front = Table.open("embedded"), np.random.default_rng(SEED), Waveform()
    live, parts = Live(table, front), []
    pool = [live[int(i)] for i in rng.permutation(len(table))[:64]]
    for length in np.linspace(seconds * front.rate, 0.94 * seconds * front.rate, clips).astype(int).tolist():
        pieces: list[np.ndarray] = []
        while sum(map(len, pieces)) < length:
            pieces.append(pool[int(rng.integers(len(pool)))])
        parts.append(front(np.concatenate(pieces)[:length]))
    lengths = torch.tensor([len(p) for p in parts])
    x = torch.zeros(clips, int(lengths.max()))
    for i, part in enumerate(parts):
        x[i, : len(part)] = torch.from_numpy(part)
    return Batch(rows=torch.arange(clips), x=x, lengths=lengths)


def device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronise() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def build(run: Run) -> Any:
    import torch

    torch.manual_seed(run.seed)
    return run.model.build(run.frontend).train()


def comparable(model: Any, loss: Callable[[], Any]) -> dict[str, float]:
    """The loss a masked frame and its gradient norm in fp32 without dropout. `model` is left without gradients."""
    import torch

    dropouts = {m: m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}
    attention = {m: m.dropout for m in model.modules() if isinstance(getattr(m, "dropout", None), float)}
    for m in dropouts:
        m.p = 0.0
    for m in attention:
        m.dropout = 0.0
    value = loss()
    value.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    for m, p in dropouts.items():
        m.p = p
    for m, p in attention.items():
        m.dropout = p
    model.zero_grad(set_to_none=True)
    return {"loss": float(value.detach()), "grad_norm": float(norm)}


def cost_of(work: Callable[[], Any], repeats: int = 3) -> float:
    """Median seconds of `work`, after one time that does not count."""
    seconds = []
    for _ in range(repeats + 1):
        synchronise()
        begun = time.perf_counter()
        work()
        synchronise()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:])


def front_end(model: Any, features: Callable[[Any], Any], batch: Batch, bf16: bool) -> float:
    """Seconds of the convolutions, forward and backward."""
    import torch

    def work() -> None:
        with torch.autocast(batch.x.device.type, torch.bfloat16, enabled=bf16):
            found = features(batch.x)
        found.sum().backward()
        model.zero_grad(set_to_none=True)

    return cost_of(work)


class Ours:
    """`Trainer.step`, as the training loop calls it."""

    def __init__(self, run: Run, engine: Any) -> None:
        from overture.train.loop import Trainer

        self.run, self.engine, self.trainer = run, engine, Trainer(run, engine)
        self.model, self.bf16 = self.trainer.state.model, self.trainer.bf16

    def compare(self, batch: Batch) -> dict[str, float]:
        def loss() -> Any:
            result = self.run.players[0].objective(self.model, batch, Draws(self.run.seed, 0))
            return result.sum / result.targets

        return comparable(self.model, loss)

    def front_end(self, batch: Batch) -> float:
        model: Any = self.model
        return front_end(model, model.frames, batch, self.bf16)

    def step(self, batch: Batch) -> None:
        _, _, findings = self.trainer.step([(batch, True)])
        assert not findings, findings
        self.trainer.state.update += 1
        synchronise()


class Theirs:
    """transformers' class in the loop of its public example."""

    def __init__(self, run: Run, engine: Any) -> None:
        import torch
        from accelerate import Accelerator
        from transformers import Wav2Vec2ForPreTraining

        self.run, self.bf16 = run, engine.bf16(run.loop.precision)
        spec: Any = run.model
        config = spec.config()
        config.mask_time_prob, config.mask_time_length = 0.65, 10  # as the example's README; before overlap
        self.model = Wav2Vec2ForPreTraining(config).train()
        self.model.load_state_dict(build(run).network.state_dict())
        self.accelerator = Accelerator(cpu=engine.device.type == "cpu", mixed_precision="bf16" if self.bf16 else "no")
        optim = run.players[0].optim
        optimizer = torch.optim.AdamW(list(self.model.parameters()), lr=optim.lr, betas=optim.betas, eps=optim.eps)
        self.plain = self.model
        self.model, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        self.update = 0

    def draw(self, batch: Batch) -> dict[str, Any]:
        """What the example's collator adds to a batch."""
        import torch
        from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

        config = self.plain.config
        steps = int(self.plain._get_feat_extract_output_lengths(batch.x.shape[1]))
        attention = batch.valid.long()
        valid = self.plain._get_feature_vector_attention_mask(steps, attention)
        shape = (len(batch.rows), steps)
        masked = _compute_mask_indices(shape, config.mask_time_prob, config.mask_time_length, attention_mask=valid)
        negatives = _sample_negative_indices(shape, config.num_negatives, mask_time_indices=masked)
        where = batch.x.device
        return {
            "input_values": batch.x,
            "attention_mask": attention,
            "mask_time_indices": torch.tensor(masked, dtype=torch.long, device=where),
            "sampled_negative_indices": torch.tensor(negatives, dtype=torch.long, device=where),
        }

    def compare(self, batch: Batch) -> dict[str, float]:
        """With our mask, negatives and noise of update 0."""
        import torch

        from overture.data.masks import batch_mask
        from overture.objectives.contrastive import sample_negatives
        from overture.quantize.gumbel import gumbel_noise

        spec: Any = self.run.model
        objective: Any = self.run.players[0].objective
        draws, where = Draws(self.run.seed, 0), batch.x.device
        steps = self.plain._get_feat_extract_output_lengths(batch.lengths)
        total = int(steps.max())
        mask = batch_mask(objective.mask, batch.rows, steps, total, spec.frame_rate, draws)
        counts, at = mask.sum(1), mask.flatten().nonzero().squeeze(1)
        negatives = torch.zeros(mask.numel(), objective.negatives, dtype=torch.int64, device=where)
        negatives[at] = at[sample_negatives(draws, batch.rows, counts, objective.negatives)]
        noise = torch.zeros(mask.numel(), spec.groups, spec.entries, device=where)
        noise[at] = gumbel_noise(draws, batch.rows, counts, spec.groups, spec.entries)
        self.plain.set_gumbel_temperature(objective.temperature.at(0))

        def loss() -> Any:
            with given_noise(noise):
                # the class itself, not accelerate's wrapping of it: that one would compute in bf16
                output = type(self.plain).forward(
                    self.plain,
                    batch.x,
                    attention_mask=batch.valid.long(),
                    mask_time_indices=mask,
                    sampled_negative_indices=negatives.view(*mask.shape, -1),
                )
            return output.loss / mask.sum()

        return comparable(self.plain, loss)

    def front_end(self, batch: Batch) -> float:
        return front_end(self.plain, self.plain.wav2vec2.feature_extractor, batch, self.bf16)

    def step(self, batch: Batch) -> None:
        inputs = self.draw(batch)
        count = inputs["mask_time_indices"].sum()
        output = self.model(**inputs)
        self.accelerator.backward(output.loss)
        norm = 0.0
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.data.mul_(1 / count)
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                norm += parameter.grad.detach().data.norm(2).item() ** 2
        assert np.isfinite(norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.plain.set_gumbel_temperature(max(2.0 * 0.999995**self.update, 0.5))
        self.update += 1
        synchronise()


@contextmanager
def given_noise(noise: Any) -> Iterator[None]:
    """torch's `gumbel_softmax` with noise that is given instead of drawn."""
    import torch

    drawn = torch.nn.functional.gumbel_softmax

    def softmax(logits: Any, tau: float, hard: bool) -> Any:
        soft = torch.softmax((logits + noise.view_as(logits)) / tau, -1)
        one = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
        return one - soft.detach() + soft

    torch.nn.functional.gumbel_softmax = softmax
    try:
        yield
    finally:
        torch.nn.functional.gumbel_softmax = drawn


def side(kind: type[Ours] | type[Theirs], run: Run, clips: int, seconds: float) -> None:
    """Compare, then take turns. On a GPU: time the largest batch that fits, alone on it."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from overture.train.engine import Engine

    with Engine.start() as engine:
        batch = the_batch(clips, seconds).to(engine.device)
        this = kind(run, engine)
        ready = {
            **this.compare(batch),
            "front_end": this.front_end(batch),
            "parameters": sum(p.numel() for p in (this.model if kind is Ours else this.plain).parameters()),  # type: ignore[union-attr]
            "precision": "bf16" if this.bf16 else "fp32",
            "threads": torch.get_num_threads(),
            "audio_seconds": float(batch.lengths.sum()) / 16_000,
        }
        with FlopCounterMode(display=False) as counter:
            this.step(batch)
        ready["flops"] = counter.get_total_flops()
        if engine.device.type == "cpu":
            take_turns(partial(this.step, batch), **ready)
        else:
            reply(**ready, **largest(this, seconds))


def largest(this: Ours | Theirs, seconds: float) -> dict[str, Any]:
    """The largest number of clips in powers of two that fits the GPU, how long a step of it takes, and the memory it needs."""
    import torch

    from overture.train.engine import Engine
    from overture.train.speed import matrix_peak

    found: dict[str, Any] = {}
    clips = 8
    while True:
        try:
            batch = the_batch(clips, seconds).to("cuda")
            torch.cuda.reset_peak_memory_stats()
            value = cost_of(partial(this.step, batch), repeats=5)
        except torch.OutOfMemoryError:
            break
        audio = float(batch.lengths.sum()) / 16_000
        peak = torch.cuda.max_memory_allocated() / 2**20
        found = {"clips": clips, "seconds": value, "hours_per_second": audio / 3600 / value, "peak_mb": peak}
        clips *= 2
    torch.cuda.empty_cache()
    return {"largest": found, "matrix_peak": matrix_peak(Engine(0, 1, torch.device("cuda")), this.bf16)}


def loss_alone(ours: bool, run: Run, clips: int, seconds: float) -> None:
    """From outputs of the Transformer and code vectors, both (B, T, P), to their gradients: time, and memory above what they take."""
    import torch

    from overture.data.masks import batch_mask
    from overture.objectives.contrastive import contrastive_loss, sample_negatives

    spec: Any = run.model
    objective: Any = run.players[0].objective
    where, total = device(), round(seconds * spec.frame_rate)
    rows, draws = torch.arange(clips), Draws(0, 0)
    mask = batch_mask(objective.mask, rows, torch.full((clips,), total), total, spec.frame_rate, draws)
    counts, at = mask.sum(1), mask.flatten().nonzero().squeeze(1).to(where)
    negatives = sample_negatives(draws, rows, counts, objective.negatives).to(where)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, spec.entries, (mask.numel(), spec.groups), generator=generator).to(where)
    codes = torch.randn(spec.groups, spec.entries, spec.projection // spec.groups, generator=generator).to(where)
    quantized = torch.cat([codes[g][ids[:, g]] for g in range(spec.groups)], 1).view(clips, total, -1).requires_grad_()
    context = torch.randn(clips, total, spec.projection, generator=generator).to(where).requires_grad_()
    work: Callable[[], Any]
    if ours:

        def work() -> Any:
            flat = context.flatten(0, 1)[at], quantized.flatten(0, 1)[at]
            return contrastive_loss(*flat, negatives, counts=counts.tolist(), ids=ids[at]).sum
    else:
        everywhere = torch.zeros(mask.numel(), objective.negatives, dtype=torch.int64, device=where)
        everywhere[at] = at[negatives]
        model = only_the_loss(run, context, quantized).to(where)
        inputs = {"mask_time_indices": mask.to(where), "sampled_negative_indices": everywhere.view(clips, total, -1)}

        def work() -> Any:
            return model(torch.zeros(clips, 1, device=where), **inputs).contrastive_loss

    values: list[float] = []

    def whole() -> None:
        context.grad = quantized.grad = None
        loss = work()
        loss.backward()
        values.append(float(loss.detach()))

    memory = peak_of(whole)
    assert context.grad is not None and quantized.grad is not None
    norm = float(context.grad.norm() + quantized.grad.norm())
    reply(memory_mb=memory, seconds=cost_of(whole), loss=values[0], grad_norm=norm)


def only_the_loss(run: Run, context: Any, quantized: Any) -> Any:
    """transformers' class whose encoder and quantizer give what they are given, so that nothing but its own loss is left."""
    import torch
    from transformers import Wav2Vec2ForPreTraining
    from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2BaseModelOutput

    class Given(torch.nn.Module):
        def __init__(self, value: Any) -> None:
            super().__init__()
            self.value = value

        def forward(self, *_: Any, **__: Any) -> Any:
            return self.value

    spec: Any = run.model
    model = Wav2Vec2ForPreTraining(replace(spec, layers=1).config())
    model.wav2vec2 = Given(Wav2Vec2BaseModelOutput(last_hidden_state=context, extract_features=quantized))
    model.quantizer = Given((quantized, torch.tensor(1.0)))
    model.project_hid = model.project_q = torch.nn.Identity()
    model.project_q.weight = quantized  # whose dtype it asks for
    return model.eval()


def peak_of(work: Callable[[], Any]) -> float:
    """MB that `work` needs above what is there already (on a CPU: above the most that the process has had)."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def one_size(size: str, options: list[str], *, quick: bool) -> dict[str, Any]:
    """Everything about one size of the network."""
    import torch

    options = ["--size", size, *options]
    names = ("ours", "transformers")
    ready: dict[str, dict[str, Any]] = {}
    found: dict[str, dict[str, Any]] = {}
    if torch.cuda.is_available():  # one after the other: each may have all of its memory
        for name in names:
            command = [str(Path(__file__)), "--side", name, *options]
            ready[name] = run_process([sys.executable, *command]).answer
            found[name] = {"seconds": {"median": ready[name]["largest"]["seconds"]}, **ready[name]["largest"]}
    else:
        sides = {name: Side(__file__, name, *options) for name in names}
        ready = {name: each.ready for name, each in sides.items()}
        agree(ready)
        alternate(list(sides.values()), 2 if quick else ROUNDS[size])
        for name, each in sides.items():
            found[name] = {
                "seconds": each["seconds"],
                "cpu_seconds": each["cpu"],
                "peak_memory_mb": round(each.close()),
            }
            audio = ready[name]["audio_seconds"] / 3600
            found[name]["hours_per_second"] = audio / found[name]["seconds"]["median"]
    agree(ready)
    loss = {name: run_process([sys.executable, __file__, "--side", f"loss-{name}", *options]).answer for name in names}
    agree(loss)
    ours, peer = (found[name] for name in names)
    return {
        "ours": ours,
        "transformers": peer,
        "ratio": ours["hours_per_second"] / peer["hours_per_second"],
        "loss_alone": loss,
        "loss_memory_ratio": loss["transformers"]["memory_mb"] / max(loss["ours"]["memory_mb"], 1e-3),
        "loss_time_ratio": loss["transformers"]["seconds"] / loss["ours"]["seconds"],
        "front_end_seconds": {name: ready[name]["front_end"] for name in names},
        "compared": {name: {k: ready[name][k] for k in ("loss", "grad_norm")} for name in names},
        "gflop_per_update": {name: ready[name]["flops"] / 1e9 for name in names},
        "parameters": ready["ours"]["parameters"],
        "precision": ready["ours"]["precision"],
        "threads": ready["ours"]["threads"],
        **({"matrix_peak_gflop_per_s": ready["ours"]["matrix_peak"] / 1e9} if "matrix_peak" in ready["ours"] else {}),
    }


def agree(sides: dict[str, dict[str, Any]]) -> None:
    """Raises RuntimeError when the two sides do not compute the same."""
    for name, tolerance in (("loss", 1e-4), ("grad_norm", 1e-3)):
        a, b = (side[name] for side in sides.values())
        if abs(a - b) > tolerance * abs(a):
            raise RuntimeError(f"the sides do not compute the same {name}: {a} and {b}")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--size", choices=list(SIZES))
    args = options.parse_args()
    clips, seconds = (2, 1.5) if args.quick else (4, 10.0)
    if args.side:
        run = the_run(args.size)
        if args.side.startswith("loss-"):
            loss_alone(args.side == "loss-ours", run, clips, seconds)
        else:
            side(Ours if args.side == "ours" else Theirs, run, clips, seconds)
        return
    about = machine()
    sizes = {}
    for size in SIZES:
        print(f"{size}: ours, transformers", flush=True)
        sizes[size] = one_size(size, ["--work", str(args.work), *(["--quick"] if args.quick else [])], quick=args.quick)
    main_size = sizes["small"]
    result = {
        "work": "one wav2vec 2.0 update, 4 x 10 s of audio, mask to AdamW; 4 layers of H=256 (wav2vec2:default), BASE under 'sizes'",
        "ours": main_size["ours"],
        "peer": {
            "name": "transformers.Wav2Vec2ForPreTraining in its public example's loop",
            **main_size["transformers"],
        },
        "ratio": main_size["ratio"],
        "runs": ROUNDS["small"],
        "machine": about,
        "versions": versions("transformers", "accelerate"),
        "sizes": sizes,
        "notes": [
            "Losses and gradient norms of the first update, fp32 and without dropout, agree to 1e-4 and 1e-3 before timing.",
            "ratio: hours of audio a second, ours over the peer's; on a GPU each side with the largest batch that fits it.",
            "loss_alone: contrastive loss and its gradients from (B, T, P) outputs and code vectors, fp32, in a process of its own.",
            "front_end_seconds: the seven convolutions, forward and backward, of the same batch.",
        ],
    }
    finish("wav2vec2_step", result, quick=args.quick)


if __name__ == "__main__":
    main()
