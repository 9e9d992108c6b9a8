"""Export: a run as a folder that `transformers` opens, with the parts of pre-training kept and a model card.

A network of ours goes out with a copy of its code; one that is transformers' own (`.network` of the encoder around it) under its
own class, which opens without any. The folder is loaded again with the Auto classes and its outputs are held against the run's on
real utterances; where they differ, the folder is removed and the export refused.
"""

import importlib
import inspect
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import overture
from overture import recipes
from overture.config import from_dict
from overture.data import audio, feature_extraction
from overture.data.batch import valid_mask
from overture.data.table import Table
from overture.errors import OvertureError
from overture.export import speech_text, synthesis, text, vocoder
from overture.export.card import model_card
from overture.export.compare import TOLERANCE, near, same_weights
from overture.models.published import quiet
from overture.models.synthesiser import SynthesiserModel
from overture.models.vocoder import HifiGan
from overture.run import Run
from overture.train.state import checkpoints, load_weights
from overture.train.track import read_metrics


def read_run(folder: Path) -> tuple[Run, dict[str, Any]]:
    """The configuration of a run folder, and all of its `run.json`. Raises OvertureError when it is none, or of another version."""
    path = folder / "run.json"
    if not path.exists():
        raise OvertureError(f"{folder} is not a run: it has no run.json. 'overture run' makes one under runs/.")
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
        name, config, mark = f"{about['recipe']}:{about['size']}", about["config"], about["fingerprint"]
        start = config.get("start")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OvertureError(f"{path} is damaged ({type(error).__name__}: {error})") from error
    if about["size"] == "finetune":
        encoder = f"'overture export {folder.parent / start} OUT'" if start else "a run of 'overture run'"
        raise OvertureError(
            f"{folder} is a fine-tuned model, an encoder with a head for one task, and no recipe's run: only pre-trained encoders are "
            f"exported. Export what it started from, {encoder}, and train a head on it in transformers; the fine-tuned weights "
            f"themselves are in {folder / 'checkpoints'} as safetensors"
        )
    wrong: list[OvertureError] = []
    for shape in recipes.shapes(name):
        try:
            run = from_dict(shape, config, where=str(path))
        except OvertureError as error:  # of another shape
            wrong.append(error)
            continue
        if run.fingerprint == mark:
            return run, about
        wrong.append(
            OvertureError(
                f"{path} was written by another version of the recipe ({about['versions']['overture']}): its meaning has changed"
            )
        )
    raise wrong[0]


def load_run(folder: Path) -> tuple[Run, Any]:
    """The configuration and the trained model (its averaged weights where it kept them) of a run folder, in evaluation mode."""
    run, _ = read_run(folder)
    found = checkpoints(folder)
    if not found:
        raise OvertureError(f"{folder} has no checkpoint yet")
    model: torch.nn.Module = run.model.build(run.frontend)
    load_weights(found[-1], model)
    return run, model.eval()


def export(folder: Path, out: Path) -> Path:
    """Write the run in `folder` to the new folder `out`; returns it.

    Raises OvertureError when `out` holds something already, or when what `transformers` loads gives other outputs.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OvertureError(f"{out} is {'not empty' if out.is_dir() else 'a file'}: name a new folder")
    run, model = load_run(folder)
    about = json.loads((folder / "run.json").read_text(encoding="utf8"))
    out.mkdir(parents=True, exist_ok=True)
    try:
        with quiet():
            if run.on_text:
                text.write(run, model, folder, out)
            elif run.hears_and_reads:
                _carry("overture.models.modeling_speech_text", out)
                speech_text.whole(run, model).save_pretrained(out, safe_serialization=True)
                _extractor(speech_text.extractor_of(run), out)
                text.tokenizer_of(run.frontend.tokens, model.lm, folder).save_pretrained(out)
            elif isinstance(model, SynthesiserModel):
                synthesis.write(model, out)
            elif isinstance(run.model, HifiGan):
                vocoder.write(model, out)
            else:
                _write(run, model, out)
            (out / "overture.json").write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf8")
            (out / "README.md").write_text(model_card(run, model, about, read_metrics(folder), folder), encoding="utf8")
            if run.on_text:
                text.check(model, folder, out)
            elif run.hears_and_reads:
                speech_text.check(run, model, out)
            elif isinstance(model, SynthesiserModel):
                synthesis.check(model, out)
            elif isinstance(run.model, HifiGan):
                vocoder.check(model, out)
            else:
                check(run, model, out)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return out


def _write(run: Run, model: Any, out: Path) -> None:
    network = getattr(model, "network", model)
    kind = type(network)
    if network is model:  # AutoModel finds the classes in a copy of their file
        module = kind.__module__.rpartition(".")[2]
        network.config.auto_map = {
            "AutoConfig": f"{module}.{type(network.config).__name__}",
            "AutoModel": f"{module}.{kind.__name__}",
        }
        _carry(kind.__module__, out)
    network.save_pretrained(out, safe_serialization=True)
    _extractor(feature_extraction.extractor_of(run.frontend), out)


def _extractor(extractor: Any, out: Path) -> None:
    extractor.save_pretrained(out)
    if isinstance(extractor, feature_extraction.SpectralFeatureExtractor):
        path = out / "preprocessor_config.json"
        config = json.loads(path.read_text(encoding="utf8"))
        config["auto_map"] = {"AutoFeatureExtractor": "feature_extraction.SpectralFeatureExtractor"}
        path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf8")
        _carry(feature_extraction.__name__, out)


def _carry(module: str, out: Path) -> None:
    """Copy a module of ours, and those of ours that it imports, side by side into `out`.

    transformers follows relative imports only, so `from overture.data.lengths import windows` becomes `from .lengths import windows`.
    """
    text = Path(inspect.getfile(importlib.import_module(module))).read_text(encoding="utf8")
    needed = re.findall(r"^from (overture\.[\w.]+) import ", text, re.MULTILINE)
    text = re.sub(r"^from overture\.(?:\w+\.)*(\w+) import ", r"from .\1 import ", text, flags=re.MULTILINE)
    path = out / f"{module.rpartition('.')[2]}.py"
    if path.exists() and path.read_text(encoding="utf8") != text:
        raise OvertureError(f"not exported: two modules would be named {path.name}")
    path.write_text(text, encoding="utf8")
    for other in needed:
        _carry(other, out)


def check(run: Run, model: Any, out: Path) -> None:
    """Hold what `transformers` loads from `out` against `model` on two embedded utterances of different length.

    Raises OvertureError when a feature, a weight or an output differs.
    """
    from transformers import AutoFeatureExtractor

    table = Table.open("embedded", "duration between 1 and 3")
    rows = [table.row(i) for i in (0, len(table) // 2)]
    waves = [audio.read(r["audio"], rate=run.frontend.rate, start=r["start"], duration=r["duration"]) for r in rows]
    sys.stdout.flush()
    own_code = not hasattr(model, "network")
    extractor = AutoFeatureExtractor.from_pretrained(out, trust_remote_code=own_code)
    inputs = extractor(waves, sampling_rate=run.frontend.rate, return_tensors="pt", padding=True)
    for i, wave in enumerate(waves):
        mine = run.frontend(wave)
        if not np.array_equal(mine, inputs["input_values"][i, : len(mine)].numpy()):
            raise OvertureError(
                f"not exported: the feature extractor in {out} gives other features than the run's front end"
            )
    (_same_code if own_code else _same_class)(model, inputs, out)


def _same_code(model: Any, inputs: Any, out: Path) -> None:
    """A network that goes out with its code: everything to the bit."""
    from transformers import AutoModel

    loaded = AutoModel.from_pretrained(out, trust_remote_code=True).eval()
    with torch.no_grad():
        theirs, ours = loaded(**inputs).to_tuple(), model(**inputs).to_tuple()
    for a, b in zip(theirs, ours, strict=True):
        near("an output", a, b, 0.0, out)
    if missing := set(model.state_dict()) ^ set(loaded.state_dict()):
        raise OvertureError(f"not exported: {', '.join(sorted(missing))} did not survive; {overture.__version__}")


def _same_class(model: Any, inputs: Any, out: Path) -> None:
    """A network of transformers' own class, which computes it its own way: weights to the bit, outputs but for rounding."""
    from transformers import AutoModel, AutoModelForPreTraining

    whole = AutoModelForPreTraining.from_pretrained(out).eval()
    if type(whole) is not type(model.network):
        raise OvertureError(f"not exported: {out} opens as {type(whole).__name__}, not {type(model.network).__name__}")
    same_weights(whole, model.network, out)
    lengths = inputs["attention_mask"].sum(1)
    with torch.no_grad():
        states, steps = model.states(inputs["input_values"], lengths)
        last = AutoModel.from_pretrained(out).eval()(**inputs).last_hidden_state
        wanted, found = model.outputs(inputs["input_values"], lengths), whole(**inputs)
    valid = valid_mask(steps, states[-1].shape[1])
    near("last_hidden_state", last, states[-1], TOLERANCE, out, valid)
    for name, value in wanted.items():
        near(name, found[name], value, TOLERANCE, out, valid)
