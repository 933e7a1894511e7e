from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import Tensor

from fastgru.core.layer import Layer
from fastgru.core.noise import Noise
from fastgru.core.spec import Variant

Buffer: TypeAlias = Any  # collections.abc.Buffer, from Python 3.12 on

class PackedWeights:
    """Keeps a layer's packed weights from call to call, while it lives."""

    def __init__(self) -> None: ...
    def freeze(self, layer: Layer) -> None:
        """Trust the weights of a layer from now on; a call with others is a RuntimeError."""
    @property
    def of_copies(self) -> PackedWeights:
        """Keeps those of copies of the weights that are made for one call, and lie elsewhere each time."""

def instruction_sets() -> list[str]:
    """The instruction sets that this CPU and operating system can run, slowest first."""

def instruction_set() -> str:
    """The set in use. ValueError if FASTGRU_ISA names one that is not there."""

def force_instruction_set(name: str) -> None:
    """Use another set from now on; "" goes back to the default. ValueError if it is not there."""

def is_batch_invariant() -> bool:
    """Whether single steps have the bits of longer calls too."""

def set_batch_invariant(wanted: bool) -> bool:
    """Say so from now on, in all threads; returns what was said before."""

def microkernel_gflops(threads: int) -> float:
    """The rate of the product's innermost tile in float32, on memory that stays in L1, in GFLOP/s."""

def use_tensors(tensor: type, parameter: type, storage: type, in_place: bool = True) -> None:
    """Torch's types, to be told once. in_place false: tensors are read through their Python methods."""

def clear_caches() -> None:
    """Free the packed weights and the workspace kept for later calls."""

def packed_bytes() -> int:
    """Bytes of packed weights kept now."""

def takes(x: Tensor, h0: Tensor | None, weights: list[Tensor], shapes: tuple[tuple[int, ...], ...]) -> bool:
    """Whether all are plain dense tensors on the CPU, of one floating dtype, and the weights of these shapes."""

def forward(layer: Layer, save: bool, threads: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run a layer: y in the form of x, h_n [D, B, H] and what backward needs, None without `save`."""

def backward(
    layer: Layer,
    y: Tensor,
    saved: Tensor,
    dy: Tensor | None,
    dh_n: Tensor | None,
    wanted: Sequence[bool],
    threads: int,
) -> list[Tensor | None]:
    """Differentiate a layer: the gradients of its leaves, None where not wanted or not there."""

def check(layer: Layer, y: Tensor | None, dy: Tensor | None, dh_n: Tensor | None, wanted: Sequence[bool]) -> None:
    """Raise what backward would for a layer, its output and their gradients."""

def step(
    x: Tensor,
    state: Tensor | None,
    weights: list[Tensor],
    layers: int,
    keep: float,
    frozen: Sequence[PackedWeights] | None = None,
) -> tuple[Tensor, Tensor] | None:
    """One step without gradients of few sequences; None, with nothing done, where another way must be taken."""

def cell_step(
    x: Tensor, h: Tensor | None, weights: list[Tensor], keep: float, frozen: Sequence[PackedWeights] | None = None
) -> Tensor | None:
    """As step, for a cell: the next h."""

class StepWeights:
    """A stack's weights as the steps of one graph use them."""

    def __init__(self, variant: Variant, layers: int, weights: list[Tensor], is_cell: bool) -> None: ...
    @property
    def wants_any(self) -> bool:
        """Whether a gradient of one of them is wanted."""

    def fits(self, variant: Variant, weights: list[Tensor], is_cell: bool) -> bool:
        """Whether these are the same weights, in the same use: none was replaced, no matrix written to."""

    def check(self) -> None:
        """Raise RuntimeError, in torch's words, where a matrix was written to."""

    def forward(
        self, x: Tensor, state: Tensor | None, draw: Callable[[], Noise] | None, threads: int
    ) -> tuple[Tensor | None, Tensor, Tensor, Noise | None] | None:
        """One step: y (None for a cell), the next state, what backward needs, and the masks that `draw` returned.

        None, with nothing done, where another way must be taken.
        """

    def backward(
        self,
        x: Tensor,
        state: Tensor | None,
        recurrent: Tensor | None,
        zoneout: Tensor | None,
        saved: Tensor,
        dy: Tensor | None,
        dh_n: Tensor | None,
        wanted: Sequence[bool],
        records: StepRecords | None,
        threads: int,
    ) -> list[Tensor | None]:
        """The gradients of x and the state, and of the weights where `wanted` tells of them and nothing is recorded."""

    def double_backward(
        self,
        x: Tensor,
        state: Tensor | None,
        saved: Tensor,
        dy: Tensor | None,
        dh_n: Tensor | None,
        cotangents: Sequence[Tensor | None],
        wanted: Sequence[bool],
        threads: int,
    ) -> list[Tensor | None] | None:
        """The gradients of the gradients that backward gives of a single layer's step, whose cotangents these are.

        Of dy, dh_n, x, the state and the weights; None, with nothing done, where another way must be taken.
        """

class StepRecords:
    """What the steps of one backward pass leave for the gradients of a stack's weights."""

    def __init__(self, weights: StepWeights) -> None: ...
    def finish(self) -> list[Tensor | None]:
        """The weights' gradients, None where not wanted."""

class Network:
    """A stack of layers for inference on arrays (anything with a buffer, as NumPy's), with weights of its own."""

    def __init__(
        self,
        input_size: int,
        hidden_sizes: list[int],
        directions: int,
        bias: bool,
        reset_after: bool,
        layer_norm: bool,
        zoneout: float,
        weights: list[Buffer],
        initial_state: Buffer | None,
    ) -> None:
        """weights: layer by layer, forward before reverse, in torch's order, of one dtype, dense. Copied."""
    def forward(
        self,
        x: Buffer,
        y: Buffer,
        h_n: Buffer,
        h0: Buffer | None,
        lengths: Buffer | None,
        resets: Buffer | None,
        batch_first: bool,
        threads: int,
    ) -> None:
        """Write y and h_n of x."""

class Stream:
    """Some sequences of a network, a step at a time, and their states."""

    def __init__(self, network: Network, batch: int) -> None: ...
    def step(self, x: Buffer, y: Buffer, threads: int) -> None:
        """Write y [B, H] of x [B, I]; [H] of [I] where B is 1."""
    def reset(self, rows: Buffer | None) -> None:
        """To the initial state: rows int64, or all."""
    def get_state(self, to: Buffer) -> None:
        """Write the states, in the form of h_n."""
    def set_state(self, from_: Buffer) -> None:
        """Go on from other states, in the form of h_n."""

class LowWeights:
    """Keeps a layer's packed weights of few bits from call to call, while it lives."""

def forward_low(layer: Layer, weights: LowWeights, threads: int) -> tuple[Tensor, Tensor]:
    """y in the form of x and h_n [D, B, H] of a layer of int8 or bfloat16 weights."""

def int8_products(w: Tensor, x: Tensor) -> Tensor:
    """x W^T as the int8 kernels compute it, of w [3H, I] int8 and x [B, I] float32, times each row's own scale."""

def low_precision_sets() -> list[str]:
    """The kernels for weights of few bits that this CPU can run, slowest first."""

def low_precision_set() -> str:
    """Those in use."""

def force_low_precision_set(name: str) -> None:
    """Use others from now on; "" goes back to the default. ValueError if they are not there."""
