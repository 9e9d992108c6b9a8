"""CTC fine-tuning of a whole encoder: an ordinary training run with transcripts, then greedy decoding.

A linear head on the last hidden state, all weights trained, the recipe's alteration as SpecAugment (Park et al. 2019). The
protocol contains the sweep: each rate is a run, the development rows choose, the test rows are scored once.
"""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from overture.data.alteration import Alteration
from overture.data.batch import Batch, valid_mask
from overture.data.draws import Draws
from overture.data.lengths import samples
from overture.data.source import Cached, collate
from overture.data.table import Table
from overture.errors import OvertureError
from overture.objectives import Loss
from overture.run import Data, Frontend, Loop, ModelSpec, Optim, Plan, Player, Run
from overture.tasks import metrics
from overture.tasks.ctc import Alphabet, CTCHead, ctc_loss_sum, greedy_decode, infeasible, normalise
from overture.tasks.probe import GROUPS, ProbeResult

RATES = (3e-4, 1e-3)
SPECAUGMENT = Alteration(time_share=0.1, time_width=0.2, time_zero=1.0, time_replace=0.0, noise_probability=0.0)


class RecogniserModel(nn.Module):
    """An encoder and a CTC head on its last hidden state."""

    def __init__(self, encoder: Any, alphabet: Alphabet) -> None:
        super().__init__()
        self.encoder, self.head = encoder, CTCHead(encoder.dim, alphabet)
        self.frame_rate: float = encoder.frame_rate
        for name, parameter in encoder.named_parameters():
            if name.startswith("head."):  # of pre-training: nothing it computes is used
                parameter.requires_grad_(False)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, F), (B,) -> logits (B, T', C), their lengths (B,), the last hidden state (B, T', D)."""
        hidden, steps = self.encoder.states(x, lengths)
        return self.head(hidden[-1]), steps, hidden[-1]


@dataclass(frozen=True, kw_only=True)
class Recogniser:
    """The sizes of an encoder with a CTC head of these characters."""

    encoder: ModelSpec
    characters: str

    def build(self, frontend: Frontend) -> RecogniserModel:
        return RecogniserModel(self.encoder.build(frontend), Alphabet(tuple(self.characters)))


@dataclass(frozen=True, kw_only=True)
class Transcribe:
    """CTC (Graves et al. 2006) on altered input, in nats a character."""

    characters: str
    alteration: Alteration = field(default_factory=lambda: SPECAUGMENT)
    column: str = "text"

    def encode(self, value: str, row: str) -> list[int]:
        return Alphabet(tuple(self.characters)).encode(value, row=row)

    def __call__(self, model: RecogniserModel, batch: Batch, draws: Draws) -> Loss:
        if batch.labels is None or batch.label_lengths is None:
            raise ValueError("CTC needs a batch with labels")
        x, _ = self.alteration(batch, draws, model.frame_rate)
        logits, steps, hidden = model(x, batch.lengths)
        total, characters = ctc_loss_sum(logits, steps, batch.labels, batch.label_lengths)
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
    tell: Any,
    rates: tuple[float, ...] = RATES,
    updates: int = 300,
    seed: int = 0,
) -> ProbeResult:
    """Fine-tune the encoder of `pretraining` on transcribed rows and score it; `start` names its run folder under `home`, None is from scratch.

    `train`, `dev`, `test`: row numbers in `table`. Every run is kept under `home`, so a killed sweep goes on where it was.
    Raises OvertureError for rows without a usable transcript, before any training.
    """
    from overture.train.engine import Engine
    from overture.train.loop import train as run_training
    from overture.train.state import checkpoints, load_weights

    begun = time.perf_counter()
    texts, ids = table.numpy("text"), table.numpy("id")
    alphabet = Alphabet.of([texts[i] for i in train])
    characters = "".join(alphabet.characters)
    durations, frontend = table.numpy("duration"), pretraining.frontend
    left_out = infeasible(
        (
            str(ids[i]),
            frontend.steps(samples(min(durations[i], pretraining.data.max_seconds), frontend.rate)),
            alphabet.encode(texts[i], row=str(ids[i]), drop=True),
        )
        for i in train
    )
    unusable = {row.id for row in left_out}
    # A cropped utterance no longer says its transcript.
    kept = np.array(
        [i for i in train if str(ids[i]) not in unusable and durations[i] <= pretraining.data.max_seconds],
        dtype=np.int64,
    )
    if dropped := len(train) - len(kept):
        tell(
            {
                "kind": "note",
                "text": f"{dropped} of {len(train)} training rows are left out: over {pretraining.data.max_seconds:g} s, or "
                "with more characters than frames",
            }
        )
    if len(kept) == 0:
        raise OvertureError("no training row has a transcript that its frames can hold")
    rows = table.take(kept)
    corpus = rows.save(f"{table.name}~{rows.fingerprint[:6]}")
    scores: dict[float, tuple[float, nn.Module]] = {}
    source = Cached.open(table, pretraining.frontend)
    with Engine.start() as engine:
        for rate in rates:
            run = Run(
                recipe="ctc",
                size="finetune",
                data=Data(corpus=corpus, max_seconds=pretraining.data.max_seconds),
                frontend=pretraining.frontend,
                model=Recogniser(encoder=pretraining.model, characters=characters),
                players=(
                    Player(objective=Transcribe(characters=characters), optim=Optim(lr=rate, warmup=0.1, hold=0.4)),
                ),
                plan=Plan(update_seconds=60.0, micro_seconds=60.0),
                loop=replace(Loop(), updates=updates, checkpoint_every=100, precision=pretraining.loop.precision),
                seed=seed,
                start=start,
            )
            folder = home / run.folder_name
            tell({"kind": "stage", "text": f"fine-tuning, rate {rate:g}"})
            if not run_training(run, folder, engine=engine, on_record=tell).finished:
                raise KeyboardInterrupt
            model = run.model.build(run.frontend)
            load_weights(checkpoints(folder)[-1], model)
            model = model.to(engine.device).eval()
            hypotheses = _transcribe(model, source, dev, alphabet, engine.device)
            scores[rate] = (metrics.cer([normalise(texts[i]) for i in dev], hypotheses).value, model)
        best = min(scores, key=lambda r: scores[r][0])
        references = [normalise(texts[i]) for i in test]
        hypotheses = _transcribe(scores[best][1], source, test, alphabet, engine.device)
    counts = metrics.cer(references, hypotheses)
    columns = {c: table.numpy(c)[test] for c in GROUPS if c in table.columns.column_names}
    return ProbeResult(
        metric="cer",
        value=counts.value,
        interval=metrics.bootstrap(counts.events, counts.totals),
        by_group=metrics.by_group(counts, columns),
        rate=best,
        dev={rate: score for rate, (score, _) in scores.items()},
        dev_curve=[],
        layer_weights=[],
        seconds=time.perf_counter() - begun,
        counts=counts,
        predictions=pa.table(
            {
                "id": [str(ids[i]) for i in test],
                "reference": references,
                "hypothesis": hypotheses,
                "errors": counts.events,
                "total": counts.totals,
            }
        ),
        infeasible=left_out,
    )


@torch.no_grad()
def _transcribe(
    model: nn.Module, source: Cached, rows: np.ndarray, alphabet: Alphabet, device: torch.device
) -> list[str]:
    """Greedy transcripts of `rows`, in their order; batches of like length."""
    frames = source.offsets[rows + 1] - source.offsets[rows]
    found: dict[int, str] = {}
    for part in np.array_split(np.argsort(frames, kind="stable"), max(1, int(frames.sum()) // 6000)):
        if len(part) == 0:
            continue
        batch = collate(source, np.arange(len(source.offsets)), rows[part], longest=int(frames.max()), draws=None).to(
            device
        )
        logits, steps, _ = model(batch.x, batch.lengths)
        for place, ids in zip(part, greedy_decode(logits, steps)):
            found[int(place)] = alphabet.decode(ids)
    return [found[i] for i in range(len(rows))]
