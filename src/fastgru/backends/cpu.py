"""The kernels of csrc/ on a CPU. The native module checks every tensor that it is given; csrc/gru.h is its contract."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor

from fastgru.backends.tensors import is_written_down, why_not_tensors
from fastgru.core import reference
from fastgru.core.layer import Layer
from fastgru.core.spec import NORM_NEEDS_RESET_AFTER
from fastgru.core.stack import Stack
from fastgru.core.steps import Steps
from fastgru.core.torch_internals import is_forward_mode

_native: Any = import_module("fastgru._native") if find_spec("fastgru._native") is not None else None

_TAKEN = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.float16: "half precision",
    torch.bfloat16: "half precision",
}

# Single steps, straight from tensors to tensors; None where it is not built.
STEP: Any = getattr(_native, "step", None)
CELL_STEP: Any = getattr(_native, "cell_step", None)
StepWeights: Any = getattr(_native, "StepWeights", None)
StepRecords: Any = getattr(_native, "StepRecords", None)
LOW_FORWARD: Any = getattr(_native, "forward_low", None)
LowWeights: Any = getattr(_native, "LowWeights", None)
if _native is not None:
    _native.use_tensors(Tensor, torch.nn.Parameter, torch.UntypedStorage)


def packed_weights(count: int) -> list[Any]:
    """For each of so many layers what keeps its packed weights (`fastgru.core.layer.Layer.packed`)."""
    return [None if _native is None else _native.PackedWeights() for _ in range(count)]


def clear_caches() -> None:
    """Free what the kernels keep from call to call: no result depends on it, and the next calls make it anew.

    That is each layer's packed weights (those of all layers together fill at most 256 MiB, and go with their modules),
    and each thread's workspace (at most 256 MiB; a thread that computes now gives its own back at the end of its call).

    >>> import torch, fastgru
    >>> gru = fastgru.GRU(8, 16)
    >>> with torch.no_grad():
    ...     output, hidden = gru(torch.ones(2, 3, 8))
    >>> fastgru.clear_caches()
    """
    if _native is not None:
        _native.clear_caches()


class batch_invariant:  # noqa: N801  (a function for who calls it, as torch.set_grad_enabled is)
    """Whether single steps, too, give a sequence the same bits in any company; for the whole process, from now on.

    The CPU kernels add up every number in one order. A sequence's output and final state are the same bits for any
    batch, place in the batch, number of threads, padding, form of the input and split into calls, with and without
    gradients, on one instruction set. By default single steps are excepted: `gru.step`, `GRUCell` and calls of T = 1
    read the weights in the order that is fastest for one sequence. With True they have the bits of the whole pass.

    mode: True or False. As a context manager it brings back at its end what was said before.

    It tells only of the `cpu` backend and of the forward pass: gradients of weights are sums over the batch. In half
    precision a state that is handed on is rounded, so that a pass split into calls differs. Raises RuntimeError where
    the native module is not built and mode is True.

    >>> import torch, fastgru
    >>> gru, x = fastgru.GRU(8, 16), torch.randn(5, 3, 8)
    >>> with torch.no_grad(), fastgru.batch_invariant(True):
    ...     whole, _ = gru(x)
    ...     state = None
    ...     for t in range(5):
    ...         y, state = gru.step(x[t, 1:2], state)
    >>> torch.equal(y, whole[4, 1:2])
    True
    """

    def __init__(self, mode: bool) -> None:
        if _native is None and mode:
            raise RuntimeError(
                "batch_invariant tells the native module, which is not built; install it as README.md says"
            )
        self._before: bool = _native is not None and _native.set_batch_invariant(mode)

    def __enter__(self) -> None:
        """Nothing: it is said already."""

    def __exit__(self, *_: object) -> None:
        """Say what was said before."""
        if _native is not None:
            _native.set_batch_invariant(self._before)


class CpuBackend:
    """Layers in this machine's memory, in float32 or float64; `fastgru.ops` casts half precision to float32."""

    name = "cpu"
    composed: Literal[False] = False
    takes_half = False
    keeps_gates = True
    why_not_auto = None

    def why_not(
        self, stack: Stack, x: Tensor, h0: Tensor | None, weights: Sequence[Tensor], steps: Steps
    ) -> str | None:
        """It takes plain tensors of one dtype on the CPU, outside of forward-mode differentiation.

        What it refuses for its shape goes to torch's operators, which broadcast it or say what is wrong.
        """
        if _native is None:
            return "the native module is not built; install fastgru with a C++17 compiler"
        # A stack without packed weights is that of a program being compiled, which cannot call the native module.
        if stack.packed[0] is None or not _native.takes(x, h0, weights, stack.shapes):
            reason = why_not_tensors(stack, x, h0, weights, _TAKEN, _is_on_cpu, "the CPU")
            if reason is not None:
                return reason
        if stack.spec.layer_norm and not stack.spec.reset_after:
            return NORM_NEEDS_RESET_AFTER
        if steps.batch_sizes is not None and not is_written_down():
            problem = reference.why_not_packed(x, steps.batch_sizes)
            if problem is not None:
                return problem
        return "forward-mode differentiation is on" if is_forward_mode() else None

    def forward(self, given: Layer, save: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """As the protocol says; saved holds what gru.h says, of the steps that exist."""
        found: tuple[Tensor, Tensor, Tensor | None] = _native.forward(given, save, torch.get_num_threads())
        return found

    def check(
        self, given: Layer, y: Tensor | None, dy: Tensor | None, dh_n: Tensor | None, wanted: Sequence[bool]
    ) -> None:
        """As the protocol says."""
        _native.check(given, y, dy, dh_n, wanted)

    def backward(
        self, given: Layer, y: Tensor, saved: Tensor, dy: Tensor | None, dh_n: Tensor | None, wanted: Sequence[bool]
    ) -> list[Tensor | None]:
        """As the protocol says."""
        found: list[Tensor | None] = _native.backward(given, y, saved, dy, dh_n, wanted, torch.get_num_threads())
        return found


def _is_on_cpu(tensor: Tensor) -> bool:
    return tensor.is_cpu
