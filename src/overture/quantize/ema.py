"""A codebook whose codes are moving averages of the frames that fall to them (VQ-VAE, arXiv 1711.00937, appendix A.1; with codes of
length 1 as BEATs' tokenizer, arXiv 2212.09058, section 3.2), and whose dead codes restart on frames.

What the micro-batches of an update gather takes effect at the first batch of the next update, on all ranks alike: within an
update every frame meets the same codes, so accumulation and ranks cannot change what is learnt. All of it stands in buffers,
hence in checkpoints.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from overture.quantize import Quantized, Randomness, nearest

RESTART = 6  # purpose of a draw


class EmaCodebook(nn.Module):
    """`entries` codes of `dim` channels."""

    codes: Tensor  # (V, D)
    counts: Tensor  # (V,) moving average of the frames an update has for each code
    sums: Tensor  # (V, D) moving average of the sum of those frames
    new_counts: Tensor  # (V,) of the update `gathered`
    new_sums: Tensor  # (V, D)
    spare: Tensor  # (V, D) frames of that update to restart dead codes on
    spare_keys: Tensor  # (V,) float64, rising; infinite where there is no such frame
    gathered: Tensor  # () int64, an update's number; -1 before the first

    def __init__(
        self, dim: int, entries: int, decay: float = 0.99, restart_below: float = 1.0, normalise: bool = True
    ) -> None:
        """`decay` of the averages an update; a code that fewer than `restart_below` frames an update fall to is dead (0: never).
        `normalise` brings frames and codes to length 1.

        Fresh codes come from torch's current generator; those that no frame falls to restart after the first update.
        """
        super().__init__()
        self.decay, self.restart_below, self.normalise = decay, restart_below, normalise
        codes = torch.randn(entries, dim)
        codes = F.normalize(codes, dim=-1) if normalise else codes
        counts = torch.full((entries,), restart_below or 1.0)
        self.register_buffer("codes", codes)
        self.register_buffer("counts", counts)
        self.register_buffer("sums", codes * counts[:, None])
        self.register_buffer("new_counts", torch.zeros(entries))
        self.register_buffer("new_sums", torch.zeros(entries, dim))
        self.register_buffer("spare", torch.zeros(entries, dim))
        self.register_buffer("spare_keys", torch.full((entries,), torch.inf, dtype=torch.float64))
        self.register_buffer("gathered", torch.tensor(-1))

    def forward(self, x: Tensor, update: int | None = None, keys: Tensor | None = None) -> Quantized:
        """(N, dim) valid frames -> the nearest codes; the gradient passes `vectors` as if they were the frames.

        `update`, the number of the update under way, makes the codes learn; `keys` (N,), from `restart_keys`, say which
        frames dead codes restart on. Raises ValueError when these are missing where codes restart.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = F.normalize(x.float(), dim=-1) if self.normalise else x.float()
            if update is not None and update != int(self.gathered):
                self._move()
                self.gathered.fill_(update)
            ids = nearest(x, self.codes)  # (N,)
            vectors = self.codes[ids] + (x - x.detach())  # straight through
            if update is not None:
                self._gather(x.detach(), ids, keys)
        return Quantized(vectors, ids[:, None])

    @torch.no_grad()
    def _gather(self, x: Tensor, ids: Tensor, keys: Tensor | None) -> None:
        """Add a micro-batch of all ranks to the statistics of this update."""
        entries = len(self.codes)
        sums = torch.zeros_like(self.new_sums).index_add_(0, ids, x)
        found = torch.cat([torch.bincount(ids, minlength=entries)[:, None].to(sums.dtype), sums], dim=1)  # (V, 1 + D)
        if self.restart_below:
            if keys is None or keys.shape != ids.shape:
                raise ValueError("dead codes restart on frames: hand in a key for each frame (restart_keys)")
            few = torch.argsort(keys)[:entries]
            spare_keys, spare = torch.full_like(self.spare_keys, torch.inf), torch.zeros_like(self.spare)
            spare_keys[: len(few)], spare[: len(few)] = keys[few].to(spare_keys), x[few]
        if _ranks() > 1:
            dist.all_reduce(found)
        self.new_counts += found[:, 0]
        self.new_sums += found[:, 1:]
        if self.restart_below:
            # The frames with the smallest keys of the whole update, in whatever batches and ranks they came.
            every_key = torch.cat([self.spare_keys, *_from_all_ranks(spare_keys)])
            every_frame = torch.cat([self.spare, *_from_all_ranks(spare)])
            first = torch.argsort(every_key)[:entries]
            self.spare_keys.copy_(every_key[first])
            self.spare.copy_(every_frame[first])

    @torch.no_grad()
    def _move(self) -> None:
        """Let the statistics of the last update take effect, and start anew."""
        if int(self.gathered) < 0:
            return
        self.counts.lerp_(self.new_counts, 1 - self.decay)
        self.sums.lerp_(self.new_sums, 1 - self.decay)
        codes = self.sums / self.counts.clamp_min(1e-12)[:, None]
        self.codes.copy_(F.normalize(codes, dim=-1) if self.normalise else codes)
        dead = (self.counts < self.restart_below).nonzero()[: int(self.spare_keys.isfinite().sum()), 0]
        self.codes[dead] = self.spare[: len(dead)]
        self.counts[dead] = self.restart_below
        self.sums[dead] = self.spare[: len(dead)] * self.restart_below
        self.new_counts.zero_()
        self.new_sums.zero_()
        self.spare_keys.fill_(torch.inf)


def restart_keys(draws: Randomness, rows: Tensor, counts: Tensor) -> Tensor:
    """A random number for each of `counts` (B,) frames of the utterances `rows` (B,) -> (N,) float64."""
    parts = [draws.example(row, RESTART).random(count) for row, count in zip(rows.tolist(), counts.tolist())]
    return torch.cat([torch.from_numpy(part) for part in parts]).to(rows.device)


def _ranks() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _from_all_ranks(tensor: Tensor) -> list[Tensor]:
    if _ranks() == 1:
        return [tensor]
    found = [torch.empty_like(tensor) for _ in range(_ranks())]
    dist.all_gather(found, tensor)
    return found
