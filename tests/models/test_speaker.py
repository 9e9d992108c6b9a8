"""overture.models.speaker: no padding in a vector, windows as written, and the published sizes."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from overture.data.features import LogMel
from overture.models.modeling_speaker import SpeakerModel, window_starts
from overture.models.speaker import SpeakerLstm

FRONT = LogMel(mels=40)
SMALL = {
    "projection": SpeakerLstm(layers=2, dim=12, embedding=8),
    "relu": SpeakerLstm(layers=2, dim=12, embedding=8, head="relu"),
}


@pytest.fixture(params=list(SMALL))
def model(request: pytest.FixtureRequest) -> SpeakerModel:
    torch.manual_seed(0)
    return SMALL[request.param].build(FRONT).eval()


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_sizes_are_the_published_ones() -> None:
    with torch.device("meta"):
        wide, narrow = (
            sum(p.numel() for p in spec.build(FRONT).parameters())
            for spec in (SpeakerLstm(), SpeakerLstm(dim=256, head="relu"))
        )

    def cells(inputs: int, dim: int, out: int) -> int:
        return 4 * dim * (inputs + out + 2)

    assert wide == sum(cells(n, 768, 256) + 256 * 768 for n in (40, 256, 256)) + 1
    assert narrow == sum(cells(n, 256, 256) for n in (40, 256, 256)) + 257 * 256 + 1 == 1_423_617


def test_padding_is_in_no_state_and_no_vector(model: SpeakerModel) -> None:
    short, long = draw(37, 40), draw(401, 40)
    lengths = torch.tensor([37, 401])
    with torch.no_grad():
        alone, _ = model.states(short[None], lengths[:1])
        vectors = [model.embed(x[None], torch.tensor([len(x)]))[0] for x in (short, long)]
        for filling in (0.0, 7.0):
            padded = torch.full((2, 450, 40), filling)
            padded[0, :37], padded[1, :401] = short, long
            beside, found = model.states(padded, lengths)
            assert found.tolist() == [37, 401] == model.steps(lengths).tolist()
            for a, b in zip(alone, beside, strict=True):
                torch.testing.assert_close(a[0], b[0, :37])
            torch.testing.assert_close(model.vectors(beside[-1], lengths)[0], vectors[0])
            torch.testing.assert_close(model.embed(padded, lengths), torch.stack(vectors))


def test_a_long_utterance_is_the_mean_of_its_windows(model: SpeakerModel) -> None:
    x = draw(500, 40)
    with torch.no_grad():
        pieces = [x[s : s + 160][None] for s in (0, 80, 160, 240, 320, 340)]
        each = [model.vectors(model.states(p, torch.tensor([160])).hidden[-1], torch.tensor([160])) for p in pieces]
        expected = F.normalize(torch.cat(each).mean(0), dim=0)
        found = model.embed(x[None], torch.tensor([500]))[0]
    torch.testing.assert_close(found, expected)
    assert float(found.norm()) == pytest.approx(1.0)
    assert found.shape == (8,)


def test_where_windows_begin() -> None:
    assert window_starts(5, 160) == window_starts(160, 160) == [0]
    assert window_starts(161, 160) == [0, 1]
    assert window_starts(320, 160) == [0, 80, 160]
    for steps in range(161, 700, 7):  # every frame is in one
        starts = window_starts(steps, 160)
        assert starts[0] == 0 and starts[-1] + 160 == steps and all(0 < b - a <= 80 for a, b in pairwise(starts))
