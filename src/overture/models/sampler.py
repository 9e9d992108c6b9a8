"""From noise to frames: the flow of a network followed from time 0 to 1, with guidance.

Guidance without a classifier (Ho and Salimans 2022, arXiv:2207.12598; Voicebox, arXiv:2306.15687, section 3.5): v = (1 + a) v(told) - a v(untold),
the latter of the same network, told nothing at all. The frames that are known enter as a condition alone; where they stand, what was
generated is replaced by them at the end, and not on the way. Noise is drawn by item, so that an utterance does not depend on its batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from overture.data.batch import valid_mask
from overture.data.draws import Draws

if TYPE_CHECKING:
    from overture.models.modeling_flow import Condition, FlowModel

NOISE = 19  # purpose of a draw
Velocity = Callable[[Tensor, float], Tensor]  # (B, T, F) at a time from 0 to 1 -> the same


class Sample(NamedTuple):
    """What was generated, and at which cost."""

    x: Tensor  # (B, T, F), 0 on padding
    evaluations: int  # of the velocity: what papers count
    passes: int  # of the network: twice as many with guidance


class Prompt(NamedTuple):
    """What one utterance is made from: the voice of its known frames goes on with the phones after them."""

    known: np.ndarray  # (K, F) float32 frames of the front end in front; K may be 0, and then nobody says who speaks
    phones: np.ndarray  # (T,) int64 positions in PHONES, those of the known frames first


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How the flow is followed. Defaults: 32 evaluations, as Voicebox and ELaTE."""

    method: Literal["euler", "midpoint"] = "midpoint"
    steps: int = 16  # a step of midpoint has two evaluations
    guidance: float = 1.0  # a; 0: the network as it is, in half of the passes
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"{self.steps} steps: one at least")

    def integrate(self, velocity: Velocity, x: Tensor) -> tuple[Tensor, int]:
        """`x` at time 0 -> where it is at time 1, and how often `velocity` was asked."""
        step, evaluations = 1 / self.steps, 0
        for i in range(self.steps):
            time = i * step
            slope = velocity(x, time)
            evaluations += 1
            if self.method == "midpoint":
                slope = velocity(x + slope * (step / 2), time + step / 2)
                evaluations += 1
            x = x + slope * step
        return x, evaluations

    def noise(self, keys: Sequence[int], lengths: Sequence[int], channels: int) -> Tensor:
        """(B, T, F) of (B,) items with so many frames: of each by its key alone; 0 on padding."""
        x = np.zeros((len(keys), max(lengths), channels), dtype=np.float32)
        for i, (key, length) in enumerate(zip(keys, lengths, strict=True)):
            x[i, :length] = (
                Draws(self.seed, 0).example(key, NOISE).standard_normal((length, channels), dtype=np.float32)
            )
        return torch.from_numpy(x)

    @torch.no_grad()
    def sample(
        self, model: "FlowModel", told: "Condition", known: Tensor, lengths: Tensor, keys: Sequence[int]
    ) -> Sample:
        """Frames of B utterances. `told`: their conditions; `known` (B, T) bool: which frames of `told.context` are given and stay as they are;
        `lengths` (B,) frames; `keys` (B,): whole numbers that decide the noise of each.
        """
        valid = valid_mask(lengths, known.shape[1])
        every = torch.ones(len(lengths), dtype=torch.bool, device=known.device)
        untold = told.without(every, model.null)
        passes = 0

        def ask(x: Tensor, time: float, condition: "Condition") -> Tensor:
            nonlocal passes
            passes += 1
            found: Tensor = model(x, valid, time=x.new_full((len(x),), time), condition=condition).velocity.float()
            return found

        def velocity(x: Tensor, time: float) -> Tensor:
            v = ask(x, time, told)
            return (1 + self.guidance) * v - self.guidance * ask(x, time, untold) if self.guidance else v

        start = self.noise(keys, lengths.tolist(), told.context.shape[2]).to(known.device)
        x, evaluations = self.integrate(velocity, start)
        x = torch.where(known[..., None], told.context, x)
        return Sample(x * valid[..., None], evaluations, passes)

    def speak(self, model: "FlowModel", prompts: Sequence[Prompt], keys: Sequence[int]) -> list[np.ndarray]:
        """What follows the known frames of each prompt: (T - K, F) float32. Those of the front end: `NormalMel.log_mel` makes them a vocoder's.

        Raises ValueError for a prompt whose phones say nothing beyond its known frames, and for a network with further streams.
        """
        from overture.models.modeling_flow import Condition

        for i, prompt in enumerate(prompts):
            if len(prompt.known) >= len(prompt.phones):
                raise ValueError(
                    f"prompt {i}: {len(prompt.phones)} frames of phones, of which {len(prompt.known)} are known already"
                )
        lengths = torch.tensor([len(p.phones) for p in prompts])
        context = torch.zeros(len(prompts), int(lengths.max()), model.config.features)
        phones = torch.full(context.shape[:2], model.null)
        known = valid_mask(torch.tensor([len(p.known) for p in prompts]), context.shape[1])
        for i, prompt in enumerate(prompts):
            context[i, : len(prompt.known)] = torch.from_numpy(np.asarray(prompt.known, dtype=np.float32))
            phones[i, : len(prompt.phones)] = torch.from_numpy(np.asarray(prompt.phones, dtype=np.int64))
        device = next(model.parameters()).device
        told = Condition(context.to(device), phones.to(device))
        made = self.sample(model, told, known.to(device), lengths.to(device), keys).x.cpu().numpy()
        return [made[i, len(p.known) : len(p.phones)] for i, p in enumerate(prompts)]
