"""What a paper makes of a row: a sample, the segments of speech and text that a language model reads one after the other.

Seven systems that join speech and text differ in this alone: what is said in text, what is heard, and what is learnt. A data program is a
pure function of a row; no network, tokenizer or recording takes part, so it is tested by looking at it. `data.render` turns samples into ids
and slots.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from overture.errors import OvertureError

Kind = Literal["text", "audio", "codes", "tag", "time", "marker"]
HERE = "\0"  # stands for what a user says when a chat template is cut in two


@dataclass(frozen=True)
class Heard:
    """A stretch of the recording of a row."""

    row: int  # of the table
    start: float = 0.0  # s
    stop: float | None = None  # s; None: to its end


@dataclass(frozen=True)
class Segment:
    """One piece of a sample. What it stands for, and whether its tokens are learnt (no frame of a recording ever is)."""

    kind: Kind
    payload: (
        str | float | tuple[int, ...] | Heard
    )  # text, the name of a tag or marker; s of a time; ids of codes; what is heard
    learnt: bool = False

    def __post_init__(self) -> None:
        want: Any = {"audio": Heard, "codes": tuple, "time": (int, float)}.get(self.kind, str)
        if not isinstance(self.payload, want):
            raise OvertureError(f"a segment of kind {self.kind!r} cannot hold {self.payload!r}")
        if self.kind == "audio" and self.learnt:
            raise OvertureError("what is heard as vectors cannot be learnt: of speech that shall be, give its codes")

    @property
    def named(self) -> tuple[str, ...]:
        """The tokens of `frontend.blocks` that it is; of text and audio none. Codes are `<|audio 7|>`, times `<|1.25|>`."""
        payload: Any = self.payload
        if self.kind == "codes":
            return tuple(code(i) for i in payload)
        if self.kind == "time":
            return (f"<|{payload:.2f}|>",)
        return (payload,) if self.kind in ("tag", "marker") else ()


Sample = tuple[Segment, ...]


def code(number: int) -> str:
    """The token of a unit of speech."""
    return f"<|audio {number}|>"


def text(words: str, *, learnt: bool = False) -> Segment:
    """A segment of text."""
    return Segment("text", words, learnt)


@dataclass(frozen=True, kw_only=True)
class Template:
    """How turns are written for a language model: what stands before what a person says, between that and the answer, and behind the answer.

    The default is BLSP's, with plain marks that any model learns (Alpaca's way). The beginning of a document and its end are tokens of the tokenizer.
    """

    user: str = "###[Human]:"
    assistant: str = "\n\n\n###[Assistant]:"
    after: str = "\n\n\n"  # an answer, before the next turn

    @classmethod
    def of(cls, folder: str | Path) -> "Template":
        """The chat template of a checkpoint in transformers' format. Raises OvertureError where it has none that has this form."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
        if not tokenizer.chat_template:
            raise OvertureError(
                f"{folder} has no chat template: it was never taught turns; leave the template as it is"
            )
        turns = [
            {"role": "user", "content": HERE},
            {"role": "assistant", "content": HERE},
            {"role": "user", "content": HERE},
        ]
        whole = tokenizer.apply_chat_template(turns, tokenize=False)
        asked = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        parts, first = whole.split(HERE), asked.split(HERE)
        begin = tokenizer.bos_token or ""
        if len(parts) != 4 or len(first) != 2 or not parts[2].endswith(user := parts[0].removeprefix(begin)):
            raise OvertureError(f"the chat template of {folder} writes turns in a way that Template cannot")
        return cls(user=user, assistant=first[1], after=parts[2].removesuffix(user))

    def prompt(self, turn: Sequence[Segment], earlier: Sequence[tuple[Sequence[Segment], str]] = ()) -> Sample:
        """What a person says in `turn`, after earlier turns and their answers, up to where the model answers."""
        said: list[Segment] = []
        for before, answer in earlier:
            said += [text(self.user), *before, text(self.assistant + answer + self.after)]
        return (*said, text(self.user), *turn, text(self.assistant))


@runtime_checkable
class Program(Protocol):
    """A data program: a row -> a sample. A frozen dataclass, hence part of the fingerprint."""

    @property
    def columns(self) -> tuple[str, ...]: ...  # that a row must have; one without a value is left out, and counted

    @property
    def exchanged(self) -> bool: ...  # each row hears the recording of another one: the control

    def __call__(self, row: Mapping[str, Any], heard: int) -> Sample: ...  # `heard`: the row whose recording is heard


@dataclass(frozen=True, kw_only=True)
class Respond:
    """An instruction and an utterance; learnt is what a column says of it, to its end (BLSP, arXiv:2309.00916, section 3).

    With the column `continuation` (`overture data score --with continuation`) that is how the language model itself goes on from the transcript;
    with `text` it is the transcript, which is the paper's comparison.
    """

    instruction: str = ""  # before the utterance
    behind: str = ""  # text behind it
    column: str = "continuation"
    given: Literal["speech", "text", "nothing"] = "speech"  # text: the ceiling, nothing: the floor
    template: Template = Template()
    exchanged: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Of a row."""
        return ("text", self.column)

    def turn(self, row: Mapping[str, Any], heard: int) -> Sample:
        """What is said to the model."""
        what = {
            "speech": (Segment("audio", Heard(heard)),),
            "text": (text(row["text"]),),
            "nothing": (),
        }[self.given]
        return (text(self.instruction), *what, text(self.behind))

    def prompt(self, row: Mapping[str, Any], heard: int) -> Sample:
        """Up to where the model answers."""
        return self.template.prompt(self.turn(row, heard))

    def __call__(self, row: Mapping[str, Any], heard: int) -> Sample:
        """One turn and its answer."""
        return (*self.prompt(row, heard), text(row[self.column], learnt=True))

    def like(self, given: Literal["speech", "text", "nothing"], *, exchanged: bool = False) -> "Respond":
        """The same asked another way."""
        return replace(self, given=given, exchanged=exchanged)
