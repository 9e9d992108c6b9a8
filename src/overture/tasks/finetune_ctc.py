"""CTC fine-tuning (Graves et al. 2006): a linear head on the last hidden state writes letters, greedy decoding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from overture.data.alteration import Alteration
from overture.data.batch import Batch, valid_mask
from overture.data.draws import Draws
from overture.data.table import Table
from overture.errors import OvertureError
from overture.objectives import Loss
from overture.run import Frontend, ModelSpec, Run
from overture.tasks import metrics
from overture.tasks.ctc import Alphabet, CTCHead, ctc_loss_sum, greedy_decode, infeasible, normalise
from overture.tasks.finetune import Goal, Rows, Tuned, alteration_for, tune
from overture.tasks.probe import ProbeResult, check_parts, strings

RATES = (3e-4, 1e-3)
UPDATES = 300
UPDATE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Recogniser:
    """The sizes of an encoder with a CTC head of these characters."""

    encoder: ModelSpec
    characters: str

    def build(self, frontend: Frontend) -> Tuned:
        encoder = self.encoder.build(frontend)
        return Tuned(encoder, CTCHead(encoder.dim, Alphabet(tuple(self.characters))), frontend)


@dataclass(frozen=True, kw_only=True)
class Transcribe:
    """CTC on altered input, in nats a character."""

    characters: str
    alteration: Alteration | None = None
    column: str = "text"

    def encode(self, value: str, row: str) -> list[int]:
        return Alphabet(tuple(self.characters)).encode(value, row=row)

    def __call__(self, model: Tuned, batch: Batch, draws: Draws) -> Loss:
        if batch.labels is None or batch.label_lengths is None:
            raise ValueError("CTC needs a batch with labels")
        x = self.alteration(batch, draws, model.input_rate)[0] if self.alteration else batch.x
        hidden, steps = model(x, batch.lengths)
        total, characters = ctc_loss_sum(model.head(hidden), steps, batch.labels, batch.label_lengths)
        valid = valid_mask(steps, hidden.shape[1])
        return Loss(sum=total, targets=characters, watch={}, frames=hidden.detach()[valid].float())


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
    rates: Sequence[float] = RATES,
    updates: int = UPDATES,
    seed: int = 0,
) -> ProbeResult:
    """Fine-tune the encoder of `pretraining` on transcribed rows and score it by character error rate.

    `start` names its run folder under `home`, None is from scratch; `train`, `dev`, `test`: row numbers in `table`. Training
    rows whose hidden states cannot hold their transcript, or that would be cropped, are left out and listed; test rows are
    all scored. Raises OvertureError for rows without a usable transcript, before any training.
    """
    check_parts(train, dev, test, len(table))
    ids, texts = table.numpy("id"), {int(i): t for i, t in zip(train, strings(table, target, train))}
    alphabet = Alphabet.of(texts.values())
    longest = pretraining.data.max_seconds
    rows = Rows(table, pretraining)
    frames = dict(zip(train.tolist(), rows.steps(train)))
    rows.steps(np.concatenate([dev, test]))  # says which row is too short to be scored
    left_out = infeasible(
        (str(ids[i]), frames[i], alphabet.encode(text, row=str(ids[i]), drop=True)) for i, text in texts.items()
    )
    unusable, durations = {row.id for row in left_out}, table.numpy("duration")
    # A cropped utterance no longer says its transcript.
    kept = np.array([i for i in train if str(ids[i]) not in unusable and durations[i] <= longest], dtype=np.int64)
    if dropped := len(train) - len(kept):
        why = f"over {longest:g} s, or with more characters than frames"
        tell({"kind": "note", "text": f"{dropped} of {len(train)} training rows are left out: {why}"})
    if len(kept) == 0:
        raise OvertureError("no training row has a transcript that its frames can hold")
    characters = "".join(alphabet.characters)

    def answers(model: Tuned, batch: Batch) -> list[str]:
        hidden, steps = model(batch.x, batch.lengths)
        return [alphabet.decode(i) for i in greedy_decode(model.head(hidden), steps)]

    goal = Goal(
        name="ctc",
        model=Recogniser(encoder=pretraining.model, characters=characters),
        objective=Transcribe(characters=characters, alteration=alteration_for(pretraining.frontend), column=target),
        update_seconds=UPDATE_SECONDS,
        whole=True,
        train=kept,
        left_out=left_out,
        target=target,
        references=lambda chosen: [normalise(t) for t in strings(table, target, chosen)],
        answers=answers,
        count=metrics.cer,
        metric="cer",
        higher_is_better=False,
    )
    return tune(goal, rows, start, dev=dev, test=test, home=home, tell=tell, rates=rates, updates=updates, seed=seed)
