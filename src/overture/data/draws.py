"""Random draws that depend on (seed, update, row) and on nothing else.

A mask drawn this way is the same whether the utterance stands in a batch of one or of forty, on one device or on eight,
before a restart or after it. So accumulation, ranks and resuming cannot change what is trained on (laws 1, 2 and 5), and
no generator has to be saved.
"""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Draws:
    """The randomness of one update."""

    seed: int
    update: int

    def example(self, row: int, purpose: int = 0) -> np.random.Generator:
        """The generator of one utterance (its row number in the corpus); `purpose` separates independent uses of it."""
        return np.random.Generator(np.random.Philox(key=[_mix(self.seed, purpose), _mix(self.update, row)]))

    def seed_torch(self, part: int) -> None:
        """Seed torch's global generators (dropout) for one micro-batch; `part` numbers micro-batches over all devices."""
        torch.manual_seed(_mix(self.seed, self.update, part) >> 1)


def _mix(*numbers: int) -> int:
    """64 well-mixed bits of whole numbers."""
    words = np.random.SeedSequence([int(n) & 0xFFFFFFFFFFFFFFFF for n in numbers]).generate_state(1, np.uint64)
    return int(words[0])
