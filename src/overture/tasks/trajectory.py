"""What a language model knows on the way: the bits per character of held-out text at each update that its run kept (`Loop.keep_at`).

For what is gone again when training ends, such as the stability gap of continual pre-training (Guo et al. 2024, arXiv:2406.14833): a model that goes
on in a new domain first forgets, and recovers. The task `held-out-worst` looks for the update at which the development rows cost most, and
scores the test rows there; an arm that has not moved, `untrained` or `start`, is scored as it is, so the difference to it is how deep the gap is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from overture.data.table import Table
from overture.errors import OvertureError
from overture.run import Run
from overture.tasks import Task, metrics, written
from overture.tasks.probe import ProbeResult
from overture.train.state import checkpoints, load_weights, update_of

if TYPE_CHECKING:
    from overture.models.text import TextModel


@dataclass(frozen=True)
class Point:
    """A run at one update, on the development rows."""

    update: int
    value: float  # of the task's metric
    groups: dict[str, float]  # the same by the values of a column; {} without one
    flops: float | None = None  # of its training until then, where they are told (`tasks.masked`)


@dataclass(frozen=True)
class Followed(ProbeResult):
    """The test rows at the update `rate`, the worst or the last as the task asks; `dev` has the scores of all updates."""

    trajectory: list[Point]


def kept_at(run: Run, folder: Path) -> list[Path]:
    """The checkpoints that `run` was to keep on its way, oldest first. Raises OvertureError where it was to keep none, or lacks one."""
    wanted = set(run.loop.keep_at or ())
    if not wanted:
        raise OvertureError(
            f"{folder} kept nothing of its way: set loop.keep_at to updates, such as overture.run.log_spaced gives"
        )
    found = [path for path in checkpoints(folder) if update_of(path) in wanted]
    if lacking := sorted(u for u in wanted - {update_of(p) for p in found} if u <= run.loop.updates):
        raise OvertureError(
            f"{folder} has no checkpoint of update {', '.join(map(str, lacking))}, which it was to keep"
        )
    return found


def worst(
    task: Task,
    model: "TextModel",
    run: Run,
    folder: Path | None,
    table: Table,
    *,
    dev: np.ndarray,
    test: np.ndarray,
    by: str | None = None,
    control: str | None = None,
) -> Followed:
    """`model`, the network of `run`, where it knows least of the development rows. `folder`: of the run; None: as `model` is, which has gone no way.

    `dev`, `test`: row numbers in `table`; `by`: a column that the trajectory is told by. Leaves `model` with the weights that were scored.
    Raises OvertureError for a network that does not write, and see `kept_at`.
    """

    def judged(rows: np.ndarray) -> ProbeResult:
        return written.judge(task, model, run, table, rows, control=control, seed=0)

    def point(update: int) -> Point:
        found = judged(dev)
        named = {} if by is None else {by: table.numpy(by)[dev]}
        groups = {str(g.group): g.value for g in metrics.by_group(found.counts, named, n=1) if g.value is not None}
        return Point(update, found.value, groups)

    way: Sequence[Path | None] = [None] if folder is None else kept_at(run, folder)
    points = []
    for path in way:
        if path is not None:
            load_weights(path, model)
        points.append(point(0 if path is None else update_of(path)))
    deepest = max(range(len(points)), key=lambda i: points[i].value)
    if (path := way[deepest]) is not None:
        load_weights(path, model)
    about: dict[str, Any] = {"rate": float(points[deepest].update), "dev": {float(p.update): p.value for p in points}}
    return Followed(**vars(replace(judged(test), **about)), trajectory=points)
