"""A voice by flow matching: frames of the reference are known, and the network goes on with them, told the phones of both.

As Voicebox is prompted (Le et al. 2023, arXiv:2306.15687, section 3.6). The phones of the reference come from forced alignment with what it says,
those of a text from the aligner's dictionary, how long they last from counting (`overture.models.durations`) at the pace of the reference. Reference
and text together are no longer than what the network was trained on: of a longer reference the end is taken, and a longer text is said in parts, cut
where it has punctuation.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from overture.data.normal_mel import NormalMel
from overture.data.phones import SILENCE, labels_at, phone_ids
from overture.data.verbalise import verbalise
from overture.data.vocoder_mel import VocoderMel
from overture.errors import OvertureError
from overture.models.durations import FILE, PhoneDurations
from overture.models.sampler import Prompt, Sampler
from overture.speak import Reference
from overture.tasks import align
from overture.tasks.pronounce import PAUSE, pronounced

if TYPE_CHECKING:
    from overture.models.modeling_flow import FlowModel
    from overture.run import Run

SHARE = 1 / 3  # of what the network was trained on that a reference takes at most
PAUSED = 0.3  # s of silence that stay at the end of a reference


class Voice(NamedTuple):
    """What is taken from a reference."""

    known: np.ndarray  # (K, F) float32 frames
    phones: np.ndarray  # (K,) int64 positions in PHONES
    pace: float  # how many times as long as expected its phones last


@dataclass(frozen=True, kw_only=True, eq=False)
class FlowVoice:
    """A `Generator`."""

    model: "FlowModel"
    frontend: NormalMel
    durations: PhoneDurations
    longest: float  # s that the network was trained on at most
    sampler: Sampler

    @classmethod
    def of(cls, run: "Run", model: "FlowModel", folder: Path, *, steps: int | None, seed: int) -> Self:
        """Of a trained run. Raises OvertureError for an odd number of `steps`, and where its folder does not say how long phones last."""
        import torch

        evaluations = 2 * Sampler().steps if steps is None else steps
        if evaluations < 2 or evaluations % 2:
            raise OvertureError(
                f"--steps {evaluations}: the midpoint method takes two at a time, so name an even number"
            )
        return cls(
            model=model.to("cuda" if torch.cuda.is_available() else "cpu"),
            frontend=run.frontend,
            durations=PhoneDurations.load(folder / FILE),
            longest=run.data.max_seconds,
            sampler=Sampler(steps=evaluations // 2, seed=seed),
        )

    @property
    def mel(self) -> VocoderMel:
        return self.frontend.plain

    def mels(self, texts: Sequence[str], reference: Reference | None) -> list[np.ndarray]:
        """Raises OvertureError also without the words of the reference, and for a clause that is too long; MissingExtra without the aligner."""
        if reference is None:
            raise OvertureError(
                "this generator goes on with a recording: name one with --voice, and its words with --voice-text"
            )
        voice = self.voice(reference)
        parts = [self._parts(text, voice) for text in texts]
        prompts = [
            Prompt(voice.known, np.concatenate([voice.phones, labels])) for several in parts for labels in several
        ]
        keys = [number for several in parts for number in range(len(several))]  # by text alone
        made = iter(self.sampler.speak(self.model, prompts, keys))
        return [self.frontend.log_mel(np.concatenate([next(made) for _ in several])) for several in parts]

    def voice(self, reference: Reference) -> Voice:
        """The end of a reference, with its phones."""
        if reference.text is None:
            raise OvertureError(
                f"{reference.name}: this generator goes on with what the recording says, and is not told. Write its words: --voice-text '...'"
            )
        found = align.align(reference.at(align.RATE), reference.text)
        if isinstance(found, str):
            raise OvertureError(
                f"{reference.name}: its phones cannot be found ({found}). --voice-text must be its words, all of them, and English"
            )
        bounds = found.bounds.copy()  # (P + 1,) s
        if found.phones[-1] == SILENCE:
            bounds[-1] = min(bounds[-1], bounds[-2] + PAUSED)
        rate, end = self.frontend.rate, float(bounds[-1])
        begin = max(0.0, end - SHARE * self.longest)
        known = self.frontend(reference.at(rate)[round(begin * rate) : round(end * rate)])
        labels = labels_at(phone_ids(found.phones), bounds - begin, len(known), self.frontend.frame_rate)
        return Voice(known, labels, self.durations.pace(found.phones, bounds[1:]))

    def _parts(self, text: str, voice: Voice) -> list[np.ndarray]:
        """The phone of each frame, of each part of a text: as few parts as fit beside the reference."""
        room = int(self.longest * self.frontend.frame_rate) - len(voice.known)  # frames

        def labels(said: str) -> np.ndarray:
            return self.durations.labels(pronounced(said), self.frontend.frame_rate, voice.pace)

        parts: list[str] = []
        for clause in clauses(verbalise(text, "en")):  # before it is cut, or "Mr." would be a clause
            longer = f"{parts[-1]} {clause}" if parts else clause
            if parts and len(labels(longer)) <= room:
                parts[-1] = longer
            else:
                parts.append(clause)
        for part in parts:
            if (frames := len(labels(part))) > room:
                raise OvertureError(
                    f"{part!r} would last {frames / self.frontend.frame_rate:.1f} s, and beside this reference there is room for "
                    f"{room / self.frontend.frame_rate:.1f} of the {self.longest:g} s that the run was trained on: divide it by a comma"
                )
        return [labels(part) for part in parts]


def clauses(text: str) -> list[str]:
    """A text cut after its punctuation; all of it where nothing in it is said."""
    ends = [0, *(m.end() for m in PAUSE.finditer(text)), len(text)]
    pieces = [text[a:b].strip() for a, b in pairwise(ends)]
    return [piece for piece in pieces if re.search(r"\w", piece)] or [text]
