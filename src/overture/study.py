"""A study, as data: arms x seeds x trials on one corpus. A claim is a study that can come out against its paper.

`laboratory.py` conducts them, for `overture check` and `overture compare`.
"""

from dataclasses import dataclass
from typing import Literal

from overture.run import Frontend, ModelSpec, Run
from overture.tasks import Task, find_task


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One thing that is compared."""

    name: str
    run: Run
    kind: Literal["trained", "untrained", "input"] = (
        "trained"  # untrained: its network as initialised; input: its front end alone
    )
    finetune_model: ModelSpec | None = (
        None  # the network that is fine-tuned, where it is another than was pre-trained; same weights
    )

    @property
    def input_frontend(self) -> Frontend:
        """What a control of kind `input` is given: the run's own front end, log-mel where that is plain samples, whose mean says nothing."""
        from overture.data.features import LogMel

        return self.run.frontend if self.run.frontend.dim else LogMel()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A downstream task on labelled rows."""

    task: str
    corpus: str | None = None  # of the labelled rows, whole; None: the study's, with its `where`
    where: str | None = None  # SQL: which rows take part
    label_minutes: float | None = None  # of training rows, drawn once for all arms; None: all
    min_count: int = 10  # rows a class needs to take part

    @property
    def definition(self) -> Task:
        return find_task(self.task)


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is compared, on what, how often."""

    arms: tuple[Arm, ...]
    trials: tuple[Trial, ...]  # the first decides
    corpus: str
    where: str | None = None
    seeds: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A paper's comparison as a study that can come out against it."""

    recipe: str
    text: str
    study: Study
    expected: tuple[tuple[str, str], ...]  # (better, worse) arms on the first trial
    expected_also: tuple[tuple[str, str, str], ...] = ()  # (task, better, worse): reported, does not decide
    deviations: tuple[str, ...] = ()
