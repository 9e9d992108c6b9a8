"""A folder as published language models have it: a tiny Gemma 3 with random weights, and a tokenizer of 300 tokens."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from overture.data.tokens import Tokens, train

VOCABULARY = 300
BEGIN, END, PAD = "[CLS]", "<|endoftext|>", "[PAD]"
TEXTS = ("the cat sat on the mat", "a dog ran after the cat and the cat ran up a tree", "press one now")


def folder(path: Path, *, seed: int = 0, weights: bool = True, **changes: Any) -> Path:
    """Its windows slide over 8 tokens in the first of its two layers. `changes`: of its config."""
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = train(Tokens(vocabulary=VOCABULARY), iter(TEXTS * 50))
    tokenizer.save(str(path / "tokenizer.json"))
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BEGIN, "eos_token": END, "pad_token": PAD}
    (path / "tokenizer_config.json").write_text(json.dumps(said))
    config = Gemma3TextConfig(**{
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8, "max_position_embeddings": 128,
        "layer_types": ["sliding_attention", "full_attention"], "initializer_range": 0.5, "pad_token_id": 0, "eos_token_id": 5,
        "bos_token_id": 2,
    } | changes)  # fmt: skip
    torch.manual_seed(seed)
    model = Gemma3ForCausalLM(config)
    if weights:
        model.save_pretrained(path)
    else:
        config.save_pretrained(path)
    return path
