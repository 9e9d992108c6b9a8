"""overture.models.speaker: no padding in a vector, windows as written, and the published sizes."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from overture.data.features import LogMel, Waveform
from overture.errors import OvertureError
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
    built: SpeakerModel = SMALL[request.param].build(FRONT).eval()
    return built


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


def test_what_transformers_calls_gives_a_vector_a_recording(model: SpeakerModel) -> None:
    x, lengths = draw(2, 201, 40), torch.tensor([37, 201])
    mask = (torch.arange(201) < lengths[:, None]).long()
    with torch.no_grad():
        found, whole = model(x, mask, output_hidden_states=True), model(x[1:])
        torch.testing.assert_close(found.embeddings, model.embed(x, lengths))
    assert found.embeddings.shape == (2, 8) and len(found.hidden_states) == 2
    assert torch.equal(found.hidden_states[-1], found.last_hidden_state)
    torch.testing.assert_close(whole.embeddings, found.embeddings[1:])
    assert not torch.allclose(found.embeddings[0], model.embed(x[:1], torch.tensor([201]))[0], atol=1e-3)


def test_sizes_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(OvertureError, match=r"model.embedding=16 must be below model.dim=16.*model.head=relu"):
        SpeakerLstm(dim=16, embedding=16).build(FRONT)
    with pytest.raises(OvertureError, match="Waveform gives samples: take KaldiFbank"):
        SpeakerLstm().build(Waveform())
