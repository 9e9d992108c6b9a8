"""overture.models.vad: how frames become stretches of speech, what the network is given, and the installed one."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from overture.data.audio import read
from overture.data.table import Table
from overture.errors import MissingExtra, OvertureError
from overture.models import onnx_session, sources, vad
from overture.models.vad import segments, speech

HOME = sources.home()  # the user's own: tests have another
READY = sources.complete("silero-vad") and bool(importlib.util.find_spec("onnxruntime"))


def frames(*runs: tuple[float, int]) -> np.ndarray:
    """(probability, frames) one after the other."""
    return np.concatenate([np.full(n, p, np.float32) for p, n in runs])


@pytest.mark.parametrize(
    "runs, count, expected",
    [
        ([(0.1, 50)], 25_600, []),
        ([(0.1, 10), (0.9, 20), (0.1, 10)], 20_480, [(5_120 - 480, 15_360 + 480)]),
        ([(0.9, 20), (0.1, 10)], 15_360, [(0, 10_240 + 480)]),  # no margin before the start
        ([(0.1, 10), (0.9, 20)], 15_300, [(4_640, 15_300)]),  # nor behind the end
        ([(0.1, 10), (0.9, 7), (0.1, 10)], 13_824, []),  # .224 s is too short
        ([(0.9, 10), (0.4, 20), (0.1, 10)], 20_480, [(0, 15_840)]),  # between the thresholds it goes on
        ([(0.4, 20), (0.9, 10)], 15_360, [(9_760, 15_360)]),  # and does not begin
        ([(0.9, 10), (0.1, 3), (0.9, 10)], 11_776, [(0, 11_776)]),  # a silence of .096 s ends nothing
        # One of five frames ends it where it began; both get their margins.
        ([(0.9, 10), (0.1, 5), (0.9, 10)], 12_800, [(0, 5_600), (7_200, 12_800)]),
    ],
)
def test_frames_become_stretches(runs: list[tuple[float, int]], count: int, expected: list[tuple[int, int]]) -> None:
    """What silero-vad 6.2.3's `get_speech_timestamps_from_probs` gives, counted by hand."""
    assert segments(frames(*runs), count) == expected


def test_stretches_are_in_order_apart_and_inside() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = np.repeat(rng.random(40), rng.integers(1, 8, 40))
        count = len(p) * 512 - int(rng.integers(512))
        edges = [edge for pair in segments(p, count) for edge in pair]
        assert edges == sorted(edges) and all(0 <= e <= count for e in edges)


def test_the_network_hears_each_frame_with_what_was_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []

    class Network:
        def run(self, _: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
            assert not given["h"].any() and not given["c"].any() and given["h"].shape == (1, 1, 128)
            heard.append(given["input"])
            return [np.full(len(heard[-1]), 0.9, np.float32), given["h"], given["c"]]

    wave = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    monkeypatch.setattr(vad, "session", lambda model, file: Network())
    assert speech(wave) == [(0.0, 1.0)]
    x = np.concatenate(heard)
    assert x.shape == (32, 576) and x.dtype == np.float32 and not x[0, :64].any() and not x[-1, -384:].any()
    np.testing.assert_array_equal(x[1:, :64], x[:-1, -64:])
    np.testing.assert_array_equal(x[:, 64:].reshape(-1)[:16_000], wave)
    assert speech(wave[:0]) == []
    for bad in (wave.reshape(2, -1), np.array([0.0, np.inf], np.float32)):
        with pytest.raises(OvertureError, match="finite samples of one channel"):
            speech(bad)


def test_parts_of_any_lengths_are_heard_as_the_whole_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake remembers, as the LSTM does: what it says of a frame is of all frames before it."""

    class Network:
        def run(self, _: None, given: dict[str, np.ndarray]) -> list[np.ndarray]:
            sums = given["h"].ravel()[0] + np.cumsum(given["input"].astype(np.float64).sum(axis=1))
            return [sums.astype(np.float32), np.full((1, 1, 128), sums[-1]), given["c"] + 1]

    monkeypatch.setattr(vad, "session", lambda model, file: Network())
    rng = np.random.default_rng(0)
    wave = rng.normal(size=100_001).astype(np.float32)
    whole = vad.probabilities([wave])
    assert whole.shape == (196,)
    for sizes in (1, 511, 512, 513, 7_000):
        edges = np.cumsum(rng.integers(1, 2 * sizes + 1, 100_001 // sizes + 1))
        parts = np.split(wave, edges[edges < len(wave)])
        np.testing.assert_allclose(vad.probabilities(parts), whole, atol=1e-3)
    assert vad.probabilities([]).shape == vad.probabilities([wave[:0]]).shape == (0,)


def test_without_its_library_or_files_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_session.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(OvertureError, match="overture models get silero-vad"):
        speech(np.zeros(99, np.float32))
    monkeypatch.setattr(onnx_session.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"overture\[onnx\]"):
        speech(np.zeros(99, np.float32))


def test_a_wheel_without_the_network_is_refused(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("silero_vad/data/silero_vad.jit", "")
    with pytest.raises(OvertureError, match=r"holds no silero_vad/data/silero_vad_16k_sequence\.onnx"):
        vad.install([tmp_path / "a.whl"], tmp_path)


@pytest.mark.skipif(not READY, reason="overture models get silero-vad, and the extra 'onnx'")
def test_the_installed_network_hears_parts_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(HOME.parent))
    table = Table.open("embedded", "duration BETWEEN 2 AND 3 AND language = 'en'")
    rows = [table.row(i) for i in range(8)]
    wave = np.concatenate([read(r["audio"], rate=16_000, start=r["start"], duration=r["duration"]) for r in rows])
    whole = vad.probabilities([wave])
    parts = vad.probabilities(wave[i : i + 12_345] for i in range(0, len(wave), 12_345))
    np.testing.assert_allclose(parts, whole, atol=1e-4)
    assert segments(parts, len(wave)) == segments(whole, len(wave)) and len(segments(whole, len(wave))) > 3


@pytest.mark.skipif(not READY, reason="overture models get silero-vad, and the extra 'onnx'")
def test_the_installed_network_finds_speech_between_silences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(HOME.parent))
    row = Table.open("embedded", "duration BETWEEN 2.3 AND 2.8 AND language = 'en'").row(0)
    spoken = read(row["audio"], rate=16_000, start=row["start"], duration=row["duration"])
    rng = np.random.default_rng(0)
    noise = (rng.normal(size=32_000 + len(spoken)) * 1e-3).astype(np.float32)
    assert speech(noise) == []
    noise[16_000 : 16_000 + len(spoken)] += spoken
    found = speech(noise)
    assert found and 0.9 < found[0][0] < 1.6 and len(spoken) / 16_000 + 0.4 < found[-1][1] < len(spoken) / 16_000 + 1.15
    assert sum(b - a for a, b in found) > 0.5 * len(spoken) / 16_000
