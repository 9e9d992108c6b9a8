"""Linear layers whose matrix is made of fewer numbers: low rank, sparse, both, or a frozen one and low rank.

All are one module: the matrix is `scale` left @ right, and `values` added at `support`, and `weight` added, as far as a layer has them. It
lies as that of the dense layer does, (D_out, D_in) of nn.Linear and (D_in, D_out) of GPT-2's Conv1D, and everything that makes it stands
in a checkpoint, so `merged` needs no configuration. A sparse matrix is built for each product, forward and backward, and never kept: that
saves memory, not time (Han et al. 2024, arXiv:2406.02214, section 3.2).
"""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from overture.errors import OvertureError
from overture.models.transforms import Lora, LowRank, Masked, SparseLowRank, Transform

SUPPORT = 0x5EED  # purpose of a draw
PARTS = ("left", "right", "scale", "values", "support", "size", "weight")  # by which `merged` knows a layer of ours


def matrix(
    size: tuple[int, int], left: Tensor | None, right: Tensor | None, scale: float, values: Tensor, support: Tensor
) -> Tensor:
    """(I, R), (R, O), (N, 1) at (N,) flat places -> (I, O), fresh memory."""
    if left is None or right is None:
        made = values.new_zeros(size)
    else:
        made = (scale * left) @ right
    return made.view(-1).index_add_(0, support, values.view(-1)).view(size)


class Sparse(torch.autograd.Function):
    """x (..., D_in) times a matrix that is built here and in the backward pass anew, in x's precision: what is kept are x and the few numbers
    as they lie in the layer, so that no copies of them in another precision wait for the backward pass.

    With G the gradient of the matrix, those of its parts are scale G right^T, scale left^T G, and G at the support.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        left: Tensor | None,
        right: Tensor | None,
        values: Tensor,
        support: Tensor,
        scale: float,
        size: tuple[int, int],
        reads_rows: bool,
    ) -> Tensor:
        """`reads_rows`: x meets the rows of the matrix, as in Conv1D, and not its columns."""
        ctx.save_for_backward(x, left, right, values, support)
        ctx.scale, ctx.size, ctx.reads_rows = scale, size, reads_rows
        made = matrix(size, *_cast(x.dtype, left, right), scale, values.to(x.dtype), support)
        return x @ (made if reads_rows else made.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, left, right, values, support = ctx.saved_tensors
        kinds = [None if p is None else p.dtype for p in (left, right, values)]
        (left, right), values = _cast(x.dtype, left, right), values.to(x.dtype)
        given: Tensor | None = None
        if ctx.needs_input_grad[0]:
            made = matrix(ctx.size, left, right, ctx.scale, values, support)
            given = grad @ (made.T if ctx.reads_rows else made)
            del made
        if not any(ctx.needs_input_grad[1:4]):
            return given, *(None,) * 7
        rows, out = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
        whole = rows.T @ out if ctx.reads_rows else out.T @ rows  # (I, O)
        of_values = whole.view(-1).index_select(0, support).view_as(values)
        if left is None or right is None:
            return given, None, None, of_values.to(kinds[2]), *(None,) * 4
        of_left, of_right = ctx.scale * (whole @ right.T), ctx.scale * (left.T @ whole)
        return given, of_left.to(kinds[0]), of_right.to(kinds[1]), of_values.to(kinds[2]), *(None,) * 4


def _cast(kind: torch.dtype, left: Tensor | None, right: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    return None if left is None else left.to(kind), None if right is None else right.to(kind)


class Factored(nn.Module):
    """A linear layer of a transform. `scale`, `support` and `size` are buffers: they stay, and are stored."""

    left: Tensor | None  # (I, R)
    right: Tensor | None  # (R, O)
    values: Tensor | None  # (N, 1): a matrix to the optimizer, so that it decays as matrices do
    support: Tensor | None  # (N,) flat places, sorted, int32 where that suffices
    weight: Tensor | None  # (I, O), frozen
    bias: nn.Parameter | None

    def __init__(self, dense: nn.Module, transform: Transform, rng: np.random.Generator, *, trained: bool) -> None:
        """`dense`: an nn.Linear or a Conv1D, whose bias goes on here. Raises OvertureError where its matrix is too small for the transform."""
        super().__init__()
        weight: Tensor = dense.weight  # type: ignore[assignment]
        self.kind = type(dense)
        self.reads_rows = not isinstance(dense, nn.Linear)  # Conv1D
        self.shape = (int(weight.shape[0]), int(weight.shape[1]))  # (I, O)
        self.bias = dense.bias  # type: ignore[assignment]
        self.factor = 1.0
        for name in ("left", "right", "values", "weight"):
            self.register_parameter(name, None)
        self.register_buffer("support", None)
        like: dict[str, Any] = {"dtype": weight.dtype, "device": weight.device}
        inputs = self.shape[0] if self.reads_rows else self.shape[1]
        bound = 1 / math.sqrt(inputs)  # of a fresh nn.Linear
        if not isinstance(transform, Masked):
            self._factor(transform, inputs, bound, like)
        if isinstance(transform, Masked | SparseLowRank):
            kept = transform.density if isinstance(transform, SparseLowRank) else 1 - transform.sparsity
            known = weight if isinstance(transform, Masked) and trained else None
            support = _support(rng, self.shape, kept, known, weight.device)
            if isinstance(transform, Masked):
                values = weight.detach().reshape(-1)[support.long()]
            else:
                values = torch.empty(len(support), **like).uniform_(-bound, bound)
            self.values = nn.Parameter(values[:, None])
            self.register_buffer("support", support)
            self.register_buffer("size", torch.tensor(self.shape, dtype=torch.int64))
        if isinstance(transform, Lora):
            self.weight = nn.Parameter(weight.detach(), requires_grad=False)

    def _factor(
        self, transform: LowRank | SparseLowRank | Lora, inputs: int, bound: float, like: dict[str, Any]
    ) -> None:
        if not 0 < transform.rank < min(self.shape):
            raise OvertureError(
                f"transform.rank={transform.rank} of a matrix of {self.shape[0]} x {self.shape[1]}: it has to be above 0 and below {min(self.shape)}"
            )
        left, right = (
            torch.empty(self.shape[0], transform.rank, **like),
            torch.empty(transform.rank, self.shape[1], **like),
        )
        into, out = (left, right) if self.reads_rows else (right, left)  # A, which reads the input, and B
        nn.init.uniform_(into, -bound, bound)
        if isinstance(transform, LowRank):
            nn.init.normal_(out, std=1 / math.sqrt(transform.rank))  # a sum of `rank` products of that variance and A's
        else:
            nn.init.zeros_(out)
            self.factor = transform.alpha / transform.rank
        self.left, self.right = nn.Parameter(left), nn.Parameter(right)
        self.register_buffer("scale", torch.tensor(self.factor))

    def forward(self, x: Tensor) -> Tensor:  # (..., D_in) -> (..., D_out)
        left, right, values = self.left, self.right, self.values
        if values is not None:
            device = x.device.type
            cast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
            out: Tensor = Sparse.apply(  # type: ignore[no-untyped-call]
                x.to(cast), left, right, values, self.support, self.factor, self.shape, self.reads_rows
            )
            return out if self.bias is None else out + self.bias.to(cast)
        assert left is not None and right is not None
        into, out_of = (left.T, right.T) if self.reads_rows else (right, left)  # A and B
        if self.weight is None:
            return F.linear(F.linear(x, into), out_of, self.bias)
        frozen = F.linear(x, self.weight.T if self.reads_rows else self.weight, self.bias)
        return frozen + self.factor * F.linear(F.linear(x, into), out_of)

    def flops(self, tokens: int, *, skipping: bool = False) -> int:
        """Of a forward pass over so many tokens, a multiplication and an addition being two. `skipping`: as if zeros cost nothing, which no dense
        product here can do."""
        dense = self.shape[0] * self.shape[1]
        rank = 0 if self.left is None else self.left.shape[1]
        if self.values is None:
            return 2 * tokens * (rank * sum(self.shape) + (0 if self.weight is None else dense))
        if skipping:
            return 2 * tokens * (rank * sum(self.shape) + self.values.numel())
        return 2 * dense * (tokens + rank)

    @torch.no_grad()
    def dense(self) -> nn.Module:
        """The layer it stands for."""
        inputs, outputs = self.shape if self.reads_rows else self.shape[::-1]
        with torch.device("meta"):
            made = (
                self.kind(outputs, inputs)
                if self.reads_rows
                else self.kind(inputs, outputs, bias=self.bias is not None)
            )
        made.weight = nn.Parameter(merged({f"x.{n}": t for n, t in self.state_dict().items()})["x.weight"])
        if self.bias is not None:
            made.bias = self.bias
        return made.train(self.training)


def _support(
    rng: np.random.Generator, size: tuple[int, int], density: float, known: Tensor | None, device: torch.device
) -> Tensor:
    """So large a share of all places, drawn, each once, sorted; of a `known` matrix, those that are not zero."""
    places = size[0] * size[1]
    count = math.floor(density * places + 1e-6)  # a share of 1 - 0.9 is meant to be 0.1
    if not 0 < count < places:
        raise OvertureError(
            f"a share of {density:g} of {size[0]} x {size[1]} weights is {count} of them: neither none nor all can be the support"
        )
    kind = torch.int32 if places < 2**31 else torch.int64
    if device.type == "meta":
        return torch.empty(count, dtype=kind, device=device)
    if known is not None:
        found = known.detach().reshape(-1).nonzero().view(-1)
        if len(found) > count:
            raise OvertureError(
                f"transform.sparsity leaves {count} of {places} weights, and the start has {len(found)} that are not zero: it was not "
                "trained as sparse. Go on with dense layers (--transform none) or with --transform lora"
            )
        return found.to(kind)
    drawn = rng.choice(places, count, replace=False, shuffle=False)
    return torch.from_numpy(np.sort(drawn)).to(device, kind)


def draw(seed: int, name: str) -> np.random.Generator:
    """The generator of one layer's support: a function of the seed and the layer's name, and of nothing else."""
    return np.random.default_rng([seed, SUPPORT, zlib.crc32(name.encode())])


@torch.no_grad()
def merged(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by name, with those of transforms as the one matrix that they make, in fp32 or finer, under the name of the dense layer's."""
    own: dict[str, dict[str, Tensor]] = {}
    found: dict[str, Tensor] = {}
    for prefix in factored(weights):
        own[prefix] = {part: weights[f"{prefix}.{part}"] for part in PARTS if f"{prefix}.{part}" in weights}
    for name, value in weights.items():
        prefix, _, part = name.rpartition(".")
        if prefix not in own or part not in PARTS:
            found[name] = value
            continue
        parts = own[prefix]
        if f"{prefix}.weight" in found:
            continue
        left, right, base = parts.get("left"), parts.get("right"), parts.get("weight")
        if left is not None and right is not None:
            made = float(parts["scale"]) * (left @ right)
        else:
            made = parts["values"].new_zeros(parts["size"].tolist())
        if "support" in parts:
            made.view(-1).index_add_(0, parts["support"], parts["values"].view(-1))
        found[f"{prefix}.weight"] = made if base is None else made + base
    return found


def factored(names: Mapping[str, Any]) -> list[str]:
    """The layers of a transform among these names of weights."""
    made = [n.removesuffix(".support") for n in names if n.endswith(".support")]
    made += [n.removesuffix(".left") for n in names if n.endswith(".left")]
    return sorted({p for p in made if {f"{p}.scale", f"{p}.size"} & names.keys()})
