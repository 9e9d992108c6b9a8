"""Where weights come from: an earlier run of ours, or a checkpoint in transformers' format (`published`); and what they have heard or read."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from overture import jsonfile, recipes
from overture.config import to_dict
from overture.data.features import Waveform
from overture.data.table import Table
from overture.data.tokens import FILE, Tokens, keep
from overture.data.voices import PUBLISHED, SpeakerVectors
from overture.errors import OvertureError
from overture.models.published import RECIPES, PublishedText, opened
from overture.quantize.gumbel import Annealing
from overture.run import Run
from overture.train.state import checkpoints, read_weights


@dataclass(frozen=True)
class Origin:
    """A start, but for its weights."""

    folder: Path
    kind: Literal["run", "checkpoint"]
    sizes: dict[str, Any]  # of its network, by field of the `ModelSpec`
    frontend: dict[str, Any]  # by field
    of: dict[str, Any]  # recipe, size, fingerprint, updates: as far as they are known
    temperature: float | None  # of a Gumbel softmax, where its run ended; None: it has none, or it is not known
    heard: list[
        dict[str, Any]
    ]  # corpora that the weights were trained on: corpus, where, fingerprint, hours or characters, licences
    note: str = ""

    @classmethod
    def open(cls, start: str, home: Path) -> "Origin":
        """`start`: a folder, relative to `home`. Raises OvertureError when it holds no weights, or none that can be used."""
        folder = Path(os.path.normpath(home / start))  # `home` itself need not be there yet
        if checkpoints(folder):
            about = jsonfile.read_object(folder / "run.json")
            state = jsonfile.read_object(checkpoints(folder)[-1] / "state.json")
            return cls._of_run(folder, about, int(state["update"]))
        if (folder / "config.json").exists():
            return cls._of_checkpoint(folder)
        raise OvertureError(
            f"start={start!r}: no run with a checkpoint of that name in {home}, and no checkpoint folder of transformers, with config.json"
        )

    @classmethod
    def _of_run(cls, folder: Path, about: dict[str, Any], updates: int) -> "Origin":
        path = folder / "run.json"
        try:
            config, data = about["config"], about["data"]
            of = {name: about[name] for name in ("recipe", "size", "fingerprint")} | {"updates": updates}
            this = {
                "corpus": config["data"]["corpus"],
                "where": config["data"]["where"],
                "fingerprint": data["fingerprint"],
                **({"characters": data["characters"]} if "characters" in data else {"hours": data["hours"]}),
                "licences": data.get("licences", []),
            }
            earlier = [one for of in ("start", "teacher", "voices") for one in (about.get(of) or {}).get("heard", [])]
            annealing = [p["objective"]["temperature"] for p in config["players"] if annealed(p["objective"])]
            ended = Annealing(**annealing[0]).at(updates) if annealing else None
            return cls(folder, "run", config["model"], _frontend(folder, config), of, ended, [this, *earlier])
        except (KeyError, TypeError, AttributeError) as error:
            raise OvertureError(f"{path} is damaged ({type(error).__name__}: {error})") from error

    @classmethod
    def _of_checkpoint(cls, folder: Path) -> "Origin":
        found = opened(folder)
        sizes, on_text = to_dict(found.spec), isinstance(found, PublishedText)
        frontend = to_dict(found.frontend if isinstance(found, PublishedText) else Waveform(rate=found.rate))
        note = "" if isinstance(found, PublishedText) or found.normalised else (
            "its preprocessor_config.json says do_normalize=false: it has heard samples as they are, and now hears each utterance "
            "brought to mean 0 and variance 1"
        )  # fmt: skip
        if (folder / "overture.json").exists():  # exported by us
            about = jsonfile.read_object(folder / "overture.json")
            run = cls._of_run(folder, about, int(about["config"]["loop"]["updates"]))
            frontend = run.frontend if on_text else frontend  # with the tokenizer that lies beside it
            return replace(run, kind="checkpoint", sizes=sizes, frontend=frontend, note=note)
        amount = "characters" if on_text else "hours"
        unknown: dict[str, Any] = {"corpus": None, "where": None, "fingerprint": None, amount: None, "licences": []}
        recipe = RECIPES[found.kind] if isinstance(found, PublishedText) else "wav2vec2"
        of = {"recipe": recipe, "size": None, "fingerprint": None, "updates": None}
        return cls(folder, "checkpoint", sizes, frontend, of, None, [{**unknown, "checkpoint": folder.name}], note)

    def tokens(self, ours: Tokens) -> Tokens:
        """`ours` with the tokenizer of this run. Raises OvertureError where it heard speech."""
        if "vocabulary" not in self.frontend:
            raise OvertureError(f"{self.folder} has heard speech, and what is to go on from it reads text")
        return replace(ours, **{name: self.frontend[name] for name in ("corpus", "published", "kept")})

    @property
    def network(self) -> type:
        """The kind of network, as its `ModelSpec`: that of its recipe, or of one of its claims, with fields for these sizes.

        Raises OvertureError where there is none.
        """
        if self.kind == "checkpoint":
            return type(opened(self.folder).spec)
        for shape in recipes.shapes(f"{self.of['recipe']}:{self.of['size']}"):
            if self.sizes.keys() <= {f.name for f in fields(shape.model)}:  # type: ignore[arg-type]
                return type(shape.model)
        raise OvertureError(
            f"{self.folder / 'run.json'} was written by another version of {self.of['recipe']}, which now has no network of such sizes"
        )

    def weights(self) -> dict[str, Tensor]:
        """By the names of the encoder."""
        if self.kind == "checkpoint":
            return opened(self.folder).weights()
        return read_weights(checkpoints(self.folder)[-1])


def weights_fingerprint(weights: Mapping[str, Tensor]) -> str:
    """12 hex digits that depend on every name, shape and number, and on nothing else: not on files, folders or the order in them."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


def heard(folder: Path) -> tuple[list[Table], list[str]]:
    """The rows that the weights in a run or checkpoint folder were trained on, over all runs they came through; and what cannot be told.

    Raises OvertureError when the folder holds no weights.
    """
    tables: list[Table] = []
    unknown: list[str] = []
    for entry in Origin.open(folder.name, folder.parent).heard:
        if entry["corpus"] is None:
            unknown.append(f"what {entry['checkpoint']} was trained on")
            continue
        try:
            tables.append(Table.open(entry["corpus"], entry["where"]))
        except OvertureError as error:
            unknown.append(f"corpus {entry['corpus']!r} ({error})")
    return tables, unknown


def taught_by(run: Run, teacher: str, home: Path) -> Run:
    """`run` as the weights in `teacher`, a folder relative to `home`, teach it, and named after them. Raises OvertureError where there are none."""
    return replace(run, teacher=teacher, teacher_weights=weights_fingerprint(Origin.open(teacher, home).weights()))


def said_of_teacher(run: Run, home: Path) -> dict[str, Any] | None:
    """Which run teaches `run` and what that has heard, as it goes into `run.json`; None where none does."""
    if run.teacher is None:
        return None
    origin = Origin.open(run.teacher, home)
    return {"path": run.teacher, "weights": run.teacher_weights, "of": origin.of, "heard": origin.heard}


def said_of_voices(run: Run) -> dict[str, Any] | None:
    """Which run's vectors tell `run` who speaks, and whom that has heard, as it goes into `run.json`; None where no run of ours does."""
    voices = run.data.voices
    if not isinstance(voices, SpeakerVectors) or voices.encoder == PUBLISHED:
        return None
    origin = Origin.open(voices.encoder, Path())
    return {"path": voices.encoder, "weights": voices.weights, "of": origin.of, "heard": origin.heard}


def _frontend(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The front end of a run folder's configuration; of text with its tokenizer, which lies there, kept and named."""
    found: dict[str, Any] = config["frontend"]
    if "vocabulary" not in found or found["published"] is not None:
        return found
    from tokenizers import Tokenizer

    if not (folder / FILE).exists():
        raise OvertureError(f"{folder} has no {FILE}, the tokenizer that it was trained with: train it anew")
    return {**found, "kept": keep(Tokenizer.from_file(str(folder / FILE)))}


def annealed(objective: Any) -> bool:
    """Whether an objective, or its JSON, has a temperature that falls."""
    if isinstance(objective, Mapping):
        return isinstance(objective.get("temperature"), Mapping)
    return isinstance(getattr(objective, "temperature", None), Annealing)
