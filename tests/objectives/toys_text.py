"""A BERT of some thousand weights and batches of made-up text, for the tests of objectives on tokens."""

import torch

from overture.data.batch import Batch
from overture.data.tokens import Tokens
from overture.models.text import Bert, Head, TextModel

FRONT = Tokens(vocabulary=300, blocks=("<|a|>",))
SPECIAL = FRONT.special
SMALL = Bert(layers=1, dim=32, heads=2, ffn=64, positions=64, dropout=0.0)


def model(*extra: Head, seed: int = 0) -> TextModel:
    torch.manual_seed(seed)
    return Bert(layers=1, dim=32, heads=2, ffn=64, positions=64, dropout=0.0, extra=extra).build(FRONT)


def text(*lengths: int, rows: tuple[int, ...] | None = None) -> Batch:
    """CLS tokens SEP, a line a length; which tokens stand in it depends on its row alone. Special ones stand in the middle of the longer ones."""
    rows = rows or tuple(range(len(lengths)))
    x = torch.full((len(lengths), max(lengths)), SPECIAL.pad)
    for line, row, n in zip(x, rows, lengths):
        line[:n] = torch.randint(max(SPECIAL.ids) + 1, 300, (n,), generator=torch.Generator().manual_seed(row))
        line[0], line[n - 1] = SPECIAL.cls, SPECIAL.sep
        if n > 8:
            line[3], line[5] = SPECIAL.unknown, SPECIAL.block("<|a|>")
    return Batch(rows=torch.tensor(rows), x=x, lengths=torch.tensor(lengths))
