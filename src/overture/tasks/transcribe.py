"""What is said, letter by letter: a linear CTC head on every frame of a frozen encoder."""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from overture.data.table import Table
from overture.errors import OvertureError
from overture.recognise.decode import greedy
from overture.recognise.units import make_units
from overture.tasks import metrics
from overture.tasks.ctc import ctc_losses, infeasible
from overture.tasks.features import Frames
from overture.tasks.probe import Heads, ProbeResult, check_parts, frame_scale, result_of, strings, sweep

CTC_RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def _length_buckets(lengths: np.ndarray, size: int, generator: torch.Generator) -> list[np.ndarray]:
    """Positions into `lengths`, `size` of about equal length at a time, in random order; other neighbours every epoch."""
    jitter = 1 + 0.2 * torch.rand(len(lengths), generator=generator, dtype=torch.float64).numpy()
    order = np.argsort(lengths * jitter, kind="stable")
    batches = [order[i : i + size] for i in range(0, len(order), size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


class _Utterances:
    """Batches of standardised frames out of the packed cache."""

    def __init__(self, frames: Frames, train: np.ndarray, device: torch.device | str) -> None:
        self.frames, self.device = frames, device
        self.offset, self.inverse = frame_scale(frames, train)

    def logits(self, heads: Heads, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Rows of the table -> logits (K * B, T, C), padding zero, and lengths (B,)."""
        parts = [torch.from_numpy(np.array(self.frames[row])) for row in rows]
        x = torch.cat(parts).transpose(0, 1).float().sub_(self.offset).mul_(self.inverse).contiguous()  # (L + 1, M, D)
        packed = heads.logits(x.to(self.device))  # (K, M, C)
        lengths = torch.tensor([len(p) for p in parts])
        padded = pad_sequence(
            list(torch.split(packed.transpose(0, 1), lengths.tolist())), batch_first=True
        )  # (B, T, K, C)
        return padded.permute(2, 0, 1, 3).flatten(0, 1), lengths


def transcribe(
    frames: Frames,
    table: Table,
    *,
    train: np.ndarray,
    dev: np.ndarray,
    test: np.ndarray,
    target: str = "text",
    rates: Sequence[float] = CTC_RATES,
    epochs: int = 30,
    patience: int = 5,
    batch: int = 8,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> ProbeResult:
    """What is said: a linear CTC head on every frame, greedy decoding without a language model; character error rate.

    `frames`: of `features.frames` for the rows of `table`; `train`, `dev`, `test`: row numbers in it; `target`: the
    transcripts. The alphabet is that of the training transcripts; characters only test rows have count as errors. Training
    and development rows whose frames cannot hold their transcript are left out and listed in the result; test rows are all
    scored. Raises OvertureError for rows without a transcript, rows in two parts, or when no row can be trained on.
    """
    began = time.perf_counter()
    check_parts(train, dev, test, len(table))
    if len(frames.lengths) != len(table):
        raise ValueError(f"features of {len(frames.lengths)} rows, a table of {len(table)}")
    ids = table.numpy("id")
    fitted, held = strings(table, target, train), strings(table, target, dev)
    alphabet = make_units("characters", fitted)
    references = [alphabet.normalise(text) for text in strings(table, target, test)]
    targets: dict[int, list[int]] = {}
    for rows, texts, drop in ((train, fitted, False), (dev, held, True)):
        targets |= {int(r): alphabet.encode(t, row=str(ids[r]), drop=drop) for r, t in zip(rows, texts)}
    left_out = infeasible((str(ids[r]), int(frames.lengths[r]), t) for r, t in targets.items())
    out = {row.id for row in left_out}
    parts = {"training": train, "development": dev}
    train, dev = (np.array([r for r in rows if str(ids[r]) not in out], np.int64) for rows in (train, dev))
    for name, rows in zip(parts, (train, dev)):
        if len(rows) == 0:
            raise OvertureError(
                f"all {len(parts[name])} {name} rows have too few frames at {frames.frame_rate:g} Hz for their "
                f"transcripts (first: {left_out[0]}). Use a higher frame rate."
            )
    utterances = _Utterances(frames, train, device)
    dev_texts = {int(r): alphabet.normalise(t) for r, t in zip(parts["development"], held)}

    def losses(heads: Heads, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (K * B, T, C), lengths (K * B,), loss of each head and utterance (K, B)."""
        logits, lengths = utterances.logits(heads, rows)
        k = len(logits) // len(rows)
        padded = pad_sequence([torch.tensor(targets[int(r)]) for r in rows], batch_first=True).long()  # (B, S)
        sizes = torch.tensor([len(targets[int(r)]) for r in rows])
        each = ctc_losses(logits, lengths.repeat(k), padded.repeat(k, 1).to(device), sizes.repeat(k))
        return logits, lengths.repeat(k), each.view(k, -1)

    def train_epoch(heads: Heads, generator: torch.Generator) -> Iterator[Tensor]:
        for positions in _length_buckets(frames.lengths[train], batch, generator):
            rows = train[positions]
            yield losses(heads, rows)[2].sum() / sum(max(len(targets[int(r)]), 1) for r in rows)

    def in_batches(rows: np.ndarray) -> Iterator[np.ndarray]:
        ordered = rows[np.argsort(frames.lengths[rows], kind="stable")]
        yield from (ordered[i : i + 2 * batch] for i in range(0, len(ordered), 2 * batch))

    def score_dev(heads: Heads) -> tuple[np.ndarray, np.ndarray]:
        errors, loss, characters = np.zeros(len(heads.rates)), np.zeros(len(heads.rates)), 0
        for rows in in_batches(dev):
            logits, lengths, each = losses(heads, rows)
            written = [alphabet.decode(i) for i in greedy(logits, lengths)]
            expected = [dev_texts[int(r)] for r in rows]
            found = metrics.cer(expected * len(each), written)
            errors += found.events.reshape(len(each), -1).sum(1)
            loss += each.double().sum(1).cpu().numpy()
            characters += sum(map(len, expected))
        return errors / max(characters, 1), loss / max(characters, 1)

    start = Heads(rates, frames.packed.shape[1], frames.packed.shape[2], len(alphabet), device)
    swept = sweep(start, train_epoch, score_dev, epochs=epochs, patience=patience, seed=seed)
    written: dict[int, str] = {}
    with torch.no_grad():
        for rows in in_batches(test):
            logits, lengths = utterances.logits(swept.head, rows)
            written |= {int(r): alphabet.decode(i) for r, i in zip(rows, greedy(logits, lengths))}
    hypotheses = [written[int(r)] for r in test]
    counts = metrics.cer(references, hypotheses)
    return result_of(table, test, "cer", counts, references, hypotheses, swept, rates, left_out, began, seed)
