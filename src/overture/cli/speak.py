"""The verb that speaks: a text and a recording of a voice (or none) in, a recording of the text in that voice out."""

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from overture.errors import OvertureError, near

SUFFIXES = (".flac", ".ogg", ".opus", ".wav")


def speak(
    text: Annotated[str, typer.Argument(help="What shall be said, in English.")],
    model: Annotated[
        Path, typer.Option("--with", metavar="RUN", help="A trained run that speaks, such as one of flow-tts.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to: .wav, .flac, .ogg or .opus.")],
    voice: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A recording of who shall say it, 3 to 10 s. Default: nobody, in a voice that --seed draws (sv2tts).",
        ),
    ] = None,
    voice_text: Annotated[
        str | None, typer.Option(help="What that recording says, for a generator that goes on with it (flow-tts).")
    ] = None,
    vocoder: Annotated[
        Path | None, typer.Option(metavar="RUN", help="A trained run of a vocoder. Default: Griffin-Lim, untrained.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Evaluations of a generator that follows a flow: fewer are faster. Default: 32.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of its noise, and of a voice of nobody: another seed says it another way.")
    ] = 0,
    existing: Annotated[
        Literal["error", "replace"], typer.Option(help="What an output that is already there does.")
    ] = "error",
) -> None:
    """Say a text in the voice of a recording, or of nobody."""
    from rich.console import Console

    if out.suffix.lower() not in SUFFIXES:
        raise OvertureError(f"--out {out}: no sound file. {near(out.suffix.lower(), SUFFIXES)}")
    if out.exists() and existing == "error":
        raise OvertureError(f"{out} is there already: --existing replace makes it anew")
    from overture.speak import Reference, generator
    from overture.speak.waves import vocoder as opened
    from overture.speak.write import write

    if voice is None and voice_text is not None:
        raise OvertureError("--voice-text says the words of a recording, and --voice names none")
    reference = None if voice is None else Reference.read(voice, voice_text)
    speaker = generator(model, steps=steps, seed=seed)
    waves = opened(vocoder, speaker.mel)
    begun = time.perf_counter()
    (frames,) = speaker.mels([text], reference)
    wave = waves(frames)
    took = time.perf_counter() - begun
    write(out, wave, speaker.mel.rate, f"synthetic speech: {model.name}, overture")
    seconds = len(wave) / speaker.mel.rate
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"{out}: {seconds:.2f} s of speech in {took:.2f} s, real-time factor {took / seconds:.2f}")
    if vocoder is None:
        console.print("The wave is Griffin-Lim's, which sounds hollow: name a trained vocoder with --vocoder RUN")
