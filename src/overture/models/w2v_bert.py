"""The sizes of a w2v-BERT, and its building. The network itself is `modeling_w2v_bert.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from overture.run import Frontend

if TYPE_CHECKING:
    from overture.models.modeling_w2v_bert import W2vBertModel


@dataclass(frozen=True, kw_only=True)
class W2vBert:
    """Sizes of the two stacks, the codebook and the heads."""

    context_blocks: int = 12  # N, below the contrastive loss
    mlm_blocks: int = 12  # M, above it; 0: a contrastive model without a layer for ids
    dim: int = 1024  # D
    heads: int = 8
    ffn: int = 4096
    kernel: int = 5  # of the depthwise convolution, steps; odd
    channels: int = 128  # of the two strided convolutions; E = channels x F / 4
    positions: Literal["relative", "rotary", "none"] = "relative"
    entries: int = 1024  # V of the codebook
    code_dim: int = 1024
    contrast_dim: int = 768  # that contexts and codes are compared in
    dropout: float = 0.1
    attention_dropout: float = 0.1
    init: float = 0.02  # standard deviation of fresh linear layers

    def build(self, frontend: Frontend) -> "W2vBertModel":
        """The network with fresh weights from torch's current generator."""
        from overture.models.modeling_w2v_bert import W2vBertConfig, W2vBertModel

        config = W2vBertConfig(
            features=frontend.dim,
            frame_rate=frontend.frame_rate,
            conv_channels=self.channels,
            context_blocks=self.context_blocks,
            num_hidden_layers=self.context_blocks + self.mlm_blocks,
            hidden_size=self.dim,
            num_attention_heads=self.heads,
            intermediate_size=self.ffn,
            hidden_act="silu",
            conv_depthwise_kernel_size=self.kernel,
            position_embeddings_type=None if self.positions == "none" else self.positions,
            num_codevector_groups=1,
            num_codevectors_per_group=self.entries,
            codevector_dim=self.code_dim,
            proj_codevector_dim=self.contrast_dim,
            hidden_dropout=self.dropout,
            activation_dropout=self.dropout,
            conformer_conv_dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            layerdrop=0.0,
            initializer_range=self.init,
        )
        return W2vBertModel(config)
