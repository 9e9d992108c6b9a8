"""Documents as a network on tokens is given them when it is fine-tuned: one example each, its beginning, cut by the tokenizer of the pre-training.

What classifies them is `finetune_classes`, with the mean over an example's own tokens of BERT and of decoders alike. Of a decoder some
take the last token instead (GPT, Radford et al. 2018); ours is the end token, whose state has learnt to leave the document behind, and few
labels do not teach it better. Only what is tagged (`finetune_tokens`) is read to its end, in windows.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from overture.data.alteration import Alteration
from overture.data.augment import WaveAugment
from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.encoded import Encoded
from overture.data.table import Table
from overture.data.text import Whole, padded
from overture.errors import OvertureError
from overture.models.tuned import LatentMask, Tuned
from overture.run import Assembly, Data, Plan, Run
from overture.tasks.finetune import Goal
from overture.train.examples import tokens_of

UPDATE_TEXTS = 16  # examples of full length an update
BATCH_TOKENS = 8192  # padded, of a forward pass when scoring


class TextRows:
    """The rows of a table of text; beside `finetune.Rows`, which has those of speech."""

    alteration: Alteration | None = None
    mask: LatentMask | None = None

    def __init__(self, table: Table, run: Run, kind: Callable[..., Assembly] = Whole) -> None:
        """`run`: of the pre-training, for its tokens, its network and how long its examples are; `kind`: what makes a row an example.

        Raises OvertureError for a row without a token.
        """
        if run.data.text is None:
            raise OvertureError("a run on text needs data.text: how documents become examples")
        self.table, self.run = table, replace(run, frontend=tokens_of(run))
        self.length: int = run.data.text.length  # tokens: positions beyond were never learnt
        self.assembly = kind(length=self.length, framed=not self.encoder.causal)
        encoded = Encoded.open(table, self.run.frontend)
        if len(empty := np.flatnonzero(encoded.lengths == 0)):
            raise OvertureError(
                f"row {table.numpy('id')[empty[0]]!r} of {table.name!r} has no text. Leave such rows away: --where \"trim(text) <> ''\"."
            )
        self.examples = self.assembly.prepare(encoded, table, self.run.frontend.special, seed=0)

    @cached_property
    def encoder(self) -> Any:
        """The network, without weights."""
        with torch.device("meta"):
            return self.run.model.build(self.run.frontend)

    @property
    def update(self) -> float:
        """Tokens of an update."""
        return float(UPDATE_TEXTS * self.length)

    def data(self, corpus: str, train: np.ndarray, augment: WaveAugment | None) -> Data:
        if augment is not None:
            raise ValueError("text has no samples to alter")
        return Data(corpus=corpus, text=self.assembly)

    def plan(self, update: float, micro: float | None) -> Plan:
        return Plan(update=update, micro=micro or update, longest_squared=update * self.length)

    @torch.no_grad()
    def ask(self, goal: Goal, model: Tuned, rows: np.ndarray, device: torch.device) -> list[np.ndarray]:
        """What the model makes of `rows`, in their order; in batches of like length."""
        lengths = self.examples.lengths[rows]
        parts = min(len(rows), max(1, int(lengths.sum() / BATCH_TOKENS)))
        found: dict[int, np.ndarray] = {}
        for part in np.array_split(np.argsort(lengths, kind="stable"), parts):
            arrays = padded(
                [self.examples.fetch(int(i), Draws(0, 0)) for i in rows[part]], self.run.frontend.special.pad
            )
            batch = Batch(
                rows=torch.from_numpy(rows[part]),
                x=torch.from_numpy(arrays["x"]),
                lengths=torch.from_numpy(arrays["lengths"]),
            )
            found |= dict(zip(part.tolist(), goal.outputs(model, batch.to(device))))
        return [found[i] for i in range(len(rows))]
