"""overture.export.vocoder: a run of hifi-gan goes out as the generator alone, which opens in transformers and sounds the same."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from overture.errors import OvertureError
from overture.export import export, load_run, vocoder
from overture.recipes import get
from overture.train.engine import Engine
from overture.train.loop import train


def test_a_vocoder_goes_out_without_its_critics(tmp_path: Path) -> None:
    from transformers import SpeechT5HifiGan

    run = get("hifi-gan:tiny")
    with Engine.start() as engine:
        train(replace(run, loop=replace(run.loop, updates=1)), tmp_path / "run", engine=engine)
    out = export(tmp_path / "run", tmp_path / "hf")
    theirs = SpeechT5HifiGan.from_pretrained(out)
    _, ours = load_run(tmp_path / "run")
    mel = torch.randn(1, 9, 20)
    with torch.no_grad():
        torch.testing.assert_close(theirs(mel), ours(mel), atol=1e-6, rtol=1e-5)
    assert not any("discriminator" in n or "original" in n for n in theirs.state_dict())
    card = (out / "README.md").read_text()
    assert "pipeline_tag: text-to-speech" in card and "SpeechT5HifiGan.from_pretrained(folder)" in card
    assert "20 log-mel magnitudes (natural log, at least 1e-05; 0 to 8000 Hz) of 512 samples every 256" in card

    weights = theirs.state_dict()
    weights["conv_pre.bias"] += 1e-3
    theirs.load_state_dict(weights)
    theirs.save_pretrained(out)
    with pytest.raises(OvertureError, match="differs from the run"):
        vocoder.check(ours, out)
