"""wav2vec 2.0 (Baevski et al. 2020, arXiv:2006.11477): its sizes, and an encoder around transformers' own class.

The network *is* `transformers.Wav2Vec2ForPreTraining` (`.network`), so published checkpoints load and ours open there. What is
ours is how it is run: the quantizer and the projections see masked frames only, with noise drawn per utterance; hidden states
are handed out; padding reaches nothing.
"""

import json
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from overture.data.batch import States, valid_mask
from overture.data.lengths import windows
from overture.errors import OvertureError
from overture.run import Frontend

if TYPE_CHECKING:
    from overture.quantize import Quantized

# What of a configuration of theirs has no field here: a checkpoint must have it as transformers does by default.
FIXED = ("hidden_act", "feat_extract_activation", "layer_norm_eps", "add_adapter", "adapter_attn_dim")


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2:
    """Sizes of the network. Tuples have one number for each convolution of the front end."""

    conv_dim: tuple[int, ...] = (512,) * 7
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    feature_norm: Literal["layer", "group"] = (
        "layer"  # group: over all of an utterance with its padding (law 3 is broken)
    )
    frame_rate: float = 50.0  # Hz, of the hidden states; `build` holds it against the strides
    layers: int = 12
    dim: int = 768
    heads: int = 12
    ffn: int = 3072
    stable_layer_norm: bool = False  # normalise before each block (LARGE), not after (BASE)
    positions: int = 128  # width of the positional convolution, in frames
    position_groups: int = 16
    groups: int = 2  # of the codebook
    entries: int = 320  # of each group
    code_dim: int = 256  # of a code vector, over all groups
    projection: int = 256  # dimensions that the contrast is computed in
    dropout: float = 0.1  # in attention and after each block, of the projected features, of what is quantized
    layer_drop: float = 0.0  # chance that a layer is left out of an update
    feature_gradient: float = 1.0  # gradients into the front end are scaled by this

    def for_rate(self, rate: int) -> "Wav2Vec2":
        """The same sizes for samples at `rate` Hz: the last strides are lowered (or raised) until frames come at `frame_rate`.

        No weight changes its shape, so those learnt at another rate still fit (stride surgery, as in HYKIST, arXiv:2309.15869).
        Raises OvertureError when no change of strides between 1 and 4 does it.
        """
        wanted, strides = rate / self.frame_rate, list(self.conv_stride)
        for i in reversed(range(len(strides))):
            if prod(strides) == wanted:
                break
            others = prod(strides) // strides[i]
            fitting = [s for s in (1, 2, 3, 4) if wanted % (others * s) == 0 or (others * s) % wanted == 0]
            if fitting:
                strides[i] = min(fitting, key=lambda s: (abs(others * s - wanted), s))
        if prod(strides) != wanted:
            raise OvertureError(
                f"no strides near {self.conv_stride} give {self.frame_rate:g} frames a second at {rate} Hz: set "
                "model.conv_stride and model.frame_rate yourself, or take frontend.rate=16000, which resamples"
            )
        return replace(self, conv_stride=tuple(strides))

    def config(self) -> Any:
        """transformers' `Wav2Vec2Config` of these sizes."""
        from transformers import Wav2Vec2Config

        return Wav2Vec2Config(
            conv_dim=self.conv_dim,
            conv_kernel=self.conv_kernel,
            conv_stride=self.conv_stride,
            conv_bias=self.conv_bias,
            feat_extract_norm=self.feature_norm,
            num_hidden_layers=self.layers,
            hidden_size=self.dim,
            num_attention_heads=self.heads,
            intermediate_size=self.ffn,
            do_stable_layer_norm=self.stable_layer_norm,
            num_conv_pos_embeddings=self.positions,
            num_conv_pos_embedding_groups=self.position_groups,
            num_codevector_groups=self.groups,
            num_codevectors_per_group=self.entries,
            codevector_dim=self.code_dim,
            proj_codevector_dim=self.projection,
            hidden_dropout=self.dropout,
            attention_dropout=self.dropout,
            activation_dropout=0.0,
            feat_proj_dropout=self.dropout,
            feat_quantizer_dropout=self.dropout,
            layerdrop=self.layer_drop,
        )

    def build(self, frontend: Frontend) -> "Wav2Vec2Encoder":
        """The network with fresh weights from torch's current generator.

        Raises OvertureError for a front end that does not give samples, or strides that do not give `frame_rate` at its rate.
        """
        if frontend.dim:
            raise OvertureError("wav2vec2 hears samples: its front end is Waveform, not one of frames")
        if frontend.rate / prod(self.conv_stride) != self.frame_rate:
            raise OvertureError(
                f"strides {self.conv_stride} make {frontend.rate / prod(self.conv_stride):g} frames a second of {frontend.rate} "
                f"Hz, and not {self.frame_rate:g}: set model.conv_stride={list(self.for_rate(frontend.rate).conv_stride)}"
            )
        return Wav2Vec2Encoder(self)


class Wav2Vec2Encoder(nn.Module):
    """`.network` (transformers' `Wav2Vec2ForPreTraining`) as Overture's objectives, probes and exporter call an encoder."""

    def __init__(self, spec: Wav2Vec2) -> None:
        super().__init__()
        from transformers import Wav2Vec2ForPreTraining

        import overture.models.attention  # noqa: F401  # registers itself
        from overture.quantize.gumbel import GumbelCodebook

        config = spec.config()
        config._attn_implementation = "overture"
        self.spec, self.dim, self.frame_rate = spec, spec.dim, spec.frame_rate
        self.network: Any = Wav2Vec2ForPreTraining(config)
        # The same parameters under the same names; this one gives ids, and takes its noise as an argument.
        self.network.quantizer = GumbelCodebook(spec.conv_dim[-1], spec.groups, spec.entries, spec.code_dim)

    @property
    def layers(self) -> nn.ModuleList:
        """The Transformer's layers: FSDP splits the network along them."""
        found: nn.ModuleList = self.network.wav2vec2.encoder.layers
        return found

    def steps(self, lengths: Tensor) -> Tensor:
        """(B,) samples -> (B,) frames."""
        for kernel, stride in zip(self.spec.conv_kernel, self.spec.conv_stride):
            lengths = windows(lengths, kernel, stride)
        return lengths

    def frames(self, x: Tensor) -> Tensor:
        """(B, N) samples -> (B, T, C): what the convolutions make of them, before any normalisation."""
        layers = self.network.wav2vec2.feature_extractor.conv_layers
        if self.spec.feature_norm == "group":
            hidden = x[:, None]
            for layer in layers:
                hidden = layer(hidden)  # (B, C, T)
            hidden = hidden.transpose(1, 2)  # (B, T, C)
        else:
            hidden = x[..., None]  # (B, N, 1)
            for layer in layers:
                hidden = layer.activation(layer.layer_norm(_convolve(hidden, layer.conv)))  # (B, T, C)
        if hidden.requires_grad and self.spec.feature_gradient != 1.0:
            hidden.register_hook(lambda gradient: gradient * self.spec.feature_gradient)
        return hidden

    def project(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, C) -> what goes into the Transformer, (B, T, D), and the normalised features that are quantized, (B, T, C)."""
        hidden, features = self.network.wav2vec2.feature_projection(frames)
        return hidden, features

    def hide(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) with the learnt mask vector where `mask` (B, T) is true."""
        vector = self.network.wav2vec2.masked_spec_embed.to(hidden.dtype)  # (D,)
        return torch.where(mask[..., None], vector, hidden)

    def context(
        self, hidden: Tensor, valid: Tensor, dropped: tuple[bool, ...] = (), *, every: bool = True
    ) -> tuple[Tensor, ...]:
        """(B, T, D) projected features, some of them masked, and (B, T) valid -> L + 1 of (B, T, D); the last is the output.

        dropped: layers to leave out of this update. They are computed all the same and have a gradient of zero, as any rank and
        any engine then sees the same parameters. every: false keeps the output only.
        """
        encoder = self.network.wav2vec2.encoder
        attend = None
        if not bool(valid.all()):  # no mask at all is the faster kernel
            hidden = hidden.masked_fill(~valid[..., None], 0)  # or the positional convolution would hear the padding
            attend = valid[:, None, None, :]  # (B, 1, 1, T)
        embed, steps = encoder.pos_conv_embed, hidden.shape[1]
        hidden = hidden + embed.activation(
            _convolve(hidden, embed.conv)[:, :steps]
        )  # an even kernel gives one too many
        if not self.spec.stable_layer_norm:
            hidden = encoder.layer_norm(hidden)
        hidden = encoder.dropout(hidden)
        states = [hidden]
        for i, layer in enumerate(encoder.layers):
            out = layer(hidden, attention_mask=attend)
            hidden = hidden + 0 * out if i < len(dropped) and dropped[i] else out
            if every:
                states.append(hidden)
        if self.spec.stable_layer_norm:
            hidden = encoder.layer_norm(hidden)
        return (*states[:-1], hidden) if every else (hidden,)

    def states(self, x: Tensor, lengths: Tensor) -> States:
        """(B, N), (B,) -> all hidden states, (L + 1) of (B, T, D), and their lengths (B,)."""
        frames, steps = self.frames(x), self.steps(lengths)
        return States(self.context(self.project(frames)[0], valid_mask(steps, frames.shape[1])), steps)

    def quantize(self, features: Tensor, temperature: float, noise: Tensor | None) -> "tuple[Quantized, Tensor]":
        """(M, C) normalised features of some frames -> their codes, and these projected for the contrast, (M, P).

        noise: (M, G, V) Gumbel noise; None takes the likeliest codes.
        """
        quantized: Quantized = self.network.quantizer(self.network.dropout_features(features), temperature, noise)
        return quantized, self.network.project_q(quantized.vectors)

    def outputs(self, x: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """(B, N), (B,) -> what `Wav2Vec2ForPreTraining` computes without a mask, by its names, each (B, T, P).

        The exporter holds them against those of the class itself.
        """
        frames, steps = self.frames(x), self.steps(lengths)
        hidden, features = self.project(frames)
        (last,) = self.context(hidden, valid_mask(steps, frames.shape[1]), every=False)
        _, projected = self.quantize(features.flatten(0, 1), 1.0, None)
        return {
            "projected_states": self.network.project_hid(last),
            "projected_quantized_states": projected.view(*frames.shape[:2], -1),
        }


def _convolve(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """(B, T, C) -> (B, T', C'): `conv`, with channels side by side in memory as what stands before and behind it wants them.

    transformers' order costs a copy on either side and slower activations and norms: of the front end with layer norm, two to
    four times the time in bf16 (benchmarks/wav2vec2_step.py).
    """
    image = x.transpose(1, 2)[:, :, None]  # (B, C, 1, T), which torch knows as channels_last
    stride, padding = (1, conv.stride[0]), (0, int(conv.padding[0]))
    width = conv.in_channels // conv.groups
    # With AMX, oneDNN gives noise in bf16 for groups of 4 to 15 channels (torch 2.13; docs/lab-log.md): these stay in fp32.
    narrow = conv.groups > 1 and 1 < width < 16 and x.device.type == "cpu"
    with torch.autocast(x.device.type, enabled=torch.is_autocast_enabled(x.device.type) and not narrow):
        image = image.to(conv.weight.dtype) if narrow else image
        out = F.conv2d(image, conv.weight[:, :, None], conv.bias, stride=stride, padding=padding, groups=conv.groups)
    return out.squeeze(2).transpose(1, 2)


@dataclass(frozen=True)
class Published:
    """A wav2vec 2.0 checkpoint in transformers' format (`config.json`, `*.safetensors`)."""

    folder: Path
    spec: Wav2Vec2  # its sizes, at its own rate
    rate: int  # Hz, of the samples it has heard
    normalised: bool  # whether each utterance was brought to mean 0 and variance 1, as `Waveform` does

    @classmethod
    def open(cls, folder: Path) -> "Published":
        """Raises OvertureError when `folder` holds no checkpoint, or one of a network that is not quite this one."""
        from transformers import Wav2Vec2Config

        path = folder / "config.json"
        about = read_config(path)
        if about.get("model_type") != "wav2vec2":
            raise OvertureError(f"{path}: model_type is {about.get('model_type')!r}, and not 'wav2vec2'")
        config = Wav2Vec2Config.from_dict(about)
        ours = Wav2Vec2Config()
        for name in FIXED:
            if getattr(config, name) != getattr(ours, name):
                raise OvertureError(
                    f"{path}: {name}={getattr(config, name)!r} is not supported, only {getattr(ours, name)!r}"
                )
        extractor = folder / "preprocessor_config.json"
        heard = read_config(extractor) if extractor.exists() else {}
        rate = int(heard.get("sampling_rate", 16_000))
        return cls(folder, _sizes(config, rate), rate, bool(heard.get("do_normalize", True)))

    def weights(self) -> dict[str, Tensor]:
        """By the names of `Wav2Vec2Encoder`, also where the file has older names or those of the bare encoder.

        Raises OvertureError for weights that would have to be unpickled, and damaged ones.
        """
        return {f"network.{_renamed(name)}": value for name, value in read_shards(self.folder).items()}


def read_shards(path: Path, but: str = "") -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of all those in a folder `but` the one of that name.

    Raises OvertureError where there is none, and for damaged ones.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    shards = [path] if path.is_file() else sorted(p for p in path.glob("*.safetensors") if p.name != but)
    if not shards:
        raise OvertureError(
            f"{path} has no .safetensors file. Pickled weights are not read: load them once with transformers where you "
            "trust them, and save_pretrained() the model"
        )
    given: dict[str, Tensor] = {}
    for shard in shards:
        try:
            given |= load_file(shard)
        except (OSError, SafetensorError) as error:
            raise OvertureError(f"{shard} cannot be read ({error}): copy it again") from error
    return given


def read_config(path: Path) -> dict[str, Any]:
    """What a file of a checkpoint says. Raises OvertureError where it cannot be read."""
    try:
        about = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise OvertureError(f"{path.parent} is no checkpoint: {path.name} cannot be read ({error})") from error
    if not isinstance(about, dict):
        raise OvertureError(f"{path.parent} is no checkpoint: {path.name} has no named fields")
    return about


def _sizes(config: Any, rate: int) -> Wav2Vec2:
    return Wav2Vec2(
        conv_dim=tuple(config.conv_dim),
        conv_kernel=tuple(config.conv_kernel),
        conv_stride=tuple(config.conv_stride),
        conv_bias=config.conv_bias,
        feature_norm=config.feat_extract_norm,
        frame_rate=rate / prod(config.conv_stride),
        layers=config.num_hidden_layers,
        dim=config.hidden_size,
        heads=config.num_attention_heads,
        ffn=config.intermediate_size,
        stable_layer_norm=config.do_stable_layer_norm,
        positions=config.num_conv_pos_embeddings,
        position_groups=config.num_conv_pos_embedding_groups,
        groups=config.num_codevector_groups,
        entries=config.num_codevectors_per_group,
        code_dim=config.codevector_dim,
        projection=config.proj_codevector_dim,
        dropout=config.hidden_dropout,
        layer_drop=config.layerdrop,
    )


def _renamed(name: str) -> str:
    """A weight's name as `Wav2Vec2ForPreTraining` has it now."""
    if name.startswith(("feature_extractor.", "feature_projection.", "encoder.", "masked_spec_embed")):
        name = f"wav2vec2.{name}"  # of a bare Wav2Vec2Model
    for old, new in (
        ("weight_g", "parametrizations.weight.original0"),
        ("weight_v", "parametrizations.weight.original1"),
    ):
        if name.endswith(f"pos_conv_embed.conv.{old}"):
            name = name.removesuffix(old) + new
    return name
