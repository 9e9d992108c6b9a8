"""Random token substitution: which tokens of a text are not its own?

RTS and C-RTS of Di Liello et al., "Effective Pretraining Objectives for Transformer-based Autoencoders", EMNLP Findings 2022, arXiv:2210.13536
(thesis: arXiv:2309.08272, part 1). As ELECTRA's discriminator, without a generator: tokens are replaced at random, and one logit a token says
whether it was. So there is no product over the vocabulary, which is much of the cost of a small network.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.models.clusters import Clusters
from overture.models.text import Head
from overture.objectives import Loss
from overture.objectives.binary import answers, watched
from overture.objectives.masked_tokens import Corruption, Swap, ordinary_places

if TYPE_CHECKING:
    from overture.models.text import TextModel

REPLACED = Head(name="replaced", deep=False)  # the head that a model for these needs
SWAPPED = Corruption(mask=0.0, random=1.0)


@dataclass(frozen=True, kw_only=True)
class ReplacedTokens:
    """RTS: binary cross-entropy on every token that is not special, replaced or not, times `weight`.

    A replacement is any other token that is not special, all alike. (The published code may draw special tokens, or the token itself, and
    calls that replaced too.) Watched are F1 and accuracy: 0.85 of that is had by always saying no.
    """

    corruption: Corruption = SWAPPED  # which tokens are replaced
    weight: float = 50.0

    def swap(self, model: "TextModel", update: int) -> Swap | None:
        """How replacements are drawn; None: as by `corruption`."""
        return None

    def told(self, model: "TextModel", batch: Batch, x: Tensor, asked: Tensor, wrong: Tensor) -> None:
        """Is told which answers were `wrong` (N,), of the places `asked` (B, T) in the text `x` (B, T) after replacement."""

    def __call__(self, model: "TextModel", batch: Batch, draws: Draws) -> Loss:
        x, replaced = self.corruption(model, batch, draws, self.swap(model, draws.update))
        asked = ordinary_places(model, batch)  # (B, T)
        hidden = model.hidden(x, batch.lengths)  # (B, T, D)
        found = answers(model.heads["replaced"](hidden[asked])[:, 0], replaced[asked])
        self.told(model, batch, x, asked, found.wrong)
        return Loss(
            sum=self.weight * found.losses.sum(),
            targets=asked.sum(),
            watch=watched(found),
            frames=hidden.detach()[batch.valid].float(),
        )


@dataclass(frozen=True, kw_only=True)
class ClusterReplacedTokens(ReplacedTokens):
    """C-RTS: replacements come from clusters of the vocabulary that fool the network, by counts that it carries (`models.clusters`).

    Cluster k replaces a token of cluster c with probability softmax(`beta` minmax(N[c]))[k], and all its tokens are alike. N[c, k] rises by one
    for each replaced token that was taken for an original, and falls by one for each that was found.
    """

    beta: float = 2.0

    @property
    def learns(self) -> str:
        return r"^heads\.clusters\.counts$"

    def swap(self, model: "TextModel", update: int) -> Swap:
        clusters = _clusters(model)
        clusters.begin(update)
        return clusters.swap(self.beta)

    def told(self, model: "TextModel", batch: Batch, x: Tensor, asked: Tensor, wrong: Tensor) -> None:
        before, after = batch.x[asked], x[asked]
        changed = (before != after) & batch.real
        _clusters(model).gather(before[changed], after[changed], wrong[changed])


def _clusters(model: "TextModel") -> Clusters:
    found = dict(model.heads.items()).get("clusters")
    if not isinstance(found, Clusters):
        raise OvertureError(
            "C-RTS draws from clusters of the vocabulary, and the model has none: let it be a ClusteredBert"
        )
    return found
