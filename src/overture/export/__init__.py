"""Export: a run as a folder that `transformers` opens, with the pre-training head kept and a model card.

The folder is loaded again with `AutoModel` and `AutoFeatureExtractor` and its outputs are held against the run's own on real
utterances; where they differ, the folder is removed and the export refused.
"""

import importlib
import inspect
import json
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import overture
from overture import recipes
from overture.config import from_dict
from overture.data import audio, feature_extraction
from overture.data.table import Table
from overture.errors import OvertureError
from overture.export.card import model_card
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
    except (ValueError, KeyError, TypeError) as error:
        raise OvertureError(f"{path} is damaged ({type(error).__name__}: {error})") from error
    run = from_dict(recipes.get(name), config, where=str(path))
    if run.fingerprint != mark:
        raise OvertureError(
            f"{path} was written by another version of the recipe ({about['versions']['overture']}): its meaning has changed"
        )
    return run, about


def load_run(folder: Path) -> tuple[Run, torch.nn.Module]:
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
        _write(run, model, about, folder, out)
        check(run, model, out)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    return out


def _write(run: Run, model: Any, about: dict[str, Any], folder: Path, out: Path) -> None:
    kind = type(model)
    own = not kind.__module__.startswith("transformers.")
    if own:  # AutoModel finds the classes in a copy of their file
        module = kind.__module__.rpartition(".")[2]
        model.config.auto_map = {
            "AutoConfig": f"{module}.{type(model.config).__name__}",
            "AutoModel": f"{module}.{kind.__name__}",
        }
        _carry(kind.__module__, out)
    model.save_pretrained(out, safe_serialization=True)
    extractor = feature_extraction.SpectralFeatureExtractor(type(run.frontend).__name__, asdict(run.frontend))  # type: ignore[call-overload]
    extractor.save_pretrained(out)
    path = out / "preprocessor_config.json"
    config = json.loads(path.read_text(encoding="utf8"))
    config["auto_map"] = {"AutoFeatureExtractor": "feature_extraction.SpectralFeatureExtractor"}
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf8")
    _carry(feature_extraction.__name__, out)
    (out / "overture.json").write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf8")
    (out / "README.md").write_text(model_card(run, about, read_metrics(folder), folder), encoding="utf8")


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


def check(run: Run, model: torch.nn.Module, out: Path) -> None:
    """Hold what `transformers` loads from `out` against `model` on two embedded utterances of different length.

    Raises OvertureError when a feature or an output differs.
    """
    from transformers import AutoFeatureExtractor, AutoModel

    table = Table.open("embedded", "duration between 1 and 3")
    rows = [table.row(i) for i in (0, len(table) // 2)]
    waves = [audio.read(r["audio"], rate=run.frontend.rate, start=r["start"], duration=r["duration"]) for r in rows]
    sys.stdout.flush()
    loaded = AutoModel.from_pretrained(out, trust_remote_code=True).eval()
    extractor = AutoFeatureExtractor.from_pretrained(out, trust_remote_code=True)
    inputs = extractor(waves, sampling_rate=run.frontend.rate, return_tensors="pt")
    for i, wave in enumerate(waves):
        mine = run.frontend(wave)
        if not np.array_equal(mine, inputs["input_values"][i, : len(mine)].numpy()):
            raise OvertureError(
                f"not exported: the feature extractor in {out} gives other features than the run's front end"
            )
    with torch.no_grad():
        theirs, ours = loaded(**inputs).to_tuple(), model(**inputs).to_tuple()
    for a, b in zip(theirs, ours, strict=True):
        difference = float((a - b).abs().max())
        if not difference == 0.0:
            raise OvertureError(
                f"not exported: the model loaded from {out} differs from the run by up to {difference:.3g}"
            )
    if missing := set(model.state_dict()) ^ set(loaded.state_dict()):
        raise OvertureError(f"not exported: {', '.join(sorted(missing))} did not survive; {overture.__version__}")
