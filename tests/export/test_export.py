"""overture.export: what is refused, which weights go out, what the model card says, what can be done with the folder."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from overture.data.table import Table
from overture.errors import OvertureError
from overture.export import check, export, load_run, read_run
from overture.recipes import get
from overture.run import Run
from overture.train.engine import Engine
from overture.train.loop import train
from overture.train.state import checkpoints
from tests.forks import Forks
from tests.laws.conftest import tensors

FEW = "speaker in ('joe', 'carlo-flora') and duration between 0.6 and 1.2"


def small(**loop: object) -> Run:
    run = get("tera:tiny")
    return replace(run, data=replace(run.data, where=FEW), loop=replace(run.loop, updates=3, log_every=1, **loop))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run that keeps an average of its weights."""
    folder = tmp_path_factory.mktemp("runs") / "tera-ema"
    with Engine.start() as engine:
        assert train(small(ema=0.5), folder, engine=engine).finished
    return folder


@pytest.fixture(scope="module")
def exported(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(run_folder, tmp_path_factory.mktemp("hf") / "tera")


@pytest.fixture(scope="module")
def wave_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run whose network is transformers' own class."""
    folder = tmp_path_factory.mktemp("runs") / "wav2vec2"
    run = get("wav2vec2:tiny")
    with Engine.start() as engine:
        train(replace(run, data=replace(run.data, where=FEW), loop=replace(run.loop, updates=2)), folder, engine=engine)
    return folder


@pytest.fixture(scope="module")
def wave_exported(wave_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(wave_folder, tmp_path_factory.mktemp("hf") / "wav2vec2")


@pytest.fixture
def copy(run_folder: Path, tmp_path: Path) -> Path:
    """The run folder, to be spoilt."""
    return Path(shutil.copytree(run_folder, tmp_path / "copy"))


def test_the_averaged_weights_are_exported_with_the_head(run_folder: Path, exported: Path) -> None:
    kept, out = tensors(run_folder), load_file(exported / "model.safetensors")
    assert any(n.startswith("head.") for n in out)
    assert {f"model/{n}" for n in out} == {n for n in kept if n.startswith("model/")}
    for name, value in out.items():
        assert torch.equal(value, kept[f"ema/{name}"]), name
    assert any(not torch.equal(value, kept[f"model/{n}"]) for n, value in out.items())


def test_without_an_average_the_last_weights_are_exported(tmp_path: Path) -> None:
    with Engine.start() as engine:
        train(small(), tmp_path / "run", engine=engine)
    out = load_file(export(tmp_path / "run", tmp_path / "hf") / "model.safetensors")
    kept = tensors(tmp_path / "run")
    assert not any(n.startswith("ema/") for n in kept)
    assert all(torch.equal(value, kept[f"model/{n}"]) for n, value in out.items())


def test_what_comes_back_can_be_trained_on(exported: Path) -> None:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(exported, trust_remote_code=True).train()
    x = torch.randn(2, 30, 80, generator=torch.Generator().manual_seed(0))
    before = torch.nn.functional.l1_loss(model.eval()(x).reconstruction, x)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(8):
        loss = torch.nn.functional.l1_loss(model(x).reconstruction, x)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.any() for n, p in model.named_parameters() if n.startswith("head."))
        optimizer.step()
    assert loss.item() < before.item() - 0.005


@pytest.mark.parametrize("spoil", ["one value", "not a number", "front end", "other sizes"])
def test_a_folder_that_gives_other_outputs_is_refused(
    run_folder: Path, exported: Path, tmp_path: Path, spoil: str
) -> None:
    run, model = load_run(run_folder)
    out = Path(shutil.copytree(exported, tmp_path / "hf"))
    check(run, model, out)  # untouched, it passes
    weights = load_file(out / "model.safetensors")
    if spoil == "one value":
        weights["head.3.bias"][0] += 1e-4
    elif spoil == "not a number":
        weights["layers.1.output.dense.weight"][0, 0] = float("nan")
    elif spoil == "front end":
        path = out / "preprocessor_config.json"
        path.write_text(path.read_text().replace('"hop": 0.01', '"hop": 0.02'))
    else:
        path = out / "config.json"
        path.write_text(path.read_text().replace('"layer_norm_eps": 1e-12', '"layer_norm_eps": 0.1'))
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(OvertureError, match=r"not exported: the (model loaded|feature extractor)"):
        check(run, model, out)


def test_a_refused_export_leaves_nothing(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OvertureError("not exported: differs")

    monkeypatch.setattr("overture.export.check", refuse)
    with pytest.raises(OvertureError, match="differs"):
        export(run_folder, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_a_folder_in_use_is_not_written_to(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OvertureError, match="is not empty: name a new folder"):
        export(run_folder, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(OvertureError, match="name a new folder"):
        export(run_folder, tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_card_says_what_it_was_made_of(run_folder: Path, exported: Path) -> None:
    card = (exported / "README.md").read_text(encoding="utf8")
    table, metrics = Table.open("embedded", FEW), (run_folder / "metrics.jsonl").read_text().splitlines()
    last = [r for r in map(json.loads, metrics) if r["kind"] == "update"][-1]
    assert f"corpus `embedded`: {len(table)} utterances" in card and table.fingerprint in card
    licences = {str(v) for v in table.numpy("licence")}
    assert len(licences) == 2 and all(licence in card for licence in licences)
    assert all(str(source) in card for source in set(table.numpy("source")))
    assert "language: [en, it-IT]" in card.split("---")[1]
    assert "3 updates" in card and f"{last['loss']:.4f} at the last" in card
    assert "arXiv:2007.06028" in card and "AutoModel.from_pretrained" in card and "sampling_rate=16000" in card
    run, about = read_run(run_folder)
    assert f"{about['parameters']:,} parameters" in card and run.fingerprint in card
    assert json.loads((exported / "overture.json").read_text(encoding="utf8"))["fingerprint"] == run.fingerprint


def test_the_card_lists_what_was_probed(copy: Path, tmp_path: Path) -> None:
    (copy / "probes").mkdir()
    probe = {"task": "speaker-id", "metric": "accuracy", "value": 0.875, "ci95": [0.8, 0.9]}
    (copy / "probes" / "speaker-id.json").write_text(json.dumps(probe))
    card = (export(copy, tmp_path / "hf") / "README.md").read_text(encoding="utf8")
    assert "| speaker-id | accuracy | 0.875 | 0.800 to 0.900 |" in card


def test_read_run_gives_the_run(run_folder: Path) -> None:
    run, about = read_run(run_folder)
    assert run == small(ema=0.5) and about["fingerprint"] == run.fingerprint


def test_read_run_refuses_what_it_would_misread(copy: Path, tmp_path: Path) -> None:
    path = copy / "run.json"
    good = json.loads(path.read_text(encoding="utf8"))

    def refused(match: str, **changes: object) -> None:
        path.write_text(json.dumps(good | changes), encoding="utf8")
        with pytest.raises(OvertureError, match=match):
            read_run(copy)

    refused("written by another version", fingerprint="000000000000")
    refused("written by another version", config=good["config"] | {"seed": 5})
    refused("no field 'sede'. Did you mean 'seed'", config=good["config"] | {"sede": 5})
    deep = json.loads(json.dumps(good["config"]))
    deep["players"][0]["optim"]["lrr"] = 1.0
    refused(r"players\.0\.optim: no field 'lrr'", config=deep)
    refused("no recipe 'tear'. Did you mean 'tera'", recipe="tear")
    with pytest.raises(OvertureError, match=r"is not a run: it has no run\.json"):
        read_run(tmp_path)


def test_a_damaged_run_json_is_said(copy: Path) -> None:
    for content in ("{", "[]", "{}", '"text"'):
        (copy / "run.json").write_text(content)
        with pytest.raises(OvertureError, match=r"run\.json"):
            read_run(copy)


def test_load_run_wants_a_checkpoint(copy: Path) -> None:
    run, model = load_run(copy)
    assert run == small(ema=0.5) and not model.training
    for checkpoint in checkpoints(copy):
        (checkpoint / "state.json").unlink()  # as a kill while writing leaves it
    with pytest.raises(OvertureError, match="has no checkpoint yet"):
        load_run(copy)


def test_a_network_of_transformers_goes_out_under_its_own_class(wave_folder: Path, wave_exported: Path) -> None:
    from transformers import AutoFeatureExtractor, AutoModelForPreTraining, Wav2Vec2FeatureExtractor

    assert not list(wave_exported.glob("*.py"))  # nothing to trust
    assert json.loads((wave_exported / "config.json").read_text())["architectures"] == ["Wav2Vec2ForPreTraining"]
    model = AutoModelForPreTraining.from_pretrained(wave_exported)
    kept = tensors(wave_folder)
    assert {f"model/network.{n}" for n in model.state_dict()} == {n for n in kept if n.startswith("model/")}
    assert all(torch.equal(value, kept[f"model/network.{n}"]) for n, value in model.state_dict().items())
    extractor = AutoFeatureExtractor.from_pretrained(wave_exported)
    assert isinstance(extractor, Wav2Vec2FeatureExtractor) and extractor.sampling_rate == 16_000
    assert extractor.return_attention_mask and extractor.do_normalize


def test_pre_training_can_be_continued_in_transformers(wave_exported: Path) -> None:
    from transformers import AutoModelForPreTraining
    from transformers.models.wav2vec2.modeling_wav2vec2 import _sample_negative_indices

    model = AutoModelForPreTraining.from_pretrained(wave_exported).train()
    x, mask = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 24, dtype=torch.bool)
    mask[:, 5:15] = True
    negatives = torch.from_numpy(_sample_negative_indices((2, 24), 5, mask.numpy())).long()
    model(x, mask_time_indices=mask, sampled_negative_indices=negatives).loss.backward()
    parts = ("quantizer.", "project_q.", "project_hid.")
    assert all(p.grad is not None and p.grad.any() for n, p in model.named_parameters() if n.startswith(parts))


@pytest.mark.parametrize("spoil", ["one value", "not a number", "normalisation", "rate", "class"])
def test_a_spoilt_folder_of_transformers_own_class_is_refused(
    wave_folder: Path, wave_exported: Path, tmp_path: Path, spoil: str
) -> None:
    run, model = load_run(wave_folder)
    out = Path(shutil.copytree(wave_exported, tmp_path / "hf"))
    check(run, model, out)  # untouched, it passes

    def change(name: str, **values: Any) -> None:
        path = out / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    weights = load_file(out / "model.safetensors")
    if spoil == "one value":
        weights["quantizer.codevectors"][0, 0, 0] += 1e-4
    elif spoil == "not a number":
        weights["project_q.bias"][0] = float("nan")
    elif spoil == "normalisation":
        change("preprocessor_config.json", do_normalize=False)
    elif spoil == "rate":
        change("config.json", conv_stride=[5, 2, 2, 2, 2, 2, 1])
    else:
        change("config.json", layer_norm_eps=0.1)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(OvertureError, match=r"not exported: the (model loaded|feature extractor)"):
        check(run, model, out)


@pytest.mark.parametrize("kind", ["exported", "wave_exported"])
def test_the_lines_of_the_card_run_as_they_stand(kind: str, request: pytest.FixtureRequest, stranger: Forks) -> None:
    folder: Path = request.getfixturevalue(kind)
    card = (folder / "README.md").read_text(encoding="utf8")
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert ("trust_remote_code" in code) == (kind == "exported")
    ended = stranger.run("-c", f"{code}print('shape', tuple(states.shape))\n", cwd=folder)
    assert ended.status == 0, ended.said
    rate = float(re.search(r"([\d.]+) a second", code)[1])  # type: ignore[index]
    steps = int(re.search(r"shape \(1, (\d+), 32\)", ended.said)[1])  # type: ignore[index]
    assert abs(steps - rate) <= 1


def test_the_card_has_a_licence_field(exported: Path) -> None:
    import yaml

    front = yaml.safe_load((exported / "README.md").read_text(encoding="utf8").split("---")[1])
    assert front["license"] == "other"
    assert front["license_name"] == "; ".join(sorted({str(v) for v in Table.open("embedded", FEW).numpy("licence")}))


def test_exporting_prints_nothing_and_leaves_transformers_as_talkative_as_it_was(
    wave_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled(), logging.get_verbosity()
    capfd.readouterr()
    export(wave_folder, tmp_path / "hf")
    assert capfd.readouterr() == ("", "")
    assert (logging.is_progress_bar_enabled(), logging.get_verbosity()) == before


def test_a_fine_tuned_run_is_refused_with_what_to_do_instead(copy: Path, tmp_path: Path) -> None:
    path = copy / "run.json"
    about = json.loads(path.read_text(encoding="utf8"))
    about |= {"recipe": "tera-asr", "size": "finetune", "config": about["config"] | {"start": "tera-abc123"}}
    path.write_text(json.dumps(about), encoding="utf8")
    with pytest.raises(OvertureError, match=r"fine-tuned.*'overture export .*tera-abc123 OUT'.*head"):
        export(copy, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()
