"""Long recordings: windows join to the whole, no word doubled or cut, times are right, bad files are named and the others go on."""

import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from overture.data import audio
from overture.data.lengths import windows as count
from overture.errors import OvertureError
from overture.recognise.decode import Beam
from overture.recognise.lm import NGram
from overture.recognise.transcribe import Failure, Recording, Segments, transcribe, windows, words
from overture.recognise.units import Characters, Pieces
from overture.recognise.write import Transcript
from tests.recognise.tones import HOP, RATE, WORDS, Tones, said, spoken


def wav(path: Path, wave: np.ndarray, rate: int = RATE, subtype: str = "FLOAT") -> Path:
    sf.write(path, wave, rate, subtype=subtype)
    return path


def one(path: Path, recogniser: Tones, **options: float) -> Transcript:
    (found,) = transcribe([path], recogniser, **options)
    assert isinstance(found, Transcript), found
    return found


# windows


@settings(max_examples=200, deadline=None)
@given(
    samples=st.integers(0, 3000),
    hop=st.integers(1, 7),
    receptive=st.integers(0, 10),
    core=st.integers(1, 40),
    context=st.integers(11, 20),
    block=st.integers(1, 700),
)
def test_windows_keep_every_frame_once_and_in_order(samples, hop, receptive, core, context, block):
    wave = np.arange(samples, dtype=np.float32)
    receptive += hop
    found, sizes = [], []
    for part in windows((wave[i : i + block] for i in range(0, samples, block)), hop, core + 2 * context, context):
        frames = part.wave[: count(len(part.wave), receptive, hop) * hop : hop]  # (T,) first sample of each frame
        if part.keep is not None:
            assert len(frames) >= part.skip + part.keep + context - receptive  # heard on the right
        assert part.skip >= context or len(found) == part.skip  # and on the left, but at the beginning
        found += frames[part.skip : None if part.keep is None else part.skip + part.keep].tolist()
        sizes.append(len(part.wave))
    assert found == [i * hop for i in range(count(samples, receptive, hop))]
    assert max(sizes, default=0) <= (core + 2 * context) * hop and len(set(sizes[:-1])) <= 1


def joined(wave: np.ndarray, size: int, context: int, tones: Tones) -> np.ndarray:
    parts = []
    for part in windows((wave[i : i + 5000] for i in range(0, len(wave), 5000)), HOP, size, context):
        frames = tones.log_probs([part.wave])[0]
        parts.append(frames[part.skip : None if part.keep is None else part.skip + part.keep])
    return np.concatenate(parts)


def test_joined_log_probs_are_those_of_the_whole():
    tones = Tones()
    chosen, pauses = said(80)
    wave = spoken(chosen, pauses=pauses)[0]
    wave = wave + np.float32(0.05) * np.random.default_rng(1).standard_normal(len(wave), dtype=np.float32)
    whole = tones.log_probs([wave])[0]
    for cut in (len(wave), len(wave) - 1, len(wave) - HOP // 2, len(wave) - 3 * HOP):  # lengths that end anywhere
        here = tones.log_probs([wave[:cut]])[0]
        for size in (41, 60, 97, 250, 1000, 10_000):
            np.testing.assert_allclose(joined(wave[:cut], size, 12, tones), here, atol=1e-5)
    assert np.abs(joined(wave, 97, 12, tones) - whole).max() < 1e-5
    assert np.abs(joined(wave, 97, 4, tones) - whole).max() > 1e-2  # too little context would show


def spoken_file(path: Path, n: int, seed: int = 0) -> tuple[Path, list[str], list]:
    chosen, pauses = said(n, seed)
    wave, times = spoken(chosen, pauses=pauses)
    return wav(path, wave), chosen, times


# words


def test_no_word_is_doubled_or_cut_wherever_windows_fall(tmp_path):
    path, chosen, times = spoken_file(tmp_path / "long.wav", 100)
    for window in (1.02, 2.0, 3.14, 7.7, 24.0):
        for shift in (0.0, 0.24, 0.46):
            found = one(path, Tones(), window=window + shift, context=0.4)
            assert found.text == " ".join(chosen)
    for word, (begin, end) in zip(found.words, times):
        assert abs(word.start - begin) < 0.06 and abs(word.end - end) < 0.06 and 0.5 < word.confidence <= 1
    assert all(a.start < a.end <= b.start for a, b in zip(found.words, found.words[1:]))
    assert found.seconds == sf.info(path).duration


def test_error_rate_of_the_joined_is_that_of_the_pieces(tmp_path):
    rng = np.random.default_rng(0)
    references, pieces = [], []
    for i in range(12):
        chosen, pauses = said(8, seed=i)
        spoilt = [WORDS[rng.integers(len(WORDS))] if rng.random() < 0.2 else w for w in chosen if rng.random() > 0.1]
        wave = spoken(spoilt, pauses=pauses, space=True)[0]
        pieces.append(np.pad(wave, (20 * HOP, 40 * HOP - len(wave) % HOP)))  # whole frames
        references.append(" ".join(chosen))
    files = [wav(tmp_path / f"{i}.wav", piece) for i, piece in enumerate(pieces)]
    alone = [found.text for found in transcribe(files, Tones())]
    together = one(wav(tmp_path / "all.wav", np.concatenate(pieces)), Tones(), window=3.0, context=0.4)
    assert together.text == " ".join(alone)
    assert jiwer.process_words(" ".join(references), together.text).wer > 0.1


def test_with_a_language_model(tmp_path):
    path, chosen, _ = spoken_file(tmp_path / "long.wav", 100)
    text = [" ".join(chosen[i : i + 10]) for i in range(0, 100, 10)]
    recogniser = Tones(lm=NGram.estimate(text, order=2), beam=Beam(width=8, lm_weight=0.2))
    assert one(path, recogniser, window=6.0, context=0.4).text == " ".join(chosen)


def test_words_of_one_segment_have_times_from_its_place():
    wave, times = spoken(["cab", "deed"])
    frames = Tones().log_probs([wave])[0]
    here, later = words(frames, Tones()), words(frames, Tones(), 50)
    assert [w.text for w in here] == ["cab", "deed"] and abs(here[1].start - times[1][0]) < 0.06
    assert [w.start + 1 for w in here] == pytest.approx([w.start for w in later])
    assert words(np.log(np.full((9, 7), [0.94, *[0.01] * 6], np.float32)), Tones()) == []


# segments


def frames_of(path: np.ndarray, classes: int) -> np.ndarray:
    return np.where(np.eye(classes, dtype=bool)[path], -0.01, -8.0).astype(np.float32)


def text_of(path: np.ndarray, units: Characters | Pieces) -> str:
    ids = path[np.flatnonzero(np.diff(path, prepend=-1))]
    return units.decode(ids[ids > 0].tolist())


@pytest.mark.parametrize(
    "units", [Characters(" abc"), Pieces(("▁", "a", "b", "▁a", "▁b"), ("▁ a", "▁ b"))], ids=["characters", "pieces"]
)
@pytest.mark.parametrize("blanks", [0.05, 0.3, 0.6])
def test_segments_part_only_between_words(units, blanks):
    rng = np.random.default_rng(0)
    classes = len(units)
    chance = np.array([blanks * (classes + 1), 3, *[1] * (classes - 2)])  # the second ends words
    chance[1:] *= (1 - blanks) * (classes + 1) / chance[1:].sum()
    chance /= chance.sum()
    for _ in range(20):
        path = np.repeat(rng.choice(classes, 1500, p=chance), rng.integers(1, 4, 1500))
        segments = Segments(units, frame_rate=50, seconds=2.0)
        found, largest = [], 0
        for i in range(0, len(path), 170):
            found += segments.add(frames_of(path[i : i + 170], classes))
            largest = max(largest, len(segments.pending))
        found += segments.rest()
        assert [at for at, _ in found] == np.cumsum([0, *(len(f) for _, f in found[:-1])]).tolist()
        assert np.array_equal(np.concatenate([f for _, f in found]).argmax(1), path) and len(found) > 10
        parts = [text_of(f.argmax(1), units) for _, f in found]
        assert " ".join(" ".join(parts).split()) == text_of(path, units)
        assert largest < 400


def test_a_script_without_spaces_is_parted_in_its_pauses_and_silence_at_once():
    units = Characters("abc")
    path = np.tile(np.repeat([1, 0, 2, 0, 3, 0], [3, 1, 2, 1, 3, 9]), 200)
    segments = Segments(units, frame_rate=50, seconds=2.0)
    found = [f for i in range(0, len(path), 90) for _, f in segments.add(frames_of(path[i : i + 90], 4))]
    found += [f for _, f in segments.rest()]
    assert "".join(text_of(f.argmax(1), units) for f in found) == "abc" * 200
    assert max(map(len, found)) <= 290 and all(f.argmax(1)[0] == 0 for f in found[1:])
    silent = Segments(units, frame_rate=50, seconds=2.0)
    assert [len(f) for _, f in silent.add(frames_of(np.zeros(5000, int), 4))] == [5000] and not len(silent.pending)


def test_a_unit_that_never_ends_is_parted_too():
    segments = Segments(Characters(" a"), frame_rate=50, seconds=2.0)
    for _ in range(20):
        list(segments.add(frames_of(np.full(60, 2), 3)))
        assert len(segments.pending) < 300


# recordings


@pytest.mark.parametrize(("native", "channels"), [(44_100, 2), (8_000, 1), (11_025, 1), (48_000, 3)])
def test_streamed_samples_are_those_of_the_whole_file(tmp_path, native, channels):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (native * 3 + 77, channels)).astype(np.float32)
    path = wav(tmp_path / "a.wav", wave, native)
    recording = Recording(path, 16_000)
    streamed = np.concatenate([*recording.blocks()])
    np.testing.assert_allclose(streamed, audio.read(path, rate=16_000), atol=1e-6)
    assert (recording.rate, recording.channels) == (native, channels)
    assert recording.seconds == pytest.approx(len(wave) / native)
    if channels > 1:
        second = np.concatenate([*Recording(path, 16_000, channel=2).blocks()])
        np.testing.assert_allclose(second, audio.resample(wave[:, 1].copy(), native, 16_000), atol=1e-6)


def test_memory_does_not_grow_with_the_recording(tmp_path):
    def peak(minutes: int) -> int:
        path = wav(tmp_path / f"{minutes}.wav", np.zeros(minutes * 60 * RATE, np.int16), subtype="PCM_16")
        tracemalloc.start()
        for part in windows(Recording(path, 16_000).blocks(), 320, 1200, 100):
            assert part.wave.dtype == np.float32
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(20) < 1.1 * peak(3) < 12e6


def test_windows_are_computed_together_but_not_all_at_once(tmp_path):
    path, *_ = spoken_file(tmp_path / "long.wav", 400)
    files = [spoken_file(tmp_path / f"{i}.wav", 5, i)[0] for i in range(30)]
    tones, told = Tones(), []
    found = [*transcribe([*files, path], tones, on_progress=lambda *p: told.append(p))]
    assert len(found) == 31 and len(tones.longest) < 10 and max(tones.longest) < 96 + 24
    assert [p for p, *_ in told if p == files[3]] == [files[3]] and told[-1][0] == path
    done = [d for p, d, _ in told if p == path]
    assert done == sorted(done) and done[-1] == pytest.approx(told[-1][2], abs=0.06)


def test_bad_files_are_named_and_the_others_go_on(tmp_path):
    good, chosen, _ = spoken_file(tmp_path / "good.wav", 20)
    wave = sf.read(good, dtype="float32")[0]
    bad = {
        "absent.wav": "does not exist",
        "folder": "is a folder",
        "noise.wav": "cannot be read as audio",
        "headerless.raw": "no header",
        "cut.flac": "cannot be read as audio after 0:",
        "zero.wav": "0 s of audio, too short",
        "short.wav": "too short to hold a word",
        "nan.wav": "NaN or infinite samples after 0:01",
        "slow.wav": "1000 Hz is outside",
    }
    (tmp_path / "folder").mkdir()
    (tmp_path / "noise.wav").write_bytes(b"RIFF no sound")
    (tmp_path / "headerless.raw").write_bytes(bytes(9000))
    wav(tmp_path / "whole.flac", wave, subtype="PCM_16")
    encoded = bytearray((tmp_path / "whole.flac").read_bytes())
    encoded[len(encoded) * 2 // 3 :] = bytes(len(encoded) - len(encoded) * 2 // 3)
    (tmp_path / "cut.flac").write_bytes(encoded)
    wav(tmp_path / "zero.wav", wave[:0])
    wav(tmp_path / "short.wav", wave[:500])
    nan = wave.copy()
    nan[RATE + 100] = np.nan
    wav(tmp_path / "nan.wav", nan)
    wav(tmp_path / "slow.wav", wave, 1000)
    files = [good, *(tmp_path / name for name in bad)]
    again = wav(tmp_path / "again.wav", wave)
    found = [*transcribe([*files, again], Tones())]
    assert [f.file for f in found] == [*files, again]
    assert found[0].text == found[-1].text == " ".join(chosen)
    for failure, (name, reason) in zip(found[1:-1], bad.items()):
        assert isinstance(failure, Failure) and name in failure.reason and reason in failure.reason, failure


def test_notes(tmp_path):
    wave = spoken(["cab", "deed"])[0]
    files = {
        "stereo": wav(tmp_path / "stereo.wav", np.stack([wave, wave], 1)),
        "against": wav(tmp_path / "against.wav", np.stack([wave, -wave], 1)),
        "silent": wav(tmp_path / "silent.wav", np.full(RATE, 1e-5, np.float32)),
    }
    found = dict(zip(files, transcribe([*files.values()], Tones())))
    assert found["stereo"].text == "cab deed" and found["stereo"].notes == (
        "2 channels were averaged; --channel 1 hears only the first",
    )
    assert found["against"].text == "" and "another channel is not: choose it" in found["against"].notes[1]
    assert found["silent"].words == () and found["silent"].notes == ("silent (below -70 dBFS throughout): no words",)
    (first, other, absent) = transcribe([files["against"], files["stereo"], files["silent"]], Tones(), channel=2)
    assert first.text == other.text == "cab deed" and first.notes == other.notes == ()
    assert absent.reason.endswith("has no channel 2, it has 1")


def test_a_recording_that_is_not_whole(tmp_path):
    wave = spoken(["cab", "deed"] * 20)[0]
    path = tmp_path / "a.mp3"
    sf.write(path, wave, RATE)
    recording = Recording(path, RATE)
    list(recording.blocks())
    assert recording.notes() == ()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (found,) = transcribe([path], Tones())
    assert found.seconds < 0.6 * len(wave) / RATE and found.notes[0].endswith("it is not whole")
    assert f"announces {len(wave) / RATE:.1f} s and holds {found.seconds:.1f} s" in found.notes[0]


@dataclass(frozen=True)
class Choosy(Tones):
    """Refuses a batch with a short wave in it, or gives NaN for a loud one."""

    def log_probs(self, waves):
        if any(len(w) < RATE for w in waves):
            raise OvertureError("utterance 1 is too short for a frame of the encoder")
        return [f * np.nan if np.abs(w).max() > 0.95 else f for w, f in zip(waves, super().log_probs(waves))]


def test_what_one_file_does_to_the_recogniser_is_no_matter_of_the_others(tmp_path):
    wave = spoken(["cab", "deed"] * 20)[0]
    files = [
        wav(tmp_path / "good.wav", wave),
        wav(tmp_path / "short.wav", wave[: RATE // 2]),
        wav(tmp_path / "loud.wav", wave / np.abs(wave).max()),
        wav(tmp_path / "fine.wav", wave),
    ]
    good, short, loud, fine = transcribe(files, Choosy(), window=3.0, context=0.4)
    assert good.text == fine.text == " ".join(["cab", "deed"] * 20)
    assert short.reason == f"{files[1]}: utterance 1 is too short for a frame of the encoder"
    assert loud.reason.startswith(f"{files[2]}: the recogniser gives NaN")


def test_windows_that_cannot_be(tmp_path):
    path = spoken_file(tmp_path / "a.wav", 2)[0]
    with pytest.raises(OvertureError, match="keeps nothing"):
        list(transcribe([path], Tones(), window=2.0, context=1.0))
    with pytest.raises(OvertureError, match="no whole number of samples"):
        list(transcribe([path], Tones(frame_rate=49.3)))
