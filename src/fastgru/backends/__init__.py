"""Who computes a GRU: the backends in their order of preference, and the rule that picks one.

A backend that was asked for by name runs or raises; `auto` takes the first one that can. None is ever put in the
place of another silently: `fastgru.info(layer)` tells who serves a layer, and why the others do not.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

from torch import Tensor
from torch.compiler import is_compiling

from fastgru.backends.aten import AtenBackend
from fastgru.backends.cpu import CpuBackend, batch_invariant, clear_caches
from fastgru.backends.reference import ReferenceBackend
from fastgru.backends.tensors import is_plain_on_cpu
from fastgru.backends.triton import TritonBackend
from fastgru.core.layer import Layer
from fastgru.core.stack import Stack
from fastgru.core.steps import PLAIN, Steps
from fastgru.core.torch_internals import tracing_state

WhyNot: TypeAlias = Callable[[Stack, Tensor, Tensor | None, Sequence[Tensor], Steps], str | None]


class Composed(Protocol):
    """A backend of torch's operators, which torch differentiates.

    Tensors are as `fastgru.core.layer` and `fastgru.core.steps` describe them: x is [T, B, I] with any strides, or rows
    [N, I]; y has the same form. h0 None stands for zeros.
    """

    name: str
    composed: Literal[True]

    @property
    def why_not_auto(self) -> WhyNot | None:
        """Why `auto` leaves a layer that it could serve to those after it; None: it never does."""

    def why_not(
        self, stack: Stack, x: Tensor, h0: Tensor | None, weights: Sequence[Tensor], steps: Steps
    ) -> str | None:
        """Why it cannot serve this layer on such tensors, in words for the user; None where it can."""

    def layer(self, given: Layer) -> tuple[Tensor, Tensor]:
        """Compute y and h_n [D, B, H] of one layer."""

    def cell(self, x: Tensor, h: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Compute one step: x [B, I], h [B, H] to h' [B, H]. Mismatched sizes raise RuntimeError in torch's words."""


class Kernel(Protocol):
    """A backend of kernels: the two passes of one layer, which `fastgru.ops` stacks and makes differentiable."""

    name: str
    composed: Literal[False]
    takes_half: bool  # otherwise a half layer comes to it in float32
    # Otherwise backward has the gates anew from x and y, `saved` is [D, N, 0] in any mode of memory, and y may be None.
    keeps_gates: bool

    @property
    def why_not_auto(self) -> WhyNot | None:
        """As Composed's."""

    def why_not(
        self, stack: Stack, x: Tensor, h0: Tensor | None, weights: Sequence[Tensor], steps: Steps
    ) -> str | None:
        """Why it cannot serve this layer on such tensors, in words for the user; None where it can."""

    def forward(self, given: Layer, save: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """One layer: y, h_n [D, B, H] and what backward needs, None where `save` is false."""

    def check(
        self, given: Layer, y: Tensor | None, dy: Tensor | None, dh_n: Tensor | None, wanted: Sequence[bool]
    ) -> None:
        """Raise what backward would for such a layer and such gradients, before it is cut into windows."""

    def backward(
        self, given: Layer, y: Tensor, saved: Tensor, dy: Tensor | None, dh_n: Tensor | None, wanted: Sequence[bool]
    ) -> list[Tensor | None]:
        """Compute the gradients of the layer's leaves, None where not wanted or not there.

        dy and dh_n None stand for zeros. `saved` is only read: a second backward gives the same gradients.
        """


__all__ = [
    "BACKENDS",
    "Backend",
    "Composed",
    "Kernel",
    "batch_invariant",
    "check_name",
    "clear_caches",
    "listeners",
    "pick",
]

Backend: TypeAlias = Composed | Kernel

_CPU, _TRITON, _ATEN, _REFERENCE = CpuBackend(), TritonBackend(), AtenBackend(), ReferenceBackend()
BACKENDS: tuple[Backend, ...] = (_CPU, _TRITON, _ATEN, _REFERENCE)
_WHILE_TRACED: tuple[Backend, ...] = (_ATEN, _CPU, _TRITON, _REFERENCE)

# Told at every pick which backend it was, and the reasons of those before it.
listeners: list[Callable[[str, Sequence[str]], None]] = []


def check_name(name: str) -> None:
    """Raise ValueError where no backend has this name ("auto" is one)."""
    names = ["auto", *(backend.name for backend in BACKENDS)]
    if name not in names:
        raise ValueError(f"backend must be one of {', '.join(map(repr, names))}, got {name!r}")


def pick(
    name: str,
    stack: Stack,
    x: Tensor,
    h0: Tensor | None,
    weights: Sequence[Tensor],
    steps: Steps = PLAIN,
) -> Backend:
    """The backend that serves such a layer: the named one, or for "auto" the first that can and does not decline.

    While torch.jit traces, "auto" asks torch's own operator first: the program then loads where fastgru is not.
    Raises RuntimeError with the backend's own reason where it cannot.
    """
    reasons: list[str] = []
    for backend in BACKENDS if tracing_state() is None else _WHILE_TRACED:
        if name not in ("auto", backend.name):
            continue
        if backend is _TRITON and name == "auto" and is_plain_on_cpu(x):  # no reason of its own is of use there
            continue
        reason = backend.why_not(stack, x, h0, weights, steps)
        if reason is None and name == "auto" and backend.why_not_auto is not None:
            reason = backend.why_not_auto(stack, x, h0, weights, steps)
        if reason is None:
            if listeners and not is_compiling():
                for listener in listeners:
                    listener(backend.name, reasons)
            return backend
        reasons.append(f"{backend.name}: {reason}")
    check_name(name)
    raise RuntimeError(f"no backend can serve this layer ({'; '.join(reasons)}); try backend='auto'")
