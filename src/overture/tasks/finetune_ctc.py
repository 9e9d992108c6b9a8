"""CTC fine-tuning (Graves et al. 2006): a linear head on the last hidden state writes units; what comes of it is a recogniser."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from overture.data.alteration import Alteration
from overture.data.augment import WaveAugment
from overture.data.batch import Batch, valid_mask
from overture.data.check import Problem
from overture.data.draws import Draws
from overture.data.table import Table
from overture.errors import OvertureError
from overture.models.tuned import LatentMask, Tuned
from overture.objectives import Loss
from overture.recognise import recogniser
from overture.recognise.recogniser import CTCModel
from overture.recognise.units import Kind, Units, make_units
from overture.run import Run
from overture.tasks import metrics
from overture.tasks.ctc import ctc_loss_sum
from overture.tasks.finetune import Finetuned, Goal, Rows, Schedule, one_by_one, tune
from overture.tasks.probe import check_parts, strings
from overture.tasks.transcripts import OUT, look

RATES = (3e-4, 1e-3)
UPDATES = 900
UPDATE_SECONDS = 20.0  # many small updates: CTC stands still for the first hundreds of them, however large


@dataclass(frozen=True, kw_only=True)
class Transcribe:
    """CTC on altered input, in nats a unit."""

    units: Units
    alteration: Alteration | None = None
    mask: LatentMask | None = None  # of an encoder of samples
    column: str = "text"

    def encode(self, value: str, row: str) -> list[int]:
        return self.units.encode(value, row=row)

    def __call__(self, model: Tuned, batch: Batch, draws: Draws) -> Loss:
        if batch.labels is None or batch.label_lengths is None:
            raise ValueError("CTC needs a batch with labels")
        x = self.alteration(batch, draws, model.input_rate)[0] if self.alteration else batch.x
        hidden = model.draw(self.mask, batch.rows, x, batch.lengths, draws) if self.mask else None
        last, steps = model(x, batch.lengths, hidden)
        total, count = ctc_loss_sum(model.head(last), steps, batch.labels, batch.label_lengths)
        valid = valid_mask(steps, last.shape[1])
        return Loss(sum=total, targets=count, watch={}, frames=last.detach()[valid].float())


@dataclass(frozen=True)
class FinetunedCTC(Finetuned):
    """A recogniser's scores. Its folder holds what `recognise.recogniser.Recogniser.load` reads; `outputs` are log-probabilities."""

    units: Units
    problems: list[Problem] = field(default_factory=list)  # with rows of any part


def finetune(
    pretraining: Run,
    start: str | None,
    table: Table,
    *,
    train: np.ndarray,
    dev: np.ndarray,
    test: np.ndarray,
    home: Path,
    tell: Callable[[dict[str, Any]], None],
    target: str = "text",
    units: Kind = "characters",
    size: int = 200,
    language: str | None = None,
    rates: Sequence[float] | None = None,
    updates: int = UPDATES,
    schedule: Schedule = Schedule(),  # noqa: B008  # frozen
    augment: WaveAugment | None = None,
    micro_seconds: float | None = None,
    seed: int = 0,
) -> FinetunedCTC:
    """Fine-tune the encoder of `pretraining` on transcribed rows and score it by character error rate (greedy decoding).

    `start` names its run folder under `home`, None is from scratch; `train`, `dev`, `test`: row numbers in `table`; `units`: what is
    written, made of the training transcripts alone; `size`: how many pieces; `language`: espeak-ng's, for phones. Training rows that
    teach nothing (no text, silence, more units than frames, ...: `transcripts.OUT`) are left out and listed; test rows are all
    scored. What is wrong with a row is told before any training. Raises OvertureError when no training row is left, or a held row
    has no transcript or no frame.
    """
    check_parts(train, dev, test, len(table))
    held = np.concatenate([dev, test])
    strings(table, target, held)  # says which row has none
    texts = [v for v in table.numpy(target)[train] if v is not None and str(v).strip()]
    made = make_units(units, map(str, texts), size=size, language=language)
    slowest, fastest = (augment.slowest, augment.fastest) if augment else (1.0, 1.0)
    rows = Rows(table, pretraining)
    rows.steps(held)  # says which row is too short to be scored
    found = look(
        table,
        train=train,
        held=held,
        target=target,
        units=made,
        frontend=pretraining.frontend,
        frames=lambda chosen: rows.frames(chosen, fastest),
        longest=pretraining.data.max_seconds * slowest,
    )
    for line in found.lines():
        tell({"kind": "note", "text": line})
    if dropped := len(train) - len(found.usable):
        tell({"kind": "note", "text": f"{dropped} of {len(train)} training rows are left out"})
    if len(found.usable) == 0:
        raise OvertureError(
            "no training row can be learnt from:\n" + "\n".join(f"  {line}" for line in found.lines(OUT))
        )

    def outputs(model: Tuned, batch: Batch) -> list[np.ndarray]:
        hidden, steps = model(batch.x, batch.lengths)
        return recogniser.log_probs(model.head(hidden), steps)

    goal = Goal(
        name="ctc",
        model=CTCModel(encoder=pretraining.model, units=made),
        objective=Transcribe(units=made, alteration=rows.alteration, mask=rows.mask, column=target),
        update=UPDATE_SECONDS,
        whole=True,
        train=found.usable,
        left_out=found.infeasible,
        target=target,
        outputs=outputs,
        judge=one_by_one(
            references=lambda chosen: [made.normalise(t) for t in strings(table, target, chosen)],
            answer=lambda scores: recogniser.best_text(scores, made),
            count=metrics.cer,
        ),
        metric="cer",
    )
    tuned = tune(
        goal,
        rows,
        start,
        dev=dev,
        test=test,
        home=home,
        tell=tell,
        rates=rates,
        own=RATES,
        updates=updates,
        seed=seed,
        schedule=schedule,
        augment=augment,
        micro_seconds=micro_seconds,
    )
    recogniser.save(
        tuned.folder,
        pretraining=pretraining,
        units=made,
        scores={"greedy": {"cer": tuned.value, "ci95": tuned.interval, "rows": len(test)}},
    )
    return FinetunedCTC(**vars(tuned), units=made, problems=found.problems)
