"""Export of networks on tokens: transformers' own class with its tokenizer, held against the run on real documents."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from overture.data.table import Table
from overture.data.tokens import FILE, ROLES, SPECIAL, Tokens
from overture.errors import OvertureError
from overture.export.compare import TOLERANCE, near, same_weights
from overture.run import Run

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from overture.models.text import TextModel

HEADS = "heads.safetensors"


def write(run: Run, model: "TextModel", folder: Path, out: Path) -> None:
    """Weights, tokenizer and, in a file of their own, the heads that only pre-training needs. `folder`: of the run."""
    from safetensors.torch import save_file

    model.network.save_pretrained(out, safe_serialization=True)
    tokenizer_of(run.frontend, model, folder).save_pretrained(out)
    if len(model.heads):
        save_file({name: value.contiguous() for name, value in model.heads.state_dict().items()}, out / HEADS)


def _own(folder: Path) -> "Tokenizer":
    from tokenizers import Tokenizer

    if not (folder / FILE).exists():
        raise OvertureError(f"{folder} has no {FILE}, the tokenizer that it was trained with: train it anew")
    return Tokenizer.from_file(str(folder / FILE))


def tokenizer_of(tokens: Tokens, model: "TextModel", folder: Path) -> "PreTrainedTokenizerFast":
    """As the run reads; around a text stand CLS and SEP where the network is an encoder."""
    from tokenizers import processors
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    blocks = list(tokens.blocks)
    if tokens.published is not None:
        taken: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(tokens.folder)
        taken.add_special_tokens({"additional_special_tokens": blocks})
        return taken
    tokenizer = _own(folder)
    if not model.causal:
        cls, sep = SPECIAL[2], SPECIAL[3]
        ids = [(cls, model.special.cls), (sep, model.special.sep)]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{cls} $A {sep}", special_tokens=ids)
    named: dict[str, Any] = dict(zip(ROLES, SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=model.positions,
        additional_special_tokens=blocks,
        clean_up_tokenization_spaces=False,
        **named,
    )


def check(model: "TextModel", folder: Path, out: Path) -> None:
    """Hold what transformers' Auto classes load from `out` against `model` and its tokenizer on two embedded documents of different length.

    Raises OvertureError when an id, a weight, a state or a logit differs.
    """
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

    table = Table.open("embedded-text", "length between 200 and 2000")
    texts = [str(table.columns.column("text")[i].as_py()) for i in (0, len(table) // 2)]
    inputs = AutoTokenizer.from_pretrained(out)(
        texts,
        return_tensors="pt",
        padding=True,
        truncation=True,
        max_length=model.positions,
        return_token_type_ids=False,
    )
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    front = 0 if model.causal else 1  # CLS
    for line, length, found in zip(
        ids.tolist(), mask.sum(1).tolist(), _own(folder).encode_batch(texts, add_special_tokens=False)
    ):
        own = line[front : length - front]
        if own != found.ids[: len(own)] or not own:
            raise OvertureError(f"not exported: the tokenizer in {out} gives other ids than the run's")
    whole = (AutoModelForCausalLM if model.causal else AutoModelForMaskedLM).from_pretrained(out).eval()
    same_weights(whole, model.network, out)
    valid = mask.bool()
    with torch.no_grad():
        last, theirs = AutoModel.from_pretrained(out).eval()(**inputs).last_hidden_state, whole(**inputs).logits
        states = model.states(ids, mask.sum(1)).hidden[-1]
        near("last_hidden_state", last, states, TOLERANCE, out, valid)
        near("logits", theirs, model.logits(states), TOLERANCE, out, valid)
