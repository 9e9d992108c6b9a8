"""overture.quantize.kmeans: scikit-learn's k-means as a module, its file, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.cluster import MiniBatchKMeans

from overture.quantize.kmeans import KMeans

DIM, V = 6, 10


def frames(n: int = 800, dim: int = DIM, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = 5 * np.random.default_rng(9).standard_normal((V, dim))
    return (centres[rng.integers(V, size=n)] + rng.standard_normal((n, dim))).astype(np.float32)


def sklearns() -> MiniBatchKMeans:
    return MiniBatchKMeans(
        V, batch_size=10_000, max_iter=100, n_init=20, tol=0.0, max_no_improvement=100, reassignment_ratio=0.0,
        random_state=3,
    )  # fmt: skip


def test_an_array_gives_what_sklearn_gives() -> None:
    theirs = sklearns().fit(frames())
    ours = KMeans.fit(frames(), V, seed=3)
    np.testing.assert_allclose(ours.centroids.numpy(), theirs.cluster_centers_, rtol=1e-5)
    found = ours(torch.from_numpy(frames(seed=1)))
    np.testing.assert_array_equal(found.ids[:, 0].numpy(), theirs.predict(frames(seed=1)))
    assert torch.equal(found.vectors, ours.centroids[found.ids[:, 0]]) and found.ids.shape == (800, 1)


def test_chunks_give_what_sklearn_gives() -> None:
    chunks = [frames(200, seed=s) for s in range(5)]
    theirs = sklearns()
    for chunk in chunks:
        theirs.partial_fit(chunk)
    ours = KMeans.fit(iter(chunks), V, seed=3)
    np.testing.assert_allclose(ours.centroids.numpy(), theirs.cluster_centers_, rtol=1e-5)


def test_saved_and_loaded_are_the_same_k_means(tmp_path: Path) -> None:
    ours = KMeans.fit(frames(), V)
    ours.save(tmp_path / "units.safetensors")
    again = KMeans.load(tmp_path / "units.safetensors", DIM)
    assert torch.equal(ours.centroids, again.centroids) and ours.fingerprint == again.fingerprint
    assert KMeans.fit(frames(seed=1), V).fingerprint != ours.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["units.safetensors"]
    assert list(again.parameters()) == [] and set(again.state_dict()) == {"centroids"}


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    ours = KMeans.fit(frames(), V)
    path = tmp_path / "units.safetensors"
    ours.save(path)
    with pytest.raises(ValueError, match=r"units.safetensors has centroids \(10, 6\), the frames have 7 channels"):
        KMeans.load(path, 7)
    with pytest.raises(ValueError, match="valid frames"):
        ours(torch.zeros(5, 7))
    with pytest.raises(ValueError, match="of another k-means"):
        ours.lookup(torch.tensor([[3], [10]]))
    with pytest.raises(ValueError, match="one group"):
        ours.lookup(torch.tensor([[3, 4]]))
    assert torch.equal(ours.lookup(torch.tensor([[3], [9]])), ours.centroids[[3, 9]])
    save_file({"weights": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="not the centroids"):
        KMeans.load(path, DIM)
    path.write_bytes(b"\x80\x04nonsense, not to be unpickled")
    with pytest.raises(ValueError, match="no safetensors"):
        KMeans.load(path, DIM)
    with pytest.raises(ValueError, match="finite"):
        KMeans(torch.full((3, 2), torch.nan))


def test_frames_that_cannot_be_clustered_are_refused() -> None:
    bad = frames()
    bad[5, 2] = np.inf
    for data, words in (
        (bad, "not finite"),
        (frames(5), "too few"),
        (frames()[None], "must be"),
        (iter([frames(), frames(dim=7)]), r"must be \(N, 6\)"),
        (iter(()), "no chunk"),
    ):
        with pytest.raises(ValueError, match=words):
            KMeans.fit(data, V)
