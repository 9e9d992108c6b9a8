"""overture.speak.flow: what is taken from a reference, parts of a text that fit beside it, and frames that belong to their text alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from overture.data import audio
from overture.data.normal_mel import NormalMel
from overture.data.phones import PHONES, Alignment, FramePhones
from overture.data.table import Table
from overture.data.vocoder_mel import VocoderMel
from overture.errors import OvertureError
from overture.models.durations import PhoneDurations
from overture.models.flow import FlowTransformer
from overture.models.sampler import Prompt, Sampler
from overture.speak import Reference
from overture.speak.flow import FlowVoice, clauses
from overture.tasks import align
from overture.tasks.pronounce import pronounced

pytest.importorskip("pocketsphinx")
ROW = "asterisk/en-US/agent-newlocation"


@pytest.fixture(scope="module")
def row() -> dict[str, Any]:
    return Table.open("embedded", f"id = '{ROW}'").row(0)


@pytest.fixture(scope="module")
def reference(row: dict[str, Any]) -> Reference:
    wave = audio.read(row["audio"], rate=16_000, start=row["start"], duration=row["duration"])
    return Reference(wave=wave, rate=16_000, text=row["text"])


@pytest.fixture(scope="module")
def voice() -> FlowVoice:
    torch.manual_seed(0)
    frontend = NormalMel(mels=20)
    table = Table.open("embedded", "language = 'en-US' and duration < 2")
    return FlowVoice(
        model=FlowTransformer(layers=2, dim=16, heads=2, ffn=24, phone_dim=8).build(frontend).eval(),
        frontend=frontend,
        durations=PhoneDurations.of(table, FramePhones()),
        longest=12.0,
        sampler=Sampler(steps=1),
    )


def test_a_short_reference_is_known_whole_with_the_phones_that_its_corpus_says(
    voice: FlowVoice, reference: Reference, row: dict[str, Any]
) -> None:
    found = voice.voice(reference)
    np.testing.assert_array_equal(found.known, voice.frontend(reference.wave))
    spoken = [PHONES[i] for i, before in zip(found.phones, [-1, *found.phones]) if i != before]
    twice = [a for a, before in zip(row["phones"], ["", *row["phones"]]) if a != before]
    assert len(found.phones) == len(found.known) and spoken == twice
    assert found.pace == pytest.approx(voice.durations.pace(row["phones"], np.array(row["phone_ends"])), rel=1e-3)


def test_of_a_long_reference_the_end_is_known_without_its_silence(voice: FlowVoice, reference: Reference) -> None:
    noise = np.random.default_rng(0).normal(0, 1e-4, 2 * 16_000).astype(np.float32)
    longer = replace(reference, wave=np.concatenate([reference.wave, noise]))
    short = replace(voice, longest=4.5)
    found = short.voice(longer)
    assert abs(len(found.known) - 1.5 * 62.5) <= 1 and PHONES[found.phones[-1]] == "SIL"
    silent = int((found.phones[::-1] != PHONES.index("SIL")).argmax())  # frames at the end
    assert abs(silent - 0.3 * 62.5) <= 2
    whole = align.align(longer.wave, str(longer.text))
    assert isinstance(whole, Alignment)
    # of all its phones, also of those that are left out; silence does not count
    assert found.pace == pytest.approx(voice.durations.pace(whole.phones, whole.bounds[1:]))
    spoken = [PHONES[i] for i, before in zip(found.phones, [-1, *found.phones]) if i != before]
    assert 8 < len(spoken) < len(whole.phones) - 5 and spoken == list(whole.phones[-len(spoken) :])


def test_frames_are_a_vocoders_and_of_their_text_alone(voice: FlowVoice, reference: Reference) -> None:
    texts = ["Thank you.", "Good bye, and thank you for your call."]
    both = voice.mels(texts, reference)
    assert voice.mel == VocoderMel(mels=20)
    for text, made in zip(texts, both, strict=True):
        (alone,) = voice.mels([text], reference)
        np.testing.assert_allclose(alone, made, rtol=1e-3, atol=1e-3)
    heard = voice.voice(reference)
    labels = voice.durations.labels(pronounced(texts[0]), voice.frontend.frame_rate, heard.pace)
    prompt = Prompt(heard.known, np.concatenate([heard.phones, labels]))
    (frames,) = voice.sampler.speak(voice.model, [prompt], [0])
    np.testing.assert_allclose(both[0], voice.frontend.log_mel(frames), rtol=1e-3, atol=1e-3)


def test_a_text_is_said_in_as_few_parts_as_fit(voice: FlowVoice, reference: Reference) -> None:
    heard = voice.voice(reference)
    text = "Good morning. Thank you for your call, and good bye. Please call again."
    whole = voice._parts(text, heard)
    assert len(whole) == 1
    seconds = (len(heard.known) + len(whole[0])) / voice.frontend.frame_rate
    several = replace(voice, longest=seconds - 0.1)._parts(text, heard)
    assert len(several) == 2
    assert max(map(len, several)) + len(heard.known) <= (seconds - 0.1) * voice.frontend.frame_rate
    with pytest.raises(OvertureError, match=r"^'Good morning\.' would last .* divide it by a comma"):
        replace(voice, longest=len(heard.known) / voice.frontend.frame_rate + 0.2)._parts(text, heard)
    (read,), (written,) = (voice._parts(text, heard) for text in ("Mr. Smith has 12.", "Mister Smith has twelve."))
    assert np.array_equal(read, written)


def test_a_text_is_cut_where_it_has_punctuation() -> None:
    assert clauses("One, two: three... four.five") == ["One,", "two:", "three...", "four.five"]
    assert clauses("no marks") == ["no marks"] and clauses("...") == ["..."]


def test_what_is_not_what_the_reference_says_is_refused(voice: FlowVoice, reference: Reference) -> None:
    with pytest.raises(OvertureError, match=r"goes on with what the recording says.*--voice-text"):
        voice.voice(replace(reference, text=None))
    with pytest.raises(
        OvertureError, match=r"the reference: its phones cannot be found \(words that the dictionary lacks\)"
    ):
        voice.voice(replace(reference, text="zxqv"))
    with pytest.raises(OvertureError, match="'zxqv' cannot be read"):
        voice.mels(["The zxqv."], reference)
