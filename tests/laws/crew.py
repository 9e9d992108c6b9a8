"""Ranks that stay: started once by torchrun, they do one `overture` command after the other, together.

Importing torch and transformers in fresh processes is nine tenths of what a test of two ranks would cost. A command is a file
`N.json` (its words) in the folder that is given; each rank answers with `N.RANK.done`, which holds what went wrong, if anything did.
"""

import itertools
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path


class Crew:
    """So many gloo processes that do `overture` commands together, one after the other."""

    def __init__(self, processes: int, folder: Path) -> None:
        self.processes, self.folder, self.number = processes, folder, 0
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.log = (folder / "log").open("w+")
        self.running = subprocess.Popen(
            [*command, "-m", "tests.laws.crew", str(folder)],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=Path(__file__).parents[2],
        )

    def __call__(self, words: list[str]) -> None:
        self._ask(words)
        answers = [self.folder / f"{self.number}.{rank}.done" for rank in range(self.processes)]
        self.number += 1
        until = time.monotonic() + 600  # a busy machine takes minutes to start them
        while not all(a.exists() for a in answers):
            wrong = [a.read_text(encoding="utf8") for a in answers if a.exists()]
            if any(wrong) or self.running.poll() is not None or time.monotonic() > until:
                time.sleep(0.5)  # for the others to say what they found
                break
            time.sleep(0.02)
        said = {a.name: a.read_text(encoding="utf8") if a.exists() else "no answer" for a in answers}
        if any(said.values()):  # no AssertionError: an exempt law is broken by numbers, not by a crash
            log = (self.folder / "log").read_text(encoding="utf8")[-2000:]
            ended = f"torchrun has ended with {self.running.poll()}"  # None: it has not
            raise RuntimeError("\n".join([*(f"{name}: {text}" for name, text in said.items()), ended, log]))

    def _ask(self, words: list[str]) -> None:
        part = self.folder / ".part"
        part.write_text(json.dumps(words), encoding="utf8")
        part.replace(self.folder / f"{self.number}.json")

    def dismiss(self) -> None:
        self._ask([])
        try:
            self.running.wait(20)
        except subprocess.TimeoutExpired:  # one hangs in a collective that another has left
            self.running.kill()
        self.log.close()


def serve(folder: Path) -> None:
    """Do what is asked until an empty command comes."""
    import torch
    import torch.distributed as dist

    from overture.cli import app

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, parent = os.environ["RANK"], os.getppid()
    for number in itertools.count():
        while not (path := folder / f"{number}.json").exists():
            if os.getppid() != parent:  # whoever asks is gone
                return
            time.sleep(0.02)
        words = json.loads(path.read_text(encoding="utf8"))
        if not words:
            return
        wrong = ""
        try:
            app(words, standalone_mode=False)
        except BaseException:
            wrong = traceback.format_exc()
        done = folder / f".{number}.{rank}.part"
        done.write_text(wrong, encoding="utf8")
        done.replace(folder / f"{number}.{rank}.done")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
