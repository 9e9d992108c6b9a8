"""The index of recipes: name -> module, what it is for, paper. Light: importing it imports no recipe.

A recipe module has `tiny()`, `default()` and `published()`, each returning a complete `Run`, and `claim()`; a second claim of it, on another kind
of data, is `claim_NAME()`.
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from overture.errors import OvertureError, near
from overture.run import Run

if TYPE_CHECKING:
    from overture.study import Claim

SIZES = ("tiny", "default", "published")
Size = Literal["tiny", "default", "published"]


@dataclass(frozen=True)
class Entry:
    """One line of the index."""

    module: str
    title: str
    paper: str
    good_for: str  # in the words of someone who looks for it


INDEX: dict[str, Entry] = {
    "ainu": Entry(
        "ainu",
        "Go on with the recordings of one small language, and learn to write it with the help of others' labels",
        "arXiv:2301.07295",
        "a small or endangered language, field recordings, few narrators, few labels; continue a multilingual wav2vec 2.0, XLSR-53; labels of a "
        "related language",
    ),
    "bert2bert": Entry(
        "bert2bert",
        "Start a larger language model from the weights of a smaller one",
        "arXiv:2110.07143",
        "a larger BERT, Llama, GPT-2 or wav2vec 2.0 where a small one is trained already; less compute; grow width and depth, weight surgery, "
        "function-preserving initialisation, FPI, AKI, stacking, Net2Net",
    ),
    "blsp": Entry(
        "blsp",
        "Teach a language model to hear: it shall go on from speech as it goes on from the transcript",
        "arXiv:2309.00916",
        "spoken input for a text language model, with both it and a Whisper encoder frozen; speech chat, spoken questions; a few hours with "
        "transcripts; adapter, modality alignment, Gemma, Llama",
    ),
    "ge2e": Entry(
        "ge2e",
        "Find each utterance's own speaker among those of its batch: a vector for a voice",
        "arXiv:1710.10467",
        "speaker verification and search, who speaks, likeness of voices, a voice for a synthesiser or a vocoder; recordings with names of speakers "
        "and no text; d-vector, speaker embedding, SV2TTS, Resemblyzer",
    ),
    "flow-tts": Entry(
        "flow_tts",
        "Fill in hidden frames of an utterance, given the others and its phones, by following a flow from noise",
        "arXiv:2402.07383",
        "text to speech in the voice of a few seconds of anybody, English; zero-shot synthesis, voice cloning, no speaker labels; Voicebox, ELaTE, "
        "flow matching",
    ),
    "gender-ssl": Entry(
        "gender_ssl",
        "Pre-train on women's speech, men's, or both in balance, at equal hours, and see for whom it matters",
        "arXiv:2204.01397",
        "fairness and gaps between groups of speakers: gender, dialect, age, channel; matched hours by a column; wav2vec 2.0",
    ),
    "hifi-gan": Entry(
        "hifi_gan",
        "Make waves of mel spectrograms, against critics who tell them from recordings",
        "arXiv:2010.05646",
        "a vocoder for speech synthesis: the last step from a spectrogram to sound, in any language, no text needed; your own voices or rate; GAN, "
        "SpeechT5HifiGan, Griffin-Lim",
    ),
    "human-preferences": Entry(
        "human_preferences",
        "Tell a language model of each line how good it is, and ask it for good ones",
        "arXiv:2302.08582",
        "a language model that shall not write what is toxic, private or bad style though its corpus has some; control tokens, conditional training; "
        "unlikelihood, reward weighting; code, PEP 8; alignment from the start",
    ),
    "hykist": Entry(
        "hykist",
        "Go on with telephone speech at 8 kHz from a wav2vec 2.0 of other languages, by stride surgery",
        "arXiv:2309.15869",
        "telephone speech, call centres, clinics, 8 kHz; a new language with few labels; continue a published wav2vec 2.0, XLSR-53; hybrid "
        "recognition with lexicon and language model",
    ),
    "position-prediction": Entry(
        "position_prediction",
        "Tell from which place of a clip each frame comes, knowing no positions",
        "arXiv:2207.07611",
        "keywords and other short clips of like length; few labels, by fine-tuning; cheap; a Transformer that works without positions; MP3, "
        "jigsaw",
    ),
    "self-distillation": Entry(
        "self_distillation",
        "Go on in a small corpus twice, the second time taught by where the first came to",
        "arXiv:2210.02871",
        "adapt a pre-trained encoder to a few thousand texts or recordings of your own without overfitting; further pre-training, "
        "distillation, teacher; few labels",
    ),
    "sltrain": Entry(
        "sltrain",
        "Pre-train with matrices that are low-rank plus sparse: fewer parameters, gradients and moments",
        "arXiv:2406.02214",
        "a language model, or any network here with --transform sltrain, where memory ends first; low rank, sparse training, LoRA, 8-bit AdamW, "
        "optimizer steps in the backward pass",
    ),
    "ssast": Entry(
        "ssast",
        "Find hidden spectrogram patches among the others of the clip and fill them in",
        "arXiv:2110.09784",
        "sounds, events, music and whole utterances told apart after fine-tuning; few labels; speakers, keywords, emotions; audio "
        "spectrogram Transformer, AST; masked patches",
    ),
    "stability-gap": Entry(
        "stability_gap",
        "Go on with a language model in the text of a new domain, without forgetting first",
        "arXiv:2406.14833",
        "continue a language model on a clinic's, a firm's or a dialect's text; continual pre-training, replay, quality subsets; forgetting",
    ),
    "structural": Entry(
        "structural",
        "Find replaced tokens instead of predicting masked ones, and tell which spans are of one paragraph",
        "arXiv:2309.08272",
        "text with paragraphs; few labels; cheap pre-training of a small BERT, RTS, C-RTS, SLM; pairs of sentences, answer selection, SSP, MSPP, "
        "classification of documents",
    ),
    "sv2tts": Entry(
        "sv2tts",
        "Say a text in the voice that a speaker encoder hears in a recording",
        "arXiv:1806.04558",
        "text to speech in the voice of a few seconds of anybody, English; many speakers who each say little; voice cloning, Tacotron 2, d-vector, "
        "SpeechT5, autoregressive mel",
    ),
    "tera": Entry(
        "tera",
        "Reconstruct log-mel frames altered in time, frequency and magnitude",
        "arXiv:2007.06028",
        "small encoder for frozen features; few labels; little compute, trains on a laptop CPU; phones, keywords and other "
        "content; telephone or clinic recordings without text; masked reconstruction, Mockingjay, SpecAugment",
    ),
    "w2v-bert": Entry(
        "w2v_bert",
        "Contrast in the lower Conformer blocks makes the discrete units that the upper ones predict",
        "arXiv:2108.06209",
        "speech recognition with few labels, by fine-tuning; Conformer; discrete units learnt on the way; wav2vec 2.0 and masked "
        "language modelling in one; collapse of a codebook",
    ),
    "wav2vec2": Entry(
        "wav2vec2",
        "Find the code of each hidden frame of raw speech among those of other frames",
        "arXiv:2006.11477",
        "speech recognition and phones with few labels; raw audio, also telephone speech at 8 kHz; continue a published wav2vec 2.0 "
        "checkpoint, XLSR, on your own recordings; contrastive learning, Gumbel codebook",
    ),
}


def load(name: str) -> ModuleType:
    """The module of a recipe. Raises OvertureError with near names."""
    if name not in INDEX:
        raise OvertureError(f"no recipe {name!r}. {near(name, INDEX)} 'overture list' shows them all.")
    return importlib.import_module(f"overture.recipes.{INDEX[name].module}")


def get(spec: str) -> Run:
    """The run that `name` or `name:size` stands for (size: tiny, default, published). Raises OvertureError."""
    name, _, size = spec.partition(":")
    module = load(name)
    if (size or "default") not in SIZES:
        raise OvertureError(f"recipe {name!r} has no size {size!r}. {near(size, SIZES)}")
    run: Run = getattr(module, size or "default")()
    return run


def claims(name: str) -> list[str]:
    """What the claims of a recipe are called: its own name, and `name:other` for each other one."""
    others = sorted(n.removeprefix("claim_") for n in vars(load(name)) if n.startswith("claim_"))
    return [name, *(f"{name}:{other}" for other in others)]


def claim(spec: str) -> "Claim":
    """The claim that `name` or `name:other` stands for. Raises OvertureError."""
    name, _, other = spec.partition(":")
    if spec not in (known := claims(name)):
        raise OvertureError(f"recipe {name!r} has no claim {spec!r}. {near(spec, known)}")
    found: Claim = getattr(load(name), f"claim_{other}" if other else "claim")()
    return found


def shapes(spec: str) -> Iterator[Run]:
    """Runs of a recipe whose configurations differ in shape (another objective, another kind of network): its size `spec`, and its claims' arms."""
    yield get(spec)
    for name in claims(spec.partition(":")[0]):
        for arm in claim(name).study.arms:
            yield from (arm.run, *arm.earlier)
