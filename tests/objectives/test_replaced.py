"""overture.objectives.replaced and overture.models.clusters: which tokens are asked about, what replaces them, and counts that follow the network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn import functional as F

from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.models.clusters import ClusteredBert, Clusters, bands
from overture.models.text import TextModel
from overture.objectives.masked_tokens import Corruption
from overture.objectives.replaced import REPLACED, ClusterReplacedTokens, ReplacedTokens

from .toys_text import FRONT, SPECIAL, model, text

ALL = (40, 64, 9, 17)
K = 6
FREE = 300 - len(SPECIAL.ids)


def clustered(clusters: int = K) -> TextModel:
    torch.manual_seed(0)
    spec = ClusteredBert(
        layers=1, dim=32, heads=2, ffn=64, positions=64, dropout=0.0, extra=(REPLACED,), clusters=clusters
    )
    return spec.build(FRONT)


def test_every_token_that_is_not_special_is_asked_about_and_none_is_replaced_by_itself() -> None:
    net, batch, draws = model(REPLACED), text(*ALL), Draws(0, 2)
    loss = ReplacedTokens(weight=50.0)(net, batch, draws)
    x, taken = Corruption(mask=0.0, random=1.0)(net, batch, draws)
    free = batch.valid & ~torch.isin(batch.x, torch.tensor(SPECIAL.ids))
    assert int(loss.targets) == int(free.sum()) > 5 * int(taken.sum())
    assert torch.equal(x != batch.x, taken)  # so a label says what is the case
    logits = net.heads["replaced"](net.hidden(x, batch.lengths))[..., 0]
    by_hand = F.binary_cross_entropy_with_logits(logits[free], taken[free].float(), reduction="sum")
    torch.testing.assert_close(loss.sum, 50 * by_hand)
    assert {"f1", "accuracy", "nats"} == set(loss.watch)


def test_nothing_of_the_vocabulary_head_is_computed() -> None:
    net = clustered()
    for objective in (ReplacedTokens(), ClusterReplacedTokens()):
        net.zero_grad(set_to_none=True)
        objective(net, text(*ALL), Draws(0, 0)).sum.backward()
        without = {n for n, p in net.named_parameters() if p.grad is None}
        assert without == {n for n, _ in net.named_parameters() if n.startswith("network.cls")}


def test_bands_share_the_vocabulary_in_order_and_leave_special_tokens_out() -> None:
    of = bands(300, SPECIAL, K)
    assert (of[list(SPECIAL.ids)] == -1).all() and int((of == -1).sum()) == len(SPECIAL.ids)
    free = of[of >= 0]
    assert torch.equal(free, free.sort().values) and np.ptp(np.bincount(free)) <= 1
    for wrong in (1, FREE + 1):
        with pytest.raises(OvertureError, match="clusters"):
            bands(300, SPECIAL, wrong)


def test_a_replacement_comes_from_clusters_by_their_counts_and_from_each_alike() -> None:
    found = Clusters(bands(300, SPECIAL, K), K)
    draw = torch.Generator().manual_seed(0)
    found.counts.copy_(torch.randint(-9, 30, (K, K), generator=draw))
    n = found.counts[2].double()
    by_hand = torch.softmax(2.0 * (n - n.min()) / (n.max() - n.min()), 0).numpy()
    np.testing.assert_allclose(found.probabilities(2.0)[2], by_hand)
    own = int((found.of == 2).nonzero()[3])
    drawn = found.swap(2.0)(np.full(20_000, own), np.random.default_rng(0))
    assert not np.isin(drawn, [*SPECIAL.ids, own]).any()
    of = found.of.numpy()[drawn]
    np.testing.assert_allclose(np.bincount(of, minlength=K) / 20_000, by_hand, atol=0.012)
    inside = np.bincount(drawn[of == 2])
    inside = inside[inside > 0]  # of every token of the cluster but the original
    assert len(inside) == int((found.of == 2).sum()) - 1
    expected = (of == 2).sum() / len(inside)
    assert abs(inside - expected).max() < 5 * np.sqrt(expected)


def test_a_token_that_is_its_whole_cluster_is_replaced_from_others() -> None:
    found = Clusters(bands(300, SPECIAL, FREE), FREE)  # a token each
    ids = np.setdiff1d(np.arange(300), SPECIAL.ids)
    for seed in range(5):
        drawn = found.swap(2.0)(ids, np.random.default_rng(seed))
        assert not (drawn == ids).any() and not np.isin(drawn, SPECIAL.ids).any()


def test_counts_rise_where_the_network_is_fooled_and_fall_where_it_is_not_as_often_as_it_happens() -> None:
    found = Clusters(bands(300, SPECIAL, K), K)
    of = found.of
    a, b = (int((of == c).nonzero()[0]) for c in (1, 4))
    found.begin(0)
    # The same pair three times over: fooled twice, found out once.
    found.gather(torch.tensor([a, a, a, b]), torch.tensor([b, b, b, a]), torch.tensor([True, True, False, False]))
    found.gather(torch.tensor([a]), torch.tensor([b]), torch.tensor([True]))
    assert (found.counts == 1).all()  # nothing takes effect within the update
    found.begin(0)
    assert (found.counts == 1).all()
    found.begin(1)
    assert int(found.counts[1, 4]) == 1 + 3 - 1 and int(found.counts[4, 1]) == 0
    assert int((found.counts != 1).sum()) == 2 and not found.new.any()


def always(net: TextModel, says: float) -> TextModel:
    """A network whose every answer is one: above 0, replaced."""
    with torch.no_grad():
        net.heads["replaced"][0].weight.zero_()
        net.heads["replaced"][0].bias.fill_(says)
    return net


def test_only_replaced_tokens_are_counted_by_whether_they_fooled() -> None:
    batch = text(*ALL)
    for says, sign in ((-5.0, 1), (5.0, -1)):
        net = always(clustered(), says)
        loss = ClusterReplacedTokens()(net, batch, Draws(0, 0))
        _, taken = Corruption(mask=0.0, random=1.0)(net, batch, Draws(0, 0))
        assert int(net.heads["clusters"].new.sum()) == sign * int(taken.sum()) != 0
        assert int(loss.targets) > int(taken.sum())


def test_the_clusters_that_fool_it_come_more_often() -> None:
    """A network that finds every replacement but those of cluster 3."""
    net, batch = clustered(), text(64, 64, 64, 64)
    of, before = net.heads["clusters"].of, net.heads["clusters"].probabilities(2.0)

    class Blind(torch.nn.Module):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return self.answer[:, None]

    blind = net.heads["replaced"] = Blind()
    objective = ClusterReplacedTokens()
    for update in range(30):
        net.heads["clusters"].begin(update)
        x, _ = objective.corruption(net, batch, Draws(0, update), net.heads["clusters"].swap(2.0))
        asked = batch.valid & ~torch.isin(batch.x, torch.tensor(SPECIAL.ids))
        blind.answer = torch.where((x != batch.x)[asked] & (of[x[asked]] != 3), 5.0, -5.0)
        objective(net, batch, Draws(0, update))
    net.heads["clusters"].begin(30)
    after = net.heads["clusters"].probabilities(2.0)
    assert (after[:, 3] > before[:, 3] + 0.1).all() and (after.argmax(1) == 3).all()


def learn(net: TextModel, updates: range, micros: list[tuple[int, ...]], real: bool = True) -> TextModel:
    lengths = dict(enumerate(ALL))
    for update in updates:
        for rows in micros:
            batch = replace(text(*(lengths[r] for r in rows), rows=rows), real=real)
            ClusterReplacedTokens()(net, batch, Draws(0, update))
    return net


def same(a: TextModel, b: TextModel) -> bool:
    pairs = zip(a.heads["clusters"].buffers(), b.heads["clusters"].buffers(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_accumulation_changes_no_count_and_a_batch_that_is_not_real_counts_nothing() -> None:
    one = learn(clustered(), range(5), [(0, 1, 2, 3)])
    assert same(one, learn(clustered(), range(5), [(0,), (1,), (2,), (3,)]))
    assert same(one, learn(clustered(), range(5), [(3, 2), (1, 0)]))
    assert (learn(clustered(), range(3), [(0, 1)], real=False).heads["clusters"].counts == 1).all()


def test_counts_are_in_the_checkpoint_so_that_stopped_and_resumed_is_never_stopped(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    whole = learn(clustered(), range(6), [(0, 1, 2, 3)])
    first = learn(clustered(), range(3), [(0, 1, 2, 3)])
    kept = first.heads["clusters"].state_dict()
    assert set(kept) == {"of", "counts", "new", "gathered"}
    save_file(kept, tmp_path / "state.safetensors")
    second = clustered()
    second.heads["clusters"].load_state_dict(load_file(tmp_path / "state.safetensors"))
    assert same(whole, learn(second, range(3, 6), [(0, 1, 2, 3)]))
    assert "heads.clusters.counts" in clustered().state_dict()


def gathered(updates: range, rows: list[int]) -> Clusters:
    """What rows have to say of some made-up pairs, a micro-batch a row."""
    found = Clusters(bands(300, SPECIAL, K), K)
    for update in updates:
        found.begin(update)
        for row in rows:
            draw = torch.Generator().manual_seed(100 * update + row)
            before, after = (torch.randint(max(SPECIAL.ids) + 1, 300, (50,), generator=draw) for _ in range(2))
            found.gather(before, after, torch.rand(50, generator=draw) < 0.3)
    return found


def rank(number: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=2)
    torch.save(gathered(range(4), [0, 1] if number == 0 else [2, 3]).state_dict(), f"{folder}/{number}.pt")
    dist.destroy_process_group()


def test_two_ranks_are_one(tmp_path: Path) -> None:
    mp.spawn(rank, (str(tmp_path),), nprocs=2)
    alone = gathered(range(4), [0, 1, 2, 3]).state_dict()
    assert (alone["counts"] != 1).any()
    for number in range(2):
        found = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        assert all(torch.equal(found[name], value) for name, value in alone.items())


def test_a_model_without_clusters_is_told() -> None:
    with pytest.raises(OvertureError, match="ClusteredBert"):
        ClusterReplacedTokens()(model(REPLACED), text(9), Draws(0, 0))
