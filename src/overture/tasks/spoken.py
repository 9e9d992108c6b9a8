"""What a language model does with what it hears, as it is: nothing is trained. The tasks `gap-closure`, `heard-word`, `echo` and `repeat`.

BLSP's evaluation at the size of a small language model (Wang et al. 2023, arXiv:2309.00916): not whether it transcribes, but whether speech
changes what it says as the transcript would. Of the prompts, that of `gap-closure` and `echo` is that of the training; the others never are.
"""

import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from overture.data.sample import Respond, Sample, text
from overture.data.source import Cached
from overture.data.table import Table
from overture.errors import OvertureError
from overture.objectives.answers import answer_losses, learnt_next
from overture.recognise.units import normalise
from overture.run import Run
from overture.tasks import Task, metrics
from overture.tasks.metrics import Counts
from overture.tasks.probe import ProbeResult
from overture.train.samples import continuous, exchanged, spoken

if TYPE_CHECKING:
    from overture.models.speech_text import SpeechTextModel

Tell = Callable[[dict[str, Any]], None]
OPTIONS = 4
WORD = re.compile(r"[a-z']{4,}")
ASK_WORD = ' One of the words in this sentence is "'  # to go on from, for a model that knows no instructions
ASK_REPEAT = ' Once more, word for word: "'
ECHO = 0.3  # word error rate below which an answer repeats what was said
ANSWER = 48  # tokens of an answer at most
BATCH = 16  # samples of a forward pass


@dataclass(frozen=True)
class Listener:
    """A network with what it needs to be asked about the rows of a table."""

    model: "SpeechTextModel"
    run: Run
    table: Table
    source: Cached
    program: Respond

    @classmethod
    def of(cls, model: "SpeechTextModel", run: Run, table: Table) -> "Listener":
        """Raises OvertureError for a run that does not hear and read, or whose program is another."""
        program = run.data.sample
        if not isinstance(program, Respond):
            raise OvertureError(f"{run.recipe} does not answer to speech: these tasks are for runs such as blsp")
        program = replace(program, given="speech", exchanged=False)
        return cls(model.eval(), run, table, Cached.open(table, run.frontend.audio), program)

    @torch.no_grad()
    def costs(self, samples: Sequence[Sample]) -> np.ndarray:
        """(N,) nats of what is learnt in each sample."""
        renderer = continuous(self.run, self.source)
        rendered = [renderer(sample) for sample in samples]
        found = np.zeros(len(samples))
        order = np.argsort([len(r.ids) for r in rendered], kind="stable")
        for part in np.array_split(order, -(-len(order) // BATCH)):
            batch = spoken([rendered[i] for i in part], self.source, self.run.frontend).to(self._device)
            _, each = answer_losses(self.model, self.model.hidden(batch), batch)
            sizes = learnt_next(batch).sum(1).tolist()
            found[part] = [float(p.double().sum()) for p in each.split(sizes)]
        return found

    @torch.no_grad()
    def answers(self, samples: Sequence[Sample], tokens: int = ANSWER) -> list[str]:
        """What is said after each sample, greedily, up to the end token."""
        renderer = continuous(self.run, self.source)
        tokenizer = self.run.frontend.tokens.tokenizer()
        found = [""] * len(samples)
        rendered = [renderer(sample) for sample in samples]
        order = np.argsort([len(r.ids) for r in rendered], kind="stable")
        for part in np.array_split(order, -(-len(order) // BATCH)):
            batch = spoken([rendered[i] for i in part], self.source, self.run.frontend).to(self._device)
            for i, ids in zip(part, self.model.answer(batch, tokens)):
                found[i] = tokenizer.decode(ids, skip_special_tokens=True)
        return found

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def rows(self, rows: np.ndarray) -> list[dict[str, Any]]:
        """Their values."""
        return [self.table.row(int(r)) for r in rows]


def judge(
    task: Task, model: "SpeechTextModel", run: Run, table: Table, test: np.ndarray, tell: Tell = lambda event: None
) -> ProbeResult:
    """`model`, the network of `run`, by `task`. `test`: row numbers in `table`. Raises OvertureError, see `Listener.of`."""
    began = time.perf_counter()
    listener = Listener.of(model, run, table)
    counts, columns = {
        "gap-closure": _gap,
        "heard-word": _words,
        "echo": _echo,
        "repeat": _repeat,
    }[task.name](listener, task.target, test, tell)
    return ProbeResult.as_it_is(
        task.metric, counts, {"id": [str(i) for i in table.numpy("id")[test]], **columns}, began
    )


def cascade(name: str, run: Run, table: Table, test: np.ndarray, target: str, tell: Tell) -> ProbeResult:
    """`gap-closure` of the language model of `run` that reads what the recogniser `name` writes, in place of hearing (the paper's cascade).

    Raises OvertureError, see `Listener.of` and `whisper.transcripts`.
    """
    from overture.tasks import whisper

    began = time.perf_counter()
    run = run.settled()
    torch.manual_seed(0)
    listener = Listener.of(run.model.build(run.frontend), run, table)
    written = [h.text.strip() for h in whisper.transcripts(name, table, test, tell)]
    counts, columns = _gap(listener, target, test, tell, written)
    return ProbeResult.as_it_is("closure", counts, {"id": [str(i) for i in table.numpy("id")[test]], **columns}, began)


Found = tuple[Counts, dict[str, Any]]


def _gap(listener: Listener, target: str, test: np.ndarray, tell: Tell, written: Sequence[str] | None = None) -> Found:
    """Of what the transcript is worth to the language model's own continuation, over nothing at all, the share that speech is worth over the
    speech of another utterance: 1 is as good as the text; 0, the utterance is not heard.

    The denominator is of the language model alone, so it is the same for all arms. `written`: is read in place of hearing.
    """
    program, rows = replace(listener.program, column=target), listener.rows(test)
    others = exchanged(len(test), 0)
    read = program.like("text")

    def told(row: dict[str, Any], place: int) -> Sample:
        """What is said of `row` after the utterance at `place`."""
        return program(row, int(test[place])) if written is None else read(row | {"text": written[place]}, 0)

    nats = {
        "nats_speech": listener.costs([told(row, i) for i, row in enumerate(rows)]),
        "nats_exchanged": listener.costs([told(row, int(o)) for row, o in zip(rows, others)]),
        "nats_text": listener.costs([read(row, 0) for row in rows]),
        "nats_nothing": listener.costs([program.like("nothing")(row, 0) for row in rows]),
    }
    closed = Counts(nats["nats_exchanged"] - nats["nats_speech"], nats["nats_nothing"] - nats["nats_text"])
    said = [str(row[target]) for row in rows]
    return closed, {"reference": said, "hypothesis": [""] * len(rows), **nats}


def _words(listener: Listener, target: str, test: np.ndarray, tell: Tell) -> Found:
    """Which of four words was said, by what each gains over hearing nothing: an instruction that was never trained; chance is .25."""
    rows = listener.rows(test)
    asked = questions([str(row["text"]) for row in rows], [str(row["id"]) for row in rows])
    if not asked:
        raise OvertureError(f"none of {len(test)} test rows has a word that three others lack: ask with more rows")
    if len(asked) < len(test):
        tell({"kind": "note", "text": f"{len(test) - len(asked)} of {len(test)} test rows make no question"})
    program = replace(listener.program, instruction="", behind=ASK_WORD)
    costs = {}
    for given in ("speech", "text", "nothing"):
        ask = program.like(given)
        samples = [
            (*ask.prompt(rows[place], int(test[place])), text(word, learnt=True))
            for place, words, _ in asked
            for word in words
        ]
        costs[given] = listener.costs(samples).reshape(-1, OPTIONS)
    right = np.array([answer for _, _, answer in asked])
    chosen = {given: (costs[given] - costs["nothing"]).argmin(1) for given in ("speech", "text")}
    events = (chosen["speech"] == right).astype(np.int64)
    return Counts(events, np.ones(len(asked), dtype=np.int64)), {
        "id": [str(rows[place]["id"]) for place, _, _ in asked],
        "reference": [words[answer] for _, words, answer in asked],
        "hypothesis": [words[c] for (_, words, _), c in zip(asked, chosen["speech"])],
        "correct_text": (chosen["text"] == right).astype(np.int64),
    }


def nats_by_condition(predictions: pa.Table) -> dict[str, float]:
    """Mean nats of a continuation given the speech, that of another, the text, and nothing."""
    names = [name for name in predictions.column_names if name.startswith("nats_")]
    return {name: float(predictions.column(name).to_numpy().mean()) for name in names}


def questions(texts: list[str], ids: list[str]) -> list[tuple[int, list[str], int]]:
    """Of each text that can be asked about its place, four words and which is its own: the rarest one of it, among as rare ones of other texts."""
    found = [sorted(set(WORD.findall(t.lower()))) for t in texts]
    count = Counter(word for words in found for word in words)
    rarest = [min(words, key=lambda w: (count[w], w)) if words else None for words in found]
    asked = []
    for place, own in enumerate(rarest):
        others = sorted({w for w in rarest if w is not None} - set(found[place]))
        if own is None or len(others) < OPTIONS - 1:
            continue
        luck = np.random.default_rng(int.from_bytes(hashlib.sha1(ids[place].encode()).digest()[:8], "big"))
        wrong = [others[k] for k in luck.choice(len(others), OPTIONS - 1, replace=False)]
        right = int(luck.integers(OPTIONS))
        asked.append((place, [*wrong[:right], own, *wrong[right:]], right))
    return asked


def _echo(listener: Listener, target: str, test: np.ndarray, tell: Tell) -> Found:
    """How many answers to the instruction of the training repeat what was said instead: the collapse that transcripts as targets bring."""
    rows = listener.rows(test)
    said = listener.answers([listener.program.prompt(row, int(r)) for row, r in zip(rows, test)])
    references = [normalise(str(row["text"])) for row in rows]
    errors = metrics.wer(references, [normalise(s.partition("\n")[0]) for s in said])
    repeats = (errors.events < ECHO * np.maximum(errors.totals, 1)).astype(np.int64)
    return Counts(repeats, np.ones(len(rows), dtype=np.int64)), {"reference": references, "hypothesis": said}


def _repeat(listener: Listener, target: str, test: np.ndarray, tell: Tell) -> Found:
    """Word errors of answers to the instruction to repeat, which is never trained."""
    rows = listener.rows(test)
    program = replace(listener.program, instruction="", behind=ASK_REPEAT)
    said = listener.answers([program.prompt(row, int(r)) for row, r in zip(rows, test)])
    references = [normalise(str(row["text"])) for row in rows]
    heard = [normalise(s.partition('"')[0].partition("\n")[0]) for s in said]
    return metrics.wer(references, heard), {"reference": references, "hypothesis": heard}
