"""What a language model itself writes when it is given a transcript: the targets of BLSP (Wang et al. 2023, arXiv:2309.00916, section 3).

A network that hears is trained until the same language model goes on from the recording as it goes on from the text. So what stands around the
transcript here, TEMPLATE, stands around the vectors of speech there, token by token: both sides are encoded apart from the transcript.
Greedy; each batch is kept as soon as it is written, so a killed command goes on where it was.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overture.config import fingerprint, to_dict
from overture.data.score import Ready
from overture.errors import OvertureError

if TYPE_CHECKING:
    from overture.data.table import Table

MARK = "{text}"
# For a model that is not tuned to instructions: alone, a whole sentence is mostly followed by nothing; asked for the next line of a story, by the
# sentence again; so, by a short sentence about what was said, which ends.
TEMPLATE = "{text} This means that"
STOP = "\n"
BATCHES = 4  # that are scored at a time: rows of like length are among so many
STRIDE = 8  # tokens
Written = tuple[str, bool]  # a continuation, and whether it came to an end


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """`NAME`: what the language model goes on with; `NAME_ended`: false where it was cut at `tokens`.

    Both are null where there is no text, or too long a prompt.
    """

    name: str = "continuation"
    model: str = "gemma-3-270m"  # an installed model, or a folder: see `overture.models.text.Pretrained`
    template: str = TEMPLATE  # {text}: where the transcript stands
    stop: str = STOP  # a continuation ends where this is written, or the model's own end; neither is part of it
    tokens: int = 64  # new ones, at most
    longest: int = 191  # tokens of a prompt, at most
    # Each reads all weights once a token, which is what most of the time goes into; a kill loses one at most
    batch: int = 128

    def __post_init__(self) -> None:
        parts(self.template)
        if min(self.tokens, self.longest, self.batch) < 1 or not self.stop:
            raise OvertureError(f"{self.name}: tokens, longest and batch are 1 at least, and stop is not empty")

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.name, f"{self.name}_ended")

    def sources(self, table: "Table") -> dict[str, Any]:
        from overture.models.sources import described

        return {"weights": described(self.model)}

    def ready(self, table: "Table") -> Ready:
        """Opens the model. Raises OvertureError where there is none, and where the rows have no column `text`."""
        import pyarrow as pa

        from overture.data.table import corpora_home

        if "text" not in table.columns.column_names:
            raise OvertureError(f"corpus {table.name!r} has no column 'text' to go on from")
        settings = {k: v for k, v in to_dict(self).items() if k not in ("name", "batch")}
        made_of = fingerprint({"settings": settings, "sources": self.sources(table), "format": 1})
        kept = _Kept(corpora_home().parent / "continuations" / f"{made_of}.jsonl")
        writer = _Writer(self, table)
        notes = dict.fromkeys(("without_text", "too_long", "cut", "empty"), 0)

        def score(rows: "Table") -> dict[str, Any]:
            texts = [t if t and t.strip() else None for t in rows.columns.column("text").to_pylist()]
            prompts = {t: writer.prompt(t) for t in dict.fromkeys(texts) if t is not None}
            todo = [t for t, ids in prompts.items() if len(ids) <= self.longest and t not in kept.found]
            todo.sort(key=lambda t: len(prompts[t]))
            for first in range(0, len(todo), self.batch):
                some = todo[first : first + self.batch]
                kept.add(dict(zip(some, writer.write([prompts[t] for t in some]))))
            found = [None if t is None else kept.found.get(t) for t in texts]
            notes["without_text"] += texts.count(None)
            notes["too_long"] += sum(t is not None and f is None for t, f in zip(texts, found))
            notes["cut"] += sum(f is not None and not f[1] for f in found)
            notes["empty"] += sum(f is not None and not f[0].strip() for f in found)
            values = ([f and f[i] for f in found] for i in (0, 1))
            return {n: pa.array(v, k) for n, v, k in zip(self.columns, values, (pa.string(), pa.bool_()))}

        return Ready(score, notes, rows=BATCHES * self.batch)


def parts(template: str) -> tuple[str, str]:
    """What stands before and after the transcript. Raises OvertureError for a template that does not say where that is."""
    before, mark, after = template.partition(MARK)
    if not mark or MARK in after:
        raise OvertureError(f"template {template!r}: the transcript stands where {MARK} is, once")
    return before, after


class _Writer:
    """The language model."""

    def __init__(self, how: Continuation, table: "Table") -> None:
        import torch
        from transformers import GenerationConfig

        from overture.models.text import Pretrained

        spec = Pretrained(model=how.model)
        tokens = spec.tokens()
        special, self.tokenizer = tokens.special, tokens.tokenizer(table)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = spec.build(tokens).network.to(self.device).eval()
        self.stop, self.end, self.pad = how.stop, special.end, special.pad
        before, self.after = (self._ids(part) for part in parts(how.template))
        self.before = [special.begin, *before]
        every = self.tokenizer.decode_batch(
            [[i] for i in range(self.tokenizer.get_vocab_size())], skip_special_tokens=False
        )
        self.ends = {special.end, *(i for i, piece in enumerate(every) if how.stop in piece)}
        self.tokens = how.tokens
        self.network.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=sorted(self.ends), pad_token_id=self.pad
        )

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def prompt(self, text: str) -> list[int]:
        return [*self.before, *self._ids(text), *self.after]

    def write(self, prompts: Sequence[Sequence[int]]) -> list[Written]:
        """What follows each of them. Those that have ended are let go every STRIDE tokens: most end soon, and few go on to the last token."""
        import torch

        width = max(map(len, prompts))
        ids = torch.tensor([[self.pad] * (width - len(p)) + [*p] for p in prompts], device=self.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self.device)
        found: list[list[int]] = [[] for _ in prompts]
        going = list(range(len(prompts)))  # whose continuation has not ended
        cache = None  # what has been read of them
        while going and (left := self.tokens - (ids.shape[1] - width)):
            with torch.inference_mode():
                made = self.network.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    past_key_values=cache,
                    max_new_tokens=min(STRIDE, left),
                    return_dict_in_generate=True,
                )
            for row, line in zip(going, made.sequences[:, width:].tolist()):
                found[row] = line
            goes_on = [i for i, row in enumerate(going) if self.ends.isdisjoint(found[row])]
            rows = torch.tensor(goes_on, dtype=torch.long, device=self.device)
            cache = made.past_key_values
            cache.batch_select_indices(rows)
            ids, going = made.sequences[rows], [going[i] for i in goes_on]
            mask = torch.nn.functional.pad(mask[rows], (0, ids.shape[1] - mask.shape[1]), value=1)
        return [self._read(line) for line in found]

    def _read(self, ids: list[int]) -> Written:
        last = next((i for i, one in enumerate(ids) if one in self.ends), None)
        text = self.tokenizer.decode([i for i in ids[: None if last is None else last + 1] if i != self.end])
        text, stop, _ = text.partition(self.stop)
        return text, bool(stop) or last is not None


class _Kept:
    """Continuations by transcript, in a file of lines of which a kill spoils the last at most."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, Written] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return
        whole = path.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end < len(whole):
            with path.open("r+b") as file:
                file.truncate(end)
        try:
            for line in whole[:end].decode("ascii").splitlines():
                text, continuation, ended = json.loads(line)
                self.found[text] = (continuation, ended)
        except ValueError as error:
            raise OvertureError(f"{path} is damaged ({error}). Delete it; what it held is written anew.") from error

    def add(self, written: Mapping[str, Written]) -> None:
        with self.path.open("a", encoding="ascii") as file:
            file.writelines(json.dumps([text, *one]) + "\n" for text, one in written.items())
        self.found |= written
