"""Fine-tuning: the whole encoder is trained on with a head of the task, from pre-trained weights or from scratch.

The protocol contains the sweep: each rate is an ordinary training run in the one loop, the development rows choose among them, the test rows
are scored once. Where the best of a task's own rates is the lowest or the highest, the sweep goes on beyond it. Both sides of a comparison get
the same rates by the same rule, and the same updates, order of rows, head and schedule. What a task adds (`Goal`) stands in `finetune_ctc`,
`finetune_classes`, `finetune_rank` and `finetune_tokens`; what an encoder is given, in `Rows` for speech and in `finetune_text` for text.
Spectrograms are altered as in SpecAugment (Park et al. 2019); of samples, the encoder's own latents are (`models.tuned.LatentMask`), where it
has a vector for what is hidden.

The rates share what does not depend on them: recordings are read and features computed once, for training and for scoring, and
a run that has ended is neither trained nor prepared again.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, Required, TypedDict

import numpy as np
import pyarrow as pa
import torch

from overture import outcome
from overture.config import fingerprint
from overture.data.alteration import Alteration
from overture.data.augment import WaveAugment
from overture.data.batch import Batch
from overture.data.lengths import samples
from overture.data.source import Cached, collate
from overture.data.table import Table
from overture.errors import OvertureError
from overture.models.tuned import LatentMask, Tuned, can_hide
from overture.rates import FURTHER, beyond
from overture.run import Data, Labelled, Loop, ModelSpec, Objective, Optim, Plan, Player, Run
from overture.tasks import METRICS
from overture.tasks.ctc import Infeasible
from overture.tasks.metrics import Counts
from overture.tasks.probe import ProbeResult, check_parts, scored, strings

RATES = (1e-4, 3e-4, 1e-3)  # of classes, rankings and tags; recognisers have their own
UPDATES = 300
SPECAUGMENT = Alteration(time_share=0.1, time_width=0.2, time_zero=1.0, time_replace=0.0, noise_probability=0.0)
BATCH_SECONDS = 60.0  # padded audio of a forward pass when scoring
LEARNT_AWAY = ("vanished variance", "vanished rank")  # no illness here: two classes need one direction only


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When the parts of the network learn, and at which rate. Freezing is for pre-trained weights: from scratch it keeps random ones."""

    frozen_updates: int = 0  # the head learns alone in the first so many
    frozen_features: bool = False  # the convolutions of an encoder of samples stay as they were pre-trained
    warmup: float = 0.1  # share of the updates
    hold: float = 0.4
    decay: Literal["linear", "exponential"] = "linear"
    final: float = 0.0  # rate at the end, as a share of its peak

    @classmethod
    def three_stages(cls, updates: int, *, pretrained: bool) -> "Schedule":
        """As wav2vec 2.0 is fine-tuned: warm-up, hold and exponential decay (.1, .4, .5, to .05); of pre-trained weights, the
        convolutions stay and the Transformer waits for the head, a tenth of the updates."""
        return cls(
            frozen_updates=updates // 10 if pretrained else 0,
            frozen_features=pretrained,
            decay="exponential",
            final=0.05,
        )


class Sweep(TypedDict, total=False):
    """What whoever calls a task's `finetune` may say of its runs, see `tune`; the same for every task."""

    home: Required[Path]
    rates: Sequence[float] | None
    updates: int
    schedule: Schedule
    seed: int


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a task adds to the sweep."""

    name: str  # of its runs
    model: ModelSpec  # builds a `Tuned`
    objective: Objective
    update: float  # s of audio, or tokens of text, an update; padding counts
    whole: bool  # utterances must not be cropped when they are scored
    train: np.ndarray  # rows of the table to train on
    left_out: list[Infeasible]
    target: str  # the column that is learnt
    outputs: Callable[
        [Tuned, Batch], list[np.ndarray]
    ]  # what the model makes of each utterance, or document, of a batch
    judge: Callable[[np.ndarray, Sequence[np.ndarray]], "Judged"]  # rows, their outputs -> how good these are
    metric: str  # of METRICS


@dataclass(frozen=True)
class Judged:
    """What is counted: of each row, or of one row of each group that is judged as one (`rows` are those)."""

    rows: np.ndarray  # (U,) of the table
    references: list[str]  # (U,) what is right
    hypotheses: list[str]
    counts: Counts  # of U


def one_by_one(
    references: Callable[[np.ndarray], list[str]],
    answer: Callable[[np.ndarray], str],
    count: Callable[[Sequence[str], Sequence[str]], Counts],
) -> Callable[[np.ndarray, Sequence[np.ndarray]], Judged]:
    """`Goal.judge` where each row has an answer of its own: what is right of rows, what an output says, and how the two are counted."""

    def judge(rows: np.ndarray, outputs: Sequence[np.ndarray]) -> Judged:
        right, said = references(rows), [answer(o) for o in outputs]
        return Judged(rows, right, said, count(right, said))

    return judge


@dataclass(frozen=True)
class Finetuned(ProbeResult):
    """What a fine-tuning found, and where its best run is."""

    folder: Path  # of the run whose rate is best on the development rows
    outputs: dict[str, list[np.ndarray]]  # its outputs for the rows of dev and test, in their order


class Inputs(Protocol):
    """The rows of a table as an encoder is given them: all that the sweep asks, of speech (`Rows`) as of text (`finetune_text.TextRows`)."""

    table: Table
    run: Run  # of the pre-training

    @property
    def encoder(self) -> Any: ...  # the network, without weights

    @property
    def alteration(self) -> Alteration | None: ...  # of the input, in training

    @property
    def mask(self) -> LatentMask | None: ...  # of the network's own frames, in training

    def data(
        self, corpus: str, train: np.ndarray, augment: WaveAugment | None
    ) -> Data: ...  # of rows `train`, saved as `corpus`

    def plan(self, update: float, micro: float | None) -> Plan: ...

    def ask(self, goal: Goal, model: Tuned, rows: np.ndarray, device: torch.device) -> list[np.ndarray]: ...


class Rows:
    """The rows of a table of speech as an encoder hears them."""

    def __init__(self, table: Table, run: Run) -> None:
        """`run`: of the pre-training, for its front end, its network and where it crops."""
        self.table, self.run, self.source = table, run, Cached.open(table, run.frontend)
        self.longest = samples(run.data.max_seconds, run.frontend.frame_rate)
        self.inputs = np.diff(self.source.offsets)  # (N,) steps of the front end

    @cached_property
    def encoder(self) -> Any:
        """The network, without weights."""
        with torch.device("meta"):
            return self.run.model.build(self.run.frontend)

    @property
    def mask(self) -> LatentMask | None:
        """What an encoder of samples hides from itself while it is fine-tuned; None where it cannot."""
        return LatentMask() if can_hide(self.encoder, self.run.frontend) else None

    @property
    def alteration(self) -> Alteration | None:
        """SpecAugment for spectrograms; samples have no bands to take away."""
        return SPECAUGMENT if self.run.frontend.dim else None

    def data(self, corpus: str, train: np.ndarray, augment: WaveAugment | None) -> Data:
        """What a training run is given: features that are here already are not computed again."""
        cache = augment is None or self.run.frontend.dim == 0  # features of altered samples are computed anew
        if cache:
            Cached.open(Table.open(corpus), self.run.frontend, known=lambda i: self.source[train[i]])
        return Data(corpus=corpus, max_seconds=self.run.data.max_seconds, cache=cache, augment=augment)

    def plan(self, update: float, micro: float | None) -> Plan:
        seconds = max(update, self.run.data.max_seconds)
        return Plan(update=seconds, micro=micro or seconds)

    def frames(self, rows: np.ndarray, speed: float = 1.0) -> np.ndarray:
        """(N,) hidden states of each, so much faster and cropped as in training; 0 where it is too short for one."""
        inputs = np.minimum((self.inputs[rows] / speed).astype(np.int64), self.longest)
        return np.asarray(self.encoder.steps(torch.from_numpy(inputs)).numpy())

    def steps(self, rows: np.ndarray) -> np.ndarray:
        """(N,) hidden states of each, cropped as in training. Raises OvertureError for a row that has none."""
        steps = self.frames(rows)
        if len(none := rows[steps < 1]):
            ids, durations = self.table.numpy("id"), self.table.numpy("duration")
            raise OvertureError(
                f"row {ids[none[0]]!r} ({durations[none[0]]:.3f} s) is too short: the encoder gives it no frame. "
                f"Leave such rows away: --where 'duration > {durations[none].max():.2f}'."
            )
        return steps

    @torch.no_grad()
    def ask(self, goal: Goal, model: Tuned, rows: np.ndarray, device: torch.device) -> list[np.ndarray]:
        """What the model makes of `rows`, in their order; in batches of like length."""
        size = self.inputs[rows] if goal.whole else np.minimum(self.inputs[rows], self.longest)
        parts = max(1, int(size.sum() / self.run.frontend.frame_rate / BATCH_SECONDS))
        found: dict[int, np.ndarray] = {}
        for part in np.array_split(np.argsort(size, kind="stable"), min(parts, len(rows))):
            batch = collate(
                self.source, np.arange(len(self.inputs)), rows[part], longest=int(size.max()), draws=None
            ).to(device)
            found |= dict(zip(part.tolist(), goal.outputs(model, batch)))
        return [found[i] for i in range(len(rows))]


def _as_text(table: Table, column: str) -> Table:
    """`table` with the values of `column` as strings, as a loop reads labels: class 7 is "7"."""
    if pa.types.is_string(table.columns.column(column).type):
        return table
    values = pa.array(strings(table, column, np.arange(len(table))), pa.string())
    columns = table.columns.set_column(table.columns.column_names.index(column), column, values)
    return Table(columns, name=table.name, root=table.root, rows=table.rows)


def player_of(goal: Goal, encoder: Any, masked: bool, schedule: Schedule, rate: float) -> Player:
    """The one player of a fine-tuning, at one rate. `encoder`: the network, for the names of its parameters."""
    names = [n for n, _ in encoder.named_parameters()]
    still = ["feature_extractor"] if schedule.frozen_features else []
    still += [] if masked else ["masked_spec_embed"]  # nothing would ever ask for it
    still = [part for part in still if any(part in n.split(".") for n in names)]
    return Player(
        objective=goal.objective,
        optim=Optim(lr=rate, warmup=schedule.warmup, hold=schedule.hold, decay=schedule.decay, final=schedule.final),
        parameters=rf"^(?!.*\b({'|'.join(still)})\b)" if still else "",
        frozen=r"^encoder\." if schedule.frozen_updates else "",
        frozen_updates=schedule.frozen_updates,
    )


def tune(
    goal: Goal,
    rows: Inputs,
    start: str | None,
    *,
    dev: np.ndarray,
    test: np.ndarray,
    home: Path,
    tell: Callable[[dict[str, Any]], None],
    rates: Sequence[float] | None = None,
    own: Sequence[float] = RATES,
    updates: int = UPDATES,
    seed: int = 0,
    schedule: Schedule = Schedule(),
    augment: WaveAugment | None = None,
    micro_seconds: float | None = None,
) -> Finetuned:
    """One training run a rate; the test rows' score of the one that is best on the development rows.

    `rates`: to be tried, and no others; None: the task's `own`, and up to two beyond them while the best is an outermost one (`rates.beyond`).
    `start`: a run folder, or a checkpoint folder of transformers, whose weights the encoder starts from, relative to `home`; None:
    from scratch. Every run is kept under `home`, so a killed sweep goes on where it was. A rate at which training falls ill is
    out, and that is told. `micro_seconds`: of speech that is computed at once, where memory does not hold an update.
    Raises OvertureError when all rates fall ill.
    """
    from overture.models.origin import Origin, weights_fingerprint
    from overture.train.engine import Engine
    from overture.train.health import IllRun
    from overture.train.loop import train
    from overture.train.state import checkpoints, load_weights

    began, table, pretraining = time.perf_counter(), rows.table, rows.run
    check_parts(goal.train, dev, test, len(table))
    used = table.take(goal.train)
    if isinstance(goal.objective, Labelled):
        used = _as_text(used, goal.target)
    mark = fingerprint([used.fingerprint, goal.target, used.written(goal.target)])[:6]
    corpus = used.save(f"{table.name}~{mark}")
    data = rows.data(corpus, goal.train, augment)
    mark_of_start = None if start is None else weights_fingerprint(Origin.open(start, home).weights())
    scores: dict[float, float | None] = {}
    best: tuple[float, float, Path, Tuned, list[np.ndarray]] | None = None  # score (higher is better), rate, ...
    masked = getattr(goal.objective, "mask", None) is not None
    with Engine.start() as engine:
        waiting = list(rates or own)
        while waiting:
            rate = waiting.pop(0)
            run = Run(
                recipe=f"{pretraining.recipe}-{goal.name}",
                size="finetune",
                data=data,
                frontend=pretraining.frontend,
                model=goal.model,
                players=(player_of(goal, rows.encoder, masked, schedule, rate),),
                plan=rows.plan(goal.update, micro_seconds),
                loop=Loop(
                    updates=updates,
                    checkpoint_every=100,
                    precision=pretraining.loop.precision,
                    tolerate=LEARNT_AWAY,
                ),
                seed=seed,
                start=start,
                start_weights=mark_of_start,
            )
            folder = home / run.folder_name
            tell({"kind": "stage", "text": f"fine-tuning, rate {rate:g}"})
            if outcome.kept(folder) is None and outcome.stopped(folder) is None:
                try:
                    ended = train(run, folder, engine=engine, on_record=tell)
                    if not ended.finished:
                        raise KeyboardInterrupt
                    outcome.keep(ended)
                except IllRun:
                    outcome.keep_stopped(folder)
            if (ill := outcome.stopped(folder)) is not None:
                why = f"stopped at update {ill['stopped']['update']}: {ill['stopped']['cause']}: {ill['stopped']['message']}"
                tell({"kind": "note", "text": f"rate {rate:g} is out: {why}"})
                scores[rate] = None
            else:
                model: Tuned = run.model.build(run.frontend)
                load_weights(checkpoints(folder)[-1], model)
                model = model.to(engine.device).eval()
                outputs = rows.ask(goal, model, dev, engine.device)
                score = goal.judge(dev, outputs).counts.value
                scores[rate] = score
                signed = score if METRICS[goal.metric].higher_is_better else -score
                if best is None or signed > best[0]:
                    best = signed, rate, folder, model, outputs
            if not waiting and rates is None and best is not None and len(scores) < len(own) + FURTHER:
                waiting = beyond(list(scores), best[1])
        if best is None:
            raise OvertureError(
                f"fine-tuning fell ill at every rate ({', '.join(f'{r:g}' for r in scores)}): the notes above say of what"
            )
        _, rate, folder, model, of_dev = best
        of_test = rows.ask(goal, model, test, engine.device)
    judged = goal.judge(test, of_test)
    found = scored(
        table,
        judged.rows,
        goal.metric,
        judged.counts,
        judged.references,
        judged.hypotheses,
        rate=rate,
        dev=dict(sorted(scores.items())),
        dev_curve=[],
        layer_weights=[],
        left_out=goal.left_out,
        began=began,
        seed=0,
    )
    return Finetuned(**vars(found), folder=folder, outputs={"dev": of_dev, "test": of_test})
