"""A synthesiser let go: each step goes on from what it said itself, until it says that this is the end.

There is no length to be told and no true frame to be shown (Tacotron 2, Shen et al. 2018, arXiv:1712.05884, section 2.2, whose prenet keeps its
dropout here too: without it a decoder that listens to itself gets stuck). What is drawn is drawn by utterance, so that none depends on its batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from overture.data.batch import valid_mask
from overture.data.draws import Draws
from overture.errors import OvertureError
from overture.models.synthesiser import SynthesiserModel

PRENET = 20  # purpose of a draw


class Spoken(NamedTuple):
    """One utterance."""

    frames: np.ndarray  # (T, F) float32 of the front end: `NormalMel.log_mel` makes them a vocoder's
    stopped: bool  # by itself; false: it had not come to an end where it was cut off


@dataclass(frozen=True, kw_only=True)
class FreeRunning:
    """How long a synthesiser goes on."""

    threshold: float = 0.5  # of the probability that the end is in a step
    longest: float = 20.0  # frames for each symbol of a text, after which it is cut off
    seed: int = 0

    def __post_init__(self) -> None:
        if self.longest <= 0:
            raise ValueError(f"at most {self.longest:g} frames for a symbol: more than 0")

    @torch.no_grad()
    def speak(
        self, model: SynthesiserModel, texts: Sequence[Sequence[int]], voices: np.ndarray, keys: Sequence[int]
    ) -> list[Spoken]:
        """What `model`, in evaluation mode, makes of B `texts`, ids of `overture.models.synthesiser.symbols`, in B `voices` (B, E).

        `keys` (B,): whole numbers that decide the dropout of each. Raises OvertureError for voices of another size, and see `SynthesiserModel`.
        """
        if voices.shape != (len(texts), model.spec.voice):
            raise OvertureError(
                f"{len(texts)} texts in voices of shape {voices.shape}: the model takes {model.spec.voice} numbers for each"
            )
        device = next(model.parameters()).device
        lengths = torch.tensor([len(t) for t in texts], device=device)
        ids = pad_sequence([torch.tensor(t, device=device) for t in texts], batch_first=True)  # (B, N)
        readable, told = valid_mask(lengths, ids.shape[1]), torch.from_numpy(np.asarray(voices, np.float32)).to(device)
        memory = model.encode(ids, readable)
        most = [ceil(self.longest * len(t) / model.reduction) for t in texts]  # steps
        dice = [Draws(self.seed, 0).example(key, PRENET) for key in keys]
        frame = memory.new_zeros(len(texts), 1, model.network.config.num_mel_bins)
        parts: list[Tensor] = []
        ended: dict[int, tuple[int, bool]] = {}  # of each utterance, steps and whether it stopped
        past = None
        while len(ended) < len(texts):
            h = model.prenet(frame, told, self._kept(model, dice).to(device), at=len(parts))
            out = model.decode(h, None, memory, readable, past_key_values=past, use_cache=True)
            past = out.past_key_values
            made, stop = model.frames(out.last_hidden_state)  # (B, r, F), (B, r)
            parts.append(made)
            frame = made[:, -1:]
            ends = (stop.float().sigmoid().sum(1) >= self.threshold).tolist()
            for i, end in enumerate(ends):
                if i not in ended and (end or len(parts) >= most[i]):
                    ended[i] = (len(parts), end)
        steps = [ended[i][0] for i in range(len(texts))]
        before = torch.cat(parts, 1)  # (B, S r, F)
        valid = valid_mask(torch.tensor(steps, device=device) * model.reduction, before.shape[1])
        after = model.postnet(before, valid).float().cpu().numpy()
        return [Spoken(after[i, : n * model.reduction], ended[i][1]) for i, n in enumerate(steps)]

    def _kept(self, model: SynthesiserModel, dice: Sequence[np.random.Generator]) -> Tensor:
        """(B, 1, 2, P) float32: what the dropout of one step leaves, as 0 and 1."""
        shape = (1, 2, model.spec.prenet)
        return torch.from_numpy(
            np.stack([d.random(shape, dtype=np.float32) >= model.spec.prenet_dropout for d in dice]).astype(np.float32)
        )
