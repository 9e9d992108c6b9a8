"""Which axis each dimension of each parameter is, architecture by architecture: what weight surgery (`models.surgery`) works by.

A parameter is described by one word a dimension:

    hidden    the layer writes it: its part of the residual stream, or what `heads` and `ffn` name
    /hidden   the layer reads it, and sums over it: where it becomes several copies, each counts for its share
    =hidden   a norm's gain or bias, and other vectors that stand beside the stream
    -         as it is, whatever the sizes (a vocabulary, a position, a kernel); *: so are all dimensions

Axes: `hidden` is the residual stream, one for the whole network; `heads` is heads x head size, `qkv` that thrice, side by side; `ffn`. In wav2vec 2.0
`group` is the part of the stream that a group of the positional convolution reads.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from overture.errors import OvertureError
from overture.models.patch import PatchTransformer
from overture.models.text import Bert, Gpt2, Llama
from overture.models.wav2vec2 import Wav2Vec2
from overture.run import ModelSpec

LAYER = re.compile(r"(?:^|\.)(?:layers?|h)\.(\d+)\.")

BERT = {
    "bert.embeddings.(word|position|token_type)_embeddings.weight": "- hidden",
    "bert.embeddings.LayerNorm.(weight|bias)": "=hidden",
    "bert.encoder.layer.N.attention.self.(query|key|value).weight": "heads /hidden",
    "bert.encoder.layer.N.attention.self.(query|key|value).bias": "heads",
    "bert.encoder.layer.N.attention.output.dense.weight": "hidden /heads",
    "bert.encoder.layer.N.intermediate.dense.weight": "ffn /hidden",
    "bert.encoder.layer.N.intermediate.dense.bias": "ffn",
    "bert.encoder.layer.N.output.dense.weight": "hidden /ffn",
    "bert.encoder.layer.N.(attention.)?output.dense.bias": "hidden",
    "bert.encoder.layer.N.(attention.)?output.LayerNorm.(weight|bias)": "=hidden",
    "cls.predictions.transform.dense.weight": "hidden /hidden",
    "cls.predictions.transform.dense.bias": "hidden",
    # Then come the embeddings again, which sum over the stream and cannot be divided, for they are read as well: this norm is.
    "cls.predictions.transform.LayerNorm.(weight|bias)": "/hidden",
    "cls.predictions.bias": "-",
}
LLAMA = {
    "model.embed_tokens.weight": "- hidden",
    "model.layers.N.self_attn.(q|k|v)_proj.weight": "heads /hidden",
    "model.layers.N.self_attn.o_proj.weight": "hidden /heads",
    "model.layers.N.mlp.(gate|up)_proj.weight": "ffn /hidden",
    "model.layers.N.mlp.down_proj.weight": "hidden /ffn",
    "model.layers.N.(input|post_attention)_layernorm.weight": "=hidden",
}
UNTIED = {"model.norm.weight": "=hidden", "lm_head.weight": "- /hidden"}
TIED = {"model.norm.weight": "/hidden"}  # as in BERT
GPT2 = {  # its products are inputs x outputs
    "transformer.(wte|wpe).weight": "- hidden",
    "transformer.h.N.ln_(1|2).(weight|bias)": "=hidden",
    "transformer.h.N.attn.c_attn.weight": "/hidden qkv",
    "transformer.h.N.attn.c_attn.bias": "qkv",
    "transformer.h.N.attn.c_proj.weight": "/heads hidden",
    "transformer.h.N.mlp.c_fc.weight": "/hidden ffn",
    "transformer.h.N.mlp.c_fc.bias": "ffn",
    "transformer.h.N.mlp.c_proj.weight": "/ffn hidden",
    "transformer.h.N.(attn|mlp).c_proj.bias": "hidden",
    "transformer.ln_f.(weight|bias)": "/hidden",  # as in BERT
}
WAV2VEC2 = {
    "wav2vec2.feature_extractor..*": "*",
    "wav2vec2.feature_projection.layer_norm.(weight|bias)": "*",
    "wav2vec2.feature_projection.projection.weight": "hidden -",
    "wav2vec2.feature_projection.projection.bias": "hidden",
    "wav2vec2.masked_spec_embed": "=hidden",
    "wav2vec2.encoder.pos_conv_embed.conv.weight": "hidden /group -",
    "wav2vec2.encoder.pos_conv_embed.conv.bias": "hidden",
    "wav2vec2.encoder.layer_norm.(weight|bias)": "=hidden",
    "wav2vec2.encoder.layers.N.attention.(q|k|v)_proj.weight": "heads /hidden",
    "wav2vec2.encoder.layers.N.attention.(q|k|v)_proj.bias": "heads",
    "wav2vec2.encoder.layers.N.attention.out_proj.weight": "hidden /heads",
    "wav2vec2.encoder.layers.N.attention.out_proj.bias": "hidden",
    "wav2vec2.encoder.layers.N.feed_forward.intermediate_dense.weight": "ffn /hidden",
    "wav2vec2.encoder.layers.N.feed_forward.intermediate_dense.bias": "ffn",
    "wav2vec2.encoder.layers.N.feed_forward.output_dense.weight": "hidden /ffn",
    "wav2vec2.encoder.layers.N.feed_forward.output_dense.bias": "hidden",
    "wav2vec2.encoder.layers.N.(final_)?layer_norm.(weight|bias)": "=hidden",
    "quantizer..*": "*",
    "project_q.(weight|bias)": "*",
    "project_hid.weight": "- /hidden",
    "project_hid.bias": "-",
}
PATCHES = {
    "embeddings.(cls_token|distillation_token|position_embeddings)": "- - hidden",
    "embeddings.patch_embeddings.projection.weight": "hidden - - -",
    "embeddings.patch_embeddings.projection.bias": "hidden",
    "layers.N.attention.(q|k|v)_proj.weight": "heads /hidden",
    "layers.N.attention.(q|k|v)_proj.bias": "heads",
    "layers.N.attention.o_proj.weight": "hidden /heads",
    "layers.N.attention.o_proj.bias": "hidden",
    "layers.N.mlp.fc1.weight": "ffn /hidden",
    "layers.N.mlp.fc1.bias": "ffn",
    "layers.N.mlp.fc2.weight": "hidden /ffn",
    "layers.N.mlp.fc2.bias": "hidden",
    "(layers.N.)?layernorm(_before|_after)?.(weight|bias)": "=hidden",
    "head.mask": "=hidden",
    "head.(discriminative|generative).0.weight": "hidden /hidden",
    "head.(discriminative|generative).0.bias": "hidden",
    "head.(discriminative.2|generative.2|position.1).weight": "- /hidden",
    "head.(discriminative.2|generative.2|position.1).bias": "-",
    "head.position.0.(weight|bias)": "=hidden",
}


@dataclass(frozen=True)
class Axes:
    """A network of one architecture and some sizes."""

    table: Mapping[str, str]  # name, N for the number of a layer, as a regular expression -> words
    layers: int
    hidden: int
    heads: int
    head: int  # the size of one
    ffn: int
    groups: int = 1  # parts of the stream that a positional convolution reads apart

    def of(self, name: str) -> tuple[str, ...]:
        """The words of a parameter. Raises OvertureError for a name that this architecture does not have."""
        plain = LAYER.sub(lambda found: found[0].replace(found[1], "N"), name.removeprefix("network."))
        for pattern, words in self.table.items():
            if re.fullmatch(pattern, plain):
                return tuple(words.split())
        raise OvertureError(
            f"what the dimensions of {name} are is not known, so surgery cannot tell what becomes of it: say so in overture.models.axes, or "
            "leave it out"
        )


def layer_of(name: str) -> int | None:
    """The number of the layer that a parameter belongs to."""
    found = LAYER.search(name)
    return int(found[1]) if found else None


def at_layer(name: str, layer: int) -> str:
    """The name of the same parameter in another layer."""
    return LAYER.sub(lambda found: f"{found[0].rpartition(found[1])[0]}{layer}.", name)


def axes(spec: ModelSpec) -> Axes:
    """Of a network of these sizes. Raises OvertureError for an architecture that is not described, and for keys and values of grouped heads."""
    table, groups = LLAMA, 1
    ffn = getattr(spec, "ffn", 0)
    if type(spec) is Bert:
        table = BERT
    elif type(spec) is Llama:
        table = LLAMA | (TIED if spec.tied else UNTIED)
        if spec.groups not in (None, spec.heads):
            raise OvertureError(
                f"model.groups={spec.groups}: {spec.heads} heads of queries share {spec.groups} of keys and values, and copies of heads would "
                "then read others' keys. Growth is for networks with as many of both"
            )
    elif type(spec) is Gpt2:
        table, ffn = GPT2, 4 * spec.dim
    elif type(spec) is Wav2Vec2:
        table, groups = WAV2VEC2, spec.position_groups
    elif type(spec) is PatchTransformer:
        table = PATCHES
        if spec.positions == "sinusoid":
            raise OvertureError(
                "model.positions=sinusoid: a wider network has other sinusoids, and would see its patches elsewhere. Growth is for learned "
                "positions, or none"
            )
    else:
        raise OvertureError(
            f"the parameters of a {type(spec).__name__} are not described for surgery: those of Bert, Llama, Gpt2, Wav2Vec2 and "
            "PatchTransformer are (overture.models.axes)"
        )
    return Axes(table, spec.layers, spec.dim, spec.heads, spec.dim // spec.heads, ffn, groups)
