"""The seeds of a study, each in a process of its own, so that the study itself finds everything done.

Small networks gain next to nothing from a second thread (docs/lab-log.md), so as many seeds as there are cores take hardly longer than one.
Seeds share no run and no judgement; what they do share is made before (alignments, corpora) or written whole
or not at all (features, tokens). A process that fails is told with its seed, the others go on to their end first.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from overture.errors import OvertureError
from overture.study import Study

Tell = Callable[[dict[str, Any]], None]
TOLD = ("stage", "note", "health")  # kinds of records that are passed on; those of updates would run into each other


def gather(study: Study, home: Path, tell: Tell, processes: int) -> None:
    """Do what `study` needs under `home`, `processes` seeds at a time with an equal share of the cores each.

    Raises OvertureError when a seed failed, naming it. Ctrl-C ends them all; what is finished is kept.
    """
    from overture.laboratory import Laboratory

    Laboratory(study, home, tell)  # what all seeds share, such as alignments, is made once, on all cores
    threads = max(1, (os.cpu_count() or 1) // processes)
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)  # read when a process begins
    context = multiprocessing.get_context("spawn")
    records: Queue[tuple[int, dict[str, Any] | str | None]] = context.Queue()
    waiting = list(study.seeds)
    running: dict[int, Any] = {}  # processes by seed
    failed: dict[int, str] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                seed = waiting.pop(0)
                running[seed] = context.Process(target=_work, args=(replace(study, seeds=(seed,)), home, records))
                running[seed].start()
            seed, said = _next(records, running)
            if isinstance(said, dict):
                tell({**said, "text": f"[seed {seed}] {said['text']}"} if "text" in said else said)
                continue
            running.pop(seed).join()
            if said is not None:
                failed[seed] = said
    finally:
        for process in running.values():
            process.terminate()
        os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)
    if failed:
        seed, said = next(iter(failed.items()))
        raise OvertureError(f"seed {seed} failed, what the others did is kept: {said}")


def _next(records: "Queue[tuple[int, dict[str, Any] | str | None]]", running: dict[int, Any]) -> tuple[int, Any]:
    """The next record, or the end of a process that died without a word."""
    import queue

    while True:
        try:
            return records.get(timeout=1.0)
        except queue.Empty:
            for seed, process in running.items():
                if not process.is_alive() and records.empty():
                    return seed, f"its process ended with status {process.exitcode}"


def _work(study: Study, home: Path, records: "Queue[tuple[int, dict[str, Any] | str | None]]") -> None:
    from overture.laboratory import Laboratory

    (seed,) = study.seeds
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def tell(record: dict[str, Any]) -> None:
        if record["kind"] in TOLD:
            records.put((seed, record))

    try:
        Laboratory(study, home, tell).gather()
    except OvertureError as error:
        records.put((seed, str(error)))
    except Exception:
        records.put((seed, traceback.format_exc()))
    else:
        records.put((seed, None))


def _end_with_parent() -> None:
    """End this process, with a checkpoint, when the one that started it is gone: nobody is to work on a run that others take up again."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
