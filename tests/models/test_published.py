"""overture.models.published: checkpoints of text that transformers wrote, as a start; and exports of ours."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from overture.cli.start import started
from overture.data.table import Table
from overture.data.tokens import Tokens
from overture.errors import OvertureError
from overture.export import export
from overture.models.origin import Origin, heard
from overture.models.published import PublishedText
from overture.models.start import continued, load, said
from overture.models.text import Bert, Gpt2, Llama
from overture.train.engine import Engine
from overture.train.loop import train

from ..tasks.texts import DIM, documents, kept, reads

VOCABULARY = 300
IDS = {"vocab_size": VOCABULARY}
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
}
BERT = BertConfig(**IDS, **SMALL)
GPT2 = GPT2Config(**IDS, n_embd=32, n_layer=2, n_head=4, n_positions=48)
LLAMA = LlamaConfig(
    **IDS,
    **SMALL,
    num_key_value_heads=2,
    rms_norm_eps=1e-5,
    rope_parameters={"rope_type": "default", "rope_theta": 5e5},
)
MADE = {
    "bert": (BertForMaskedLM, BERT, Bert()),
    "gpt2": (GPT2LMHeadModel, GPT2, Gpt2()),
    "llama": (LlamaForCausalLM, LLAMA, Llama()),
}


@pytest.fixture(scope="module")
def corpus() -> str:
    return kept(documents(40, seed=1), "texts-published")


def checkpoint(folder: Path, corpus: str, kind: Any, config: Any, **roles: str) -> Any:
    """A checkpoint with a tokenizer of other special ids than ours; returns the network."""
    tokenizer = Tokens(vocabulary=VOCABULARY).tokenizer(Table.open(corpus))
    torch.manual_seed(3)
    network = kind(config).eval()
    network.save_pretrained(folder)
    roles = roles or {
        "eos_token": "<|endoftext|>",
        "unk_token": "[UNK]",
        "cls_token": "[SEP]",
        "sep_token": "[CLS]",
        "mask_token": "[PAD]",
    }
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles).save_pretrained(folder)
    return network


@pytest.mark.parametrize("name", list(MADE))
def test_the_started_network_says_what_transformers_says(name: str, corpus: str, tmp_path: Path) -> None:
    kind, config, ours = MADE[name]
    theirs = checkpoint(tmp_path / "theirs", corpus, kind, config)
    begin = replace(reads(corpus, replace(ours, layers=1, dim=8)), data=replace(reads(corpus, ours).data))
    run = continued(begin, "theirs", tmp_path)
    assert run.frontend == Tokens(vocabulary=VOCABULARY, published=str((tmp_path / "theirs").resolve()))
    torch.manual_seed(9)
    model = run.model.build(run.frontend).eval()
    report = load(run, model, tmp_path)
    assert (
        report["matched"] == len(Origin.open("theirs", tmp_path).weights())
        and report["missing"] == report["unused"] == {}
    )
    assert report["kind"] == "checkpoint" and report["quantizer"] is None and "tensors fitted" in said(report)
    special = run.frontend.special
    assert (special.cls, special.sep, special.end) == (3, 2, 5) and special.pad == special.end
    ids, lengths = (
        torch.randint(6, VOCABULARY, (2, 20), generator=torch.Generator().manual_seed(0)),
        torch.tensor([20, 13]),
    )
    mask = (torch.arange(20) < lengths[:, None]).long()
    with torch.no_grad():
        wanted = theirs(input_ids=ids, attention_mask=mask).logits
        found = model.logits(model.hidden(ids, lengths))
    torch.testing.assert_close(found[mask.bool()], wanted[mask.bool()], atol=1e-5, rtol=1e-5)
    tables, unknown = heard(tmp_path / "theirs")
    assert not tables and unknown == ["what theirs was trained on"]


def test_a_run_trains_on_from_a_checkpoint_and_is_a_start_itself(corpus: str, tmp_path: Path) -> None:
    checkpoint(tmp_path / "theirs", corpus, GPT2LMHeadModel, GPT2)
    gpt2 = replace(reads(corpus, Gpt2(**DIM), updates=2), recipe="human-preferences", size="published")
    run = continued(gpt2, "theirs", tmp_path)
    with Engine.start() as engine:
        train(run, tmp_path / run.folder_name, engine=engine)
    about = json.loads((tmp_path / run.folder_name / "run.json").read_text())
    assert about["start"]["matched"] > 20 and about["start"]["heard"][0]["checkpoint"] == "theirs"
    assert (tmp_path / run.folder_name / "tokenizer.json").exists()
    again = continued(gpt2, run.folder_name, tmp_path)
    assert again.frontend == run.frontend and len(heard(tmp_path / run.folder_name)[0]) == 1


def test_what_bert_was_trained_with_besides_is_told(corpus: str, tmp_path: Path) -> None:
    def report_of(kind: Any) -> dict[str, Any]:
        checkpoint(tmp_path / kind.__name__, corpus, kind, BERT)
        run = continued(reads(corpus, Bert(**DIM)), kind.__name__, tmp_path)
        return load(run, run.model.build(run.frontend), tmp_path)

    whole = report_of(BertForPreTraining)
    assert whole["missing"] == {} and {
        n.split(".")[1] for n in whole["unused"]["BERT's pooler and next-sentence head, which nothing here reads"]
    } == {"bert", "cls"}
    bare = report_of(BertModel)
    (names,) = bare["missing"].values()
    assert all(n.startswith("network.cls.predictions.") for n in names) and next(iter(bare["missing"])).startswith(
        "the head over the vocabulary"
    )
    tuned = report_of(BertForSequenceClassification)
    assert sorted(tuned["unused"]["the head of another task"]) == [
        "network.classifier.bias",
        "network.classifier.weight",
    ]


def test_what_does_not_fit_is_refused(corpus: str, tmp_path: Path) -> None:
    def start(name: str, ours: Any = None) -> Any:
        return continued(reads(corpus, ours or Bert(**DIM)), name, tmp_path)

    checkpoint(tmp_path / "relu", corpus, BertForMaskedLM, BertConfig(**IDS, **SMALL, hidden_act="relu"))
    with pytest.raises(OvertureError, match="hidden_act='relu' is not supported, only 'gelu'"):
        start("relu")
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    checkpoint(tmp_path / "scaled", corpus, LlamaForCausalLM, LlamaConfig(**IDS, **SMALL, rope_parameters=scaled))
    with pytest.raises(OvertureError, match=r"rope_parameters=.*linear.* is not supported"):
        start("scaled", Llama(**DIM))
    network = checkpoint(tmp_path / "bert", corpus, BertForMaskedLM, BERT)
    with pytest.raises(OvertureError, match="cannot be gone on with as stability-gap, which is another network"):
        start("bert", Llama(**DIM))
    weights = {n: v for n, v in network.state_dict().items() if "layer.1.output.dense.weight" not in n}
    network.save_pretrained(tmp_path / "bert", state_dict=weights)
    run = start("bert")
    model = run.model.build(run.frontend)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    with pytest.raises(
        OvertureError, match=r"network\.bert\.encoder\.layer\.1\.output\.dense\.weight stand on one side only"
    ):
        load(run, model, tmp_path)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    (tmp_path / "bert/tokenizer.json").unlink()
    with pytest.raises(OvertureError, match=r"has no tokenizer\.json: its weights know ids and no text"):
        start("bert")
    (tmp_path / "bert/config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(OvertureError, match="model_type is 't5', and none of wav2vec2, bert, gpt2, llama"):
        start("bert")
    checkpoint(tmp_path / "pickled", corpus, GPT2LMHeadModel, GPT2)
    (tmp_path / "pickled/model.safetensors").rename(tmp_path / "pickled/pytorch_model.bin")
    with pytest.raises(OvertureError, match=r"has no \.safetensors file\. Pickled weights are not read"):
        start("pickled", Gpt2(**DIM))


def test_a_checkpoint_is_an_arm_as_it_is(corpus: str, tmp_path: Path) -> None:
    checkpoint(tmp_path / "theirs", corpus, BertForMaskedLM, BERT)
    run, start, home = started(str(tmp_path / "theirs"), tmp_path / "runs")
    assert run.recipe == "structural" and start == "../theirs" and home == tmp_path / "runs"
    assert isinstance(run.model, Bert) and (run.model.layers, run.model.dim) == (2, 32) and run.data.text.length <= 48
    run = replace(run, start=start)
    report = load(run, run.model.build(run.frontend), home)
    assert all(n.startswith("heads.") for names in report["missing"].values() for n in names)


@pytest.mark.parametrize("ours", [Bert(**DIM, ffn=64), Llama(**DIM, ffn=64)], ids=["bert", "llama"])
def test_an_export_of_ours_is_a_start(ours: Any, corpus: str, tmp_path: Path) -> None:
    run = replace(reads(corpus, ours, updates=1), recipe="structural" if isinstance(ours, Bert) else "stability-gap")
    with Engine.start() as engine:
        train(run, tmp_path / "run", engine=engine)
    from overture import export as room

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "load_run", lambda folder: (run, _loaded(run, folder)))
        patch.setattr(room, "model_card", lambda *a: "card")
        export(tmp_path / "run", tmp_path / "hf")
    found = PublishedText.open(tmp_path / "hf")
    assert found.spec == ours
    origin, begun = Origin.open("hf", tmp_path), Origin.open("run", tmp_path)
    assert origin.kind == "checkpoint" and origin.of == begun.of and origin.heard == begun.heard
    weights, own = origin.weights(), begun.weights()
    assert set(weights) == set(own) and all(torch.equal(weights[n], own[n]) for n in own)
    on = continued(reads(corpus, ours), "hf", tmp_path)
    assert on.frontend.special == run.frontend.special and on.frontend.kept is not None
    text = str(Table.open(corpus).numpy("text")[0])
    read = [
        t.tokenizer(Table.open(corpus)).encode(text, add_special_tokens=False).ids for t in (on.frontend, run.frontend)
    ]
    assert read[0] == read[1]
    report = load(on, on.model.build(on.frontend), tmp_path)
    assert report["missing"] == report["unused"] == {}


def _loaded(run: Any, folder: Path) -> Any:
    from overture.train.state import checkpoints, load_weights

    model = run.model.build(run.frontend)
    load_weights(checkpoints(folder)[-1], model)
    return model.eval()
