"""w2v-BERT: two stacks of Conformer blocks over convolved log-mel (Chung et al. 2021, arXiv 2108.06209, section 3).

Two 3x3 convolutions of stride (2, 2) turn 10 ms frames into steps of 40 ms, E. One path masks E, projects it and sends it through
N blocks (their output C learns by contrast) and M more (theirs predicts ids). The other gives the *unmasked* E to a Gumbel
codebook, whose vectors and ids are what is to be found. The blocks are transformers' `Wav2Vec2ConformerEncoderLayer` with
another convolution module: theirs lets padding into the depthwise convolution and normalises over the batch, so an
utterance's states would depend on its neighbours. An exported folder carries a copy of this file.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2ConformerConfig
from transformers import initialization as init
from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import (
    Wav2Vec2ConformerEncoderLayer,
    Wav2Vec2ConformerPreTrainedModel,
)
from transformers.utils import ModelOutput

from overture.data.batch import valid_mask
from overture.data.lengths import windows
from overture.quantize.gumbel import GumbelCodebook

KERNEL, STRIDE, PADDING = 3, 2, 1  # of both convolutions, in time and in frequency
CONVOLUTIONS = 2


class W2vBertConfig(Wav2Vec2ConformerConfig):
    """A Wav2Vec2ConformerConfig whose input is frames of `features` channels at `frame_rate` Hz.

    `context_blocks` (N) of the `num_hidden_layers` (N + M) blocks lie below the contrastive loss.
    """

    model_type = "overture_w2v_bert"

    def __init__(
        self,
        features: int = 80,
        frame_rate: float = 100.0,
        conv_channels: int = 128,
        context_blocks: int = 12,
        **kwargs: object,
    ) -> None:
        self.features, self.frame_rate = features, frame_rate
        self.conv_channels, self.context_blocks = conv_channels, context_blocks
        super().__init__(**kwargs)


@dataclass
class W2vBertOutput(ModelOutput):
    """T' steps of 40 ms. Of pre-training come `mlm_logits` and `code_ids`, only where no step is masked."""

    last_hidden_state: Tensor | None = None  # (B, T', D) of the top block
    context: Tensor | None = None  # (B, T', D) of block N
    extract_features: Tensor | None = None  # (B, T', E) unmasked
    mlm_logits: Tensor | None = None  # (B, T', V) of the id of each step; None with M = 0
    code_ids: Tensor | None = None  # (B, T') int64, the most likely entry
    hidden_states: tuple[Tensor, ...] | None = None  # (N + M + 1) of (B, T', D), when asked: the projection first


class FeatureEncoder(nn.Module):
    """(B, T, F) -> (B, T', E): two strided convolutions, ReLU, LayerNorm. Padding is silenced before each of them."""

    def __init__(self, config: W2vBertConfig) -> None:
        super().__init__()
        c, bands = config.conv_channels, config.features
        self.convolutions = nn.ModuleList(
            nn.Conv2d(1 if i == 0 else c, c, KERNEL, STRIDE, PADDING) for i in range(CONVOLUTIONS)
        )
        for _ in range(CONVOLUTIONS):
            bands = windows(bands, KERNEL, STRIDE, PADDING)
        self.dim = c * bands  # E
        self.norm = nn.LayerNorm(self.dim, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, F), (B,) valid frames -> (B, T', E), (B,) valid steps."""
        x = x[:, None]  # (B, 1, T, F)
        for convolution in self.convolutions:
            x = x.masked_fill(~valid_mask(lengths, x.shape[2])[:, None, :, None], 0.0)
            x = torch.relu(convolution(x))  # (B, C, T / 2, F / 2)
            lengths = windows(lengths, KERNEL, STRIDE, PADDING)
        return self.norm(x.transpose(1, 2).flatten(2)), lengths


class ConvolutionModule(nn.Module):
    """The Conformer's convolution (Gulati et al. 2020, section 2.2), blind to padding: silenced before the depthwise
    convolution, and LayerNorm over channels in place of the batch norm behind it."""

    def __init__(self, config: W2vBertConfig) -> None:
        super().__init__()
        d, kernel = config.hidden_size, config.conv_depthwise_kernel_size
        self.layer_norm = nn.LayerNorm(d, eps=config.layer_norm_eps)
        self.pointwise1 = nn.Linear(d, 2 * d, bias=False)
        self.depthwise = nn.Conv1d(d, d, kernel, padding=kernel // 2, groups=d, bias=False)
        self.depthwise_norm = nn.LayerNorm(d, eps=config.layer_norm_eps)
        self.pointwise2 = nn.Linear(d, d, bias=False)
        self.dropout = nn.Dropout(config.conformer_conv_dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T', D), (B, T', 1) one on valid steps and zero on padding -> (B, T', D)."""
        x = nn.functional.glu(self.pointwise1(self.layer_norm(x)), -1) * valid
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        x = nn.functional.silu(self.depthwise_norm(x))
        out: Tensor = self.dropout(self.pointwise2(x))
        return out


class ConformerBlock(Wav2Vec2ConformerEncoderLayer):
    """Half-step feed-forward, attention, convolution, half-step feed-forward, LayerNorm."""

    def __init__(self, config: W2vBertConfig) -> None:
        super().__init__(config)
        self.conv_module = ConvolutionModule(config)

    def forward(self, x: Tensor, valid: Tensor, bias: Tensor, positions: Tensor | None) -> Tensor:
        """(B, T', D), (B, T', 1) as in ConvolutionModule, (B, 1, 1, T') added to the scores, positions -> (B, T', D)."""
        x = x + 0.5 * self.ffn1(self.ffn1_layer_norm(x))
        attended, _ = self.self_attn(
            hidden_states=self.self_attn_layer_norm(x), attention_mask=bias, relative_position_embeddings=positions
        )
        x = x + self.self_attn_dropout(attended)
        x = x + self.conv_module(x, valid)
        x = x + 0.5 * self.ffn2(self.ffn2_layer_norm(x))
        out: Tensor = self.final_layer_norm(x)
        return out


class PretrainingHead(nn.Module):
    """What only pre-training needs: mask vector, codebook, the two projections of the contrastive loss, the ids' layer."""

    def __init__(self, config: W2vBertConfig, features: int) -> None:
        super().__init__()
        self.mask = nn.Parameter(torch.empty(features))  # (E,)
        self.quantizer = GumbelCodebook(
            dim=features,
            groups=1,
            entries=config.num_codevectors_per_group,
            code_dim=config.codevector_dim,
        )
        self.project_context = nn.Linear(config.hidden_size, config.proj_codevector_dim)
        self.project_code = nn.Linear(config.codevector_dim, config.proj_codevector_dim)
        above = config.num_hidden_layers > config.context_blocks
        self.ids = nn.Linear(config.hidden_size, config.num_codevectors_per_group) if above else None


class W2vBertModel(Wav2Vec2ConformerPreTrainedModel):
    """The encoder with its pre-training head."""

    config_class = W2vBertConfig
    config: W2vBertConfig
    main_input_name = "input_values"
    _supports_sdpa = False  # eager attention takes a mask and relative positions as two terms that broadcast
    _supports_flex_attn = False
    supports_gradient_checkpointing = False
    _no_split_modules = ["ConformerBlock"]  # noqa: RUF012  # transformers wants a list

    def __init__(self, config: W2vBertConfig) -> None:
        super().__init__(config)
        self.features = FeatureEncoder(config)
        self.project = nn.Linear(self.features.dim, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.layers = nn.ModuleList(ConformerBlock(config) for _ in range(config.num_hidden_layers))
        self.head = PretrainingHead(config, self.features.dim)
        self.frame_rate: float = config.frame_rate / STRIDE**CONVOLUTIONS
        self.dim: int = config.hidden_size
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, GumbelCodebook):  # as transformers' Wav2Vec2GumbelVectorQuantizer
            init.normal_(module.weight_proj.weight, std=1.0)
            init.zeros_(module.weight_proj.bias)
            init.uniform_(module.codevectors)
        elif isinstance(module, PretrainingHead):
            init.uniform_(module.mask)
            for projection in (module.project_context, module.project_code):  # as nn.Linear is made
                init.kaiming_uniform_(projection.weight, a=math.sqrt(5))

    def steps(self, lengths: Tensor) -> Tensor:
        """(B,) frames -> (B,) steps of 40 ms (with frames of 10): a quarter, rounded up."""
        for _ in range(CONVOLUTIONS):
            lengths = windows(lengths, KERNEL, STRIDE, PADDING)
        return lengths

    def states(self, x: Tensor, lengths: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """(B, T, F), (B,) valid frames -> projection and all blocks, (N + M + 1) of (B, T', D), and their lengths (B,)."""
        features, steps = self.features(x, lengths)
        return self.hidden(features, steps), steps

    def hidden(self, features: Tensor, steps: Tensor) -> tuple[Tensor, ...]:
        """(B, T', E), masked or not, (B,) valid steps -> (N + M + 1) of (B, T', D): the projection first."""
        total = features.shape[1]
        x = self.dropout(self.project(features))  # (B, T', D)
        valid = valid_mask(steps, total)  # (B, T')
        bias = torch.zeros(valid.shape, dtype=x.dtype, device=x.device)
        bias = bias.masked_fill(~valid, torch.finfo(x.dtype).min)[:, None, None]  # (B, 1, 1, T')
        kind, weight = self.config.position_embeddings_type, valid[..., None].to(x.dtype)
        positions = None
        if kind == "relative":
            positions = relative_positions(total, self.dim, x)
        elif kind == "rotary":
            positions = rotary_positions(total, self.dim // self.config.num_attention_heads, x)
        states = [x]
        for layer in self.layers:
            x = layer(x, weight, bias, positions)
            states.append(x)
        return tuple(states)

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        mask_time_indices: Tensor | None = None,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> W2vBertOutput | tuple[Tensor, ...]:
        """`input_values` (B, T, F) normalised log-mel; `attention_mask` (B, T), true or 1 on valid frames, which come first;
        `mask_time_indices` (B, T') bool, steps to hide behind the mask vector."""
        b, t = input_values.shape[:2]
        if attention_mask is None:
            attention_mask = torch.ones(b, t, dtype=torch.bool, device=input_values.device)
        features, steps = self.features(input_values, attention_mask.long().sum(1))
        seen = features
        if mask_time_indices is not None:
            seen = torch.where(mask_time_indices[..., None], self.head.mask.to(features.dtype), features)
        states = self.hidden(seen, steps)
        output = W2vBertOutput(
            last_hidden_state=states[-1],
            context=states[self.config.context_blocks],
            extract_features=features,
            hidden_states=states if output_hidden_states else None,
        )
        if mask_time_indices is None:
            output.code_ids = self.head.quantizer(features.flatten(0, 1)).ids[:, 0].view(b, -1)
            output.mlm_logits = None if self.head.ids is None else self.head.ids(states[-1])
        return output if return_dict else output.to_tuple()


def relative_positions(steps: int, dim: int, like: Tensor) -> Tensor:
    """(1, 2 steps - 1, dim) sinusoids of the distances steps - 1 ... 1 - steps (Dai et al. 2019, appendix B)."""
    distance = torch.arange(steps - 1, -steps, -1, dtype=torch.float32, device=like.device)
    rate = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32, device=like.device) * (-math.log(10_000.0) / dim))
    angle = distance[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[None].to(like.dtype)


def rotary_positions(steps: int, dim: int, like: Tensor) -> Tensor:
    """(2, steps, 1, 1, dim) cosines and sines by which a head's queries and keys are turned (Su et al. 2021)."""
    rate = 10_000.0 ** -(torch.arange(0, dim, 2, dtype=torch.float32, device=like.device) / dim)
    angle = torch.arange(steps, dtype=torch.float32, device=like.device)[:, None] * rate
    angle = torch.cat([angle, angle], -1)[:, None, None]
    return torch.stack([angle.cos(), angle.sin()]).to(like.dtype)
