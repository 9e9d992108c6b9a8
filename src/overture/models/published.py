"""Checkpoints of text in transformers' format as a start: BERT, GPT-2 and Llama with their tokenizer, published or exported by us.

transformers reads the weights itself, so older names and several files are its business, and says which fitted. What a network has that ours
has not, another activation or scaled rotary positions, is refused by name: the same weights would make something else of it here.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from overture.data.tokens import FILE, Tokens
from overture.errors import OvertureError
from overture.models.text import Bert, Gpt2, Llama
from overture.models.wav2vec2 import Published, read_config, read_shards
from overture.run import Run
from overture.train.state import stored

HEADS = "heads.safetensors"  # of an export of ours, beside the network
# What decides what the same weights make of a text, beside sizes: it must be as in the network that we build.
# fmt: off
FIXED = {
    "bert": ("hidden_act", "layer_norm_eps", "position_embedding_type", "type_vocab_size", "is_decoder", "add_cross_attention"),
    "gpt2": ("activation_function", "layer_norm_epsilon", "n_inner", "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "add_cross_attention"),
    "llama": ("hidden_act", "attention_bias", "mlp_bias", "head_dim", "rope_parameters"),
}
# fmt: on
# What such a network is gone on with
RECIPES = {"bert": "structural", "gpt2": "human-preferences:published", "llama": "stability-gap"}
POOLED = ("network.bert.pooler.", "network.pooler.", "network.cls.seq_relationship.")
VOCABULARY = ("network.cls.predictions.", "network.lm_head.")
OF_TASKS = ("network.classifier.", "network.score.", "network.qa_outputs.")
Spec = Bert | Gpt2 | Llama


@dataclass(frozen=True, kw_only=True)
class PublishedText:
    """A checkpoint of a network on tokens in transformers' format (`config.json`, `*.safetensors`, `tokenizer.json`)."""

    folder: Path
    kind: str  # model_type
    spec: Spec
    frontend: Tokens

    @classmethod
    def open(cls, folder: Path) -> "PublishedText":
        """Raises OvertureError when `folder` holds no tokenizer, or a network that is not quite one of ours."""
        from transformers import AutoConfig

        path = folder / "config.json"
        kind = read_config(path).get("model_type")
        if kind not in SIZES:
            raise OvertureError(f"{path}: model_type is {kind!r}, and none of wav2vec2, {', '.join(SIZES)}")
        if not (folder / FILE).exists():
            raise OvertureError(
                f"{folder} has no {FILE}: its weights know ids and no text. Save it there with transformers: AutoTokenizer...save_pretrained()"
            )
        config = AutoConfig.from_pretrained(folder)
        spec = SIZES[kind](config)
        found = cls(
            folder=folder,
            kind=kind,
            spec=spec,
            frontend=Tokens(published=str(folder.resolve()), vocabulary=config.vocab_size),
        )
        with torch.device("meta"):
            ours = spec.build(found.frontend).network.config
        for name in FIXED[kind]:
            if (theirs := getattr(config, name, None)) != (own := getattr(ours, name, None)):
                raise OvertureError(f"{path}: {name}={theirs!r} is not supported, only {own!r}")
        return found

    def weights(self) -> dict[str, Tensor]:
        """By the names of `TextModel`, in float32. Raises OvertureError for weights that would have to be unpickled, and damaged ones."""
        given = read_shards(self.folder, but=HEADS)
        with torch.device("meta"):
            network: Any = self.spec.build(self.frontend).network
        try:
            with quiet():
                whole, said = type(network).from_pretrained(
                    self.folder,
                    dtype=torch.float32,
                    use_safetensors=True,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                )
        except (OSError, ValueError, RuntimeError) as error:
            raise OvertureError(f"{self.folder} cannot be read by transformers ({error})") from error
        if wrong := said["mismatched_keys"]:
            raise OvertureError(f"{self.folder}: {sorted(wrong)[0]} is not of the size that its config.json says")
        lacking = set(said["missing_keys"])
        found = {f"network.{n}": v for n, v in stored(whole).items() if n not in lacking}
        found |= {f"network.{n}": given[n] for n in sorted(said["unexpected_keys"]) if n in given}
        heads = self.folder / HEADS
        return found | ({f"heads.{n}": v for n, v in read_shards(heads).items()} if heads.exists() else {})

    def run(self, recipe: Run, frontend: Tokens) -> Run:
        """`recipe` with this network and its tokens, its examples no longer than the network has positions."""
        ours = recipe.model
        kept = {n: getattr(ours, n) for n in ("dropout", "extra") if hasattr(ours, n) and hasattr(self.spec, n)}
        text: Any = recipe.data.text
        data = replace(recipe.data, text=replace(text, length=min(text.length, self.spec.positions)))
        return replace(recipe, model=replace(self.spec, **kept), frontend=frontend, data=data)


def opened(folder: Path) -> Published | PublishedText:
    """The checkpoint in `folder`, of speech or of text. Raises OvertureError where there is none that can be used."""
    if read_config(folder / "config.json").get("model_type") == "wav2vec2":
        return Published.open(folder)
    return PublishedText.open(folder)


def why_missing(name: str, weights: Mapping[str, Tensor]) -> str | None:
    """Why a checkpoint of text may lack the weight `name`; None: it may not."""
    if name.startswith(VOCABULARY) and not any(n.startswith(VOCABULARY) for n in weights):
        return "the head over the vocabulary, which a bare network lacks, so fresh"
    return None


def why_unused(name: str) -> str | None:
    """Why `name` may be in a checkpoint of text and not in ours; None: it may not."""
    if name.startswith(POOLED):
        return "BERT's pooler and next-sentence head, which nothing here reads"
    return "the head of another task" if name.startswith(OF_TASKS) else None


def _bert(config: Any) -> Bert:
    return Bert(
        layers=config.num_hidden_layers, dim=config.hidden_size, heads=config.num_attention_heads, ffn=config.intermediate_size,
        positions=config.max_position_embeddings, dropout=config.hidden_dropout_prob, init=config.initializer_range,
    )  # fmt: skip


def _gpt2(config: Any) -> Gpt2:
    return Gpt2(
        layers=config.n_layer, dim=config.n_embd, heads=config.n_head, positions=config.n_positions, dropout=config.resid_pdrop,
        init=config.initializer_range,
    )  # fmt: skip


def _llama(config: Any) -> Llama:
    groups, heads = config.num_key_value_heads, config.num_attention_heads
    theta, eps = config.rope_parameters.get("rope_theta"), config.rms_norm_eps
    return Llama(
        layers=config.num_hidden_layers, dim=config.hidden_size, heads=heads, groups=None if groups == heads else groups,
        ffn=config.intermediate_size, positions=config.max_position_embeddings, tied=config.tie_word_embeddings, init=config.initializer_range,
        theta=None if theta == 10_000.0 else theta, eps=None if eps == 1e-6 else eps,
    )  # fmt: skip


SIZES: dict[str, Callable[[Any], Spec]] = {"bert": _bert, "gpt2": _gpt2, "llama": _llama}


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars, its report of what did not fit, which is in our own, and its advice."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
