"""GRUSpec: one frozen description of a GRU's variant and sizes; Variant: what of it matters to one layer."""

from collections.abc import Sequence
from operator import index
from typing import Any, NamedTuple

MEMORIES = ("gates", "recompute", "checkpoint")
NORM_NEEDS_RESET_AFTER = (
    "layer_norm=True normalises all 3H rows of W_hh h at once, and with reset_after=False those of n are a product "
    "with r * h, for which r must be known first; leave reset_after=True"
)


class Variant(NamedTuple):
    """What computes one layer, besides its tensors: a part of GRUSpec, the same for every layer of a stack.

    `keep`: m of zoneout where no mask gives it, `h' = h + m * (h~ - h)` with h~ what the equations give; 1: none.
    `tbptt`: k, gradients do not cross from one stretch of k steps to another; 0: they all do.
    `layer_norm`: `W_ih x` and `W_hh h` are normalised before the biases are added.
    `reverse`: the one direction runs from the last step to the first.
    `memory`: what backward finds, one of MEMORIES (`fastgru.ops.memory`).
    `bf16`: a float32 layer's products are of bfloat16 where the processor multiplies it (`fastgru.ops.precision`).
    """

    bias: bool = True
    bidirectional: bool = False
    reset_after: bool = True
    keep: float = 1.0
    tbptt: int = 0
    layer_norm: bool = False
    reverse: bool = False
    memory: str = "gates"
    bf16: bool = False

    @property
    def directions(self) -> int:
        """D: 2 where the layer is bidirectional, otherwise 1."""
        return 2 if self.bidirectional else 1

    @property
    def weights_per_direction(self) -> int:
        """2 tensors (`w_ih w_hh`), 2 more with bias (`b_ih b_hh`) and 2 with layer norm (`g_ih g_hh`)."""
        return 2 + (2 if self.bias else 0) + (2 if self.layer_norm else 0)


class GRUSpec(NamedTuple):
    """What a backend must know of a layer besides its tensors.

    Sizes in the letters used everywhere: I = `input_size`, H = `hidden_size`, L = `num_layers`, D = `directions`; where
    the layers' H differ `hidden_size` is a tuple, one for each layer.
    `dropout` is the probability with which an output between two layers is zeroed, in `training` only; with
    `variational` it has one mask a sequence. `recurrent_dropout`, `zoneout` and `weight_dropout` are probabilities too
    (`fastgru.core.noise`). `reset_after` False is the form in which r multiplies the state before its product with
    W_hn.
    `tbptt`: k, gradients do not cross from one stretch of k steps to another; 0: they all do.
    `layer_norm`: `W_ih x` and `W_hh h` are normalised before the biases are added, in training and in eval.
    `memory`: what backward finds, one of MEMORIES (`fastgru.ops.memory`).
    """

    input_size: int
    hidden_size: int | tuple[int, ...]
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    dropout: float = 0.0
    training: bool = False
    reset_after: bool = True
    recurrent_dropout: float = 0.0
    variational: bool = False
    zoneout: float = 0.0
    weight_dropout: float = 0.0
    tbptt: int = 0
    layer_norm: bool = False
    memory: str = "gates"

    @property
    def directions(self) -> int:
        """D: 2 where the layer is bidirectional, otherwise 1."""
        return 2 if self.bidirectional else 1

    @property
    def weights_per_direction(self) -> int:
        """2 tensors (`w_ih w_hh`), 2 more with bias (`b_ih b_hh`) and 2 with layer norm (`g_ih g_hh`)."""
        return 2 + (2 if self.bias else 0) + (2 if self.layer_norm else 0)

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """H of each layer."""
        return (self.hidden_size,) * self.num_layers if isinstance(self.hidden_size, int) else self.hidden_size

    @property
    def weight_shapes(self) -> list[tuple[int, ...]]:
        """The shapes of all weights, layer by layer, forward before reverse."""
        shapes: list[tuple[int, ...]] = []
        features = self.input_size
        for hidden in self.hidden_sizes:
            rows: list[tuple[int, ...]] = [(3 * hidden,)] * (self.weights_per_direction - 2)
            shapes += [(3 * hidden, features), (3 * hidden, hidden), *rows] * self.directions
            features = self.directions * hidden
        return shapes

    def states_shape(self, *batch: int) -> tuple[int, ...]:
        """Of h0 and h_n: `[L*D, B, H]`, and `[D, B, sum(H)]` where the layers' H differ; without `batch`, without B."""
        if isinstance(self.hidden_size, int):
            return self.num_layers * self.directions, *batch, self.hidden_size
        return self.directions, *batch, sum(self.hidden_size)

    @property
    def is_noisy(self) -> bool:
        """Whether recurrent dropout or zoneout change the state, in this mode."""
        return self.zoneout > 0 or (self.training and self.recurrent_dropout > 0)

    @property
    def variant(self) -> Variant:
        """What of it matters to one layer."""
        keep = 1.0 if self.training else 1.0 - self.zoneout
        return Variant(
            self.bias, self.bidirectional, self.reset_after, keep, self.tbptt, self.layer_norm, memory=self.memory
        )


def whole(size: Any) -> Any:
    """A size as an int where it is an integer of another kind: of NumPy, or a tensor without dimensions."""
    if isinstance(size, int | Sequence) or not hasattr(size, "__index__"):
        return size
    try:
        return index(size)
    except (TypeError, ValueError, RuntimeError):  # an array, a tensor of more elements or of another dtype
        return size


def sizes_of_layers(hidden_size: Any, num_layers: int | None) -> tuple[int, ...] | None:
    """H of each layer, where a GRU is given a sequence of them; None where it is given one for all.

    Raises what torch does for a size that is none, and ValueError where the layers are not as many as the sizes.
    """
    if not isinstance(hidden_size, Sequence) or isinstance(hidden_size, str):
        return None
    sizes = tuple(map(whole, hidden_size))
    for size in sizes:
        if not isinstance(size, int):
            raise TypeError(f"hidden_size should be of type int for each layer, got: {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"hidden_size must be greater than zero for each layer, got {[*sizes]}")
    if not sizes or num_layers not in (None, len(sizes)):
        layers = "" if num_layers is None else f" and num_layers={num_layers}"
        raise ValueError(f"hidden_size must have one size for each layer, got {[*sizes]}{layers}; leave num_layers out")
    return sizes


def check_options(
    *,
    recurrent_dropout: float,
    zoneout: float,
    weight_dropout: float,
    tbptt: int,
    memory: str,
    reset_after: bool,
    layer_norm: bool,
    **_: Any,
) -> None:
    """Raise ValueError for an option that is none."""
    _check_probabilities(recurrent_dropout=recurrent_dropout, zoneout=zoneout, weight_dropout=weight_dropout)
    if not isinstance(tbptt, int) or tbptt < 0:
        raise ValueError(f"tbptt must be a number of steps, or 0 for all of them, got {tbptt!r}")
    if memory not in MEMORIES:
        raise ValueError(f"memory must be one of {', '.join(map(repr, MEMORIES))}, got {memory!r}")
    if layer_norm and not reset_after:
        raise ValueError(NORM_NEEDS_RESET_AFTER)


def _check_probabilities(**given: float) -> None:
    for name, p in given.items():
        if not isinstance(p, int | float) or isinstance(p, bool) or not 0 <= p <= 1:
            raise ValueError(f"{name} must be a probability from 0 to 1, got {p!r}")
