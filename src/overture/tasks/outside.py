"""References from outside: published networks that none of our arms is, judged on the same rows. They decide no verdict.

One gives states, which the probe of our frozen encoders is trained on; or text, which is scored as our recognisers' is; or says the texts that arms
say, in a voice of its own. `recording` is none: it is the recordings themselves, judged as the waves that arms make of them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from overture.data.table import Table
from overture.errors import MissingExtra, OvertureError, near
from overture.models import ge2e, kokoro, piper
from overture.models.sources import SOURCES
from overture.run import Run
from overture.tasks import Task, made, spoken, verification, whisper, yamnet
from overture.tasks.classify import classify
from overture.tasks.probe import ProbeResult


@dataclass(frozen=True)
class Writes:
    """A recogniser of `overture.models.sources`."""

    model: str


class Voice(Protocol):
    """A published synthesiser."""

    rate: int  # Hz

    def __call__(self, text: str) -> np.ndarray:
        """(N,) float32 at `rate`. Raises OvertureError where it cannot say that."""


@dataclass(frozen=True)
class Says:
    """A synthesiser of `overture.models.sources`, opened with a seed. It speaks English, as itself."""

    model: str
    opened: Callable[[int], Voice]


@dataclass(frozen=True)
class Recordings:
    """The test rows as they are."""


REFERENCES: dict[str, Callable[[Table], np.ndarray] | Writes | Says | Recordings] = {
    "yamnet": yamnet.pooled,  # (N, D) of the table's rows
    "ge2e": ge2e.embeddings,
    "whisper-base": Writes("whisper-base"),
    "whisper-tiny-en": Writes("whisper-tiny-en"),
    "piper": Says(piper.MODEL, piper.Piper),
    "kokoro": Says(kokoro.MODEL, lambda seed: kokoro.Kokoro()),
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
    the language model of `run` makes of what they write), "recording" (where `task` judges waves), "piper" and "kokoro" (of a text: words, sound).

    `table`, `rows` (train, dev, test: row numbers in it) and `target` as in `classify`, `metric` as the task has it; whole recordings are read,
    however long. `tell` is told what a reader of the score has to know. Raises OvertureError for an unknown name, one that another
    metric is for, and a model that is not installed; MissingExtra; and what `classify` raises.
    """
    if name not in REFERENCES:
        raise OvertureError(f"no reference {name!r}. {near(name, REFERENCES)}")
    found, wanted = REFERENCES[name], _wanted(metric, task)
    if _gives(found) not in wanted:
        fits = [n for n, other in REFERENCES.items() if _gives(other) in wanted]
        why = " It says a text in a voice of its own." if isinstance(found, Says) else ""
        raise OvertureError(f"the reference {name!r} cannot be scored in {metric}; {', '.join(fits)} can.{why}")
    if isinstance(found, Recordings):
        assert task is not None
        return made.of_recordings(task, table, rows["test"], tell)
    if isinstance(found, Says):
        assert task is not None
        return _said(name, found, task, table, rows["test"], seed, tell)
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


def wheels(name: str) -> list[str]:
    """sha256 of the packages that the model of the reference `name` is made of; of none, nothing."""
    model = getattr(REFERENCES.get(name), "model", name)
    return [wheel.sha256 for wheel in SOURCES[model].wheels] if model in SOURCES else []


def _said(name: str, says: Says, task: Task, table: Table, test: np.ndarray, seed: int, tell: made.Tell) -> ProbeResult:
    """The texts of the rows that arms are asked for; one that cannot be said is silence, and `tell` is told, as of arms."""
    began = time.perf_counter()
    rows = made.chosen(task, table, test, tell)
    languages = {str(table.row(one.row).get("language") or "no language") for one in rows}
    if other := sorted(tag for tag in languages if tag.replace("_", "-").split("-")[0].lower() != "en"):
        raise OvertureError(
            f"the reference {name!r} speaks English only, and rows of {table.name!r} to be said do not say that they are English "
            f"but {', '.join(other)}. Leave such rows or the reference away."
        )
    voice, waves = says.opened(seed), []
    for one in rows:
        row, begun = table.row(one.row), time.perf_counter()
        try:
            wave = voice(str(row["text"]))
        except MissingExtra:
            raise
        except OvertureError as error:
            tell({"kind": "note", "text": f"row {row['id']!r} is not said, which counts as silence: {error}"})
            wave = np.zeros(0, np.float32)
        waves.append(made.Wave(wave, time.perf_counter() - begun))
    return made.score(task, table, rows, waves, voice.rate, began)


def _gives(reference: Callable[[Table], np.ndarray] | Writes | Says | Recordings) -> str:
    kinds = {Recordings: "waves", Says: "speech", Writes: "text"}
    return kinds.get(type(reference), "states")


def _wanted(metric: str, task: Task | None) -> tuple[str, ...]:
    """What can be scored."""
    if task is not None and task.features == "synthesised" and task.judge != "voice":
        return "waves", "speech"
    if task is not None and task.features in ("copied", "synthesised"):
        return ("waves",)
    return ("text",) if metric in (*whisper.METRICS, "closure") else ("states",)
