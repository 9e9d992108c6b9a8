"""A Transformer that says where frames of speech should flow to: the network of Voicebox (Le et al. 2023, arXiv:2306.15687, section 3.3) and ELaTE.

Frames on their way from noise, frames that are known and phones, side by side -> Linear -> + a convolution of themselves as position -> the time as a
token in front -> L pre-norm layers with rotary positions, of which each upper one first takes in the output of the lower one that mirrors it (U-Net)
-> LayerNorm -> Linear. The time is a token and no adaptive norm, as in the paper; Bao et al. (2022, "All are Worth Words", arXiv:2209.12152) found
that the better of the two beside such skips, and it costs no parameters a layer. Rotary positions for ALiBi, whose bias is (H, T, T) numbers.
Further streams of conditions come in through weights that begin at zero, so that a network which gets one computes what it did before.
An exported folder carries a copy of this file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import gcd, tau
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from overture.data.batch import valid_mask
from overture.models.attention import attention

KERNEL, GROUPS = 31, 16  # of the convolution that gives positions
PERIOD = 10_000.0  # steps, of the slowest rotation, but for a factor of 2 pi


class FlowConfig(PretrainedConfig):
    """`features`: F, channels of a frame; `phones`: classes of phone labels, from 0; `phone_dim`: of their vectors; `streams`: name -> channels of
    each further stream of conditions."""

    model_type = "overture_flow"

    def __init__(
        self,
        features: int = 80,
        frame_rate: float = 62.5,
        phones: int = 40,
        phone_dim: int = 128,
        streams: dict[str, int] | None = None,
        hidden_size: int = 256,
        num_hidden_layers: int = 6,
        num_attention_heads: int = 4,
        intermediate_size: int = 1024,
        dropout: float = 0.0,
        **kwargs: object,
    ) -> None:
        self.features, self.frame_rate = features, frame_rate
        self.phones, self.phone_dim, self.streams = phones, phone_dim, dict(streams or {})
        self.hidden_size, self.num_hidden_layers = hidden_size, num_hidden_layers
        self.num_attention_heads, self.intermediate_size = num_attention_heads, intermediate_size
        self.dropout = dropout
        super().__init__(**kwargs)


@dataclass(frozen=True)
class Condition:
    """All that frames are generated from. What is dropped is dropped here, so that no stream can be forgotten."""

    context: Tensor  # (B, T, F) frames that are known, 0 where they are not
    phones: Tensor  # (B, T) int64; `FlowConfig.phones` stands for: not told
    streams: Mapping[str, Tensor] = field(default_factory=dict)  # (B, T, Dl) of each

    def without(self, dropped: Tensor, null: int) -> Self:
        """The same with nothing left of the examples that are `dropped`, (B,) bool. `null`: the phone that says nothing."""
        gone = dropped[:, None, None]
        return type(self)(
            self.context.masked_fill(gone, 0.0),
            self.phones.masked_fill(dropped[:, None], null),
            {name: x.masked_fill(gone, 0.0) for name, x in self.streams.items()},
        )


@dataclass
class FlowOutput(ModelOutput):
    """`last_hidden_state` (B, T, D), `velocity` (B, T, F), and when asked `hidden_states`, (L + 1) of (B, T, D)."""

    last_hidden_state: Tensor | None = None
    velocity: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class FlowModel(PreTrainedModel):
    """The velocity of frames at a time, given what is known of them."""

    config_class = FlowConfig
    main_input_name = "input_values"

    def __init__(self, config: FlowConfig) -> None:
        super().__init__(config)
        d, count = config.hidden_size, config.num_hidden_layers
        self.phone = nn.Embedding(config.phones + 1, config.phone_dim)  # the last: not told
        self.project = nn.Linear(2 * config.features + config.phone_dim, d)
        self.streams = nn.ModuleDict({n: Silent(size, d, bias=False) for n, size in config.streams.items()})
        self.position = nn.Conv1d(d, d, KERNEL, padding=KERNEL // 2, groups=gcd(GROUPS, d))
        self.time = nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d))
        self.layers = nn.ModuleList(FlowLayer(config, skip=i >= count - count // 2) for i in range(count))
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, config.features)
        self.frame_rate, self.dim, self.null = config.frame_rate, d, config.phones
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Silent):
            init.zeros_(module.weight)
        elif isinstance(module, nn.Linear | nn.Conv1d):
            fan_in = module.weight[0].numel()
            init.normal_(module.weight, std=fan_in**-0.5)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, FlowLayer):  # comes after what is in it
            for last in (module.out, module.ffn[-1]):  # what is added up over all layers
                init.normal_(last.weight, std=(2 * self.config.num_hidden_layers * last.in_features) ** -0.5)

    def nothing(self, x: Tensor) -> Condition:
        """No condition for (B, T, F)."""
        streams = {n: x.new_zeros(*x.shape[:2], size) for n, size in self.config.streams.items()}
        return Condition(torch.zeros_like(x), x.new_full(x.shape[:2], self.null, dtype=torch.int64), streams)

    def hidden(self, x: Tensor, valid: Tensor, time: Tensor, condition: Condition) -> tuple[Tensor, ...]:
        """(B, T, F), (B, T) bool, (B,) from 0 to 1 -> (L + 1) of (B, T, D): what goes into the first layer first, the last normalised."""
        if condition.streams.keys() != self.config.streams.keys():
            raise ValueError(f"streams {sorted(condition.streams)}, and the network has {sorted(self.config.streams)}")
        h = self.project(torch.cat([x, condition.context, self.phone(condition.phones)], -1))  # (B, T, D)
        for name, stream in self.streams.items():
            h = h + stream(condition.streams[name])
        h = h * valid[..., None]  # what stands in the padding must not reach the convolution
        h = h + F.gelu(self.position(h.transpose(1, 2))).transpose(1, 2)
        token = self.time(waves(time, self.dim).to(h.dtype))[:, None]  # (B, 1, D)
        h = torch.cat([token, h], 1)  # (B, T + 1, D)
        rotation = rotations(h.shape[1], self.dim // self.config.num_attention_heads, h.device)
        attend = None if bool(valid.all()) else F.pad(valid, (1, 0), value=True)[:, None, None]  # (B, 1, 1, T + 1)
        states, lower = [h], list[Tensor]()
        for i, layer in enumerate(self.layers):
            h = layer(h, attend, rotation, lower.pop() if layer.join is not None else None)
            if i < len(self.layers) // 2:
                lower.append(h)
            states.append(h)
        states[-1] = self.norm(h)
        return tuple(s[:, 1:] for s in states)

    def steps(self, lengths: Tensor) -> Tensor:
        """(B,) frames -> (B,) states: as many."""
        return lengths

    def states(self, x: Tensor, lengths: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """(B, T, F) clean frames, (B,) how many are valid -> all hidden states at time 1, (L + 1) of (B, T, D), and their lengths (B,)."""
        valid, time = valid_mask(lengths, x.shape[1]), x.new_ones(len(x))
        return self.hidden(x, valid, time, self.nothing(x)), lengths

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        time: Tensor | None = None,
        condition: Condition | None = None,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> FlowOutput | tuple[Tensor, ...]:
        """`input_values` (B, T, F) frames at `time` (B,) of their way (None: 1, its end); `attention_mask` (B, T), true or 1 on valid frames;
        `condition` (None: nothing is told)."""
        x = input_values
        if attention_mask is None:
            attention_mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        time = x.new_ones(len(x)) if time is None else time
        states = self.hidden(x, attention_mask.bool(), time, condition or self.nothing(x))
        output = FlowOutput(
            last_hidden_state=states[-1],
            velocity=self.head(states[-1]),
            hidden_states=states if output_hidden_states else None,
        )
        return output if return_dict else output.to_tuple()


class Silent(nn.Linear):
    """A layer that says nothing until it has learnt."""


class FlowLayer(nn.Module):
    """Pre-norm attention and feed-forward; with `skip` it first joins its input to that of the layer that mirrors it."""

    is_causal = False

    def __init__(self, config: FlowConfig, *, skip: bool) -> None:
        super().__init__()
        d, self.heads, self.dropout = config.hidden_size, config.num_attention_heads, config.dropout
        self.join = nn.Linear(2 * d, d) if skip else None
        self.norm, self.qkv, self.out = nn.LayerNorm(d), nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.ffn = nn.Sequential(
            nn.LayerNorm(d),
            nn.Linear(d, config.intermediate_size),
            nn.GELU(),
            nn.Dropout(self.dropout),
            nn.Linear(config.intermediate_size, d),
        )

    def forward(self, x: Tensor, attend: Tensor | None, rotation: Tensor, skip: Tensor | None = None) -> Tensor:
        """(B, T, D), (B, 1, 1, T) bool, (2, T, D / H), (B, T, D) -> (B, T, D)."""
        if self.join is not None and skip is not None:
            x = self.join(torch.cat([x, skip], -1))
        every = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1))  # (B, T, 3, H, D / H)
        q, k, v = every.permute(2, 0, 3, 1, 4)  # (B, H, T, D / H) each
        q, k = (rotated(y, rotation).to(v.dtype) for y in (q, k))
        dropout = self.dropout if self.training else 0.0
        read, _ = attention(self, q, k, v, attend, dropout=dropout)  # (B, T, H, D / H)
        x = x + F.dropout(self.out(read.flatten(2)), dropout)
        return x + F.dropout(self.ffn(x), dropout)


def rotations(steps: int, dim: int, device: torch.device) -> Tensor:
    """(2, steps, dim) float32: cosine and sine of the angle of each step and channel (Su et al. 2021, arXiv:2104.09864), channels i and
    i + dim / 2 a pair."""
    rate = PERIOD ** -(torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim)
    angle = torch.arange(steps, device=device, dtype=torch.float32)[:, None] * torch.cat([rate, rate])
    return torch.stack([angle.cos(), angle.sin()])


def rotated(x: Tensor, rotation: Tensor) -> Tensor:
    """(B, H, T, D / H) -> the same, each pair of channels turned by its angle."""
    a, b = x.chunk(2, -1)
    return x * rotation[0] + torch.cat([-b, a], -1) * rotation[1]


def waves(time: Tensor, dim: int) -> Tensor:
    """(B,) from 0 to 1 -> (B, dim) float32: sines and cosines from a quarter of a period to a hundred."""
    rate = tau * 0.25 * 400 ** (torch.arange(dim // 2, device=time.device, dtype=torch.float32) / max(1, dim // 2 - 1))
    angle = time.float()[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], -1)
