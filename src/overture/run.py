"""What a training run is: one frozen, typed `Run`, complete in itself.

A recipe is a function that returns one. Everything that changes a result stands here (and so in its fingerprint);
what only changes how fast or how often something is written stands in `Loop` fields marked so.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from overture.config import LATER, fingerprint
from overture.data.augment import WaveAugment
from overture.data.grid import Grid
from overture.data.mixture import Fixed, Matched, Mixture
from overture.data.order import Order
from overture.data.phones import FramePhones
from overture.data.sample import Program
from overture.data.select import Select
from overture.data.tokens import Tokens
from overture.data.voices import MeanMel, SpeakerVectors
from overture.models.transforms import Lora, LowRank, Masked, SparseLowRank

if TYPE_CHECKING:
    import numpy as np


@runtime_checkable
class Frontend(Protocol):
    """Turns one utterance's samples into what the model sees. A frozen dataclass, hence part of the fingerprint."""

    @property
    def rate(self) -> int: ...  # Hz, of the samples it wants

    @property
    def frame_rate(self) -> float: ...  # Hz, of its steps

    @property
    def dim(self) -> int: ...  # F; 0: plain samples, without an axis for channels

    def steps(self, count: int) -> int: ...  # T of N samples

    def __call__(self, wave: "np.ndarray") -> "np.ndarray": ...  # (N,) float32 -> (T, F) or (T,) float32


@runtime_checkable
class Assembly(Protocol):
    """How documents become examples of text. A frozen dataclass; see `overture.data.text`."""

    @property
    def length(self) -> int: ...  # tokens of an example at most

    def prepare(self, encoded: Any, table: Any, special: Any, seed: int) -> Any: ...  # -> overture.data.text.Examples


@runtime_checkable
class ModelSpec(Protocol):
    """The sizes of a network, and how to build it."""

    def build(self, frontend: Any) -> Any: ...  # a Frontend or Tokens -> torch.nn.Module


class Objective(Protocol):
    """One pretext task: `(model, batch, draws) -> Loss`. A frozen dataclass; anything learnt belongs to the model."""

    def __call__(self, model: Any, batch: Any, draws: Any) -> Any: ...


@runtime_checkable
class Labelled(Protocol):
    """An objective that learns from a column of the table, such as transcripts."""

    @property
    def column(self) -> str: ...

    def encode(self, value: str, row: str) -> list[int]: ...  # raises OvertureError naming the row


@runtime_checkable
class Uncropped(Protocol):
    """A labelled objective that needs all of a recording, since its labels say what is in all of it: longer ones than are heard are refused."""

    @property
    def uncropped(self) -> bool: ...


@runtime_checkable
class Learning(Protocol):
    """An objective that says what in the model must change while it is trained, such as a codebook: health stops a run where it does not."""

    @property
    def learns(self) -> str: ...  # regular expression, searched in the names of parameters and buffers


@runtime_checkable
class Taught(Protocol):
    """An objective that learns from another network, which it finds as `model.teacher` (see `overture.train.teacher`)."""

    @property
    def listens_to(
        self,
    ) -> Literal["run", "average"] | None: ...  # `Run.teacher`, the average of its own weights (`Loop.ema`), or nobody


@runtime_checkable
class Cycling(Protocol):
    """An objective whose updates do not all cost the same: any `cycle` of them, from the first on, cost what as many do on average."""

    def cycle(self, model: Any) -> int: ...  # updates


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which examples."""

    corpus: str = "embedded"  # a name or a folder
    where: str | None = None  # SQL over the table's columns
    # how documents become examples, in a corpus of text; of the other fields it knows `mix`, `select` and `order`
    text: Assembly | None = field(default=None, metadata=LATER)
    # what is made of each row of a corpus of speech and its texts, for a run that hears and reads
    sample: Program | None = field(default=None, metadata=LATER)
    packed: int | None = field(default=None, metadata=LATER)  # tokens that samples share up to; None: one an example
    min_seconds: float = 0.0  # shorter utterances are left out (and counted)
    max_seconds: float = 15.0  # longer ones are cropped, at a place drawn anew each epoch
    cache: bool = True  # compute features once into a memory-mapped file; else anew each epoch
    augment: WaveAugment | None = None  # alters the samples, drawn anew each time; features then need cache=False
    matched: Matched | None = None  # as many hours of each of some values of a column, and no other rows
    mix: Mixture | Fixed | None = None  # how often the values of a column are heard, drawn anew each epoch
    select: Select | None = field(default=None, metadata=LATER)  # such rows under a budget; before `matched`
    order: Order | None = field(default=None, metadata=LATER)  # of updates, in the first epochs; None: at random
    phones: FramePhones | None = field(default=None, metadata=LATER)  # of each frame; other rows are left out
    voices: MeanMel | SpeakerVectors | None = field(default=None, metadata=LATER)  # a vector of who speaks in each row
    grid: Grid | None = field(default=None, metadata=LATER)  # N speakers with M utterances in each update; speech alone


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much an update sees: s of audio, or tokens of text. Both count padding."""

    update: float = 120.0  # of one update, over all devices and accumulated micro-batches
    micro: float = 120.0  # that one device holds at once; accumulation follows from it
    longest_squared: float = 3000.0  # bound on (examples x longest^2) of a micro-batch, for attention


@dataclass(frozen=True, kw_only=True)
class Optim:
    """AdamW with warm-up, hold, and decay; the three shares of the updates sum to one."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01  # on matrices; never on biases and norms
    warmup: float = 0.07  # share of all updates
    hold: float = 0.0  # share of all updates at full rate
    final: float = 0.0  # rate at the end, as a share of lr
    decay: Literal["linear", "exponential"] = "linear"  # exponential, to a `final` above 0: the third of three stages
    clip: float | None = 5.0  # largest gradient norm; None: not clipped
    in_backward: bool | None = field(
        default=None, metadata=LATER
    )  # each parameter steps as soon as its gradient is whole, and that is freed: less memory; without accumulation and clipping
    states: Literal["8bit"] | None = field(default=None, metadata=LATER)  # of AdamW, in blocks of 256; None: fp32


@dataclass(frozen=True, kw_only=True)
class Player:
    """An objective and the optimizer of the parameters that learn from it. Most recipes have one; a GAN has two."""

    objective: Objective
    optim: Optim = field(default_factory=Optim)
    name: str = "model"
    parameters: str = ""  # regular expression, searched in parameter names; what no player names is frozen
    frozen: str = (
        ""  # the same: such of its parameters do not learn in the first `frozen_updates`, as if they were not there
    )
    frozen_updates: int = 0
    every: int = 1  # takes part in each `every`-th update


@dataclass(frozen=True, kw_only=True)
class Loop:
    """How long, how exactly, and what is written on the way."""

    updates: int = 1000
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # auto: bf16 where the machine multiplies in it
    ema: float | None = None  # decay of an average of the weights, which is then what is exported
    log_every: int = 20  # updates
    checkpoint_every: int = 500  # updates
    keep: int = 2  # checkpoints
    keep_at: tuple[int, ...] | None = field(
        default=None, metadata=LATER
    )  # updates, 0 too, whose checkpoints are written and kept besides: for what happens on the way
    tolerate: tuple[str, ...] = ()  # health rules that are recorded and do not stop, for arms meant to fall ill


def log_spaced(updates: int, count: int = 10) -> tuple[int, ...]:
    """0 and about `count` updates up to the last, each as many times further as the one before: for `Loop.keep_at`. log_spaced(1000, 4) is
    (0, 1, 10, 100, 1000)."""
    steps = max(1, count - 1)
    return (0, *sorted({round(updates ** (i / steps)) for i in range(steps + 1)}))


@dataclass(frozen=True, kw_only=True)
class Grow:
    """How the weights of a smaller network become those of a larger one, in which the run goes on (see `overture.models.surgery`)."""

    # fpi: wider by copies that preserve the function, then deeper; aki: what is new from the layer above; copy: into a corner, the rest
    # fresh; stack: deeper alone. What is copied is drawn from the run's seed.
    method: Literal["fpi", "aki", "copy", "stack"] = "aki"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A complete training run."""

    recipe: str
    size: str
    frontend: Any  # a Frontend for speech, Tokens for text
    model: ModelSpec
    players: tuple[Player, ...]
    data: Data = field(default_factory=Data)
    plan: Plan = field(default_factory=Plan)
    loop: Loop = field(default_factory=Loop)
    seed: int = 0
    start: str | None = None  # what the encoder (or the whole model) starts from: the last weights of a run folder
    # beside this one, or a checkpoint folder of transformers (see `overture.models.start`)
    start_weights: str | None = None  # hash of these weights, so that another start is another run
    # how its linear layers are parameterised while it is trained; None: dense. Whatever reads its weights sees dense ones
    transform: LowRank | SparseLowRank | Masked | Lora | None = field(default=None, metadata=LATER)
    grow: Grow | None = field(default=None, metadata=LATER)  # where the start is a smaller network of the same kind
    # the run folder beside this one whose last weights teach its objective; None: where that wants a teacher, itself as it begins
    teacher: str | None = field(default=None, metadata=LATER)
    teacher_weights: str | None = field(default=None, metadata=LATER)  # hash of these

    @property
    def on_text(self) -> bool:
        """Whether it reads documents rather than hears recordings."""
        return isinstance(self.frontend, Tokens)

    @property
    def hears_and_reads(self) -> bool:
        """Whether its examples are samples of speech and text."""
        return self.data.sample is not None

    def settled(self) -> "Run":
        """The same, named after the published weights that it hears and writes with, or is told voices by, where it has such."""
        if self.data.voices:
            return replace(self, data=replace(self.data, voices=self.data.voices.settled()))
        if not self.hears_and_reads:
            return self
        model: Any = self.model
        return replace(self, frontend=self.frontend.settled(), model=model.settled())

    @property
    def fingerprint(self) -> str:
        return fingerprint(self)

    @property
    def folder_name(self) -> str:
        """`tera-3f2a9c`: the recipe and the start of the fingerprint."""
        return f"{self.recipe}-{self.fingerprint[:6]}"
