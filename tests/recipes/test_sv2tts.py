"""overture.recipes.sv2tts: the published size counted by hand, values that its sheet names, and what the recipe promises of its parts."""

import torch

from overture.config import from_dict, to_dict
from overture.data.phones import PHONES
from overture.data.voices import SpeakerVectors
from overture.models.synthesiser import Synthesiser
from overture.recipes.sv2tts import default, published, tiny


def test_the_published_size() -> None:
    run = published()
    with torch.device("meta"):
        model = run.model.build(run.frontend)
    d, ffn, mels, prenet, postnet, voice = 512, 2048, 80, 256, 512, 256
    attention, feed, norm = 4 * (d * d + d), 2 * d * ffn + ffn + d, 2 * d
    text = (len(PHONES) + 2) * d + 1 + norm + 6 * (attention + feed + 2 * norm) + 320 * (d // 8)
    front = mels * prenet + prenet + prenet * prenet + prenet + prenet * d + d + 1 + (d + voice) * d + d
    speech = front + 6 * (2 * attention + feed + 3 * norm)
    back = d * mels + mels + d + 1 + 5 * (2 * mels * postnet + 3 * postnet * postnet) + 2 * (4 * postnet + mels)
    assert sum(p.numel() for p in model.parameters()) == text + speech + back
    assert (run.frontend.rate, run.frontend.mels, run.frontend.window, run.frontend.hop) == (16_000, 80, 800, 200)


def test_every_size_is_told_voices_of_its_size_and_survives_json() -> None:
    for run in (tiny(), default(), published()):
        assert isinstance(run.model, Synthesiser) and run.data.voices is not None and run.data.where is not None
        assert run.data.voices.dim == run.model.voice
        assert from_dict(run, to_dict(run)) == run
        assert f"<= {run.data.max_seconds:g}" in run.data.where or f"AND {run.data.max_seconds:g}" in run.data.where
    assert default().data.voices == published().data.voices == SpeakerVectors()


def test_the_vocoder_may_know_no_speaker_and_hears_the_same_mel() -> None:
    from overture.models.vocoder import HifiGan

    assert HifiGan().mel == default().frontend.plain


def test_said_sizes_are_counted() -> None:
    with torch.device("meta"):
        model = default().model.build(default().frontend)
    assert f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters" in (default.__doc__ or "")
