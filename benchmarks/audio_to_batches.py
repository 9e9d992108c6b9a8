"""10 hours of recordings of mixed length -> padded batches of features, ready for a model.

COMMAND   python benchmarks/audio_to_batches.py
RUNTIME   4 minutes on two cores (and 2 more the first time, to make the recordings and the stored features)

The recordings are stretches of the embedded corpus's real speech, 1 to 20 s (gamma, mean about 6 s), one 16 kHz FLAC file each. Every side
makes a whole epoch of batches of at most 120 s of padded audio in a fresh process; what is timed begins with opening the table or
manifest and ends with the last batch (imports are not counted).
  ours           Table, BatchPlan, Live, in_order and collate, as the training loop uses them; Kaldi's 80-channel fbank, as the peer
  lhotse         a lazy CutSet, DynamicBucketingSampler (30 buckets), K2SpeechRecognitionDataset with OnTheFlyFeatures(Fbank()) and a
                 DataLoader with a worker a core, as icefall sets it up
  ours-log-mel   ours with the front end of TERA: level, log-mel, mean and variance normalised over the utterance
  ours-stored    ours from the memory-mapped feature cache
  lhotse-stored  lhotse from precomputed features (NumpyFilesWriter, since lilcom is not one of its requirements any more)
Before timing, both fbanks are held against each other on some recordings.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from common import cpu_seconds, finish, machine, parser, reply, run_process, summary, versions

SIDES = ("ours", "lhotse", "ours-log-mel", "ours-stored", "lhotse-stored")
BATCH = 120.0  # s of padded audio at most
LONGEST = 20.0  # s
ROUNDS = 3
SEED = 0


def make_recordings(home: Path, hours: float) -> None:
    """The recordings with a table of ours and a manifest of lhotse's."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import soundfile as sf
    from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment

    from overture.data import audio
    from overture.data.table import Table

    part = home.with_name(home.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "audio").mkdir(parents=True)
    embedded, rng = Table.open("embedded"), np.random.default_rng(SEED)
    clips = []
    for i in range(len(embedded)):
        row = embedded.row(i)
        clips.append(
            (audio.read(row["audio"], rate=16_000, start=row["start"], duration=row["duration"]) * 32_767).astype(
                np.int16
            )
        )
    speech = np.concatenate(clips)
    lengths: list[int] = []
    while sum(lengths) < hours * 3600 * 16_000:
        lengths.append(int(np.clip(1.0 + rng.gamma(2.5, 2.0), 1.0, LONGEST) * 16_000))
    cuts = []
    for i, length in enumerate(lengths):
        start = int(rng.integers(len(speech) - length))
        name = f"audio/{i:06d}.flac"
        sf.write(part / name, speech[start : start + length], 16_000)
        source = AudioSource("file", [0], str(home / name))
        recording = Recording(f"{i:06d}", [source], 16_000, length, length / 16_000)
        segment = SupervisionSegment(f"{i:06d}", f"{i:06d}", 0.0, length / 16_000, text="speech")
        cuts.append(MonoCut(f"{i:06d}", 0.0, length / 16_000, 0, [segment], recording=recording))
    columns = {
        "id": [f"{i:06d}" for i in range(len(lengths))],
        "audio": [f"audio/{i:06d}.flac" for i in range(len(lengths))],
        "start": np.zeros(len(lengths)),
        "duration": np.array(lengths) / 16_000,
    }
    pq.write_table(pa.table(columns), part / "table.parquet")
    (part / "corpus.json").write_text(json.dumps({"name": home.name}))
    CutSet.from_cuts(cuts).to_file(part / "cuts.jsonl.gz")
    shutil.rmtree(home, ignore_errors=True)
    part.rename(home)


def fbank() -> Any:
    """Ours, set as lhotse's Fbank: 80 channels from 20 to 7,600 Hz, samples in -1..1."""
    from overture.data.features import KaldiFbank

    return KaldiFbank(mels=80, low=20.0, high=7_600.0, scale=1.0)


def store_features(home: Path) -> None:
    """Both sides' stored features."""
    from lhotse import CutSet, Fbank, NumpyFilesWriter

    from overture.data.source import Cached
    from overture.data.table import Table

    Cached.open(Table.open(str(home)), fbank())
    shutil.rmtree(home / "features", ignore_errors=True)  # of an attempt that was stopped
    cuts = CutSet.from_file(home / "cuts.jsonl.gz")
    stored = cuts.to_eager().compute_and_store_features(
        extractor=Fbank(), storage_path=home / "features", num_jobs=2, storage_type=NumpyFilesWriter, progress_bar=False
    )
    stored.to_file(home / "cuts-stored.part.jsonl.gz")
    (home / "cuts-stored.part.jsonl.gz").rename(home / "cuts-stored.jsonl.gz")


def compare(home: Path) -> None:
    """Raises RuntimeError unless both fbanks give the same frames for some recordings (lhotse's with Kaldi's edges, as ours)."""
    from lhotse import Fbank, FbankConfig

    from overture.data import audio
    from overture.data.table import Table

    table, theirs, mine = Table.open(str(home)), Fbank(FbankConfig(snip_edges=True)), fbank()
    largest = 0.0
    for i in range(5):
        wave = audio.read(table.row(i)["audio"], rate=16_000)
        a, b = mine(wave), theirs.extract(wave, 16_000)
        # the two have other floors, near silence
        loud = np.minimum(a, b) > -15
        if a.shape != b.shape or not loud.any():
            raise RuntimeError(f"the front ends differ in shape: {a.shape}, {b.shape}")
        largest = max(largest, float(np.abs(a - b)[loud].max()))
    if largest > 0.05:
        raise RuntimeError(f"the front ends differ by {largest:g}")
    reply(difference=largest)


def ours(home: Path, kind: str) -> None:
    from overture.data.features import LogMel
    from overture.data.plan import BatchPlan
    from overture.data.source import Cached, Live, collate, in_order
    from overture.data.table import Table
    from overture.train.engine import keep_freed_memory
    from overture.train.loop import AHEAD

    keep_freed_memory()  # as Engine.start does for every run
    cpu, begun = cpu_seconds(), time.perf_counter()
    table = Table.open(str(home))
    frontend = LogMel() if kind == "ours-log-mel" else fbank()
    source = Cached.open(table, frontend) if kind == "ours-stored" else Live(table, frontend)
    plan = BatchPlan(table.numpy("duration"), update=BATCH, micro=BATCH, longest=LONGEST, seed=SEED)
    longest = round(LONGEST * frontend.frame_rate) + 1

    def fetch(rows: np.ndarray) -> Any:
        return collate(source, table.rows, rows, longest=longest, draws=None)

    padded = real = rows = batches = 0
    first = 0.0
    for batch in in_order(fetch, plan.updates(0), ahead=AHEAD):
        first = first or time.perf_counter() - begun
        padded, real = padded + batch.x.shape[0] * batch.x.shape[1], real + int(batch.lengths.sum())
        rows, batches = rows + len(batch.rows), batches + 1
    reply(
        seconds=time.perf_counter() - begun,
        cpu=cpu_seconds() - cpu,
        first=first,
        frames=real,
        padding=1 - real / padded,
        rows=rows,
        batches=batches,
    )


def lhotse(home: Path, kind: str) -> None:
    import torch
    from lhotse import CutSet, Fbank
    from lhotse.dataset import (
        DynamicBucketingSampler,
        K2SpeechRecognitionDataset,
        OnTheFlyFeatures,
        PrecomputedFeatures,
    )

    cpu, begun = cpu_seconds(), time.perf_counter()
    stored = kind == "lhotse-stored"
    cuts = CutSet.from_file(home / ("cuts-stored.jsonl.gz" if stored else "cuts.jsonl.gz"))
    dataset = K2SpeechRecognitionDataset(input_strategy=PrecomputedFeatures() if stored else OnTheFlyFeatures(Fbank()))
    sampler = DynamicBucketingSampler(
        cuts, max_duration=BATCH, num_buckets=30, shuffle=True, drop_last=False, seed=SEED
    )
    loader = torch.utils.data.DataLoader(
        dataset, sampler=sampler, batch_size=None, num_workers=max(2, os.cpu_count() or 2)
    )
    padded = real = rows = batches = 0
    first = 0.0
    batches_of = iter(loader)
    for batch in batches_of:
        first = first or time.perf_counter() - begun
        padded, real = (
            padded + batch["inputs"].shape[0] * batch["inputs"].shape[1],
            real + int(batch["supervisions"]["num_frames"].sum()),
        )
        rows, batches = rows + len(batch["inputs"]), batches + 1
    seconds = time.perf_counter() - begun
    del batches_of, loader  # waits for the workers, so that their CPU time is counted
    reply(
        seconds=seconds,
        cpu=cpu_seconds() - cpu,
        first=first,
        frames=real,
        padding=1 - real / padded,
        rows=rows,
        batches=batches,
    )


def main() -> None:
    args = parser(__doc__).parse_args()
    hours = 0.2 if args.quick else 10.0
    args.work.mkdir(parents=True, exist_ok=True)
    home = args.work.resolve() / f"audio-{hours:g}h"
    if args.side:
        {
            "make": lambda: make_recordings(home, hours),
            "store": lambda: store_features(home),
            "compare": lambda: compare(home),
            "ours": lambda: ours(home, args.side),
            "ours-log-mel": lambda: ours(home, args.side),
            "ours-stored": lambda: ours(home, args.side),
            "lhotse": lambda: lhotse(home, args.side),
            "lhotse-stored": lambda: lhotse(home, args.side),
        }[args.side]()
        return
    about, env = machine(), {"OVERTURE_HOME": str(args.work.resolve() / "overture")}

    def side(name: str, *, memory: bool = False) -> Any:
        command = [
            sys.executable,
            __file__,
            "--side",
            name,
            "--work",
            str(args.work),
            *(["--quick"] if args.quick else []),
        ]
        return run_process(command, env=env, memory=memory)

    if not (home / "table.parquet").exists():
        print(f"making {hours:g} h of recordings", flush=True)
        side("make")
    if not (home / "cuts-stored.jsonl.gz").exists():
        print("storing features", flush=True)
        side("store")
    difference = side("compare").answer["difference"]
    rounds = 1 if args.quick else ROUNDS
    costs: dict[str, list[Any]] = {name: [] for name in SIDES}
    for number in range(rounds):
        for name in SIDES if number % 2 == 0 else reversed(SIDES):
            if number < 3 or name in ("ours", "lhotse"):  # three runs are enough for what is beside the main ratio
                print(f"round {number + 1} of {rounds}: {name}", flush=True)
                costs[name].append(side(name, memory=True))
    sides: dict[str, Any] = {}
    for name, runs in costs.items():
        answers = [run.answer for run in runs]
        seconds = summary([a["seconds"] for a in answers])
        real = answers[0]["frames"] / 100 / 3600
        sides[name] = {
            "seconds": seconds,
            "cpu_seconds": summary([a["cpu"] for a in answers]),
            "first_batch_seconds": summary([a["first"] for a in answers]),
            "hours_per_second": real / seconds["median"],
            "padding": answers[0]["padding"],
            "peak_memory_mb": round(max(run.peak_mb for run in runs)),
            **{k: answers[0][k] for k in ("rows", "batches", "frames")},
        }
    if len({s["rows"] for s in sides.values()}) != 1:
        raise RuntimeError(f"the sides saw other numbers of recordings: { {n: s['rows'] for n, s in sides.items()} }")

    def ratio(mine: str, theirs: str, key: str = "seconds") -> float:
        return float(sides[theirs][key]["median"] / sides[mine][key]["median"])

    result = {
        "work": f"{hours:g} h of FLAC files of 1-20 s -> padded batches of 80-channel fbank, at most {BATCH:g} s each",
        "ours": sides["ours"],
        "peer": {
            "name": "lhotse: DynamicBucketingSampler, OnTheFlyFeatures(Fbank), DataLoader workers",
            **sides["lhotse"],
        },
        "ratio": ratio("ours", "lhotse"),
        "runs": rounds,
        "machine": about,
        "versions": versions("lhotse", "soundfile"),
        "cpu_ratio": ratio("ours", "lhotse", "cpu_seconds"),
        "log_mel": {**sides["ours-log-mel"], "ratio": ratio("ours-log-mel", "lhotse")},
        "stored": {
            "ours": sides["ours-stored"],
            "peer": sides["lhotse-stored"],
            "ratio": ratio("ours-stored", "lhotse-stored"),
            "cpu_ratio": ratio("ours-stored", "lhotse-stored", "cpu_seconds"),
        },
        "notes": [
            f"The two fbanks differ by at most {difference:.2g} in natural log above -15, lhotse's set to Kaldi's edges for that check.",
            "Memory is of all processes of a side, shared pages counted once (PSS), with imports; CPU time is of all, without imports.",
            "Ours stores features as float16 in one mapped file, lhotse as float32 in a file each.",
            "log_mel adds scaling to a level and per-utterance normalisation, which lhotse's pipeline does not do.",
        ],
    }
    finish("audio_to_batches", result, quick=args.quick)


if __name__ == "__main__":
    main()
