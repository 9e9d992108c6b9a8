"""overture.models.vocoder: published sizes, exact lengths, padding that is not heard, and a generator that opens in transformers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from overture.data.features import Waveform
from overture.data.vocoder_mel import Samples, VocoderMel
from overture.errors import OvertureError
from overture.models.modeling_vocoder import Vocoder
from overture.models.vocoder import Discriminators, HifiGan

TINY = HifiGan(
    channels=16,
    rates=(8, 8, 4),
    kernels=(3, 5),
    dilations=(1, 3),
    critics=Discriminators(periods=(2, 3), scales=2, width=2),
)


@pytest.fixture(scope="module")
def vocoder() -> Vocoder:
    torch.manual_seed(0)
    return TINY.build(Samples())


def weights(module: nn.Module) -> int:
    """Of the layers as they are without weight normalisation."""
    return sum(p.numel() for n, p in module.named_parameters() if not n.endswith("original0"))


def test_published_sizes() -> None:
    """13.92 M (V1) and .92 M (V2) in the paper's table 1; the critics counted by hand: a period has 8,218,433 weights, a scale 9,870,209."""
    with torch.device("meta"):
        large = HifiGan().build(Samples())
        small = HifiGan(channels=128).build(Samples())
    assert weights(large.network) == 13_926_017 and weights(small.network) == 925_985
    assert weights(large.discriminator.periods) == 5 * 8_218_433
    assert weights(large.discriminator.scales) == 3 * 9_870_209


@pytest.mark.parametrize(
    ("hop", "rates"), [(256, (8, 8, 4)), (200, (5, 5, 4, 2)), (300, (5, 5, 3, 4))], ids=["256", "200", "300"]
)
def test_a_frame_is_a_hop_of_samples_exactly(hop: int, rates: tuple[int, ...]) -> None:
    mel = VocoderMel(window=4 * hop, hop=hop, mels=20)
    model = replace(TINY, mel=mel, rates=rates).build(Samples())
    for steps in (1, 7):
        assert model(torch.randn(2, steps, 20)).shape == (2, steps * hop)


def test_padding_is_not_heard(vocoder: Vocoder) -> None:
    """As each convolution sees zeros after the end, as it does when the utterance stands alone: no receptive field has to be cut off."""
    mel, lengths = torch.randn(3, 20, 80), torch.tensor([20, 13, 1])
    with torch.no_grad():
        together = vocoder(mel.masked_fill(torch.arange(20)[None, :, None] >= lengths[:, None, None], 50.0), lengths)
        assert together.shape == (3, 20 * 256)
        for i, steps in enumerate(lengths.tolist()):
            alone = vocoder(mel[i : i + 1, :steps])
            torch.testing.assert_close(together[i, : steps * 256], alone[0], atol=1e-6, rtol=1e-5)
            assert (together[i, steps * 256 :] == 0).all()
        unmasked = vocoder(torch.cat([mel[1:2, :13], torch.zeros(1, 7, 80)], 1))  # that zeros alone would not do
        assert not torch.allclose(unmasked[0, : 13 * 256], together[1, : 13 * 256], atol=1e-6)
    assert not any(m._forward_pre_hooks for m in vocoder.network.modules())


def test_the_wave_is_of_float32_under_bf16(vocoder: Vocoder) -> None:
    mel = torch.randn(1, 5, 80)
    with torch.no_grad():
        outside = vocoder(mel)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(vocoder(mel), outside)
    assert outside.dtype == torch.float32 and outside.abs().max() <= 1


def test_a_fresh_wave_has_a_mel_above_the_floor(vocoder: Vocoder) -> None:
    """transformers' own fresh weights are so small that all of it is at the floor, where the loss has no gradient."""
    mel = torch.randn(1, 40, 80) * 2 - 5  # about what speech has
    with torch.no_grad():
        assert (vocoder.mel(vocoder(mel)).exp() > vocoder.spec.mel.floor * 1.01).float().mean() > 0.99


def test_the_plain_generator_opens_in_transformers_with_the_same_outputs(vocoder: Vocoder, tmp_path: Path) -> None:
    from transformers import SpeechT5HifiGan

    vocoder.plain().save_pretrained(tmp_path)
    theirs = SpeechT5HifiGan.from_pretrained(tmp_path)
    mel = torch.randn(2, 9, 80)
    with torch.no_grad():
        torch.testing.assert_close(theirs(mel), vocoder(mel), atol=1e-6, rtol=1e-5)
    assert not any("parametrizations" in n for n in theirs.state_dict())
    assert any("parametrizations" in n for n in vocoder.network.state_dict())  # the one in training has not changed


def test_critics_look_along_their_period_and_at_their_scale(vocoder: Vocoder) -> None:
    found = vocoder.discriminator(torch.randn(2, 1001))
    assert len(found) == 4
    for opinion in found:
        assert opinion.score.shape[0] == 2 and opinion.score.ndim == 2
        assert torch.equal(opinion.features[-1].flatten(1), opinion.score)
    assert [f.features[0].shape[3] for f in found[:2]] == [2, 3]  # columns
    assert [f.features[0].shape[2] for f in found[2:]] == [1001, 501]  # samples


def test_a_critic_of_a_period_hears_each_column_by_itself(vocoder: Vocoder) -> None:
    critic = vocoder.discriminator.periods[1]  # of 3
    wave = torch.randn(1, 999)
    changed = wave.clone()
    changed[:, 1::3] += 1.0
    with torch.no_grad():
        differs = (critic(wave).features[0] != critic(changed).features[0]).any(2).any(1)[0]
    assert differs.tolist() == [False, True, False]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(OvertureError, match=r"Samples\(rate=16000\)"):
        TINY.build(Waveform())
    with pytest.raises(OvertureError, match=r"Samples\(rate=16000\)"):
        TINY.build(Samples(rate=22_050))
    with pytest.raises(OvertureError, match=r"make 64 samples of a frame, and the hop of model\.mel is 256"):
        replace(TINY, rates=(8, 8)).build(Samples())
    with pytest.raises(OvertureError, match=r"model\.channels=12 cannot be halved 3 times"):
        replace(TINY, channels=12).build(Samples())
