"""The verb that talks to a language model that hears: a recording in, an answer out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overture.errors import OvertureError

if TYPE_CHECKING:
    import numpy as np

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

    An answer takes the earlier turns into account. An empty line ends it.
    """
    from rich.console import Console

    console = Console()
    talk = Conversation(run, say, tokens)
    for file in speech or []:
        console.print(talk.turn(talk.heard(file)), markup=False, highlight=False)
    if speech:
        return
    while line := console.input("> ").strip():
        turn = talk.heard(Path(line)) if Path(line).is_file() else talk.read(line)
        console.print(talk.turn(turn), markup=False, highlight=False)


class Conversation:
    """Turns with a trained model. Recordings are kept as features, once each."""

    def __init__(self, folder: Path, say: str | None, tokens: int) -> None:
        """Raises OvertureError for a run that does not hear and read, or has no checkpoint yet."""
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

    def heard(self, file: Path) -> "Sample":
        """The turn of a recording. Raises OvertureError for one that cannot be read, or is too short or too long."""
        from overture.data import audio
        from overture.data.sample import Heard, Segment, text

        try:
            self.features.append(self.run.frontend(audio.read(file, rate=self.run.frontend.rate)))
        except (audio.UnreadableAudio, ValueError) as error:
            raise OvertureError(f"{file}: {error}") from error
        before, behind = self.around
        return (text(before), Segment("audio", Heard(len(self.features) - 1)), text(behind))

    def read(self, words: str) -> "Sample":
        """The turn of a text."""
        from overture.data.sample import text

        return (text(words),)

    def turn(self, said: "Sample") -> str:
        """The answer. Raises OvertureError where the turns are more than the model has positions for."""
        from overture.train.samples import spoken

        rendered = self.render(self.program.template.prompt(said, self.earlier))
        if (length := len(rendered.ids) + self.tokens) > (most := self.model.lm.positions):
            raise OvertureError(
                f"these turns and an answer take {length} tokens, and the language model has {most}: begin anew"
            )
        (ids,) = self.model.answer(spoken([rendered], self.features, self.run.frontend), self.tokens)
        answer: str = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
        self.earlier.append((said, answer))
        return answer
