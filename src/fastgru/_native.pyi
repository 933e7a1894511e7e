from typing import TypeAlias

# csrc/gru.h says what each tensor must hold. Addresses are data_ptr(), 0 for a tensor that is not there.

Sizes: TypeAlias = tuple[int, int, int, int, int]  # I, H, D, T, B
Steps: TypeAlias = tuple[int, int, int]  # addresses of rows, first, order
Series: TypeAlias = tuple[int, int, int]  # address, time stride, batch stride
Parameters: TypeAlias = tuple[int, ...]  # 8 addresses: w_ih, w_hh, b_ih, b_hh of each direction

def instruction_sets() -> list[str]:
    """The instruction sets that this CPU and operating system can run, slowest first."""

def instruction_set() -> str:
    """The set in use. ValueError if FASTGRU_ISA names one that is not there."""

def force_instruction_set(name: str) -> None:
    """Use another set from now on; "" goes back to the default. ValueError if it is not there."""

def microkernel_gflops(threads: int) -> float:
    """The rate of the product's innermost tile in float32, on memory that stays in L1, in GFLOP/s."""

def clear_packed() -> None:
    """Free the packed weights kept for later calls; the next call of each layer packs them anew."""

def forward_f32(
    sizes: Sizes,
    steps: Steps,
    parameters: Parameters,
    x: Series,
    h0: int,
    y: Series,
    h_n: int,
    saved: int,
    threads: int,
) -> None:
    """Run a layer; without `saved`, packed weights are kept for the next call."""

forward_f64 = forward_f32

def backward_f32(
    sizes: Sizes,
    steps: Steps,
    parameters: Parameters,
    x: Series,
    h0: int,
    y: Series,
    saved: int,
    dy: Series,
    dh_n: int,
    dx: Series,
    dh0: int,
    gradients: Parameters,
    threads: int,
) -> None:
    """Differentiate a layer."""

backward_f64 = backward_f32
