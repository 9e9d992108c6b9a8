"""The sizes of a Transformer over spectrogram patches, and its building. The network itself is `modeling_patch.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from overture.errors import OvertureError
from overture.run import Frontend

if TYPE_CHECKING:
    from overture.models.modeling_patch import PatchModel

Pretext = Literal["discriminative", "generative", "position"]


@dataclass(frozen=True, kw_only=True)
class PatchTransformer:
    """Sizes of the encoder and its pre-training heads.

    Positions other than learned ones have no parameters: weights of a trunk trained without positions fit one with sinusoids.
    """

    patch: tuple[int, int] = (16, 16)  # channels x frames
    stride: tuple[int, int] = (16, 16)  # the same as `patch` in pre-training; a smaller one overlaps
    order: Literal["frequency", "time"] = (
        "frequency"  # tokens run along time first (AST, SSAST), or along frequency (BEATs)
    )
    positions: Literal["learned", "sinusoid", "none"] = "learned"
    frames: int = (
        1024  # of the clip that learned positions, and positions as classes, are made for, whatever the stride
    )
    class_tokens: int = 2  # CLS and DIST, which everything may read
    layers: int = 12
    dim: int = 768
    heads: int = 12
    ffn: int = 3072
    dropout: float = 0.0
    attention_dropout: float = 0.0
    init: float = 0.02  # standard deviation of fresh weights
    pretext: tuple[Pretext, ...] = ("discriminative", "generative")  # the heads there are

    def build(self, frontend: Frontend) -> "PatchModel":
        """The network with fresh weights from torch's current generator. Raises OvertureError where patches do not fit the frames."""
        from overture.models.modeling_patch import PatchConfig, PatchModel

        f, t = self.patch
        if f > frontend.dim or (self.stride[0] == f and frontend.dim % f):
            raise OvertureError(
                f"patches of {f} channels do not fill frames of {frontend.dim}: set model.patch or the front end's mels"
            )
        if self.stride[0] > f or self.stride[1] > t or min(self.stride) < 1:
            raise OvertureError(
                f"model.stride {self.stride} must be between 1 and model.patch {self.patch}, or frames go unseen"
            )
        if self.frames < t:
            raise OvertureError(f"model.frames {self.frames} is shorter than one patch of {t} frames")
        grid = (frontend.dim // f, self.frames // t)
        config = PatchConfig(
            features=frontend.dim,
            frame_rate=frontend.frame_rate,
            patch=self.patch,
            stride=self.stride,
            order=self.order,
            positions=self.positions,
            position_grid=grid,
            class_tokens=self.class_tokens,
            pretext=self.pretext,
            classes=grid[0] * grid[1] if "position" in self.pretext else 0,
            hidden_size=self.dim,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.ffn,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.attention_dropout,
            initializer_range=self.init,
            layer_norm_eps=1e-6,
            attn_implementation="overture",
        )
        return PatchModel(config)
