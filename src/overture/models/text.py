"""Networks on tokens: transformers' own BERT, Llama, GPT-2 and published decoders, and what Overture's objectives, probes and exporter ask of them.

`.network` *is* transformers' class with its head over the vocabulary, so checkpoints open there. Beside it stand heads that only pre-training
needs (`heads`): of tokens, of the whole, of spans. Hidden states are handed out; logits are computed only where there are labels
(`objectives.vocabulary`); padding reaches nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from overture.config import LATER
from overture.data.batch import States, valid_mask
from overture.data.tokens import Special, Tokens
from overture.errors import OvertureError
from overture.models import sources

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True, kw_only=True)
class Head:
    """A head beside the one over the vocabulary: an MLP of one hidden layer (`deep`) or a linear layer, D or `inputs` D wide -> `outputs`."""

    name: str
    outputs: int = 1
    inputs: int = 1  # vectors that stand side by side in its input
    deep: bool = True
    bias: bool = True
    zero: bool = False  # its last layer begins at zero


@dataclass(frozen=True, kw_only=True)
class Bert:
    """A Transformer encoder (Devlin et al. 2019): every token sees all of its example. Published sizes: BASE."""

    layers: int = 12
    dim: int = 768
    heads: int = 12
    ffn: int = 3072
    positions: int = 512  # the longest example
    dropout: float = 0.1
    init: float = 0.02  # standard deviation of fresh weights
    extra: tuple[Head, ...] = ()

    causal = False

    def build(self, frontend: Tokens) -> "TextModel":
        """The network with fresh weights from torch's current generator."""
        from transformers import BertConfig, BertForMaskedLM

        config = BertConfig(
            **_ids(frontend),
            hidden_size=self.dim,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.ffn,
            max_position_embeddings=self.positions,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            initializer_range=self.init,
            attn_implementation="overture",
        )
        return TextModel(BertForMaskedLM, config, frontend.special, self.extra, self.positions)


@dataclass(frozen=True, kw_only=True)
class Llama:
    """A Transformer decoder with rotary positions and gated layers (Touvron et al. 2023): a token sees those before it."""

    layers: int = 12
    dim: int = 768
    heads: int = 12
    groups: int | None = None  # heads of keys and values; None: as many as of queries
    ffn: int = 2048
    positions: int = 2048
    tied: bool = False  # the vocabulary head has the weights of the embedding
    theta: float | None = field(default=None, metadata=LATER)  # base of the rotary positions; None: 10,000
    eps: float | None = field(default=None, metadata=LATER)  # of the norms; None: 1e-6
    init: float = 0.02
    extra: tuple[Head, ...] = ()

    causal = True

    def build(self, frontend: Tokens) -> "TextModel":
        """The network with fresh weights from torch's current generator."""
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            **_ids(frontend),
            hidden_size=self.dim,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.groups or self.heads,
            intermediate_size=self.ffn,
            max_position_embeddings=self.positions,
            tie_word_embeddings=self.tied,
            rope_parameters={"rope_type": "default", "rope_theta": self.theta or 10_000.0},
            rms_norm_eps=self.eps or 1e-6,
            initializer_range=self.init,
            attn_implementation="overture",
        )
        return TextModel(LlamaForCausalLM, config, frontend.special, self.extra, self.positions)


@dataclass(frozen=True, kw_only=True)
class Gpt2:
    """GPT-2 (Radford et al. 2019): a decoder with learnt positions and tied embeddings. Published sizes: small, 124 M."""

    layers: int = 12
    dim: int = 768
    heads: int = 12
    positions: int = 1024
    dropout: float = 0.1
    init: float = 0.02
    extra: tuple[Head, ...] = ()

    causal = True

    def build(self, frontend: Tokens) -> "TextModel":
        """The network with fresh weights from torch's current generator."""
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            **_ids(frontend),
            n_embd=self.dim,
            n_layer=self.layers,
            n_head=self.heads,
            n_positions=self.positions,
            resid_pdrop=self.dropout,
            embd_pdrop=self.dropout,
            attn_pdrop=self.dropout,
            initializer_range=self.init,
            attn_implementation="overture",
        )
        return TextModel(GPT2LMHeadModel, config, frontend.special, self.extra, self.positions)


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A decoder with its published weights: any causal language model of transformers that keeps them in safetensors.

    Its own attention stays (windows that slide, masks of its own making), as PyTorch's kernels compute it.
    """

    model: str = "gemma-3-270m"  # an installed model, or a folder
    dim: int | None = (
        None  # of its states: told, what is built around it can be counted where the model is not installed
    )
    frozen: bool = True  # it learns nothing, and its weights are in no checkpoint: they are found again where they are
    weights: str | None = None  # hash of the model's files, by `settled`: other weights are another run

    causal = True

    def settled(self) -> "Pretrained":
        """The same, named after the weights that the model has now. Raises OvertureError where there is none."""
        return replace(self, weights=sources.described(self.model)["files"])

    def tokens(self) -> Tokens:
        """Its own tokenizer as a front end. Raises OvertureError where there is no such model."""
        return Tokens(published=self.model, vocabulary=_read_config(sources.find(self.model)).vocab_size)

    def build(self, frontend: Tokens) -> "TextModel":
        """The network with its weights, in float32; under `torch.device("meta")` its shape alone.

        Raises OvertureError where there is no such model, weights are missing or would have to be unpickled, `frontend` has another vocabulary,
        and for a network whose logits are not plain products of its last states with one matrix, as objectives here take them to be.
        """
        from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

        folder = sources.find(self.model)
        if self.weights not in (None, found := sources.described(self.model)["files"]):
            raise OvertureError(
                f"{folder} has other files ({found}) than those this run is named after ({self.weights}): it has changed since. Give the "
                "command again"
            )
        config = _read_config(folder)
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise OvertureError(f"{folder}: {config.model_type} is no causal language model of transformers")
        if frontend.vocabulary != config.vocab_size:
            raise OvertureError(
                f"{folder} has {config.vocab_size:,} tokens, the front end {frontend.vocabulary:,}: set frontend.vocabulary={config.vocab_size}"
            )
        if self.dim not in (None, config.hidden_size):
            raise OvertureError(
                f"{folder} has states of {config.hidden_size} dimensions, not {self.dim}: set model.lm.dim={config.hidden_size}"
            )
        kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        if torch.get_default_device().type == "meta":
            return TextModel(kind, config, frontend.special, (), config.max_position_embeddings)
        made = TextModel(
            lambda config: _load(kind, config, folder),
            config,
            frontend.special,
            (),
            config.max_position_embeddings,
        )
        _hold(made, folder)
        if self.frozen:
            made.requires_grad_(False)
            made.kept_elsewhere = True
        return made


def _read_config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, attn_implementation="overture")
    except (OSError, ValueError, KeyError) as error:
        raise OvertureError(f"{folder}: config.json cannot be read by transformers ({error})") from error


def _load(kind: Any, config: Any, folder: Path) -> Any:
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        network, said = kind.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise OvertureError(
            f"{folder} cannot be read by transformers, which is asked for weights in safetensors alone ({error})"
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()
    if missing := sorted(said["missing_keys"]):
        raise OvertureError(
            f"{folder} lacks {len(missing)} weights of {kind.__name__}, such as {missing[0]}: download it again"
        )
    return network


@torch.no_grad()
def _hold(model: "TextModel", folder: Path) -> None:
    """Raises OvertureError where the network makes other logits of its last states than we do: caps them, or scales them."""
    if not model.causal:
        raise OvertureError(
            f"{folder}: {type(model.network).__name__} has no lm_head, so its logits cannot be taken apart"
        )
    ids = torch.tensor([[model.special.begin, model.special.end]])
    theirs = model.network(input_ids=ids, use_cache=False).logits  # (1, 2, V)
    ours = model.logits(model.hidden(ids, torch.tensor([2])))
    if not torch.allclose(theirs, ours, rtol=1e-3, atol=1e-3 * float(theirs.abs().max())):
        raise OvertureError(
            f"{folder}: {type(model.network).__name__} makes more of its last states than a product with one matrix (a cap or a scale of logits)"
        )


def _ids(frontend: Tokens) -> dict[str, Any]:
    special = frontend.special
    return {
        "vocab_size": frontend.vocabulary,
        "pad_token_id": None if special.pad == special.end else special.pad,  # its embedding would not learn
        "bos_token_id": special.end,
        "eos_token_id": special.end,
    }


class TextModel(nn.Module):
    """A network on tokens as the loop, objectives and probes call it."""

    kept_elsewhere = False  # its weights are not in checkpoints of the run, see `train.state.stored`

    def __init__(
        self,
        kind: Callable[["PreTrainedConfig"], Any],
        config: "PreTrainedConfig",
        special: Special,
        extra: tuple[Head, ...],
        positions: int,
    ) -> None:
        super().__init__()
        import overture.models.attention  # noqa: F401  # registers itself

        self.special, self.positions = special, positions
        self.network: Any = kind(config)
        self.dim: int = self.network.config.hidden_size
        self.vocabulary: int = self.network.config.vocab_size
        self.causal = hasattr(self.network, "lm_head")
        self.heads = nn.ModuleDict({head.name: _head(head, self.dim, config.initializer_range) for head in extra})

    @property
    def layers(self) -> nn.ModuleList:
        """What a sharded run shards one by one."""
        holder, name = self._holder
        found: nn.ModuleList = getattr(holder, name)
        return found

    @property
    def _holder(self) -> tuple[nn.Module, str]:
        """What has the layers, and what it calls them."""
        base = self.network.base_model
        return (base.encoder, "layer") if hasattr(base, "encoder") else (base, "h" if hasattr(base, "h") else "layers")

    @contextmanager
    def lowest(self, depth: int, *, learning: int) -> Iterator[None]:
        """Meanwhile it has its lowest `depth` layers alone, and only the top `learning` of them get gradients; embeddings where those are all."""
        holder, name = self._holder
        layers = self.layers
        cut = layers[depth - learning].register_forward_pre_hook(lambda _, given: (given[0].detach(), *given[1:]))
        if learning == depth:
            cut.remove()
        setattr(holder, name, layers[:depth])
        try:
            yield
        finally:
            setattr(holder, name, layers)
            cut.remove()

    def steps(self, lengths: Tensor) -> Tensor:
        """(B,) tokens -> (B,) states: as many."""
        return lengths

    def _states(
        self, given: Tensor, lengths: Tensor, document: Tensor | None, *, all_layers: bool
    ) -> tuple[Tensor, ...]:
        """`given`: (B, T) ids or (B, T, D) vectors in place of their embeddings."""
        if given.shape[1] > self.positions:
            raise OvertureError(
                f"an example of {given.shape[1]} tokens, and the network has {self.positions} positions: lower data.text.length"
            )
        output = self.network.base_model(
            **{"input_ids" if given.ndim == 2 else "inputs_embeds": given},
            attention_mask=self._mask(given, lengths, document),
            output_hidden_states=all_layers,
            **({"use_cache": False} if self.causal else {}),
        )
        return tuple(output.hidden_states) if all_layers else (output.last_hidden_state,)

    def _mask(self, given: Tensor, lengths: Tensor, document: Tensor | None) -> Tensor | None:
        """Which keys each query may read, (B, 1, 1 or T, T) bool; None: all, or in a decoder what came before. Padding reads itself."""
        steps = given.shape[1]
        if document is None:
            if self.causal:  # padding comes last, where no token of the example looks
                return None
            valid = valid_mask(lengths, steps)
            return None if bool(valid.all()) else valid[:, None, None]
        window = getattr(self.network.config, "sliding_window", None)
        if window is not None and window < steps:  # a mask that is given takes the place of the network's own
            raise OvertureError(
                f"examples of {steps} tokens hold several documents, and the network's windows slide over {window}: lower data.text.length"
            )
        together = document[:, :, None] == document[:, None, :]  # (B, T, T)
        return (together.tril() if self.causal else together)[:, None]

    def hidden(self, ids: Tensor, lengths: Tensor, document: Tensor | None = None) -> Tensor:
        """(B, T) ids, (B,) valid tokens -> (B, T, D). `document` (B, T): attention stays within tokens of one number."""
        return self._states(ids, lengths, document, all_layers=False)[0]

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) ids -> (B, T, D) what the first layer reads of them, before positions are added."""
        found: Tensor = self.network.get_input_embeddings()(ids)
        return found

    def hidden_of(self, vectors: Tensor, lengths: Tensor, document: Tensor | None = None) -> Tensor:
        """As `hidden`, of (B, T, D) vectors in place of embedded tokens."""
        return self._states(vectors, lengths, document, all_layers=False)[0]

    def states(self, ids: Tensor, lengths: Tensor) -> States:
        """(B, T) ids, (B,) valid tokens -> all hidden states, (L + 1) of (B, T, D): the embedding first."""
        return States(self._states(ids, lengths, None, all_layers=True), lengths)

    @property
    def output(self) -> "tuple[nn.Module, Tensor, Tensor | None]":
        """The head over the vocabulary: what comes before its last product, the weights of that (V, D), and its bias (V,)."""
        if self.causal:
            return nn.Identity(), self.network.lm_head.weight, self.network.lm_head.bias
        predictions = self.network.cls.predictions
        return predictions.transform, predictions.decoder.weight, predictions.decoder.bias

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        before, weight, bias = self.output
        found: Tensor = nn.functional.linear(before(hidden), weight, bias)
        return found


def _head(head: Head, dim: int, std: float) -> nn.Module:
    wide = head.inputs * dim
    last = nn.Linear(dim if head.deep else wide, head.outputs, bias=head.bias)
    layers = [nn.Linear(wide, dim), nn.GELU(), nn.LayerNorm(dim), last] if head.deep else [last]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    if head.zero:
        nn.init.zeros_(last.weight)
    return nn.Sequential(*layers)
