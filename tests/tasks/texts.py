"""A small corpus of text with planted words, and runs on it that take a second."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from overture.data.table import Table
from overture.data.text import Pack
from overture.data.tokens import Tokens
from overture.models.text import Bert, Gpt2, Llama
from overture.objectives.causal import Causal
from overture.objectives.masked_tokens import MaskedTokens
from overture.run import Data, Loop, Optim, Plan, Player, Run

WORDS = [f"word{i}" for i in range(26)]
OWN = {"garden": "rose tulip soil spade seed rain", "kitchen": "oven salt spoon bread onion flour"}
DIM = {"layers": 1, "dim": 32, "heads": 2, "positions": 64}


def documents(n: int = 60, seed: int = 0) -> Table:
    """n documents in turn of the two labels of OWN, each with a few words of its label among those of all; `domain` is a or b."""
    rng = np.random.default_rng(seed)
    labels = [list(OWN)[i % 2] for i in range(n)]
    texts = []
    for i, label in enumerate(labels):
        words = [*rng.choice(WORDS, 12), *rng.choice(OWN[label].split(), 5), f"number{i}"]
        texts.append(" ".join(rng.permutation(words)))
    columns = {
        "id": [f"d{i}" for i in range(n)],
        "text": texts,
        "label": labels,
        "domain": ["a" if i % 3 else "b" for i in range(n)],
    }
    return Table(pa.table(columns), name="planted", root=Path())


def kept(table: Table, name: str = "planted") -> str:
    """The table as a corpus."""
    return table.save(name)


def reads(corpus: str, model: Bert | Llama | Gpt2 | None = None, updates: int = 4) -> Run:
    """A pre-training run on text; of a decoder unless `model` is another."""
    model = model or Llama(**DIM, ffn=64)
    masked = isinstance(model, Bert)
    return Run(
        recipe="stability-gap",
        size="tiny",
        data=Data(corpus=corpus, text=Pack(length=32, framed=masked)),
        frontend=Tokens(vocabulary=300),
        model=model,
        players=(Player(objective=MaskedTokens() if masked else Causal(), optim=Optim(lr=3e-3)),),
        plan=Plan(update=512, micro=512, longest_squared=1e6),
        loop=Loop(updates=updates, log_every=2, checkpoint_every=100, precision="fp32"),
    )
