"""What a run starts from when not from fresh weights: an earlier run of ours, or a checkpoint in transformers' format (`published`).

A run on text goes on with the tokenizer that it began with: ids mean nothing to weights that learnt others.

Continued pre-training as in HYKIST (arXiv:2309.15869), Ainu (arXiv:2301.07295) and IndicWav2vec (arXiv:2111.03945). Weights are all that is taken
over: the optimizer, its schedule and the order of the data begin anew. Everything else that a reader has to know is in the report that goes into
`run.json`: which weights fitted, which were missing or left over and why, whether the quantizer is the old one, which layers and
strides were changed, at which Gumbel temperature it goes on, and what the weights had heard before.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from overture import recipes
from overture.config import from_dict, to_dict
from overture.data.features import Waveform
from overture.errors import OvertureError
from overture.models import surgery
from overture.models.axes import layer_of
from overture.models.origin import Origin, annealed, weights_fingerprint
from overture.models.published import PublishedText, opened, why_missing, why_unused
from overture.models.wav2vec2 import Wav2Vec2
from overture.quantize.gumbel import Annealing
from overture.run import Frontend, ModelSpec, Player, Run
from overture.train.state import stored

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
    begins = next((p.objective.temperature.at(0) for p in run.players if annealed(p.objective)), None)  # type: ignore[attr-defined]
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


def _quantizes(names: Collection[str]) -> bool:
    """Whether a quantizer is among the weights of these names."""
    return any("quantizer." in name for name in names)


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
    if not annealed(objective) or _asked(given, f"players.{index}.objective.temperature.first"):
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
