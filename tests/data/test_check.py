"""Every kind of bad recording is told by its kind, and good ones are measured right."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from overture.data.audio import read
from overture.data.check import FLOOR, Problem, counts, examine, examine_all, refuse
from overture.data.table import Table
from overture.errors import OvertureError


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    row = Table.open("embedded", "duration > 1").row(0)
    return read(row["audio"], rate=16_000, start=row["start"], duration=row["duration"])


def kinds(path: Path, **options: float) -> list[str]:
    return [p.kind for p in examine(path, **options).problems]


def test_measures_a_good_recording(tmp_path: Path, wave: np.ndarray) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, wave, 16_000)
    pcm = sf.read(path, dtype="int16")[0]
    found = examine(path)
    assert found.problems == ()
    assert (found.duration, found.rate, found.channels) == (len(wave) / 16_000, 16_000, 1)
    assert found.sha1 == hashlib.sha1(pcm.tobytes()).hexdigest()
    assert found.peak == pytest.approx(np.abs(pcm / 32768).max(), abs=1e-6)
    assert found.level == pytest.approx(10 * np.log10(np.mean((pcm / 32768.0) ** 2)), abs=1e-3)


def test_same_samples_have_the_same_hash_in_another_container(tmp_path: Path, wave: np.ndarray) -> None:
    for name in ("a.wav", "b.flac"):
        sf.write(tmp_path / name, wave, 16_000, subtype="PCM_16")
    assert examine(tmp_path / "a.wav").sha1 == examine(tmp_path / "b.flac").sha1


def test_a_long_file_is_measured_in_blocks_as_a_whole(
    tmp_path: Path, wave: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    sf.write(tmp_path / "a.wav", wave, 16_000)
    whole = examine(tmp_path / "a.wav")
    monkeypatch.setattr("overture.data.check.BLOCK", 1000)
    parts = examine(tmp_path / "a.wav")
    assert parts.sha1 == whole.sha1 and parts.level == pytest.approx(whole.level) and parts.duration == whole.duration


def test_a_segment_is_measured_alone(tmp_path: Path, wave: np.ndarray) -> None:
    sf.write(tmp_path / "a.wav", wave, 16_000)
    sf.write(tmp_path / "b.wav", sf.read(tmp_path / "a.wav")[0][4_000:8_000], 16_000)
    assert examine(tmp_path / "a.wav", 0.25, 0.25).sha1 == examine(tmp_path / "b.wav").sha1


def test_unreadable_missing_and_empty(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is no sound")
    sf.write(tmp_path / "empty.wav", np.zeros(0, dtype=np.float32), 16_000)
    assert kinds(tmp_path / "text.wav") == ["unreadable"]
    assert kinds(tmp_path / "absent.wav") == ["missing file"]
    assert kinds(tmp_path) == ["missing file"]
    assert kinds(tmp_path / "empty.wav") == ["empty"]


def test_a_truncated_file_is_not_taken_for_whole(tmp_path: Path, wave: np.ndarray) -> None:
    path = tmp_path / "a.flac"
    sf.write(path, np.tile(wave, 5), 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    assert kinds(path) == ["unreadable"]


def test_too_long_is_refused_by_its_header(tmp_path: Path, wave: np.ndarray) -> None:
    sf.write(tmp_path / "a.wav", wave, 16_000)
    assert kinds(tmp_path / "a.wav", limit=0.5) == ["too long"]
    assert kinds(tmp_path / "a.wav", limit=0.5, start=0.1, duration=0.3) == []


def test_nan_and_infinite_samples(tmp_path: Path, wave: np.ndarray) -> None:
    bad = wave.copy()
    bad[[10, 20]] = np.nan
    bad[30] = np.inf
    sf.write(tmp_path / "a.wav", bad, 16_000, subtype="FLOAT")
    found = examine(tmp_path / "a.wav")
    assert [p.kind for p in found.problems] == ["bad samples"] and "3 samples" in found.problems[0].what
    assert np.isfinite([found.peak, found.level]).all()


@pytest.mark.parametrize("rate", [2_000, 400_000])
def test_odd_rates(tmp_path: Path, wave: np.ndarray, rate: int) -> None:
    sf.write(tmp_path / "a.wav", wave, rate)
    assert kinds(tmp_path / "a.wav") == ["odd rate"]


def test_segments_outside_the_file(tmp_path: Path, wave: np.ndarray) -> None:
    sf.write(tmp_path / "a.wav", wave, 16_000)
    assert kinds(tmp_path / "a.wav", start=100.0) == ["segment"]
    assert kinds(tmp_path / "a.wav", start=-1.0) == ["segment"]
    assert kinds(tmp_path / "a.wav", start=0.1, duration=50.0) == ["segment"]
    assert (
        kinds(tmp_path / "a.wav", start=0.1, duration=len(wave) / 16_000 - 0.05) == []
    )  # rounded times may overshoot by .1 s


def test_warnings_do_not_stop(tmp_path: Path, wave: np.ndarray) -> None:
    sf.write(tmp_path / "silent.wav", np.zeros(16_000, dtype=np.float32), 16_000)
    sf.write(tmp_path / "stereo.wav", np.stack([wave, wave], axis=1), 16_000)
    sf.write(tmp_path / "clipped.wav", np.clip(wave * 50, -1, 1), 16_000)
    for name in ("silent", "stereo", "clipped"):
        found = examine(tmp_path / f"{name}.wav")
        assert [p.kind for p in found.problems] == [name] and not found.problems[0].stops
    assert examine(tmp_path / "silent.wav").level == FLOOR
    assert examine(tmp_path / "clipped.wav").clipped > 0.1


def test_many_in_threads_keep_their_order(tmp_path: Path, wave: np.ndarray) -> None:
    for i in range(20):
        sf.write(tmp_path / f"{i}.wav", wave[: 1_000 + 100 * i], 16_000)
    told: list[tuple[int, int]] = []
    found = examine_all(
        [(tmp_path / f"{i}.wav", 0.0, None) for i in range(20)], threads=4, progress=lambda a, b: told.append((a, b))
    )
    assert [f.duration for f in found] == [(1_000 + 100 * i) / 16_000 for i in range(20)]
    assert told[-1] == (20, 20)


def test_refusal_names_rows_totals_and_the_way_on() -> None:
    problems = [
        Problem(kind="empty", what="holds 0 s", way_out="Drop it.", file=f"{i}.wav", row=i) for i in range(2, 14)
    ]
    problems += [Problem(kind="stereo", what="has 2 channels"), Problem(kind="odd rate", what="2000 Hz", row=99)]
    with pytest.raises(OvertureError) as caught:
        refuse(problems, "my.tsv")
    said = str(caught.value)
    assert "row 2, 2.wav, audio: holds 0 s. Drop it." in said and "13 problems" in said and "and 3 more" in said
    assert "12 x empty" in said and "1 x odd rate" in said and "--on-problem skip" in said and "stereo" not in said
    refuse([Problem(kind="stereo", what="has 2 channels")], "my.tsv")
    assert counts(problems)["empty"] == 12
