"""overture.models.tuned: what an encoder of samples hides from itself while it is fine-tuned, and what is not trained."""

from dataclasses import replace

import pytest
import torch

from overture.data.draws import Draws
from overture.data.features import LogMel, Waveform
from overture.models.tuned import FrameHead, LatentMask, Tuned, can_hide, unused
from overture.recipes import get

PAPER = LatentMask(start=0.075, channel_start=0.008)  # of 10 minutes of labels, wav2vec 2.0, appendix B


@pytest.fixture(scope="module")
def model() -> Tuned:
    torch.manual_seed(0)
    run = get("wav2vec2:tiny")
    encoder = replace(run.model, dropout=0.0).build(run.frontend)
    return Tuned(encoder, FrameHead(encoder.dim, 5, dropout=0.0), run.frontend).eval()


def test_spans_of_frames_and_of_channels_are_hidden() -> None:
    rows, steps = torch.arange(200), torch.full((200,), 100)
    frames, channels = PAPER.draw(rows, steps, 120, 768, 50.0, Draws(0, 3))
    assert not frames[:, 100:].any()
    share = frames[:, :100].float().mean()
    assert 0.45 < share < 0.6  # "approximately 49 % of all time steps" of long utterances
    # 6 or 7 spans of 64 of 768 channels, which may overlap
    assert channels.sum(1).max() <= 7 * 64 and channels.sum(1).min() >= 64
    assert 0.3 < channels.float().mean() < 0.5
    again = PAPER.draw(rows[7:8], steps[7:8], 100, 768, 50.0, Draws(0, 3))  # alone, it is masked as in the batch
    assert torch.equal(again[0][0], frames[7, :100]) and torch.equal(again[1][0], channels[7])
    other = PAPER.draw(rows, steps, 120, 768, 50.0, Draws(0, 4))
    assert not torch.equal(other[0], frames) and not torch.equal(other[1], channels)


@pytest.mark.parametrize("steps", [20, 35, 500])
def test_the_default_hides_a_tenth_of_the_frames_of_short_clips_too(steps: int) -> None:
    """Else an encoder that is tuned on short clips never hides a frame, and health stops it: its mask vector has no gradient."""
    n = 3000
    frames, channels = LatentMask().draw(torch.arange(n), torch.full((n,), steps), steps, 64, 50.0, Draws(0, 0))
    assert 0.085 < frames.float().mean() < 0.105
    assert 0.015 < channels.float().mean() < 0.025  # a quarter of the utterances, 5 of 64 channels
    one = LatentMask().draw(torch.arange(3), torch.tensor([0, 1, 2]), 2, 64, 50.0, Draws(0, 0))[0]
    assert not one[:2].any() and one[2].sum() <= 1


def test_hidden_frames_are_the_learnt_vector_and_hidden_channels_zero(model: Tuned) -> None:
    x, lengths = torch.randn(2, 8000), torch.tensor([8000, 6000])
    frames, channels = PAPER.draw(
        torch.arange(2), model.encoder.steps(lengths), int(model.encoder.steps(lengths)[0]), 32, 50.0, Draws(0, 1)
    )
    channels[:, 3:6] = True
    seen: list[torch.Tensor] = []

    def context(hidden: torch.Tensor, valid: torch.Tensor, *, every: bool) -> tuple[torch.Tensor]:
        seen.append(hidden)
        return type(model.encoder).context(model.encoder, hidden, valid, every=every)

    model.encoder.context = context
    try:
        last, steps = model(x, lengths, (frames, channels))
    finally:
        del model.encoder.context
    clean = model.encoder.project(model.encoder.frames(x))[0]
    vector = model.encoder.network.wav2vec2.masked_spec_embed
    expected = torch.where(frames[..., None], vector, clean)
    expected[channels[:, None].expand_as(expected)] = 0
    torch.testing.assert_close(seen[0], expected)
    plain, plain_steps = model(x, lengths)
    assert torch.equal(steps, plain_steps) and not torch.allclose(last, plain)
    nothing = (torch.zeros_like(frames), torch.zeros_like(channels))
    torch.testing.assert_close(model(x, lengths, nothing)[0], plain)


def test_the_mask_vector_learns_and_the_quantizer_does_not(model: Tuned) -> None:
    still = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert any("quantizer" in n for n in still) and any("project_q" in n for n in still)
    assert not any("masked_spec_embed" in n or "feature_extractor" in n or n.startswith("head") for n in still)


def test_only_an_encoder_of_samples_hides() -> None:
    run = get("wav2vec2:tiny")
    assert can_hide(run.model.build(run.frontend), Waveform())
    tera = get("tera:tiny")
    encoder = tera.model.build(tera.frontend)
    assert not can_hide(encoder, LogMel()) and unused(encoder, LogMel())
