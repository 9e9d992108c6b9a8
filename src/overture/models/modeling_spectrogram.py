"""A Transformer over spectrogram frames that reconstructs them: the network of Mockingjay and TERA.

Linear(F -> D) + fixed sinusoid positions -> LayerNorm -> L post-norm BERT layers; the head Linear-GELU-LayerNorm-Linear
predicts the clean frames (Liu et al. 2021, arXiv 2007.06028, section III). The layers are transformers' `BertLayer`.
An exported folder carries a copy of this file, so `AutoModel` loads it without Overture.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from transformers import BertConfig, PreTrainedModel
from transformers.models.bert.modeling_bert import BertLayer
from transformers.utils import ModelOutput

from overture.models.attention import attention  # noqa: F401  # registers itself


class SpectrogramConfig(BertConfig):
    """A BertConfig whose input is frames of `features` channels at `frame_rate` Hz instead of word ids."""

    model_type = "overture_spectrogram"

    def __init__(self, features: int = 80, frame_rate: float = 100.0, **kwargs: object) -> None:
        self.features, self.frame_rate = features, frame_rate
        super().__init__(**kwargs)


@dataclass
class SpectrogramOutput(ModelOutput):
    """`last_hidden_state` (B, T, D), `reconstruction` (B, T, F), and when asked `hidden_states`, (L + 1) of (B, T, D)."""

    last_hidden_state: Tensor | None = None
    reconstruction: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class SpectrogramModel(PreTrainedModel):
    """The encoder with its pre-training head."""

    config_class = SpectrogramConfig
    main_input_name = "input_values"
    _supports_sdpa = True

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__(config)
        d = config.hidden_size
        self.project = nn.Linear(config.features, d)
        self.norm = nn.LayerNorm(d, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(BertLayer(config, layer_idx=i) for i in range(config.num_hidden_layers))
        self.head = nn.Sequential(
            nn.Linear(d, d), nn.GELU(), nn.LayerNorm(d, eps=config.layer_norm_eps), nn.Linear(d, config.features)
        )
        self.frame_rate, self.dim = config.frame_rate, d
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    def hidden(self, x: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """(B, T, F), (B, T) bool -> (L + 1) of (B, T, D): the input projection first."""
        x = self.project(x)  # (B, T, D)
        x = self.dropout(self.norm(x + sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype)))
        states = [x]
        attend = (
            None if bool(mask.all()) else mask[:, None, None, :]
        )  # (B, 1, 1, T); no mask at all is the faster kernel
        for layer in self.layers:
            x = layer(x, attend)
            states.append(x)
        return tuple(states)

    def steps(self, lengths: Tensor) -> Tensor:
        """(B,) frames -> (B,) states: as many."""
        return lengths

    def states(self, x: Tensor, lengths: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """(B, T, F), (B,) valid frames -> all hidden states, (L + 1) of (B, T, D), and their lengths (B,)."""
        return self.hidden(x, torch.arange(x.shape[1], device=x.device)[None] < lengths[:, None]), lengths

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> SpectrogramOutput | tuple[Tensor, ...]:
        """`input_values` (B, T, F) normalised log-mel; `attention_mask` (B, T), true or 1 on valid frames."""
        if attention_mask is None:
            attention_mask = torch.ones(input_values.shape[:2], dtype=torch.bool, device=input_values.device)
        states = self.hidden(input_values, attention_mask.bool())
        output = SpectrogramOutput(
            last_hidden_state=states[-1],
            reconstruction=self.head(states[-1]),
            hidden_states=states if output_hidden_states else None,
        )
        return output if return_dict else output.to_tuple()


@lru_cache(maxsize=8)
def sinusoids(steps: int, dim: int, device: torch.device) -> Tensor:
    """(steps, dim) float32: sine in the even and cosine in the odd channels (Vaswani et al. 2017, section 3.5)."""
    rate = torch.exp(torch.arange(0, dim, 2, dtype=torch.float64) * (-torch.log(torch.tensor(10_000.0)) / dim))
    angle = torch.arange(steps, dtype=torch.float64)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).float().to(device)
