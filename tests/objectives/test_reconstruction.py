"""overture.objectives.reconstruction: L1 over the altered elements, the clean input as target."""

import torch
from torch import nn

from overture.data.alteration import Alteration
from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.features import LogMel
from overture.models.spectrogram import SpectrogramTransformer
from overture.objectives.reconstruction import MaskedReconstruction


def setup() -> tuple[nn.Module, Batch]:
    torch.manual_seed(0)
    model = (
        SpectrogramTransformer(layers=1, dim=16, heads=2, ffn=32, dropout=0, attention_dropout=0).build(LogMel()).eval()
    )
    lengths = torch.tensor([60, 40])
    x = torch.randn(2, 60, 80) * (torch.arange(60)[None] < lengths[:, None])[..., None]
    return model, Batch(rows=torch.arange(2), x=x, lengths=lengths)


class Fixed(nn.Module):
    """Predicts the same whatever the input, so that only the target and the mask can move the loss."""

    frame_rate = 100.0

    def __init__(self, model: nn.Module, x: torch.Tensor, mask: torch.Tensor) -> None:
        super().__init__()
        self.output = model(x, mask)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> object:
        return self.output


def test_only_altered_elements_are_in_the_loss() -> None:
    model, batch = setup()
    objective, draws = MaskedReconstruction(), Draws(0, 0)
    _, mask = objective.alteration(batch, draws, 100.0)
    fixed = Fixed(model, batch.x, batch.valid)
    loss = objective(fixed, batch, draws)
    assert int(loss.targets) == int(mask.sum()) > 0
    for altered in (False, True):
        where = (mask == altered) & batch.valid[..., None]
        changed = Batch(rows=batch.rows, x=batch.x + 3.0 * where, lengths=batch.lengths)
        moved = abs(float(objective(fixed, changed, draws).sum - loss.sum)) > 1e-3
        assert moved == altered


def test_the_loss_is_the_written_formula() -> None:
    model, batch = setup()
    objective, draws = MaskedReconstruction(alteration=Alteration(noise_probability=1.0)), Draws(0, 0)
    altered, mask = objective.alteration(batch, draws, 100.0)
    predicted = model(altered, batch.valid).reconstruction
    by_hand = sum(abs(float(predicted[i, t, f] - batch.x[i, t, f])) for i, t, f in mask.nonzero().tolist())
    loss = objective(model, batch, draws)
    assert abs(float(loss.sum) - by_hand) < 1e-2 * by_hand
    assert loss.frames.shape == (100, 16) and not loss.frames.requires_grad


def test_the_encoders_output_is_not_the_heads_hidden_state() -> None:
    model, batch = setup()
    states, _ = model.states(batch.x, batch.lengths)
    output = model(batch.x, batch.valid, output_hidden_states=True)
    assert len(states) == 2 and torch.equal(states[-1], output.last_hidden_state)
    assert all(s.shape == (2, 60, 16) for s in states)
    torch.testing.assert_close(model.head(states[-1]), output.reconstruction)
