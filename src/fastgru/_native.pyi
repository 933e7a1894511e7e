from collections.abc import Sequence

from torch import Tensor

from fastgru.core.layer import Layer

class PackedWeights:
    """Keeps a layer's packed weights from call to call, while it lives."""

    def __init__(self) -> None: ...
    @property
    def of_copies(self) -> PackedWeights:
        """Keeps those of copies of the weights that are made for one call, and lie elsewhere each time."""

def instruction_sets() -> list[str]:
    """The instruction sets that this CPU and operating system can run, slowest first."""

def instruction_set() -> str:
    """The set in use. ValueError if FASTGRU_ISA names one that is not there."""

def force_instruction_set(name: str) -> None:
    """Use another set from now on; "" goes back to the default. ValueError if it is not there."""

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
    x: Tensor, state: Tensor | None, weights: list[Tensor], layers: int, keep: float
) -> tuple[Tensor, Tensor] | None:
    """One step without gradients of one or two sequences; None, with nothing done, where another way must be taken."""

def cell_step(x: Tensor, h: Tensor | None, weights: list[Tensor]) -> Tensor | None:
    """As step, for a cell."""
