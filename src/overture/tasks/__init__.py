"""Downstream tasks: what each needs, how it splits, how it is scored. The protocol belongs to the task, not to who runs it.

Only the table lives here, so that the command line can list it without torch: `features` runs a frozen encoder once and
caches its states, `align` finds the phones, `classify`, `transcribe` and `classify_frames` train heads on them (`probe` is what
they share), `finetune_ctc`, `finetune_classes`, `finetune_rank` and `finetune_tokens` train the whole encoder on (`finetune` is what
they share, `finetune_text` what a network on text is given), `tfidf` and `remembered` are the controls of text, `written` judges a
language model as it is (by `generate`), `trajectory` on its way, `choice` by what it thinks comes next, `masked` one that fills in,
`spoken` one that hears, `verification` compares voices, `made` judges waves (`synthesised` has the judges, `makers` what
makes them), `transcripts` looks for rows that cannot be learnt, `ctc` holds the loss,
`decoding` chooses a language model, `metrics` scores with intervals, `controls` holds what a result is judged against.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from overture.errors import OvertureError, near

if TYPE_CHECKING:
    from overture.run import Run


@dataclass(frozen=True)
class Metric:
    """A score, a sum over rows divided by another."""

    written_out: str  # as tables and reports call it
    counted: str  # the column of predictions that holds what is summed, of each row
    higher_is_better: bool


METRICS = {
    "accuracy": Metric("accuracy", "correct", True),
    "cer": Metric("character error rate", "errors", False),
    "wer": Metric("word error rate", "errors", False),
    "map": Metric("mean average precision", "average_precision", True),
    "f1": Metric("F1 of spans", "twice_right", True),
    "score": Metric("mean score of samples", "score", False),
    "bits": Metric("bits per character", "bits", False),
    "nats": Metric("nats per masked token", "nats", False),
    "closure": Metric("share of the gap to text that is closed", "closed", True),
    "share": Metric("share of answers", "counted", False),
    "hter": Metric("half total error rate", "wrong", False),
    "mel": Metric("log-mel distance", "distance", False),
    "mos": Metric("opinion score, guessed", "opinion", True),
    "similarity": Metric("likeness of the voice", "cosine", True),
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One way to judge an encoder."""

    name: str
    about: str
    target: str  # the column to be predicted
    columns: tuple[str, ...]  # what the corpus must have
    features: Literal[
        "pooled",
        "frames",
        "aligned",
        "finetune",
        "written",
        "way",
        "choice",
        "masked",
        "spoken",
        "verified",
        "copied",
        "synthesised",
    ]  # which part of this room judges it
    metric: str  # of METRICS
    disjoint: tuple[str, ...]  # columns whose values train, dev and test may not share
    disjoint_if_possible: tuple[str, ...] = ()  # the same, where the corpus has the column and enough values of it
    shared: tuple[str, ...] = ()  # columns whose values every part must have
    reads: Literal["speech", "text"] = "speech"  # what its rows are

    @property
    def closed_set(self) -> bool:
        """Whether the target is one of so many values, each of which must be known from training."""
        return self.metric == "accuracy" and self.features in ("pooled", "finetune")

    @property
    def unheard(self) -> bool:
        """Whether training may hear no row of the speakers that are tuned or scored on, unless a trial says that it may."""
        return self.features in ("verified", "copied", "synthesised")

    @property
    def judge(self) -> Literal["words", "voice", "sound"] | None:
        """Which published model judges the waves that arms make, see `tasks.synthesised`; None: no such model is asked."""
        judges: dict[str, Literal["words", "voice", "sound"]] = {"wer": "words", "similarity": "voice", "mos": "sound"}
        return judges.get(self.metric) if self.features in ("copied", "synthesised") else None

    @property
    def higher_is_better(self) -> bool:
        """As its metric is."""
        return METRICS[self.metric].higher_is_better

    @property
    def metric_name(self) -> str:
        """As tables and reports call it."""
        written_out = METRICS[self.metric].written_out
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
            disjoint=(),  # a row is in one part only, always
            disjoint_if_possible=("text",),
            shared=("speaker",),
        ),
        Task(
            name="speaker-verification",
            about="whether two recordings are of one voice, for voices that training has not heard, by a threshold of others; nothing is trained",
            target="speaker",
            columns=("speaker",),
            features="verified",
            metric="hter",
            disjoint=("speaker",),
        ),
        Task(
            name="keyword",
            about="which of a closed set of words or phrases is said, by voices that training has not heard",
            target="text",
            columns=("text",),
            features="pooled",
            metric="accuracy",
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
            disjoint=("speaker", "text"),
        ),
        Task(
            name="phone",
            about="which phone of English each frame belongs to, after forced alignment: other voices and other sentences",
            target="text",
            columns=("text", "speaker"),
            features="aligned",
            metric="accuracy",
            disjoint=("speaker", "text"),
        ),
        Task(
            name="asr-finetune",
            about="asr with the whole encoder trained on: CTC fine-tuning from the pre-trained weights, or from scratch",
            target="text",
            columns=("text", "speaker"),
            features="finetune",
            metric="cer",
            disjoint=("speaker", "text"),
        ),
        Task(
            name="hybrid",
            about="which words are said, by a hidden Markov model: the whole encoder learns aligned states, then lexicon and language model",
            target="text",
            columns=("text", "speaker"),
            features="finetune",
            metric="wer",
            disjoint=("speaker", "text"),
        ),
        Task(
            name="keyword-finetune",
            about="keyword with the whole encoder trained on, from the pre-trained weights or from scratch",
            target="text",
            columns=("text",),
            features="finetune",
            metric="accuracy",
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
            disjoint=(),
            disjoint_if_possible=("kit",),
            shared=("label",),
        ),
        Task(
            name="label-finetune",
            about="which label a document has, with the whole network trained on: other texts than in training",
            target="label",
            columns=("text", "label"),
            features="finetune",
            metric="accuracy",
            disjoint=("text",),
            shared=("label",),
            reads="text",
        ),
        Task(
            name="rank-finetune",
            about="which sentences answer a question (label 1) and which do not (0), ranked, with the whole network trained on: other questions",
            target="label",
            columns=("question", "text", "label"),
            features="finetune",
            metric="map",
            disjoint=("question",),
            reads="text",
        ),
        Task(
            name="token-finetune",
            about="which stretches of a text are a name, and of what (spans of characters), tagged word by word with the whole network trained on",
            target="spans",
            columns=("text", "spans"),
            features="finetune",
            metric="f1",
            disjoint=("text",),
            reads="text",
        ),
        Task(
            name="samples",
            about="how many violations of PEP 8 a character are in what a language model of Python writes by itself; nothing is trained",
            target="pep8",
            columns=("text", "pep8"),
            features="written",
            metric="score",
            disjoint=("text",),
            reads="text",
        ),
        Task(
            name="held-out",
            about="what text that it has not read costs a language model, in bits per character; nothing is trained",
            target="text",
            columns=("text",),
            features="written",
            metric="bits",
            disjoint=("text",),
            reads="text",
        ),
        Task(
            name="held-out-worst",
            about="held-out at that of the updates that a run kept on its way where the development rows cost most: what it forgets meanwhile",
            target="text",
            columns=("text",),
            features="way",
            metric="bits",
            disjoint=("text",),
            reads="text",
        ),
        Task(
            name="held-out-masked",
            about="what hidden tokens of text that it has not read cost a network that fills in, in nats a token; nothing is trained",
            target="text",
            columns=("text",),
            features="masked",
            metric="nats",
            disjoint=("text",),
            reads="text",
        ),
        Task(
            name="next-sentence",
            about="which of four sentences of one source comes next, by likelihood a character; nothing is trained, chance is .25",
            target="text",
            columns=("text",),
            features="choice",
            metric="accuracy",
            disjoint=("text",),
            reads="text",
        ),
        Task(
            name="gap-closure",
            about="of what a transcript is worth to a language model's own continuation, the share that hearing it is worth; nothing is trained",
            target="continuation",
            columns=("text", "continuation", "speaker"),
            features="spoken",
            metric="closure",
            disjoint=("speaker", "text"),
        ),
        Task(
            name="heard-word",
            about="which of four words a language model that hears takes for said, by likelihood; nothing is trained, chance is .25",
            target="text",
            columns=("text", "speaker"),
            features="spoken",
            metric="accuracy",
            disjoint=("speaker", "text"),
        ),
        Task(
            name="echo",
            about="how many answers to the instruction of the training repeat what was said; nothing is trained",
            target="text",
            columns=("text", "speaker"),
            features="spoken",
            metric="share",
            disjoint=("speaker", "text"),
        ),
        Task(
            name="repeat",
            about="what a language model that hears says when it is asked to repeat, in words wrong; nothing is trained",
            target="text",
            columns=("text", "speaker"),
            features="spoken",
            metric="wer",
            disjoint=("speaker", "text"),
        ),
        Task(
            name="copy-synthesis",
            about="how far from a recording is what a vocoder makes of its mel, in log-mel, for voices that training has not heard",
            target="audio",
            columns=("audio", "speaker"),
            features="copied",
            metric="mel",
            disjoint=("speaker",),
        ),
        Task(
            name="copy-synthesis-words",
            about="which words Whisper hears in what a vocoder makes of a recording's mel",
            target="text",
            columns=("text", "speaker"),
            features="copied",
            metric="wer",
            disjoint=("speaker",),
        ),
        Task(
            name="copy-synthesis-sound",
            about="how good that sounds, from 1 to 5, as DNSMOS guesses that people would say",
            target="audio",
            columns=("audio", "speaker"),
            features="copied",
            metric="mos",
            disjoint=("speaker",),
        ),
        Task(
            name="synthesis",
            about="which words Whisper hears when a text is said in the voice of a recording: other voices and sentences than in training",
            target="text",
            columns=("text", "speaker"),
            features="synthesised",
            metric="wer",
            disjoint=("speaker", "text"),
        ),
        Task(
            name="synthesis-voice",
            about="how like that voice is to another recording of its speaker, by the cosine of GE2E's vectors; beside it to one of another speaker",
            target="text",
            columns=("text", "speaker"),
            features="synthesised",
            metric="similarity",
            disjoint=("speaker", "text"),
        ),
        Task(
            name="synthesis-sound",
            about="how good that sounds, from 1 to 5, as DNSMOS guesses that people would say",
            target="text",
            columns=("text", "speaker"),
            features="synthesised",
            metric="mos",
            disjoint=("speaker", "text"),
        ),
    )
}


def fits(task: Task, text: bool, corpus: str) -> None:
    """Raises OvertureError for a task that is for corpora of the other kind than `corpus`, naming those that are for its own, and for one whose
    judge is not installed (MissingExtra where a library is)."""
    have = "text" if text else "speech"
    if task.reads != have:
        own = ", ".join(t.name for t in TASKS.values() if t.reads == have)
        raise OvertureError(
            f"task {task.name!r} is for {task.reads}, and corpus {corpus!r} is {have}: for that there are {own}"
        )
    if task.judge is not None:
        from overture.tasks.synthesised import look_for

        look_for((task.judge,))


def suits(task: Task, run: "Run") -> None:
    """Raises OvertureError for a run that hears and reads where `task` asks it nothing, and for any other where it does."""
    if run.hears_and_reads == (task.features == "spoken"):
        return
    asked = ", ".join(t.name for t in TASKS.values() if t.features == "spoken")
    if run.hears_and_reads:
        raise OvertureError(
            f"a run of {run.recipe} answers to speech, which task {task.name!r} does not judge: --task takes {asked}"
        )
    raise OvertureError(f"a run of {run.recipe} does not answer to speech: {asked} are for runs such as blsp")


def find_task(name: str) -> Task:
    """The task `name`. Raises OvertureError with near names."""
    if name not in TASKS:
        raise OvertureError(f"no task {name!r}. {near(name, TASKS)}")
    return TASKS[name]
