"""Altering the samples of what is trained on: speed, rooms, noise, bands, telephone lines.

As in most recognisers since Ko et al. (2015, 2017): each utterance is played faster or slower, put into a room, noise is added, and it is sent down
a line, each by a draw of its own. What is drawn depends on (seed, update, row) alone, so resuming, ranks, threads and batches cannot change it.
Only training sees it: scoring reads the recordings as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from overture.errors import OvertureError

if TYPE_CHECKING:  # a `Run` holds a `WaveAugment`, and must stay light
    import numpy as np

    from overture.data.table import Table

TELEPHONE_BAND = (300.0, 3_400.0)  # Hz
SPEEDS = (0.5, 2.0)  # beyond these nobody understands
DIRECT = (0.0, 12.0)  # dB, direct sound over the rest in a synthetic room


@dataclass(frozen=True, kw_only=True)
class WaveAugment:
    """What may happen to the samples of an utterance, in this order. The defaults change its speed only."""

    speed: tuple[float, ...] = (0.9, 1.0, 1.1)  # one is drawn for each utterance; (1.0,) leaves them
    reverb: float = 0.0  # share of the utterances that are put into a room
    impulses: str | None = None  # a corpus of impulse responses of rooms; None: synthetic ones
    t60: tuple[float, float] = (0.2, 0.8)  # s until a synthetic room has decayed by 60 dB, drawn evenly
    noise: str | None = None  # a corpus whose recordings are added
    snr: tuple[float, float] = (5.0, 20.0)  # dB, speech over noise, drawn evenly
    band: tuple[float, float] | None = None  # Hz that are left; a telephone leaves (300, 3400)
    mulaw: bool = False  # a digital telephone line: 8 kHz, G.711 mu-law
    share: float = 0.5  # of the utterances that get noise, and, drawn apart, of those that get the band and the line

    def __post_init__(self) -> None:
        def refuse(name: str, must: str) -> None:
            raise OvertureError(f"augment.{name}={getattr(self, name)!r}: {must}")

        if not self.speed or not all(SPEEDS[0] <= s <= SPEEDS[1] for s in self.speed):
            refuse("speed", f"one factor or more, each between {SPEEDS[0]:g} and {SPEEDS[1]:g}")
        for name in ("reverb", "share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                refuse(name, "a share is between 0 and 1")
        if self.impulses is not None and not self.reverb:
            refuse("impulses", "needs augment.reverb above 0, the share of the utterances that are put into a room")
        if not 0.0 < self.t60[0] <= self.t60[1] <= 10.0:
            refuse("t60", "two numbers of seconds, the smaller first, above 0 and up to 10")
        if not all(map(isfinite, self.snr)) or self.snr[0] > self.snr[1]:
            refuse("snr", "two numbers of dB, the smaller first")
        if self.band is not None and not 0.0 < self.band[0] < self.band[1]:
            refuse("band", "two frequencies in Hz above 0, the lower first")

    @property
    def slowest(self) -> float:
        """An utterance is at most 1 / slowest times as long as its recording."""
        return min(self.speed)

    @property
    def fastest(self) -> float:
        """An utterance is at least 1 / fastest times as long as its recording: what must fit into its frames must fit then."""
        return max(self.speed)


@dataclass(frozen=True)
class Choice:
    """What was done to one utterance."""

    speed: float = 1.0
    room: str | None = None  # a row of the corpus of impulse responses, or "T60 0.43 s, direct sound 7.1 dB"
    noise: tuple[str, ...] = ()  # rows of the corpus of noise
    snr: float | None = None  # dB
    band: tuple[float, float] | None = None  # Hz
    gain: float | None = None  # on a telephone line, see `waves.telephone_line`


class Augmenter:
    """A `WaveAugment` at one rate, with its corpora open. May be called from many threads."""

    def __init__(self, what: WaveAugment, rate: int, progress: Callable[[float], None] | None = None) -> None:
        """`rate`: Hz of all waves. Noise is decoded once, into a cache; `progress` is told the share done.

        Raises OvertureError for a corpus that is not there or has nothing to use, and for a band that does not fit `rate`.
        """
        if what.band is not None and what.band[1] >= rate / 2:
            raise OvertureError(
                f"augment.band={what.band!r}: at {rate:,} Hz the upper frequency must be below {rate / 2:g} Hz"
            )
        self.what, self.rate = what, rate
        self.noise = None if what.noise is None else _Noise(what.noise, rate, progress)
        self.rooms = None if what.impulses is None else _Rooms(what.impulses, rate)

    @property
    def corpora(self) -> list["Table"]:
        """What is mixed in comes from these."""
        return [c.table for c in (self.noise, self.rooms) if c is not None]

    def speed(self, rng: "np.random.Generator") -> float:
        """The first draw: how fast the utterance is played."""
        return self.what.speed[int(rng.integers(len(self.what.speed)))]

    def __call__(self, wave: "np.ndarray", rng: "np.random.Generator") -> tuple["np.ndarray", Choice]:
        """(N,) float32 -> (round(N / speed),) float32 as loud as before, and what was done."""
        return self.alter(wave, self.speed(rng), rng)

    def alter(self, wave: "np.ndarray", speed: float, rng: "np.random.Generator") -> tuple["np.ndarray", Choice]:
        """The same after `speed` has been drawn from `rng`."""
        import numpy as np

        from overture.data import waves

        what, room, snr, band, gain = self.what, None, None, None, None
        names: tuple[str, ...] = ()
        wave = waves.speed(np.asarray(wave, dtype=np.float32), speed)
        # Whether anything happens is drawn first and always: the noise of an utterance does not depend on its having a room.
        reverberates, noisy, sent = rng.random(3) < (what.reverb, what.share, what.share)
        parts = [np.random.default_rng(seed) for seed in rng.integers(2**63, size=2)]
        if reverberates:
            impulse, room = self._room(parts[0])
            wave = waves.reverberate(wave, impulse)
        if noisy and self.noise is not None and wave.any():  # digital silence has no ratio to noise
            noise, names = self.noise.draw(parts[1], len(wave))
            snr = float(parts[1].uniform(*what.snr))
            wave = waves.add_noise(wave, noise, snr)
        if sent and what.band is not None:
            band, wave = what.band, waves.band_limit(wave, self.rate, *what.band)
        if sent and what.mulaw:
            wave, gain = waves.telephone_line(wave, self.rate)
        return wave, Choice(speed, room, names, snr, band, gain)

    def _room(self, rng: "np.random.Generator") -> tuple["np.ndarray", str]:
        from overture.data import waves

        if self.rooms is not None:
            return self.rooms.draw(rng)
        t60, direct = float(rng.uniform(*self.what.t60)), float(rng.uniform(*DIRECT))
        made = waves.impulse_response(rng, self.rate, t60, direct)
        return made, f"synthetic, T60 {t60:.2f} s, direct sound {direct:.1f} dB over the rest"


class _Noise:
    """The recordings of a corpus, mapped into memory; those that the table calls silent are left alone."""

    def __init__(self, corpus: str, rate: int, progress: Callable[[float], None] | None) -> None:
        from overture.data.features import Waveform
        from overture.data.source import Cached

        self.table = _audible(corpus)
        self.ids = self.table.columns.column("id")
        self.source = Cached.open(self.table, Waveform(rate=rate), progress)

    def draw(self, rng: "np.random.Generator", count: int) -> tuple["np.ndarray", tuple[str, ...]]:
        """(count,) samples of no certain level, and the rows they are of: a part of a recording, or as many as it takes, one after another.

        Raises OvertureError for a recording that is digital silence.
        """
        import numpy as np

        out, names, done = np.empty(count, dtype=np.float32), [], 0
        while done < count:
            clip = int(rng.integers(len(self.table)))
            samples = self.source.frames[self.source.offsets[clip] : self.source.offsets[clip + 1]]
            spare = max(0, len(samples) - (count - done))
            start = int(rng.integers(spare + 1))
            part = samples[start : start + count - done]
            if not part.any():  # a pause of digital silence: the loudest place instead
                start = int(np.clip(np.abs(samples).argmax() - (count - done) // 2, 0, spare))
                part = samples[start : start + count - done]
            out[done : done + len(part)] = part
            names.append(str(self.ids[clip].as_py()))
            done += len(part)
        if not out.any():
            raise OvertureError(
                f"corpus {self.table.name!r}, row {names[0]!r}: digital silence, not noise. Take it out of that corpus"
            )
        return out, tuple(names)


class _Rooms:
    """The impulse responses of a corpus, read when they are drawn."""

    def __init__(self, corpus: str, rate: int) -> None:
        self.table, self.rate = _audible(corpus), rate

    def draw(self, rng: "np.random.Generator") -> tuple["np.ndarray", str]:
        """(K,) samples and the row they are of. Raises OvertureError for one that is digital silence."""
        from overture.data import audio

        row = self.table.row(int(rng.integers(len(self.table))))
        made = audio.read(row["audio"], rate=self.rate, start=row.get("start") or 0.0, duration=row["duration"])
        if not made.any():
            raise OvertureError(
                f"corpus {self.table.name!r}, row {row['id']!r}: an impulse response of digital silence. Take it out of that corpus"
            )
        return made, str(row["id"])


def _audible(corpus: str) -> "Table":
    from overture.data.check import SILENT
    from overture.data.table import Table

    table = Table.open(corpus)
    table = table.where(f"level > {SILENT}") if "level" in table.columns.column_names else table
    if not len(table):
        raise OvertureError(f"corpus {corpus!r} has no recording above {SILENT:g} dBFS to augment with")
    return table
