"""What a frozen encoder is judged against.

The other control, the recipe's own encoder at its initialisation, needs no code of its own.
"""

from torch import Tensor, nn

from overture.data.batch import States


class InputEncoder(nn.Module):
    """An encoder whose only hidden state is its input: with a log-mel frontend, the log-mel control of every probe.

    It satisfies `overture.data.batch.Encoder`, so it goes through the same features, heads and scores as a trained one.
    """

    def __init__(self, dim: int, frame_rate: float) -> None:
        """`dim`: F of the frontend; `frame_rate`: its frames a second."""
        super().__init__()
        self.dim, self.frame_rate = dim, frame_rate

    def steps(self, lengths: Tensor) -> Tensor:
        """(B,) -> (B,): as many."""
        return lengths

    def states(self, x: Tensor, lengths: Tensor) -> States:
        """(B, T, F), (B,) -> one hidden state, x itself."""
        if x.ndim != 3 or x.shape[-1] != self.dim:
            raise ValueError(f"the frontend gives {tuple(x.shape)}, this control was made for (B, T, {self.dim})")
        return States((x,), lengths)
