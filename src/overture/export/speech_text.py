"""Export of a language model that hears: one model with its encoder, adapter and language model, its code, extractor and tokenizer."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from overture.data import audio
from overture.data.sample import Respond
from overture.data.states import EncoderStates
from overture.data.table import Table
from overture.errors import OvertureError
from overture.export.compare import TOLERANCE, near
from overture.run import Run

if TYPE_CHECKING:
    from overture.models.modeling_speech_text import SpeechTextForTransformers
    from overture.models.speech_text import SpeechTextModel


def whole(run: Run, model: "SpeechTextModel") -> "SpeechTextForTransformers":
    """The network of `run` as transformers has it, with the frozen encoder that its front end hears with."""
    from overture.models.modeling_speech_text import SpeechTextConfig, SpeechTextForTransformers
    from overture.models.speech_encoder import SpeechEncoder

    audio_front: Any = run.frontend.audio
    encoder = SpeechEncoder.load(audio_front.folder) if isinstance(audio_front, EncoderStates) else None
    spec: Any = model.adapter.spec
    config = SpeechTextConfig(
        adapter=type(spec).__name__,
        adapter_options=asdict(spec),
        features=model.adapter.inputs,
        language_model=model.lm.network.config.to_dict(),
        encoder=None if encoder is None else encoder.network.config.to_dict(),
        encoder_layer=getattr(audio_front, "layer", None),
    )
    config.auto_map = {
        "AutoConfig": "modeling_speech_text.SpeechTextConfig",
        "AutoModel": "modeling_speech_text.SpeechTextForTransformers",
    }
    out = SpeechTextForTransformers(config)
    out.language_model.load_state_dict(model.lm.network.state_dict())
    out.adapter.load_state_dict(model.adapter.state_dict())
    if encoder is not None and out.encoder is not None:
        out.encoder.load_state_dict(encoder.state_dict())
    return out.eval()  # type: ignore[no-any-return]


def use(run: Run) -> list[str]:
    """Lines of Python that ask an exported folder about a recording."""
    program = run.data.sample
    assert isinstance(program, Respond)
    template = program.template
    before, after = template.user + program.instruction, program.behind + template.assistant
    whisper = isinstance(run.frontend.audio, EncoderStates)
    more = ', padding="longest", return_attention_mask=True' if whisper else ""
    begin = run.frontend.tokens.special.begin
    return [
        "import numpy as np, torch",
        "from transformers import AutoFeatureExtractor, AutoModel, AutoTokenizer",
        "",
        'folder = "."  # where this file lies, or what it is called on a hub',
        f"waveform = np.random.default_rng(0).normal(0, 0.1, {run.frontend.rate})  # (N,) your mono recording, at {run.frontend.rate} Hz",
        "extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)",
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        "model = AutoModel.from_pretrained(folder, trust_remote_code=True)",
        f'inputs = extractor(waveform, sampling_rate={run.frontend.rate}, return_tensors="pt"{more})',
        "ids = lambda text: tokenizer(text, add_special_tokens=False)['input_ids']",
        f"before = torch.tensor([[{begin}, *ids({before!r})]], dtype=torch.long)",
        f"after = torch.tensor([ids({after!r})], dtype=torch.long)",
        "print(tokenizer.decode(model.answer(before, after, **inputs)[0]))",
    ]


def check(run: Run, model: "SpeechTextModel", out: Path) -> None:
    """Hold what the Auto classes load from `out` against `model` on two embedded utterances. Raises OvertureError when an output differs."""
    from transformers import AutoFeatureExtractor, AutoModel

    table = Table.open("embedded", "duration between 1 and 3")
    rows = [table.row(i) for i in (0, len(table) // 2)]
    waves = [audio.read(r["audio"], rate=run.frontend.rate, start=r["start"], duration=r["duration"]) for r in rows]
    extractor = AutoFeatureExtractor.from_pretrained(out, trust_remote_code=True)
    loaded = AutoModel.from_pretrained(out, trust_remote_code=True).eval()
    with torch.no_grad():
        for wave in waves:  # one by one: Whisper's extractor lets the end of an utterance hear the padding behind it
            theirs = loaded(
                **extractor(
                    wave,
                    sampling_rate=run.frontend.rate,
                    return_tensors="pt",
                    padding="longest",
                    return_attention_mask=True,
                )
            )
            x = torch.from_numpy(np.asarray(run.frontend(wave), dtype=np.float32))[None]
            (ours,), steps = model.states(x, torch.tensor([x.shape[1]]))
            if theirs.lengths.tolist() != steps.tolist():
                raise OvertureError(
                    f"not exported: {out} makes {int(theirs.lengths[0])} vectors where the run makes {int(steps[0])}"
                )
            near("a vector", theirs.last_hidden_state, ours, TOLERANCE, out)
        ids = torch.arange(6, 12)[None]
        logits = loaded.language_model(input_ids=ids).logits
        near("logits", logits, model.lm.logits(model.lm.hidden(ids, torch.tensor([6]))), TOLERANCE, out)


def extractor_of(run: Run) -> Any:
    """What computes the features: Whisper's own where the encoder is in the model, else that of the front end."""
    from overture.data import feature_extraction

    front: Any = run.frontend.audio
    if not isinstance(front, EncoderStates):
        return feature_extraction.extractor_of(front)
    from transformers import WhisperFeatureExtractor

    config = json.loads((front.folder / "config.json").read_text(encoding="utf8"))
    return WhisperFeatureExtractor(feature_size=config["num_mel_bins"])
