"""Who computes a GRU: the backends in their order of preference, and the rule that picks one.

A backend that was asked for by name runs or raises; `auto` takes the first one that can. None is ever put in the
place of another silently: `fastgru.info(layer)` tells who serves a layer, and why the others do not.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from fastgru.backends.aten import AtenBackend
from fastgru.backends.reference import ReferenceBackend
from fastgru.spec import GRUSpec


class Backend(Protocol):
    """One way of computing a GRU. Tensors are as `fastgru.reference` describes them, results differentiable."""

    name: str

    def why_not(self, spec: GRUSpec, x: Tensor) -> str | None:
        """Why it cannot serve this layer on an input like x, in words for the user; None where it can."""

    def forward(
        self, spec: GRUSpec, x: Tensor, h0: Tensor, weights: Sequence[Tensor], batch_sizes: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Compute y and h_n.

        x is [T, B, I] with any strides, or, with batch_sizes [T] int64 on the CPU (how many sequences reach each step,
        never increasing), the packed steps [sum(batch_sizes), I]; y has the same form.
        """

    def cell(
        self, x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None
    ) -> Tensor:
        """Compute one step: x [B, I], h [B, H] to h' [B, H]. Mismatched sizes raise RuntimeError in torch's words."""


BACKENDS: tuple[Backend, ...] = (AtenBackend(), ReferenceBackend())


def check_name(name: str) -> None:
    """Raise ValueError where no backend has this name ("auto" is one)."""
    names = ["auto", *(backend.name for backend in BACKENDS)]
    if name not in names:
        raise ValueError(f"backend must be one of {', '.join(map(repr, names))}, got {name!r}")


def pick(name: str, spec: GRUSpec, x: Tensor) -> Backend:
    """The backend that serves this layer: the named one, or for "auto" the first that can.

    Raises RuntimeError with the backend's own reason where it cannot.
    """
    reasons = []
    for backend in BACKENDS:
        if name not in ("auto", backend.name):
            continue
        reason = backend.why_not(spec, x)
        if reason is None:
            return backend
        reasons.append(f"{backend.name}: {reason}")
    check_name(name)
    raise RuntimeError(f"no backend can serve this layer ({'; '.join(reasons)}); try backend='auto'")
