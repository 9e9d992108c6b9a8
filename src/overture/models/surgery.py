"""Weight surgery by named axes: a larger network out of a smaller one's weights, and differences of weights carried over.

Growth is bert2BERT's (Chen et al. 2022, arXiv:2110.07143, section 3). An axis grows by a map that says of which index of the small network each
of the large one is a copy: what a layer writes is copied, and what it reads is divided by how often it occurs, so every sum stays what it
was. FPI takes copies of a layer from that layer: the function is preserved but for norms, whose mean and variance count each copy (and
exactly where all indices are copied equally often). AKI takes what a layer's products newly write from the layer above, which tells
copies apart. The residual stream has one map; heads are copied whole, so that the scale of attention stays. `stack` adds layers, `copy` is
the paper's DirectCopy.

Fewer layers need no surgery: `run --start` with a lower model.layers keeps the first ones (`models.start`). Weights are name -> tensor, as
`train.state.stored` gives them; which axis a dimension is, `models.axes` says.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from overture.errors import OvertureError
from overture.models.axes import Axes, at_layer, axes, layer_of
from overture.run import Grow, ModelSpec

Weights = Mapping[str, Tensor]
HIDDEN, HEADS, FFN = 0, 1, 2  # purposes of draws
NORM, DIRECTION = (
    ".parametrizations.weight.original0",
    ".parametrizations.weight.original1",
)  # of a weight-normed product


@dataclass(frozen=True)
class Map:
    """Which index of the small network's axis each of the large one's is made of."""

    of: np.ndarray  # (N,) int
    new: np.ndarray  # (N,) bool: false once for each index of the small axis, where that itself stands

    @classmethod
    def drawn(cls, small: int, large: int, rng: np.random.Generator) -> "Map":
        """The first are themselves, each further one a copy of any, all alike."""
        return cls(
            np.concatenate([np.arange(small), rng.integers(small, size=large - small)]), np.arange(large) >= small
        )

    @property
    def copies(self) -> np.ndarray:
        """(N,) how often what an index is made of occurs."""
        found: np.ndarray = np.bincount(self.of)[self.of]
        return found

    def each(self, size: int) -> "Map":
        """With `size` indices in place of each, side by side: whole heads."""
        return Map((self.of[:, None] * size + np.arange(size)).ravel(), self.new.repeat(size))

    def times(self, count: int) -> "Map":
        """The same again `count` times, one after the other: groups of channels; queries, keys and values."""
        small = int(self.of.max()) + 1
        return Map((self.of + small * np.arange(count)[:, None]).ravel(), np.tile(self.new, count))


@dataclass(frozen=True)
class Maps:
    """Those of all axes. `heads` and `ffn` have one for each layer of the small network."""

    group: Map  # of the stream, or the part of it that a group of the positional convolution reads
    groups: int
    heads: tuple[Map, ...]
    ffn: tuple[Map, ...]

    @classmethod
    def drawn(cls, small: Axes, large: Axes, seed: int) -> "Maps":
        """Raises OvertureError where the large network is no larger one of the same heads."""
        for name in ("hidden", "heads", "ffn", "layers"):
            if getattr(large, name) < getattr(small, name):
                raise OvertureError(
                    f"a network grows: {name} of {getattr(small, name)} cannot become {getattr(large, name)}"
                )
        if small.head != large.head:
            raise OvertureError(
                f"heads of size {small.head} cannot become heads of size {large.head}, for they are copied whole: set model.heads to "
                f"{large.hidden / small.head:g}"
            )

        def draw(purpose: int, layer: int, a: int, b: int) -> Map:
            return Map.drawn(a, b, np.random.default_rng((seed, purpose, layer)))

        return cls(
            draw(HIDDEN, 0, small.hidden // small.groups, large.hidden // large.groups),
            large.groups,
            tuple(draw(HEADS, i, small.heads, large.heads).each(small.head) for i in range(small.layers)),
            tuple(draw(FFN, i, small.ffn, large.ffn) for i in range(small.layers)),
        )

    def at(self, axis: str, layer: int | None) -> Map:
        """The map of an axis as `models.axes` names it."""
        if axis == "group":
            return self.group
        if axis == "hidden":
            return self.group.times(self.groups)
        found = (self.ffn if axis == "ffn" else self.heads)[layer or 0]
        return found.times(3) if axis == "qkv" else found


def grow(
    weights: Weights, small: ModelSpec, large: ModelSpec, how: Grow, seed: int, fresh: Weights
) -> dict[str, Tensor]:
    """The weights of a network of the sizes `small` as those of one of the sizes `large`; maps are drawn from `seed`.

    fresh: weights of such a large network as it is initialised; only `copy` takes values of it.
    Raises OvertureError for sizes that do not fit, and for a parameter that the architecture does not have.
    """
    before, after = axes(small), axes(large)
    if before == after:
        raise OvertureError("grow: the start has the very sizes of this run, so nothing is to grow: leave it out")
    maps = Maps.drawn(before, after, seed)
    given = unfolded(weights)
    if how.method == "copy":
        grown = copy(given, before, maps, unfolded(fresh))
    else:
        if how.method != "stack":
            given = widen(given, before, maps, above=how.method == "aki")
        elif (before.hidden, before.ffn) != (after.hidden, after.ffn):
            raise OvertureError(
                f"grow.method=stack adds layers alone, and here the width is to grow, from {before.hidden} and {before.ffn} to "
                f"{after.hidden} and {after.ffn}: take fpi or aki, which then stack too"
            )
        grown = stack(given, before.layers, after.layers)
    return folded(grown, fresh)


def widen(weights: Weights, small: Axes, maps: Maps, *, above: bool = False) -> dict[str, Tensor]:
    """Every axis by its map: FPI, or with `above` AKI, which in the last layer is FPI too.

    AKI takes of the layer above what its products and their biases write at the new indices, by its own maps. Norms are of the layer itself.
    """
    found = {}
    for name, value in weights.items():
        words, layer = small.of(name), layer_of(name)
        found[name] = own = _widened(name, value, words, layer, small, maps)
        written = [d for d, word in enumerate(words) if word[0] not in "/=-*"]
        if above and written and layer is not None and layer + 1 < small.layers:
            upper = at_layer(name, layer + 1)
            other = _widened(upper, weights[upper], words, layer + 1, small, maps)
            new = _along(maps.at(words[written[0]], layer).new, written[0], own)
            found[name] = torch.where(new, other, own)
    return found


def _widened(name: str, value: Tensor, words: tuple[str, ...], layer: int | None, small: Axes, maps: Maps) -> Tensor:
    for dim, word in enumerate(words):
        if word[0] in "-*":
            continue
        axis = maps.at(word.lstrip("/="), layer)
        if value.shape[dim] != int(axis.of.max()) + 1:
            raise OvertureError(
                f"{name} is {tuple(value.shape)}, and its {word.lstrip('/=')} should be {int(axis.of.max()) + 1}: it is of another model"
            )
        value = value.index_select(dim, torch.from_numpy(axis.of))
        if word[0] == "/":
            value = value / _along(axis.copies, dim, value)
    return value


def copy(weights: Weights, small: Axes, maps: Maps, fresh: Weights) -> dict[str, Tensor]:
    """`fresh` with `weights` in its corner, in its lower layers: DirectCopy. `maps` say where the corner is; nothing is copied twice."""
    above = {name for name in fresh if (layer_of(name) or 0) >= small.layers}
    found = {name: value.clone() for name, value in fresh.items() if name in weights or name in above}
    for name, value in weights.items():
        words, layer = small.of(name), layer_of(name)
        kept = [
            np.arange(size) if word[0] in "-*" else np.flatnonzero(~maps.at(word.lstrip("/="), layer).new)
            for size, word in zip(value.shape, words if words != ("*",) else "*" * value.ndim)
        ]
        found[name][np.ix_(*kept)] = value
    return found


def stack(weights: Weights, layers: int, wanted: int) -> dict[str, Tensor]:
    """`layers` become `wanted`: all of them as often as they go into that, one upon the other, and the rest from their top."""
    whole = wanted // layers * layers
    found = {name: value for name, value in weights.items() if layer_of(name) is None}
    for name, value in weights.items():
        layer = layer_of(name)
        if layer is not None:
            found |= {at_layer(name, i): value for i in range(layer, whole, layers)}
            if layer >= layers - (wanted - whole):
                found[at_layer(name, whole + layer - (layers - (wanted - whole)))] = value
    return found


def difference(of: Weights, base: Weights) -> dict[str, Tensor]:
    """`of` - `base`, tensor by tensor, in float32 at least: in bf16 most of so small a number would be lost.

    The instruction residual of arXiv:2410.10739, or a task vector. Raises OvertureError where names or shapes are not the same.
    """
    _alike(of, base)
    return {name: _wide(value) - _wide(base[name]) for name, value in of.items()}


def add(weights: Weights, change: Weights, scale: float = 1.0) -> dict[str, Tensor]:
    """`weights` + `scale` x `change`, summed in the wider type of both, and then of the type that the weights had. Raises as `difference`."""
    _alike(weights, change)
    return {n: (_wide(value) + scale * _wide(change[n])).to(value.dtype) for n, value in weights.items()}


def _wide(value: Tensor) -> Tensor:
    return value.to(torch.promote_types(value.dtype, torch.float32))


def _alike(one: Weights, other: Weights) -> None:
    if alone := sorted(one.keys() ^ other.keys()):
        raise OvertureError(
            f"weights of two different networks: {', '.join(alone[:5])}{', ...' * (len(alone) > 5)} stand on one side only"
        )
    for name, value in one.items():
        if value.shape != other[name].shape:
            raise OvertureError(
                f"weights of two different networks: {name} is {tuple(value.shape)} on one side and {tuple(other[name].shape)} on the other"
            )


def unfolded(weights: Weights) -> dict[str, Tensor]:
    """With the product itself in place of its norm and its direction, where it is weight-normed."""
    found = {name: value for name, value in weights.items() if not name.endswith((NORM, DIRECTION))}
    for name, direction in weights.items():
        if name.endswith(DIRECTION):
            base = name.removesuffix(DIRECTION)
            size = weights[base + NORM]
            found[base + ".weight"] = size * direction / _norm(direction, size)
    return found


def folded(weights: Weights, like: Weights) -> dict[str, Tensor]:
    """The reverse of `unfolded`, for the names that `like` has so."""
    found = dict(weights)
    for name in (n for n in like if n.endswith(DIRECTION)):
        base = name.removesuffix(DIRECTION)
        found[name] = product = found.pop(base + ".weight")
        found[base + NORM] = _norm(product, like[base + NORM])
    return found


def _norm(product: Tensor, like: Tensor) -> Tensor:
    """Over all dimensions that `like` has one of."""
    found: Tensor = torch.linalg.vector_norm(product, dim=[d for d, n in enumerate(like.shape) if n == 1], keepdim=True)
    return found


def _along(values: np.ndarray, dim: int, like: Tensor) -> Tensor:
    """(N,) with as many dimensions as `like`, N being its `dim`."""
    shape = [1] * like.ndim
    shape[dim] = len(values)
    return torch.from_numpy(values).to(like.dtype if values.dtype != bool else torch.bool).view(shape)
