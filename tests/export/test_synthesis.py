"""overture.export.synthesis: a run of sv2tts opens in transformers with its tokenizer, speaks there, and is refused where it would differ."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForTextToSpectrogram, AutoTokenizer

from overture.errors import OvertureError
from overture.export import synthesis
from overture.models.synthesiser import Synthesiser, SynthesiserModel, symbols
from overture.recipes.sv2tts import tiny

SIZES = Synthesiser(layers=2, dim=32, heads=2, ffn=64, prenet=16, postnet=16, voice=80)


@pytest.fixture(scope="module")
def model() -> SynthesiserModel:
    torch.manual_seed(0)
    return SIZES.build(tiny().frontend).eval()


@pytest.fixture
def out(model: SynthesiserModel, tmp_path: Path) -> Path:
    synthesis.write(model, tmp_path)
    return tmp_path


def test_it_opens_and_speaks_as_a_stranger_would_use_it(model: SynthesiserModel, out: Path) -> None:
    synthesis.check(model, out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    both = tokenizer(["SIL HH AH L OW", "ZH"], padding=True, return_tensors="pt")
    assert both.input_ids.tolist() == [symbols(["SIL", "HH", "AH", "L", "OW"]), [*symbols(["ZH"]), 0, 0, 0, 0]]
    assert both.attention_mask.tolist() == [[1] * 6, [1, 1, 0, 0, 0, 0]]
    loaded = AutoModelForTextToSpectrogram.from_pretrained(out)
    frames = loaded.generate(both.input_ids[:1], speaker_embeddings=torch.randn(1, 80))
    assert frames.shape[1] == 80 and frames.shape[0] % 2 == 0 and frames.isfinite().all()
    used = "\n".join(synthesis.use(tiny(), model)[1]).replace('folder = "."', f"folder = {str(out)!r}")
    found: dict[str, torch.Tensor] = {}
    exec(used, found)  # what the model card says
    assert found["frames"].ndim == 2


def test_what_differs_is_refused(model: SynthesiserModel, out: Path) -> None:
    other = SIZES.build(tiny().frontend).eval()
    with pytest.raises(OvertureError, match="differs from the run"):
        synthesis.check(other, out)
    dry = replace(SIZES, prenet_dropout=0.1).build(tiny().frontend)
    with pytest.raises(OvertureError, match=r"model\.prenet_dropout=0\.1\. transformers keeps"):
        synthesis.write(dry, out)
