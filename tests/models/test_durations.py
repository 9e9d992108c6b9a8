"""overture.models.durations: means by hand, rare contexts lean on wide ones, paces, and labels of frames."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from overture.data.phones import PHONES, SILENCE, phone_ids
from overture.errors import OvertureError
from overture.models.durations import LEAN, PhoneDurations


def ends(*seconds: float) -> np.ndarray:
    return np.cumsum(seconds)


def test_means_are_those_of_the_logs_and_lean_on_wider_contexts() -> None:
    of = PhoneDurations.count([(["SIL", "AH", "T"], ends(0.2, 0.1, 0.05)), (["AH", "T"], ends(0.4, 0.05))])
    assert of.seen["AH"] == (2, pytest.approx(np.log(0.2)))  # the geometric mean of .1 and .4
    assert of.seen["AH T"][0] == 2 and of.seen["SIL AH T"] == (1, pytest.approx(np.log(0.1)))
    mean = of.seen[""][1]
    assert mean == pytest.approx(np.mean(np.log([0.2, 0.1, 0.05, 0.4, 0.05])))
    phone = (2 * np.log(0.2) + LEAN * mean) / (2 + LEAN)
    right = (2 * np.log(0.2) + LEAN * phone) / (2 + LEAN)
    both = (1 * np.log(0.1) + LEAN * right) / (1 + LEAN)
    assert of.seconds(["SIL", "AH", "T"])[1] == pytest.approx(np.exp(both))
    assert of.seconds(["ZH"])[0] == pytest.approx(np.exp(mean))  # never seen
    with pytest.raises(ValueError, match="no phone"):
        PhoneDurations.count([])


def test_what_is_seen_often_is_learnt() -> None:
    rng = np.random.default_rng(0)
    lasts = {"AH": 0.08, "T": 0.04, "S": 0.12}

    def utterance() -> tuple[list[str], np.ndarray]:
        phones = [SILENCE, *rng.choice(list(lasts), 8), SILENCE]
        seconds = [
            0.3 if p == SILENCE else lasts[p] * (2 if q == SILENCE else 1) for p, q in zip(phones, [*phones[1:], ""])
        ]
        return phones, ends(*(np.array(seconds) * np.exp(rng.normal(0, 0.1, len(seconds)))))

    of = PhoneDurations.count(utterance() for _ in range(400))
    phones, when = utterance()
    expected = [
        0.3 if p == SILENCE else lasts[p] * (2 if q == SILENCE else 1) for p, q in zip(phones, [*phones[1:], ""])
    ]
    np.testing.assert_allclose(of.seconds(phones), expected, rtol=0.08)  # lengthening before silence too
    slow = np.cumsum(np.diff(when, prepend=0.0) * np.where([p == SILENCE for p in phones], 1.0, 1.5))
    assert of.pace(phones, slow) == pytest.approx(1.5, rel=0.12) and of.pace([SILENCE], ends(3.0)) == 1.0


def test_labels_last_as_long_as_their_phones_and_each_has_a_frame() -> None:
    of = PhoneDurations({"": (1.0, np.log(0.1)), "T": (1e9, np.log(0.002)), "SIL": (1e9, np.log(0.5))})
    labels = of.labels(["SIL", "AH", "T", "AH"], 100.0)
    names = [PHONES[i] for i in labels]
    runs = [names[0], *(b for a, b in pairwise(names) if a != b)]
    assert runs == ["SIL", "AH", "T", "AH"] and names.count("SIL") == pytest.approx(50, abs=1)
    assert names.count("AH") == pytest.approx(20, abs=1) and names.count("T") in (1, 2)
    twice = of.labels(["SIL", "AH", "T", "AH"], 100.0, pace=2.0)
    assert (twice == phone_ids(["AH"])[0]).sum() == pytest.approx(40, abs=1)
    assert (twice == phone_ids(["SIL"])[0]).sum() == pytest.approx(50, abs=1)  # a slow speaker has no longer pauses
    with pytest.raises(ValueError, match="tuple"):
        of.labels(["QQ"], 100.0)


def test_it_is_kept_in_a_file(tmp_path: Path) -> None:
    of = PhoneDurations.count([(["SIL", "AH", "T"], ends(0.2, 0.1, 0.05))])
    of.save(tmp_path / "durations.json")
    assert PhoneDurations.load(tmp_path / "durations.json") == of
    (tmp_path / "durations.json").write_text('{"AH": "long"}')
    with pytest.raises(OvertureError, match="does not say how long phones last"):
        PhoneDurations.load(tmp_path / "durations.json")
