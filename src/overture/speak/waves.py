"""Log-mel spectrograms to waves: by a trained run of HiFi-GAN, or by Griffin-Lim, which needs no training and sounds hollow."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np

from overture.data.vocoder_mel import VocoderMel
from overture.errors import OvertureError

Waves = Callable[[np.ndarray], np.ndarray]  # (T, F) float32 log-mel -> (T hop,) float32 in -1..1


def vocoder(folder: Path | None, mel: VocoderMel) -> Waves:
    """What makes waves of spectrograms in `mel`: the run in `folder`, on a GPU where there is one; None: Griffin-Lim.

    Raises OvertureError for a run that is no vocoder, and for one of another mel.
    """
    if folder is None:
        from overture.models.griffin_lim import griffin_lim

        return partial(griffin_lim, frontend=mel)
    import torch

    from overture.export import load_run
    from overture.models.vocoder import HifiGan

    run, model = load_run(folder)
    if not isinstance(run.model, HifiGan):
        raise OvertureError(
            f"{folder} is a run of {run.recipe}, which makes no waves: name a run of a vocoder, or none, and Griffin-Lim makes them"
        )
    theirs = run.model.mel
    differ = [n for n in (f.name for f in fields(VocoderMel)) if getattr(theirs, n) != getattr(mel, n)]
    if differ:
        told = ", ".join(f"{n}={getattr(theirs, n)} for {getattr(mel, n)}" for n in differ)
        raise OvertureError(
            f"the vocoder {folder} makes waves of another mel than the generator's: {told}. Train one with the generator's "
            f"(--set model.mel.{differ[0]}={getattr(mel, differ[0])} ...), or name none, and Griffin-Lim makes them"
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)

    def waves(frames: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(frames)[None].to(device))[0].cpu().numpy())

    return waves
