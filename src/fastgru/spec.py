"""GRUSpec: one frozen description of a GRU's variant and sizes, the same word in every room."""

from typing import NamedTuple


class GRUSpec(NamedTuple):
    """What a backend must know of a layer besides its tensors.

    Sizes in the letters used everywhere: I = `input_size`, H = `hidden_size`, L = `num_layers`, D = `directions`.
    `dropout` is the probability with which an output between two layers is zeroed, in `training` only.
    `reset_after` False is the form in which r multiplies the state before its product with W_hn.
    """

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    dropout: float = 0.0
    training: bool = False
    reset_after: bool = True

    @property
    def directions(self) -> int:
        """D: 2 where the layer is bidirectional, otherwise 1."""
        return 2 if self.bidirectional else 1

    @property
    def weights_per_direction(self) -> int:
        """4 tensors (`w_ih w_hh b_ih b_hh`), 2 without bias."""
        return 4 if self.bias else 2
