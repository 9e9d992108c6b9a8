"""Text to speech in the voice of a recording: a generator makes log-mel spectrograms, a vocoder makes waves of them (`overture.speak.waves`).

Generators differ in what they take from the recording: one that goes on with it (flow-tts, `overture.speak.flow`) needs to be told what it says, one
that is given a vector of the voice does not. What they have in common is `Generator`; `generator` opens the run of any.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from overture.data import audio
from overture.data.check import SILENT
from overture.data.vocoder_mel import VocoderMel
from overture.errors import OvertureError

SHORTEST = 1.0  # s of a recording that a voice is taken from


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """A recording of the voice that shall speak."""

    wave: np.ndarray  # (N,) float32 in -1..1, mono
    rate: int  # Hz
    text: str | None = None  # what it says, where that is known
    name: str = "the reference"  # in errors

    def __post_init__(self) -> None:
        """Raises OvertureError where there is too little to take a voice from."""
        if (seconds := len(self.wave) / self.rate) < SHORTEST:
            raise OvertureError(
                f"{self.name} lasts {seconds:.2f} s, and a voice needs {SHORTEST:g} s at least: take a longer recording, 3 to 10 s of one speaker"
            )
        if not np.isfinite(self.wave).all():
            raise OvertureError(f"{self.name} has samples that are no numbers: convert it again from its source")
        power = float(np.mean(np.square(self.wave, dtype=np.float64)))
        if power < 10 ** (SILENT / 10):
            raise OvertureError(f"{self.name} is silent (below {SILENT:g} dBFS): take one in which somebody speaks")

    @classmethod
    def read(cls, file: Path, text: str | None = None) -> Self:
        """Raises OvertureError for a file that is missing, no audio, too short or silent."""
        samples, rate = audio.read_native(file)  # (N, channels)
        return cls(wave=samples.mean(axis=1), rate=rate, text=text, name=str(file))

    def at(self, rate: int) -> np.ndarray:
        """(N',) float32 at `rate` Hz."""
        return audio.resample(self.wave, self.rate, rate)


class Generator(Protocol):
    """A trained synthesiser up to its vocoder."""

    @property
    def mel(self) -> VocoderMel:
        """The convention of its spectrograms: a vocoder of another one cannot make waves of them."""

    def mels(self, texts: Sequence[str], reference: Reference | None) -> list[np.ndarray]:
        """Of each text a log-mel (T, F) float32 in `mel`, which does not depend on the other texts. Without a reference in a voice of nobody.

        Raises OvertureError for a text that it cannot read, for a reference that it can make nothing of, and without one where it needs one.
        """


def generator(folder: Path, *, steps: int | None = None, seed: int = 0) -> Generator:
    """The synthesiser of a run folder, on a GPU where there is one.

    steps: evaluations of the network an utterance, for one that follows a flow (None: 32). seed: of its noise, and of a voice of nobody.
    Raises OvertureError for a run that does not speak.
    """
    from overture.data.normal_mel import NormalMel
    from overture.export import load_run
    from overture.models.flow import FlowTransformer
    from overture.models.synthesiser import Synthesiser

    run, model = load_run(folder)
    if isinstance(run.model, FlowTransformer) and isinstance(run.frontend, NormalMel):
        from overture.speak.flow import FlowVoice

        return FlowVoice.of(run, model, folder, steps=steps, seed=seed)
    if isinstance(run.model, Synthesiser) and isinstance(run.frontend, NormalMel):
        from overture.speak.vector import VectorVoice

        if steps is not None:
            raise OvertureError(
                f"--steps {steps}: {folder} is a run of {run.recipe}, which follows no flow. Leave it out"
            )
        return VectorVoice.of(run, model, seed=seed)
    raise OvertureError(f"{folder} is a run of {run.recipe}, which does not speak: name one of flow-tts or sv2tts")
