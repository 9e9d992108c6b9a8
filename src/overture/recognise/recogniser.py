"""A recogniser: an encoder with a CTC head, the units that it writes, and how its frames are read off. On disk, a run's folder.

`recogniser.json` beside the run's checkpoints (safetensors) says everything else that loading needs; nothing of it is executed,
and the folder may be moved.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from overture import jsonfile, recipes
from overture.config import from_dict, to_dict
from overture.errors import OvertureError
from overture.models.tuned import FrameHead, Tuned
from overture.recognise.decode import Beam, greedy
from overture.recognise.lm import NGram
from overture.recognise.units import Units, read_units
from overture.run import Frontend, ModelSpec, Run
from overture.train.state import checkpoints, load_weights

FILE, LM_FILE = "recogniser.json", "lm.arpa"
BATCH_SECONDS = 60.0  # padded audio of a forward pass


@dataclass(frozen=True, kw_only=True)
class CTCModel:
    """The sizes of an encoder with a CTC head of these units."""

    encoder: ModelSpec
    units: Units

    def build(self, frontend: Frontend) -> Tuned:
        """The network with fresh weights."""
        encoder = self.encoder.build(frontend)
        return Tuned(encoder, FrameHead(encoder.dim, len(self.units)), frontend)


def log_probs(logits: Tensor, steps: Tensor) -> list[np.ndarray]:
    """(B, T, C), (B,) valid frames -> (T_b, C) float32 of each utterance: natural logarithms of probabilities."""
    scores = logits.detach().float().log_softmax(-1).cpu().numpy()
    return [s[:n] for s, n in zip(scores, steps.tolist())]


def best_text(scores: np.ndarray, units: Units) -> str:
    """(T, C) -> the text of the likeliest path, without a language model."""
    return units.decode(greedy(torch.from_numpy(scores)[None], torch.tensor([len(scores)]))[0])


@dataclass(frozen=True)
class Recogniser:
    """What `load` gives."""

    model: Tuned
    frontend: Frontend
    units: Units
    lm: NGram | None = None
    beam: Beam = field(default_factory=Beam)  # how to search where there is an `lm`
    about: dict[str, Any] = field(default_factory=dict)  # the whole of recogniser.json

    @property
    def rate(self) -> int:
        """Hz, of the samples it hears."""
        return self.frontend.rate

    @property
    def frame_rate(self) -> float:
        """Hz, of its log-probabilities."""
        return float(self.model.encoder.frame_rate)

    @classmethod
    def load(cls, folder: Path, device: torch.device | str | None = None) -> Self:
        """The recogniser in `folder`, on `device` (None: a GPU where there is one).

        Raises OvertureError when the folder is none, is damaged, or its weights are gone.
        """
        path = folder / FILE
        if not path.exists():
            if not (folder / "run.json").exists():
                raise OvertureError(
                    f"{folder} is no recogniser: it has no {FILE}. 'overture finetune' makes one and says where"
                )
            raise OvertureError(
                f"{folder} is a run, and no recogniser: it has no {FILE}. 'overture finetune {folder} --data CORPUS' makes one of it"
            )
        try:
            about = json.loads(path.read_text(encoding="utf8"))
            template = recipes.get(about["recipe"])
            frontend = from_dict(template.frontend, about["frontend"], where=f"{path}, frontend")
            encoder = from_dict(template.model, about["encoder"], where=f"{path}, encoder")
            units = read_units(about["units"], where=f"{path}, units")
            decoding = about["decoding"]
            beam = from_dict(Beam(), decoding["beam"], where=f"{path}, decoding.beam")
            lm = NGram.read(folder / decoding["lm"]) if decoding["lm"] else None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OvertureError(f"{path} is damaged ({type(error).__name__}: {error})") from error
        found = checkpoints(folder)
        if not found:
            raise OvertureError(f"{folder} has no checkpoint: copy the whole folder of the recogniser")
        model = CTCModel(encoder=encoder, units=units).build(frontend)
        load_weights(found[-1], model)
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(model.to(where).eval(), frontend, units, lm, beam, about)

    @torch.no_grad()
    def log_probs(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """(N,) float32 samples at `rate` each -> (T, C) float32 each: log-probabilities of the units, at `frame_rate`.

        What stands in one batch with an utterance does not change its frames. Raises OvertureError for one too short for a frame.
        """
        inputs = []
        for i, wave in enumerate(waves):
            try:
                inputs.append(torch.from_numpy(np.asarray(self.frontend(wave), dtype=np.float32)))
            except ValueError as error:
                raise OvertureError(f"utterance {i + 1} of {len(waves)}: {error}") from error
        sizes = torch.tensor([len(x) for x in inputs])
        steps = self.model.encoder.steps(sizes)
        if len(short := torch.nonzero(steps < 1)):
            i = int(short[0])
            raise OvertureError(
                f"utterance {i + 1} of {len(waves)} ({len(waves[i]) / self.rate:.3f} s) is too short for a frame of the encoder"
            )
        device = next(self.model.parameters()).device
        found: dict[int, np.ndarray] = {}
        for part in self._parts(sizes):
            x = pad_sequence([inputs[i] for i in part], batch_first=True).to(device)  # (B, T, F) or (B, T)
            hidden, lengths = self.model(x, sizes[part].to(device))
            found |= dict(zip(part, log_probs(self.model.head(hidden), lengths)))
        return [found[i] for i in range(len(waves))]

    def _parts(self, sizes: Tensor) -> list[list[int]]:
        """Utterances of like length together, as many as make up a batch."""
        limit = BATCH_SECONDS * self.frontend.frame_rate
        parts: list[list[int]] = []
        for i in torch.argsort(sizes, descending=True).tolist():
            if parts and (len(parts[-1]) + 1) * int(sizes[parts[-1][0]]) <= limit:
                parts[-1].append(i)
            else:
                parts.append([i])
        return parts


def save(
    folder: Path,
    *,
    pretraining: Run,
    units: Units,
    scores: dict[str, Any],
    lm: NGram | None = None,
    beam: Beam | None = None,
) -> None:
    """Write `recogniser.json` (and the language model) into the folder of a finished fine-tuning, whole or not at all.

    pretraining: the run whose encoder and front end were tuned; scores: for people and programs, as they are.
    """
    run = jsonfile.read_object(folder / "run.json")
    if lm is not None:
        lm.write(folder / LM_FILE)
    about = {
        "recipe": f"{pretraining.recipe}:{pretraining.size}",
        "frontend": to_dict(pretraining.frontend),
        "encoder": to_dict(pretraining.model),
        "units": to_dict(units),
        "decoding": {"lm": LM_FILE if lm is not None else None, "beam": to_dict(beam or Beam())},
        "scores": scores,
        "trained_on": run["data"],
        "licence": run["data"].get("licences", []),
        "start": run["config"]["start"],
    }
    jsonfile.write(folder / FILE, about)
