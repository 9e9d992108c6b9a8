"""Training a deep network from its bottom up: in each update another number of its lowest layers, of which the top ones learn.

The first of the two stages of bert2BERT (Chen et al. 2022, arXiv:2110.07143, section 3.4), after progressive stacking (Yang et al. 2020): the
sub-model of the lowest m x `block` layers with the shared head upon them; its top `block` layers and the head learn. A layer is passed by fewer
times than in training the whole, and is learnt from close by.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch.distributed as dist

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.objectives import Loss
from overture.objectives.masked_tokens import MaskedTokens
from overture.run import Objective

if TYPE_CHECKING:
    from overture.models.text import TextModel

DEPTH = 7  # purpose of a draw


@dataclass(frozen=True, kw_only=True)
class SubModels:
    """`objective` on the lowest layers. Each depth comes once in as many updates as there are depths, in an order drawn anew; the paper draws each
    for itself.

    The embeddings learn with the lowest block, and wherever they are the head.
    """

    objective: Objective = field(default_factory=MaskedTokens)
    block: int = 3  # layers

    def cycle(self, model: "TextModel") -> int:
        """How many depths there are. Raises OvertureError where blocks do not fill the network."""
        layers = len(model.layers)
        if layers % self.block:
            raise OvertureError(f"objective.block={self.block}: {layers} layers are not so many blocks, whole")
        return layers // self.block

    def depth(self, model: "TextModel", draws: Draws) -> int:
        """Layers of the sub-model of this update."""
        count = self.cycle(model)
        order = Draws(draws.seed, draws.update // count).example(-1, DEPTH).permutation(count)
        return self.block * (1 + int(order[draws.update % count]))

    def __call__(self, model: "TextModel", batch: Batch, draws: Draws) -> Loss:
        if dist.is_initialized() and dist.get_world_size() > 1:
            raise OvertureError("sub-models train on one device: on several, engines wait for gradients of all layers")
        with model.lowest(self.depth(model, draws), learning=self.block):
            loss: Loss = self.objective(model, batch, draws)
        return loss
