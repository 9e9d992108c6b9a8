"""Modality adapters: states of a speech encoder become vectors that a language model reads in place of embedded tokens.

`ConvGlu` is BLSP's (Wang et al. 2023, arXiv:2309.00916), as its code has it; `PoolLinear` is Qwen-Audio's (Chu et al. 2023,
arXiv:2311.07919), without the norm that stands between its pooling and its linear layer, for a Whisper encoder of transformers has had that
norm already. Lengths stay honest: padding reaches no vector of an utterance, whatever stands in it.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from overture.data.batch import valid_mask
from overture.data.lengths import N, windows
from overture.errors import OvertureError


@dataclass(frozen=True, kw_only=True)
class ConvGlu:
    """Strided convolutions, each halving the length and followed by a gated linear unit, a residual bottleneck, and a layer norm.

    768 -> 4096 with these sizes has 47,467,520 parameters and makes 188 vectors of 1500 states: 50 Hz become 6.25 Hz.
    """

    kernels: tuple[int, ...] = (5, 5, 5)  # steps, odd; one for each convolution, of stride 2
    width: int | None = None  # of what the gates before the last let through; None: as wide as the states
    bottleneck: int = 512

    def __post_init__(self) -> None:
        if not self.kernels or any(k < 1 or k % 2 == 0 for k in self.kernels):
            raise OvertureError(
                f"adapter.kernels={list(self.kernels)}: each is odd, so that its middle stands on a state"
            )

    def steps(self, count: N) -> N:
        """Vectors of `count` states: an int, or an integer array or tensor."""
        for kernel in self.kernels:
            count = windows(count, kernel, 2, kernel // 2)
        return count

    def build(self, inputs: int, outputs: int) -> "Adapter":
        """From states of `inputs` to vectors of `outputs` dimensions, with fresh weights from torch's current generator."""
        return ConvGluAdapter(self, inputs, outputs)


@dataclass(frozen=True, kw_only=True)
class PoolLinear:
    """The mean of each `pool` states, side by side, and a linear layer. A last, smaller group is its own mean."""

    pool: int = 2

    def __post_init__(self) -> None:
        if self.pool < 1:
            raise OvertureError(f"adapter.pool={self.pool}: at least one state makes a vector")

    def steps(self, count: N) -> N:
        """Vectors of `count` states: an int, or an integer array or tensor."""
        return windows(count, 1, self.pool)  # one begins at each `pool`-th state

    def build(self, inputs: int, outputs: int) -> "Adapter":
        """From states of `inputs` to vectors of `outputs` dimensions, with fresh weights from torch's current generator."""
        return PoolLinearAdapter(self, inputs, outputs)


class Adapter(nn.Module):
    """`adapter(x, lengths)`: (B, T, D) states, (B,) valid ones -> (B, T', E) vectors, (B,) valid ones; T' = steps(T)."""

    def __init__(self, spec: ConvGlu | PoolLinear, inputs: int, outputs: int) -> None:
        super().__init__()
        self.spec, self.inputs, self.outputs = spec, inputs, outputs

    def steps(self, lengths: Any) -> Any:
        """(B,) states -> (B,) vectors, tensor or array, or a number of each."""
        return self.spec.steps(lengths)


class ConvGluAdapter(Adapter):
    """See `ConvGlu`."""

    def __init__(self, spec: ConvGlu, inputs: int, outputs: int) -> None:
        super().__init__(spec, inputs, outputs)
        self.kernels = spec.kernels
        widths = [inputs, *[spec.width or inputs] * (len(spec.kernels) - 1), outputs]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(a, 2 * b, kernel, stride=2, padding=kernel // 2)
            for a, b, kernel in zip(widths, widths[1:], spec.kernels)
        )
        self.down = nn.Linear(outputs, spec.bottleneck, bias=False)
        self.up = nn.Linear(spec.bottleneck, outputs, bias=False)
        self.norm = nn.LayerNorm(outputs, eps=1e-5)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See `Adapter`."""
        for convolution, kernel in zip(self.convolutions, self.kernels):
            x = silenced(x, lengths)  # or a convolution would hear what stands behind the end
            x = F.glu(convolution(x.transpose(1, 2)), dim=1).transpose(1, 2)  # (B, T', D')
            lengths = windows(lengths, kernel, 2, kernel // 2)
        return self.norm(x + self.up(F.gelu(self.down(x)))), lengths


class PoolLinearAdapter(Adapter):
    """See `PoolLinear`."""

    def __init__(self, spec: PoolLinear, inputs: int, outputs: int) -> None:
        super().__init__(spec, inputs, outputs)
        self.pool = spec.pool
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See `Adapter`."""
        x = F.pad(silenced(x, lengths), (0, 0, 0, -x.shape[1] % self.pool))
        groups = x.unflatten(1, (-1, self.pool))  # (B, T', pool, D)
        counts = valid_mask(lengths, x.shape[1]).unflatten(1, (-1, self.pool)).sum(2)  # (B, T')
        mean = groups.sum(2) / counts.clamp(min=1)[..., None]
        return self.linear(mean), self.steps(lengths)


def silenced(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, D) with zeros behind each length."""
    return x.masked_fill(~valid_mask(lengths, x.shape[1])[..., None], 0)
