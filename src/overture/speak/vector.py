"""A voice by a vector: the network says phones as whoever a speaker encoder hears in the reference (SV2TTS, Jia et al. 2018, arXiv:1806.04558).

What the reference says need not be known; without one a vector is drawn, and nobody's voice speaks (the paper's fictitious speakers). Phones of
a text are those of the aligner's dictionary; how long they last the network decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from overture.data.normal_mel import NormalMel
from overture.data.vocoder_mel import VocoderMel
from overture.data.voices import MeanMel, SpeakerVectors
from overture.errors import OvertureError
from overture.models.free_running import FreeRunning
from overture.models.synthesiser import symbols
from overture.speak import Reference
from overture.tasks.pronounce import pronounced

if TYPE_CHECKING:
    from overture.models.synthesiser import SynthesiserModel
    from overture.run import Run


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorVoice:
    """A `Generator`."""

    model: "SynthesiserModel"
    frontend: NormalMel
    voices: MeanMel | SpeakerVectors
    free: FreeRunning

    @classmethod
    def of(cls, run: "Run", model: "SynthesiserModel", *, seed: int) -> Self:
        """Of a trained run."""
        import torch

        assert run.data.voices is not None  # or it would not have been trained
        return cls(
            model=model.to("cuda" if torch.cuda.is_available() else "cpu"),
            frontend=run.frontend,
            voices=run.data.voices,
            free=FreeRunning(seed=seed),
        )

    @property
    def mel(self) -> VocoderMel:
        return self.frontend.plain

    def mels(self, texts: Sequence[str], reference: Reference | None) -> list[np.ndarray]:
        """Raises OvertureError also where the network does not come to an end of itself, and MissingExtra without the aligner."""
        if reference is None:
            voice = self.voices.drawn(self.free.seed)  # (1, E)
        else:
            voice = self.voices(reference.at(self.voices.rate))
        ids = [symbols(pronounced(text)) for text in texts]
        spoken = self.free.speak(self.model, ids, voice.repeat(len(ids), 0), [0] * len(ids))
        for text, found in zip(texts, spoken):
            if not found.stopped:
                raise OvertureError(
                    f"{text!r} did not come to an end within {len(found.frames) / self.frontend.frame_rate:.1f} s: say less at once, or train "
                    "the synthesiser for longer"
                )
        return [self.frontend.log_mel(found.frames) for found in spoken]
