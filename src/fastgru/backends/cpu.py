"""The kernels of csrc/ on a CPU: the one place where dtype, shape and layout are checked before addresses are passed.

csrc/gru.h is the contract: what each address must hold.
"""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad

from fastgru.core import reference
from fastgru.core.layer import Layer
from fastgru.core.noise import SILENCE
from fastgru.core.spec import GRUSpec, Variant
from fastgru.core.steps import Steps, step_of_rows

_native: Any = import_module("fastgru._native") if find_spec("fastgru._native") is not None else None

_SUFFIX = {torch.float32: "f32", torch.float64: "f64"}
_TAKEN = frozenset((*_SUFFIX, torch.float16, torch.bfloat16))
_FORWARD: dict[torch.dtype, Any] = {
    dtype: getattr(_native, f"forward_{suffix}", None) for dtype, suffix in _SUFFIX.items()
}
_BACKWARD: dict[torch.dtype, Any] = {
    dtype: getattr(_native, f"backward_{suffix}", None) for dtype, suffix in _SUFFIX.items()
}
_PLAIN = frozenset((Tensor, torch.nn.Parameter))
_TRACED = _PLAIN | {FakeTensor}  # what torch.export and make_fx trace with

# Single steps, straight from tensors to tensors; None where it is not built.
STEP: Any = getattr(_native, "step", None)
CELL_STEP: Any = getattr(_native, "cell_step", None)
if _native is not None:
    _native.use_tensors(Tensor, torch.nn.Parameter)

# The shapes of a layer's weights by its spec: a look-up takes 0.2 us, making them 3 us.
_SHAPES: dict[GRUSpec, list[tuple[int, ...]]] = {}


class CpuBackend:
    """Layers in this machine's memory, in float32 or float64; `fastgru.ops` casts half precision to float32."""

    name = "cpu"
    composed: Literal[False] = False

    def why_not(
        self, spec: GRUSpec, x: Tensor, h0: Tensor | None, weights: Sequence[Tensor], steps: Steps
    ) -> str | None:
        """It takes plain tensors of one dtype on the CPU, outside of forward-mode differentiation.

        What it refuses for its shape goes to torch's operators, which broadcast it or say what is wrong.
        """
        dtype = x.dtype
        if _native is None:
            return "the native module is not built; install fastgru with a C++17 compiler"
        if spec.layer_norm and not spec.reset_after:
            return reference.NORM_NEEDS_RESET_AFTER
        if dtype not in _TAKEN:
            return f"its kernels take float32, float64 and half precision, not {dtype}".replace("torch.", "")
        compiling = torch.compiler.is_compiling()
        traced = compiling or torch._C._len_torch_dispatch_stack() > 0
        plain = _TRACED if traced else _PLAIN
        for tensor in (x, *weights) if h0 is None else (x, h0, *weights):
            if (
                type(tensor) not in plain
                or tensor.dtype is not dtype
                or not tensor.is_cpu
                or tensor.layout is not torch.strided
            ):
                return _what_is_wrong(tensor, dtype)
        shapes = None if traced else _SHAPES.get(spec)
        if shapes is None:
            shapes = spec.weight_shapes
            if not traced:
                _SHAPES[spec] = shapes
        if [w.shape for w in weights] != shapes:
            return f"its kernels take weights of {[*shapes]}, not {[tuple(w.shape) for w in weights]}"
        if steps.batch_sizes is not None and not traced:
            problem = reference.why_not_packed(x, steps.batch_sizes)
            if problem is not None:
                return problem
        if compiling and torch._C._are_functorch_transforms_active():
            return "a torch.func transform is being compiled"
        return None if forward_ad._current_level < 0 else "forward-mode differentiation is on"

    def forward(self, given: Layer, save: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """As the protocol says; saved holds what gru.h says, of the steps that exist."""
        variant, x = given.variant, given.x
        layout = _Layout(given)
        directions = variant.directions
        *outer, features = x.shape
        hidden = given.weights[1].shape[1]
        # sizes one by one: 0.5 us faster than as a tuple
        y = x.new_empty(*outer, directions * hidden) if layout.is_full else x.new_zeros(*outer, directions * hidden)
        h_n = x.new_empty(directions, layout.batch, hidden)
        saved = x.new_empty(directions, layout.rows, given.saved_size) if save else None
        if layout.batch == 0:
            return y, h_n, saved
        x, weights = _readable(x), _all_dense(given.weights)
        h0 = None if given.h0 is None else _dense(given.h0)
        _FORWARD[x.dtype](
            (features, hidden, directions, layout.length, layout.batch, _form(variant), variant.reverse),
            layout.addresses,
            variant.keep,
            _parameters(weights, variant),
            _series(x),
            _address(h0),
            _series(y),
            h_n.data_ptr(),
            _address(saved),
            torch.get_num_threads(),
        )
        return y, h_n, saved

    def backward(
        self, given: Layer, y: Tensor, saved: Tensor, dy: Tensor | None, dh_n: Tensor | None, wanted: Sequence[bool]
    ) -> list[Tensor | None]:
        """As the protocol says."""
        x, variant = given.x, given.variant
        layout = _Layout(given, variant.tbptt)
        gradients = [
            torch.empty_like(leaf, memory_format=torch.contiguous_format) if want and leaf is not None else None
            for leaf, want in zip(given.leaves, wanted, strict=True)
        ]
        if layout.batch == 0:
            return [None if gradient is None else gradient.zero_() for gradient in gradients]
        if gradients[0] is not None and not layout.is_full:
            gradients[0].zero_()
        if gradients[2] is not None and given.steps.resets is None:
            gradients[2].zero_()
        x, y, saved, weights = _readable(x), _readable(y), _dense(saved), _all_dense(given.weights)
        h0 = None if given.h0 is None else _dense(given.h0)
        dy = None if dy is None else _readable(dy)
        dh_n = None if dh_n is None else _dense(dh_n)
        _BACKWARD[x.dtype](
            (
                x.size(-1),
                weights[1].size(1),
                variant.directions,
                layout.length,
                layout.batch,
                _form(variant),
                variant.reverse,
            ),
            layout.addresses,
            variant.keep,
            _parameters(weights, variant),
            _series(x),
            _address(h0),
            _series(y),
            saved.data_ptr(),
            _series(dy),
            _address(dh_n),
            _series(gradients[0]),
            _address(gradients[1]),
            _address(gradients[2]),
            _parameters(gradients[3:], variant),
            torch.get_num_threads(),
        )
        return gradients


_NOWHERE = (0,) * 13  # of sequences that have all steps and lie side by side, without resets and noise


class _Layout:
    """Where steps and sequences lie, as gru.h describes it: sizes, and addresses that live as long as this object.

    length: T, the steps of the longest sequence, at least 1; rows: as many as there can be steps; is_full: whether
    every row of x is a step. tbptt: as in Variant, for the backward pass.
    """

    __slots__ = ("_tensors", "addresses", "batch", "is_full", "length", "rows")

    addresses: tuple[int, ...]

    def __init__(self, given: Layer, tbptt: int = 0) -> None:
        x, steps = given.x, given.steps
        self.is_full = True
        places: tuple[Tensor | None, ...] = (None,) * 5  # rows, first, order, time and batch of gru.h
        if steps.batch_sizes is not None:
            self.length, self.batch, self.rows = steps.batch_sizes.size(0), int(steps.batch_sizes[0]), x.size(0)
            rows = steps.batch_sizes.contiguous()
            first = rows.cumsum(0) - rows
            places = (rows, first, None, first, None)
        elif steps.offsets is not None:
            offsets = reference.check_offsets(steps.offsets.to("cpu", torch.int64), x.size(0))
            self.rows = x.size(0)
            places = self._sort(offsets.diff(), offsets)
        elif steps.lengths is not None:
            reference.check_lengths(steps.lengths, x.size(0))
            self.rows = x.size(0) * x.size(1)
            self.is_full = False
            places = self._sort(steps.lengths.to("cpu", torch.int64), None)
            self.length = min(self.length, x.size(0))
        else:
            self.length, self.batch, _ = x.shape
            self.rows = self.length * self.batch
        if self.length == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        if places[0] is None and steps.resets is None and given.noise is SILENCE and not tbptt:
            self.addresses = _NOWHERE
        else:
            self._point_to(places, given, tbptt)

    def _sort(self, lengths: Tensor, offsets: Tensor | None) -> tuple[Tensor | None, ...]:
        """Sequences of these lengths, the longest first; offsets: where each begins, None if they lie side by side."""
        self.batch = lengths.size(0)
        sorted_lengths, order = lengths.sort(descending=True)
        self.length = max(int(sorted_lengths[0]), 1) if self.batch else 1  # the kernels want one, if an empty one
        rows = self.batch - lengths.bincount(minlength=self.length).cumsum(0)[: self.length]
        return rows, rows.cumsum(0) - rows, order, None, order if offsets is None else offsets[order]

    def _point_to(self, places: tuple[Tensor | None, ...], given: Layer, tbptt: int) -> None:
        resets, (recurrent, zoneout), initial = given.steps.resets, given.noise, given.initial
        resets = None if resets is None else resets.cpu()
        if tbptt:
            resets = _cut(resets, given, tbptt)
        resets = None if resets is None else resets.unsqueeze(-1)
        recurrent, initial = (None if tensor is None else _dense(tensor) for tensor in (recurrent, initial))
        zoneout = None if zoneout is None else _readable(zoneout)
        self._tensors = (*places, resets, initial, recurrent, zoneout)
        self.addresses = (
            *map(_address, places),
            *_series(resets),
            _address(initial),
            _address(recurrent),
            *_series(zoneout),
        )


_CUT = 0x80  # kCut of gru.h


def _cut(resets: Tensor | None, given: Layer, tbptt: int) -> Tensor:
    """The resets with the bit that stops the gradient alone where a stretch of `tbptt` steps begins: [T, B] or [N]."""
    t = step_of_rows(given.steps, given.x)
    cuts = ((t % tbptt == 0) & (t > 0)).to(torch.uint8) * _CUT
    return cuts.expand(given.x.shape[:-1]) if resets is None else cuts | resets


def _what_is_wrong(tensor: Tensor, dtype: torch.dtype) -> str:
    if type(tensor) not in _PLAIN or tensor.layout is not torch.strided:
        return f"its kernels take plain dense tensors, not {type(tensor).__name__} ({tensor.layout})"
    if not tensor.is_cpu:
        return f"its kernels run on the CPU, not on {tensor.device}"
    return f"its kernels take one dtype, not {dtype} and {tensor.dtype}".replace("torch.", "")


def _readable(tensor: Tensor) -> Tensor:
    """With its last dimension dense, and no pending negation."""
    if tensor.is_contiguous() and not tensor.is_neg():
        return tensor
    tensor = tensor.resolve_neg()
    return tensor if tensor.stride(-1) == 1 or tensor.size(-1) == 1 else tensor.contiguous()


def _dense(tensor: Tensor) -> Tensor:
    """With all dimensions dense, and no pending negation."""
    return tensor if tensor.is_contiguous() and not tensor.is_neg() else tensor.resolve_neg().contiguous()


def _all_dense(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    for tensor in tensors:
        if not tensor.is_contiguous() or tensor.is_neg():
            return [_dense(tensor) for tensor in tensors]
    return tensors


def _series(tensor: Tensor | None) -> tuple[int, int, int]:
    """Address, time stride and batch stride of x, y or a gradient of theirs; rows have one stride."""
    if tensor is None:
        return (0, 0, 0)
    stride = tensor.stride()
    return tensor.data_ptr(), stride[0], stride[-2]


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _form(variant: Variant) -> int:
    """gru.h's Form."""
    if variant.layer_norm:
        return 2
    return 0 if variant.reset_after else 1


def _parameters(tensors: Sequence[Tensor | None], variant: Variant) -> tuple[int, ...]:
    """The addresses of w_ih, w_hh, b_ih, b_hh for two directions, then of their gains: 0 for what is not there."""
    found = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
    gains = [0, 0, 0, 0]
    if variant.layer_norm:
        each = variant.weights_per_direction
        gains = [address for i, address in enumerate(found) if i % each >= each - 2]
        found = [address for i, address in enumerate(found) if i % each < each - 2]
    if not variant.bias:
        found[2:2] = [0, 0]
        found += [0, 0]
    return (*(*found, 0, 0, 0, 0)[:8], *(*gains, 0, 0)[:4])
