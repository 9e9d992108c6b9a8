"""Waves that an arm makes of test rows, and what they are worth: the tasks `copy-synthesis` of vocoders and `synthesis` of what speaks a text.

Copy synthesis takes a real recording to its mel spectrogram and back, so that nothing but the vocoder is judged; it is judged by the distance to
the recording too, which asks nobody. A text is said in the voice of one recording of a speaker, and the voice is compared with another one.
Where an arm has no network (kind `input`), its front end's frames of the real recording become waves by Griffin-Lim: what needs no training. The
recording itself is a reference from outside (`recording`): the most that these judges give.

Waves are made once an arm and seed, and judged by each task for itself; test rows are at most `WAVES`, drawn speaker by speaker.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile as sf

from overture import jsonfile
from overture.data import audio
from overture.data.split import normal
from overture.data.table import Table
from overture.data.vocoder_mel import VocoderMel
from overture.errors import OvertureError
from overture.steps import Step
from overture.tasks import Task, metrics
from overture.tasks.metrics import Counts
from overture.tasks.probe import ProbeResult
from overture.tasks.synthesised import Judges, Made, compared, judge, verify

Tell = Callable[[dict[str, Any]], None]
WAVES = 40  # rows at most: a judge of words takes seconds for each
SHOWN = 4  # waves that stay beside a result, to be listened to
ENROLLED = 10  # recordings of a speaker at most that what is made is tried against, about as many as in SV2TTS
VOICE = 1.0  # s of a recording that a voice is taken from, at least
HEARD = VocoderMel()  # the mel of distances, whatever an arm's own is
SCORE = {"wer": "wer", "similarity": "similarity", "mos": "overall"}  # by metric, of `synthesised.judge`


class Asked(NamedTuple):
    """What is to be made of a test row, by numbers of rows."""

    row: int
    prompt: int  # a recording of its speaker that a generator is given; of copy synthesis, itself
    reference: int  # a third one, that the voice is compared with


class Wave(NamedTuple):
    """What was made of a row: (N,) float32, without samples where nothing could be; and the seconds that it took, where it was made."""

    wave: np.ndarray
    seconds: float | None


@dataclass(frozen=True)
class Synthesised(ProbeResult):
    """With what is told beside the score: `others`, {score: {value, interval}}, and waves to listen to, `shown`."""

    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    shown: tuple[tuple[str, np.ndarray], ...] = ()  # (caption, (N,) float32)
    shown_rate: int = HEARD.rate  # Hz


def chosen(task: Task, table: Table, test: np.ndarray, tell: Tell) -> list[Asked]:
    """Which of the rows `test` are made, at most `WAVES`: one of each speaker, then another of each.

    Of `synthesis` each has two other recordings of its speaker that say something else. Raises OvertureError where there is none.
    """
    rows = [int(r) for r in test if _fits(table.row(int(r)), task)]
    found = [Asked(r, r, r) for r in rows] if task.features == "copied" else _with_two_others(table, rows)
    if not found:
        raise OvertureError(
            f"none of {len(test)} test rows of {table.name!r} can be judged by {task.name!r}: each needs a text with words where words are "
            f"judged and, to be spoken, two other recordings of its speaker of {VOICE:g} s or more that say something else"
        )
    turns: dict[str, int] = defaultdict(int)
    keyed: list[tuple[int, int, Asked]] = []
    for one in sorted(found, key=lambda a: _luck(table, a.row)):
        speaker = str(table.row(one.row)["speaker"])
        keyed.append((turns[speaker], len(keyed), one))
        turns[speaker] += 1
    if (count := min(WAVES, len(found))) < len(test):
        tell({"kind": "note", "text": f"{task.name}: {count} of {len(test)} test rows are made and judged"})
    return [one for _, _, one in sorted(keyed)[:WAVES]]


def _fits(row: dict[str, Any], task: Task) -> bool:
    if task.features == "copied" and task.metric != "wer":
        return True
    words, _ = compared(str(row["text"]), row.get("language"))
    return bool(words) and (task.features == "copied" or row["duration"] >= VOICE)


def _with_two_others(table: Table, rows: list[int]) -> list[Asked]:
    of: dict[str, list[int]] = defaultdict(list)
    for r in sorted(rows, key=lambda r: _luck(table, r)):
        of[str(table.row(r)["speaker"])].append(r)
    found = []
    for own in of.values():
        texts = [normal(table.row(r)["text"]) for r in own]
        for i, row in enumerate(own):
            around = [j % len(own) for j in range(i + 1, i + len(own))]
            others = [own[j] for j in around if texts[j] != texts[i]]
            if len(others) >= 2:
                found.append(Asked(row, others[0], others[1]))
    return found


def _luck(table: Table, row: int) -> str:
    return hashlib.sha1(str(table.row(row)["id"]).encode()).hexdigest()


def recording(table: Table, row: int, rate: int) -> np.ndarray:
    """(N,) float32 at `rate` Hz."""
    values = table.row(row)
    return audio.read(values["audio"], rate=rate, start=values.get("start") or 0.0, duration=values["duration"])


def waves(
    make: Callable[[Asked], np.ndarray], rate: int, rows: Sequence[Asked], made_of: dict[str, Any], home: Path
) -> list[Wave]:
    """What `make` gives for each, (N,) float32 at `rate` Hz: made now, or kept of the task that was judged before. `made_of` decides it."""

    def make_all(folder: Path) -> None:
        seconds = []
        for number, one in enumerate(rows):
            begun = time.perf_counter()
            wave = make(one)
            seconds.append(time.perf_counter() - begun)
            sf.write(folder / f"{number}.wav", wave, rate, subtype="FLOAT")
        jsonfile.write(folder / "made.json", {"seconds": seconds})

    step = Step("waves", {**made_of, "rate": rate, "rows": [list(one) for one in rows]}, make_all)
    folder = step.perform(home)
    spent = jsonfile.read_object(folder / "made.json")["seconds"]
    return [Wave(audio.read(folder / f"{i}.wav", rate=rate), float(s)) for i, s in enumerate(spent)]


def score(
    task: Task,
    table: Table,
    rows: Sequence[Asked],
    made: Sequence[Wave],
    rate: int,
    began: float,
    judges: Judges | None = None,
) -> Synthesised:
    """What the waves are worth by the metric of `task`. `judges`: None: those that are installed; `began`: `time.perf_counter()` then."""
    values = [table.row(one.row) for one in rows]
    columns = {"id": [str(v["id"]) for v in values], "reference": [str(v.get("text") or "") for v in values]}
    shown = tuple((_caption(v), w.wave) for v, w in list(zip(values, made))[:SHOWN])
    if task.metric == "mel":
        counts = distances(
            [recording(table, one.row, HEARD.rate) for one in rows], [_at_16k(w.wave, rate) for w in made]
        )
        found = Synthesised.as_it_is("mel", counts, {**columns, "hypothesis": [""] * len(rows)}, began)
        spent = Counts(np.array([w.seconds or 0.0 for w in made]), np.array([len(w.wave) / rate for w in made]))
        return replace(found, others=_told({"real_time": spent}), shown=shown, shown_rate=rate)
    of = task.judge
    assert of is not None
    judges = judges or Judges.installed(_language(values), (of,))
    items = [
        Made(
            id=str(v["id"]),
            wave=w.wave,
            rate=rate,
            text=str(v["text"]) if of == "words" else None,
            language=v.get("language"),
            speaker=str(v["speaker"]),
            reference=recording(table, one.reference, rate) if of == "voice" else None,
            target=recording(table, one.row, rate),
            seconds=w.seconds,
        )
        for one, v, w in zip(rows, values, made)
    ]
    judged = judge(items, judges)
    name = SCORE[task.metric]
    said = judged.items.column("written").to_pylist() if of == "words" else [""] * len(rows)
    found = Synthesised.as_it_is(task.metric, judged.scores[name], {**columns, "hypothesis": said}, began)
    others = _told({k: v for k, v in judged.scores.items() if k != name})
    if judges.voice is not None and judged.vectors is not None:
        others |= _errors(judged.vectors, judged.speakers, _enrolled(table, rows, judges.voice))
    return replace(found, others=others, shown=shown, shown_rate=rate)


def _enrolled(table: Table, rows: Sequence[Asked], voice: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    """Vectors (M, E) of real recordings of each speaker, at most `ENROLLED`, none of which a generator is given as a prompt."""
    speakers, prompts = {str(table.row(one.row)["speaker"]) for one in rows}, {one.prompt for one in rows}
    found: dict[str, list[np.ndarray]] = {speaker: [] for speaker in sorted(speakers)}
    free = np.flatnonzero([str(s) in speakers for s in table.numpy("speaker")])
    for r in sorted(map(int, free), key=lambda r: _luck(table, r)):
        own = found[str(table.row(r)["speaker"])]
        if r not in prompts and len(own) < ENROLLED:
            own.append(voice(recording(table, r, HEARD.rate)))
    return {speaker: np.stack(own) for speaker, own in found.items() if len(own) >= 2}


def _errors(vectors: np.ndarray, speakers: list[str], enrolled: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Equal error rates of `synthesised.verify`, of what was made and of real recordings; none where fewer than two speakers can be enrolled."""
    known = [s in enrolled for s in speakers]
    if len(enrolled) < 2 or not any(known):
        return {}
    claimed = verify(vectors[known], [s for s, k in zip(speakers, known) if k], enrolled)
    return {
        "eer": {"value": float(claimed.eer.eer), "interval": claimed.eer_interval},
        "eer_of_recordings": {"value": float(claimed.real.eer), "interval": None},
    }


def distances(real: Sequence[np.ndarray], made: Sequence[np.ndarray]) -> Counts:
    """Of each pair of waves at 16 kHz the sum over frames of |log-mel - log-mel|, a mean over channels, and how many frames it has.

    Whole frames of the real one count; what was made is cut to them, or followed by silence.
    """
    sums, frames = [], []
    for a, b in zip(real, made, strict=True):
        size = len(a) // HEARD.hop * HEARD.hop
        fitted = np.zeros(size, np.float32)
        fitted[: len(b)] = b[:size]
        apart = np.abs(HEARD(a[:size]) - HEARD(fitted)).mean(1)  # (T,)
        sums.append(float(apart.sum(dtype=np.float64)))
        frames.append(len(apart))
    return Counts(np.array(sums), np.array(frames))


def of_recordings(task: Task, table: Table, test: np.ndarray, tell: Tell) -> Synthesised:
    """The reference `recording`: real recordings of the rows that arms are asked for. Raises OvertureError where distances are scored."""
    if task.metric == "mel":
        raise OvertureError(
            "the reference 'recording' is at no distance from itself: it is for judges of words, voice and sound"
        )
    began = time.perf_counter()
    rows = chosen(task, table, test, tell)
    found = [Wave(recording(table, one.row, HEARD.rate), None) for one in rows]
    return score(task, table, rows, found, HEARD.rate, began)


def _at_16k(wave: np.ndarray, rate: int) -> np.ndarray:
    return np.asarray(np.clip(audio.resample(wave, rate, HEARD.rate), -1.0, 1.0))


def _caption(row: dict[str, Any]) -> str:
    said = f": {row['text']}" if row.get("text") else ""
    return f"{row['speaker']}, {row['id']}{said}"


def _language(rows: Sequence[dict[str, Any]]) -> str | None:
    """That of all rows; None, so that it is detected, where they have several or do not say."""
    found = {row.get("language") for row in rows}
    return found.pop() if len(found) == 1 else None


def _told(scores: dict[str, Counts]) -> dict[str, dict[str, Any]]:
    return {n: {"value": c.value, "interval": metrics.bootstrap(*c)} for n, c in scores.items()}
