"""overture.models.free_running: what is said step by step is what is said at once, a batch equals one by one, dropout stays, ends are its own."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from overture.data.batch import Batch
from overture.data.draws import Draws
from overture.data.normal_mel import NormalMel
from overture.data.phones import PHONES
from overture.errors import OvertureError
from overture.models.free_running import FreeRunning
from overture.models.synthesiser import Synthesiser, SynthesiserModel, symbols
from overture.objectives.synthesis import Synthesis

SIZES = Synthesiser(
    layers=1,
    dim=48,
    heads=2,
    ffn=96,
    prenet=24,
    postnet=8,
    voice=4,
    dropout=0.0,
    prenet_dropout=0.25,
    postnet_dropout=0.0,
)
MEL = NormalMel(mels=4)
TEXTS = [symbols(PHONES[:n]) for n in (3, 8, 5)]
VOICES = np.random.default_rng(0).standard_normal((3, 4), dtype=np.float32)


def build(stop: float | None = None, **sizes: Any) -> SynthesiserModel:
    """`stop`: the logit of the end, everywhere."""
    torch.manual_seed(0)
    model = replace(SIZES, **sizes).build(MEL).eval()
    if stop is not None:
        head = model.network.speech_decoder_postnet.prob_out
        with torch.no_grad():
            head.weight.zero_()
            head.bias.fill_(stop)
    return model


def test_step_by_step_is_what_it_says_of_its_own_frames_at_once() -> None:
    model = build(-9.0, prenet_dropout=0.0)
    (spoken,) = FreeRunning(longest=2.0).speak(model, TEXTS[:1], VOICES[:1], [0])
    x = torch.zeros(1, 8, 4)
    with torch.no_grad():
        for _ in range(4):  # each round makes one more step right
            x = model(
                x, torch.tensor([8]), torch.tensor(TEXTS[:1]), torch.tensor([4]), torch.from_numpy(VOICES[:1])
            ).before
        after = model.postnet(x, torch.ones(1, 8, dtype=torch.bool))
    np.testing.assert_allclose(spoken.frames, after[0].numpy(), atol=1e-5)


def test_a_batch_is_its_utterances_one_by_one() -> None:
    model, free = build(-9.0), FreeRunning(longest=3.0)
    beside = free.speak(model, TEXTS, VOICES, [7, 8, 9])
    for i, found in enumerate(beside):
        (alone,) = free.speak(model, [TEXTS[i]], VOICES[i : i + 1], [7 + i])
        assert alone.frames.shape == found.frames.shape and alone.stopped == found.stopped
        np.testing.assert_allclose(alone.frames, found.frames, atol=1e-4)


def test_the_prenet_drops_here_too_by_seed_and_key_alone() -> None:
    model = build(-9.0)

    def say(seed: int, key: int, model: SynthesiserModel = model) -> np.ndarray:
        return FreeRunning(longest=2.0, seed=seed).speak(model, TEXTS[:1], VOICES[:1], [key])[0].frames

    assert np.array_equal(say(0, 0), say(0, 0))
    assert np.abs(say(0, 0) - say(1, 0)).mean() > 1e-3 and np.abs(say(0, 0) - say(0, 1)).mean() > 1e-3
    dry = build(-9.0, prenet_dropout=0.0)
    assert np.array_equal(say(0, 0, dry), say(1, 5, dry))
    kept = FreeRunning()._kept(build(), [np.random.default_rng(i) for i in range(200)])
    assert float(kept.mean()) == pytest.approx(0.75, abs=0.02) and set(kept.unique().tolist()) == {0.0, 1.0}


def test_who_never_ends_is_cut_off_and_told_from_who_does() -> None:
    cut = FreeRunning(longest=2.5).speak(build(-9.0), TEXTS, VOICES, range(3))
    assert [s.stopped for s in cut] == [False] * 3
    assert [len(s.frames) for s in cut] == [2 * -(-5 * len(t) // 4) for t in TEXTS]  # whole steps of two frames
    done = FreeRunning().speak(build(9.0), TEXTS, VOICES, range(3))
    assert [(len(s.frames), s.stopped) for s in done] == [(2, True)] * 3
    half = -1.0  # .27 in each frame of a step, .54 in the step
    assert FreeRunning(threshold=0.5).speak(build(half), TEXTS, VOICES, range(3))[0].stopped
    assert not FreeRunning(threshold=0.6).speak(build(half), TEXTS, VOICES, range(3))[0].stopped
    with pytest.raises(ValueError, match="more than 0"):
        FreeRunning(longest=0)


def test_voices_of_another_size_are_refused() -> None:
    with pytest.raises(OvertureError, match="takes 4 numbers"):
        FreeRunning().speak(build(), TEXTS, VOICES[:, :3], range(3))


LOOKS = torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]])  # of three phones, four frames each
SPEAKERS = torch.eye(4)[:2]  # the last channel says which


def frames_of(phones: np.ndarray, speaker: int) -> torch.Tensor:
    look = LOOKS[phones].repeat_interleave(4, 0)
    return torch.cat([look, torch.full((len(look), 1), 1.0 - 2 * speaker)], 1)


def toy(rng: np.random.Generator, size: int) -> Batch:
    texts = [rng.integers(0, 3, int(rng.integers(3, 7))) for _ in range(size)]
    speakers = rng.integers(0, 2, size)
    x = [frames_of(t, s) for t, s in zip(texts, speakers.tolist())]
    labels = [torch.tensor(symbols([PHONES[i] for i in t])) for t in texts]
    return Batch(
        rows=torch.arange(size),
        x=pad_sequence(x, True),
        lengths=torch.tensor([len(f) for f in x]),
        labels=pad_sequence(labels, True),
        label_lengths=torch.tensor([len(line) for line in labels]),
        voices=SPEAKERS[speakers],
    )


@pytest.fixture(scope="module")
def taught() -> Iterator[SynthesiserModel]:
    """After 240 updates of a toy language: three phones of four frames each, two speakers."""
    model, updates = build().train(), 240
    optimizer = torch.optim.Adam(model.parameters())
    rng = np.random.default_rng(0)
    for update in range(updates):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1, (update + 1) / 50) * (1 - update / updates)
        optimizer.zero_grad()
        loss = Synthesis()(model, toy(rng, 8), Draws(0, update))
        (loss.sum / loss.targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    yield model.eval()


def test_it_says_new_texts_in_either_voice_and_ends_where_they_end(taught: SynthesiserModel) -> None:
    rng = np.random.default_rng(9)
    texts = [rng.integers(0, 3, n) for n in (3, 5, 6, 4)]
    ids = [symbols([PHONES[i] for i in t]) for t in texts]
    for speaker in (0, 1):
        spoken = FreeRunning().speak(taught, ids, SPEAKERS[[speaker] * 4].numpy(), range(4))
        for phones, found in zip(texts, spoken):
            wanted = frames_of(phones, speaker).numpy()
            assert found.stopped and abs(len(found.frames) - len(wanted)) <= 2  # of itself, within a step
            n = min(len(found.frames), len(wanted))
            assert np.abs(found.frames[:n] - wanted[:n]).mean() < 0.2
            assert (np.sign(found.frames[:, 3]) == 1 - 2 * speaker).all()  # the voice decides, nothing else
