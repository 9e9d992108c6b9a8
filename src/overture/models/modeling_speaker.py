"""An LSTM over log-mel frames whose last output is a vector of the voice. Its sizes, and the papers, are in `speaker.py`.

An exported folder carries a copy of this file, so `AutoModel` loads it without Overture.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from overture.data.batch import States
from overture.data.lengths import samples

WINDOW = 1.6  # s that are embedded at once, as long as the crops of the training
SCALE = 10.0  # w of the loss, at first


class SpeakerConfig(PretrainedConfig):
    """`features`: F, channels of a frame; `hidden_size`: cells of a layer; `embedding_size`: E; `head`: see `speaker.SpeakerLstm`."""

    model_type = "overture_speaker"

    def __init__(
        self,
        features: int = 40,
        frame_rate: float = 100.0,
        hidden_size: int = 768,
        num_hidden_layers: int = 3,
        embedding_size: int = 256,
        head: str = "projection",
        **kwargs: object,
    ) -> None:
        self.features, self.frame_rate = features, frame_rate
        self.hidden_size, self.num_hidden_layers = hidden_size, num_hidden_layers
        self.embedding_size, self.head = embedding_size, head
        super().__init__(**kwargs)


@dataclass
class SpeakerOutput(ModelOutput):
    """`last_hidden_state` (B, T, D), `embeddings` (B, E) of length 1, one a recording, and when asked `hidden_states`, L of (B, T, D)."""

    last_hidden_state: Tensor | None = None
    embeddings: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class SpeakerModel(PreTrainedModel):
    """The encoder, and the scale of the loss that it is trained by."""

    config_class = SpeakerConfig
    main_input_name = "input_values"

    def __init__(self, config: SpeakerConfig) -> None:
        super().__init__(config)
        cells, size = config.hidden_size, config.embedding_size
        projected = size if config.head == "projection" else 0
        self.frame_rate, self.dim = config.frame_rate, projected or cells
        self.layers = nn.ModuleList(
            nn.LSTM(self.dim if i else config.features, cells, proj_size=projected, batch_first=True)
            for i in range(config.num_hidden_layers)
        )
        self.head = nn.Identity() if projected else nn.Sequential(nn.Linear(cells, size), nn.ReLU())
        self.similarity_weight = nn.Parameter(torch.tensor([SCALE]))  # w of the loss (`overture.objectives.ge2e`)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Fresh weights are torch's own."""

    def steps(self, lengths: Tensor) -> Tensor:
        """(B,) frames -> (B,) states: as many."""
        return lengths

    def states(self, x: Tensor, lengths: Tensor) -> States:
        """(B, T, F), (B,) valid frames -> L of (B, T, D), one a layer, and their lengths. No state sees what comes after it, padding included."""
        hidden = []
        for layer in self.layers:
            x, _ = layer(x)  # (B, T, D)
            hidden.append(x)
        return States(tuple(hidden), lengths)

    def vectors(self, last: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) states of the last layer, (B,) -> (B, E) float32 of length 1: what is known at the last frame."""
        end = last[torch.arange(len(last), device=last.device), lengths - 1]  # (B, D)
        with torch.autocast(end.device.type, enabled=False):
            return F.normalize(self.head(end.float()), dim=-1, eps=1e-6)

    def embed(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, F), (B,) valid frames -> (B, E) float32 of length 1.

        Utterances above 1.6 s are cut into windows of that length, half overlapping, the last of which ends where they end; their vectors are
        averaged, and the mean scaled to length 1 (SV2TTS, section 2.1, has windows of .8 s).
        """
        size = samples(WINDOW, self.frame_rate)
        starts = [window_starts(n, size) for n in lengths.tolist()]
        owner = torch.tensor([i for i, own in enumerate(starts) for _ in own], device=x.device)  # (W,)
        first = torch.tensor([s for own in starts for s in own], device=x.device)
        places = first[:, None] + torch.arange(min(size, x.shape[1]), device=x.device)  # (W, S)
        pieces = x[owner[:, None], places.clamp_max(x.shape[1] - 1)]  # (W, S, F)
        hidden, ends = self.states(pieces, (lengths[owner] - first).clamp_max(size))
        found = self.vectors(hidden[-1], ends)  # (W, E)
        return F.normalize(found.new_zeros(len(x), found.shape[1]).index_add(0, owner, found), dim=-1, eps=1e-6)

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> SpeakerOutput | tuple[Tensor, ...]:
        """`input_values` (B, T, F) frames of the feature extractor; `attention_mask` (B, T), true or 1 on valid frames, which come first."""
        if attention_mask is None:
            attention_mask = torch.ones(input_values.shape[:2], dtype=torch.int64, device=input_values.device)
        lengths = attention_mask.sum(1)
        hidden, _ = self.states(input_values, lengths)
        output = SpeakerOutput(
            last_hidden_state=hidden[-1],
            embeddings=self.embed(input_values, lengths),
            hidden_states=hidden if output_hidden_states else None,
        )
        return output if return_dict else output.to_tuple()


def window_starts(steps: int, size: int) -> list[int]:
    """Where windows of `size` steps begin in `steps` of them: every half window, and one that ends at the end. One where there is no second."""
    if steps <= size:
        return [0]
    starts = list(range(0, steps - size + 1, max(1, size // 2)))
    return starts if starts[-1] + size == steps else [*starts, steps - size]
