"""overture.recipes.hykist: the published size, 8 kHz, and what a fair comparison of starts asks for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from overture.errors import OvertureError
from overture.laboratory import check
from overture.recipes import get
from overture.recipes.hykist import LARGE, claim
from overture.run import Run

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
        return run.frontend, run.model, run.data.max_seconds, run.loop.precision

    at_8_khz = [arms[name].run for name in ("scratch", "target only", "multilingual", "continued")]
    assert len({tuned(run) for run in at_8_khz}) == 1
    assert tuned(arms["continued, upsampled"].run) != tuned(arms["continued"].run)  # two ways to hear 8 kHz
    assert arms["continued"].stages == arms["multilingual"].stages == arms["continued, upsampled"].stages
    (first,) = arms["continued"].stages
    assert arms["target only"].run.loop.updates == first.loop.updates + arms["continued"].run.loop.updates
    assert first.frontend.rate == 16_000 and "language NOT LIKE 'en%'" in str(first.data.where)


def test_the_claim_says_what_its_corpora_are_made_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERTURE_HOME", str(tmp_path))
    with pytest.raises(OvertureError) as said:
        check(claim(), tmp_path / "runs", lambda record: None)
    assert "no corpus 'amazon-queen-telephone'" in str(said.value) and not (tmp_path / "runs").exists()
    for line in claim().corpora:
        assert f"\n  {line}" in str(said.value)
