"""overture.tasks.made: which rows are made, distances counted by hand, judges that are told what to say, and a study of vocoders from end to end."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf

from overture import judging
from overture.data.table import Table
from overture.data.vocoder_mel import VocoderMel
from overture.errors import MissingExtra, OvertureError
from overture.laboratory import Laboratory, compare
from overture.models.dnsmos import Opinion
from overture.recipes import get
from overture.recipes.flow_tts import tiny as flow
from overture.speak import Reference
from overture.study import Arm, Study, Trial
from overture.tasks import find_task, made, makers, outside, synthesised
from overture.tasks.made import Asked, Wave, chosen, distances, score, waves
from overture.tasks.synthesised import Judges

RATE = 16_000


def untold(record: dict[str, Any]) -> None: ...


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """4 recordings of each of 3 speakers: tones whose frequency says who it is. One text has no letters, two are alike."""
    rows = []
    for k, speaker in enumerate(("ann", "ben", "cid")):
        for i in range(4):
            time = np.arange(int(1.1 * RATE)) / RATE
            sf.write(tmp_path / f"{speaker}{i}.wav", 0.2 * np.sin(2 * np.pi * (200 + 200 * k + i) * time), RATE)
            text = "?!" if (k, i) == (0, 0) else "Same words." if k == 2 and i < 2 else f"Word {'abcd'[i]} of {speaker}"
            rows.append(
                {"id": f"{speaker}{i}", "audio": f"{speaker}{i}.wav", "duration": 1.1, "speaker": speaker, "text": text}
            )
    return Table(pa.Table.from_pylist([{**r, "language": "en"} for r in rows]), name="tones", root=tmp_path)


def fake(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, Sequence[str]]]:
    """Judges who hear a frequency: it is the voice, and what is said is "word a of ann" always; those asked for, with the language."""
    hired = []

    def voice(wave: np.ndarray) -> np.ndarray:
        found = np.zeros(100)
        found[int(np.abs(np.fft.rfft(wave[: RATE // 10])).argmax())] = 1.0
        return found

    def installed(language: str | None, of: Sequence[str]) -> Judges:
        hired.append((language, of))
        all_of_them: dict[str, Any] = {
            "words": lambda given: ["word a of ann"] * len(given),
            "voice": voice,
            "sound": lambda wave: Opinion(*(5 * float(np.abs(wave).max()) + k for k in range(4))),
        }
        return Judges(**{name: all_of_them[name] for name in of})

    monkeypatch.setattr(Judges, "installed", staticmethod(installed))
    return hired


def test_distances_by_hand() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 5_000).astype(np.float32)
    same, softer, short = distances([noise, noise, noise], [noise, noise / np.float32(np.e), noise[:2560]]).events
    totals = distances([noise], [noise]).totals
    assert totals.tolist() == [5_000 // 256] and same == 0
    assert softer == pytest.approx(19, rel=1e-3)  # one neper in each of 19 frames
    mel, cut = VocoderMel(), noise[: 19 * 256]
    silent = np.concatenate([noise[:2560], np.zeros(9 * 256, np.float32)])
    assert short == pytest.approx(float(np.abs(mel(cut) - mel(silent)).mean(1).sum()), rel=1e-5)


def test_rows_are_of_each_speaker_in_turn_and_no_more_than_are_judged(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made, "WAVES", 6)
    told: list[dict[str, Any]] = []
    found = chosen(find_task("copy-synthesis"), table, np.arange(12), told.append)
    assert sorted(table.row(a.row)["speaker"] for a in found) == ["ann", "ann", "ben", "ben", "cid", "cid"]
    assert all(a == (a.row, a.row, a.row) for a in found) and "6 of 12" in told[0]["text"]
    assert found == chosen(find_task("copy-synthesis"), table, np.arange(12)[::-1], untold)
    fewer = chosen(find_task("copy-synthesis"), table, np.arange(11), untold)  # a row less moves no other
    assert len(set(found) & set(fewer)) >= 5
    monkeypatch.setattr(made, "WAVES", 40)
    assert {0} == set(range(12)) - {
        a.row for a in chosen(find_task("copy-synthesis-words"), table, np.arange(12), untold)
    }


def test_a_text_is_said_with_two_other_recordings_of_the_speaker_that_say_something_else(table: Table) -> None:
    found = chosen(find_task("synthesis"), table, np.arange(12), untold)
    assert {a.row for a in found} == set(range(1, 12))
    for one in found:
        rows = [table.row(r) for r in one]
        assert len({r["speaker"] for r in rows}) == 1 and len(set(one)) == 3
        assert rows[0]["text"] not in (rows[1]["text"], rows[2]["text"])
    with pytest.raises(OvertureError, match="none of 2 test rows of 'tones' can be judged by 'synthesis'"):
        chosen(find_task("synthesis"), table, np.array([1, 2]), untold)


def test_waves_are_made_once_and_kept_to_the_bit(tmp_path: Path) -> None:
    calls = []

    def make(one: Asked) -> np.ndarray:
        calls.append(one.row)
        return np.linspace(-1.5, 1.5, 100 * one.row, dtype=np.float32)

    rows = [Asked(0, 0, 0), Asked(3, 3, 3)]
    first, again = (waves(make, RATE, rows, {"of": 1}, tmp_path) for _ in range(2))
    assert calls == [0, 3] and all(np.array_equal(a.wave, b.wave) for a, b in zip(first, again, strict=True))
    assert [len(w.wave) for w in first] == [0, 300] and float(first[1].wave[-1]) == 1.5
    assert all(w.seconds is not None and w.seconds >= 0 for w in first)
    waves(make, RATE, rows, {"of": 2}, tmp_path)
    assert calls == [0, 3, 0, 3]


def test_scores_of_told_judges(table: Table, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hired = fake(monkeypatch)
    rows = [Asked(0, 1, 2), Asked(4, 5, 6), Asked(8, 9, 10)]
    tones = [Wave(made.recording(table, r, RATE), 0.55) for r in (0, 4, 4)]  # the last is in another's voice

    def judged(task: str) -> made.Synthesised:
        return score(find_task(task), table, rows, tones, RATE, 0.0)

    voice = judged("synthesis-voice")
    assert voice.predictions.column("cosine").to_pylist() == [1.0, 1.0, 0.0] and voice.value == pytest.approx(2 / 3)
    assert voice.others["wrong_speaker"]["value"] == pytest.approx(0.0) and voice.others["real_time"][
        "value"
    ] == pytest.approx(0.5)
    assert voice.others["eer_of_recordings"]["value"] == 0.0 and voice.others["eer"]["value"] > 0.1
    tones[2] = Wave(made.recording(table, 8, RATE), 0.55)
    assert judged("synthesis-voice").others["eer"]["value"] == 0.0
    tones[2] = Wave(made.recording(table, 4, RATE), 0.55)
    hired.pop()
    sound = judged("copy-synthesis-sound")
    assert (
        sound.metric == "mos"
        and sound.value == pytest.approx(1.0, abs=0.02)
        and sound.others["p808"]["value"] == pytest.approx(4.0, abs=0.02)
    )
    words = score(find_task("synthesis"), table, [Asked(1, 2, 3), Asked(4, 5, 6)], tones[:2], RATE, 0.0)
    # "word b of ann" and "word a of ben", against "word a of ann"
    assert words.counts.events.tolist() == [1, 1] and words.counts.totals.tolist() == [4, 4]
    assert words.predictions.column("hypothesis").to_pylist() == ["word a of ann"] * 2
    assert hired == [("en", ("voice",)), ("en", ("sound",)), ("en", ("words",))]
    mel = judged("copy-synthesis")
    assert mel.predictions.column("distance").to_pylist()[:2] == [0.0, 0.0] and mel.value > 0.1 and len(hired) == 3


def test_a_few_waves_are_shown(table: Table) -> None:
    rows = [Asked(r, r, r) for r in range(6)]
    loud = [Wave(np.full(800, 0.5 * r, np.float32), 1.0) for r in range(6)]
    found = score(find_task("copy-synthesis"), table, rows, loud, RATE, 0.0)
    assert len(found.shown) == made.SHOWN and found.shown_rate == RATE
    assert found.shown[1][0] == "ann, ann1: Word b of ann"
    np.testing.assert_array_equal(found.shown[1][1], loud[1].wave)


def test_recordings_are_the_ceiling(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch)

    def reference(task: str, name: str = "recording") -> made.Synthesised:
        defined = find_task(task)
        found = outside.reference(
            name, table, defined.target, {"test": np.arange(12)}, 0, metric=defined.metric, task=defined, tell=untold
        )
        assert isinstance(found, made.Synthesised)
        return found

    voice = reference("synthesis-voice")
    assert voice.value == pytest.approx(1.0) and voice.others["wrong_speaker"]["value"] == pytest.approx(0.0)
    assert reference("copy-synthesis-words").counts.totals.sum() == 2 * 2 + 9 * 4
    with pytest.raises(OvertureError, match="at no distance from itself"):
        reference("copy-synthesis")
    with pytest.raises(OvertureError, match="'whisper-base' cannot be scored in wer; recording can"):
        reference("copy-synthesis-words", "whisper-base")
    with pytest.raises(OvertureError, match="'recording' cannot be scored in accuracy"):
        outside.reference("recording", table, "speaker", {}, 0)


def test_what_cannot_be_said_is_silence_and_is_told(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    class Speaker:
        mel = VocoderMel()

        def mels(self, texts: Sequence[str], reference: Reference) -> list[np.ndarray]:
            if "b" in texts[0]:
                raise OvertureError("no b")
            assert reference.text == "Word c of ann" and reference.rate == RATE
            return [self.mel(reference.wave)[:40]]

    monkeypatch.setattr("overture.speak.generator", lambda folder, steps, seed: Speaker())
    told: list[dict[str, Any]] = []
    make = makers.speech(Path("run"), None, table, 0, told.append)
    assert make(Asked(3, 2, 1)).shape == (40 * 256,) and told == []
    assert (
        make(Asked(1, 2, 3)).shape == (0,) and "row 'ann1' is not said" in told[0]["text"] and "no b" in told[0]["text"]
    )


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "WAVES", 3)


def test_texts_are_said_once_by_the_arms_run_and_frames_of_recordings_by_griffin_lim(
    table: Table, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, few: None
) -> None:
    hired, opened = fake(monkeypatch), []

    class Speaker:
        mel = VocoderMel()

        def mels(self, texts: Sequence[str], reference: Reference) -> list[np.ndarray]:
            return [self.mel(reference.wave)[:30]]

    def generator(folder: Path, steps: int | None, seed: int) -> Speaker:
        opened.append((folder.name, seed))
        return Speaker()

    monkeypatch.setattr("overture.speak.generator", generator)
    run = flow()

    def judged(arm: Arm, task: str) -> made.Synthesised:
        trial: Any = SimpleNamespace(task=find_task(task), trial=Trial(task=task))
        weights = tmp_path / "flow-1" if arm.kind == "trained" else None
        given: dict[str, Any] = {"weights": weights, "cache": tmp_path, "home": tmp_path, "tell": untold}
        found = judging.judge(arm, run, 3, trial, table, {"test": np.arange(12)}, **given)
        assert isinstance(found, made.Synthesised) and len(found.predictions) == 3
        return found

    spoken, control = Arm(name="flow", run=run), Arm(name="griffin-lim", run=run, kind="input")
    voice, sound = (judged(spoken, f"synthesis-{of}") for of in ("voice", "sound"))
    assert opened == [("flow-1", 3)] and [of for _, of in hired] == [("voice",), ("sound",)]
    assert (voice.metric, sound.metric) == ("similarity", "mos")
    assert {len(wave) for _, wave in sound.shown} == {30 * 256} and "wrong_speaker" in voice.others
    copies = judged(control, "synthesis-sound")
    assert {len(wave) for _, wave in copies.shown} == {int(1.1 * RATE) // 256 * 256} and len(opened) == 1
    assert [
        judging.plays(replace(spoken, kind=k), find_task("synthesis")) for k in ("trained", "untrained", "input")
    ] == [True, False, True]


VOICES = "speaker in ('joe', 'bob', 'tam') and duration between 0.6 and 1.2"


def study(*tasks: str, recipe: str = "hifi-gan", **trial: Any) -> Study:
    run = get(f"{recipe}:tiny")
    run = replace(run, data=replace(run.data, where=None), loop=replace(run.loop, updates=2))
    return Study(
        arms=(
            Arm(name="griffin-lim", run=run, kind="input"),
            Arm(name="untrained", run=run, kind="untrained"),
            Arm(name="trained", run=run),
        ),
        trials=tuple(Trial(task=t, **trial) for t in tasks),
        corpus="embedded",
        where=VOICES,
        seeds=(0,),
    )


def test_a_study_of_vocoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: None) -> None:
    fake(monkeypatch)
    monkeypatch.setattr("overture.tasks.synthesised.look_for", lambda of: None)
    made_now: list[str] = []
    for name in ("griffin_lim", "copies"):
        maker: Callable[..., makers.Make] = getattr(makers, name)

        def counted(*given: Any, name: str = name, maker: Callable[..., makers.Make] = maker) -> makers.Make:
            made_now.append(name)
            return maker(*given)

        monkeypatch.setattr(makers, name, counted)
    one = study("copy-synthesis", "copy-synthesis-sound")
    one = replace(one, trials=(one.trials[0], replace(one.trials[1], outside=("recording",))))
    result = compare(one, tmp_path, untold, budget="none")
    arms = {name: arm["mean"] for name, arm in result["arms"].items()}
    assert result["metric"] == "log-mel distance" and result["best"] == "griffin-lim"
    assert arms["griffin-lim"] < 0.5 * arms["untrained"]
    assert made_now == ["griffin_lim", "copies", "copies"]  # once, for both tasks
    sound = result["also"]["copy-synthesis-sound"]
    assert set(sound["arms"]) == set(arms) and result["outside"]["copy-synthesis-sound"]["recording"]["value"] > 0
    assert "p808" in sound["probes"]["trained"][0]
    for folder in tmp_path.glob("judged/judge-*"):
        listed = json.loads((folder / "audio" / "index.json").read_text())
        assert len(listed) == 3 and all((folder / "audio" / line["file"]).exists() for line in listed)
    laboratory = Laboratory(one, tmp_path, untold)
    held = {str(v) for trial in laboratory.trials for v in trial.held.numpy("speaker")}
    heard = {str(v) for v in Table.open(laboratory.pretraining.corpus).numpy("speaker")}
    assert held and heard and not held & heard


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            study("copy-synthesis-words"),
            "judged by models that are not installed: 'overture models get whisper-base' gets them",
        ),
        (
            study("copy-synthesis", recipe="tera"),
            "task 'copy-synthesis' is for vocoders, such as hifi-gan, and 'tera' is none",
        ),
        (
            study("synthesis"),
            "task 'synthesis' is for what makes frames of a text, such as flow-tts, and 'hifi-gan' is none",
        ),
    ],
)
def test_what_cannot_be_judged_is_said_before_anything_is_trained(wrong: Study, says: str, tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match=says):
        Laboratory(wrong, tmp_path, untold)
    assert not list(tmp_path.iterdir())


def test_judges_are_looked_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OvertureError, match="overture models get ge2e whisper-base'"):
        synthesised.look_for(("voice", "words"))
    synthesised.look_for(())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"overture\[onnx\]"):
        synthesised.look_for(("sound",))
