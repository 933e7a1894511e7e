"""What a layer keeps for its backward pass: a kernel's gates, or as little as they can be computed anew from.

With W windows of some steps each:

    "gates"       what the kernel saves, 4 H numbers a step, and the output
    "recompute"   the output alone: it has the states in which windows begin
    "checkpoint"  these W - 1 states alone

A kernel that has the gates anew from x and y keeps these two with "gates" and "recompute", and x with "checkpoint".

Backward takes one direction after the other, and its windows from the last that it ran through to the first: the
kernel's forward pass over the window, then its backward pass, whose gradient of the window's first state is that of the
last state of the window before. So one window's gates are there at a time (Chen et al. 2016, arXiv:1604.06174).
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fastgru.backends import Kernel
from fastgru.core.layer import Layer, layer_of
from fastgru.core.noise import Noise
from fastgru.core.spec import Variant
from fastgru.core.torch_internals import are_transforms_active, is_forward_mode
from fastgru.ops.windows import Window, Windows, is_reverse

Maybe = Tensor | None
Differentiate = Callable[..., Sequence[Maybe]]

# Rows of a window at least: in fewer, calls and the packing of weights would weigh more.
_ROWS = {"recompute": 2048, "checkpoint": 512}


def with_memory(kernel: Kernel, variant: Variant) -> Kernel:
    """The kernel that keeps what the variant says."""
    return RecomputingKernel(kernel) if variant.memory != "gates" and kernel.keeps_gates else kernel


class RecomputingKernel:
    """A kernel that saves no gates, but [D, B, W - 1, H]: the states in which windows begin, or none of them."""

    composed: Literal[False] = False
    keeps_gates = False

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.name = kernel.name
        self.takes_half = kernel.takes_half
        self.why_not, self.why_not_auto = kernel.why_not, kernel.why_not_auto
        self.check = kernel.check

    def forward(self, given: Layer, save: bool) -> tuple[Tensor, Tensor, Maybe]:
        """As `Kernel.forward`."""
        y, h_n, _ = self.kernel.forward(given, save=False)
        if not save:
            return y, h_n, None
        if given.variant.memory == "recompute":
            return y, h_n, h_n.new_empty(h_n.size(0), h_n.size(1), 0, h_n.size(2))
        return y, h_n, _windows(given).states(given, y)

    def backward(
        self,
        given: Layer,
        y: Maybe,
        saved: Tensor,
        dy: Maybe,
        dh_n: Maybe,
        wanted: Sequence[bool],
        differentiate: Differentiate | None = None,
    ) -> list[Maybe]:
        """As `Kernel.backward`; y may be None where `saved` has the states.

        differentiate: what to call for a window in place of the kernel's backward pass.
        """
        self.kernel.check(given, y, dy, dh_n, wanted)
        windows = _windows(given)
        shape = (given.variant.directions, windows.batch, windows.between.size(0), given.hidden_size)
        if saved.shape != shape:
            if y is None or saved.numel():
                raise ValueError(f"saved must be {[*shape]}, the states between windows, got {[*saved.shape]}")
            saved = windows.states(given, y)
        gradients = [
            torch.zeros_like(leaf, memory_format=torch.contiguous_format) if want and leaf is not None else None
            for leaf, want in zip(given.leaves, wanted, strict=True)
        ]
        for direction in range(given.variant.directions):
            sweep = _Sweep(self.kernel, differentiate or self.kernel.backward, given, windows, direction, gradients)
            sweep.run(saved[direction], dy, dh_n)
        return gradients


def _windows(given: Layer) -> Windows:
    return Windows(given, _ROWS[given.variant.memory])


class _Sweep:
    """One direction's way back through its windows, which adds to the gradients of a layer's leaves."""

    def __init__(
        self,
        kernel: Kernel,
        differentiate: Differentiate,
        given: Layer,
        windows: Windows,
        direction: int,
        gradients: list[Maybe],
    ) -> None:
        variant, each = given.variant, given.variant.weights_per_direction
        self.kernel, self.differentiate = kernel, differentiate
        self.given, self.windows, self.direction = given, windows, direction
        self.gradients = gradients
        self.reverse = is_reverse(variant, direction)
        self.variant = variant._replace(bidirectional=False, reverse=self.reverse, memory="gates")
        self.own = slice(direction * each, (direction + 1) * each)  # of the weights
        self.initial = None if given.initial is None else given.initial[direction, None]

    def run(self, states: Tensor, dy: Maybe, dh_n: Maybe) -> None:
        """states [B, W - 1, H]: those between windows; dy and dh_n as `Kernel.backward` has them."""
        given, spans = self.given, self.windows.spans
        shape = (self.windows.batch, given.hidden_size)
        h0 = given.x.new_zeros(shape) if given.h0 is None else given.h0[self.direction]
        carry = given.x.new_zeros(shape) if dh_n is None else dh_n[self.direction].clone()
        for i in range(len(spans)) if self.reverse else reversed(range(len(spans))):
            begin, end = spans[i]
            first, t = (i == len(spans) - 1, end) if self.reverse else (i == 0, begin)
            state = h0 if first else self._reset(states[:, i if self.reverse else i - 1], t)
            self._step(self.windows.window(begin, end), state, dy, carry)
            if not first:
                self._part(carry, t)
        if (dh0 := self.gradients[1]) is not None:
            dh0[self.direction] = carry

    def _step(self, window: Window, state: Tensor, dy: Maybe, carry: Tensor) -> None:
        """One window, from its first state [B, H]; carry [B, H]: the gradient of its last state, then of its first."""
        given, units = self.given, self.given.hidden_size
        recurrent, zoneout = given.noise
        side = (-1, self.direction * units, units)
        noise = Noise(
            None if recurrent is None else recurrent[self.direction, None, : window.batch],
            None if zoneout is None else window.of(zoneout).narrow(*side),
        )
        x, h0, weights = window.of(given.x), state[None, : window.batch], given.weights[self.own]
        layer = Layer(self.variant, window.steps, noise, x, h0, self.initial, weights)
        y, _, saved = self.kernel.forward(layer, save=True)
        own_dy = None if dy is None else window.of(dy).narrow(*side)
        wanted = [gradient is not None for gradient in self.gradients]
        wanted = [wanted[0], True, wanted[2], *wanted[3:][self.own]]
        dx, dh0, dinitial, *dweights = self.differentiate(layer, y, saved, own_dy, carry[None, : window.batch], wanted)
        assert dh0 is not None
        carry[: window.batch] = dh0[0]
        if dx is not None and (whole := self.gradients[0]) is not None:
            window.add(whole, dx)
        self._add_initial(None if dinitial is None else dinitial[0])
        for i, gradient in enumerate(dweights, 3 + self.own.start):
            if gradient is not None and (whole := self.gradients[i]) is not None:
                self.gradients[i] = whole.add_(gradient) if whole.shape == gradient.shape else whole + gradient

    def _add_initial(self, gradient: Maybe) -> None:
        """Add to the gradient [H] of this direction's initial state."""
        if gradient is not None and (whole := self.gradients[2]) is not None:
            whole[self.direction] += gradient

    def _reset(self, state: Tensor, t: int) -> Tensor:
        """The state [B, H] that a window finds at t; the forward direction's has the resets there among its steps."""
        fresh = self.windows.resets(t) if self.reverse else None
        if fresh is None:
            return state
        initial = state.new_zeros(()) if self.initial is None else self.initial
        return torch.where(fresh[:, None].to(state.device), initial, state)

    def _part(self, carry: Tensor, t: int) -> None:
        """Stop the gradient [B, H] between steps t - 1 and t where it does not cross."""
        fresh = self.windows.resets(t) if self.reverse else None
        if fresh is not None:
            fresh = fresh.to(carry.device)
            self._add_initial(carry[fresh].sum(0))
            carry[fresh] = 0
        tbptt = self.variant.tbptt
        if tbptt and t % tbptt == 0:
            carry[self.windows.crossing(torch.tensor([t], device="cpu"))[0].to(carry.device)] = 0


def checkpointed(compute: Callable[[Layer], tuple[Tensor, Tensor]], given: Layer) -> tuple[Tensor, Tensor]:
    """A layer of torch's operators; where not the gates are kept it is computed again in backward, as a whole.

    Not under torch.func and torch.compile, nor in forward mode, which have their own ways to keep what they need.
    """
    if given.variant.memory == "gates" or not torch.is_grad_enabled() or is_forward_mode():
        return compute(given)
    if are_transforms_active() or torch.compiler.is_compiling():
        return compute(given)

    def run(*tensors: Maybe) -> tuple[Tensor, Tensor]:
        return compute(layer_of(given.variant, tensors))

    found: Any = checkpoint(run, *given.tensors, use_reentrant=False, preserve_rng_state=False)
    return found[0], found[1]
