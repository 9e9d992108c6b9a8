"""The sizes of a flow-matching Transformer, and its building. The network itself is `modeling_flow.py`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from overture.data.phones import PHONES
from overture.errors import OvertureError
from overture.run import Frontend

if TYPE_CHECKING:
    from overture.models.modeling_flow import FlowModel


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A further condition of each frame, such as how probable it is that somebody laughs."""

    name: str  # of `Batch.channels`
    dim: int  # channels


@dataclass(frozen=True, kw_only=True)
class FlowTransformer:
    """Sizes of the network; its phones are those of `overture.data.phones`."""

    layers: int = 6
    dim: int = 256
    heads: int = 4
    ffn: int = 1024
    phone_dim: int = 128
    dropout: float = 0.0
    streams: tuple[Stream, ...] = ()

    def build(self, frontend: Frontend) -> "FlowModel":
        """The network with fresh weights from torch's current generator. Raises OvertureError for sizes that do not go together."""
        from overture.models.modeling_flow import FlowConfig, FlowModel

        if self.dim % (2 * self.heads):
            raise OvertureError(
                f"model.dim={self.dim} is not a multiple of twice model.heads={self.heads}: positions turn pairs of channels of a head"
            )
        if not frontend.dim:
            raise OvertureError(
                f"a flow goes to frames of channels, and {type(frontend).__name__} gives samples: take NormalMel"
            )
        return FlowModel(
            FlowConfig(
                features=frontend.dim,
                frame_rate=frontend.frame_rate,
                phones=len(PHONES),
                phone_dim=self.phone_dim,
                streams={s.name: s.dim for s in self.streams},
                hidden_size=self.dim,
                num_hidden_layers=self.layers,
                num_attention_heads=self.heads,
                intermediate_size=self.ffn,
                dropout=self.dropout,
            )
        )
