"""overture.tasks.synthesised: scores of made waves by judges that are told what to say, and trials counted by hand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from overture.errors import OvertureError
from overture.models.dnsmos import Opinion
from overture.tasks.synthesised import SILENCE, Claimed, Judges, Made, compared, judge, verify


def made(name: str = "a", **more: object) -> Made:
    """A second of a constant at 8 kHz, whose voice is the constant."""
    values = {
        "id": name,
        "wave": np.full(8_000, 0.5, np.float32),
        "rate": 8_000,
        "text": "Hello, World!",
        "speaker": "s",
        "reference": np.full(4_000, 0.5, np.float32),
    }
    return Made(**(values | more))  # type: ignore[arg-type]


class Told:
    """Judges that keep what they heard. A voice is the angle pi x the middle sample; its sound is the middle sample."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.heard = texts, []

    def judges(self) -> Judges:
        def words(waves: Sequence[np.ndarray]) -> Sequence[str]:
            self.heard += list(waves)
            return self.texts

        def voice(wave: np.ndarray) -> np.ndarray:
            angle = np.pi * float(wave[len(wave) // 2])
            return 3 * np.array([np.cos(angle), np.sin(angle)])

        def sound(wave: np.ndarray) -> Opinion:
            return Opinion(*(k + float(wave[len(wave) // 2]) for k in (1.0, 2.0, 3.0, 4.0)))

        return Judges(words=words, voice=voice, sound=sound)


def test_each_wave_is_scored_by_what_it_says_and_sounds_like() -> None:
    items = [
        made("right", target=np.zeros(16_000, np.float32), seconds=0.25),
        made("wrong", wave=np.full(16_000, 0.25, np.float32), target=np.zeros(8_000, np.float32), seconds=1.5),
        made("loud", wave=np.full(8_000, 2.0, np.float32), reference=np.full(4_000, 0.5, np.float32)),
    ]
    told = Told(" hello world.", "hello there world", "Goodbye")
    found = judge(items, told.judges())
    rows = {row["id"]: row for row in found.items.to_pylist()}
    assert list(rows) == ["right", "wrong", "loud"]
    assert [(r["errors"], r["words"]) for r in rows.values()] == [(0, 2), (1, 2), (2, 2)]
    assert rows["wrong"]["written"] == "hello there world" and rows["wrong"]["text"] == "Hello, World!"
    assert found.scores["wer"].value == 3 / 6
    expected = [1.0, np.cos(np.pi / 4), np.cos(np.pi / 2)]  # the loud one is clipped to 1
    np.testing.assert_allclose([r["similarity"] for r in rows.values()], expected, atol=1e-3)
    assert found.vectors is not None
    np.testing.assert_allclose(found.vectors, [[0, 1], [np.sqrt(0.5), np.sqrt(0.5)], [-1, 0]], atol=1e-3)
    assert rows["right"]["overall"] == pytest.approx(1.5, abs=1e-3) and rows["right"]["p808"] == pytest.approx(
        4.5, abs=1e-3
    )
    assert [r["clipped"] for r in rows.values()] == [0, 0, 1]
    np.testing.assert_allclose([r["level"] for r in rows.values()], 20 * np.log10([0.5, 0.25, 2.0]), atol=1e-6)
    assert [r["length"] for r in rows.values()] == [0.5, 2.0, None] and found.scores["length"].value == 3.0 / 3.0
    assert [r["real_time"] for r in rows.values()] == [0.25, 0.75, None]
    assert found.scores["real_time"].value == pytest.approx(1.75 / 3.0)
    assert [len(w) for w in told.heard] == [16_000, 32_000, 16_000] and max(np.abs(w).max() for w in told.heard) == 1
    low, high = found.interval("wer") or (9, 9)
    assert 0 <= low < 0.5 < high <= 1


def test_words_are_compared_as_they_are_said() -> None:
    """Whisper writes digits, money and abbreviations; of what nobody can read the words count as errors, and how often that was is told."""
    told = Told(
        "I have 12 apples.", "Mr. Smith paid $2.50 at 10:30.", "He was born in 1905", "mám dvanáct", "press 1/2 now"
    )
    items = [
        made("digits", text="I have twelve apples"),
        made("money", text="Mister Smith paid two dollars and fifty cents at ten thirty"),
        made("asked", text="he was born in 1905!"),
        made("czech", text="Mám 12.", language="cs"),
        made("unread", text="Press one half now"),
    ]
    found = judge(items, told.judges())
    assert found.items.column("errors").to_pylist() == [0, 0, 0, 0, 2]  # "press now" is left of the last
    assert found.items.column("words").to_pylist() == [4, 11, 7, 2, 4]
    assert found.items.column("written").to_pylist()[0] == "I have 12 apples."
    assert found.scores["unread"].events.tolist() == [0, 0, 0, 0, 1]
    assert "unread" not in judge(items[:1], Told("I have 13 apples").judges()).scores
    assert compared("♪ la 3", None) == ("la", False) and compared("12!", "cs") == ("dvanáct", True)


def test_the_control_is_the_reference_of_another_speaker() -> None:
    """Voices at 90, 90 and 45 degrees; references of a, a and b at 90, 90 and 0."""
    half, none = np.full(4_000, 0.5, np.float32), np.full(4_000, 1e-9, np.float32)
    items = [
        made("1", speaker="a"),
        made("2", speaker="a", reference=half),
        made("3", wave=np.full(8_000, 0.25, np.float32), speaker="b", reference=none),
    ]
    found = judge(items, Told("x", "x", "x").judges()).items
    np.testing.assert_allclose(found.column("similarity"), [1, 1, np.sqrt(0.5)], atol=1e-3)
    np.testing.assert_allclose(found.column("wrong_speaker"), [0, 0, np.sqrt(0.5)], atol=1e-3)
    assert "wrong_speaker" not in judge([made()], Told("x").judges()).scores


def test_judges_may_be_asked_alone() -> None:
    all_three = Told("hello world").judges()
    silent = judge([made(text=None, reference=None)], Judges())
    assert silent.vectors is None and set(silent.scores) == {"level", "clipped"}
    words = judge([made(reference=None)], replace(all_three, voice=None, sound=None))
    assert words.scores["wer"].value == 0 and not {"similarity", "overall"} & words.scores.keys()
    with pytest.raises(OvertureError, match="'a': there is no reference to compare its voice with"):
        judge([made(reference=None)], all_three)
    with pytest.raises(OvertureError, match="'a': nothing is told of what it should say"):
        judge([made(text=None)], all_three)


def test_a_generator_that_gives_nothing_is_judged_all_the_same() -> None:
    told = Told("")
    found = judge([made(wave=np.zeros(0, np.float32), target=np.zeros(8_000, np.float32), seconds=1.0)], told.judges())
    (row,) = found.items.to_pylist()
    assert len(told.heard[0]) == SILENCE and not told.heard[0].any()
    assert (row["errors"], row["words"], row["seconds"], row["level"], row["length"]) == (2, 2, 0.0, -160.0, 0.0)
    assert row["real_time"] is None and "real_time" not in found.scores and found.interval("wer") is None


def test_scores_that_nothing_has_what_they_need_for_are_left_out() -> None:
    found = judge([made()], Told("hello world").judges())
    assert (
        not {"length", "real_time"} & found.scores.keys()
        and {"wer", "similarity", "overall", "level"} < found.scores.keys()
    )


def test_intervals_draw_speakers_where_there_are_some() -> None:
    items = [made(f"{i}", speaker=f"{i // 4}") for i in range(8)]
    texts = ["hello world"] * 4 + ["no no"] * 4  # all waves of a speaker alike
    found = judge(items, Told(*texts).judges())
    assert found.interval("wer") == (0.0, 1.0)
    alone = judge([replace(m, speaker="s") for m in items], Told(*texts).judges()).interval("wer")
    assert alone is not None and 0 < alone[0] < 0.5 < alone[1] < 1


@pytest.mark.parametrize(
    "more, says",
    [
        ({"text": "?!"}, "'a': its text has no words"),
        ({"wave": np.array([0.0, np.nan])}, "'a': its wave is not"),
        ({"wave": np.zeros((2, 5))}, r"shape \(2, 5\)"),
        ({"reference": np.zeros(0)}, "'a': its reference has no samples"),
        ({"target": np.full(4_000, 0.5)}, "'a': the voice would be compared with the recording whose text is said"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(more: dict[str, object], says: str) -> None:
    with pytest.raises(OvertureError, match=says):
        made(**more)


def test_ids_are_different() -> None:
    for items in ([], [made(), made()]):
        with pytest.raises(OvertureError, match="each with an id of its own"):
            judge(items, Told("x", "y").judges())


def at(*degrees: float) -> np.ndarray:
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


REAL = {"a": at(0, 10), "b": at(90, 100), "c": at(180, 190)}  # means at 5, 95 and 185 degrees


def test_speech_in_the_right_voices_is_told_apart_as_real_speech_is() -> None:
    found = verify(at(4, 6, 96, 184) * 7, ["a", "a", "b", "c"], REAL)
    assert found.names == ["a", "b", "c"] and found.eer.eer == found.real.eer == 0 and found.hter.value == 0
    assert found.eer_interval == (0.0, 0.0)
    # A real one is tried against the mean of the others of its speaker: 10 degrees; the next speaker is 85 degrees away.
    assert found.real.threshold == pytest.approx((np.cos(np.radians(10)) + np.cos(np.radians(85))) / 2)


def test_speakers_count_alike_and_the_threshold_is_that_of_real_speech() -> None:
    # Threshold .536: within 57.6 degrees. Of a's three waves one is b's, so one of three is refused, and accepted in one of six trials.
    found: Claimed = verify(at(5, 5, 95, 95, 185), ["a", "a", "a", "b", "c"], REAL)
    np.testing.assert_allclose(found.refused, [1 / 3, 0, 0])
    np.testing.assert_allclose(found.accepted, [1 / 6, 0, 0])
    assert found.hter.value == pytest.approx((1 / 3 + 1 / 6) / 2 / 3)
    # Cosine 1: 7/9 of trials of one voice (2/3, 1, 1) and 1/18 of the others; cosine 0 is the rest.
    assert 1 / 18 < found.eer.eer <= 2 / 9 and found.eer_interval[0] <= found.eer.eer <= found.eer_interval[1]


def test_one_voice_for_all_is_not_verified() -> None:
    found = verify(at(45, 45, 45), ["a", "b", "c"], REAL)
    assert found.eer.eer > 0.3 and found.real.eer == 0
    swapped = verify(at(95, 185, 5), ["a", "b", "c"], REAL)
    assert swapped.refused.tolist() == [1, 1, 1] and swapped.accepted.tolist() == [0.5] * 3 and swapped.eer.eer > 0.5


@pytest.mark.parametrize(
    "speakers, enrolled, says",
    [
        (["a", "x"], REAL, "1 speakers of synthetic speech are not enrolled: x"),
        (["a", "a"], {"a": at(0, 10)}, "1 enrolled speakers"),
        (["a", "b"], REAL | {"c": at(3)}, "1 of them with fewer than two recordings"),
    ],
)
def test_trials_that_cannot_be_are_refused(speakers: list[str], enrolled: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(OvertureError, match=says):
        verify(at(0, 90), speakers, enrolled)
