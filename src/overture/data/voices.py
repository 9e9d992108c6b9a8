"""Who speaks in each utterance, as a vector: what a synthesiser is told of a voice (Jia et al. 2018, arXiv:1806.04558, section 2.1).

A front end whose utterances are one step long, so vectors are computed once, cached and named after what made them as any features are. Whatever
makes them is frozen: a synthesiser sees numbers, and no gradient can reach an encoder. In training a vector is of the utterance that is to
be said; whoever speaks later gives one of another recording.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overture.errors import OvertureError

if TYPE_CHECKING:  # a `Run` holds these, and must stay light
    import numpy as np

RATE = 16_000  # Hz
PUBLISHED = "ge2e"  # of 'overture models list'


@dataclass(frozen=True, kw_only=True)
class MeanMel:
    """The mean of `NormalMel` over an utterance: no speaker encoder, but needs none. The channel and what is said are in it beside the voice."""

    rate = RATE
    frame_rate = 1.0  # Hz, for what it is worth: there is one step, however long the utterance
    dim = 80  # E

    def steps(self, count: int) -> int:
        """1."""
        return 1

    def settled(self) -> "MeanMel":
        """The same: there are no weights."""
        return self

    def __call__(self, wave: "np.ndarray") -> "np.ndarray":
        """(N,) float32 at `rate` -> (1, E) float32. Raises ValueError for less than one window of the mel."""
        import numpy as np

        from overture.data.normal_mel import NormalMel

        return np.asarray(NormalMel()(wave).mean(0, keepdims=True), dtype=np.float32)

    def drawn(self, seed: int) -> "np.ndarray":
        """Raises OvertureError: means of spectrograms are no sphere that a voice could be drawn from."""
        raise OvertureError(
            "a voice cannot be drawn where voices are mean spectrograms (data.voices): name a recording of one with --voice"
        )


@dataclass(frozen=True, kw_only=True)
class SpeakerVectors:
    """What a frozen speaker encoder makes of an utterance: windows of it, averaged, of length 1."""

    encoder: str = PUBLISHED  # of Resemblyzer, or the folder of a run of a speaker encoder
    weights: str | None = None  # hash of them, by `settled`: other weights are another run and another cache

    frame_rate = 1.0  # as of `MeanMel`

    @property
    def rate(self) -> int:
        """Hz, of the samples it hears. Raises OvertureError, see `dim`."""
        return RATE if self.encoder == PUBLISHED else int(_config(self.encoder)["frontend"]["rate"])

    @property
    def dim(self) -> int:
        """E. Raises OvertureError for what is neither a published encoder nor the run of one."""
        return 256 if self.encoder == PUBLISHED else int(_config(self.encoder)["model"]["embedding"])

    def steps(self, count: int) -> int:
        """1."""
        return 1

    def settled(self) -> "SpeakerVectors":
        """The same, named after the weights that the encoder has now. Raises OvertureError where it is not there."""
        return replace(self, weights=_loaded(self.encoder)[1])

    def __call__(self, wave: "np.ndarray") -> "np.ndarray":
        """(N,) float32 at `rate` -> (1, E) float32. Called from several threads.

        Raises OvertureError for an encoder that is not there, or has other weights than these are named after.
        """
        import numpy as np

        from overture.data.states import ONE

        if self.weights is None:
            raise OvertureError(
                "data.voices.weights does not say which weights the vectors are of: take SpeakerVectors(...).settled()"
            )
        with ONE:
            embed, mark = _loaded(self.encoder)
            if mark != self.weights:
                raise OvertureError(
                    f"the speaker encoder {self.encoder!r} has other weights ({mark}) than those these vectors are named after "
                    f"({self.weights}): it has changed since. Give the command again"
                )
            return np.asarray(embed(wave)[None], dtype=np.float32)

    def drawn(self, seed: int) -> "np.ndarray":
        """The vector of nobody (the paper's fictitious speakers), (1, E) float32 of length 1: any direction is as likely.

        Behind a ReLU an encoder's vectors have no number below 0, and neither has this one. Raises OvertureError, see `dim`.
        """
        import numpy as np

        vector = np.random.default_rng(seed).standard_normal((1, self.dim))
        if self.encoder == PUBLISHED or _config(self.encoder)["model"]["head"] == "relu":
            vector = np.abs(vector)
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def _config(folder: str) -> dict[str, Any]:
    """That of a run of a speaker encoder, without torch."""
    from overture import jsonfile

    path = Path(folder) / "run.json"
    if not path.exists():
        raise OvertureError(
            f"data.voices.encoder={folder!r} is neither {PUBLISHED!r}, which 'overture models get {PUBLISHED}' installs, nor a run of a "
            "speaker encoder: it has no run.json"
        )
    config: dict[str, Any] = jsonfile.read_object(path).get("config", {})
    if "embedding" not in config.get("model", {}):
        raise OvertureError(f"{path}: its model makes no vectors of voices. Take a run of a speaker encoder")
    return config


@lru_cache(maxsize=2)
def _loaded(encoder: str) -> "tuple[Callable[[np.ndarray], np.ndarray], str]":
    """What embeds a wave, (N,) -> (E,), and a hash of its weights, once a process."""
    import torch

    from overture.models.origin import weights_fingerprint

    if encoder == PUBLISHED:
        from overture.models.ge2e import Ge2e

        published = Ge2e()
        return published, weights_fingerprint(published.model.state_dict())
    _config(encoder)
    from overture.export import load_run

    run, model = load_run(Path(encoder))

    def embed(wave: "np.ndarray") -> "np.ndarray":
        x = torch.from_numpy(run.frontend(wave))[None]  # (1, T, F)
        with torch.inference_mode():
            found: np.ndarray = model.embed(x, torch.tensor([x.shape[1]]))[0].numpy()
        return found

    return embed, weights_fingerprint(model.state_dict())
