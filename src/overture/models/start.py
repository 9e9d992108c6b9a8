"""What a run starts from when not from fresh weights: an earlier run of ours, or a checkpoint in transformers' format (`published`).

A run on text goes on with the tokenizer that it began with: ids mean nothing to weights that learnt others.

Continued pre-training as in HYKIST (arXiv:2309.15869), Ainu (arXiv:2301.07295) and IndicWav2vec (arXiv:2111.03945). Weights are all that is taken
over: the optimizer, its schedule and the order of the data begin anew. Everything else that a reader has to know is in the report that goes into
`run.json`: which weights fitted, which were missing or left over and why, whether the quantizer is the old one, which layers and
strides were changed, at which Gumbel temperature it goes on, and what the weights had heard before.
"""

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from overture import jsonfile, recipes
from overture.config import from_dict, to_dict
from overture.data.features import Waveform
from overture.data.table import Table
from overture.data.tokens import FILE, Tokens, keep
from overture.errors import OvertureError
from overture.models import surgery
from overture.models.axes import layer_of
from overture.models.published import RECIPES, PublishedText, opened, why_missing, why_unused
from overture.models.wav2vec2 import Wav2Vec2
from overture.quantize.gumbel import Annealing
from overture.run import Frontend, ModelSpec, Player, Run
from overture.train.state import checkpoints, read_weights, stored

Report = dict[str, Any]

# Of pre-training alone. A checkpoint of a fine-tuned or bare encoder has none of the first three, and the fourth only where it was used.
QUANTIZER = ("network.quantizer.", "network.project_q.", "network.project_hid.")
MASK = "network.wav2vec2.masked_spec_embed"
HEADS = ("lm_head.", "classifier.", "projector.", "tdnn.", "feature_extractor_head.", "objective.", "layer_weights")
PRETEXT = "heads."  # of a network on tokens, beside the one over its vocabulary: each pre-training has its own
# How a network is trained, not what it is: these may differ from what it was trained with before.
TRAINING = ("dropout", "attention_dropout", "layer_drop", "feature_gradient", "init", "extra")
CODEBOOK = ("groups", "entries", "code_dim", "projection")  # sizes of what may be made anew
GROWING = ("layers", "dim", "heads", "ffn")  # sizes that may be larger than the start's where `Run.grow` says how


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
            earlier = [one for of in ("start", "teacher") for one in (about.get(of) or {}).get("heard", [])]
            annealing = [p["objective"]["temperature"] for p in config["players"] if _annealed(p["objective"])]
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
        """The kind of network, as its `ModelSpec`."""
        if self.kind == "checkpoint":
            return type(opened(self.folder).spec)
        return type(recipes.get(f"{self.of['recipe']}:{self.of['size']}").model)

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


def continued(run: Run, start: str, home: Path, given: Collection[str] = ()) -> Run:
    """`run` as it goes on from the weights in `start`, a folder relative to `home`.

    The network and its front end are those of the start, with how it is trained (dropout and the like) from `run`; strides follow
    the rate of the front end, so that frames last as long as they did. A Gumbel temperature goes on where it ended; where that is not
    known, at the least of the schedule; where there is no quantizer to go on with, from the beginning.

    given: dotted fields of `run` that were asked for (as in "model.layers"): they stay. A lower number of layers keeps the first ones.
    Where `run.grow` is set, so do its numbers of layers, dimensions and heads.
    Raises OvertureError where such a field does not fit the weights, and for a start of another recipe.
    """
    origin = Origin.open(start, home)
    if origin.of["size"] == "finetune":
        raise OvertureError(f"{origin.folder} is a fine-tuned model: pre-training goes on from what that was made of")
    if origin.network is not type(run.model):
        raise OvertureError(
            f"{origin.folder} is a {origin.of['recipe']}, and cannot be gone on with as {run.recipe}, which is another network: "
            f"overture run {origin.of['recipe']} --start ..."
        )
    where = f"{origin.folder}"
    frontend = _with(from_dict(run.frontend, origin.frontend, where=where), run.frontend, "frontend", given)
    if run.on_text:
        frontend = origin.tokens(frontend)
    own = {*TRAINING, *(GROWING if run.grow else ())}
    sizes = {name: value for name, value in origin.sizes.items() if name not in own}
    model = _with(from_dict(run.model, sizes, where=where), run.model, "model", given)
    if isinstance(model, Wav2Vec2) and "model.conv_stride" not in given:
        model = model.for_rate(frontend.rate)
    weights = origin.weights()
    _hold(model, frontend, origin, weights, grows=run.grow is not None)
    return replace(
        run,
        frontend=frontend,
        model=model,
        players=tuple(_warm(player, i, origin, given) for i, player in enumerate(run.players))
        if _quantizes(weights)
        else run.players,
        start=start,
        start_weights=weights_fingerprint(weights),
    )


def taught_by(run: Run, teacher: str, home: Path) -> Run:
    """`run` as the weights in `teacher`, a folder relative to `home`, teach it, and named after them. Raises OvertureError where there are none."""
    return replace(run, teacher=teacher, teacher_weights=weights_fingerprint(Origin.open(teacher, home).weights()))


def said_of_teacher(run: Run, home: Path) -> Report | None:
    """Which run teaches `run` and what that has heard, as it goes into `run.json`; None where none does."""
    if run.teacher is None:
        return None
    origin = Origin.open(run.teacher, home)
    return {"path": run.teacher, "weights": run.teacher_weights, "of": origin.of, "heard": origin.heard}


def published_run(folder: Path) -> Run:
    """A checkpoint folder of transformers as a run: its sizes and its front end, and the rest as the paper of wav2vec 2.0 has it or, of text, as the
    recipe that it was exported from or that has such a network.

    Raises OvertureError when it is none, or of another network.
    """
    found = opened(folder)
    if isinstance(found, PublishedText):
        origin = Origin.open(folder.name, folder.parent)
        recipe = recipes.get(origin.of["recipe"])
        return found.run(recipe, from_dict(recipe.frontend, origin.frontend, where=f"{folder}"))
    return replace(recipes.get("wav2vec2:published"), model=found.spec, frontend=Waveform(rate=found.rate))


def load(run: Run, model: nn.Module, home: Path) -> Report:
    """Fill the encoder of `model` (or all of it) with what `run.start` names; the report, as it goes into `run.json`.

    Raises OvertureError, with `model` as it was, for weights that are missing or left over without a reason, or of another size, and
    for a start that is not the one this run is named after.
    """
    assert run.start is not None
    origin = Origin.open(run.start, home)
    weights = origin.weights()
    mark = weights_fingerprint(weights)
    if run.start_weights not in (None, mark):
        raise OvertureError(
            f"{origin.folder} has other weights ({mark}) than those this run is named after ({run.start_weights}): it has changed "
            "since. Give the command again"
        )
    encoder: nn.Module = getattr(model, "encoder", model)
    spec: ModelSpec = getattr(run.model, "encoder", run.model)
    if encoder is model or isinstance(spec, Wav2Vec2):
        _hold(spec, run.frontend, origin, weights, grows=run.grow is not None)
    before = _sizes(origin.sizes)
    if run.grow is not None:
        weights = _grown(run, spec, origin, weights, stored(encoder))
    matched, missing, unused = _fill(encoder, weights, origin, int(getattr(spec, "layers", 0)))
    fresh = any(_quantizes(names) for names in missing.values())
    layers, rates = origin.sizes.get("layers"), (origin.frontend.get("rate"), getattr(run.frontend, "rate", None))
    begins = next((p.objective.temperature.at(0) for p in run.players if _annealed(p.objective)), None)  # type: ignore[attr-defined]
    return {
        "path": run.start,
        "kind": origin.kind,
        "weights": mark,
        "of": origin.of,
        "matched": matched,
        "missing": missing,
        "unused": unused,
        "quantizer": ("fresh" if fresh else "kept") if _quantizes(encoder.state_dict()) else None,
        "layers": {"kept": min(getattr(spec, "layers", layers), layers) if layers else layers, "of": layers},
        "grown": run.grow and {"method": run.grow.method, "seed": run.seed, "of": before, "to": _sizes(to_dict(spec))},
        "rate": dict(zip(("before", "now"), rates)),  # None: of text
        "strides": {"before": origin.sizes.get("conv_stride"), "now": to_dict(getattr(spec, "conv_stride", None))},
        "temperature": {"ended": origin.temperature, "begins": begins},
        "optimizer": "fresh",
        "heard": origin.heard,
        "note": origin.note,
    }


def said(report: Report) -> str:
    """The report in a few sentences, for people."""
    of, layers, rate, strides = (report[k] for k in ("of", "layers", "rate", "strides"))
    known = f", a {of['recipe']} of {of['updates']} updates" if of["updates"] is not None else ""
    parts = [
        f"starts from {Path(report['path']).name} (weights {report['weights']}{known}): {report['matched']} tensors fitted"
    ]
    for what in ("missing", "unused"):
        parts += [f"{len(names)} {what}: {why}" for why, names in report[what].items()]
    if report["quantizer"]:
        parts.append(f"quantizer {'kept' if report['quantizer'] == 'kept' else 'FRESH, since the checkpoint has none'}")
    if grown := report["grown"]:
        of, to = (", ".join(f"{name} {size}" for name, size in grown[side].items()) for side in ("of", "to"))
        parts.append(f"GROWN by {grown['method']}, drawn from seed {grown['seed']}: {of}, and now {to}")
    if layers["of"] is not None and layers["kept"] != layers["of"]:
        parts.append(f"the first {layers['kept']} of {layers['of']} layers")
    if rate["before"] != rate["now"]:
        parts.append(f"{rate['before']} Hz before, {rate['now']} Hz now")
    if strides["before"] != strides["now"]:
        parts.append(f"strides {strides['before']} before, {strides['now']} now")
    ended, begins = (report["temperature"][k] for k in ("ended", "begins"))
    unknown = "as the quantizer is fresh" if report["quantizer"] == "fresh" else "where it had ended is not known"
    if begins is not None:
        how = "goes on" if begins == ended else f"had ended at {ended:.4g}" if ended is not None else unknown
        parts.append(f"Gumbel temperature {begins:.4g} ({how})")
    return "; ".join([*parts, "optimizer fresh", *([report["note"]] if report["note"] else [])])


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


def _frontend(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The front end of a run folder's configuration; of text with its tokenizer, which lies there, kept and named."""
    found: dict[str, Any] = config["frontend"]
    if "vocabulary" not in found or found["published"] is not None:
        return found
    from tokenizers import Tokenizer

    if not (folder / FILE).exists():
        raise OvertureError(f"{folder} has no {FILE}, the tokenizer that it was trained with: train it anew")
    return {**found, "kept": keep(Tokenizer.from_file(str(folder / FILE)))}


def _quantizes(names: Collection[str]) -> bool:
    """Whether a quantizer is among the weights of these names."""
    return any("quantizer." in name for name in names)


def _annealed(objective: Any) -> bool:
    """Whether an objective, or its JSON, has a temperature that falls."""
    if isinstance(objective, Mapping):
        return isinstance(objective.get("temperature"), Mapping)
    return isinstance(getattr(objective, "temperature", None), Annealing)


def _asked(given: Collection[str], path: str) -> bool:
    """Whether the field at `path`, a part of it, or what it is part of is among the `given`."""
    return any(f"{g}.".startswith(f"{path}.") or f"{path}.".startswith(f"{g}.") for g in given)


def _with(theirs: Any, ours: Any, prefix: str, given: Collection[str]) -> Any:
    """`theirs` with those fields of `ours` that are `given` as "prefix.field"."""
    names = [f.name for f in fields(ours) if _asked(given, f"{prefix}.{f.name}")]
    return replace(theirs, **{name: getattr(ours, name) for name in names})


def _warm(player: Player, index: int, origin: Origin, given: Collection[str]) -> Player:
    """`player` with the temperature of its softmax going on where it had ended, unless it is `given`."""
    objective: Any = player.objective
    if not _annealed(objective) or _asked(given, f"players.{index}.objective.temperature.first"):
        return player
    annealing: Annealing = objective.temperature
    first = annealing.least if origin.temperature is None else origin.temperature
    warm = replace(annealing, first=first, least=min(first, annealing.least))
    return replace(player, objective=replace(objective, temperature=warm))


def _sizes(model: Mapping[str, Any]) -> dict[str, Any]:
    """Those that grow."""
    return {name: model[name] for name in GROWING if name in model}


def _grown(
    run: Run, spec: ModelSpec, origin: Origin, weights: Mapping[str, Tensor], fresh: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """`weights` at the sizes of `spec`, as `run.grow` says; what `fresh` has no name for, the head of another task, as it is.

    Heads of a pre-training are of its own sizes and are left behind.
    """
    assert run.grow is not None
    sizes = {name: value for name, value in origin.sizes.items() if name not in TRAINING}
    small = from_dict(spec, sizes, where=f"{origin.folder}")
    own = {n: v for n, v in fresh.items() if not n.startswith(PRETEXT)}
    given = {n: v for n, v in weights.items() if not n.startswith(PRETEXT)}
    grown = surgery.grow({n: v for n, v in given.items() if n in own}, small, spec, run.grow, run.seed, own)
    return grown | {n: v for n, v in given.items() if n not in own}


def _hold(
    spec: ModelSpec, frontend: Frontend, origin: Origin, weights: Mapping[str, Tensor], *, grows: bool = False
) -> None:
    """Raises OvertureError where a network of these sizes would make something else of the same weights, or could not take them."""
    free = {*TRAINING, *(() if _quantizes(weights) else CODEBOOK), *(GROWING if grows else ())}
    if isinstance(spec, Wav2Vec2):
        free |= {"conv_stride", "frame_rate"}  # `build` holds them against the rate of the front end
    for name, ours in to_dict(spec).items():
        theirs = origin.sizes.get(name, ours)
        if ours == theirs or name in free or (name == "layers" and ours < theirs):
            continue
        way = "model.layers may be lowered" if name == "layers" else "leave it as it is"
        larger = ", let it grow (--set grow.method=aki)" if name in GROWING and ours > theirs else ""
        raise OvertureError(
            f"model.{name}={ours} does not fit the weights in {origin.folder}, made with {theirs}: it is of another model. Either {way}{larger}, "
            "or train from fresh weights"
        )
    for name, ours in to_dict(frontend).items():
        theirs = origin.frontend.get(name, ours)
        if ours != theirs and not (name == "rate" and isinstance(spec, Wav2Vec2)):
            raise OvertureError(
                f"frontend.{name}={ours} is not what the weights in {origin.folder} have heard, {theirs}: leave it as it is, or train "
                "from fresh weights"
            )


def _fill(
    encoder: nn.Module, weights: Mapping[str, Tensor], origin: Origin, layers: int
) -> tuple[int, dict[str, list[str]], dict[str, list[str]]]:
    """Copy `weights` into `encoder` by name: how many fitted, and by reason the names that were missing and left over.

    Raises OvertureError, before anything is copied, for one without a reason, or of another shape.
    """
    own = stored(encoder)
    missing: dict[str, list[str]] = {}
    unused: dict[str, list[str]] = {}
    unexplained: list[str] = []
    bare = origin.kind == "checkpoint" and not any(name.startswith(QUANTIZER) for name in weights)
    for name in (n for n in own if n not in weights):
        if origin.kind == "checkpoint" and name == MASK:
            missing.setdefault("the mask vector, which the checkpoint never used, so fresh", []).append(name)
        elif bare and name.startswith(QUANTIZER):
            missing.setdefault("of pre-training, which a bare or fine-tuned encoder lacks, so fresh", []).append(name)
        elif origin.kind == "checkpoint" and (why := why_missing(name, weights)):
            missing.setdefault(why, []).append(name)
        elif name.startswith(PRETEXT):
            missing.setdefault("a head of this pre-training that the start lacks, so fresh", []).append(name)
        else:
            unexplained.append(name)
    for name in (n for n in weights if n not in own):
        layer = layer_of(name)
        if layer is not None and layers and layers <= layer < int(origin.sizes.get("layers", 0)):
            unused.setdefault(f"layers above the first {layers}", []).append(name)
        elif origin.kind == "checkpoint" and re.sub(r"^network\.(wav2vec2\.)?", "", name).startswith(HEADS):
            unused.setdefault("the head of another task", []).append(name)
        elif origin.kind == "checkpoint" and (why := why_unused(name)):
            unused.setdefault(why, []).append(name)
        elif name.startswith(PRETEXT):
            unused.setdefault("a head of the pre-training before", []).append(name)
        else:
            unexplained.append(name)
    if unexplained:
        more = f" and {len(unexplained) - 5} more" if len(unexplained) > 5 else ""
        raise OvertureError(
            f"{origin.folder} does not fit this network: {', '.join(sorted(unexplained)[:5])}{more} stand on one side only: it is of another model"
        )
    matched = [name for name in own if name in weights]
    for name in matched:
        if weights[name].shape != own[name].shape:
            raise OvertureError(
                f"{origin.folder} does not fit this network: {name} is {tuple(weights[name].shape)} there and {tuple(own[name].shape)} here: it "
                "is of another model"
            )
    encoder.load_state_dict({name: weights[name] for name in matched}, strict=False)
    return len(matched), missing, unused
