"""From nothing to the first batch, deep in an epoch of a million rows.

COMMAND   python benchmarks/resume_time.py
RUNTIME   3 minutes on two cores (the uninterrupted runs, done once a side to compare with, are most of it)

A synthetic table of 1 M rows (1-20 s) in Parquet, and a source that gives a small array for each row, so that what is measured is
finding the place, not reading audio. Utterances longer than 15 s are cropped at a drawn place, as in training. Each turn is a fresh
process; imports are not counted.
  ours        Training.prepare and Training.stream from a Position, as `overture run` resumes; and Table.fingerprint, by which it holds the
              table against the run's
  accelerate  a DataLoader (two workers, seedable sampler, shuffled batches of 12) under Accelerator.prepare, load_state, then
              skip_first_batches, as its documentation resumes
"Exact" is asked of the first eight batches after resuming: the same rows, and the same arrays (crops included), as an uninterrupted run sees there.
"""

import hashlib
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common import cpu_seconds, finish, machine, parser, reply, run_process, summary, versions

ROUNDS = 5
DEPTH = 0.6  # of an epoch
LOOKED_AT = 8  # batches after resuming
BATCH = 12
LONGEST = 15.0  # s
RATE = 10.0  # Hz, of the small arrays' steps
SEED = 0


def make_table(home: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(SEED)
    columns = {
        "id": [f"utterance-{i:07d}" for i in range(rows)],
        "audio": [f"audio/{i // 1000:04d}/{i:07d}.flac" for i in range(rows)],
        "start": np.zeros(rows),
        "duration": np.clip(1.0 + rng.gamma(2.5, 2.4, rows), 1.0, 20.0).round(3),
        "speaker": [f"speaker-{i % 5000}" for i in range(rows)],
        "language": ["en"] * rows,
        "text": [f"what was said in utterance {i}" for i in range(rows)],
        "sha1": [hashlib.sha1(str(i).encode()).hexdigest() for i in range(rows)],
    }
    part = home.with_name(home.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    pq.write_table(pa.table(columns), part / "table.parquet")
    (part / "corpus.json").write_text(json.dumps({"name": home.name}))
    shutil.rmtree(home, ignore_errors=True)
    part.rename(home)


def small_array(index: int, duration: float) -> np.ndarray:
    """(T, 1) float32 that tells where it was cropped."""
    steps = round(duration * RATE)
    return (np.arange(steps, dtype=np.float32) + np.float32(index % 1000))[:, None]


class Small:
    """A source without recordings."""

    def __init__(self, durations: np.ndarray) -> None:
        self.durations = durations

    def __getitem__(self, index: int) -> np.ndarray:
        return small_array(index, float(self.durations[index]))


def marks(rows: Any, x: Any, lengths: Any) -> list[str]:
    """A batch as two hashes: its rows, and all it holds."""
    row_bytes = np.asarray(rows, dtype=np.int64).tobytes()
    whole = row_bytes + np.asarray(x, dtype=np.float32).tobytes() + np.asarray(lengths, dtype=np.int64).tobytes()
    return [hashlib.sha1(row_bytes).hexdigest()[:12], hashlib.sha1(whole).hexdigest()[:12]]


def ours(home: Path, *, resume: bool) -> None:
    import torch

    from overture.data.features import LogMel
    from overture.data.plan import Position
    from overture.recipes import tera
    from overture.run import Data
    from overture.train.engine import Engine
    from overture.train.examples import Training

    run = tera.default()
    run = replace(run, data=Data(corpus=str(home), max_seconds=LONGEST, cache=False), frontend=LogMel(hop=1 / RATE))
    cpu, begun = cpu_seconds(), time.perf_counter()
    training = Training.prepare(run)
    fingerprint = training.examples.table.fingerprint
    training = replace(
        training, examples=replace(training.examples, source=Small(training.examples.table.numpy("duration")))
    )
    updates = len(training.plan.updates(0))
    there = int(updates * DEPTH)
    engine, seen = Engine(0, 1, torch.device("cpu")), []
    stream = training.stream(there if resume else 0, Position(0, there if resume else 0), engine)
    first = cpu_first = 0.0
    for number, (_, batches) in enumerate(stream, start=there if resume else 0):
        if not first:
            first, cpu_first = time.perf_counter() - begun, cpu_seconds() - cpu
        if number >= there:
            batch = batches[0][0]
            seen.append(marks(batch.rows, batch.x, batch.lengths))
        if len(seen) == LOOKED_AT:
            break
    stream.close()  # type: ignore[attr-defined]
    reply(seconds=first, cpu=cpu_first, marks=seen, position=there, fingerprint=fingerprint)


def accelerated(home: Path, *, resume: bool) -> None:
    import pyarrow.parquet as pq
    import torch
    from accelerate import Accelerator, skip_first_batches
    from accelerate.utils import DataLoaderConfiguration

    class Items(torch.utils.data.Dataset[Any]):
        def __init__(self, durations: np.ndarray) -> None:
            self.durations = durations

        def __len__(self) -> int:
            return len(self.durations)

        def __getitem__(self, index: int) -> Any:
            x, longest = torch.from_numpy(small_array(index, float(self.durations[index]))), round(LONGEST * RATE)
            if len(x) > longest:
                start = int(torch.randint(len(x) - longest + 1, ()))
                x = x[start : start + longest]
            return index, x

    def pad(items: list[Any]) -> Any:
        rows, parts = zip(*items)
        lengths = torch.tensor([len(p) for p in parts])
        return torch.tensor(rows), torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True), lengths

    state = home / "accelerate-state"
    cpu, begun = cpu_seconds(), time.perf_counter()
    torch.manual_seed(SEED)
    items = Items(pq.read_table(home / "table.parquet", columns=["duration"]).column("duration").to_numpy())
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True))
    loader = accelerator.prepare(
        torch.utils.data.DataLoader(items, batch_size=BATCH, shuffle=True, num_workers=2, collate_fn=pad)
    )
    there = int(len(loader) * DEPTH)
    if resume:
        accelerator.load_state(str(state))
        loader = skip_first_batches(loader, there)
    first, seen, cpu_first = 0.0, [], 0.0
    for number, batch in enumerate(loader, start=there if resume else 0):
        if not first:
            first, cpu_first = time.perf_counter() - begun, cpu_seconds() - cpu
        if number >= there:
            seen.append(marks(*batch))
        if len(seen) == LOOKED_AT:
            break
        if number == there - 1:
            accelerator.save_state(str(state))
    reply(seconds=first, cpu=cpu_first, marks=seen, position=there)


def main() -> None:
    args = parser(__doc__).parse_args()
    rows = 20_000 if args.quick else 1_000_000
    args.work.mkdir(parents=True, exist_ok=True)
    home = args.work.resolve() / f"table-{rows}"
    if args.side:
        {
            "make": lambda: make_table(home, rows),
            "ours": lambda: ours(home, resume=True),
            "ours-whole": lambda: ours(home, resume=False),
            "accelerate": lambda: accelerated(home, resume=True),
            "accelerate-whole": lambda: accelerated(home, resume=False),
        }[args.side]()
        return
    about = machine()

    def side(name: str) -> Any:
        return run_process(
            [sys.executable, __file__, "--side", name, "--work", str(args.work), *(["--quick"] if args.quick else [])]
        )

    if not (home / "table.parquet").exists():
        print(f"making a table of {rows} rows", flush=True)
        side("make")
    names, uninterrupted = ("ours", "accelerate"), {}
    for name in names:
        print(f"uninterrupted: {name}", flush=True)
        uninterrupted[name] = side(f"{name}-whole").answer["marks"]
    rounds = 2 if args.quick else ROUNDS
    costs: dict[str, list[Any]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            costs[name].append(side(name))
    sides = {}
    for name, runs in costs.items():
        answers = [run.answer for run in runs]
        there, expected = [m for a in answers for m in a["marks"]], uninterrupted[name] * rounds
        sides[name] = {
            "seconds": summary([a["seconds"] for a in answers]),
            "cpu_seconds": summary([a["cpu"] for a in answers]),
            "same_rows": [m[0] for m in there] == [m[0] for m in expected],
            "same_arrays": there == expected,
            "position": answers[0]["position"],
            "seconds_with_imports": summary([run.seconds for run in runs]),
        }
    result = {
        "work": f"resume at {DEPTH:.0%} of an epoch over {rows} rows: from opening the table to the first batch",
        "ours": sides["ours"],
        "peer": {"name": "accelerate.skip_first_batches after load_state", **sides["accelerate"]},
        "ratio": sides["accelerate"]["seconds"]["median"] / sides["ours"]["seconds"]["median"],
        "runs": rounds,
        "machine": about,
        "versions": versions("accelerate", "pyarrow"),
        "notes": [
            "Ours includes hashing the whole table (its fingerprint) and dealing the epoch by length; the peer's batches have a fixed size.",
            "The peer's items are a map-style data set, for which skipping reads no item; with an iterable one it would read all that it skips.",
            "same_arrays asks for the crops too; the peer restores the main process's generators, but its workers draw from new ones.",
        ],
    }
    finish("resume_time", result, quick=args.quick)


if __name__ == "__main__":
    main()
