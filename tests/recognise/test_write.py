"""Text, SRT, CTM and JSON, to the letter; and what subtitles may never do."""

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from overture.errors import OvertureError
from overture.recognise.write import FORMATS, Transcript, Word, as_ctm, as_json, as_srt, as_text, clock, write


def transcript(words: list[Word], seconds: float | None = None, name: str = "my talk.wav") -> Transcript:
    length = seconds or (words[-1].end if words else 1.0)
    return Transcript(file=Path("in") / name, seconds=length, rate=44_100, channels=2, channel=None, words=tuple(words))


TWO = transcript(
    [Word("hello", 0.5, 0.9, 0.98766), Word("wörld", 1.0, 1.42, 0.5), Word("again", 3725.0, 3725.4, 1.0)], 3726
)


def test_text_and_ctm():
    assert as_text(TWO, {}) == "hello wörld\nagain\n"
    assert as_ctm(TWO, {}) == (
        "my_talk 1 0.500 0.400 hello 0.988\nmy_talk 1 1.000 0.420 wörld 0.500\nmy_talk 1 3725.000 0.400 again 1.000\n"
    )
    assert as_text(transcript([]), {}) == "\n" and as_ctm(transcript([]), {}) == as_srt(transcript([]), {}) == ""


def test_json():
    record = json.loads(as_json(TWO, {"model": "runs/asr", "lm": None}))
    assert record["text"] == "hello wörld again" and record["file"] == "in/my talk.wav" and record["seconds"] == 3726
    assert record["words"][0] == {"text": "hello", "start": 0.5, "end": 0.9, "confidence": 0.9877}
    assert record["model"] == "runs/asr" and record["lm"] is None and record["channels"] == 2
    assert "ö" in as_json(TWO, {})


def test_srt_to_the_letter():
    assert as_srt(TWO, {}) == (
        "1\n00:00:00,500 --> 00:00:01,500\nhello wörld\n\n2\n01:02:05,000 --> 01:02:06,000\nagain\n"
    )


def test_subtitles_are_parted_where_the_speaker_pauses():
    # 20 words of 5 letters (119 cells, 9.8 s): too much for one. There is a short pause before the 9th, and a longer one before the 2nd,
    # which would leave a word alone.
    starts = np.arange(20) * 0.5
    starts[8:] += 0.2
    starts[1:] += 0.25
    words = [Word("abcde", s, s + 0.3, 1.0) for s in starts.tolist()]
    cues = blocks(as_srt(transcript(words), {}))
    assert [len(" ".join(lines).split()) for *_, lines in cues] == [8, 12]
    assert [len(lines) for *_, lines in cues] == [2, 2]


def blocks(text: str) -> list[tuple[int, int, list[str]]]:
    found = []
    for number, block in enumerate(text.strip("\n").split("\n\n"), start=1):
        first, times, *lines = block.split("\n")
        assert first == str(number)
        match = re.fullmatch(r"(\d\d):([0-5]\d):([0-5]\d),(\d{3}) --> (\d\d):([0-5]\d):([0-5]\d),(\d{3})", times)
        assert match, times
        h, m, s, ms, h2, m2, s2, ms2 = map(int, match.groups())
        found.append((((h * 60 + m) * 60 + s) * 1000 + ms, ((h2 * 60 + m2) * 60 + s2) * 1000 + ms2, lines))
    return found


@pytest.mark.parametrize("seed", range(30))
def test_subtitles_of_any_words_are_valid(seed):
    from rich.cells import cell_len

    rng = np.random.default_rng(seed)
    letters = "語漢字" if seed % 3 == 0 else "abcdé"
    longest, pausing = [(8, 0.1), (12, 0.02), (300, 0.3)][seed % 3]
    now, words = float(rng.uniform(0, 2)), []
    for _ in range(int(rng.integers(1, 300))):
        text = "".join(rng.choice(list(letters), int(rng.integers(1, longest + 1))))
        length = 0.02 * int(rng.integers(1, 5)) * len(text)
        words.append(Word(text, now, now + length, 0.9))
        now += length + (float(rng.uniform(0.3, 4)) if rng.random() < pausing else 0.02 * int(rng.integers(0, 10)))
    found = transcript(words, now)
    cues = blocks(as_srt(found, {}))
    assert "".join("".join(lines) for *_, lines in cues).replace(" ", "") == found.text.replace(" ", "")
    for start, end, lines in cues:
        assert start < end and 1 <= len(lines) <= 2 and all(0 < cell_len(line) <= 42 for line in lines)
        if max(len(w.text) for w in words) < 20 and " " in " ".join(lines):
            assert end - start <= 7001
    assert all(a[1] <= b[0] for a, b in pairwise(cues))
    assert cues[0][0] == round(1000 * words[0].start) and cues[-1][1] <= max(round(1000 * now), cues[-1][0] + 1)
    if longest < 300:  # no subtitle goes on through a pause
        pauses = [(a.end, b.start) for a, b in pairwise(words) if b.start - a.end >= 0.6]
        assert not any(s < 1000 * a - 1 and e > 1000 * b + 1 for s, e, _ in cues for a, b in pauses)


def test_written_whole_or_not_at_all(tmp_path):
    write(TWO, {name: tmp_path / "out" / f"a{ending}" for name, (ending, _) in FORMATS.items()}, {"model": "m"})
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.ctm", "a.json", "a.srt", "a.txt"]
    assert (tmp_path / "out" / "a.txt").read_bytes() == "hello wörld\nagain\n".encode()
    (tmp_path / "file").write_text("")
    with pytest.raises(OvertureError, match=r"file/a\.txt cannot be written"):
        write(TWO, {"text": tmp_path / "file" / "a.txt"}, {})


def test_clock():
    assert [clock(s) for s in (0.4, 65, 599.9, 3725.4, 36_000)] == ["0:00", "1:05", "9:59", "1:02:05", "10:00:00"]
