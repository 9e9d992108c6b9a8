"""Steps and their artifacts: a step makes a folder named by the fingerprint of what made it, and is never run twice.

A recipe of several stages (features, k-means, labels, next iteration) or a study (calibrate, pre-train, judge) is a small graph
of steps. `step.json` is written last, so a folder without it is unfinished: the step is run again and finds what
it left, which is how a killed study goes on where it was. A process that asks for what another one is making waits for it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from overture import jsonfile
from overture.config import fingerprint, to_dict


@dataclass(frozen=True)
class Step:
    """`make(folder)` fills a folder; `made_of` (dataclasses, or what JSON holds) is everything that decides what gets in."""

    name: str
    made_of: dict[str, Any]
    make: Callable[[Path], None]
    inputs: tuple["Step", ...] = ()

    @property
    def fingerprint(self) -> str:
        return fingerprint([self.name, self.made_of, [i.fingerprint for i in self.inputs]])

    def folder(self, home: Path) -> Path:
        return home / f"{self.name}-{self.fingerprint}"

    def done(self, home: Path) -> bool:
        return (self.folder(home) / "step.json").exists()

    def perform(self, home: Path) -> Path:
        """The folder of the artifact under `home`, made now if it is not there."""
        for step in self.inputs:
            step.perform(home)
        folder = self.folder(home)
        if self.done(home):
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(home / f".{folder.name}.lock"):
            if not self.done(home):  # by another process, while this one waited
                begun = time.perf_counter()
                self.make(folder)
                record = {
                    "name": self.name,
                    "fingerprint": self.fingerprint,
                    "made_of": to_dict(self.made_of),
                    "inputs": [i.folder(home).name for i in self.inputs],
                    "seconds": time.perf_counter() - begun,
                }
                jsonfile.write(folder / "step.json", record)
        return folder
