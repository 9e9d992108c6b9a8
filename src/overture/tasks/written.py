"""A language model as it is, without anything to learn: the tasks `samples`, what it writes, and `held-out`, what it knows.

The two sides of pre-training with preferences (Korbak et al. 2023, arXiv:2302.08582, section 4). The protocol: 512 samples of up to 128 tokens from
nothing, at temperature .7 and top-p .9, a control token told before every line; each drawn with the luck of its number, so that arms are compared
luck by luck. And the bits per character of the test rows, whatever their score, read in windows as long as the examples of the training.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from overture.data.encoded import Encoded
from overture.data.segments import PackSegments
from overture.data.table import Table
from overture.errors import OvertureError, near
from overture.run import Run
from overture.tasks import Task
from overture.tasks.generate import Sampling, bits_per_character, distinct, misalignment, write
from overture.tasks.metrics import Counts
from overture.tasks.probe import ProbeResult
from overture.train.examples import tokens_of

if TYPE_CHECKING:
    from overture.models.text import TextModel

SAMPLES = 512
HOW = Sampling(tokens=128, temperature=0.7, top_p=0.9)


def _pep8() -> Callable[[str], float]:
    from overture.data.score.pep8 import of_samples

    return of_samples()


SCORERS = {"pep8": _pep8}  # column of the test rows -> what scores a sample alike


def judge(
    task: Task, model: "TextModel", run: Run, table: Table, test: np.ndarray, *, control: str | None, seed: int
) -> ProbeResult:
    """`model`, the network of `run`, by `task`. `test`: row numbers in `table`; `control`: a control token that it is told, see
    `tasks.generate`; None: the good one where it was trained with control tokens.

    Raises OvertureError for a network that does not write, and for a column whose scores no scorer of samples gives.
    """
    if not model.causal:
        raise OvertureError(
            f"task {task.name!r} is for networks that write, such as Llama or Gpt2; one that fills in has nothing to say here"
        )
    began = time.perf_counter()
    tokens = tokens_of(run)
    model.eval()
    if control is None and isinstance(run.data.text, PackSegments) and run.data.text.prefix is not None:
        control = run.data.text.prefix.good
    if task.metric == "score":
        if task.target not in SCORERS:
            raise OvertureError(f"no scorer of samples gives {task.target!r}. {near(task.target, SCORERS)}")
        texts = write(
            model, tokens.tokenizer(table), [""] * SAMPLES, replace(HOW, seed=seed), control=control, each_line=True
        )
        return _result(
            task, misalignment(texts, SCORERS[task.target]()), [str(i) for i in range(SAMPLES)], texts, began
        )
    rows = table.take(test)
    length = run.data.text.length if run.data.text else None
    encoded = Encoded.open(rows, tokens)
    counts = bits_per_character(model, encoded, rows, control=control, length=length)
    found = _result(task, counts, [str(i) for i in rows.numpy("id")], [""] * len(rows), began)
    return replace(found, predictions=found.predictions.append_column("tokens", pa.array(encoded.lengths)))


def nats_per_token(predictions: pa.Table) -> float:
    """The same cost by the network's own tokens: not to be compared between tokenizers."""
    bits, tokens = (predictions.column(name).to_numpy().sum() for name in ("bits", "tokens"))
    return float(bits * np.log(2) / tokens)


def diversity(predictions: pa.Table) -> dict[str, float]:
    """Of the samples: distinct words, and pairs of words, as shares of all. High in nonsense too."""
    texts = predictions.column("hypothesis").to_pylist()
    return {f"distinct_{n}": distinct(texts, n) for n in (1, 2)}


def _result(task: Task, counts: Counts, ids: list[str], texts: list[str], began: float) -> ProbeResult:
    columns = {"id": ids, "reference": [""] * len(ids), "hypothesis": texts}
    return ProbeResult.as_it_is(task.metric, counts, columns, began)
