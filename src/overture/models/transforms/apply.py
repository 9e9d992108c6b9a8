"""Put a transform in place of a network's dense layers, take it away again, and count what it costs."""

import re
from dataclasses import dataclass

import torch
from torch import nn

from overture.errors import OvertureError
from overture.models.transforms import LAYERS, Lora, LowRank, SparseLowRank, Transform
from overture.models.transforms.linear import Factored, draw
from overture.run import Run


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The dense products of a network by name: nn.Linear, and Conv1D as GPT-2 has it."""
    return {n: m for n, m in model.named_modules() if type(m) is nn.Linear or _is_conv1d(m)}


def _is_conv1d(module: nn.Module) -> bool:
    kind = type(module)
    return (kind.__module__, kind.__name__) == ("transformers.pytorch_utils", "Conv1D")


def apply(model: nn.Module, transform: Transform, *, seed: int, trained: bool = False) -> list[str]:
    """Replace dense layers of `model`, in place: those within its layers whose names `transform.include` is found in. Returns their names.

    Fresh factors come from torch's current generator, supports from `seed` and the layer's name. `trained`: whether the weights of
    `model` mean something, as after `--start`. Raises OvertureError, with `model` as it was, where nothing is found, for a transform that wants
    fresh weights or trained ones and has the others, and where a layer is too small for it.
    """
    if trained and isinstance(transform, LowRank | SparseLowRank):
        raise OvertureError(
            "a low-rank transform begins with weights of its own, so nothing of a start would be left in its layers: go on with dense "
            "layers (--transform none), or adapt them with --transform lora"
        )
    if not trained and isinstance(transform, Lora):
        raise OvertureError("--transform lora adapts weights that have learnt something: name them with --start")
    found = {n: m for n, m in linear_layers(model).items() if re.search(LAYERS, n) and re.search(transform.include, n)}
    elsewhere = [n for n, m in model.named_modules() if getattr(m, "kept_elsewhere", False)]
    if kept := [n for n in found for home in elsewhere if n.startswith(f"{home}.")]:
        raise OvertureError(
            f"{kept[0]} is of a published network that learns nothing and is in no checkpoint: set model.lm.frozen=false, and say with "
            r"players.0.parameters what learns, as in '^adapter|\.(left|right)$'"
        )
    if not found:
        within = [n for n in linear_layers(model) if re.search(LAYERS, n)]
        raise OvertureError(
            f"transform.include={transform.include!r} is found in none of the {len(within)} linear layers of attention and feed-forward: "
            f"{', '.join(within[:8])}, ..."
        )
    made = {name: Factored(m, transform, draw(seed, name), trained=trained) for name, m in found.items()}
    for name, layer in made.items():
        model.set_submodule(name, layer)
    return list(made)


def outline(run: Run) -> nn.Module:
    """The network of a run as it is trained, without numbers (on the meta device): to count by."""
    with torch.device("meta"):
        model: nn.Module = run.model.build(run.frontend)
        if run.transform is not None:
            apply(model, run.transform, seed=run.seed, trained=isinstance(run.transform, Lora))
    return model


def merge(model: nn.Module) -> nn.Module:
    """`model` with its dense layers back, in place: same outputs, and the names of weights that it had before `apply`."""
    for name, layer in [(n, m) for n, m in model.named_modules() if isinstance(m, Factored)]:
        model.set_submodule(name, layer.dense())
    return model


@dataclass(frozen=True)
class Counts:
    """What a network costs."""

    parameters: int
    trained: int  # of these
    bytes: int  # of parameters and buffers, as they lie in memory
    flops: int  # of a forward pass through all linear layers, as it is done here
    skipping: int  # the same where zeros cost nothing


def counts(model: nn.Module, tokens: int = 1) -> Counts:
    """`tokens` (or frames): that pass through each linear layer at once. What attention multiplies besides is not in the FLOPs."""
    parameters = list(model.parameters())
    flops = skipping = 0
    for layer in linear_layers(model).values():
        of = 2 * tokens * layer.weight.numel()  # type: ignore[operator]
        flops, skipping = flops + of, skipping + of
    for layer in (m for m in model.modules() if isinstance(m, Factored)):
        flops, skipping = flops + layer.flops(tokens), skipping + layer.flops(tokens, skipping=True)
    return Counts(
        parameters=sum(p.numel() for p in parameters),
        trained=sum(p.numel() for p in parameters if p.requires_grad),
        bytes=sum(t.numel() * t.element_size() for t in [*parameters, *model.buffers()]),
        flops=flops,
        skipping=skipping,
    )
