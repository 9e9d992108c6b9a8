"""A language model that hears, as `transformers` opens it: speech encoder (where one is not the front end's business), adapter, language model.

An exported folder carries a copy of this file and of what it imports, so `AutoModel` loads it without Overture.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, WhisperConfig
from transformers.utils import ModelOutput

from overture.models.adapters import ConvGlu, PoolLinear
from overture.models.attention import attention  # noqa: F401  # registers itself
from overture.models.speech_encoder import SpeechEncoder

ADAPTERS = {"ConvGlu": ConvGlu, "PoolLinear": PoolLinear}


class SpeechTextConfig(PreTrainedConfig):
    """Sizes of the parts."""

    model_type = "overture_speech_text"

    def __init__(
        self,
        adapter: str = "ConvGlu",
        adapter_options: dict[str, Any] | None = None,
        features: int = 80,  # of what the adapter is given
        language_model: dict[str, Any] | None = None,  # config of a causal language model
        encoder: dict[str, Any] | None = None,  # config of Whisper; None: features go to the adapter as they are
        encoder_layer: int | None = None,  # whose states the adapter is given; None: the output
        **kwargs: Any,
    ) -> None:
        self.adapter, self.adapter_options, self.features = adapter, dict(adapter_options or {}), features
        self.language_model, self.encoder, self.encoder_layer = language_model or {}, encoder, encoder_layer
        super().__init__(**kwargs)


@dataclass
class SpeechTextOutput(ModelOutput):
    """`last_hidden_state` (B, T, E): what the language model reads in place of embedded tokens; `lengths` (B,): how many of them are valid."""

    last_hidden_state: Tensor | None = None
    lengths: Tensor | None = None


class SpeechTextForTransformers(PreTrainedModel):
    """`model(**features)` gives the vectors of recordings; `answer` is what the language model says to one."""

    config_class = SpeechTextConfig
    main_input_name = "input_values"
    _supports_sdpa = True

    def __init__(self, config: SpeechTextConfig) -> None:
        super().__init__(config)
        known = dict(config.language_model)
        inner = AutoConfig.for_model(known.pop("model_type"), **known)
        self.encoder = None if config.encoder is None else SpeechEncoder(WhisperConfig.from_dict(config.encoder))
        self.language_model = AutoModelForCausalLM.from_config(inner)
        self.adapter = ADAPTERS[config.adapter](**config.adapter_options).build(config.features, inner.hidden_size)
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        """Nothing: the parts have theirs."""

    def forward(
        self,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        input_features: Tensor | None = None,
        **_: Any,
    ) -> SpeechTextOutput:
        """`input_values` (B, T, F), or Whisper's `input_features` (B, F, T), and which frames are valid (B, T); without a mask all are."""
        x = input_features.transpose(1, 2) if input_features is not None else input_values
        if x is None:
            raise ValueError("give input_values or input_features")
        lengths = (
            torch.full(x.shape[:1], x.shape[1], device=x.device) if attention_mask is None else attention_mask.sum(1)
        )
        if self.encoder is not None:
            hidden, lengths = self.encoder.states(x, lengths)
            x = hidden[-1 if self.config.encoder_layer is None else self.config.encoder_layer]
        vectors, steps = self.adapter(x, lengths)
        return SpeechTextOutput(last_hidden_state=vectors, lengths=steps)

    @torch.no_grad()
    def answer(self, before: Tensor, after: Tensor, max_new_tokens: int = 64, **features: Any) -> Tensor:
        """(1, n) ids that stand before one recording and (1, m) behind it -> (1, k) ids of the answer, greedily."""
        heard = self(**features).last_hidden_state
        embed = self.language_model.get_input_embeddings()
        given = torch.cat([embed(before), heard, embed(after)], 1)
        mask = torch.ones(given.shape[:2], dtype=torch.long, device=given.device)
        found: Tensor = self.language_model.generate(
            inputs_embeds=given, attention_mask=mask, max_new_tokens=max_new_tokens, do_sample=False
        )
        return found
