"""overture.models.start: which weights are taken over, that nothing else is, and that all of it is said."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from overture.config import override
from overture.data.lengths import samples
from overture.errors import OvertureError
from overture.export import export, read_run
from overture.models.origin import Origin, heard, weights_fingerprint
from overture.models.start import continued, load, published_run, said
from overture.models.wav2vec2 import Wav2Vec2, Wav2Vec2Encoder
from overture.quantize.gumbel import Annealing
from overture.recipes import get
from overture.run import Run
from overture.train.engine import Engine
from overture.train.loop import Trainer, train
from overture.train.state import checkpoints, read_weights

from ..laws.conftest import tensors

FEW = "speaker in ('joe', 'bob') and duration between 0.6 and 2"
UPDATES, FACTOR = 3, 0.9
PRETRAINING = {"quantizer", "project_q", "project_hid"}


def tiny(**changes: str) -> Run:
    settings = {"loop.updates": "2", "loop.log_every": "1", "data.where": FEW, "model.layers": "3"}
    return override(get("wav2vec2:tiny"), settings | {n.replace("__", "."): v for n, v in changes.items()})


def trained(run: Run, home: Path, notes: list[str] | None = None) -> Path:
    def on_record(record: dict[str, Any]) -> None:
        if notes is not None and record["kind"] == "start":
            notes.append(record["text"])

    with Engine.start() as engine:
        train(run, home / run.folder_name, engine=engine, on_record=on_record)
    return home / run.folder_name


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def earlier(home: Path) -> Path:
    """A run of 16 kHz and three layers, normalised before each block, whose temperature has not come to its end."""
    run = tiny(loop__updates=str(UPDATES), players__0__objective__temperature__factor=str(FACTOR))
    assert run.model.stable_layer_norm and run.model.dropout == 0.1
    return trained(run, home)


SPEC = get("wav2vec2:tiny").model


def save_published(folder: Path, kind: str = "Wav2Vec2ForPreTraining", spec: Wav2Vec2 = SPEC) -> Path:
    """A checkpoint as transformers writes it, of a model of that class."""
    import transformers

    torch.manual_seed(7)
    config = spec.config()
    config.vocab_size = 12
    getattr(transformers, kind)(config).save_pretrained(folder)
    return folder


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return save_published(tmp_path / "published")


def edit(folder: Path, change: Any) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})


def built(run: Run, home: Path) -> tuple[Wav2Vec2Encoder, dict[str, Any]]:
    torch.manual_seed(run.seed)
    model = run.model.build(run.frontend)
    return model.eval(), load(run, model, home)


def test_every_weight_of_the_encoder_is_the_earlier_ones_and_no_fresh_one_is_left(earlier: Path, home: Path) -> None:
    run = continued(tiny(), earlier.name, home)
    model, report = built(run, home)
    torch.manual_seed(run.seed)
    fresh = run.model.build(run.frontend).state_dict()
    kept, own = tensors(earlier), model.state_dict()
    assert {f"model/{n}" for n in own} == {n for n in kept if n.startswith("model/")}
    assert all(torch.equal(own[n], kept[f"model/{n}"]) for n in own)
    assert all(not torch.equal(own[n], fresh[n]) for n in own if own[n].ndim > 1)
    assert report["matched"] == len(own) and (report["missing"], report["unused"]) == ({}, {})
    assert report["quantizer"] == "kept" and "quantizer kept" in said(report)
    assert report["of"]["updates"] == UPDATES and report["of"]["fingerprint"] == read_run(earlier)[0].fingerprint


def test_nothing_of_the_optimizer_is_carried_over(earlier: Path, home: Path) -> None:
    moments = [v for n, v in tensors(earlier).items() if n.startswith("optim/") and n.endswith("exp_avg")]
    assert moments and all(bool(m.any()) for m in moments if m.ndim > 1)
    assert not any(n.startswith("optim") for n in read_weights(checkpoints(earlier)[-1]))
    with Engine.start() as engine:
        trainer = Trainer(continued(tiny(), earlier.name, home), engine, home)
    for state in trainer.state.optimizers["model"].state.values():
        assert all(not bool(value.any()) for value in state.values())  # moments and the count of steps
    assert (trainer.state.update, trainer.state.position.epoch, trainer.state.seen) == (0, 0, 0.0)
    assert trainer.start is not None and trainer.start["optimizer"] == "fresh"


def test_the_temperature_goes_on_where_it_had_ended(earlier: Path, home: Path) -> None:
    ended = Annealing(factor=FACTOR).at(UPDATES)
    assert ended == pytest.approx(2.0 * FACTOR**UPDATES) and ended > 0.5
    run = continued(tiny(), earlier.name, home)
    assert run.players[0].objective.temperature.at(0) == ended
    assert built(run, home)[1]["temperature"] == {"ended": ended, "begins": ended}
    notes: list[str] = []
    folder = trained(run, home, notes)
    (first,) = [
        r for r in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()) if r.get("update") == 1
    ][:1]
    assert first["watch"]["temperature"] == pytest.approx(ended)
    assert f"Gumbel temperature {ended:.4g} (goes on)" in notes[0]
    # ... and on: a second continuation begins where the first ended.
    again = continued(tiny(), folder.name, home)
    assert again.players[0].objective.temperature.at(0) == pytest.approx(run.players[0].objective.temperature.at(2))


def test_a_temperature_that_is_asked_for_is_taken_and_said(earlier: Path, home: Path) -> None:
    field = "players.0.objective.temperature.first"
    run = continued(override(tiny(), {field: "1.7"}), earlier.name, home, {field})
    assert run.players[0].objective.temperature.at(0) == 1.7
    report = built(run, home)[1]
    assert report["temperature"]["begins"] == 1.7 and "Gumbel temperature 1.7 (had ended at 1.458)" in said(report)
    # A run that is made by hand and forgets it restarts, which is said as well.
    by_hand = replace(tiny(), start=earlier.name)
    assert "Gumbel temperature 2 (had ended at 1.458)" in said(built(by_hand, home)[1])


def test_below_the_least_of_the_recipe_it_goes_on_all_the_same(home: Path) -> None:
    cold = {f"players__0__objective__temperature__{n}": v for n, v in (("first", "0.1"), ("least", "0.1"))}
    run = continued(tiny(), trained(tiny(seed="3", **cold), home).name, home)
    assert run.players[0].objective.temperature.at(0) == run.players[0].objective.temperature.at(100) == 0.1


def test_another_start_is_another_run(earlier: Path, home: Path, tmp_path: Path) -> None:
    run = continued(tiny(), earlier.name, home)
    other = trained(tiny(loop__updates="1"), home)
    marks = {r.start_weights for r in (run, continued(tiny(), other.name, home))}
    names = {r.folder_name for r in (tiny(), run, continued(tiny(), other.name, home))}
    assert len(marks) == 2 and len(names) == 3
    # Also where it stands at the same place, and whatever the files are called.
    for folder in (earlier, other):
        shutil.rmtree(tmp_path / "start", ignore_errors=True)
        shutil.copytree(folder, tmp_path / "start")
        names.add(continued(tiny(), "start", tmp_path).folder_name)
    assert len(names) == 5
    with pytest.raises(OvertureError, match=r"has other weights .* than those this run is named after"):
        built(replace(run, start=other.name), home)


def test_a_run_whose_start_has_changed_is_not_gone_on_with(earlier: Path, tmp_path: Path) -> None:
    shutil.copytree(earlier, tmp_path / "start")
    run = replace(tiny(), start="start")  # not named after its weights
    folder = trained(run, tmp_path)
    about = json.loads((folder / "run.json").read_text())
    about["start"]["weights"] = "000000000000"
    (folder / "run.json").write_text(json.dumps(about))
    with pytest.raises(OvertureError, match="began with other weights"):
        trained(run, tmp_path)


def test_the_fingerprint_is_of_the_numbers(published: Path, tmp_path: Path) -> None:
    weights = Origin.open("published", tmp_path).weights()
    mark = weights_fingerprint(weights)
    assert mark == weights_fingerprint(dict(reversed(weights.items())))
    name = next(n for n, v in weights.items() if v.ndim > 1)
    shifted = weights[name].clone()
    shifted.view(-1)[-1] += 1e-6 * shifted.view(-1)[-1].abs() + 1e-6
    for other in (
        weights | {name: shifted},
        weights | {name: weights[name].T},
        {n + "x": v for n, v in weights.items()},
    ):
        assert weights_fingerprint(other) != mark
    assert weights_fingerprint({"a": torch.tensor(1.0)}) != weights_fingerprint({"a": torch.tensor(1)})


def test_sixteen_to_eight_kilohertz_keeps_frames_of_20_ms_and_every_weight(earlier: Path, home: Path) -> None:
    run = continued(tiny(frontend__rate="8000"), earlier.name, home, {"frontend.rate"})
    assert run.model.conv_stride == (5, 2, 2, 2, 2, 2, 1) and run.frontend.rate == 8_000
    model, report = built(run, home)
    x = torch.randn(1, samples(10, 8_000))
    with torch.no_grad():
        (*_, last), steps = model.states(x, torch.tensor([x.shape[1]]))
        (*_, twice), _ = model.states(torch.cat([x, x], 1), torch.tensor([2 * x.shape[1]]))
    assert twice.shape[1] - last.shape[1] == 500 and last.shape[1] == int(steps[0])  # 50 frames a second
    assert not report["missing"] and report["matched"] == len(model.state_dict())
    assert report["rate"] == {"before": 16_000, "now": 8_000}
    assert report["strides"] == {"before": [5, 2, 2, 2, 2, 2, 2], "now": [5, 2, 2, 2, 2, 2, 1]}
    assert "16000 Hz before, 8000 Hz now; strides" in said(report)
    folder = trained(run, home)  # and it trains, and goes on at that rate
    assert continued(tiny(), folder.name, home).frontend.rate == 8_000
    # The same samples through strides that were left as they are are refused.
    with pytest.raises(OvertureError, match="25 frames a second of 8000 Hz"):
        replace(run, model=replace(run.model, conv_stride=(5, 2, 2, 2, 2, 2, 2))).model.build(run.frontend)


def test_truncation_keeps_the_first_layers_and_the_last_norm(earlier: Path, home: Path) -> None:
    whole, _ = built(continued(tiny(), earlier.name, home), home)
    run = continued(tiny(model__layers="2"), earlier.name, home, {"model.layers"})
    cut, report = built(run, home)
    norm = whole.network.wav2vec2.encoder.layer_norm
    with torch.no_grad():  # a norm that does something, to tell whether it is applied
        for model in (whole, cut):
            model.network.wav2vec2.encoder.layer_norm.bias.add_(0.3)
    assert len(cut.layers) == 2 and torch.equal(cut.network.wav2vec2.encoder.layer_norm.weight, norm.weight)
    for mine, theirs in zip(cut.layers, list(whole.layers)[:2], strict=True):
        assert all(torch.equal(v, theirs.state_dict()[n]) for n, v in mine.state_dict().items())
    x, lengths = torch.randn(1, 8_000), torch.tensor([8_000])
    with torch.no_grad():
        short, long = cut.states(x, lengths)[0], whole.states(x, lengths)[0]
        torch.testing.assert_close(short[-1], norm(long[2]))  # of the stable variant: after the last of the kept layers
    assert all(torch.equal(a, b) for a, b in zip(short[:-1], long[:2], strict=True))
    assert report["layers"] == {"kept": 2, "of": 3} and "the first 2 of 3 layers" in said(report)
    (names,) = report["unused"].values()
    assert names and all(".layers.2." in n for n in names)


def test_a_published_checkpoint_fits_whole_and_its_sizes_are_taken(published: Path, tmp_path: Path) -> None:
    run = continued(override(get("wav2vec2"), {"data.where": FEW}), "published", tmp_path)
    sizes = get("wav2vec2:tiny").model
    assert replace(run.model, dropout=sizes.dropout) == sizes and run.model.dropout == get("wav2vec2").model.dropout
    model, report = built(run, tmp_path)
    given = load_file(published / "model.safetensors")
    assert report["matched"] == len(given) and (report["missing"], report["unused"]) == ({}, {})
    assert all(torch.equal(model.network.state_dict()[n], v) for n, v in given.items())
    assert (report["quantizer"], report["kind"]) == ("kept", "checkpoint")
    assert report["temperature"] == {"ended": None, "begins": 0.5} and "0.5 (where it had ended is not known)" in said(
        report
    )
    assert heard(published) == ([], ["what published was trained on"])


@pytest.mark.parametrize("kind", ["Wav2Vec2Model", "Wav2Vec2ForCTC", "Wav2Vec2ForSequenceClassification"])
def test_a_quantizer_is_made_anew_only_where_there_is_none_and_that_is_said(kind: str, tmp_path: Path) -> None:
    save_published(tmp_path / kind, kind)
    run = replace(tiny(), start=kind, model=replace(SPEC, entries=8))  # sizes of what is made anew are free
    model, report = built(run, tmp_path)
    torch.manual_seed(run.seed)
    fresh = run.model.build(run.frontend)
    assert {n.split(".")[1] for names in report["missing"].values() for n in names} == PRETRAINING
    assert report["quantizer"] == "fresh" and "quantizer FRESH, since the checkpoint has none" in said(report)
    assert torch.equal(model.network.quantizer.codevectors, fresh.network.quantizer.codevectors)
    heads = {n.split(".")[1] for names in report["unused"].values() for n in names}
    assert heads == {"Wav2Vec2ForCTC": {"lm_head"}, "Wav2Vec2Model": set()}.get(kind, {"projector", "classifier"})
    notes: list[str] = []
    folder = trained(continued(tiny(), kind, tmp_path) if kind == "Wav2Vec2ForCTC" else run, tmp_path, notes)
    restarted = "Gumbel temperature 2 (as the quantizer is fresh)"
    assert "quantizer FRESH" in notes[0] and restarted in notes[0]
    assert json.loads((folder / "run.json").read_text())["start"]["quantizer"] == "fresh"


def test_half_a_quantizer_is_no_reason(published: Path, tmp_path: Path) -> None:
    edit(published, lambda weights: {n: v for n, v in weights.items() if not n.startswith("quantizer.codevectors")})
    with pytest.raises(
        OvertureError, match=r"network\.quantizer\.codevectors stand on one side only: it is of another"
    ):
        built(replace(tiny(), model=SPEC, start="published"), tmp_path)


def test_an_unexplained_miss_is_an_error_and_changes_nothing(published: Path, tmp_path: Path) -> None:
    def without(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        weights.pop("wav2vec2.encoder.layers.1.attention.q_proj.bias")
        return weights

    def with_more(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {**weights, "wav2vec2.encoder.layers.1.attention.gate": torch.zeros(16)}

    def narrower(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {n: v[:4].clone() if n.endswith("project_q.bias") else v for n, v in weights.items()}

    run, whole = replace(tiny(), model=SPEC, start="published"), load_file(published / "model.safetensors")
    for change, said_ in (
        (without, r"layers\.1\.attention\.q_proj\.bias stand on one side only"),
        (with_more, r"layers\.1\.attention\.gate stand on one side only"),
        (narrower, r"project_q\.bias is \(4,\) there and \(16,\) here"),
    ):
        edit(published, change)
        model = run.model.build(run.frontend)
        before = {n: v.clone() for n, v in model.state_dict().items()}
        with pytest.raises(OvertureError, match=said_):
            load(run, model, tmp_path)
        assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
        edit(published, lambda _, whole=whole: whole)


@pytest.mark.parametrize(
    ("field", "value"),
    [("heads", "4"), ("dim", "64"), ("layers", "4"), ("stable_layer_norm", "false"), ("entries", "32")],
)
def test_a_size_that_does_not_fit_is_held_against_the_weights(
    field: str, value: str, earlier: Path, home: Path
) -> None:
    """Also those that no shape would tell: heads, and where the norms are."""
    run = tiny(**{f"model__{field}": value})
    told = rf"model\.{field}={value.capitalize()} does not fit the weights in .*{earlier.name}"
    with pytest.raises(OvertureError, match=told):
        continued(run, earlier.name, home, {f"model.{field}"})
    with pytest.raises(OvertureError, match=told):
        built(replace(run, start=earlier.name), home)


def test_how_a_network_is_trained_may_change(earlier: Path, home: Path) -> None:
    fields = {"model.dropout": "0.3", "model.layer_drop": "0.05", "model.feature_gradient": "0.1"}
    run = continued(override(tiny(), fields), earlier.name, home, set(fields))
    assert (run.model.dropout, run.model.layer_drop, run.model.feature_gradient) == (0.3, 0.05, 0.1)
    assert not built(run, home)[1]["missing"]


def test_what_is_no_start_is_said(earlier: Path, home: Path, tmp_path: Path) -> None:
    with pytest.raises(
        OvertureError, match=r"start='nothing': no run with a checkpoint .* no checkpoint folder of transf"
    ):
        continued(tiny(), "nothing", home)
    with pytest.raises(OvertureError, match=rf"{earlier.name} is a wav2vec2, and cannot be gone on with as tera"):
        continued(get("tera:tiny"), earlier.name, home)
    shutil.copytree(earlier, tmp_path / "tuned")
    about = json.loads((tmp_path / "tuned" / "run.json").read_text())
    (tmp_path / "tuned" / "run.json").write_text(json.dumps(about | {"size": "finetune"}))
    with pytest.raises(OvertureError, match="is a fine-tuned model"):
        continued(tiny(), "tuned", tmp_path)
    (tmp_path / "tuned" / "run.json").write_text('{"config": {')
    with pytest.raises(OvertureError, match=r"run\.json is damaged"):
        continued(tiny(), "tuned", tmp_path)


def test_any_recipe_goes_on_and_another_front_end_is_refused(tmp_path: Path) -> None:
    few = {"loop.updates": "2", "data.where": FEW}
    tera = override(get("tera:tiny"), few)
    start = trained(tera, tmp_path)
    run = continued(tera, start.name, tmp_path)
    model = run.model.build(run.frontend)
    report = load(run, model, tmp_path)
    assert report["quantizer"] is report["temperature"]["begins"] is None and not report["missing"]
    with pytest.raises(OvertureError, match=r"frontend\.hop=0\.02 is not what the weights in .* have heard, 0\.01"):
        continued(override(tera, {"frontend.hop": "0.02"}), start.name, tmp_path, {"frontend.hop"})


def test_an_export_is_gone_on_with_at_its_own_temperature_and_rate(earlier: Path, home: Path, tmp_path: Path) -> None:
    narrow = trained(continued(tiny(frontend__rate="8000"), earlier.name, home, {"frontend.rate"}), home)
    ended = Annealing(factor=FACTOR).at(UPDATES)
    out = export(narrow, tmp_path / "hf")
    run = continued(tiny(), "hf", tmp_path)
    assert (run.frontend.rate, run.model.frame_rate) == (8_000, 50)
    schedule = read_run(narrow)[0].players[0].objective.temperature
    assert schedule.at(0) == ended and run.players[0].objective.temperature.at(0) == schedule.at(2)
    _, report = built(run, tmp_path)
    assert report["quantizer"] == "kept" and [h["corpus"] for h in report["heard"]] == ["embedded", "embedded"]
    card = (out / "README.md").read_text()
    assert (
        f"starts from {earlier.name} (weights " in card and "the weights it started from had heard: `embedded`" in card
    )
    tables, unknown = heard(out)
    assert len(tables) == 2 and unknown == [] and len(tables[0]) == len(tables[1]) > 0


def test_a_published_run_has_the_sizes_of_its_checkpoint(published: Path) -> None:
    run = published_run(published)
    assert (run.recipe, run.size, run.model, run.frontend.rate) == ("wav2vec2", "published", SPEC, 16_000)
    with pytest.raises(OvertureError, match="is no checkpoint"):
        published_run(published / "nothing")


def test_a_continuation_stopped_and_resumed_is_never_stopped(earlier: Path, home: Path, tmp_path: Path) -> None:
    run = continued(tiny(loop__updates="4", loop__checkpoint_every="2"), str(earlier), home)

    class Killed(Exception):
        pass

    def die(record: dict[str, Any]) -> None:
        if record["kind"] == "checkpoint" and record["update"] == 2:
            raise Killed

    whole = tensors(trained(run, tmp_path / "whole"))
    with Engine.start() as engine, pytest.raises(Killed):
        train(run, tmp_path / "parts" / run.folder_name, engine=engine, on_record=die)
    parts = tensors(trained(run, tmp_path / "parts"))
    assert whole.keys() == parts.keys() and [n for n in whole if not torch.equal(whole[n], parts[n])] == []
