"""Text that a network writes, and what it is worth: sampling, scores of samples, their diversity, and bits per character of held-out text.

What pre-training with preferences is judged by (Korbak et al. 2023, arXiv:2302.08582, section 4): the mean score of what a network writes from
nothing or goes on with, against what it has learnt of text in general. Scores are `metrics.Counts`, so that intervals and paired comparisons
of arms are those of all tasks. What a network was told by control tokens it never has to pay for, and may never write.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.objectives.vocabulary import token_losses
from overture.tasks.metrics import Counts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from overture.data.encoded import Encoded
    from overture.data.table import Table
    from overture.models.text import TextModel

SAMPLE = 14  # purpose of the draws that tokens are chosen by
ATOM = re.compile(r"\w+|[^\w\s]")  # a word or a mark


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn: of those that first reach `top_p` together, with `temperature`."""

    tokens: int = 128  # new ones, at most
    temperature: float = 0.7
    top_p: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.tokens > 0 and self.temperature > 0 and 0 < self.top_p <= 1):
            raise OvertureError(
                f"sampling: tokens {self.tokens} and temperature {self.temperature:g} are above 0, top_p {self.top_p:g} is in (0, 1]"
            )


@torch.no_grad()
def sample(
    model: "TextModel",
    prompts: Sequence[Sequence[int]],
    how: Sampling,
    *,
    banned: Sequence[int] = (),
    again: tuple[int, int] | None = None,
    batch: int = 64,
) -> list[list[int]]:
    """What follows each prompt (ids, one at least), up to the end token, which is left out. Special tokens, blocks and `banned` are never drawn.

    `again`: a line end and a control token, which the network is told after each of them; it counts as a token and is left out as well.
    What is drawn for the n-th prompt depends on (seed, n) and on what the network says, not on the others. Raises OvertureError for a prompt
    that is empty, and where prompt and sample together have more tokens than the network has positions.
    """
    longest = max((len(p) for p in prompts), default=0)
    if any(len(p) == 0 for p in prompts):
        raise OvertureError("a prompt without a token: begin it with the end token, which stands before a document")
    if longest + how.tokens > model.positions:
        raise OvertureError(
            f"prompts of up to {longest} tokens and {how.tokens} new ones are more than the network's {model.positions} positions"
        )
    never = sorted({*model.special.ids, *banned} - {model.special.end, -1})
    found: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        for row, ids in zip(rows, _together(model, [list(prompts[i]) for i in rows], rows, how, never, again)):
            found[row] = ids
    return found


def _together(
    model: "TextModel",
    prompts: list[list[int]],
    rows: list[int],
    how: Sampling,
    never: list[int],
    again: tuple[int, int] | None,
) -> list[list[int]]:
    """The samples of one batch. All are read as far as the shortest prompt goes; a longer one is read on while others write: nothing is padded."""
    from transformers import DynamicCache

    device = next(model.parameters()).device
    luck = np.stack([Draws(how.seed, 0).example(row, SAMPLE).random(how.tokens) for row in rows])  # (B, n)
    at = min(map(len, prompts))
    ids = torch.tensor([p[:at] for p in prompts], device=device)
    cache = DynamicCache(config=model.network.config)
    texts = [p[:at] for p in prompts]
    going = [True] * len(prompts)
    while any(going):
        hidden = model.network.base_model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
        numbers = [min(max(at - len(p), 0), how.tokens - 1) for p in prompts]  # how many each has written
        drawn = draw(model.logits(hidden[:, -1]), luck[np.arange(len(rows)), numbers], how, never)
        for i, (prompt, text) in enumerate(zip(prompts, texts)):
            if at < len(prompt):
                drawn[i] = prompt[at]
            elif at == len(prompt) + how.tokens:
                going[i] = False
            elif again is not None and text[-1] == again[0]:
                drawn[i] = again[1]
            elif drawn[i] == model.special.end:
                going[i] = False
            if going[i]:
                text.append(drawn[i])
        ids = torch.tensor(drawn, device=device)[:, None]
        at += 1
    told = () if again is None else again[1:]
    return [[i for i in text[len(prompt) :] if i not in told] for prompt, text in zip(prompts, texts)]


def draw(logits: Tensor, luck: np.ndarray, how: Sampling, never: Sequence[int] = ()) -> list[int]:
    """(B, V), (B,) uniform in [0, 1) -> an id a row: where its luck falls among the likeliest tokens, the likeliest first."""
    scores = logits.float() / how.temperature  # a copy
    scores[:, list(never)] = -torch.inf
    p, order = scores.softmax(-1).sort(dim=-1, descending=True, stable=True)
    likely = (p.cumsum(-1) - p < how.top_p) & (p > 0)  # the likeliest one always
    kept = torch.where(likely, p, 0.0).cumsum(-1)
    mark = torch.as_tensor(luck, dtype=torch.float32, device=kept.device)[:, None] * kept[:, -1:]
    place = torch.minimum((kept <= mark).sum(-1, keepdim=True), likely.sum(-1, keepdim=True) - 1)
    found: list[int] = order.gather(-1, place)[:, 0].tolist()
    return found


def write(
    model: "TextModel",
    tokenizer: "Tokenizer",
    prompts: Sequence[str],
    how: Sampling,
    *,
    control: str | None = None,
    each_line: bool = False,
    batch: int = 64,
) -> list[str]:
    """What follows each prompt ('' for a sample from nothing) at the beginning of a document, under the control token `control` if there is one.

    `each_line`: it is told before every line, not the first alone.

    Raises OvertureError, see `sample`, and where the tokens have no block `control`.
    """
    told = [model.special.end] + ([] if control is None else [model.special.block(control)])
    ids = [told + tokenizer.encode(prompt, add_special_tokens=False).ids for prompt in prompts]
    unused = range(tokenizer.get_vocab_size(), model.vocabulary)
    line_end = tokenizer.encode("\n", add_special_tokens=False).ids[-1]
    again = (line_end, told[1]) if each_line and control is not None else None
    found = sample(model, ids, how, banned=unused, again=again, batch=batch)
    return [tokenizer.decode(s, skip_special_tokens=False) for s in found]


def misalignment(
    texts: Sequence[str], score: Callable[[str], float], *, prompts: Sequence[str] | None = None
) -> Counts:
    """The score of each text, whose mean is the misalignment of who wrote them. `prompts`: what code goes on from, and is scored with: half a
    function is no code. Prose is scored without.

    Raises ValueError for a score that is no number: `score` must judge whatever a network may write.
    """
    if prompts is not None:
        texts = [prompt + text for prompt, text in zip(prompts, texts, strict=True)]
    scores = np.array([score(text) for text in texts], dtype=np.float64)
    if (wrong := np.flatnonzero(~np.isfinite(scores))).size:
        raise ValueError(f"sample {wrong[0]} was scored {scores[wrong[0]]}: {texts[wrong[0]][:80]!r}")
    return Counts(scores, np.ones(len(scores), dtype=np.int64))


def distinct(texts: Sequence[str], n: int = 2) -> float:
    """Distinct n-grams of words and marks, as a share of all (Li et al. 2016). Falls with the amount of text: compare equal amounts."""
    grams = [gram for text in texts for atoms in [ATOM.findall(text)] for gram in zip(*(atoms[i:] for i in range(n)))]
    if not grams:
        raise OvertureError(f"none of {len(texts)} samples has {n} words in a row")
    return len(set(grams)) / len(grams)


@torch.no_grad()
def bits_per_character(
    model: "TextModel",
    encoded: "Encoded",
    table: "Table",
    *,
    control: str | None = None,
    length: int | None = None,
    batch: int = 16,
) -> Counts:
    """Bits and characters of each document of held-out text. `control`: stands before every segment, as in training with control tokens.

    A document is read in windows of `length` tokens (as many as the network has positions), each after an end token. Special tokens and blocks are
    not paid for: what is left to the network is shared by the others. Where the table knows `segments` windows leave room for control tokens, so
    that arms with and without them read the same windows. Raises OvertureError for a `control` without segments.
    """
    from overture.data.segments import ENDS

    knows = ENDS in table.columns.column_names
    if control is not None and not knows:
        raise OvertureError(
            f"corpus {table.name!r} has no column {ENDS!r}: 'overture data score {table.name} --with segments' adds where lines end"
        )
    texts = table.columns.column("text").to_pylist()
    ends = table.columns.column(ENDS).to_pylist() if knows else [[len(text or "")] for text in texts]
    told = None if control is None else model.special.block(control)
    found = [
        (document, window)
        for document in range(len(table))
        for window in windows(
            encoded, document, np.array(ends[document]), model.special.end, told, length or model.positions
        )
    ]
    found.sort(key=lambda one: len(one[1][0]))
    nats = np.zeros(len(table))
    for first in range(0, len(found), batch):
        part = found[first : first + batch]
        for (document, _), value in zip(part, costs(model, [window for _, window in part])):
            nats[document] += value
    return Counts(nats / np.log(2), np.array([len(text or "") for text in texts], dtype=np.int64))


def windows(
    encoded: "Encoded", document: int, ends: np.ndarray, end: int, told: int | None, length: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of a document, (T,) ids with `end` first and `told` before each segment and at the beginning, and (T,) bool, which are of the text."""
    from overture.data.segments import segments

    ids = encoded.ids(document)
    begins = np.diff(segments(encoded.starts(document), ends), prepend=-1) > 0
    cost = np.cumsum(1 + begins)
    found = []
    first = 0
    while first < len(ids):
        spent = cost[first] - 2  # before this window, where its first token costs 2 like all that begin a segment
        last = max(first + 1, int(np.searchsorted(cost, spent + length - 1, "right")))
        places = np.flatnonzero(begins[first:last])
        places = places if begins[first] else np.append(0, places)
        part, text = ids[first:last], np.ones(last - first, dtype=bool)
        if told is not None:
            part, text = np.insert(part, places, told), np.insert(text, places, False)
        found.append((np.append(end, part), np.append(False, text)))
        first = last
    return found


def costs(model: "TextModel", found: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """Of each window, what its text costs."""
    device = next(model.parameters()).device
    lengths = torch.tensor([len(ids) for ids, _ in found])
    x = torch.zeros(len(found), int(lengths.max()), dtype=torch.long)
    counted = torch.zeros(x.shape, dtype=torch.bool)
    for line, mark, (ids, text) in zip(x, counted, found):
        line[: len(ids)], mark[: len(ids)] = torch.from_numpy(ids), torch.from_numpy(text)
    hidden = model.hidden(x.to(device), lengths.to(device))
    before, weight, bias = model.output
    shut = torch.zeros(len(weight), device=device) if bias is None else bias.clone()
    shut[[i for i in model.special.ids if i not in (model.special.end, -1)]] = -torch.inf
    targets = counted[:, 1:].to(device)
    _, each = token_losses(before(hidden[:, :-1][targets]), weight, shut, x[:, 1:].to(device)[targets])
    return [float(part.double().sum()) for part in each.split(counted.sum(1).tolist())]
