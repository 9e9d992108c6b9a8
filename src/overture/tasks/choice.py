"""Which of four sentences comes next, by likelihood: a cloze test that is made of any held-out text and needs no labels.

The beginning of a document, its true next sentence, and three sentences of other documents of the same source: a language model chooses the one
that costs it least a character (the length-normalised score of likelihood-ranked multiple choice, Brown et al. 2020, section 2.4). Nothing is
trained; chance is .25. Items are drawn by the text alone, so all networks, whatever their tokens, are asked the same.
"""

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from overture.data.table import Table
from overture.errors import OvertureError
from overture.run import Run
from overture.tasks import metrics
from overture.tasks.generate import costs
from overture.tasks.probe import ProbeResult, strings
from overture.train.examples import tokens_of

if TYPE_CHECKING:
    from overture.models.text import TextModel

SENTENCE = re.compile(r"(?<=[.!?:;])\s+|\n+")  # where one ends
OPTIONS = 4
SHORTEST, LONGEST = 20, 300  # characters of a sentence that is asked for
BATCH = 32  # options of a forward pass


@dataclass(frozen=True)
class Item:
    """A question: what stands before, and which option comes next."""

    row: int  # of the table
    before: str
    options: tuple[str, ...]
    right: int


def items(table: Table, rows: np.ndarray) -> list[Item]:
    """One item a document at most; the others have no two sentences in a row, or no three other documents of their source that lend one.

    `rows`: of `table`. Where that has no column `source`, documents are all of one.
    """
    texts, ids = strings(table, "text", rows), [str(i) for i in table.numpy("id")[rows]]
    sources = (
        [str(v) for v in table.numpy("source")[rows]] if "source" in table.columns.column_names else [""] * len(rows)
    )
    places: list[tuple[int, int] | None] = []  # of each document where the sentence that is asked for begins and ends
    for text, name in zip(texts, ids):
        found = [(a, b) for a, b in _sentences(text) if a > 0 and SHORTEST <= b - a <= LONGEST]
        places.append(found[int(_luck(name).integers(len(found)))] if found else None)
    made = []
    for i, place in enumerate(places):
        if place is None:
            continue
        true = texts[i][slice(*place)]
        others = {texts[j][slice(*p)] for j, p in enumerate(places) if p is not None and sources[j] == sources[i]} - {
            true
        }
        if len(others) < OPTIONS - 1:
            continue
        luck = _luck(f"{ids[i]} options")
        wrong = [sorted(others)[k] for k in luck.choice(len(others), OPTIONS - 1, replace=False)]
        right = int(luck.integers(OPTIONS))
        made.append(Item(int(rows[i]), texts[i][: place[0]].rstrip(), (*wrong[:right], true, *wrong[right:]), right))
    return made


def _sentences(text: str) -> list[tuple[int, int]]:
    ends = [(m.start(), m.end()) for m in SENTENCE.finditer(text)]
    begins, stops = [0, *(b for _, b in ends)], [*(a for a, _ in ends), len(text)]
    return [(a, b) for a, b in zip(begins, stops) if b > a]


def _luck(name: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha1(name.encode()).digest()[:8], "big"))


@torch.no_grad()
def judge(
    model: "TextModel",
    run: Run,
    table: Table,
    test: np.ndarray,
    tell: Callable[[dict[str, Any]], None] = lambda event: None,
) -> ProbeResult:
    """How often `model`, the network of `run`, prefers the true sentence. `test`: row numbers in `table`.

    What stands before is cut to its end where it is longer than the network reads. Raises OvertureError for a network that does not write, and
    where no document makes an item.
    """
    if not model.causal:
        raise OvertureError(
            "task 'next-sentence' is for networks that write, such as Llama or Gpt2; one that fills in gives no likelihood"
        )
    began = time.perf_counter()
    asked = items(table, test)
    if not asked:
        raise OvertureError(
            f"none of {len(test)} test rows of {table.name!r} makes an item: it takes {OPTIONS} documents of one source, of two sentences or more"
        )
    if len(asked) < len(test):
        tell({"kind": "note", "text": f"{len(test) - len(asked)} of {len(test)} test documents make no item"})
    model.eval()
    tokenizer = tokens_of(run).tokenizer(table)
    windows, sizes = [], []
    for item in asked:
        for option in item.options:
            windows.append(_window(tokenizer, item.before, option, model))
            sizes.append(len(option))
    order = np.argsort([len(ids) for ids, _ in windows], kind="stable")
    cost = np.zeros(len(windows))
    for part in np.array_split(order, -(-len(order) // BATCH)):
        cost[part] = costs(model, [windows[i] for i in part])
    chosen = (cost / np.array(sizes)).reshape(-1, OPTIONS).argmin(axis=1)
    counts = metrics.Counts(
        np.array([int(c == item.right) for c, item in zip(chosen, asked)]), np.ones(len(asked), dtype=np.int64)
    )
    columns = {
        "id": [str(table.numpy("id")[item.row]) for item in asked],
        "reference": [item.options[item.right] for item in asked],
        "hypothesis": [item.options[c] for c, item in zip(chosen, asked)],
    }
    return ProbeResult.as_it_is("accuracy", counts, columns, began)


def _window(tokenizer: Any, before: str, option: str, model: "TextModel") -> tuple[np.ndarray, np.ndarray]:
    """(T,) ids with an end token first, and (T,) bool, which are of the option; at most as many as the network has positions.

    An option longer than that keeps its beginning.
    """
    found = tokenizer.encode(f"{before} {option}", add_special_tokens=False)
    own = np.array([start >= len(before) for start, _ in found.offsets])
    ids = np.array(found.ids, dtype=np.int64)
    first = max(0, min(len(ids) - (model.positions - 1), int(own.argmax())))
    ids, own = ids[first : first + model.positions - 1], own[first : first + model.positions - 1]
    return np.append(model.special.end, ids), np.append(False, own)
