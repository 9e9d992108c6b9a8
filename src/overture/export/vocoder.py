"""Export of a vocoder: its generator under transformers' own class, `SpeechT5HifiGan`, which no Auto class knows. The critics stay with the run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from overture.export.compare import TOLERANCE, near, same_weights

if TYPE_CHECKING:
    from overture.models.modeling_vocoder import Vocoder
    from overture.models.vocoder import HifiGan


def write(model: "Vocoder", out: Path) -> None:
    """Weights without their normalisation, as transformers has them."""
    model.plain().save_pretrained(out, safe_serialization=True)


def use(spec: "HifiGan") -> tuple[str, list[str], str]:
    """What kind of model it is to a hub, how it is used, and what is in it."""
    mel = spec.mel
    said = (
        f"Frames are {mel.mels} log-mel magnitudes (natural log, at least {mel.floor:g}; {mel.low:g} to {mel.high:g} Hz) of {mel.window} samples "
        f"every {mel.hop}, by HiFi-GAN's formula; SpeechT5's own differ. The critics are not in it."
    )
    return (
        "text-to-speech",
        [
            "import torch",
            "from transformers import SpeechT5HifiGan",
            "",
            'folder = "."  # where this file lies',
            "vocoder = SpeechT5HifiGan.from_pretrained(folder)",
            f"frames = torch.randn(100, {mel.mels})  # (T, F) instead of this the log-mel that a synthesiser made",
            f"wave = vocoder(frames)  # (T * {mel.hop},) samples at {mel.rate} Hz",
        ],
        said,
    )


def check(model: "Vocoder", out: Path) -> None:
    """Hold what `transformers` loads from `out` against `model`. Raises OvertureError when a weight or a wave differs."""
    from transformers import SpeechT5HifiGan

    loaded: Any = SpeechT5HifiGan.from_pretrained(out).eval()
    same_weights(loaded, model.plain(), out)
    mel = torch.randn(2, 20, model.spec.mel.mels, generator=torch.Generator().manual_seed(0)) * 2 - 5
    with torch.no_grad():
        near("a wave", loaded(mel), model(mel), TOLERANCE, out)
