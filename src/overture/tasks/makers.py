"""What makes the waves of `overture.tasks.made`: a vocoder of real recordings, Griffin-Lim of their frames, or a generator of a text in a voice."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from overture.data.normal_mel import NormalMel
from overture.data.table import Table
from overture.data.vocoder_mel import VocoderMel
from overture.errors import OvertureError
from overture.models.vocoder import HifiGan
from overture.run import Run
from overture.tasks import Task
from overture.tasks.made import Asked, Tell, recording

if TYPE_CHECKING:
    from overture.models.modeling_vocoder import Vocoder

Make = Callable[[Asked], np.ndarray]  # -> (N,) float32


def mel_of(run: Run, task: Task) -> VocoderMel:
    """The mel that waves are made of. Raises OvertureError for a run whose network is no vocoder, or does not speak, as `task` asks."""
    if task.features == "copied" and isinstance(run.model, HifiGan):
        return run.model.mel
    if task.features == "synthesised" and isinstance(run.frontend, NormalMel):
        return run.frontend.plain
    kind = (
        "vocoders, such as hifi-gan" if task.features == "copied" else "what makes frames of a text, such as flow-tts"
    )
    raise OvertureError(f"task {task.name!r} is for {kind}, and {run.recipe!r} is none")


def griffin_lim(mel: VocoderMel, table: Table, seed: int) -> Make:
    """Real recordings to frames and back, with nothing learnt."""
    from overture.models.griffin_lim import griffin_lim as waves

    return lambda asked: waves(mel(recording(table, asked.row, mel.rate)), mel, seed=seed)


def copies(model: "Vocoder", table: Table) -> Make:
    """Real recordings to frames and back, by a vocoder."""
    model.eval()
    device = next(model.parameters()).device

    @torch.no_grad()
    def make(asked: Asked) -> np.ndarray:
        wave = torch.from_numpy(recording(table, asked.row, model.spec.mel.rate))[None].to(device)
        (_, made), _ = model.states(wave, torch.tensor([wave.shape[1]], device=device))
        return np.asarray(made[0].flatten().cpu().numpy())

    return make


def speech(
    folder: Path, vocoder: Path | None, table: Table, seed: int, tell: Tell, *, steps: int | None = None
) -> Make:
    """The run in `folder` says each text in the voice of its prompt. `vocoder`: as of `overture.speak.waves`; `steps`: of the flow.

    A text that it cannot say is a wave without samples, and `tell` is told why. Raises OvertureError for a run that does not speak, and for a
    vocoder of another mel.
    """
    from overture.speak import Reference, generator
    from overture.speak.waves import vocoder as opened

    speaker: Any = generator(folder, steps=steps, seed=seed)
    waves = opened(vocoder, speaker.mel)
    rate: int = speaker.mel.rate

    def make(asked: Asked) -> np.ndarray:
        row, voice = table.row(asked.row), table.row(asked.prompt)
        try:
            reference = Reference(
                wave=recording(table, asked.prompt, rate),
                rate=rate,
                text=str(voice["text"]),
                name=f"row {voice['id']!r}",
            )
            (frames,) = speaker.mels([str(row["text"])], reference)
        except OvertureError as error:
            tell({"kind": "note", "text": f"row {row['id']!r} is not said, which counts as silence: {error}"})
            return np.zeros(0, np.float32)
        return waves(frames)

    return make
