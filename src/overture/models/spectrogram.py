"""The sizes of a spectrogram Transformer, and its building. The network itself is `modeling_spectrogram.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from overture.run import Frontend

if TYPE_CHECKING:
    from overture.models.modeling_spectrogram import SpectrogramModel


@dataclass(frozen=True, kw_only=True)
class SpectrogramTransformer:
    """Sizes of the encoder and its reconstruction head."""

    layers: int = 3
    dim: int = 768
    heads: int = 12
    ffn: int = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    init: float = 0.02  # standard deviation of fresh weights

    def build(self, frontend: Frontend) -> "SpectrogramModel":
        """The network with fresh weights from torch's current generator."""
        from overture.models.modeling_spectrogram import SpectrogramConfig, SpectrogramModel

        config = SpectrogramConfig(
            features=frontend.dim,
            frame_rate=frontend.frame_rate,
            hidden_size=self.dim,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.ffn,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.attention_dropout,
            initializer_range=self.init,
            layer_norm_eps=1e-12,
            vocab_size=1,
            attn_implementation="overture",
        )
        return SpectrogramModel(config)
