"""The verb that talks to a language model that hears: a recording in, an answer out, and what that took."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overture.errors import OvertureError

if TYPE_CHECKING:
    from overture.data.sample import Sample


def chat(
    run: Annotated[Path, typer.Argument(help="A run that hears and reads, such as one of blsp.")],
    speech: Annotated[
        list[Path] | None, typer.Option(help="A recording to be heard; several are turns, one after the other.")
    ] = None,
    say: Annotated[
        str | None,
        typer.Option(
            help="What is said in text behind each recording. Default: what the run was trained with around it."
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(help="Of an answer, at most.", min=1)] = 64,
) -> None:
    """Answer to speech. Without --speech it asks, turn by turn: a line that names a recording is heard, any other is read.

    An answer takes the earlier turns into account. An empty line ends it. What each took, and the memory of it all, is told on stderr.
    """
    from rich.console import Console

    console = Console()
    aside = Console(stderr=True, style="dim", highlight=False, soft_wrap=True)
    begun = time.perf_counter()
    talk = Conversation(run, say, tokens)
    aside.print(f"ready in {time.perf_counter() - begun:.1f} s, {gigabytes(peak_memory())} of memory")

    def answered(turn: "Sample") -> None:
        answer = talk.turn(turn)
        console.print(answer.text, markup=False, highlight=False)
        aside.print(f"{answer.in_words()}; {gigabytes(peak_memory())} of memory at most")

    for file in speech or []:
        answered(talk.heard(file))
    if speech:
        return
    while line := console.input("> ").strip():
        answered(talk.heard(Path(line)) if Path(line).is_file() else talk.read(line))


def peak_memory() -> int:
    """Bytes that this process has had in memory at most."""
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


@dataclass(frozen=True)
class Answer:
    """What a turn came to, and what it took."""

    text: str
    audio: float  # s that were heard in this turn; 0: it was text
    hearing: float  # s for them, from the file to the encoder's states
    asked: int  # tokens and vectors that the language model read: this turn and those before
    reading: float  # s until the first token of the answer, adapter and all
    tokens: int  # of the answer, its end included
    writing: float  # s for those behind the first

    def in_words(self) -> str:
        """`2.10 s heard in 0.12 s, 24 tokens read in 0.31 s, 18 written at 9.4 a second: 2.33 s`."""
        heard = f"{self.audio:.2f} s heard in {self.hearing:.2f} s, " if self.audio else ""
        rate = f" at {(self.tokens - 1) / self.writing:.1f} a second" if self.tokens > 1 else ""
        whole = self.hearing + self.reading + self.writing
        return f"{heard}{self.asked} tokens read in {self.reading:.2f} s, {self.tokens} written{rate}: {whole:.2f} s"


class _Clock:
    """When tokens came, as a streamer of transformers: first the prompt is shown to it, then each token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _: object) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """There is nothing to be done."""


class Conversation:
    """Turns with a trained model. Recordings are kept as features, once each."""

    def __init__(self, folder: Path, say: str | None, tokens: int) -> None:
        """Raises OvertureError for a run that does not hear and read, has no checkpoint yet, or whose encoder is not here."""
        import numpy as np

        from overture.data.sample import Respond
        from overture.export import load_run
        from overture.train.samples import continuous

        self.run, self.model = load_run(folder)
        program = self.run.data.sample
        if not isinstance(program, Respond):
            raise OvertureError(
                f"{folder} is a run of {self.run.recipe}, which does not answer to speech: name one of blsp"
            )
        self.program, self.tokens = program, tokens
        self.around = (program.instruction, program.behind) if say is None else ("", say)
        self.features: list[np.ndarray] = []  # of what was heard
        self.earlier: list[tuple[Sample, str]] = []
        self.render = continuous(self.run, self.features)
        self.tokenizer: Any = self.run.frontend.tokens.tokenizer()
        self.last = (0.0, 0.0)  # s of audio, and s for hearing it, since the last answer
        self.run.frontend(
            np.zeros(self.run.frontend.rate // 2, dtype=np.float32)
        )  # opens the encoder, before time is taken

    def heard(self, file: Path) -> "Sample":
        """The turn of a recording. Raises OvertureError for one that cannot be read, or is too short or too long."""
        from overture.data import audio
        from overture.data.sample import Heard, Segment, text

        begun = time.perf_counter()
        try:
            wave = audio.read(file, rate=self.run.frontend.rate)
            self.features.append(self.run.frontend(wave))
        except (audio.UnreadableAudio, ValueError) as error:
            raise OvertureError(f"{file}: {error}") from error
        self.last = (len(wave) / self.run.frontend.rate, time.perf_counter() - begun)
        before, behind = self.around
        return (text(before), Segment("audio", Heard(len(self.features) - 1)), text(behind))

    def read(self, words: str) -> "Sample":
        """The turn of a text."""
        from overture.data.sample import text

        return (text(words),)

    def turn(self, said: "Sample") -> Answer:
        """The answer. Raises OvertureError where the turns are more than the model has positions for."""
        from overture.train.samples import spoken

        begun = time.perf_counter()
        rendered = self.render(self.program.template.prompt(said, self.earlier))
        if (length := len(rendered.ids) + self.tokens) > (most := self.model.lm.positions):
            raise OvertureError(
                f"these turns and an answer take {length} tokens, and the language model has {most}: begin anew"
            )
        clock = _Clock()
        (ids,) = self.model.answer(spoken([rendered], self.features, self.run.frontend), self.tokens, clock)
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
        self.earlier.append((said, text))
        (audio, hearing), self.last = self.last, (0.0, 0.0)
        _, first, *_ = clock.times
        return Answer(
            text, audio, hearing, len(rendered.ids), first - begun, len(clock.times) - 1, clock.times[-1] - first
        )
