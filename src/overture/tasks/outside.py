"""References from outside: published networks that none of our arms is, judged on the same rows. They decide no verdict.

One gives states, which the probe of our frozen encoders is trained on; or text, which is scored as our recognisers' is. `recording` is none: it
is the recordings themselves, judged as the waves that arms make of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from overture.data.table import Table
from overture.errors import OvertureError, near
from overture.models import ge2e
from overture.run import Run
from overture.tasks import Task, made, spoken, verification, whisper, yamnet
from overture.tasks.classify import classify
from overture.tasks.probe import ProbeResult


@dataclass(frozen=True)
class Writes:
    """A recogniser of `overture.models.sources`."""

    model: str


@dataclass(frozen=True)
class Recordings:
    """The test rows as they are."""


REFERENCES: dict[str, Callable[[Table], np.ndarray] | Writes | Recordings] = {
    "yamnet": yamnet.pooled,  # (N, D) of the table's rows
    "ge2e": ge2e.embeddings,
    "whisper-base": Writes("whisper-base"),
    "whisper-tiny-en": Writes("whisper-tiny-en"),
    "recording": Recordings(),
}


def reference(
    name: str,
    table: Table,
    target: str,
    rows: dict[str, np.ndarray],
    seed: int,
    *,
    metric: str = "accuracy",
    run: Run | None = None,
    task: Task | None = None,
    tell: Callable[[dict[str, Any]], None] = lambda event: None,
) -> ProbeResult:
    """The reference `name` on one trial: "yamnet" and "ge2e" (accuracy, hter), "whisper-base", "whisper-tiny-en" (cer, wer; closure: what
    the language model of `run` makes of what they write), "recording" (where `task` judges waves).

    `table`, `rows` (train, dev, test: row numbers in it) and `target` as in `classify`, `metric` as the task has it; whole recordings are read,
    however long. `tell` is told what a reader of the score has to know. Raises OvertureError for an unknown name, one that another
    metric is for, and a model that is not installed; MissingExtra; and what `classify` raises.
    """
    if name not in REFERENCES:
        raise OvertureError(f"no reference {name!r}. {near(name, REFERENCES)}")
    found, judged = REFERENCES[name], task is not None and task.features in ("copied", "synthesised")
    wanted = "waves" if judged else "text" if metric in (*whisper.METRICS, "closure") else "states"
    if _gives(found) != wanted:
        fits = [n for n, other in REFERENCES.items() if _gives(other) == wanted]
        raise OvertureError(f"the reference {name!r} cannot be scored in {metric}; {', '.join(fits)} can.")
    if isinstance(found, Recordings):
        assert task is not None
        return made.of_recordings(task, table, rows["test"], tell)
    if isinstance(found, Writes) and metric == "closure":
        assert run is not None
        return spoken.cascade(found.model, run, table, rows["test"], target, tell)
    if isinstance(found, Writes):
        return whisper.score(found.model, table, target, rows["test"], seed, metric=metric, tell=tell)
    if metric == "hter":
        parts = {part: rows[part] for part in ("dev", "test")}
        return verification.verify(found(table), table, target=target, **parts, seed=seed, tell=tell)
    states = found(table)[:, None]  # (N, 1, D)
    return classify(states, table, target=target, train=rows["train"], dev=rows["dev"], test=rows["test"], seed=seed)


def _gives(reference: Callable[[Table], np.ndarray] | Writes | Recordings) -> str:
    if isinstance(reference, Recordings):
        return "waves"
    return "text" if isinstance(reference, Writes) else "states"
