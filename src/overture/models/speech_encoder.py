"""The encoder of Whisper (Radford et al. 2022, arXiv:2212.04356) with honest lengths: it hears an utterance, and not 30 s.

`.network` *is* `transformers.WhisperEncoder`. Its own `forward` wants 30 s and lets speech attend to the silence behind it; ours takes
any length up to its positions, and padding reaches nothing. At full length both compute the same.
"""

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from overture.config import fingerprint
from overture.data.batch import States, valid_mask
from overture.data.lengths import windows
from overture.errors import OvertureError
from overture.models.adapters import silenced
from overture.models.wav2vec2 import read_config, read_shards

FRAME_RATE = 50.0  # Hz, of the states: two log-mel frames of 10 ms each
# What decides the states besides the weights and their shapes.
DECIDING = ("encoder_attention_heads", "activation_function", "scale_embedding")


class SpeechEncoder(nn.Module):
    """`.network` (transformers' `WhisperEncoder`) as Overture calls an encoder."""

    frame_rate = FRAME_RATE

    def __init__(self, config: Any) -> None:
        """`config`: a `WhisperConfig`. Fresh weights from torch's current generator."""
        super().__init__()
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        import overture.models.attention  # noqa: F401  # registers itself

        config._attn_implementation = "overture"
        self.network: Any = WhisperEncoder(config)
        self.dim: int = config.d_model
        self.positions: int = config.max_source_positions  # the most states

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The encoder of a folder in transformers' format (`config.json`, `*.safetensors`), of all of Whisper or of the encoder alone, in fp32.

        Raises OvertureError where there is none, where it is of another network, and for weights that are pickled or damaged.
        """
        from transformers import WhisperConfig

        about = read_config(folder / "config.json")
        if about.get("model_type") != "whisper":
            raise OvertureError(
                f"{folder / 'config.json'}: model_type is {about.get('model_type')!r}, and not 'whisper'"
            )
        with torch.device("meta"):
            encoder = cls(WhisperConfig.from_dict(about))
        given = _of_encoder(read_shards(folder))
        try:
            encoder.network.load_state_dict({k: v.float() for k, v in given.items()}, assign=True)
        except RuntimeError as error:
            raise OvertureError(f"{folder} has not the weights that its config.json speaks of: {error}") from error
        return encoder.eval().requires_grad_(False)

    @property
    def mark(self) -> str:
        """12 hex digits that depend on every weight and on whatever else decides the states, and not on files or folders."""
        from overture.models.origin import weights_fingerprint

        config = {name: getattr(self.network.config, name) for name in DECIDING}
        return fingerprint({"weights": weights_fingerprint(self.network.state_dict()), **config})

    @property
    def layers(self) -> nn.ModuleList:
        """What a sharded run shards one by one."""
        found: nn.ModuleList = self.network.layers
        return found

    def steps(self, lengths: Tensor) -> Tensor:
        """(B,) log-mel frames -> (B,) states."""
        return windows(lengths, 3, 2, 1)

    def states(self, x: Tensor, lengths: Tensor) -> States:
        """(B, T, F) log-mel frames, (B,) valid ones -> all hidden states, (L + 1) of (B, T', D), and their lengths (B,).

        The first is what the convolutions and positions make, the last the normalised output. Raises OvertureError for more than it has positions.
        """
        network, steps = self.network, self.steps(lengths)
        x = silenced(x, lengths)  # or the convolutions would hear what stands behind the end
        x = F.gelu(network.conv1(x.transpose(1, 2))).transpose(1, 2)  # (B, T, D)
        hidden = F.gelu(network.conv2(silenced(x, lengths).transpose(1, 2))).transpose(1, 2)  # (B, T', D)
        count = hidden.shape[1]
        if count > self.positions:
            raise OvertureError(
                f"{count / FRAME_RATE:g} s of speech, and this encoder has positions for {self.positions / FRAME_RATE:g} s"
            )
        hidden = hidden + network.embed_positions.weight[:count]
        hidden = F.dropout(hidden, network.dropout, self.training)
        valid = valid_mask(steps, count)
        attend = (
            None if bool(valid.all()) else valid[:, None, None]
        )  # (B, 1, 1, T'); no mask at all is the faster kernel
        states = [hidden]
        for layer in network.layers:
            states.append(layer(states[-1], attention_mask=attend))
        return States((*states[:-1], network.layer_norm(states[-1])), steps)


def _of_encoder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of the encoder by its own names, whatever it was stored in."""
    for prefix in ("model.encoder.", "encoder."):
        if found := {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}:
            return found
    return weights
