"""k-means units, fitted by scikit-learn before training and frozen in it (HuBERT, arXiv 2106.07447, section III-B).

Centroids are kept as safetensors. Labels belong to the centroids that made them: `fingerprint` names these.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from overture.quantize import Quantized, nearest


class KMeans(nn.Module):
    """Frames to the nearest of V centroids."""

    centroids: Tensor  # (V, D) float32

    def __init__(self, centroids: Tensor) -> None:
        """Raises ValueError unless `centroids` is (V, D) and finite."""
        super().__init__()
        if centroids.ndim != 2 or not bool(centroids.isfinite().all()):
            raise ValueError(f"centroids must be (V, D) and finite; shape {tuple(centroids.shape)}")
        self.register_buffer("centroids", centroids.detach().float().contiguous())

    @classmethod
    def fit(cls, data: np.ndarray | Iterable[np.ndarray], entries: int, *, seed: int = 0) -> Self:
        """Fit `entries` centroids to frames: an array (N, D), seen several times, or chunks (n, D) of one, each seen once.

        The settings are those of HuBERT's k-means. The first chunk gives the initial centroids, so it should be mixed. Raises
        ValueError for frames that are not finite, not (N, D), of differing D, or fewer than `entries` (in the first chunk).
        """
        from sklearn.cluster import MiniBatchKMeans

        fitted = MiniBatchKMeans(
            n_clusters=entries,
            batch_size=10_000,
            max_iter=100,
            n_init=20,
            tol=0.0,
            max_no_improvement=100,
            reassignment_ratio=0.0,
            compute_labels=False,
            random_state=seed,
        )
        if isinstance(data, np.ndarray):
            fitted.fit(_checked(data, entries, None))
        else:
            dim = None
            for chunk in data:
                fitted.partial_fit(_checked(chunk, entries if dim is None else 0, dim))
                dim = chunk.shape[1]
            if dim is None:
                raise ValueError("no chunk of frames to fit centroids to")
        return cls(torch.from_numpy(np.asarray(fitted.cluster_centers_, dtype=np.float32)))

    def forward(self, x: Tensor) -> Quantized:
        """(N, D) -> the nearest centroids. No gradient. Raises ValueError for frames of another number of channels."""
        ids = nearest(x, self.centroids)
        return Quantized(self.centroids[ids], ids[:, None])

    def lookup(self, ids: Tensor) -> Tensor:
        """Labels (N, 1) int64 -> their centroids (N, D). Raises ValueError for labels that these centroids cannot have made."""
        entries = len(self.centroids)
        if ids.ndim != 2 or ids.shape[1] != 1:
            raise ValueError(f"labels {tuple(ids.shape)}: k-means has one group, (N, 1)")
        if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= entries):
            raise ValueError(
                f"labels from {int(ids.min())} to {int(ids.max())} for {entries} centroids: of another k-means"
            )
        return self.centroids[ids[:, 0]]

    @property
    def fingerprint(self) -> str:
        """12 hex digits of the centroids: what labels made with them should carry."""
        return hashlib.sha256(self.centroids.cpu().numpy().tobytes()).hexdigest()[:12]

    def save(self, path: Path) -> None:
        """Write the centroids as safetensors, whole or not at all."""
        from safetensors.torch import save_file

        part = path.with_name(f".{path.name}.part-{os.getpid()}")
        save_file(
            {"centroids": self.centroids.cpu()}, part, metadata={"kind": "k-means", "fingerprint": self.fingerprint}
        )
        part.replace(path)

    @classmethod
    def load(cls, path: Path, dim: int) -> Self:
        """The k-means in `path`, for frames of `dim` channels.

        Raises ValueError when the file is no safetensors, holds something else, or centroids of another number of channels.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is no safetensors file ({error})") from error
        if set(tensors) != {"centroids"}:
            raise ValueError(f"{path} holds {', '.join(sorted(tensors)) or 'nothing'}, not the centroids of a k-means")
        found = tensors["centroids"]
        if found.ndim != 2 or found.shape[1] != dim:
            raise ValueError(
                f"{path} has centroids {tuple(found.shape)}, the frames have {dim} channels: fit a k-means to these frames"
            )
        return cls(found)


def _checked(frames: np.ndarray, at_least: int, dim: int | None) -> np.ndarray:
    if frames.ndim != 2 or (dim is not None and frames.shape[1] != dim):
        raise ValueError(f"frames must be (N, {dim or 'D'}), not {frames.shape}")
    if len(frames) < at_least:
        raise ValueError(f"{len(frames)} frames are too few for {at_least} centroids")
    if not np.isfinite(frames).all():
        raise ValueError("frames that are not finite cannot be clustered")
    return frames
