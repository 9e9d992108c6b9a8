"""The one training loop, for every recipe.

An update is: the rows the plan says, dealt out; for each player, forward and backward over its micro-batches; one division
by the global number of targets; clip; step. Everything random is a function of (seed, update, row), so an interrupted run
goes on to the bit where it was.
"""

import platform
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import overture
from overture import jsonfile
from overture.config import to_dict
from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.models import origin
from overture.models import start as starts
from overture.models.transforms.apply import apply
from overture.run import Cycling, Learning, Player, Run
from overture.train import health
from overture.train import state as checkpoint
from overture.train.engine import Engine, TrainStep
from overture.train.examples import Batches, Training
from overture.train.optim import InBackward, build_optimizer, clip_, frozen_now, rate, share_parameters
from overture.train.teacher import find_teacher, listens_to
from overture.train.track import JsonlTracker, Tracker

Record = dict[str, Any]


@dataclass(frozen=True)
class Pass:
    """What the forward and backward passes of one player in one update gave."""

    loss: float  # mean over all targets of all devices
    targets: float
    norm: float  # of the gradient, before clipping
    watch: dict[str, Tensor]
    frames: Tensor  # (N, D)


class Trainer:
    """The model, optimizers and state of one run on one device among `engine.world`."""

    def __init__(self, run: Run, engine: Engine, home: Path | None = None) -> None:
        """`home`: what `run.start` is relative to. Raises OvertureError when that is not there or does not fit."""
        self.run, self.engine = run, engine
        health.check_tolerated(run.loop.tolerate)
        torch.manual_seed(run.seed)
        model: nn.Module = run.model.build(run.frontend)
        if run.grow is not None and run.start is None:
            raise OvertureError(
                "grow is set and there is nothing to grow: name a smaller run with --start, or leave it out"
            )
        self.start = None if run.start is None else starts.load(run, model, home or Path("runs"))
        if run.transform is not None:
            taught = run.start is not None or getattr(run.model, "published", False)
            apply(model, run.transform, seed=run.seed, trained=taught)
        model = model.to(engine.device).train()
        teacher = find_teacher(run, model, home or Path("runs"))
        own = share_parameters(model, run.players)
        if engine.world > 1 and engine.kind == "fsdp" and len(run.players) > 1:
            raise OvertureError("FSDP trains recipes of one player; use --engine ddp for this one")
        self.parameters = own
        engine.shard(model)
        self.wrapped = []
        for player in run.players:
            with self._only(player):
                self.wrapped.append(engine.wrap(TrainStep(model, player.objective)))
        self.parameters = own = share_parameters(model, run.players)  # anew: FSDP has replaced them by their shards
        trained = {n: p for parameters in own for n, p in parameters.items()}
        self.state = checkpoint.State(
            model=model,
            optimizers={p.name: build_optimizer(parameters, p.optim) for p, parameters in zip(run.players, own)},
            ema={n: p.detach().clone() for n, p in trained.items()} if run.loop.ema else None,
        )
        if teacher is not None:
            if "average" in listens_to(run):
                teacher.follow(self.state.ema or {}, model)
            model.teacher = teacher  # type: ignore[assignment]  # no module: neither trained nor stored
        self.bf16 = engine.bf16(run.loop.precision)
        self.gradients = health.GradientWatch(trained)
        self.early = [
            InBackward(parameters, self.state.optimizers[p.name], p.optim, engine.world, self.gradients)
            if p.optim.in_backward
            else None
            for p, parameters in zip(run.players, own)
        ]
        learnt = [p.objective.learns for p in run.players if isinstance(p.objective, Learning)]
        self.motion = health.MotionWatch(model, learnt)

    @contextmanager
    def _only(self, player: Player, but: Sequence[nn.Parameter] = ()) -> Iterator[None]:
        """Only the parameters of `player` ask for gradients, and of these not `but`."""
        others = [p for q, own in zip(self.run.players, self.parameters) if q is not player for p in own.values()]
        others += but
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)

    def backward(self, index: int, batches: Batches, draws: Draws, resting: Sequence[nn.Parameter] = ()) -> Pass:
        """Gradients of player `index`, divided by the global number of targets and clipped; none of `resting`. Where its optimizer works in the
        backward pass (and is not switched off), parameters have stepped and there are no gradients left.

        DDP and FSDP wait for a gradient of each parameter that they were given: there those of `resting` are computed and dropped.
        """
        player, wrapped, own = self.run.players[index], self.wrapped[index], self.parameters[index]
        early = self.early[index]
        if early is not None and len(batches) > 1:
            raise OvertureError(
                f"players.{index}.optim.in_backward steps after each micro-batch, and this update has {len(batches)}: raise plan.micro and "
                "plan.longest_squared, or lower plan.update"
            )
        self.state.optimizers[player.name].zero_grad(set_to_none=True)
        total = torch.zeros(2, dtype=torch.float64, device=self.engine.device)  # loss sum, targets
        with self._only(player, resting if self.engine.world == 1 else ()):
            for i, (batch, real) in enumerate(batches):
                draws.seed_torch((index * len(batches) + i) * self.engine.world + self.engine.rank)
                with self.engine.accumulate(wrapped, last=i == len(batches) - 1):
                    with torch.autocast(self.engine.device.type, torch.bfloat16, enabled=self.bf16):
                        loss = wrapped(batch.to(self.engine.device), draws)
                    if early is not None:
                        early.begin(loss)
                    (loss.sum * float(real)).backward()
                if real:
                    total += torch.stack([loss.sum.detach().double(), loss.targets.double()])
        loss_sum, targets = self.engine.sum(total).tolist()
        if early is not None:
            return Pass(loss_sum / max(targets, 1.0), targets, early.norm, loss.watch, loss.frames)
        for parameter in resting:
            parameter.grad = None
        gradients = [p.grad for p in own.values() if p.grad is not None]
        torch._foreach_mul_(gradients, self.engine.world / max(targets, 1.0))  # the engine averaged over devices
        norm = clip_(list(own.values()), player.optim.clip)
        full: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        return Pass(loss_sum / max(targets, 1.0), targets, float(full), loss.watch, loss.frames)

    def try_largest(self, training: Training) -> int:
        """Compute the largest planned update and learn nothing from it: memory fails now or never. Its FLOPs, on all devices.

        Raises OvertureError when it does not fit in memory.
        """
        batches = training.largest(self.engine)
        model = self.state.model
        buffers = {n: b.clone() for n, b in model.named_buffers()}
        try:
            flops = 0.0
            for index, player in enumerate(self.run.players):
                cycle = player.objective.cycle(model) if isinstance(player.objective, Cycling) else 1
                with FlopCounterMode(display=False) as counter:
                    for update in range(cycle):
                        self.backward(index, batches, Draws(self.run.seed, update))
                flops += counter.get_total_flops() / cycle
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise OvertureError(
                f"the largest planned micro-batch ({self.run.plan.micro:g} {training.examples.unit}) does not fit in memory: "
                "lower plan.micro; the update stays the same, by accumulation"
            ) from error
        for parameter in model.parameters():
            parameter.grad = None
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        return int(flops) * self.engine.world

    def step(self, batches: Batches) -> tuple[Record, Pass, list[health.Finding]]:
        """One update: the numbers to record, those of the first player to look into, and what health finds.

        Where these are not finite, no weight of the player at fault has changed (of one that steps in the backward pass, none whose own
        gradient was not finite).
        """
        state, run = self.state, self.run
        draws = Draws(run.seed, state.update)
        record: Record = {}
        first: Pass | None = None
        still = 0  # parameters that do not learn yet, and so are not missed
        for index, player in enumerate(run.players):
            if state.update % player.every:
                continue
            resting = frozen_now(player, self.parameters[index], state.update)
            still += len(resting)
            optimizer, early = state.optimizers[player.name], self.early[index]
            lr = rate(player.optim, state.update, run.loop.updates)
            for group in optimizer.param_groups:
                group["lr"] = lr
            with nullcontext() if early is None else early.stepping():
                result = self.backward(index, batches, draws, resting)
            first = first or result
            mark = f"{player.name}/" if index else ""
            record |= {f"{mark}loss": result.loss, f"{mark}grad_norm": result.norm, f"{mark}lr": lr}
            ill = health.check_finite(result.loss, result.norm)
            if ill:
                return record, result, [ill]
            if early is None:
                optimizer.step()
        if first is None:
            raise OvertureError("no player takes part in every update: one needs every = 1")
        if run.loop.ema:
            state.average(run.loop.ema)
        return record, first, [f for f in (None if still else self.gradients.look(), self.motion.look()) if f]


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended."""

    folder: Path
    finished: bool  # false: interrupted, the same call goes on
    updates: int
    seconds: float  # of training, over all starts
    flops: float
    audio_hours: float = 0.0  # of speech, or
    tokens: float = 0.0  # of text


def train(
    run: Run,
    folder: Path,
    *,
    engine: Engine,
    trackers: Sequence[Callable[[Path], Tracker]] = (),
    on_record: Callable[[Record], None] | None = None,
    on_progress: Callable[[str, float], None] | None = None,
) -> Outcome:
    """Train `run` in `folder`, from its newest checkpoint if it has one, to its end, a Ctrl-C or an illness.

    Raises IllRun when a health rule stops it, OvertureError for bad data, no memory, no disk.
    """
    training = Training.prepare(run, on_progress)
    trainer = Trainer(run, engine, folder.parent)
    state = trainer.state
    _describe(run, folder, training, trainer)
    resumed = checkpoint.restore(state, folder)
    if trainer.start and not resumed and engine.first and on_record is not None:
        on_record({"kind": "start", "text": starts.said(trainer.start)})
    flops_file = folder / "flops.json"
    if not resumed:
        flops = trainer.try_largest(training)
        if engine.first:
            rows = training.plan.largest()
            padded = len(rows) * float(training.plan.lengths[rows].max())
            jsonfile.write(flops_file, {"flops_per_padded_unit": flops / padded})
    engine.barrier()
    flops_per_unit = jsonfile.read_object(flops_file)["flops_per_padded_unit"]
    open_trackers: list[Tracker] = []
    if engine.first:
        open_trackers = [JsonlTracker(folder, resumed_at=state.update), *(t(folder) for t in trackers)]

    def tell(record: Record) -> None:
        for tracker in open_trackers:
            tracker.log(record)
        if engine.first and on_record is not None:
            on_record(record)

    keep_at = run.loop.keep_at or ()

    def write() -> None:
        path = checkpoint.save(state, folder, engine, keep=run.loop.keep, always=keep_at)
        tell({"kind": "checkpoint", "update": state.update, "seconds": state.seconds, "path": path.name})

    still = any(getattr(getattr(p.objective, "temperature", None), "still", False) for p in run.players)
    watching = health.Watch([health.STUCK] if still else [])
    tolerated: set[str] = set()  # rules that have fired and are told of once

    def stop_if_ill(findings: list[health.Finding], rows: np.ndarray) -> None:
        for finding in (f for f in findings if f.rule not in tolerated):
            tell(
                {
                    "kind": "health",
                    "update": state.update,
                    "rule": finding.rule,
                    "message": finding.message,
                    "stopped": finding.rule not in run.loop.tolerate,
                }
            )
        stopping = [f for f in findings if f.rule not in run.loop.tolerate]
        tolerated.update(f.rule for f in findings if f.rule in run.loop.tolerate)
        if stopping:
            if engine.first:
                ids = training.examples.ids(rows)
                jsonfile.write(folder / "bad_update.json", {"update": state.update, "rows": ids})
            raise health.IllRun(f"stopped at update {state.update}: {stopping[0].rule}: {stopping[0].message}")

    stream = training.stream(state.update, state.position, engine)
    padded = real = targets = 0.0
    since = time.perf_counter()
    saved = state.update if resumed else -1
    try:
        if saved < 0 and 0 in keep_at:
            write()
            saved = 0
        with _interrupt() as interrupted:
            while state.update < run.loop.updates:
                begun = time.perf_counter()
                rows, batches = next(stream)
                record, result, findings = trainer.step(batches)
                stop_if_ill(findings, rows)
                lengths = training.seen(rows, state.update)
                padded, real = padded + len(rows) * float(lengths.max()), real + float(lengths.sum())
                targets += result.targets
                state.update += 1
                state.position = state.position.next(training.plan)
                state.seconds += time.perf_counter() - begun
                state.seen += float(lengths.sum())
                stop = engine.sum(torch.tensor(float(interrupted()), device=engine.device)).item() > 0
                last = state.update == run.loop.updates
                if state.update % run.loop.log_every == 0 or last or state.update == 1:
                    watch = health.spread(result.frames) | {n: float(v) for n, v in result.watch.items()}
                    mean = engine.sum(torch.tensor(list(watch.values()), dtype=torch.float64, device=engine.device))
                    watch = dict(zip(watch, (mean / engine.world).tolist()))  # one verdict on all devices
                    now = time.perf_counter()
                    tell(
                        {
                            "kind": "update",
                            "update": state.update,
                            "updates": run.loop.updates,
                            "epoch": state.position.epoch,
                        }
                        | record
                        | {
                            "seconds": state.seconds,
                            "targets": result.targets,
                            "targets_per_s": targets / (now - since),
                            **heard(training.examples.unit, state.seen),
                            "padding": 1 - real / padded,
                            "watch": watch,
                        }
                    )
                    padded = real = targets = 0.0
                    since = now
                    stop_if_ill(watching.check({"update": state.update, **watch}), rows)
                if state.update % run.loop.checkpoint_every == 0 or state.update in keep_at or last or stop:
                    write()
                    saved = state.update
                if stop:
                    break
        if saved < 0:  # a run of no updates still leaves its weights
            write()
    finally:
        stream.close()  # type: ignore[attr-defined]  # a generator: ends its threads
        for tracker in open_trackers:
            tracker.close()
    done = state.update >= run.loop.updates
    seen = heard(training.examples.unit, state.seen)
    return Outcome(folder, done, state.update, state.seconds, flops=flops_per_unit * state.seen, **seen)


def heard(unit: str, seen: float) -> dict[str, float]:
    """What a run has seen, as records and outcomes name it."""
    return {"audio_hours": seen / 3600} if unit == "seconds" else {"tokens": seen}


def _describe(run: Run, folder: Path, training: Training, trainer: Trainer) -> None:
    """Write `run.json`, or hold the one that is there against this run. Raises OvertureError when the data has changed."""
    path = folder / "run.json"
    data = training.examples.about()
    if path.exists():
        old = jsonfile.read_object(path)
        noted = old["data"].get("mixed_in", {})
        pairs = [(old["data"]["corpus"], old["data"]["fingerprint"], data["fingerprint"])]
        for name, then, now in [*pairs, *((n, noted.get(n), now) for n, now in data["mixed_in"].items())]:
            if then != now:
                raise OvertureError(
                    f"{folder} was trained on corpus {name!r} ({then}), which has changed since ({now}). "
                    "Move that folder away to start anew."
                )
        began = (old.get("start") or {}).get("weights")
        if trainer.start and began != trainer.start["weights"]:
            raise OvertureError(
                f"{folder} began with other weights ({began}) than {run.start} has now ({trainer.start['weights']}). "
                "Move that folder away to start anew."
            )
        return
    if not trainer.engine.first:
        return
    folder.mkdir(parents=True, exist_ok=True)
    training.examples.leave(folder)
    about = {
        "recipe": run.recipe,
        "size": run.size,
        "fingerprint": run.fingerprint,
        "config": to_dict(run),
        "data": data,
        "start": trainer.start,
        "teacher": origin.said_of_teacher(run, folder.parent),
        "voices": origin.said_of_voices(run),
        "parameters": sum(p.numel() for p in trainer.state.model.parameters()),
        "precision": "bf16" if trainer.bf16 else "fp32",
        "device": str(trainer.engine.device)
        if trainer.engine.world == 1
        else f"{trainer.engine.world} x {trainer.engine.device.type}",
        "versions": {"overture": overture.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "rules": health.WATCHED,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    jsonfile.write(path, about)


@contextmanager
def _interrupt() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM end the run after the update under way, with a checkpoint; a second Ctrl-C ends it at once."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked = True

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever runs us there stops us another way
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
