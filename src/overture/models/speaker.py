"""The sizes of the speaker encoder of GE2E, and its building. The network itself is `modeling_speaker.py`.

Wan et al. 2018, "Generalized End-to-End Loss for Speaker Verification" (arXiv:1710.10467), as Jia et al. 2018 use it for cloning (SV2TTS,
arXiv:1806.04558, section 2.1): 40 log-mel channels, three layers of 768 cells, each projected to 256, the last frame's output scaled to length 1.
Resemblyzer and Real-Time-Voice-Cloning have 256 cells without projections, and a linear layer with ReLU behind the last frame.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from overture.errors import OvertureError
from overture.run import Frontend

if TYPE_CHECKING:
    from overture.models.modeling_speaker import SpeakerModel


@dataclass(frozen=True, kw_only=True)
class SpeakerLstm:
    """Sizes of the encoder."""

    layers: int = 3
    dim: int = 768  # cells of a layer
    embedding: int = 256  # of the vector of a voice
    # projection: each layer is projected to `embedding`, and the last frame of the last one is the vector; relu: no layer is, and a linear layer
    # with ReLU makes the vector, so that none of its numbers is below 0
    head: Literal["projection", "relu"] = "projection"

    def build(self, frontend: Frontend) -> "SpeakerModel":
        """The network with fresh weights from torch's current generator. Raises OvertureError for a projection that is not narrower, and for a
        front end of samples."""
        from overture.models.modeling_speaker import SpeakerConfig, SpeakerModel

        if self.head == "projection" and self.embedding >= self.dim:
            raise OvertureError(
                f"model.embedding={self.embedding} must be below model.dim={self.dim}, which each layer is projected from: or set model.head=relu"
            )
        if not frontend.dim:
            raise OvertureError(
                f"a speaker encoder hears frames of channels, and {type(frontend).__name__} gives samples: take KaldiFbank"
            )
        return SpeakerModel(
            SpeakerConfig(
                features=frontend.dim,
                frame_rate=frontend.frame_rate,
                hidden_size=self.dim,
                num_hidden_layers=self.layers,
                embedding_size=self.embedding,
                head=self.head,
            )
        )
