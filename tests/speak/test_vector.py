"""overture.speak.vector: the reference decides the vector, a text its phones, and what does not end is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from overture.data.normal_mel import NormalMel
from overture.data.vocoder_mel import VocoderMel
from overture.data.voices import MeanMel, SpeakerVectors
from overture.errors import OvertureError
from overture.models.free_running import FreeRunning
from overture.models.synthesiser import Synthesiser, symbols
from overture.speak import Reference
from overture.speak.vector import VectorVoice
from overture.tasks.pronounce import pronounced

pytest.importorskip("pocketsphinx")
TEXTS = ["Thank you.", "Good bye, and thank you."]


@pytest.fixture(scope="module")
def voice() -> VectorVoice:
    """Of a network that has learnt nothing and comes to an end where it pleases."""
    torch.manual_seed(0)
    model = (
        Synthesiser(layers=1, dim=16, heads=2, ffn=24, prenet=8, postnet=8, voice=80).build(NormalMel(mels=20)).eval()
    )
    return VectorVoice(model=model, frontend=NormalMel(mels=20), voices=MeanMel(), free=FreeRunning(threshold=0.01))


def reference(seed: int, rate: int = 16_000) -> Reference:
    noise = np.random.default_rng(seed).normal(0, 0.1, 2 * rate).cumsum()
    wave = (
        noise - np.linspace(noise[0], noise[-1], len(noise))
        if seed
        else np.random.default_rng(9).normal(0, 0.1, 2 * rate)
    )
    return Reference(
        wave=np.asarray(wave, np.float32).clip(-1, 1), rate=rate
    )  # of other colours; nothing says what is said


def test_frames_are_a_vocoders_of_their_text_and_of_the_voice_that_is_heard(voice: VectorVoice) -> None:
    assert voice.mel == VocoderMel(mels=20)
    one, other = reference(0), reference(1)
    both = voice.mels(TEXTS, one)
    for text, made in zip(TEXTS, both, strict=True):
        (alone,) = voice.mels([text], one)
        np.testing.assert_allclose(alone, made, rtol=1e-3, atol=1e-3)
    (spoken,) = voice.free.speak(voice.model, [symbols(pronounced(TEXTS[0]))], MeanMel()(one.wave), [0])
    np.testing.assert_allclose(both[0], voice.frontend.log_mel(spoken.frames), rtol=1e-3, atol=1e-3)
    (as_other,) = voice.mels(TEXTS[:1], other)
    n = min(len(as_other), len(both[0]))
    assert np.abs(as_other[:n] - both[0][:n]).mean() > 1e-2


def test_what_does_not_end_and_what_cannot_be_read_are_refused(voice: VectorVoice) -> None:
    endless = replace(voice, free=FreeRunning(threshold=2.0, longest=1.0))
    with pytest.raises(OvertureError, match=r"^'Thank you\.' did not come to an end within 0\.2 s"):
        endless.mels(TEXTS, reference(0))
    with pytest.raises(OvertureError, match="'zxqv' cannot be read"):
        voice.mels(["The zxqv."], reference(0))


def test_without_a_reference_nobody_speaks_in_the_voice_of_the_seed(
    voice: VectorVoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SpeakerVectors, "dim", 80)
    nobody = replace(voice, voices=SpeakerVectors())
    (made,) = nobody.mels(TEXTS[:1], None)
    (spoken,) = voice.free.speak(voice.model, [symbols(pronounced(TEXTS[0]))], SpeakerVectors().drawn(0), [0])
    np.testing.assert_allclose(made, voice.frontend.log_mel(spoken.frames), rtol=1e-5, atol=1e-5)
    (other,) = replace(nobody, free=replace(nobody.free, seed=1)).mels(TEXTS[:1], None)
    assert made.shape != other.shape or not np.allclose(made, other, atol=1e-3)
