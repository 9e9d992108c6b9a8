"""How good synthesised speech is, told by published models: whether it says its text, sounds like its speaker, and sounds well.

Transfer learning from speaker verification (Jia et al. 2018, arXiv:1806.04558, section 3) had people listen for what is computed here: words by
Whisper, the voice by GE2E, the sound by DNSMOS. `verify` is its objective test (table 3): synthetic speech against enrolled real speakers.
Controls are judged alike: copy synthesis is what a vocoder makes of real recordings, the wrong speaker another `reference`.

A voice is compared with another recording than the one whose text is said: with that one, room and manner would count as voice. Where the generator
is given GE2E's vectors itself, it may please GE2E without sounding alike: take another `voice` then, or both.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa

from overture.data import audio
from overture.data.verbalise import verbalise
from overture.errors import MissingExtra, OvertureError
from overture.models.dnsmos import Dnsmos, Opinion
from overture.recognise.units import normalise
from overture.tasks import metrics
from overture.tasks.metrics import Counts, Interval
from overture.tasks.verification import Operating, equal_error

RATE = 16_000  # Hz, of what the models hear
SILENCE = RATE // 10  # samples that are heard in the place of a wave without any
FLOOR = 1e-16  # of power, -160 dBFS
DRAWS = 200  # of speakers, for the interval of an equal error rate


Of = Literal["words", "voice", "sound"]
MODELS: dict[Of, str] = {"words": "whisper-base", "voice": "ge2e", "sound": "dnsmos"}  # who judges what


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """One wave that a generator made. All waves are (N,) float32 at `rate`; what lies beyond -1..1 is clipped, as in a file."""

    id: str
    wave: np.ndarray  # without samples where the generator gave none: it is judged as silence
    rate: int  # Hz
    text: str | None  # that it should say; None: nobody asks
    language: str | None = None  # of the text, BCP 47; None: English
    speaker: str  # whom it should sound like
    reference: np.ndarray | None = None  # of that speaker, and another recording than `target`: for a judge of voices
    target: np.ndarray | None = None  # the real recording of the text, where there is one
    seconds: float | None = None  # that the making took

    def __post_init__(self) -> None:
        waves = {"wave": self.wave, "reference": self.reference, "target": self.target}
        for name, wave in waves.items():
            if wave is not None and (wave.ndim != 1 or not np.isfinite(wave).all()):
                raise OvertureError(f"{self.id!r}: its {name} is not (N,) finite samples, but of shape {wave.shape}")
            if wave is not None and name != "wave" and len(wave) == 0:
                raise OvertureError(f"{self.id!r}: its {name} has no samples")
        if self.text is not None and not compared(self.text, self.language)[0]:
            raise OvertureError(f"{self.id!r}: its text has no words ({self.text!r}), so none of it can be right")
        if self.target is not None and self.reference is not None and np.array_equal(self.target, self.reference):
            raise OvertureError(
                f"{self.id!r}: the voice would be compared with the recording whose text is said. Take another of {self.speaker!r}"
            )

    def heard(self, name: str) -> np.ndarray:
        """(N,) at 16 kHz: the "wave" or the "reference" as models hear it."""
        wave = audio.resample(np.asarray(getattr(self, name), dtype=np.float32), self.rate, RATE)
        return np.clip(wave, -1.0, 1.0) if len(wave) else np.zeros(SILENCE, np.float32)


def compared(text: str, language: str | None) -> tuple[str, bool]:
    """The words of a text as two are compared: as it is said in `language` (None: English), so that "12" is "twelve", without case and punctuation.

    And whether it could be read so; where not, digits and symbols are left away, and what was said for them counts as an error.
    """
    try:
        return normalise(verbalise(text, language)), True
    except OvertureError:
        return normalise(text), False


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Whom waves at 16 kHz are played to; None: nobody is asked that."""

    words: Callable[[Sequence[np.ndarray]], Sequence[str]] | None = None  # what each says
    voice: Callable[[np.ndarray], np.ndarray] | None = None  # (N,) -> (E,)
    sound: Callable[[np.ndarray], Opinion] | None = None

    @classmethod
    def installed(cls, language: str | None, of: Sequence[Of] = tuple(MODELS)) -> Self:
        """Whisper in `language` (BCP 47; None: detected for each wave), GE2E and DNSMOS, or those `of` them.

        Raises OvertureError when one is not installed or the language is unknown, MissingExtra without onnxruntime.
        """
        import torch

        from overture.models.ge2e import Ge2e
        from overture.models.sources import installed
        from overture.models.whisper import Whisper, transcribe

        found: dict[str, Any] = {}
        if "words" in of:
            heard = Whisper.load(installed(MODELS["words"]), device="cuda" if torch.cuda.is_available() else "cpu")
            found["words"] = partial(transcribe, heard, language=language)
        if "voice" in of:
            found["voice"] = Ge2e()
        if "sound" in of:
            found["sound"] = Dnsmos()
        return cls(**found)


def look_for(of: Sequence[Of]) -> None:
    """Raises OvertureError for judges that are not installed, naming all of them, and MissingExtra without onnxruntime; nothing is loaded."""
    from overture.models.sources import complete

    if "sound" in of and not importlib.util.find_spec("onnxruntime"):
        raise MissingExtra("onnx", "DNSMOS, which judges how synthetic speech sounds,")
    if absent := [MODELS[judge] for judge in of if not complete(MODELS[judge])]:
        raise OvertureError(
            f"synthetic speech is judged by models that are not installed: 'overture models get {' '.join(absent)}' gets them"
        )


@dataclass(frozen=True)
class Judged:
    """`scores`: of each the sums over waves whose ratio it is, as of every metric; a wave without a `target` or `seconds` has total 0 there.

    Of the judges that were asked: wer, unread where it is not 0 (share of waves whose text, or what was heard, cannot be read out: see `compared`),
    and means of similarity (cosine), wrong_speaker (that with the reference of the next wave of another speaker, where there is one: the control),
    overall, signal, background and p808 (1 to 5). Of all: level (dBFS) and clipped (share of samples); length (of real recordings') and real_time
    (seconds a second of speech) where any wave has what they need.
    """

    items: pa.Table  # one row a wave, in their order
    scores: dict[str, Counts]
    speakers: list[str]  # (N,)
    vectors: np.ndarray | None  # (N, E) of the waves, for `verify`; None without a judge of voices

    def interval(self, score: str, seed: int = 0) -> Interval | None:
        """95 %, over speakers; over waves where there is one speaker."""
        groups = self.speakers if len(set(self.speakers)) > 1 else None
        return metrics.bootstrap(*self.scores[score], seed=seed, groups=groups)


def judge(made: Sequence[Made], judges: Judges) -> Judged:
    """Scores of each wave. Both texts are compared as they are said: see `compared`.

    Raises OvertureError without waves, for two of one id, for a wave without a text or a reference that a judge needs, and for a judge whose
    vectors are not finite.
    """
    ids = [m.id for m in made]
    if not made or len(set(ids)) < len(ids):
        raise OvertureError(
            f"{len(made)} waves of {len(set(ids))} ids: at least one is judged, each with an id of its own"
        )
    waves = [m.heard("wave") for m in made]
    speakers = [m.speaker for m in made]
    columns: dict[str, Any] = {"id": ids, "speaker": speakers, "text": [m.text for m in made]}
    scores: dict[str, Counts] = {}
    each: dict[str, np.ndarray] = {}
    vectors = None
    if judges.words is not None:
        if untold := [m.id for m in made if m.text is None]:
            raise OvertureError(f"{untold[0]!r}: nothing is told of what it should say, so its words cannot be judged")
        columns["written"] = list(judges.words(waves))
        asked = [compared(m.text or "", m.language) for m in made]
        heard = [compared(text, m.language) for text, m in zip(columns["written"], made, strict=True)]
        scores["wer"] = metrics.wer([text for text, _ in asked], [text for text, _ in heard])
        columns |= {"errors": scores["wer"].events, "words": scores["wer"].totals}
        unread = np.array([not (a and b) for (_, a), (_, b) in zip(asked, heard)])
        if unread.any():
            scores["unread"] = Counts(unread.astype(np.int64), np.ones(len(made), dtype=np.int64))
    if judges.voice is not None:
        if unknown := [m.id for m in made if m.reference is None]:
            raise OvertureError(f"{unknown[0]!r}: there is no reference to compare its voice with")
        vectors = _unit(np.stack([judges.voice(wave) for wave in waves]))
        references = _unit(np.stack([judges.voice(m.heard("reference")) for m in made]))
        each["similarity"] = (vectors * references).sum(1)
        if len(set(speakers)) > 1:
            each["wrong_speaker"] = (vectors * references[_others(speakers)]).sum(1)
    if judges.sound is not None:
        opinions = np.array([judges.sound(wave) for wave in waves])  # (N, 4)
        each |= dict(zip(Opinion._fields, opinions.T))
    power = [float(np.mean(np.square(m.wave, dtype=np.float64))) if len(m.wave) else 0.0 for m in made]
    each |= {
        "level": 10 * np.log10(np.maximum(power, FLOOR)),
        "clipped": np.array([np.mean(np.abs(m.wave) > 1) if len(m.wave) else 0.0 for m in made]),
    }
    long = np.array([len(m.wave) / m.rate for m in made])
    real = np.array([0.0 if m.target is None else len(m.target) / m.rate for m in made])
    timed = np.array([m.seconds is not None for m in made])
    spent = np.array([m.seconds or 0.0 for m in made])
    ratios = {"length": Counts(long * (real > 0), real), "real_time": Counts(spent, long * timed)}
    scores |= {name: Counts(values, np.ones(len(made), dtype=np.int64)) for name, values in each.items()}
    scores |= {name: counts for name, counts in ratios.items() if counts.totals.any()}
    columns |= {"seconds": long, **each, **{name: _ratio(counts) for name, counts in ratios.items()}}
    return Judged(pa.table(columns), scores, speakers, vectors)


def _others(speakers: Sequence[str]) -> list[int]:
    """(N,) of each the next one, around, of another speaker; two speakers at least."""
    n = len(speakers)
    return [next(j % n for j in range(i + 1, i + n) if speakers[j % n] != speakers[i]) for i in range(n)]


def _ratio(counts: Counts) -> list[float | None]:
    """Of each wave; None where there is nothing to divide by."""
    return [float(e / t) if t else None for e, t in zip(*counts)]


def _unit(vectors: np.ndarray) -> np.ndarray:
    """(N, E) -> (N, E) float64 of length 1."""
    x = np.asarray(vectors, dtype=np.float64)
    if not np.isfinite(x).all():
        raise OvertureError("the vectors of voices are not finite: the judge of voices is broken")
    found: np.ndarray = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return found


@dataclass(frozen=True)
class Claimed:
    """Synthetic speech that claims to be of enrolled speakers, who count alike.

    `real` is how well real recordings tell the same speakers apart, and its threshold is that of `hter`: an eer of synthetic speech far above it is a
    voice not met; one near it with many `refused` means voices that differ from one another, and from the real ones.
    """

    names: list[str]  # (S,) speakers of the synthetic speech
    eer: Operating  # of synthetic trials, with a threshold that knows them
    eer_interval: Interval  # 95 %, over speakers
    real: Operating
    refused: np.ndarray  # (S,) share of a speaker's own waves that are refused
    accepted: np.ndarray  # (S,) and of its waves' trials as others that are accepted
    hter: Counts  # (S,) half of their sum


def verify(
    vectors: np.ndarray, speakers: Sequence[str], enrolled: Mapping[str, np.ndarray], *, seed: int = 0
) -> Claimed:
    """Every synthetic wave against every enrolled speaker (mean of its vectors), a trial of one voice where it should be theirs.

    `vectors`: (N, E) of the waves of `speakers`, (N,); `enrolled`: of each speaker the vectors (M, E) of two real recordings or
    more, none of them given to the generator; a real one is tried against the mean of its speaker's others. `seed`: of the interval.
    Raises OvertureError for speakers who are not enrolled, fewer than two enrolled, or one with fewer than two recordings.
    """
    known = list(enrolled)
    if absent := sorted(set(speakers) - set(known)):
        raise OvertureError(f"{len(absent)} speakers of synthetic speech are not enrolled: {', '.join(absent[:5])}")
    few = [name for name in known if len(enrolled[name]) < 2]
    if few or len(known) < 2 or not len(speakers):
        raise OvertureError(
            f"{len(known)} enrolled speakers, {len(few)} of them with fewer than two recordings, and {len(speakers)} synthetic waves: "
            "verification needs two speakers of two recordings each, and a wave"
        )
    real = {name: _unit(enrolled[name]) for name in known}
    sums = np.stack([real[name].sum(0) for name in known])  # (K, E)
    owner = np.concatenate([np.full(len(real[name]), k) for k, name in enumerate(known)])
    own = np.concatenate([_unit(sums[k] - real[name]) for k, name in enumerate(known)])  # without itself
    recordings = np.concatenate([real[name] for name in known])
    cosines = recordings @ _unit(sums).T  # (M, K)
    cosines[np.arange(len(owner)), owner] = (recordings * own).sum(1)
    usual = _Trials(cosines, owner).operating(np.ones(len(known)))

    names, of = np.unique(list(speakers), return_inverse=True)
    trials = _Trials(_unit(vectors) @ _unit(sums).T, np.array([known.index(s) for s in speakers]))
    accepted = trials.cosines >= usual.threshold
    mine = trials.same()
    waves = np.bincount(of)
    refused_share = np.bincount(of, (~accepted & mine).sum(1)) / waves
    accepted_share = np.bincount(of, (accepted & ~mine).sum(1)) / (waves * (len(known) - 1))
    rng = np.random.default_rng(seed)
    weights = np.zeros((DRAWS, len(known)))
    at = np.array([known.index(n) for n in names])
    for row, drawn in zip(weights, rng.integers(len(names), size=(DRAWS, len(names)))):
        np.add.at(row, at[drawn], 1)
    low, high = np.percentile([trials.operating(w).eer for w in weights], [2.5, 97.5])
    return Claimed(
        names=[str(n) for n in names],
        eer=trials.operating(np.ones(len(known))),
        eer_interval=(float(low), float(high)),
        real=usual,
        refused=refused_share,
        accepted=accepted_share,
        hter=Counts((refused_share + accepted_share) / 2, np.ones(len(names), dtype=np.int64)),
    )


@dataclass(frozen=True)
class _Trials:
    """N waves, each against K speakers."""

    cosines: np.ndarray  # (N, K)
    owner: np.ndarray  # (N,) whose each is, or should be

    def same(self) -> np.ndarray:
        """(N, K) bool."""
        found: np.ndarray = self.owner[:, None] == np.arange(self.cosines.shape[1])
        return found

    def operating(self, weights: np.ndarray) -> Operating:
        """Where both error rates are equal, speakers counting by `weights` (K,) however many waves they have."""
        of = (weights / np.maximum(np.bincount(self.owner, minlength=len(weights)), 1))[self.owner]
        each = np.repeat(of[:, None], self.cosines.shape[1], 1).reshape(-1)
        scores, same = self.cosines.reshape(-1), self.same().reshape(-1)
        order = np.argsort(-scores, kind="stable")
        return equal_error(scores[order], same[order], each[order])
