"""`overture speak` as a person types it, with runs of two updates: noise, but in the right file and of the right length."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from overture import recipes
from overture.config import override
from overture.data import audio
from overture.data.table import Table
from overture.data.vocoder_mel import Samples, VocoderMel
from overture.models.griffin_lim import griffin_lim
from overture.models.vocoder import Discriminators, HifiGan
from overture.objectives.vocoder import players
from overture.recipes import flow_tts
from overture.run import Data, Loop, Optim, Plan, Run
from overture.speak import Reference, generator
from overture.train.engine import Engine
from overture.train.loop import train

pytest.importorskip("pocketsphinx")
SAID = "Please enter a new extension, followed by pound."
SPEECH = override(flow_tts.tiny(), {"loop.updates": "2", "data.max_seconds": "6", "plan.update": "6"})


def hifi_gan(mel: VocoderMel) -> Run:
    critics = Discriminators(periods=(2,), scales=1, width=2)
    return Run(
        recipe="vocoder",
        size="tiny",
        frontend=Samples(),
        model=HifiGan(mel=mel, channels=16, rates=(8, 8, 4), kernels=(3,), dilations=(1,), critics=critics),
        players=players(segment=4096, optim=Optim(lr=1e-3, warmup=0.0)),
        data=Data(where="duration between 0.5 and 1", max_seconds=0.5, cache=False),
        plan=Plan(update=1.0, micro=1.0),
        loop=Loop(updates=1, precision="fp32"),
    )


RUNS = {"flow-tts": SPEECH, "vocoder": hifi_gan(VocoderMel()), "other-vocoder": hifi_gan(VocoderMel(high=7000.0))}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the runs, and voice.wav."""
    folder = tmp_path_factory.mktemp("speak")
    with pytest.MonkeyPatch.context() as patch, Engine.start() as engine:
        patch.setattr(recipes, "shapes", lambda name: iter(RUNS.values()))
        for name, run in RUNS.items():
            train(run, folder / name, engine=engine)
        row = Table.open("embedded", "id = 'asterisk/en-US/agent-newlocation'").row(0)
        wave = audio.read(row["audio"], rate=22_050, start=row["start"], duration=row["duration"])
        sf.write(folder / "voice.wav", wave, 22_050)
        yield folder


@pytest.fixture(autouse=True)
def here(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(there)


SAY = ("speak", "Thank you, and good bye.", "--with", "flow-tts", "--voice", "voice.wav", "--voice-text", SAID)


def test_a_text_becomes_a_file_that_says_what_it_is(overture) -> None:
    found = overture(*SAY, "-o", "new/out.wav", "--steps", 2)
    assert found.status == 0, found.err
    wave, rate = sf.read("new/out.wav", dtype="float32")
    assert rate == 16_000 and f"new/out.wav: {len(wave) / rate:.2f} s of speech in " in found.out
    assert "real-time factor" in found.out and "Griffin-Lim" in found.out
    (frames,) = generator(Path("flow-tts"), steps=2).mels([SAY[1]], Reference.read(Path("voice.wav"), SAID))
    assert len(wave) == 256 * len(frames) and 0.5 < len(wave) / rate < 4
    np.testing.assert_allclose(wave, griffin_lim(frames, VocoderMel()), atol=1e-4)
    with sf.SoundFile("new/out.wav") as file:
        assert file.comment == "synthetic speech: flow-tts, overture"
    again = overture(*SAY, "-o", "new/out.wav")
    assert again.status == 1 and "new/out.wav is there already: --existing replace" in again.err
    other = overture(*SAY, "-o", "new/out.wav", "--steps", 2, "--seed", 1, "--existing", "replace")
    assert other.status == 0 and not np.allclose(sf.read("new/out.wav")[0], wave, atol=1e-3)


def test_a_trained_vocoder_makes_the_wave(overture) -> None:
    found = overture(*SAY, "-o", "vocoded.flac", "--steps", 2, "--vocoder", "vocoder")
    assert found.status == 0 and "Griffin-Lim" not in found.out, found.err
    wave, _ = sf.read("vocoded.flac")
    assert len(wave) % 256 == 0 and np.std(wave) > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--vocoder", "other-vocoder"), "other-vocoder makes waves of another mel than the generator's: high=7000.0 for 8000.0"),
        (("--vocoder", "flow-tts"), "flow-tts is a run of flow-tts, which makes no waves"),
        (("--vocoder", "none"), "none is not a run"),
        (("--with", "vocoder"), "vocoder is a run of vocoder, which does not speak: name one of flow-tts"),
        (("--steps", 3), "--steps 3: the midpoint method takes two at a time"),
        (("--voice", "gone.wav"), "gone.wav: cannot be read as audio"),
        (("--voice-text", "Please enter a new extension. " * 9), "voice.wav: its phones cannot be found ("),
        (("-o", "out.mp4"), "--out out.mp4: no sound file. Known: .flac, .ogg, .opus, .wav."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_the_way_out(overture, words: tuple[str, ...], message: str) -> None:
    found = overture(*SAY, "-o", "wrong.wav", *words)
    assert found.status == 1 and message in found.err
    assert not Path("wrong.wav").exists()


def test_a_word_that_nobody_knows_is_named(overture) -> None:
    found = overture("speak", "Thank you, zxqv.", *SAY[2:], "-o", "wrong.wav")
    assert found.status == 1 and "'zxqv' cannot be read: words that the dictionary lacks. Write it out" in found.err


def test_who_goes_on_with_a_recording_needs_one(overture) -> None:
    found = overture(*SAY[:4], "-o", "wrong.wav")
    assert found.status == 1 and "this generator goes on with a recording: name one with --voice" in found.err
    found = overture(*SAY[:4], *SAY[6:], "-o", "wrong.wav")
    assert found.status == 1 and "--voice-text says the words of a recording, and --voice names none" in found.err
    assert not Path("wrong.wav").exists()


def test_another_rate_is_another_mel() -> None:
    assert replace(VocoderMel(), rate=22_050) != generator(Path("flow-tts")).mel == VocoderMel()
