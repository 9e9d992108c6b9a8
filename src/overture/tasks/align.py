"""Which phone is said when: English forced alignment (pocketsphinx 5, extra `align`), for the frame labels of the phone task.

As in the phone classification of CPC and TERA (van den Oord et al. 2018; Liu et al. 2021) the labels of a corpus come from its own
transcripts: a hidden Markov model that knows the words finds where each phone begins. Two passes: the words first, of which
each may have several pronunciations and silence around it, then the phones of the pronunciations that were found.

Alignments are an artifact (`aligned`): computed once for a table, in parts, so that a killed run goes on where it was. What cannot be
aligned is left out and counted: other languages, digits and marks that do not say how they are read, words that the
dictionary lacks, searches that fail, and alignments that look like those of a wrong transcript (docs/tasks.md has measurements).
"""

import json
import multiprocessing
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from overture.data import audio
from overture.data.phones import PHONES, SILENCE, Alignment, frame_labels  # noqa: F401  # the last for its readers
from overture.data.table import Table, corpora_home
from overture.errors import MissingExtra, OvertureError
from overture.steps import Step

RATE = 16_000  # Hz, of the acoustic model
HOP, WINDOW = 0.010, 0.025625  # s, of its frames
SHORTEST = 3  # frames; what its three-state phones cannot go below
DECODER = {
    "bestpath": False,
    "beam": 1e-80,
    "pbeam": 1e-80,
    "wbeam": 1e-60,
}  # bestpath loses last words (docs/tasks.md)
VERSION = 1  # of what is done here; part of an artifact's name
PART = 1_000  # rows that are lost at most when a run is killed


class _Utterance(NamedTuple):
    id: str
    path: str
    start: float
    duration: float
    text: str | None
    language: str | None


def _library() -> Any:
    try:
        import pocketsphinx
    except ImportError as error:
        raise MissingExtra("align", "forced alignment") from error
    return pocketsphinx


def version() -> str:
    """Of the aligner: ours and the library's. Alignments of another version are another artifact."""
    from importlib.metadata import version as installed

    _library()
    return f"{VERSION}-pocketsphinx-{installed('pocketsphinx')}"


def words(text: str | None, known: Callable[[str], bool]) -> list[str] | str:
    """A transcript as words that the dictionary has (`known`), or, as one string, the reason why that cannot be.

    Case, punctuation and hyphens go, apostrophes stay where the word is known with them ("don't", "'cause").
    """
    plain = unicodedata.normalize("NFKC", text or "").lower().replace("\u2019", "'").replace("\u2018", "'")
    if re.search(r"[\d()\[\]{}<>*#@&%$\u00a3\u20ac+=/\\]", plain):
        return "digits or marks that do not say how they are read"
    found = []
    for word in re.findall(r"[^\W_](?:[\w']*[\w'])?|'[\w']+", plain):
        candidates = [w for w in (word, word.rstrip("'"), word.lstrip("'"), word.strip("'")) if w]
        spelt = next((w for w in candidates if known(w)), None)
        if spelt is None:
            return "words that the dictionary lacks"
        found.append(spelt)
    return found or "no words"


class _Aligner:
    """One decoder, in one process."""

    def __init__(self) -> None:
        self.decoder = _library().Decoder(lm=None, loglevel="FATAL", **DECODER)

    def __call__(self, utterance: _Utterance) -> Alignment | str:
        """The alignment, or the reason why there is none. Raises OvertureError naming the row when it cannot be read."""
        if utterance.language is not None and utterance.language.lower().partition("-")[0] != "en":
            return "not English"
        found = self._words(utterance.text)
        if isinstance(found, str):
            return found
        try:
            wave = audio.read(utterance.path, rate=RATE, start=utterance.start, duration=utterance.duration)
        except audio.UnreadableAudio as error:
            raise OvertureError(f"row {utterance.id!r}: {error}. Leave the row out with --where") from error
        return self._path(wave, found)

    def hear(self, wave: np.ndarray, text: str) -> Alignment | str:
        """The alignment of (N,) float32 samples at 16 kHz, or the reason why there is none."""
        found = self._words(text)
        return found if isinstance(found, str) else self._path(wave, found)

    def _words(self, text: str | None) -> list[str] | str:
        return words(text, lambda w: self.decoder.lookup_word(w) is not None)

    def _path(self, wave: np.ndarray, found: list[str]) -> Alignment | str:
        samples = np.round(np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes()
        try:
            self.decoder.set_align_text(" ".join(found))
            self._hear(samples)
            heard = [s.word for s in self.decoder.seg() or ()]
            # the search ends where it is best, which need not be the end of the text
            if [re.sub(r"\(\d+\)$", "", w) for w in heard if w[0] not in "<["] != found:
                return "no path through all words"
            self.decoder.set_alignment()
            self._hear(samples)
        except RuntimeError:  # the library's word for: no path
            return "no path through all words"
        return self._tidy(len(wave) / RATE)

    def _hear(self, samples: bytes) -> None:
        self.decoder.reinit_feat()  # else the statistics of the utterance before reach this one
        self.decoder.start_utt()
        self.decoder.process_raw(samples, full_utt=True)
        self.decoder.end_utt()

    def _tidy(self, duration: float) -> Alignment | str:
        entries = [phone for word in self.decoder.get_alignment() for phone in word]
        names = [p.name if p.name in PHONES else SILENCE for p in entries]
        spoken = [p for p, name in zip(entries, names) if name != SILENCE]
        if sum(p.duration <= SHORTEST for p in spoken) > len(spoken) / 2:
            return "most phones as short as they can be"
        # a boundary lies half-way between the centres of the frames on its two sides
        offset = (WINDOW - HOP) / 2
        phones, starts = [], []
        for name, group in groupby(zip(names, entries), key=lambda pair: pair[0]):
            run = [p for _, p in group]
            for p in run[:1] if name == SILENCE else run:
                phones.append(name)
                starts.append(p.start * HOP + offset)
        bounds = np.array([0.0, *starts[1:], duration])
        if not spoken or not (np.diff(bounds) > 0).all():
            return "no path through all words"
        return Alignment(tuple(phones), bounds, float(np.mean([p.score / p.duration for p in spoken])))


_aligner: _Aligner | None = None  # of a worker process, which loads the model once


def _in_worker(utterance: _Utterance) -> Alignment | str:
    global _aligner
    if _aligner is None:
        _aligner = _Aligner()
    return _aligner(utterance)


def _utterances(table: Table, rows: np.ndarray) -> list[_Utterance]:
    def column(name: str, empty: Any) -> list[Any]:
        if name not in table.columns.column_names:
            return [empty] * len(rows)
        return [empty if v is None else v for v in table.numpy(name)[rows].tolist()]

    columns = (column("start", 0.0), column("duration", 0.0), column("text", None), column("language", None))
    return [
        _Utterance(str(row_id), str(table.root / path), *rest)
        for row_id, path, *rest in zip(column("id", ""), column("audio", ""), *columns)
    ]


def _each(utterances: Sequence[_Utterance]) -> Iterator[Alignment | str]:
    _library()  # says here, not in a worker, that it is missing
    if len(utterances) <= 64:  # processes take longer to start
        yield from map(_Aligner(), utterances)
        return
    pool = ProcessPoolExecutor(os.cpu_count() or 2, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(_in_worker, utterances, chunksize=8)  # the library keeps Python's lock: threads win nothing
    except BrokenProcessPool as error:
        raise OvertureError(
            "a process of the aligner died: out of memory, or called from a script without `if __name__ == '__main__':`."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def phones(table: Table, rows: np.ndarray) -> list[Alignment | str]:
    """The alignment of each of `rows` (row numbers in `table`), in their order; for those left out the reason, a string.

    Does not look at scores: an outlier is one beside others, see `plausible`. A row without a language is taken as
    English. Uses all cores. Raises MissingExtra without pocketsphinx, OvertureError for unreadable audio.
    """
    return list(_each(_utterances(table, rows)))


def align(wave: np.ndarray, text: str) -> Alignment | str:
    """The phones of one English recording, (N,) float32 at 16 kHz, that says `text`; or the reason why they cannot be found, a string.

    Raises MissingExtra without pocketsphinx.
    """
    return _Aligner().hear(wave, text)


def plausible(scores: np.ndarray) -> np.ndarray:
    """(N,) scores of one table -> (N,) bool: not 3 deviations below the median (robust: 1.4826 median absolute deviations)."""
    if len(scores) == 0:
        return np.zeros(0, dtype=bool)
    median = np.median(scores)
    spread = 1.4826 * np.median(np.abs(scores - median))
    return np.asarray(scores >= median - 3 * spread)


SCHEMA = pa.schema(
    {"id": pa.string(), "start": pa.float64(), "end": pa.float64(), "phone": pa.string(), "score": pa.float64()}
)


def kept() -> Path:
    """Where alignments are kept for all who ask, beside the corpora: they depend on a table and the aligner alone."""
    return corpora_home().parent / "alignments"


def aligned(table: Table, home: Path, progress: Callable[[float], None] | None = None) -> Path:
    """The alignments of `table` as a Parquet file under `home`: made now, or found. One row a phone: id, start, end (s), phone,
    and the score of its utterance. `counts.json` beside it says how many rows were aligned and why others were not.

    `progress` is told the share done. Raises as `phones` does, and OvertureError when no row can be aligned.
    """
    step = Step(
        "alignment",
        {"table": table.fingerprint, "rows": len(table), "aligner": version()},
        lambda folder: _make(folder, table, progress),
    )
    return step.perform(home) / "phones.parquet"


def _make(folder: Path, table: Table, progress: Callable[[float], None] | None) -> None:
    parts = [folder / f"part-{first}.parquet" for first in range(0, len(table), PART)]
    for number, part in enumerate(parts):
        if not part.exists():
            utterances = _utterances(table, np.arange(number * PART, min((number + 1) * PART, len(table))))
            found: list[tuple[str, Alignment | str]] = []
            for utterance, one in zip(utterances, _each(utterances)):
                found.append((utterance.id, one))
                if progress is not None:
                    progress((number * PART + len(found)) / len(table))
            _write(part, found)
    joined = (
        pa.concat_tables([pq.read_table(p) for p in parts], promote_options="none") if parts else SCHEMA.empty_table()
    )
    why = Counter(p for p, s in zip(joined["phone"].to_pylist(), joined["score"].to_pylist()) if s is None)
    joined = joined.filter(joined["score"].is_valid())
    ids = np.array(joined["id"].to_pylist(), dtype=object)
    heads = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]])) if len(ids) else np.zeros(0, np.int64)
    good = plausible(joined["score"].to_numpy()[heads])
    why["a score out of all proportion"] = int((~good).sum())
    counts = {"rows": len(table), "aligned": int(good.sum()), "left out": {k: v for k, v in why.most_common() if v}}
    if not good.any():
        raise OvertureError(
            f"none of {len(table)} rows of {table.name!r} could be aligned: {json.dumps(counts['left out'])}. "
            "The aligner knows English only, and needs transcripts in words."
        )
    _put(joined.filter(pa.array(np.repeat(good, np.diff([*heads, len(ids)])))), folder / "phones.parquet")
    (folder / "counts.json").write_text(json.dumps(counts, indent=1), encoding="utf8")
    for part in parts:
        part.unlink()


def _write(path: Path, found: Sequence[tuple[str, Alignment | str]]) -> None:
    """Alignments as rows of phones; a row left out as one row with its reason in place of a phone and no score."""
    rows: list[tuple[str, float | None, float | None, str, float | None]] = []
    for name, one in found:
        if isinstance(one, str):
            rows.append((name, None, None, one, None))
        else:
            times = one.bounds.tolist()
            rows += [(name, *bounds, p, one.score) for p, *bounds in zip(one.phones, times[:-1], times[1:])]
    columns = list(zip(*rows)) if rows else [()] * len(SCHEMA)
    _put(pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA)], schema=SCHEMA), path)


def _put(rows: pa.Table, path: Path) -> None:
    partial = path.with_name(f"{path.name}.partial")
    pq.write_table(rows, partial)
    partial.replace(path)


def read(path: Path) -> dict[str, Alignment]:
    """The alignments that `aligned` wrote, by the id of their row. Raises OvertureError for a file that is none."""
    try:
        rows = pq.read_table(path, schema=SCHEMA).to_pydict()
    except (OSError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise OvertureError(f"{path} is no file of alignments ({error}). Delete its folder and align again.") from error
    found, begin = {}, 0
    for name, group in groupby(rows["id"]):
        end = begin + sum(1 for _ in group)
        bounds = np.array([*rows["start"][begin:end], rows["end"][end - 1]])
        found[name] = Alignment(tuple(rows["phone"][begin:end]), bounds, rows["score"][begin])
        begin = end
    return found
