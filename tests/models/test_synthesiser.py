"""overture.models.synthesiser: transformers' network to the number, padding reaches nothing, the voice every step, and no step sees ahead."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from overture.data.batch import valid_mask
from overture.data.features import Waveform
from overture.data.normal_mel import NormalMel
from overture.data.phones import PHONES
from overture.errors import OvertureError
from overture.models.synthesiser import END, FIRST, PAD, Synthesiser, SynthesiserModel, symbols

SIZES = Synthesiser(layers=2, dim=24, heads=2, ffn=32, prenet=12, postnet=10, voice=6)
MEL = NormalMel(mels=5)


def build(**sizes: Any) -> SynthesiserModel:
    torch.manual_seed(0)
    model = replace(SIZES, **sizes).build(MEL).eval()
    with torch.no_grad():  # norms and positions that do something, as after some training
        for name, weight in model.named_parameters():
            if "norm" in name or name.endswith("alpha"):
                weight.add_(0.3 * torch.rand(weight.shape))
    return model


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def text(size: int, seed: int = 2) -> Tensor:
    phones = torch.randint(FIRST, FIRST + len(PHONES), (size - 1,), generator=torch.Generator().manual_seed(seed))
    return torch.cat([phones, torch.tensor([END])])


def test_symbols_are_phones_and_an_end() -> None:
    assert symbols(["AA", "SIL", "ZH"]) == [FIRST, FIRST + PHONES.index("SIL"), FIRST + len(PHONES) - 1, END]
    assert symbols([]) == [END] and PAD not in symbols(PHONES) and len(set(symbols(PHONES))) == len(PHONES) + 1
    with pytest.raises(ValueError, match="XX"):
        symbols(["XX"])


@pytest.mark.parametrize("reduction", [1, 2, 3])
def test_a_step_gets_the_last_frame_of_the_step_before(reduction: int) -> None:
    x = draw(1, 7, 5)
    given = build(reduction=reduction).given(x)
    assert given.shape[1] == -(-7 // reduction) and not given[0, 0].any()
    for step in range(1, given.shape[1]):
        assert torch.equal(given[0, step], x[0, step * reduction - 1])


@pytest.mark.parametrize("reduction", [1, 2])
def test_alone_it_is_what_transformers_computes(reduction: int) -> None:
    model = build(reduction=reduction)
    model.network.speecht5.decoder.prenet._consistent_dropout = lambda h, share: h  # never rests in transformers
    x, ids, voice = draw(1, 8, 5), text(6)[None], draw(1, 6)
    with torch.no_grad():
        ours = model(x, torch.tensor([8]), ids, torch.tensor([6]), voice)
        theirs = model.network(
            input_ids=ids,
            labels=x,
            speaker_embeddings=voice,
            attention_mask=torch.ones_like(ids),
            output_attentions=True,
        )
    torch.testing.assert_close(ours.after, theirs.spectrogram)
    for a, b in zip(ours.read, theirs.cross_attentions, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("reduction", [1, 2, 3])
def test_an_utterance_is_the_same_alone_and_beside_longer_ones(reduction: int) -> None:
    model = build(reduction=reduction)
    x, ids, voices = draw(3, 20, 5), torch.full((3, 9), 7), draw(3, 6)
    frames, sizes = torch.tensor([7, 20, 13]), torch.tensor([4, 9, 6])
    for i, size in enumerate(sizes.tolist()):
        ids[i, :size] = text(size, seed=i)
    with torch.no_grad():
        beside = model(x, frames, ids, sizes, voices)
        for i, (t, n) in enumerate(zip(frames.tolist(), sizes.tolist())):
            alone = model(x[i : i + 1, :t], frames[i : i + 1], ids[i : i + 1, :n], sizes[i : i + 1], voices[i : i + 1])
            for a, b in zip(alone[:4], beside[:4]):
                torch.testing.assert_close(a[0], b[i, : a.shape[1]], rtol=1e-4, atol=1e-5)
            assert alone.before.shape[1] == int(model.steps(frames)[i]) * reduction


def test_the_voice_is_told_at_every_step_and_its_loudness_is_not() -> None:
    model = build()
    x, ids = draw(1, 12, 5), text(6)[None]
    sizes = torch.tensor([12]), torch.tensor([6])
    with torch.no_grad():
        one, other, louder = (
            model(x, sizes[0], ids, sizes[1], v) for v in (draw(1, 6), draw(1, 6, seed=5), 9 * draw(1, 6))
        )
    assert ((one.after - other.after).abs().mean((0, 2)) > 1e-3).all()
    assert ((one.hidden - other.hidden).abs().mean((0, 2)) > 1e-3).all()
    torch.testing.assert_close(one.after, louder.after)


def test_no_step_sees_the_frames_that_it_is_to_say() -> None:
    model = build()
    ids, voice = text(6)[None], draw(1, 6)
    x = draw(1, 12, 5)
    later = x.clone()
    later[0, 6:] += 1.0
    with torch.no_grad():
        a, b = (model(y, torch.tensor([12]), ids, torch.tensor([6]), voice) for y in (x, later))
    torch.testing.assert_close(a.before[:, :8], b.before[:, :8])  # step 3 says frames 6 and 7, and has seen frame 5
    assert (a.before[:, 8:] - b.before[:, 8:]).abs().mean() > 1e-3


def test_training_moves_no_statistic_of_a_batch_and_shares_no_dropout() -> None:
    model = build(dropout=0.0, postnet_dropout=0.0).train()
    before = {n: b.clone() for n, b in model.named_buffers()}
    x = draw(1, 12, 5).expand(2, -1, -1)
    made = model(x, torch.tensor([12, 12]), text(6).expand(2, -1), torch.tensor([6, 6]), draw(1, 6).expand(2, -1))
    assert all(torch.equal(before[n], b) for n, b in model.named_buffers())
    assert (made.hidden[0] - made.hidden[1]).abs().mean() > 1e-3  # the same utterance twice: two masks of the prenet


def test_states_are_of_frames_alone() -> None:
    model = build()
    x = draw(2, 9, 5)
    with torch.no_grad():
        hidden, steps = model.states(x, torch.tensor([9, 4]))
    assert len(hidden) == SIZES.layers + 1 and hidden[0].shape == (2, 5, 24) and steps.tolist() == [5, 2]
    assert model.frame_rate == MEL.frame_rate / 2


def test_wrong_sizes_are_refused_by_name() -> None:
    with pytest.raises(OvertureError, match=r"model\.heads=5"):
        replace(SIZES, heads=5).build(MEL)
    with pytest.raises(OvertureError, match="take NormalMel"):
        SIZES.build(Waveform())
    model = build()
    long = torch.full((1, 451), FIRST)
    with pytest.raises(OvertureError, match="positions for 450"):
        model.encode(long, valid_mask(torch.tensor([451]), 451))
    with pytest.raises(OvertureError, match="positions for 4000"):
        model.prenet(draw(1, 1, 5), draw(1, 6), at=4000)
