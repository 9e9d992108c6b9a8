"""Whom a run listens to: a network of the same input that does not learn from the loss and tells the student what to be like.

Frozen (self-distillation, arXiv:2210.02871; born-again networks) or the student's own moving average (mean teacher, arXiv:1703.01780; data2vec,
arXiv:2202.03555). Either way it is in evaluation mode, has no gradient and is in no checkpoint: a frozen one is found again by its run, and
the average is kept with the state as it is (`Loop.ema`).
"""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from overture.data.batch import States
from overture.errors import OvertureError
from overture.run import Run, Taught


class Teacher:
    """Not a module, so that the network that has it as its `teacher` neither trains nor stores it."""

    def __init__(self, network: nn.Module) -> None:
        self.network: Any = network.eval().requires_grad_(False)

    @torch.no_grad()
    def states(self, x: Tensor, lengths: Tensor) -> States:
        """All its hidden states of what it is given, clean or altered: see `States`."""
        return States(*self.network.states(x, lengths))

    def follow(self, average: dict[str, Tensor], model: nn.Module) -> None:
        """Be the moving average from now on: its parameters *are* the tensors `average` by name, its others and its buffers the model's."""
        for name, parameter in self.network.named_parameters():
            parameter.data = average[name] if name in average else model.get_parameter(name).data
        for name, module in self.network.named_modules():
            module._buffers.update(model.get_submodule(name)._buffers)


def listens_to(run: Run) -> set[str]:
    """Whom the objectives of `run` learn from: "run", "average"; nothing where none has a teacher."""
    found = (p.objective.listens_to for p in run.players if isinstance(p.objective, Taught))
    return {whom for whom in found if whom is not None}


def find_teacher(run: Run, model: nn.Module, home: Path) -> Teacher | None:
    """The teacher of `run`, whose network is `model` as it begins; None where nothing learns from one.

    A run that `Run.teacher` names, or, where it names none, the network itself as it begins. Raises OvertureError where that run is not there, hears
    or reads another input, or has other weights than those this run is named after; and where there is nobody to listen to it.
    """
    whom = listens_to(run)
    if run.teacher is not None and "run" not in whom:
        said = "its objective listens to the run's own average" if whom else "nothing in it learns from a teacher"
        raise OvertureError(f"teacher={run.teacher!r} has nobody to teach in this {run.recipe}: {said}")
    if not whom:
        return None
    if "average" in whom and not run.loop.ema:
        raise OvertureError(
            "the objective listens to the run's own average, and none is kept: set loop.ema, as in 0.999"
        )
    if run.teacher is None:
        return Teacher(copy.deepcopy(model))
    from overture.config import from_dict
    from overture.export import load_run
    from overture.models.origin import Origin, weights_fingerprint
    from overture.train.state import stored

    folder = home / run.teacher
    heard = from_dict(run.frontend, Origin.open(run.teacher, home).frontend, where=str(folder))
    if heard != run.frontend:
        raise OvertureError(
            f"{folder} cannot teach this run, whose input is another: {heard} there, {run.frontend} here"
            + (
                ". A run on text has the tokenizer of its --start: start from what the teacher started from"
                if run.on_text
                else ""
            )
        )
    _, network = load_run(folder)
    mark = weights_fingerprint(stored(network))
    if run.teacher_weights not in (None, mark):
        raise OvertureError(
            f"{folder} has other weights ({mark}) than those this run is named after ({run.teacher_weights}): it has changed since. Give "
            "the command again"
        )
    return Teacher(network)
