"""Hybrid recognition (HYKIST, arXiv 2309.15869): an encoder learns the states that an alignment gives its frames; Viterbi finds the words.

1. The training rows, and no others, are aligned: English by pocketsphinx, whose acoustic model is a given one that has heard nothing of
the table; other languages by a CTC recogniser that is fine-tuned on these same rows first. Rows of test speakers are not aligned at all,
so none of their labels can reach a target, a prior, a duration, the lexicon or the language model.
2. The whole encoder is trained by frame cross-entropy (`objectives.frame_labels`); priors are those of the targets.
3. Words are those of the training transcripts which have a pronunciation; the language model is of these transcripts. The prior scale and
the weight of the language model are chosen on development rows, then the test rows are decoded with them.

Beside the thesis: states of phones without context where it ties triphones by a tree; a given aligner in place of a GMM-HMM of its own.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from overture import jsonfile
from overture.config import to_dict
from overture.data import audio
from overture.data.batch import Batch
from overture.data.table import Table
from overture.errors import OvertureError
from overture.models.tuned import FrameHead, Tuned
from overture.objectives.frame_labels import COLUMN, FrameLabels, label_logits, write_labels
from overture.recognise.align import forced
from overture.recognise.hybrid import Decoder, Search, Statistics, Timing, frame_targets, from_ctc
from overture.recognise.lexicon import SILENCE, Lexicon, Topology, build_network, english, spelt
from overture.recognise.lm import NGram
from overture.recognise.recogniser import Recogniser, log_probs
from overture.recognise.units import normalise
from overture.run import Frontend, ModelSpec, Run
from overture.tasks import align, finetune_ctc, metrics
from overture.tasks.finetune import Finetuned, Goal, Rows, Schedule, one_by_one, tune
from overture.tasks.probe import check_parts, scored, strings

RATES = (3e-4, 1e-3)
UPDATES = 300
UPDATE_SECONDS = 60.0
LABEL_RATE = 100.0  # Hz: a phone of three states may last 30 ms, in an encoder with a state every 20
PHONE_STATES, LETTER_STATES = 3, 1  # letters are not aligned well enough to be divided
PRIOR_SCALES = (0.0, 0.3, 0.6, 0.9, 1.2)
LM_WEIGHTS = (2.0, 4.0, 8.0, 12.0, 16.0)
TUNING_SECONDS = 300.0  # of development rows that the weights are chosen on, at most

Aligner = Literal["pocketsphinx", "ctc"]
Aligned = dict[int, tuple[Sequence[str], np.ndarray]]  # row -> symbols (P,), bounds (P + 1,) s


@dataclass(frozen=True, kw_only=True)
class HybridModel:
    """The sizes of an encoder with a head of state posteriors, `factor` labels a state of the encoder."""

    encoder: ModelSpec
    classes: int
    factor: int

    def build(self, frontend: Frontend) -> Tuned:
        """The network with fresh weights."""
        encoder = self.encoder.build(frontend)
        return Tuned(encoder, FrameHead(encoder.dim, self.factor * self.classes), frontend)


@dataclass(frozen=True)
class FinetunedHybrid(Finetuned):
    """What a hybrid recogniser scores. `outputs` are (T, C) log p(s|x); its folder holds `hybrid.json`, which says what was decoded with."""

    decoder: Decoder
    search: Search  # with the weights that were chosen
    tried: dict[tuple[float, float], float]  # (prior scale, lm_weight) -> word error rate on development rows
    oov: dict[str, float]  # part -> share of its words that the lexicon lacks: errors before anything is heard
    real_time: float  # seconds of search a second of test audio, on one core; the network is not in it


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
    aligner: Aligner | None = None,
    rates: Sequence[float] | None = None,
    updates: int = UPDATES,
    schedule: Schedule = Schedule(),  # noqa: B008  # frozen
    seed: int = 0,
) -> FinetunedHybrid:
    """Train the encoder of `pretraining` on aligned rows and score the words of the test rows by word error rate.

    `start` names its run folder under `home`, None is from scratch; `train`, `dev`, `test`: row numbers in `table`; `aligner`: None
    takes pocketsphinx where all training rows are English, or do not say, else CTC. Training rows that cannot be aligned, or would be
    cropped, are left out and counted; test rows are all scored. Raises OvertureError when no training row is left, when alignments
    do not fit their recordings, or a held row has no transcript; MissingExtra without pocketsphinx.
    """
    check_parts(train, dev, test, len(table))

    def say(text: str) -> None:
        tell({"kind": "note", "text": text})

    train = np.sort(train)
    parts = {"train": train, "dev": dev, "test": test}
    texts = {part: [normalise(t) for t in strings(table, target, those)] for part, those in parts.items()}
    vocabulary = {word for text in texts["train"] for word in text.split()}
    rows = Rows(table, pretraining)
    rows.steps(np.concatenate([train, dev, test]))  # says which row is too short
    timing = Timing.of(rows.encoder, pretraining.frontend)
    chosen = aligner or ("pocketsphinx" if _english(table, train) else "ctc")
    longest = pretraining.data.max_seconds
    whole = train[table.numpy("duration")[train] <= longest]
    if len(whole) < len(train):
        say(
            f"{len(train) - len(whole)} of {len(train)} training rows are left out: they last over {longest:g} s and would be cropped"
        )
    if len(whole) == 0:
        raise OvertureError(
            f"all {len(train)} training rows last over {longest:g} s: raise data.max_seconds of the start"
        )
    if chosen == "pocketsphinx":
        found = _phones(table, whole, target)
        topology = Topology(symbols=tuple(p for p in align.PHONES if p != SILENCE), states=PHONE_STATES)
    else:
        settings = {"rates": rates, "updates": updates, "schedule": schedule, "seed": seed}
        found = _letters(pretraining, start, table, whole, dev, home, tell, target, timing, settings)
        if not found:
            raise OvertureError(
                f"none of {len(whole)} training rows could be aligned by CTC: their letters need more frames than they have"
            )
        topology = Topology(symbols=tuple(sorted({c for word in vocabulary for c in word})), states=LETTER_STATES)
    say(f"{len(found)} of {len(whole)} training rows are aligned ({chosen}); the others are left out")

    factor = timing.factor(max(LABEL_RATE, 1 / timing.hop))
    targets = _targets(rows, found, timing, factor, topology)
    statistics = Statistics.of(targets.values(), len(topology))
    lexicon = Lexicon.of(vocabulary, _dictionary(vocabulary) if chosen == "pocketsphinx" else spelt(vocabulary))
    lm = NGram.estimate(texts["train"])
    decoder = Decoder(build_network(lexicon, topology), statistics, lm)
    oov = {part: missing / max(total, 1) for part, of in texts.items() for missing, total in [lexicon.unknown(of)]}
    say(
        f"{len(lexicon.words)} words of training have a pronunciation, {len(lexicon.missing)} have none and are left out; "
        f"unknown: {oov['dev']:.1%} of the words of dev, {oov['test']:.1%} of test"
    )

    def outputs(model: Tuned, batch: Batch) -> list[np.ndarray]:
        last, steps = model(batch.x, batch.lengths)
        return log_probs(label_logits(model.head(last), factor), steps * factor)

    labels: list[str | None] = [None] * len(table)
    for row, classes in targets.items():
        labels[row] = write_labels(classes.tolist())
    columns = table.columns.append_column(COLUMN, pa.array(labels, pa.string()))
    rows = Rows(Table(columns, name=table.name, root=table.root, rows=table.rows), pretraining)
    goal = Goal(
        name="hybrid",
        model=HybridModel(encoder=pretraining.model, classes=len(topology), factor=factor),
        objective=FrameLabels(classes=len(topology), factor=factor, alteration=rows.alteration, mask=rows.mask),
        update=UPDATE_SECONDS,
        whole=True,
        train=np.array(sorted(targets), dtype=np.int64),
        left_out=[],
        target=COLUMN,
        outputs=outputs,
        judge=one_by_one(
            references=lambda asked: [normalise(t) for t in strings(table, target, asked)],
            answer=lambda scores: decoder(scores, Search()).text,
            count=metrics.wer,
        ),
        metric="wer",
    )
    tuned = tune(
        goal, rows, start, dev=dev, test=test, home=home, tell=tell, rates=rates, own=RATES, updates=updates, seed=seed, schedule=schedule
    )  # fmt: skip

    few = np.cumsum(table.numpy("duration")[dev]) <= TUNING_SECONDS
    few[0] = True
    tell({"kind": "stage", "text": f"choosing weights on {few.sum()} development rows"})
    of_dev = [scores for scores, kept in zip(tuned.outputs["dev"], few) if kept]
    search, tried = tune_search(decoder, of_dev, [t for t, kept in zip(texts["dev"], few) if kept])
    began = time.perf_counter()
    heard = [decoder(scores, search) for scores in tuned.outputs["test"]]
    real_time = (time.perf_counter() - began) / float(table.numpy("duration")[test].sum())
    open_ends = sum(not one.complete for one in heard)
    say(
        f"prior scale {search.prior_scale:g}, weight of the language model {search.lm_weight:g}; search at {real_time:.2f} of real time; "
        f"{open_ends} of {len(heard)} test rows end within a word"
    )
    hypotheses = [one.text for one in heard]
    counts = metrics.wer(texts["test"], hypotheses)
    result = scored(
        table, test, "wer", counts, texts["test"], hypotheses,
        rate=tuned.rate, dev=tuned.dev, dev_curve=[], layer_weights=[], left_out=[], began=time.perf_counter() - tuned.seconds, seed=0,
    )  # fmt: skip
    about = {
        "topology": to_dict(topology),
        "labels": {"rate": factor / timing.hop, "factor": factor, "aligner": chosen, "rows": len(targets)},
        "statistics": {k: v.tolist() for k, v in vars(statistics).items()},
        "lexicon": {"words": len(lexicon.words), "missing": lexicon.missing, "unknown": oov},
        "search": to_dict(search),
        "tried": [{"prior_scale": a, "lm_weight": w, "wer": value} for (a, w), value in tried.items()],
        "wer": {"value": result.value, "ci95": result.interval, "rows": len(test)},
        "real_time": real_time,
    }
    lm.write(tuned.folder / "lm.arpa")
    jsonfile.write(tuned.folder / "hybrid.json", about)
    kept = vars(result) | {"folder": tuned.folder, "outputs": tuned.outputs}
    return FinetunedHybrid(**kept, decoder=decoder, search=search, tried=tried, oov=oov, real_time=real_time)


def tune_search(
    decoder: Decoder, log_posteriors: Sequence[np.ndarray], references: Sequence[str]
) -> tuple[Search, dict[tuple[float, float], float]]:
    """The search with the fewest word errors on development rows, and the word error rate of each pair (prior scale, weight of
    the language model) that was tried: the weights with the usual prior scale, then the prior scales with the best weight."""
    tried: dict[tuple[float, float], float] = {}

    def rate(search: Search) -> float:
        key = search.prior_scale, search.lm_weight
        if key not in tried:
            tried[key] = metrics.wer(references, [decoder(one, search).text for one in log_posteriors]).value
        return tried[key]

    best = min((replace(Search(), lm_weight=w) for w in LM_WEIGHTS), key=rate)
    best = min((best, *(replace(best, prior_scale=a) for a in PRIOR_SCALES)), key=rate)
    return best, tried


def _english(table: Table, rows: np.ndarray) -> bool:
    if "language" not in table.columns.column_names:
        return True
    return all(v is None or str(v).lower().partition("-")[0] == "en" for v in table.numpy("language")[rows])


def _dictionary(words: set[str]) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Of English; a word that is known without its apostrophes only is said as that, as the aligner has it."""
    known = english()
    found = ((word, known.get(word) or known.get(word.strip("'"))) for word in words)
    return {word: said for word, said in found if said}


def _phones(table: Table, rows: np.ndarray, target: str) -> Aligned:
    """Phones of `rows` by pocketsphinx, as far as it can."""
    if target != "text":
        raise OvertureError(
            f"the aligner of English reads the column 'text', the transcripts are in {target!r}: rename it"
        )
    found = align.read(align.aligned(table.take(rows), align.kept()))
    ids = table.numpy("id")
    return {int(row): (found[ids[row]].phones, found[ids[row]].bounds) for row in rows if ids[row] in found}


def _letters(
    pretraining: Run,
    start: str | None,
    table: Table,
    rows: np.ndarray,
    dev: np.ndarray,
    home: Path,
    tell: Callable[[dict[str, Any]], None],
    target: str,
    timing: Timing,
    settings: dict[str, Any],
) -> Aligned:
    """Letters of `rows` by a CTC recogniser that is fine-tuned on them; half of `dev` chooses its rate, the other half scores it."""
    if len(dev) < 2:
        raise OvertureError("aligning by CTC needs two development rows or more")
    tell({"kind": "stage", "text": "a CTC recogniser of the training rows, to align them"})
    made = finetune_ctc.finetune(
        pretraining, start, table, train=rows, dev=dev[::2], test=dev[1::2], home=home, tell=tell, target=target, **settings
    )  # fmt: skip
    recogniser = Recogniser.load(made.folder)
    starts = table.numpy("start") if "start" in table.columns.column_names else np.zeros(len(table))
    found: Aligned = {}
    for row, text in zip(rows.tolist(), strings(table, target, rows)):
        entry = table.row(row)
        wave = audio.read(
            entry["audio"], rate=recogniser.rate, start=float(starts[row]), duration=float(entry["duration"])
        )
        (scores,) = recogniser.log_probs([wave])
        ids = made.units.encode(text, row=str(entry["id"]))
        try:
            best = forced(scores, ids) if ids else None
        except OvertureError:  # more letters than states
            best = None
        if best is not None:
            places = list(zip(best.first.tolist(), (best.last + 1).tolist()))
            found[row] = from_ctc(places, made.units.decode(ids), timing, len(wave) / recogniser.rate)
    return found


def _targets(rows: Rows, found: Aligned, timing: Timing, factor: int, topology: Topology) -> dict[int, np.ndarray]:
    """Row -> (T * factor,) classes of its labels. Raises OvertureError for an alignment that does not fit its recording."""
    ids, numbers = rows.table.numpy("id"), np.array(sorted(found), dtype=np.int64)
    targets = {}
    for row, steps in zip(numbers.tolist(), rows.steps(numbers).tolist()):
        symbols, bounds = found[row]
        timing.check(float(bounds[-1]), steps, factor, str(ids[row]))
        targets[row] = frame_targets(symbols, bounds, timing.times(steps, factor), topology)
    return targets
