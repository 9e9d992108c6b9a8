"""Export of a synthesiser: transformers' own class, and a tokenizer that reads phones, held against the run.

`AutoModelForTextToSpectrogram` opens it, and its `generate(ids, speaker_embeddings=...)` gives frames of the run's front end. It hears them in
batches as transformers does: padding reaches the postnet there, so say one text at a time.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from overture.data.phones import PHONES
from overture.errors import OvertureError
from overture.export.compare import TOLERANCE, near
from overture.models.synthesiser import END, FIRST, PAD
from overture.run import Run

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from overture.models.synthesiser import SynthesiserModel

HALF = 0.5  # the dropout of a prenet that `SpeechT5SpeechDecoderPrenet._consistent_dropout` has right
ROLES = {"pad_token": "<pad>", "eos_token": "</s>"}


def write(model: "SynthesiserModel", out: Path) -> None:
    """Weights and tokenizer. Raises OvertureError for a prenet that would speak with another dropout in transformers."""
    if model.spec.prenet_dropout != HALF:
        raise OvertureError(
            f"not exported: model.prenet_dropout={model.spec.prenet_dropout:g}. transformers keeps the share that it should drop, which is the same "
            f"for {HALF} alone: train with that"
        )
    model.network.save_pretrained(out, state_dict=model.weights(), safe_serialization=True)
    tokenizer().save_pretrained(out)


def tokenizer() -> "PreTrainedTokenizerFast":
    """Phones, with spaces between them, as ids; the end behind them. Any other word is an error."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pad, end = ROLES["pad_token"], ROLES["eos_token"]
    words = {pad: PAD, end: END, **{phone: FIRST + i for i, phone in enumerate(PHONES)}}
    found = Tokenizer(models.WordLevel(words, unk_token="?"))
    found.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    found.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, END)])
    return PreTrainedTokenizerFast(tokenizer_object=found, model_input_names=["input_ids", "attention_mask"], **ROLES)


def use(run: Run, model: "SynthesiserModel") -> tuple[str, list[str], str]:
    """What kind of model it is to a hub, how it is used, and what else is told of it."""
    mel = run.frontend
    return (
        "text-to-speech",
        [
            "import torch",
            "from transformers import AutoTokenizer, SpeechT5ForTextToSpeech",
            "",
            'folder = "."  # where this file lies, or what it is called on a hub',
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
            "model = SpeechT5ForTextToSpeech.from_pretrained(folder)",
            'ids = tokenizer("SIL HH AH L OW SIL", return_tensors="pt").input_ids  # (1, N) of phones, ARPAbet without stress',
            f"voice = torch.randn(1, {model.spec.voice})  # (1, E) instead of this a vector of the voice: `data.voices` in overture.json",
            "frames = model.generate(ids, speaker_embeddings=voice)  # (T, F)",
        ],
        (
            f"Frames are {mel.mels} log-mel magnitudes of {mel.window} samples every {mel.hop} at {mel.rate} Hz, "
            f"`frames * {mel.std:g} + {mel.mean:g}` those of HiFi-GAN's formula: a vocoder makes sound of them."
        ),
    )


def check(model: "SynthesiserModel", out: Path) -> None:
    """Hold what `transformers` loads from `out` against `model`. Raises OvertureError when a weight or an output differs."""
    from transformers import AutoModelForTextToSpectrogram, AutoTokenizer

    loaded: Any = AutoModelForTextToSpectrogram.from_pretrained(out).eval()
    if type(loaded) is not type(model.network):
        raise OvertureError(f"not exported: {out} opens as {type(loaded).__name__}, not {type(model.network).__name__}")
    kept, given = loaded.state_dict(), model.weights()
    if missing := kept.keys() ^ given.keys():
        raise OvertureError(f"not exported: {', '.join(sorted(missing))} did not survive")
    for name, weight in given.items():
        near(name, kept[name], weight, 0.0, out)
    ids = AutoTokenizer.from_pretrained(out)("SIL HH AH L OW SIL", return_tensors="pt").input_ids  # (1, N)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 20 * model.reduction, model.network.config.num_mel_bins, generator=generator)
    voice = torch.randn(1, model.spec.voice, generator=generator)
    loaded.speecht5.decoder.prenet._consistent_dropout = lambda h, share: h  # which never rests there
    with torch.no_grad():
        theirs: Tensor = loaded(
            input_ids=ids, decoder_input_values=model.given(x), speaker_embeddings=voice, use_cache=False
        ).spectrogram
        ours = model(x, torch.tensor([x.shape[1]]), ids, torch.tensor([ids.shape[1]]), voice).after
    near("spectrogram", theirs, ours, TOLERANCE, out)
