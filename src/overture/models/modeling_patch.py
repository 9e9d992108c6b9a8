"""A Transformer over patches of a spectrogram: the network of AST, SSAST and position prediction.

Patches of f channels x t frames, side by side or overlapping -> linear embedding -> positions (learned, sinusoid, none) -> class
tokens in front -> L pre-norm layers -> LayerNorm (Gong et al. 2022, arXiv 2110.09784, section 2). The layers are transformers'
`ASTLayer`, and all of the encoder's parameters are named as in its `ASTModel`; heads and mask vector stand under `head`. Grids of
patches are (B, F', T', ...) everywhere, and a row of tokens only inside. An exported folder carries a copy of this file.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import ASTConfig, PreTrainedModel
from transformers import initialization as init
from transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer import ASTLayer
from transformers.utils import ModelOutput

from overture.data.batch import valid_mask
from overture.data.lengths import windows
from overture.models.modeling_spectrogram import sinusoids


class PatchConfig(ASTConfig):
    """An ASTConfig with patches of any shape over frames of `features` channels at `frame_rate` Hz.

    `patch`, `stride`: (channels, frames). `order`: which patches follow each other as tokens, those along time ("frequency", index
    f T' + t, as AST and SSAST) or along frequency ("time", index t F' + f, as BEATs). `position_grid`: (F', T') that learned
    positions were learnt on. `class_tokens`: 0, 1 (CLS) or 2 (CLS and DIST). `pretext`: the heads, some of "discriminative",
    "generative" and "position"; `classes`: N of the last.
    """

    model_type = "overture_patch"

    def __init__(
        self,
        features: int = 128,
        frame_rate: float = 100.0,
        patch: tuple[int, int] | list[int] = (16, 16),
        stride: tuple[int, int] | list[int] = (16, 16),
        order: str = "frequency",
        positions: str = "learned",
        position_grid: tuple[int, int] | list[int] = (8, 64),
        class_tokens: int = 2,
        pretext: tuple[str, ...] | list[str] = ("discriminative", "generative"),
        classes: int = 0,
        **kwargs: object,
    ) -> None:
        self.features, self.frame_rate = features, frame_rate
        self.patch, self.stride, self.order = list(patch), list(stride), order
        self.positions, self.position_grid = positions, list(position_grid)
        self.class_tokens, self.pretext, self.classes = class_tokens, list(pretext), classes
        super().__init__(**kwargs)


@dataclass
class PatchOutput(ModelOutput):
    """States of steps and of patches; patches and steps beyond an utterance's own hold nothing of meaning."""

    last_hidden_state: Tensor | None = None  # (B, T', D): the mean over the patches of a time step
    patch_states: Tensor | None = None  # (B, F', T', D)
    hidden_states: tuple[Tensor, ...] | None = None  # (L + 1) of (B, T', D), when asked: the embedding first


class PatchProjection(nn.Module):
    """(..., f t) values of patches -> (..., D). A convolution by name and shape, as in ASTModel, used as a matrix."""

    def __init__(self, config: PatchConfig) -> None:
        super().__init__()
        (f, t), (down, along) = config.patch, config.stride
        self.projection = nn.Conv2d(1, config.hidden_size, (f, t), (down, along))

    def forward(self, patches: Tensor) -> Tensor:
        x = nn.functional.linear(patches, self.projection.weight.flatten(1), self.projection.bias)
        return x.to(self.projection.weight.dtype)  # autocast may multiply in bf16, but what layers add up stays exact


class PatchEmbeddings(nn.Module):
    """Grid of raw patches -> tokens, class tokens first."""

    def __init__(self, config: PatchConfig) -> None:
        super().__init__()
        d = config.hidden_size
        self.config = config
        self.patch_embeddings = PatchProjection(config)
        if config.class_tokens > 0:
            self.cls_token = nn.Parameter(torch.empty(1, 1, d))
        if config.class_tokens > 1:
            self.distillation_token = nn.Parameter(torch.empty(1, 1, d))
        if config.positions == "learned":
            places = config.position_grid[0] * config.position_grid[1] + config.class_tokens
            self.position_embeddings = nn.Parameter(torch.empty(1, places, d))  # class tokens, then frequency-major
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, patches: Tensor, steps: Tensor, hidden: Tensor | None, mask_vector: Tensor | None) -> Tensor:
        """(B, F', T', f t), (B,) steps of each, (B, F', T') bool patches behind the mask vector (D,) -> (B, C + F' T', D)."""
        x = self.patch_embeddings(patches)  # (B, F', T', D)
        if hidden is not None and mask_vector is not None:
            x = torch.where(hidden[..., None], mask_vector, x)  # positions are added after, and so stay known
        names = ("cls_token", "distillation_token")[: self.config.class_tokens]
        front = (
            torch.cat([getattr(self, n) for n in names], 1) if names else x.new_zeros(1, 0, x.shape[-1])
        )  # (1, C, D)
        if self.config.positions == "learned":
            x = x + self.learned(patches.shape[1], patches.shape[2], steps)
            front = front + self.position_embeddings[:, : len(names)]
        elif self.config.positions == "sinusoid":
            x = x + sinusoid_grid(patches.shape[1], patches.shape[2], x.shape[-1], x.device).to(x.dtype)
        out: Tensor = self.dropout(torch.cat([front.expand(len(x), -1, -1), as_tokens(x, self.config.order)], 1))
        return out

    def learned(self, rows: int, columns: int, steps: Tensor) -> Tensor:
        """Learned positions of grids of `rows` x `columns`, of which each utterance has `steps` (B,) columns: (B or 1, F', T', D).

        They are fitted to an utterance's own number of steps, so its neighbours in a batch do not move them.
        """
        front = self.config.class_tokens
        grid = self.position_embeddings[:, front:].unflatten(1, tuple(self.config.position_grid))  # (1, F0, T0, D)
        grid = fit(grid.permute(0, 3, 1, 2), 2, rows)  # (1, D, F', T0)
        counts, which = steps.unique(return_inverse=True)
        fitted = [nn.functional.pad(fit(grid, 3, n), (0, columns - n)) for n in counts.tolist()]
        placed = torch.cat(fitted).permute(0, 2, 3, 1)  # (lengths, F', T', D)
        return placed if len(fitted) == 1 else placed[which]


class PretrainingHead(nn.Module):
    """What only pre-training needs: the mask vector and the heads on the states of patches."""

    def __init__(self, config: PatchConfig) -> None:
        super().__init__()
        d, values = config.hidden_size, config.patch[0] * config.patch[1]
        predicts = [kind for kind in ("discriminative", "generative") if kind in config.pretext]
        self.mask = nn.Parameter(torch.empty(d)) if predicts else None
        for kind in predicts:  # d -> d -> f t
            self.add_module(kind, nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, values)))
        if "position" in config.pretext:
            self.position = nn.Sequential(nn.LayerNorm(d, eps=config.layer_norm_eps), nn.Linear(d, config.classes))


class PatchModel(PreTrainedModel):
    """The encoder with its pre-training heads."""

    config_class = PatchConfig
    config: PatchConfig
    main_input_name = "input_values"
    _supports_sdpa = True
    _no_split_modules = ["ASTLayer"]  # noqa: RUF012  # transformers wants a list

    def __init__(self, config: PatchConfig) -> None:
        super().__init__(config)
        self.embeddings = PatchEmbeddings(config)
        self.layers = nn.ModuleList(ASTLayer(config) for _ in range(config.num_hidden_layers))
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = PretrainingHead(config)
        self.frame_rate: float = config.frame_rate / config.stride[1]
        self.dim: int = config.hidden_size
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Linear | nn.Conv2d):
            init.trunc_normal_(module.weight, std=std)
            init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, PatchEmbeddings | PretrainingHead):
            for parameter in module.parameters(recurse=False):
                init.trunc_normal_(parameter, std=std)

    def steps(self, lengths: Tensor) -> Tensor:
        """(B,) frames -> (B,) time steps of whole patches; an utterance shorter than a patch is filled up with zeros to one."""
        return windows(lengths, self.config.patch[1], self.config.stride[1]).clamp(min=1)

    def patches(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, F), (B,) valid frames -> the values of all patches, (B, F', T', f t); whatever stood in the padding is zero."""
        (f, t), (down, along) = self.config.patch, self.config.stride
        x = x * valid_mask(lengths, x.shape[1])[..., None]
        x = nn.functional.pad(x, (0, 0, 0, max(0, t - x.shape[1])))
        cut = x.unfold(1, t, along).unfold(2, f, down)  # (B, T', F', t, f)
        return cut.permute(0, 2, 1, 4, 3).flatten(3)

    def tokens(self, grid: Tensor) -> Tensor:
        """(B, F', T', ...) -> (B, F' T', ...) in the order that tokens have, and positions as classes."""
        return as_tokens(grid, self.config.order)

    def hidden(
        self, x: Tensor, lengths: Tensor, masked: Tensor | None = None, context: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """(B, T, F), (B,) valid frames -> (L + 1) of (B, F', T', D): the embedding first, the last behind the final norm.

        `masked` (B, F', T') bool: patches whose embedding is the mask vector. `context` (B, F', T') bool: patches whose keys and
        values may be read, the same in every layer; all others read and are never read. Class tokens may always be read.
        """
        patches, steps = self.patches(x, lengths), self.steps(lengths)
        shape, front = (patches.shape[1], patches.shape[2]), self.config.class_tokens
        read = valid_mask(steps, shape[1])[:, None].expand(-1, *shape)  # (B, F', T')
        if context is not None:
            read = read & context
        mask = None
        if not bool(read.all()):  # no mask at all is the faster kernel
            mask = nn.functional.pad(self.tokens(read), (front, 0), value=True)[:, None, None]  # (B, 1, 1, C + N)
        x = self.embeddings(patches, steps, masked, self.head.mask)
        states = [x]
        for layer in self.layers:
            x = layer(x, mask)
            states.append(x)
        states[-1] = self.layernorm(states[-1])
        return tuple(as_grid(s[:, front:], shape, self.config.order) for s in states)

    def states(self, x: Tensor, lengths: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """(B, T, F), (B,) valid frames -> all hidden states, (L + 1) of (B, T', D), and their lengths (B,).

        A time step's state is the mean over its patches, so the mean over an utterance is the mean over its patches too.
        """
        return tuple(grid.mean(1) for grid in self.hidden(x, lengths)), self.steps(lengths)

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        masked: Tensor | None = None,
        context: Tensor | None = None,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> PatchOutput | tuple[Tensor, ...]:
        """`input_values` (B, T, F); `attention_mask` (B, T), true or 1 on valid frames, which come first; the others as in `hidden`."""
        b, t = input_values.shape[:2]
        if attention_mask is None:
            attention_mask = torch.ones(b, t, dtype=torch.bool, device=input_values.device)
        grids = self.hidden(input_values, attention_mask.long().sum(1), masked, context)
        output = PatchOutput(
            last_hidden_state=grids[-1].mean(1),
            patch_states=grids[-1],
            hidden_states=tuple(g.mean(1) for g in grids) if output_hidden_states else None,
        )
        return output if return_dict else output.to_tuple()


def as_tokens(grid: Tensor, order: str) -> Tensor:
    """(B, F', T', ...) -> (B, F' T', ...)."""
    return (grid.transpose(1, 2) if order == "time" else grid).flatten(1, 2)


def as_grid(tokens: Tensor, shape: tuple[int, int], order: str) -> Tensor:
    """(B, F' T', ...) -> (B, F', T', ...)."""
    rows, columns = shape
    split: Tensor = tokens.unflatten(1, (columns, rows) if order == "time" else shape)
    return split.transpose(1, 2) if order == "time" else split


def fit(grid: Tensor, axis: int, size: int) -> Tensor:
    """(1, D, F', T') positions -> `size` of them along `axis`: cut out of the middle, or interpolated bilinearly, as AST does."""
    have = grid.shape[axis]
    if size <= have:
        return grid.narrow(axis, have // 2 - size // 2, size)
    shape = [*grid.shape[2:]]
    shape[axis - 2] = size
    fitted: Tensor = nn.functional.interpolate(grid, shape, mode="bilinear", align_corners=False)
    return fitted


def sinusoid_grid(rows: int, columns: int, dim: int, device: torch.device) -> Tensor:
    """(F', T', D) float32 sinusoids of the time; of frequency and time in half of the channels each where there are several rows."""
    if rows == 1:
        return sinusoids(columns, dim, device)[None]
    down, along = sinusoids(rows, dim // 2, device), sinusoids(columns, dim // 2, device)
    shape = (rows, columns, dim // 2)
    return torch.cat([down[:, None].expand(shape), along[None].expand(shape)], -1)
