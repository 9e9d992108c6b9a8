"""From recordings of any length to words with times, in bounded memory.

A recording is streamed, resampled and cut into windows that overlap: of each window only the frames with enough context on both sides
are kept, and they join to the log probabilities of the whole recording, frame by frame, so no word is written twice or cut by a window.
(A front end that normalises an utterance normalises a window.) The joined frames are decoded in segments that end between two words
of the best path, in the longest pause at hand. Without a language model that gives the words of the whole, but for words that hold
a second without a letter, or a minute without a space.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import soundfile as sf
import soxr
import torch
from numpy.typing import NDArray

from overture.data.check import FLOOR, RATES, SILENT
from overture.errors import OvertureError
from overture.recognise.align import forced
from overture.recognise.decode import Beam, beam_search, greedy
from overture.recognise.lm import NGram
from overture.recognise.units import BLANK, Units
from overture.recognise.write import Transcript, Word, clock

WINDOW, CONTEXT = 24.0, 2.0  # s; of each window the outer `CONTEXT` on either side is only heard
SEGMENT = 30.0  # s decoded at once, about: up to twice as long where nobody pauses
AT_ONCE = 96.0  # s of windows handed to the recogniser together; it makes batches of them
SHORTEST = 0.1  # s, less holds no word
SAFE = 1.0  # s without a letter after which no word goes on

Progress = Callable[[Path, float, float], None]  # a file, seconds of it done, seconds it has


class Recogniser(Protocol):
    """What is needed of a `recogniser.Recogniser`."""

    @property
    def rate(self) -> int: ...
    @property
    def frame_rate(self) -> float: ...
    @property
    def units(self) -> Units: ...
    @property
    def lm(self) -> NGram | None: ...
    @property
    def beam(self) -> Beam: ...
    def log_probs(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]: ...


@dataclass(frozen=True)
class Failure:
    """A recording that could not be transcribed."""

    file: Path
    reason: str  # names the file


class Window(NamedTuple):
    """A stretch of a recording."""

    wave: np.ndarray  # (N,) float32
    skip: int  # frames of context in front
    keep: int | None  # frames to keep behind them; None: all


class Recording:
    """A file as a stream of mono samples at another rate. What was found on the way is in its attributes."""

    def __init__(self, path: Path, rate: int, channel: int | None = None) -> None:
        """channel: the one to hear, from 1; None: the average of all."""
        self.path, self.target, self.channel = path, rate, channel
        self.announced = 0.0  # s, by the header
        self.seconds = 0.0  # s decoded so far
        self.rate = self.channels = 0  # of the file
        self.loudest = FLOOR  # dBFS, of the loudest second that is heard
        self.loudest_channel = FLOOR  # dBFS, of the loudest second of any channel

    def blocks(self) -> Iterator[np.ndarray]:
        """(N,) float32 at the target rate, about a second at a time.

        Raises OvertureError when the file is missing, damaged, empty, or lacks the channel.
        """
        if not self.path.is_file():
            is_folder = f"is a folder. Name the files in it: {self.path}/*.wav" if self.path.is_dir() else ""
            raise OvertureError(f"{self.path}: {is_folder or 'does not exist'}")
        try:
            try:
                file = sf.SoundFile(str(self.path))
            except TypeError as error:  # a .raw file: it has no header
                raise OSError("it has no header") from error
            with file:
                self._check(file)
                stream = soxr.ResampleStream(self.rate, self.target, 1, dtype="float32", quality="HQ")
                while len(block := file.read(self.rate, dtype="float32", always_2d=True)):
                    mono = self._mono(block)
                    self.seconds += len(block) / self.rate
                    yield mono if self.rate == self.target else stream.resample_chunk(mono)
                if self.rate != self.target:
                    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
        except (sf.LibsndfileError, OSError, RuntimeError) as error:
            where = f" after {clock(self.seconds)}" if self.seconds else ""
            raise OvertureError(
                f"{self.path}: cannot be read as audio{where} ({error}). Convert it to WAV or FLAC"
            ) from error
        if self.seconds < SHORTEST:
            raise OvertureError(f"{self.path}: {self.seconds:g} s of audio, too short to hold a word")

    def notes(self) -> tuple[str, ...]:
        """What a person should know, after the last block."""
        found = []
        if self.channels > 1 and self.channel is None:
            found.append(f"{self.channels} channels were averaged; --channel 1 hears only the first")
        if self.silent and self.loudest_channel >= SILENT:
            found.append("what is heard is silent, and another channel is not: choose it with --channel")
        elif self.silent:
            found.append(f"silent (below {SILENT:g} dBFS throughout): no words")
        if self.announced - self.seconds > 0.1:
            found.append(f"the file announces {self.announced:.1f} s and holds {self.seconds:.1f} s: it is not whole")
        return tuple(found)

    @property
    def silent(self) -> bool:
        return self.loudest < SILENT

    def _check(self, file: sf.SoundFile) -> None:
        self.rate, self.channels = int(file.samplerate), int(file.channels)
        self.announced = file.frames / self.rate
        if not RATES[0] <= self.rate <= RATES[1]:
            raise OvertureError(
                f"{self.path}: a sampling rate of {self.rate} Hz is outside {RATES[0]}..{RATES[1]} Hz. Check its header, or resample it"
            )
        if self.channel is not None and not 1 <= self.channel <= self.channels:
            raise OvertureError(f"{self.path}: has no channel {self.channel}, it has {self.channels}")

    def _mono(self, block: np.ndarray) -> np.ndarray:
        """(N, channels) -> (N,), measured on the way."""
        mono = block.mean(axis=1) if self.channel is None else np.ascontiguousarray(block[:, self.channel - 1])
        if not np.isfinite(mono).all():
            raise OvertureError(f"{self.path}: NaN or infinite samples after {clock(self.seconds)}. Export it again")
        power = np.mean(np.square(block, dtype=np.float64), axis=0)
        heard = float(np.mean(np.square(mono, dtype=np.float64)))
        self.loudest = max(self.loudest, _dbfs(heard))
        self.loudest_channel = max(self.loudest_channel, _dbfs(float(power.max())))
        return mono


def windows(blocks: Iterable[np.ndarray], hop: int, size: int, context: int) -> Iterator[Window]:
    """Cuts a stream of samples into windows of `size` frames of `hop` samples, all of one length where the stream is as long.

    The frames that they keep are those of the whole stream, each once. Holds the samples of two windows.
    """
    buffer = np.zeros(0, np.float32)
    at = start = done = 0  # frames: where the buffer and the next window begin, how many are kept so far
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while len(buffer) > (start + size - at) * hop:
            buffer, at = buffer[(start - at) * hop :], start
            keep = start + size - context - done
            yield Window(buffer[: size * hop], done - start, keep)
            done += keep
            start = done - context
    end = at + math.ceil(len(buffer) / hop)
    if end > at:
        start = max(0, min(start, end - size))  # the last one is as long as the others, with more context in front
        yield Window(buffer[(start - at) * hop :], done - start, None)


class Segments:
    """Joins the frames that windows keep, and parts them where no word goes on."""

    def __init__(self, units: Units, frame_rate: float, seconds: float = SEGMENT) -> None:
        self.units, self.size, self.safe = units, round(seconds * frame_rate), round(SAFE * frame_rate)
        self.at = 0  # first frame that is not handed out
        self.pending: NDArray[np.float32] = np.zeros((0, len(units)), np.float32)

    def add(self, frames: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(T, C) more frames -> segments that are whole: number of the first frame, (T', C)."""
        self.pending = np.concatenate([self.pending, frames])
        while len(self.pending) >= self.size and (cut := self._cut()):
            yield self._take(cut)

    def rest(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The last segment, if any frames are left."""
        if len(self.pending):
            yield self._take(len(self.pending))

    def _take(self, cut: int) -> tuple[int, NDArray[np.float32]]:
        at, part = self.at, self.pending[:cut]
        self.pending, self.at = self.pending[cut:].copy(), at + cut
        return at, part

    def _cut(self) -> int:
        """The frame to part at; 0: not yet."""
        path = self.pending.argmax(1)  # (T,)
        frames = len(path)
        change = np.flatnonzero(np.diff(path, prepend=-1))  # first frame of each run
        ends = np.append(change[1:], frames)
        letters = path[change] != BLANK
        first, last = change[letters], ends[letters]  # of each id, last exclusive
        words = self.units.words(path[first].tolist())
        if not words:
            return frames
        begins, stops = [int(first[a]) for a, _, _ in words], [int(last[b - 1]) for _, b, _ in words]
        gaps = list(zip([0, *stops[:-1]], begins))
        if frames - stops[-1] >= self.safe:
            gaps.append((stops[-1], frames))
        # The longest; but no segment is so short that little is left to decode it by.
        found = [(b - a, cut) for a, b in gaps if b > a and (cut := _middle(path, a, b)) >= self.size // 4]
        if found or frames < 2 * self.size:
            return max(found, default=(0, 0))[1]
        return _middle(path, frames // 3, frames)  # nobody pauses between words, or the script has no spaces: any pause


def transcribe(
    files: Sequence[Path],
    recogniser: Recogniser,
    *,
    channel: int | None = None,
    window: float = WINDOW,
    context: float = CONTEXT,
    on_progress: Progress | None = None,
) -> Iterator[Transcript | Failure]:
    """What is said in each file, in order. A file that cannot be transcribed is a `Failure`, and the others go on.

    channel: the one to hear, from 1 (None: the average); window, context: s. Windows of several files are computed together.
    Raises OvertureError for a recogniser whose frames are no whole number of samples apart, or a window that is all context.
    """
    hop = round(recogniser.rate / recogniser.frame_rate)
    if abs(hop * recogniser.frame_rate / recogniser.rate - 1) > 1e-6:
        raise OvertureError(
            f"the recogniser makes {recogniser.frame_rate:g} frames a second of {recogniser.rate} Hz, no whole number of samples "
            "each: recordings cannot be cut into windows for it"
        )
    size, outer = round(window * recogniser.frame_rate), round(context * recogniser.frame_rate)
    if size <= 2 * outer:
        raise OvertureError(f"a window of {window:g} s with {context:g} s of context on either side keeps nothing")

    def parts() -> Iterator[tuple[_File, Window | None]]:
        """The windows of every file, and None at its end."""
        for path in files:
            file = _File(Recording(path, recogniser.rate, channel), Segments(recogniser.units, recogniser.frame_rate))
            try:
                for part in windows(file.recording.blocks(), hop, size, outer):
                    yield file, part
            except OvertureError as error:
                file.failure = str(error)
            yield file, None

    waiting: list[tuple[_File, Window | None]] = []
    seconds = 0.0
    for file, part in parts():
        waiting.append((file, part))
        seconds += len(part.wave) / recogniser.rate if part is not None else 0.0
        if seconds >= AT_ONCE:
            yield from _computed(waiting, recogniser, on_progress)
            waiting, seconds = [], 0.0
    yield from _computed(waiting, recogniser, on_progress)


@dataclass
class _File:
    """A recording on its way."""

    recording: Recording
    segments: Segments
    words: list[Word] = field(default_factory=list)
    failure: str = ""

    def add(self, frames: NDArray[np.float32], part: Window, recogniser: Recogniser) -> None:
        """The frames (T, C) of one window."""
        if part.keep is not None and len(frames) < part.skip + part.keep:
            raise ValueError(
                f"{len(frames)} frames of a window of which {part.skip + part.keep} are wanted: too little context"
            )
        if np.isnan(frames).any():
            raise OvertureError(
                f"{self.recording.path}: the recogniser gives NaN. Its weights are damaged, or overflow"
            )
        stop = None if part.keep is None else part.skip + part.keep
        self._decode(self.segments.add(frames[part.skip : stop]), recogniser)

    def end(self, recogniser: Recogniser) -> Transcript | Failure:
        heard = self.recording
        if self.failure:
            return Failure(heard.path, self.failure)
        self._decode(self.segments.rest(), recogniser)
        return Transcript(
            file=heard.path,
            seconds=heard.seconds,
            rate=heard.rate,
            channels=heard.channels,
            channel=heard.channel,
            words=() if heard.silent else tuple(self.words),
            notes=heard.notes(),
        )

    def _decode(self, segments: Iterator[tuple[int, NDArray[np.float32]]], recogniser: Recogniser) -> None:
        for at, frames in segments:
            self.words += words(frames, recogniser, at)


def _computed(
    waiting: list[tuple[_File, Window | None]], recogniser: Recogniser, on_progress: Progress | None
) -> Iterator[Transcript | Failure]:
    """Computes the windows that wait; yields the files that end among them."""
    asked = [None if part is None or file.failure else part.wave for file, part in waiting]
    found = iter(_log_probs(recogniser, [wave for wave in asked if wave is not None]))
    for (file, part), wave in zip(waiting, asked):
        frames = None if wave is None else next(found)
        if part is None:
            yield file.end(recogniser)
        elif frames is not None and not file.failure:
            path = file.recording.path
            try:
                if isinstance(frames, OvertureError):
                    raise frames
                file.add(frames, part, recogniser)
            except OvertureError as error:
                file.failure = str(error) if str(error).startswith(str(path)) else f"{path}: {error}"
            if on_progress is not None:
                done = (file.segments.at + len(file.segments.pending)) / recogniser.frame_rate
                on_progress(path, done, file.recording.announced)


def _log_probs(recogniser: Recogniser, waves: list[np.ndarray]) -> list[np.ndarray | OvertureError]:
    """(T, C) of each wave, or why there are none: an error of one is none of the others."""
    try:
        return [*recogniser.log_probs(waves)] if waves else []
    except OvertureError as error:
        return [error] if len(waves) == 1 else [found for wave in waves for found in _log_probs(recogniser, [wave])]


def words(log_probs: NDArray[np.float32], recogniser: Recogniser, at: int = 0) -> list[Word]:
    """The words of one segment, (T, C) log probabilities whose first frame is number `at` of the recording.

    By the best path, or by beam search where the recogniser has a language model; times are of the forced alignment of what was
    decoded, to one frame.
    """
    units, lm = recogniser.units, recogniser.lm
    if lm is None:
        ids = greedy(torch.from_numpy(log_probs)[None], torch.tensor([len(log_probs)]))[0]
    else:
        ids = beam_search(log_probs, units, lm, recogniser.beam)[0].ids
    if not ids:
        return []
    aligned = forced(log_probs, ids)
    found = []
    for first, end, text in units.words(ids):
        confidence = min(math.exp(float(aligned.score[first:end].mean())), 1.0)
        begins, ends = int(aligned.first[first]) + at, int(aligned.last[end - 1]) + at + 1
        found.append(Word(text, begins / recogniser.frame_rate, ends / recogniser.frame_rate, confidence))
    return found


def _middle(path: NDArray[np.int64], a: int, b: int) -> int:
    """Where to part frames a..b of the best path: amid their longest run of blanks, or before b where there is none."""
    edges = np.flatnonzero(np.diff(path[a:b] == BLANK, prepend=False, append=False)).reshape(-1, 2)  # (runs, 2)
    if not len(edges):
        return b
    begin, end = edges[np.diff(edges).argmax()]
    return a + int(begin + end + 1) // 2


def _dbfs(power: float) -> float:
    return 10 * math.log10(max(power, 1e-12))
