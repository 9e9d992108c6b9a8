"""overture.recipes.sv2tts: the published size counted by hand, values that its sheet names, and what the recipe promises of its parts."""

from dataclasses import replace

import torch

from overture.config import from_dict, to_dict
from overture.data.phones import PHONES
from overture.data.voices import SpeakerVectors
from overture.models.synthesiser import Synthesiser
from overture.recipes.ge2e import TEST, TWELVE
from overture.recipes.sv2tts import claim, default, published, tiny


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


def test_arms_differ_in_who_tells_them_the_voice_alone() -> None:
    arms = {a.name: a for a in claim().study.arms}
    assert [a.kind for a in arms.values()] == ["input"] + ["trained"] * 4
    bare = {
        replace(
            a.run,
            data=replace(a.run.data, voices=None),
            model=replace(a.run.model, voice=1),  # type: ignore[type-var]
        ).fingerprint
        for a in arms.values()
    }
    assert len(bare) == 1
    encoders = {name: a.encoder for name, a in arms.items() if a.encoder}
    assert list(encoders) == ["encoder of 4 voices", "encoder of 12 voices"]
    for name, encoder in encoders.items():
        assert arms[name].run.model.voice == encoder.model.embedding  # type: ignore[attr-defined]
        assert encoder.data.corpus == claim().study.corpus
        assert encoder.data.matched is not None and f"of {len(encoder.data.matched.values)} voices" in name


def test_the_judge_of_voices_tells_no_deciding_arm_the_voice() -> None:
    """Of the sheet: who is like whom is not measured with the encoder that was given."""
    decides = {name for pair in claim().expected for name in pair}
    told = {a.name: a.run.data.voices for a in claim().study.arms if a.encoder is None and a.kind == "trained"}
    assert {name for name, voices in told.items() if voices == SpeakerVectors()} == {"published encoder"}
    assert "published encoder" not in decides


def test_voices_are_judged_apart_as_heard_or_not() -> None:
    unheard, heard, *_ = claim().study.trials
    assert not unheard.heard and heard.heard
    judged = {s.strip("'") for s in dict(unheard.parts)["test"].partition("(")[2].rstrip(")").split(", ")}
    known = {s.strip("'") for s in dict(heard.parts)["test"].partition("(")[2].partition(")")[0].split(", ")}
    assert judged == set(TEST) and known < set(TWELVE) and not judged & known
