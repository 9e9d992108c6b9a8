"""What every benchmark shares: child processes that take turns, what they cost, and the JSON that is kept.

Each side of a comparison is a process of its own, so that neither inherits the other's imports, memory settings or caches, and
the two take turns, so that whatever else slows the machine down slows both. A ratio is the peer's median over ours, from one session.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"
REPLY = "@reply "  # marks a line of a side that is meant for `Side`, among whatever libraries print
PAUSE = 0.1  # s between turns: worker threads of the side before have gone to sleep


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options of every benchmark. Its script adds its own."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--work", type=Path, default=Path("runs/benchmarks"), help="folder for data that is made once")
    made.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works; writes no result")
    made.add_argument("--side", help=argparse.SUPPRESS)  # this process is that side of the comparison
    return made


def machine() -> dict[str, Any]:
    """The processor, its cores and the memory, and how busy it was with other things."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        model = next(
            (
                line.partition(":")[2].strip()
                for line in cpuinfo.read_text().splitlines()
                if line.startswith("model name")
            ),
            model,
        )
    return {
        "processor": model or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.system(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python, of Overture's main libraries and of `packages`."""
    return {"python": platform.python_version(), **{p: version(p) for p in ("overture", "torch", "numpy", *packages)}}


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Minimum, median and all values, in the order they were measured."""
    return {"min": min(values), "median": statistics.median(values), "all": [round(v, 6) for v in values]}


def write(name: str, result: Mapping[str, Any]) -> Path:
    """Keep a result as `results/NAME.json`."""
    keys = ("work", "ours", "peer", "ratio", "runs", "machine", "versions")
    missing = [k for k in keys if k not in result]
    if missing:
        raise ValueError(f"a result needs {', '.join(missing)}")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    dated = {**result, "date": datetime.now(UTC).date().isoformat()}
    path.write_text(json.dumps(dated, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    return path


def finish(name: str, result: Mapping[str, Any], *, quick: bool) -> None:
    """Print a result, and keep it unless sizes were tiny."""
    print(
        json.dumps({k: v for k, v in result.items() if k not in ("machine", "versions")}, indent=1, ensure_ascii=False)
    )
    if not quick:
        print(f"wrote benchmarks/results/{write(name, result).name}")


# --- a side that takes turns ---------------------------------------------------------------------------------------------


def cpu_seconds() -> float:
    """CPU time of this process and of those it has waited for."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def reply(**values: Any) -> None:
    """One answer of a side to its parent."""
    print(REPLY + json.dumps(values), flush=True)


def wait_for_turn() -> bool:
    """Blocks until the parent gives this side its turn; False when there will be none."""
    return sys.stdin.readline().strip() == "go"


def take_turns(work: Callable[[], Any], *, at_end: Callable[[], Any] | None = None, **ready: Any) -> None:
    """A side's main loop: say what is `ready`, then do `work` once a turn and answer with its cost; `at_end` gives what is said then."""
    reply(**ready)
    while wait_for_turn():
        cpu, begun = cpu_seconds(), time.perf_counter()
        work()
        reply(seconds=time.perf_counter() - begun, cpu=cpu_seconds() - cpu)
    if at_end is not None:
        reply(**at_end())


class Side:
    """A process that is one side of a comparison. Raises RuntimeError when it ends without an answer."""

    def __init__(self, script: str, side: str, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.name = side
        self.process = subprocess.Popen(
            [sys.executable, script, "--side", side, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.turns: list[dict[str, Any]] = []
        self.last: dict[str, Any] = {}
        self.ready = self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(REPLY):
                answer: dict[str, Any] = json.loads(line.removeprefix(REPLY))
                return answer
        raise RuntimeError(f"side {self.name!r} ended with status {self.process.wait()} and no answer")

    def turn(self, *, keep: bool = True) -> dict[str, Any]:
        """Let it do its work once."""
        assert self.process.stdin is not None
        time.sleep(PAUSE)
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        answer = self._read()
        if keep:
            self.turns.append(answer)
        return answer

    def close(self) -> float:
        """End it; the largest resident memory it had, in MB. `last` is then what it said at the end."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        said = [line for line in self.process.stdout.read().splitlines() if line.startswith(REPLY)]
        self.last = json.loads(said[-1].removeprefix(REPLY)) if said else {}
        _, status, used = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode:
            raise RuntimeError(f"side {self.name!r} ended with status {self.process.returncode}")
        return used.ru_maxrss / 1024

    def __getitem__(self, key: str) -> dict[str, Any]:
        return summary([t[key] for t in self.turns])


def alternate(sides: Sequence[Side], rounds: int, *, warm_up: int = 1) -> None:
    """`rounds` turns of each side, in turn, after `warm_up` that do not count; every other round in reverse order."""
    for number in range(-warm_up, rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            side.turn(keep=number >= 0)


def trainer_turns(model: Any, loss_of: Callable[[Any, Any, int], Any], optim: Any, work: Path, example: Any) -> None:
    """A side that is `transformers.Trainer` in our precision: a turn is what lies between its on_step_begin and on_step_end.

    `loss_of(model, inputs, update)`; `optim`: our `Optim`, of a constant rate; `example`: what its data set gives, batches of one.
    """
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Ended(Exception):
        """There are no more turns."""

    class Turns(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not wait_for_turn():
                raise Ended
            self.cpu, self.begun = cpu_seconds(), time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            reply(seconds=time.perf_counter() - self.begun, cpu=cpu_seconds() - self.cpu)

    class OurLoss(Trainer):  # type: ignore[misc]
        def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
            return loss_of(model, inputs, self.state.global_step)

    class Same(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 10_000

        def __getitem__(self, _: int) -> Any:
            return example

    arguments = TrainingArguments(
        output_dir=str(work / "transformers-trainer"),
        use_cpu=True,
        bf16=torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported(),  # as ours decides
        per_device_train_batch_size=1,
        max_steps=10_000,
        learning_rate=optim.lr,
        lr_scheduler_type="constant",
        adam_beta1=optim.betas[0],
        adam_beta2=optim.betas[1],
        weight_decay=optim.weight_decay,
        max_grad_norm=optim.clip,
        save_strategy="no",
        report_to=[],
        logging_strategy="no",
        disable_tqdm=True,
    )
    try:
        OurLoss(model, arguments, train_dataset=Same(), callbacks=[Turns()]).train()
    except Ended:
        return


# --- a whole process, with its children ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What a process and its children cost from start to end."""

    seconds: float
    cpu: float  # s, of all its processes
    peak_mb: (
        float  # of all its processes together, pages that they share counted once (PSS); 0 where it was not asked for
    )
    answer: dict[str, Any]  # the last reply it printed; {} when it printed none


def run_process(command: Sequence[str], *, env: Mapping[str, str] | None = None, memory: bool = False) -> Cost:
    """Run `command` to its end. Raises RuntimeError when it fails."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            peak[0] = max(peak[0], _tree_mb(process.pid))

    watcher = threading.Thread(target=watch, daemon=True)
    if memory:
        watcher.start()
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    done.set()
    if memory:
        watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[-4:])} ended with status {process.returncode}")
    replies = [json.loads(line.removeprefix(REPLY)) for line in output.splitlines() if line.startswith(REPLY)]
    return Cost(seconds, used.ru_utime + used.ru_stime, peak[0], replies[-1] if replies else {})


def _tree_mb(pid: int) -> float:
    """Proportional memory of a process and its children, MB."""
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:  # it ended meanwhile
                continue
    except psutil.Error:
        return 0.0
    return total / 2**20
