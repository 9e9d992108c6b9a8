"""overture.recipes.hykist: the published size, 8 kHz, and what a fair comparison of starts asks for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from overture.data.split import values_of
from overture.data.table import Table
from overture.errors import OvertureError
from overture.laboratory import check
from overture.recipes import get
from overture.recipes.hykist import LARGE, MULTILINGUAL, claim
from overture.run import Run

from .installed import laboratory

SIZES = ("tiny", "default", "published")


def test_the_published_size_is_the_first_8_layers_of_xlsr_53() -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining

    run = get("hykist:published")
    config = Wav2Vec2Config(  # of facebook/wav2vec2-large-xlsr-53, but for the layers
        hidden_size=1024, num_attention_heads=16, intermediate_size=4096, num_hidden_layers=8, do_stable_layer_norm=True,
        feat_extract_norm="layer", conv_bias=True, codevector_dim=768, proj_codevector_dim=768,
    )  # fmt: skip
    with torch.device("meta"):
        model, theirs = run.model.build(run.frontend), Wav2Vec2ForPreTraining(config)
        whole = LARGE.build(get("ainu:published").frontend)
    shapes = {n: p.shape for n, p in theirs.named_parameters()}
    assert {n: p.shape for n, p in model.network.named_parameters()} == shapes
    assert "wav2vec2.encoder.layer_norm.weight" in shapes  # of pre-norm layers, after the last one that is kept
    assert sum(p.numel() for p in whole.parameters()) == 317_390_592  # 24 layers


@pytest.mark.parametrize("size", SIZES)
def test_8_khz_comes_in_frames_of_20_ms(size: str) -> None:
    run = get(f"hykist:{size}")
    assert run.frontend.rate == 8000 and run.frontend.rate / np.prod(run.model.conv_stride) == 50
    with torch.device("meta"):
        encoder = run.model.build(run.frontend)
    assert abs(int(encoder.steps(torch.tensor([80_000]))[0]) - 500) <= 2  # of 10 s
    unmodified = replace(run, model=replace(run.model, conv_stride=(5, 2, 2, 2, 2, 2, 2)))
    with pytest.raises(OvertureError, match=r"conv_stride=\[5, 2, 2, 2, 2, 2, 1\]"):
        unmodified.model.build(run.frontend)


def test_starts_differ_in_their_weights_only() -> None:
    arms = {arm.name: arm for arm in claim().study.arms}

    def tuned(run: Run) -> tuple[object, ...]:
        return run.frontend, run.model, run.data, run.plan, run.loop.precision

    at_8_khz = [arms[name].run for name in ("scratch", "target only", "multilingual", "continued")]
    assert len({tuned(run) for run in at_8_khz}) == 1
    assert at_8_khz[0].frontend.rate == 8000 and np.prod(at_8_khz[0].model.conv_stride) == 160
    assert arms["continued"].stages == arms["multilingual"].stages
    (first,) = arms["continued"].stages
    assert arms["target only"].run.loop.updates == first.loop.updates + arms["continued"].run.loop.updates
    assert arms["target only"].run.plan == first.plan  # of as many seconds
    assert first.frontend.rate == 16_000 and "language NOT LIKE 'en%'" in str(first.data.where)
    assert first.model.for_rate(8000) == at_8_khz[0].model  # the halved stride is all that differs
    assert len(claim().study.seeds) >= 3
    (trial,) = claim().study.trials
    assert trial.task == "hybrid" or any("CTC" in said and "hybrid" in said for said in claim().deviations)


def test_the_temperature_of_a_start_falls_in_its_first_half() -> None:
    temperature = MULTILINGUAL.players[0].objective.temperature
    assert temperature.at(MULTILINGUAL.loop.updates // 4) > 0.5 == temperature.at(MULTILINGUAL.loop.updates // 2)


def test_no_arm_hears_whom_it_is_tested_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = laboratory(claim(), tmp_path, monkeypatch, "amazon-queen-telephone", "multilingual")
    (trial,) = lab.trials
    parts = {part: trial.table.take(rows) for part, rows in trial.split.rows.items()}
    for column in ("speaker", "text", "sha1"):
        train, dev, test = (set(values_of(table, column)) for table in parts.values())
        assert train and dev and test and not (train & dev or train & test or dev & test), column
    assert trial.split.rule["shared"] == {"speaker": 0}
    assert trial.table.take(trial.used()["train"]).hours * 60 == pytest.approx(15, abs=0.2)
    tested = set(parts["dev"].numpy("speaker")) | set(parts["test"].numpy("speaker"))
    whole = Table.open("amazon-queen-telephone")
    assert set(whole.numpy("rate")) == {8000}
    heard = Table.open(lab.pretraining.corpus)
    assert set(heard.numpy("speaker")) == {v for v in whole.numpy("speaker") if v is not None} - tested
    first = Table.open(next(lab.pretraining.chain(claim().study.arms[-1], 0)).data.corpus)
    assert min(first.numpy("rate")) >= 16_000  # what counts as wideband is
    assert not {v[:2] for v in first.numpy("language")} & {"en", "cs"}


def test_the_claim_says_what_its_corpora_are_made_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path))
    with pytest.raises(OvertureError) as said:
        check(claim(), tmp_path / "runs", lambda record: None)
    assert "no corpus 'amazon-queen-telephone'" in str(said.value) and not (tmp_path / "runs").exists()
    for line in claim().corpora:
        assert f"\n  {line}" in str(said.value)
