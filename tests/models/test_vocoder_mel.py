"""overture.models.vocoder_mel: the same numbers as the front end, of each utterance alone, and with a gradient."""

import numpy as np
import pytest
import torch

from overture.data import audio
from overture.data.table import Table
from overture.data.vocoder_mel import VocoderMel
from overture.models.vocoder_mel import MelSpectrogram, mirrored


@pytest.fixture(scope="module")
def waves() -> list[np.ndarray]:
    table = Table.open("embedded", "duration > 2")
    rows = [table.row(i) for i in range(3)]
    return [
        audio.read(row["audio"], rate=16_000, start=row["start"], duration=length)
        for row, length in zip(rows, (1.7, 1.1, 0.4))
    ]


@pytest.mark.parametrize("mel", [VocoderMel(), VocoderMel(window=800, hop=200, low=80, high=7600)], ids=["256", "200"])
def test_it_equals_the_front_end_whatever_the_padding(mel: VocoderMel, waves: list[np.ndarray]) -> None:
    lengths = torch.tensor([len(w) for w in waves])
    padded = torch.full((3, int(lengths.max()) + 700), 0.9)  # loud padding, to be heard if it is not left out
    for i, wave in enumerate(waves):
        padded[i, : len(wave)] = torch.from_numpy(wave)
    found = MelSpectrogram(mel)(padded, lengths)
    assert found.shape == (3, padded.shape[1] // mel.hop, 80)
    for ours, wave in zip(found, waves):
        theirs = mel(wave)
        # of magnitudes: the log of a weak one next to a strong one is as exact as float32
        np.testing.assert_allclose(ours[: len(theirs)].exp().numpy(), np.exp(theirs), rtol=1e-3, atol=1e-6)
        assert (ours[len(theirs) :] == 0).all()


def test_all_samples_count_where_no_lengths_are_given(waves: list[np.ndarray]) -> None:
    module, wave = MelSpectrogram(VocoderMel()), torch.from_numpy(waves[0])[None]
    assert torch.equal(module(wave), module(wave, torch.tensor([wave.shape[1]])))


def test_the_gradient_is_finite_in_silence_and_reaches_every_sample(waves: list[np.ndarray]) -> None:
    module = MelSpectrogram(VocoderMel())
    wave = torch.from_numpy(waves[2])[None].clone()
    wave[:, :2000] = 0.0
    wave.requires_grad_()
    module(wave).abs().sum().backward()
    assert wave.grad is not None and torch.isfinite(wave.grad).all()
    assert (wave.grad[:, 3100 : len(waves[2]) // 256 * 256] != 0).all()


def test_a_mirror_shows_what_is_before_the_start_and_after_the_end() -> None:
    places = torch.arange(-2, 6).expand(2, -1)
    assert mirrored(places, torch.tensor([6, 4])).tolist() == [[2, 1, 0, 1, 2, 3, 4, 5], [2, 1, 0, 1, 2, 3, 2, 1]]


def test_nothing_is_learnt_and_nothing_is_stored() -> None:
    module = MelSpectrogram(VocoderMel())
    assert not list(module.parameters()) and not module.state_dict()


def test_bf16_does_not_reach_it(waves: list[np.ndarray]) -> None:
    module, wave = MelSpectrogram(VocoderMel()), torch.from_numpy(waves[2])[None]
    with torch.autocast("cpu", torch.bfloat16):
        under = module(wave)
    assert torch.equal(under, module(wave))
