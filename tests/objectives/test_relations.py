"""overture.objectives.relations: added to masked language modelling, each head from its own vectors, and slots that do not see padding."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.objectives.masked_tokens import MaskedTokens
from overture.objectives.relations import Related, evidence, relation_head

from .toys_text import SPECIAL, model, text

ALL = (40, 64, 9, 17)
SLOT, KS = 10, 5


def labelled(*lengths: int, labels: list[int] | None = None) -> Batch:
    batch = text(*lengths)
    own = torch.tensor(labels or [row % 2 for row in range(len(lengths))])[:, None]
    return replace(batch, labels=own, label_lengths=torch.ones(len(lengths), dtype=torch.int64))


def grouped(filling: int = SPECIAL.pad) -> Batch:
    """Two groups of one and five slots, each slot with some padding, and `filling` in it."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(max(SPECIAL.ids) + 1, 300, (2, 1 + KS, SLOT), generator=draw)
    used = torch.randint(4, SLOT, (2, 1 + KS), generator=draw)
    inside = torch.arange(SLOT) < used[..., None]
    x[..., 0] = SPECIAL.cls
    x.scatter_(2, used[..., None] - 1, SPECIAL.sep)
    x = x.masked_fill(~inside, filling)
    labels = torch.tensor([[0, 1, 0, 0, 0], [0, 0, 0, 0, 1]])
    return Batch(
        rows=torch.arange(2),
        x=x.flatten(1),
        lengths=torch.tensor([(1 + KS) * SLOT] * 2),
        labels=labels,
        label_lengths=torch.tensor([KS, KS]),
        channels={"document": torch.where(inside, 0, -1).flatten(1)},
    )


def test_the_relation_is_added_to_masked_language_modelling() -> None:
    net, batch, draws = model(relation_head()), labelled(*ALL), Draws(0, 4)
    alone = MaskedTokens()(net, batch, draws)
    for weight in (0.0, 1.0, 2.5):
        both = Related(weight=weight)(net, batch, draws)
        assert int(both.targets) == int(alone.targets)
        x, taken = Related().corruption(net, batch, draws)
        logits = net.heads["relation"](net.hidden(x, batch.lengths)[:, 0])[:, 0]
        each = F.binary_cross_entropy_with_logits(logits, batch.labels[:, 0].float(), reduction="none")
        torch.testing.assert_close(both.sum, alone.sum + weight * (each * taken.sum(1)).sum())
    torch.testing.assert_close(both.watch["relation_nats"], each.detach().mean())
    torch.testing.assert_close(both.watch["nats"], alone.watch["nats"])


def test_of_examples_of_one_length_it_is_the_plain_mean_of_both_losses() -> None:
    net, batch, draws = model(relation_head()), labelled(30, 30, 30), Draws(0, 0)
    both = Related()(net, batch, draws)
    torch.testing.assert_close(both.sum / both.targets, both.watch["nats"] + both.watch["relation_nats"])


def test_every_parameter_learns() -> None:
    net = model(relation_head())
    Related()(net, labelled(*ALL), Draws(0, 0)).sum.backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_accumulation_changes_nothing() -> None:
    net, batch = model(relation_head()), labelled(*ALL)
    whole = Related()(net, batch, Draws(0, 1))
    parts = [
        Related()(
            net,
            Batch(
                rows=batch.rows[i : i + 1],
                x=batch.x[i : i + 1, :n],
                lengths=batch.lengths[i : i + 1],
                labels=batch.labels[i : i + 1],
            ),
            Draws(0, 1),
        )
        for i, n in enumerate(ALL)
    ]
    torch.testing.assert_close(sum(p.sum for p in parts), whole.sum)
    assert sum(int(p.targets) for p in parts) == int(whole.targets)


def test_each_head_reads_its_own_vectors() -> None:
    h = torch.randn(2, 6 * SLOT, 4, generator=torch.Generator().manual_seed(0))
    first, candidates = h[:, 0], [h[:, SLOT * i] for i in range(1, 6)]
    for kind in ("pair", "IE_1", "RE_k"):
        assert torch.equal(evidence(h, kind, SLOT), first[:, None])
    assert torch.equal(evidence(h, "IE_k", SLOT), torch.stack(candidates, 1))
    assert torch.equal(evidence(h, "AE_k", SLOT)[:, 2], torch.cat([first, candidates[2]], -1))
    assert evidence(h, "AE_k", SLOT).shape == (2, 5, 8)
    torch.testing.assert_close(evidence(h, "AE_1", SLOT)[:, 0], sum(candidates))
    for wrong in (7, 60):
        with pytest.raises(OvertureError, match="slots"):
            evidence(h, "IE_k", wrong)


@pytest.mark.parametrize("kind", ["IE_k", "AE_k", "RE_k"])
def test_a_joint_head_answers_for_every_candidate(kind: str) -> None:
    net, batch, draws = model(relation_head(kind)), grouped(), Draws(0, 0)  # type: ignore[arg-type]
    loss = Related(kind=kind, slot=SLOT)(net, batch, draws)  # type: ignore[arg-type]
    x, taken = Related().corruption(net, batch, draws)
    assert not taken[batch.channels["document"] < 0].any()  # padding in a slot is not to be predicted
    h = net.hidden(x, batch.lengths, batch.channels["document"])
    head = net.heads["relation"]
    if kind == "RE_k":
        logits = head(h[:, 0])
    else:
        vectors = [h[:, SLOT * (1 + i)] for i in range(KS)]
        logits = torch.stack([head(torch.cat([h[:, 0], v], -1) if kind == "AE_k" else v)[:, 0] for v in vectors], 1)
    each = F.binary_cross_entropy_with_logits(logits, batch.labels.float(), reduction="none").mean(1)
    alone = F.cross_entropy(net.logits(h[taken]), batch.x[taken], reduction="sum")
    torch.testing.assert_close(loss.sum, alone + (each * taken.sum(1)).sum())


@pytest.mark.parametrize("kind", ["IE_1", "AE_1"])
def test_a_head_of_one_label_a_group(kind: str) -> None:
    net = model(relation_head(kind))  # type: ignore[arg-type]
    batch = replace(grouped(), labels=torch.tensor([[1], [0]]))
    loss = Related(kind=kind, slot=SLOT)(net, batch, Draws(0, 0))  # type: ignore[arg-type]
    assert bool(loss.sum.isfinite()) and "relation_f1" in loss.watch


def test_nothing_reads_the_padding_inside_a_slot() -> None:
    net = model(relation_head("AE_k"))
    a, b = grouped(), grouped(filling=77)
    inside = a.channels["document"] == 0
    found = [net.hidden(g.x, g.lengths, g.channels["document"]) for g in (a, b)]
    torch.testing.assert_close(found[0][inside], found[1][inside])
    x = torch.where(inside, a.x, 77)
    blind = net.hidden(x, a.lengths)  # without the channel it would
    assert not torch.allclose(blind[inside], found[0][inside])


def test_what_does_not_fit_together_is_told() -> None:
    with pytest.raises(OvertureError, match="Pairs or Groups"):
        Related()(model(relation_head()), text(9), Draws(0, 0))
    with pytest.raises(OvertureError, match="1 answers an example, and the examples have 5 labels"):
        Related()(model(relation_head()), grouped(), Draws(0, 0))
