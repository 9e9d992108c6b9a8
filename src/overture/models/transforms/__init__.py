"""How the linear layers of a network are parameterised: a field of `Run`, None for dense ones. The layers are in `linear`, no torch here.

A transform takes the place of the dense layers after the network is built, and is gone where weights are read (`train.state.read_weights`,
`load_weights`): probes, fine-tuning, `--start` and the export see the dense network, under its own names.
"""

from dataclasses import dataclass

from overture.errors import OvertureError, near

# Products of attention and feed-forward within the layers of an encoder or decoder. Embeddings, front ends and heads lie outside of these.
LAYERS = r"(^|\.)(layers?|h)\.\d+\."


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """W = B A. Both begin with random weights, scaled so that W has the variance of a fresh linear layer."""

    rank: int = 64
    include: str = LAYERS  # regular expression, searched in the names of linear layers


@dataclass(frozen=True, kw_only=True)
class SparseLowRank:
    """W = (alpha / rank) B A + S with S on a random support that stays: SLTrain (Han et al. 2024, arXiv:2406.02214, section 3).

    B begins at zero, so W = S at first.
    """

    rank: int = 64
    alpha: float = 16.0
    density: float = 0.03  # of S
    include: str = LAYERS


@dataclass(frozen=True, kw_only=True)
class Masked:
    """W on a random support that stays, and zero elsewhere: sparse pre-training (Thangarasa et al. 2023, arXiv:2303.10464, section 2).

    The weights of the support begin as those of the dense layer would. Of a start that is as sparse already, the support is kept.
    """

    sparsity: float = 0.75  # share that is zero
    include: str = LAYERS


@dataclass(frozen=True, kw_only=True)
class Lora:
    """W + (alpha / rank) B A with W as the start left it, frozen (Hu et al. 2022, arXiv:2106.09685). B begins at zero.

    What else of the network learns is up to `Player.parameters`: r"\\.(left|right)$" names B and A alone.
    """

    rank: int = 8
    alpha: float = 16.0
    include: str = LAYERS


Transform = LowRank | SparseLowRank | Masked | Lora
NAMES: dict[str, Transform] = {
    "low-rank": LowRank(),
    "sltrain": SparseLowRank(),
    "masked": Masked(),
    "lora": Lora(),
}


def find(name: str) -> Transform | None:
    """By its name on the command line, "none" for dense layers. Raises OvertureError for another, with near names."""
    if name == "none":
        return None
    if name not in NAMES:
        raise OvertureError(f"no transform {name!r}. {near(name, [*NAMES, 'none'])}")
    return NAMES[name]
