"""overture.quantize.ema: codes that follow the frames, alike in any batches and on any ranks."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.quantize.ema import EmaCodebook, restart_keys
from overture.quantize.meters import usage

DIM, V = 8, 12


def codebook(**settings: Any) -> EmaCodebook:
    torch.manual_seed(0)
    return EmaCodebook(DIM, V, **settings)


def clusters(update: int, row: int, frames: int = 40) -> torch.Tensor:
    """Frames of one utterance around V far-off centres, (frames, DIM)."""
    generator = torch.Generator().manual_seed(1000 * update + row)
    centres = 3 * torch.randn(V, DIM, generator=torch.Generator().manual_seed(99)) + 20
    which = torch.randint(V, (frames,), generator=generator)
    return centres[which] + 0.05 * torch.randn(frames, DIM, generator=generator)


def learn(
    quantizer: EmaCodebook, updates: range, rows: list[list[int]], frames: dict[int, int] | None = None
) -> list[torch.Tensor]:
    """Train on micro-batches of `rows` in each update; the ids found, one tensor a micro-batch."""
    found = []
    for update in updates:
        for micro in rows:
            counts = [(frames or {}).get(row, 40) for row in micro]
            x = torch.cat([clusters(update, row, n) for row, n in zip(micro, counts)])
            keys = restart_keys(Draws(0, update), torch.tensor(micro), torch.tensor(counts))
            found.append(quantizer(x, update, keys).ids)
    return found


@pytest.mark.parametrize("normalise", [True, False])
def test_dead_codes_restart_and_the_codebook_finds_the_clusters(normalise: bool) -> None:
    quantizer = codebook(normalise=normalise, decay=0.9)
    x = torch.cat([clusters(0, row) for row in range(4)])
    before = usage(quantizer(x).ids, V)
    assert float(before["codes_used"]) < 0.6  # random codes, far from the frames
    learn(quantizer, range(12), [[0, 1], [2, 3]])
    after = usage(quantizer(x).ids, V)
    assert float(after["codes_used"]) > 0.7 and float(after["code_perplexity"]) > 1.5 * float(before["code_perplexity"])
    distance = (quantizer(x).vectors - (torch.nn.functional.normalize(x, dim=1) if normalise else x)).norm(dim=1)
    spread = 3 * DIM**0.5 / (20 * DIM**0.5 if normalise else 1)
    assert float(distance.mean()) < 0.5 * spread


def kill(quantizer: EmaCodebook, code: int) -> None:
    """Put a code where no frame is near, and let none have been near it in the last update."""
    quantizer.codes[code] = quantizer.sums[code] = 1e6
    quantizer.counts[code] = 1.0
    quantizer.new_counts[code], quantizer.new_sums[code] = 0.0, 0.0


def test_a_code_that_dies_later_restarts_on_a_frame_of_the_last_update() -> None:
    quantizer = codebook(normalise=False, decay=0.5)
    learn(quantizer, range(6), [[0, 1, 2, 3]])
    kill(quantizer, 3)
    learn(quantizer, range(6, 7), [[0, 1, 2, 3]])
    last = torch.cat([clusters(5, row) for row in range(4)])
    assert float((last - quantizer.codes[3]).norm(dim=1).min()) == 0.0
    still = codebook(normalise=False, decay=0.5, restart_below=0.0)
    still.load_state_dict(quantizer.state_dict())
    kill(still, 3)
    learn(still, range(7, 12), [[0, 1, 2, 3]])
    assert float(still.codes[3].min()) > 1e5  # without restarts it stays dead


def test_codes_are_the_moving_average() -> None:
    quantizer = codebook(normalise=False, decay=0.75, restart_below=0.0)
    counts, sums = quantizer.counts.double(), quantizer.sums.double()
    for update in range(5):
        x = clusters(update, 0)
        ids = quantizer(x, update).ids[:, 0]
        hot = torch.nn.functional.one_hot(ids, V).double()
        counts, sums = 0.75 * counts + 0.25 * hot.sum(0), 0.75 * sums + 0.25 * hot.T @ x.double()
    quantizer(x, 5)  # the fifth takes effect now
    torch.testing.assert_close(quantizer.codes, (sums / counts[:, None]).float())
    torch.testing.assert_close(quantizer.counts, counts.float())


def test_accumulation_changes_nothing() -> None:
    """One micro-batch of four utterances, or four of one, in another order: same ids, same codes."""
    one, four = codebook(), codebook()
    lengths = {0: 40, 1: 5, 2: 90, 3: 13}
    ids = learn(one, range(8), [[0, 1, 2, 3]], lengths)
    parts = learn(four, range(8), [[0], [1], [2], [3]], lengths)
    for update in range(8):
        assert torch.equal(ids[update], torch.cat(parts[4 * update : 4 * update + 4]))
    for name, value in one.state_dict().items():
        torch.testing.assert_close(four.state_dict()[name], value, msg=name)
    reverse = codebook()
    learn(reverse, range(8), [[3, 2], [1, 0]], lengths)
    torch.testing.assert_close(reverse.codes, one.codes)


def test_stopped_and_resumed_is_never_stopped_to_the_bit(tmp_path: Path) -> None:
    """Stopped between updates, through a file: every decision is in the buffers."""
    from safetensors.torch import load_file, save_file

    whole, first = codebook(), codebook()
    learn(whole, range(9), [[0, 1], [2]])
    learn(first, range(4), [[0, 1], [2]])
    save_file(first.state_dict(), tmp_path / "state.safetensors")
    torch.manual_seed(7)
    second = EmaCodebook(DIM, V)
    second.load_state_dict(load_file(tmp_path / "state.safetensors"))
    learn(second, range(4, 9), [[0, 1], [2]])
    assert all(torch.equal(second.state_dict()[n], v) for n, v in whole.state_dict().items())


def test_padding_never_enters() -> None:
    """Valid frames come flat: whatever stands in the padding, the codes are the same; a padded batch is refused."""
    valid = torch.stack([clusters(0, 0), clusters(0, 1)])
    lengths = torch.tensor([40, 22])
    states = []
    for junk in (0.0, 1e9):
        x = valid.clone()
        x[1, 22:] = junk
        batch = Batch(rows=torch.tensor([0, 1]), x=x, lengths=lengths)
        quantizer = codebook()
        for update in range(3):
            quantizer(batch.x[batch.valid], update, restart_keys(Draws(0, update), batch.rows, batch.lengths))
        states.append(quantizer.state_dict())
    assert all(torch.equal(states[0][n], v) for n, v in states[1].items())
    with pytest.raises(ValueError, match="valid frames"):
        quantizer(valid)


def test_evaluation_moves_nothing_and_the_gradient_passes_straight_through() -> None:
    quantizer = codebook()
    learn(quantizer, range(2), [[0]])
    before = {n: v.clone() for n, v in quantizer.state_dict().items()}
    x = clusters(0, 0).requires_grad_()
    found = quantizer(x)
    assert torch.equal(found.vectors, quantizer.codes[found.ids[:, 0]])
    weight = torch.randn(40, DIM)
    (found.vectors * weight).sum().backward()
    unit = clusters(0, 0).requires_grad_()
    (torch.nn.functional.normalize(unit, dim=1) * weight).sum().backward()
    torch.testing.assert_close(x.grad, unit.grad)
    assert all(torch.equal(before[n], v) for n, v in quantizer.state_dict().items())
    assert list(quantizer.parameters()) == []


def test_restarts_want_a_key_for_each_frame() -> None:
    for keys in (None, torch.rand(3)):
        with pytest.raises(ValueError, match="restart_keys"):
            codebook()(clusters(0, 0), 0, keys)


def rank(number: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=2)
    quantizer = codebook()
    learn(quantizer, range(6), [[0, 1]] if number == 0 else [[2]])
    torch.save(quantizer.state_dict(), f"{folder}/{number}.pt")
    dist.destroy_process_group()


def test_two_ranks_are_one(tmp_path: Path) -> None:
    mp.spawn(rank, (str(tmp_path),), nprocs=2)
    alone = codebook()
    learn(alone, range(6), [[0, 1, 2]])
    ranks = [torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in range(2)]
    for name, value in alone.state_dict().items():
        assert torch.equal(ranks[0][name], ranks[1][name]), name  # any rank's checkpoint will do
        torch.testing.assert_close(ranks[0][name], value, msg=name)
