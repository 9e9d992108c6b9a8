"""Downstream tasks: what each needs, how it splits, how it is scored. The protocol belongs to the task, not to who runs it.

Only the table lives here, so that the command line can list it without torch: `features` runs a frozen encoder once and
caches its states, `align` finds the phones, `classify`, `transcribe` and `classify_frames` train heads on them (`probe` is what
they share), `finetune_ctc` and `finetune_classes` train the whole encoder on (`finetune` is what they share), `transcripts` looks
for rows that cannot be learnt, `ctc` holds the loss, `decoding` chooses a language model, `metrics` scores with intervals, `controls`
holds what a result is judged against.
"""

from dataclasses import dataclass
from typing import Literal

from overture.errors import OvertureError, near


@dataclass(frozen=True, kw_only=True)
class Task:
    """One way to judge an encoder."""

    name: str
    about: str
    target: str  # the column to be predicted
    columns: tuple[str, ...]  # what the corpus must have
    features: Literal["pooled", "frames", "aligned", "finetune"]  # which part of this room judges it
    metric: Literal["accuracy", "cer", "wer"]
    higher_is_better: bool
    disjoint: tuple[str, ...]  # columns whose values train, dev and test may not share
    disjoint_if_possible: tuple[str, ...] = ()  # the same, where the corpus has the column and enough values of it
    shared: tuple[str, ...] = ()  # columns whose values every part must have

    @property
    def closed_set(self) -> bool:
        """Whether the target is one of so many values, each of which must be known from training."""
        return self.metric == "accuracy" and self.features in ("pooled", "finetune")

    @property
    def metric_name(self) -> str:
        """As tables and reports call it."""
        written_out = {"accuracy": "accuracy", "cer": "character error rate", "wer": "word error rate"}[self.metric]
        return f"{self.name} {written_out}" if self.features == "aligned" else written_out


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="speaker-id",
            about="who speaks: the same speakers in all parts, other utterances and, where the corpus allows, other sentences",
            target="speaker",
            columns=("speaker",),
            features="pooled",
            metric="accuracy",
            higher_is_better=True,
            disjoint=(),  # a row is in one part only, always
            disjoint_if_possible=("text",),
            shared=("speaker",),
        ),
        Task(
            name="keyword",
            about="which of a closed set of words or phrases is said, by voices that training has not heard",
            target="text",
            columns=("text",),
            features="pooled",
            metric="accuracy",
            higher_is_better=True,
            disjoint=(),
            disjoint_if_possible=("speaker",),
            shared=("text",),
        ),
        Task(
            name="sound",
            about="which kind of sound it is, of the corpus's own classes",
            target="label",
            columns=("label",),
            features="pooled",
            metric="accuracy",
            higher_is_better=True,
            disjoint=(),
            disjoint_if_possible=("kit",),
            shared=("label",),
        ),
        Task(
            name="asr",
            about="what is said, letter by letter (CTC): other voices and other sentences than in training",
            target="text",
            columns=("text", "speaker"),
            features="frames",
            metric="cer",
            higher_is_better=False,
            disjoint=("speaker", "text"),
        ),
        Task(
            name="phone",
            about="which phone of English each frame belongs to, after forced alignment: other voices and other sentences",
            target="text",
            columns=("text", "speaker"),
            features="aligned",
            metric="accuracy",
            higher_is_better=True,
            disjoint=("speaker", "text"),
        ),
        Task(
            name="asr-finetune",
            about="asr with the whole encoder trained on: CTC fine-tuning from the pre-trained weights, or from scratch",
            target="text",
            columns=("text", "speaker"),
            features="finetune",
            metric="cer",
            higher_is_better=False,
            disjoint=("speaker", "text"),
        ),
        Task(
            name="hybrid",
            about="which words are said, by a hidden Markov model: the whole encoder learns aligned states, then lexicon and language model",
            target="text",
            columns=("text", "speaker"),
            features="finetune",
            metric="wer",
            higher_is_better=False,
            disjoint=("speaker", "text"),
        ),
        Task(
            name="keyword-finetune",
            about="keyword with the whole encoder trained on, from the pre-trained weights or from scratch",
            target="text",
            columns=("text",),
            features="finetune",
            metric="accuracy",
            higher_is_better=True,
            disjoint=(),
            disjoint_if_possible=("speaker",),
            shared=("text",),
        ),
        Task(
            name="speaker-finetune",
            about="speaker-id with the whole encoder trained on",
            target="speaker",
            columns=("speaker",),
            features="finetune",
            metric="accuracy",
            higher_is_better=True,
            disjoint=(),
            disjoint_if_possible=("text",),
            shared=("speaker",),
        ),
        Task(
            name="sound-finetune",
            about="sound with the whole encoder trained on",
            target="label",
            columns=("label",),
            features="finetune",
            metric="accuracy",
            higher_is_better=True,
            disjoint=(),
            disjoint_if_possible=("kit",),
            shared=("label",),
        ),
    )
}


def find_task(name: str) -> Task:
    """The task `name`. Raises OvertureError with near names."""
    if name not in TASKS:
        raise OvertureError(f"no task {name!r}. {near(name, TASKS)}")
    return TASKS[name]
