"""Fine-tuning: the whole encoder is trained on with a head of the task, from pre-trained weights or from scratch.

The protocol contains the sweep: each rate is an ordinary training run in the one loop, the development rows choose among
them, the test rows are scored once. Both sides of a comparison get the same rates, updates, order of rows and head. What a
task adds (`Goal`) stands in `finetune_ctc` and `finetune_classes`. Spectrograms are altered as in SpecAugment (Park et al.
2019); samples are not.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from overture.config import fingerprint
from overture.data.alteration import Alteration
from overture.data.batch import Batch
from overture.data.lengths import samples
from overture.data.source import Cached, collate
from overture.data.table import Table
from overture.errors import OvertureError
from overture.run import Data, Frontend, Loop, ModelSpec, Objective, Optim, Plan, Player, Run
from overture.tasks.ctc import Infeasible
from overture.tasks.metrics import Counts
from overture.tasks.probe import ProbeResult, check_parts, scored, strings

SPECAUGMENT = Alteration(time_share=0.1, time_width=0.2, time_zero=1.0, time_replace=0.0, noise_probability=0.0)
BATCH_SECONDS = 60.0  # padded audio of a forward pass when scoring
LEARNT_AWAY = ("vanished variance", "vanished rank")  # no illness here: two classes need one direction only


class Tuned(nn.Module):
    """An encoder and a head on its last hidden state. What that state does not depend on (heads and quantizers of pre-training) is frozen."""

    def __init__(self, encoder: Any, head: nn.Module, frontend: Frontend) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.input_rate = frontend.frame_rate  # Hz, of the input's steps
        for parameter in unused(encoder, frontend):
            parameter.requires_grad_(False)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F) or (B, T), (B,) -> the last hidden state (B, T', D) and its lengths (B,)."""
        hidden, steps = self.encoder.states(x, lengths)
        return hidden[-1], steps


def unused(encoder: Any, frontend: Frontend) -> list[nn.Parameter]:
    """The parameters that the encoder's last hidden state does not depend on."""
    steps = frontend.steps(frontend.rate)  # of a second
    x = torch.zeros((1, steps, frontend.dim) if frontend.dim else (1, steps))
    parameters = [p for p in encoder.parameters() if p.requires_grad]
    training = [m for m in encoder.modules() if m.training]
    encoder.eval()  # nothing is drawn, no statistic moves
    try:
        hidden, _ = encoder.states(x, torch.tensor([steps]))
        gradients = torch.autograd.grad(hidden[-1].sum(), parameters, allow_unused=True)
    finally:
        for module in training:
            module.training = True
    return [p for p, gradient in zip(parameters, gradients) if gradient is None]


def alteration_for(frontend: Frontend) -> Alteration | None:
    """SpecAugment for spectrograms; samples have no bands to take away, and are left as they are."""
    return SPECAUGMENT if frontend.dim else None


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a task adds to the sweep."""

    name: str  # of its runs
    model: ModelSpec  # builds a `Tuned`
    objective: Objective
    update_seconds: float  # padded audio an update
    whole: bool  # utterances must not be cropped when they are scored
    train: np.ndarray  # rows of the table to train on
    left_out: list[Infeasible]
    target: str  # the column that is learnt
    references: Callable[[np.ndarray], list[str]]  # rows -> what is right
    answers: Callable[[Tuned, Batch], list[str]]  # what the model says of a batch
    count: Callable[[Sequence[str], Sequence[str]], Counts]
    metric: str
    higher_is_better: bool


class Rows:
    """The rows of a table as an encoder sees them."""

    def __init__(self, table: Table, run: Run) -> None:
        """`run`: of the pre-training, for its front end, its network and where it crops."""
        self.table, self.run, self.source = table, run, Cached.open(table, run.frontend)
        self.longest = samples(run.data.max_seconds, run.frontend.frame_rate)
        self.inputs = np.diff(self.source.offsets)  # (N,) steps of the front end

    def steps(self, rows: np.ndarray) -> np.ndarray:
        """(N,) hidden states of each, cropped as in training. Raises OvertureError for a row that has none."""
        with torch.device("meta"):
            encoder = self.run.model.build(self.run.frontend)
        steps = encoder.steps(torch.from_numpy(np.minimum(self.inputs[rows], self.longest))).numpy()
        if len(none := rows[steps < 1]):
            ids, durations = self.table.numpy("id"), self.table.numpy("duration")
            raise OvertureError(
                f"row {ids[none[0]]!r} ({durations[none[0]]:.3f} s) is too short: the encoder gives it no frame. "
                f"Leave such rows away: --where 'duration > {durations[none].max():.2f}'."
            )
        return np.asarray(steps)

    @torch.no_grad()
    def ask(self, goal: Goal, model: Tuned, rows: np.ndarray, device: torch.device) -> list[str]:
        """What the model says of `rows`, in their order; in batches of like length."""
        size = self.inputs[rows] if goal.whole else np.minimum(self.inputs[rows], self.longest)
        parts = max(1, int(size.sum() / self.run.frontend.frame_rate / BATCH_SECONDS))
        found: dict[int, str] = {}
        for part in np.array_split(np.argsort(size, kind="stable"), min(parts, len(rows))):
            batch = collate(
                self.source, np.arange(len(self.inputs)), rows[part], longest=int(size.max()), draws=None
            ).to(device)
            found |= dict(zip(part.tolist(), goal.answers(model, batch)))
        return [found[i] for i in range(len(rows))]


def _as_text(table: Table, column: str) -> Table:
    """`table` with the values of `column` as strings, as a loop reads labels: class 7 is "7"."""
    if pa.types.is_string(table.columns.column(column).type):
        return table
    values = pa.array(strings(table, column, np.arange(len(table))), pa.string())
    columns = table.columns.set_column(table.columns.column_names.index(column), column, values)
    return Table(columns, name=table.name, root=table.root, rows=table.rows)


def tune(
    goal: Goal,
    rows: Rows,
    start: str | None,
    *,
    dev: np.ndarray,
    test: np.ndarray,
    home: Path,
    tell: Callable[[dict[str, Any]], None],
    rates: Sequence[float],
    updates: int,
    seed: int,
) -> ProbeResult:
    """One training run a rate; the test rows' score of the one that is best on the development rows.

    `start`: the name of a run folder under `home` whose weights the encoder starts from; None: from scratch. Every run is kept
    under `home`, so a killed sweep goes on where it was. A rate at which training falls ill is out, and that is told.
    Raises OvertureError when all do.
    """
    from overture.train.engine import Engine
    from overture.train.health import IllRun
    from overture.train.loop import train
    from overture.train.state import checkpoints, load_weights

    began, table, pretraining = time.perf_counter(), rows.table, rows.run
    check_parts(goal.train, dev, test, len(table))
    used = _as_text(table.take(goal.train), goal.target)
    mark = fingerprint([used.fingerprint, goal.target, [str(v) for v in used.numpy(goal.target)]])[:6]
    corpus = used.save(f"{table.name}~{mark}")
    scores: dict[float, float | None] = {}
    best: tuple[float, float, Tuned] | None = None  # score (higher is better), rate, model
    seconds = max(goal.update_seconds, pretraining.data.max_seconds)
    with Engine.start() as engine:
        for rate in rates:
            run = Run(
                recipe=f"{pretraining.recipe}-{goal.name}",
                size="finetune",
                data=Data(corpus=corpus, max_seconds=pretraining.data.max_seconds),
                frontend=pretraining.frontend,
                model=goal.model,
                players=(Player(objective=goal.objective, optim=Optim(lr=rate, warmup=0.1, hold=0.4)),),
                plan=Plan(update_seconds=seconds, micro_seconds=seconds),
                loop=Loop(
                    updates=updates,
                    checkpoint_every=100,
                    precision=pretraining.loop.precision,
                    tolerate=LEARNT_AWAY,
                ),
                seed=seed,
                start=start,
            )
            folder = home / run.folder_name
            tell({"kind": "stage", "text": f"fine-tuning, rate {rate:g}"})
            try:
                outcome = train(run, folder, engine=engine, on_record=tell)
            except IllRun as illness:
                tell({"kind": "note", "text": f"rate {rate:g} is out: {illness}"})
                scores[rate] = None
                continue
            if not outcome.finished:
                raise KeyboardInterrupt
            model: Tuned = run.model.build(run.frontend)
            load_weights(checkpoints(folder)[-1], model)
            model = model.to(engine.device).eval()
            score = goal.count(goal.references(dev), rows.ask(goal, model, dev, engine.device)).value
            scores[rate] = score
            signed = score if goal.higher_is_better else -score
            if best is None or signed > best[0]:
                best = signed, rate, model
        if best is None:
            raise OvertureError(
                f"fine-tuning fell ill at every rate ({', '.join(f'{r:g}' for r in rates)}): the notes above say of what"
            )
        hypotheses = rows.ask(goal, best[2], test, engine.device)
    references = goal.references(test)
    return scored(
        table,
        test,
        goal.metric,
        goal.count(references, hypotheses),
        references,
        hypotheses,
        rate=best[1],
        dev=scores,
        dev_curve=[],
        layer_weights=[],
        left_out=goal.left_out,
        began=began,
        seed=0,
    )
