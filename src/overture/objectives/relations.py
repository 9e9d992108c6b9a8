"""Whether spans belong together, learnt beside masked language modelling and never instead of it: L = L_MLM + `weight` L_relation.

SSP, SP, PSD and MSPP of Di Liello et al. (arXiv:2205.10455, arXiv:2205.01228; thesis arXiv:2309.08272, part 2); the pairs and groups themselves
are made by `overture.data.relations`. One pass over the corrupted text serves both losses.

Both are sums over one number of targets, the tokens that were taken: a relation counts as often as tokens of its example were. So the loop's one
division is right for both, in any accumulation and on any ranks; with examples of one length it is the plain mean of relations.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.models.text import Head
from overture.objectives import Loss
from overture.objectives.binary import answers, watched
from overture.objectives.masked_tokens import Corruption
from overture.objectives.vocabulary import token_losses

if TYPE_CHECKING:
    from overture.models.text import TextModel

BERT = Corruption()  # its own: 15 %, of these 80 % masked and 10 % replaced
Kind = Literal["pair", "IE_1", "AE_1", "IE_k", "AE_k", "RE_k"]


def relation_head(kind: Kind = "pair", candidates: int = 5) -> Head:
    """The head that a model needs for relations of a kind."""
    return Head(name="relation", outputs=candidates if kind == "RE_k" else 1, inputs=2 if kind == "AE_k" else 1)


def evidence(hidden: Tensor, kind: Kind, slot: int) -> Tensor:
    """(B, T, D) states -> (B, n, D or 2 D): what the head reads for each of n answers (one for k in RE_k).

    "pair", IE_1 and RE_k: the first token. IE_k: the first token of each candidate's slot. AE_k: the first of the premise's and of the candidate's,
    side by side. AE_1: the first tokens of all candidates, summed. Raises OvertureError where T is no number of slots.
    """
    if kind in ("pair", "IE_1", "RE_k"):
        return hidden[:, :1]
    if hidden.shape[1] % slot or hidden.shape[1] == slot:
        raise OvertureError(
            f"{kind} reads slots of {slot} tokens, and an example has {hidden.shape[1]}: set the slot of data.text"
        )
    firsts = hidden[:, ::slot]  # (B, 1 + k, D)
    premise, candidates = firsts[:, :1], firsts[:, 1:]
    if kind == "AE_1":
        return candidates.sum(1, keepdim=True)
    if kind == "AE_k":
        return torch.cat([premise.expand_as(candidates), candidates], dim=-1)
    return candidates


@dataclass(frozen=True, kw_only=True)
class Related:
    """-log p of the original of every token that was taken, plus binary cross-entropy of an example's relations (their mean), in nats."""

    kind: Kind = "pair"
    slot: int = 64  # tokens, as in data.text, where there are slots
    corruption: Corruption = BERT
    weight: float = 1.0

    def __call__(self, model: "TextModel", batch: Batch, draws: Draws) -> Loss:
        """Raises OvertureError where examples do not have as many labels as the head answers."""
        if batch.labels is None:
            raise OvertureError("relations need pairs or groups of spans: set data.text to Pairs or Groups")
        x, taken = self.corruption(model, batch, draws)
        hidden = model.hidden(x, batch.lengths, batch.channels.get("document"))  # (B, T, D)
        before, weight, bias = model.output
        loss, each = token_losses(before(hidden[taken]), weight, bias, batch.x[taken])
        logits = model.heads["relation"](evidence(hidden, self.kind, self.slot)).flatten(1)  # (B, k)
        if logits.shape != batch.labels.shape:
            raise OvertureError(
                f"{self.kind} gives {logits.shape[1]} answers an example, and the examples have {batch.labels.shape[1]} labels: "
                "data.text, the objective's kind and the model's head must be of one kind"
            )
        found = answers(logits.flatten(), batch.labels.flatten() == 1)
        counts = taken.sum(1)  # (B,)
        relation = (found.losses.view_as(logits).mean(1) * counts).sum()
        return Loss(
            sum=loss + self.weight * relation,
            targets=counts.sum(),
            watch={"nats": each.mean(), **watched(found, "relation_")},
            frames=hidden.detach()[batch.valid & (batch.x != model.special.pad)].float(),
            counts=counts,
        )
