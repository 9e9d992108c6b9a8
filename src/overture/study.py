"""A study, as data: arms x seeds x trials on one corpus. A claim is a study that can come out against its paper.

`laboratory.py` conducts them, for `overture check` and `overture compare`.
"""

from dataclasses import dataclass, replace
from typing import Literal

from overture.data.tokens import Tokens
from overture.data.voices import SpeakerVectors
from overture.run import Frontend, ModelSpec, Run
from overture.tasks import Task, find_task


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One thing that is compared."""

    name: str
    run: Run
    # untrained: its network as initialised; input: its front end alone; start: what its run would start from, as it is
    kind: Literal["trained", "untrained", "input", "start"] = "trained"
    stages: tuple[Run, ...] = ()  # trained before `run`, on corpora of their own, each going on from the one before
    teacher: tuple[Run, ...] = ()  # trained likewise; the last one teaches `run`
    encoder: Run | None = None  # trained before; its vectors tell `run` who speaks, see `data.voices`
    finetune_model: ModelSpec | None = (
        None  # the network that is fine-tuned, where it is another than was pre-trained; same weights
    )
    also: str | None = None  # SQL: rows of a trial's corpus that are learnt from in fine-tuning besides its own
    # tried for its own run with the first seed, whose best on the first trial's development rows all seeds have; (): the run's own
    rates: tuple[float, ...] = ()
    control: str | None = (
        None  # the control token that a language model is told when it is judged by what it writes and knows
    )
    steps: int | None = (
        None  # how often a network that follows a flow is asked where it speaks; None: as `overture speak`
    )

    def __post_init__(self) -> None:
        if self.kind in ("untrained", "input") and self.stages:
            raise ValueError(f"arm {self.name!r} is {self.kind}, so it can have no earlier stages")
        if self.kind == "start" and not self.stages and self.run.start is None:
            raise ValueError(f"arm {self.name!r} has neither earlier stages nor a run to start from")
        if self.stages and self.run.start is not None:
            raise ValueError(f"arm {self.name!r} starts from its stages, so its run can have no start of its own")
        if self.teacher and self.kind != "trained":
            raise ValueError(f"arm {self.name!r} is {self.kind}, so nobody can teach it")
        if self.encoder and (self.kind != "trained" or not isinstance(self.run.data.voices, SpeakerVectors)):
            raise ValueError(
                f"arm {self.name!r} is told no voices by a speaker encoder, so it can have none of its own"
            )
        if self.rates and self.kind != "trained":
            raise ValueError(f"arm {self.name!r} is {self.kind}, so it has no rate to choose")

    @property
    def earlier(self) -> tuple[Run, ...]:
        """All that is trained before `run`."""
        return (*self.teacher, *((self.encoder,) if self.encoder else ()), *self.stages)

    def at_rate(self, rate: float) -> "Arm":
        """As it is trained with this rate alone; a second player's is its own."""
        first, *others = self.run.players
        players = (replace(first, optim=replace(first.optim, lr=rate)), *others)
        return replace(self, run=replace(self.run, players=players), rates=())

    @property
    def input_frontend(self) -> Frontend | Tokens:
        """What a control of kind `input` is given: the run's own front end, log-mel where that is plain samples, whose mean says nothing.

        Of text, whose control counts words (`tasks.tfidf`), the same for all runs.
        """
        if self.run.on_text:
            return Tokens()
        from overture.data.features import LogMel

        return self.run.frontend if self.run.frontend.dim else LogMel()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A downstream task on labelled rows."""

    task: str
    corpus: str | None = None  # of the labelled rows, whole; None: the study's, with its `where`
    where: str | None = None  # SQL: which rows take part
    parts: tuple[
        tuple[str, str], ...
    ] = ()  # (train, dev, test) each with the SQL of its rows; empty: as the task divides
    label_minutes: float | None = None  # of training rows, drawn once for all arms; None: all
    label_rows: int | None = None  # the same in rows; one of the two
    called: str | None = None  # in tables; None: by its task, and by its labels too where a task comes more than once
    heard: bool = False  # where voices are verified or made: training may hear the voices, though none of the rows; else it may not
    by: str | None = None  # a column by whose values the score is told too; every part has rows of each
    min_count: int = 10  # rows a class needs to take part
    gap: tuple[str, str, str] | None = None  # a column and two of its values, between which the gap is measured
    reach: str | None = None  # the arm to whose last score the others come sooner or later (`verdicts.savings`)
    vocoder: str | None = None  # a run folder that makes waves of what arms say, where they speak; None: Griffin-Lim
    outside: tuple[str, ...] = ()  # references of `tasks.outside` that stand beside the arms; they decide nothing
    rates: tuple[float, ...] = ()  # of fine-tuning, tried by every arm alike; (): the task's own

    def __post_init__(self) -> None:
        if self.label_minutes is not None and self.label_rows is not None:
            raise ValueError(f"trial {self.task!r} has its labels in minutes and in rows: one of the two")
        if self.heard and not self.definition.unheard:
            raise ValueError(f"trial {self.task!r} makes no voices, so it does not matter whether they have been heard")
        if self.rates and self.definition.features != "finetune":
            raise ValueError(f"trial {self.task!r} fine-tunes nothing, so it has no rates")
        if self.reach is not None and self.definition.features != "masked":
            raise ValueError(f"trial {self.task!r} does not tell the FLOPs of an arm's way, so none can reach another")

    @property
    def labels(self) -> str:
        """How many: "15 min", "50 rows", "all labels"."""
        if self.label_rows is not None:
            return f"{self.label_rows} rows"
        return "all labels" if self.label_minutes is None else f"{self.label_minutes:g} min"

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

    @property
    def names(self) -> tuple[str, ...]:
        """What each trial is called. Raises ValueError where two have one name."""
        tasks = [t.task for t in self.trials if t.called is None]
        found = tuple(
            t.called or (t.task if tasks.count(t.task) == 1 else f"{t.task}, {t.labels}") for t in self.trials
        )
        if len(set(found)) < len(found):
            raise ValueError(f"two trials have one name ({', '.join(found)}): say what each is `called`")
        return found


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A paper's comparison as a study that can come out against it."""

    recipe: str
    text: str
    study: Study
    expected: tuple[tuple[str, str], ...]  # (better, worse) arms on the first trial
    expected_also: tuple[tuple[str, str, str], ...] = ()  # (name of a trial, better, worse): reported, does not decide
    deviations: tuple[str, ...] = ()
    corpora: tuple[
        str, ...
    ] = ()  # commands that make its corpora, where they are more than an 'overture data get' of their names
