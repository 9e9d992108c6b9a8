"""overture.objectives.ge2e: the loss written out, speakers known by number, two ranks as one, and a voice that is learnt."""

import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.features import LogMel
from overture.data.grid import Grid
from overture.errors import OvertureError
from overture.models.modeling_speaker import SpeakerModel
from overture.models.speaker import SpeakerLstm
from overture.objectives.ge2e import GE2E, LEAST, similarities
from overture.run import Data, Loop, Optim, Plan, Player, Run
from overture.train.engine import Engine
from overture.train.examples import Training
from overture.train.loop import Trainer

SPEC = SpeakerLstm(layers=2, dim=12, embedding=8)


def model() -> SpeakerModel:
    torch.manual_seed(0)
    return SPEC.build(LogMel(mels=40))


def batch(speakers: list[str], seed: int = 1) -> Batch:
    x = torch.randn(len(speakers), 20, 40, generator=torch.Generator().manual_seed(seed))
    labels = torch.tensor([GE2E().encode(s, "r") for s in speakers])
    ones = torch.ones(len(speakers), dtype=torch.int64)
    return Batch(rows=torch.arange(len(speakers)), x=x, lengths=ones * 20, labels=labels, label_lengths=ones)


def by_hand(e: Tensor, speakers: list[str], w: float, b: float = -5.0) -> Tensor:
    """Equations 5, 6 and 9 of the paper, one number after the other, with the bias."""
    names, total = sorted(set(speakers)), torch.zeros(())
    for i, own in enumerate(speakers):
        scores = {}
        for name in names:
            others = [e[j] for j, s in enumerate(speakers) if s == name and j != i]
            centroid = torch.stack(others).mean(0)
            scores[name] = w * torch.dot(e[i], centroid) / (e[i].norm() * centroid.norm()) + b
        total = total - scores[own] + torch.stack(list(scores.values())).exp().sum().log()
    return total


@pytest.mark.parametrize("speakers", [["a", "a", "b", "b", "c", "c"], ["c", "a", "b", "a", "c", "b", "b"]])
def test_the_loss_is_that_of_the_paper_written_out(speakers: list[str]) -> None:
    net, given = model(), batch(speakers)
    found = GE2E()(net, given, Draws(0, 0))
    hidden, lengths = net.states(given.x, given.lengths)
    e = net.vectors(hidden[-1], lengths)
    expected = by_hand(e, speakers, 10.0)
    torch.testing.assert_close(found.sum, expected)
    assert int(found.targets) == len(speakers) and found.frames.shape == (len(speakers) * 20, 8)
    parameters = [p for n, p in net.named_parameters() if n != "similarity_weight"]
    ours = torch.autograd.grad(found.sum, parameters, retain_graph=True)
    for a, b in zip(ours, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_scale_learns_a_hundredth_as_fast_and_stays_above_zero() -> None:
    net, given = model(), batch(["a", "a", "b", "b"])
    found = GE2E()(net, given, Draws(0, 0))
    (slow,) = torch.autograd.grad(found.sum, [net.similarity_weight])
    step = 1e-2
    with torch.no_grad():
        hidden, lengths = net.states(given.x, given.lengths)
        e = net.vectors(hidden[-1], lengths)
        up, down = (by_hand(e, ["a", "a", "b", "b"], 10.0 + s) for s in (step, -step))
    assert float(slow) == pytest.approx(0.01 * float(up - down) / (2 * step), rel=1e-2)
    with torch.no_grad():
        net.similarity_weight.fill_(-3.0)
    assert float(GE2E()(net, given, Draws(0, 0)).watch["scale"]) == pytest.approx(LEAST)


def test_apart_speakers_cost_little_and_are_told() -> None:
    e = torch.eye(3).repeat_interleave(2, 0)
    found, of = similarities(e, torch.tensor([5, 5, 2, 2, 9, 9]))
    assert of.tolist() == [1, 1, 0, 0, 2, 2]
    torch.testing.assert_close(found, torch.nn.functional.one_hot(of, 3).float())
    with pytest.raises(OvertureError, match=r"1 of 2 speakers of a batch have one only: set data.grid"):
        similarities(e[:3], torch.tensor([5, 5, 2]))


def test_a_speaker_has_one_number_and_none_is_an_error() -> None:
    task = GE2E()
    (a,), (b,) = task.encode("joe", "r1"), task.encode("jo", "r2")
    assert task.encode("joe", "r3") == [a] and a != b and 0 <= a < 2**63
    assert a == 4_338_002_596_565_617_081  # in whichever corpus and process
    with pytest.raises(OvertureError, match=r"row 'r7' has no speaker: .*speaker IS NOT NULL"):
        task.encode(" ", "r7")


def _ranked(rank: int, file: str, answers: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    net, given = model(), batch(["a", "a", "b", "b", "c", "c", "d", "d"])
    own = slice(4 * rank, 4 * rank + 4)
    part = replace(given, rows=given.rows[own], x=given.x[own], lengths=given.lengths[own], labels=given.labels[own])  # type: ignore[index]
    found = GE2E()(net, part, Draws(0, 0))
    found.sum.backward()
    answers.put((rank, float(found.sum), {n: p.grad.tolist() for n, p in net.named_parameters() if p.grad is not None}))
    dist.destroy_process_group()


def test_two_ranks_are_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # torch is loaded already, and nothing has used its threads
    answers = context.Queue()
    ranks = [context.Process(target=_ranked, args=(r, str(tmp_path / "meet"), answers)) for r in range(2)]
    for process in ranks:
        process.start()
    found = [answers.get(timeout=60) for _ in ranks]
    for process in ranks:
        process.join(20)
    net = model()
    whole = GE2E()(net, batch(["a", "a", "b", "b", "c", "c", "d", "d"]), Draws(0, 0))
    whole.sum.backward()
    assert sum(loss for _, loss, _ in found) == pytest.approx(whole.sum.item(), rel=1e-5)
    for name, parameter in net.named_parameters():
        summed = sum(torch.tensor(gradients[name]) for _, _, gradients in found)
        torch.testing.assert_close(summed, parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_voices_that_it_has_not_heard_come_apart() -> None:
    """Three channels are a voice, five are the louder noise of a recording: without training few utterances find their own."""
    draw = torch.Generator().manual_seed(2)
    voices = torch.randn(40, 3, generator=draw)
    torch.manual_seed(0)
    net = SpeakerLstm(layers=1, dim=16, embedding=8, head="relu").build(LogMel(mels=8))

    def task(of: Tensor) -> tuple[Tensor, float]:
        labels = of.repeat_interleave(3)
        whole = torch.cat([voices[labels], 1.5 * torch.randn(24, 5, generator=draw)], 1)
        x = whole[:, None] + 0.3 * torch.randn(24, 5, 8, generator=draw)
        made = Batch(rows=labels, x=x, lengths=torch.full((24,), 5), labels=labels[:, None])
        found = GE2E()(net, made, Draws(0, 0))
        return found.sum / found.targets, float(found.watch["accuracy"])

    optimizer = torch.optim.Adam(net.parameters(), lr=2e-2)
    heard, unheard = torch.arange(32), torch.arange(32, 40)
    with torch.no_grad():
        before, chance = task(unheard)
    for _ in range(40):
        optimizer.zero_grad()
        task(heard[torch.randperm(32, generator=draw)[:8]])[0].backward()
        optimizer.step()
    with torch.no_grad():
        after, right = task(unheard)
    assert float(after) < 0.6 * float(before) and chance < 0.4 and right > 0.55


def test_speakers_reach_it_from_the_table_and_a_run_steps() -> None:
    few = "speaker in ('joe', 'carlo-flora', 'june-wallack', 'allison-smith') and duration between 0.5 and 0.6"
    run = Run(
        recipe="toy",
        size="tiny",
        frontend=LogMel(mels=40),
        model=SPEC,
        players=(Player(objective=GE2E(), optim=Optim(clip=3.0)),),
        data=Data(where=few, min_seconds=0.4, max_seconds=0.4, grid=Grid(values=4, rows=2)),
        plan=Plan(update=3.2, micro=3.2),
        loop=Loop(updates=3, precision="fp32"),
    )
    with Engine.start() as engine:
        training, trainer = Training.prepare(run), Trainer(run, engine)
        about = training.examples.about()
        assert about["grid"] == {"values": 4, "left_out": 0}
        before = {n: p.detach().clone() for n, p in trainer.state.model.named_parameters()}
        for _, (_, batches) in zip(range(2), training.stream(0, trainer.state.position, engine)):
            ((given, real),) = batches
            assert real and given.labels is not None and given.x.shape == (8, 40, 40)
            assert given.labels.unique(return_counts=True)[1].tolist() == [2] * 4
            record, result, ill = trainer.step(batches)
            assert not ill and result.targets == 8 and 0 < record["loss"] < 20
            trainer.state.update += 1
        assert all(not torch.equal(before[n], p) for n, p in trainer.state.model.named_parameters())
