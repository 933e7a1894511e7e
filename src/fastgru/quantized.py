"""QuantizedGRU and QuantizedGRUCell: layers for inference whose weights have few bits, as `fastgru.quantize` makes."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor
from torch.compiler import is_compiling

from fastgru.backends.cpu import LowWeights
from fastgru.cell import OWN_STATE, GRUCell, KeepsStack
from fastgru.core.low_precision import quantized
from fastgru.core.stack import Stack
from fastgru.core.steps import PLAIN, Steps
from fastgru.inference.entries import MOST_INT8_TERMS, SCALE, is_other_matrix
from fastgru.nn import GRU
from fastgru.ops.low_precision import low_gru
from fastgru.ops.precision import HALF

_Float = TypeVar("_Float", GRU, GRUCell)

_COMPUTED = frozenset((torch.float32, *HALF))
_OWN = frozenset(("quantization", "_weight_names", "_low", *OWN_STATE))


class KeepsLowWeights(KeepsStack):
    """What the two have in common: buffers in the place of parameters, and inference alone.

    quantization: "int8" or "bf16". Buffers: the matrices by torch's names, int8 or bfloat16, of int8 the scales of
    their rows as `weight_ih_l0_scale [3H]`; biases, gains and an initial state float32.
    """

    quantization: str
    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _low: tuple[Stack, Stack] | None = None  # its description as float, and as it is

    def weights(self) -> list[Tensor]:
        """The weights: of each direction w_ih, w_hh, of int8 their scales, then biases and gains."""
        return [self._buffers[name] for name in self._low_names]

    @property
    def _low_names(self) -> Sequence[str]:
        names: list[str] = self.__dict__["_weight_names"]
        return names

    def _stack(self) -> Stack:
        stack = super()._stack()
        if self._low is not None and self._low[0] is stack and not is_compiling():
            return self._low[1]
        layers = stack.spec.num_layers
        is_kept = LowWeights is not None and not is_compiling()
        packed = [LowWeights() for _ in range(layers)] if is_kept else [None] * layers
        low = stack._replace(each=len(self._low_names) // layers, packed=packed)
        if not is_compiling():
            self.__dict__["_low"] = stack, low
        return low

    def _compute(
        self, x: Tensor, h0: Tensor | None, steps: Steps, initial: Tensor | None
    ) -> tuple[list[Tensor], Tensor]:
        """Outputs of all layers and h_n, in the dtype of x, under autocast in its dtype; computed in float32."""
        if x.dtype not in _COMPUTED:
            raise ValueError(f"a quantized layer takes float32 and half precision, got {x.dtype}; convert the input")
        is_cast = torch.is_autocast_enabled(x.device.type)
        dtype = torch.get_autocast_dtype(x.device.type) if is_cast else x.dtype
        start = None if h0 is None else h0.float()
        with torch.autocast(x.device.type, enabled=False):
            outputs, h_n = low_gru(self.backend, self._stack(), x.float(), start, self.weights(), steps, initial)
        return [y.to(dtype) for y in outputs], h_n.to(dtype)

    def train(self, mode: bool = True) -> Any:
        """It stays in eval: there is nothing to train."""
        return super().train(False)

    def changed_options(self) -> dict[str, Any]:
        """Its own options that are not the defaults, and which bits."""
        return {**super().changed_options(), "quantization": repr(self.quantization)}

    def why_not_torch(self) -> str | None:
        """torch has no such layer."""
        return f"it is quantized to {self.quantization}; to_float() gives a layer that can be converted"

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """torch's, of which only the device counts: dtypes are what they are."""
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = buffer.to(fn(buffer).device)
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        """torch's, without its silent cast of a float matrix to whole numbers."""
        for name, buffer in self._buffers.items():
            given = state_dict.get(prefix + name)
            if given is not None and buffer is not None and given.dtype is not buffer.dtype:
                raise RuntimeError(
                    f"{prefix}{name} must be {buffer.dtype}, got {given.dtype}; load float weights into the float "
                    "model, and quantize that"
                )
        torch.nn.Module._load_from_state_dict(self, state_dict, prefix, *others)  # type: ignore[arg-type]

    def _take(self, layer: torch.nn.Module, names: Sequence[str]) -> None:
        """Make itself of a float layer, whose weights have these names in order."""
        each = (2 + 2 * bool(layer.bias)) + 2 * bool(getattr(layer, "layer_norm", False))
        found: list[str] = []
        for first in range(0, len(names), each):
            own = names[first : first + each]
            scales = []
            for name in own[:2]:
                weight = getattr(layer, name).detach()
                if self.quantization == "int8":
                    values, scale = quantized(weight)
                    scales.append((name + SCALE, scale))
                else:
                    values = weight.to(torch.bfloat16)
                self._hold(name, values)
            for name, scale in scales:
                self._hold(name, scale)
            for name in own[2:]:
                self._hold(name, getattr(layer, name).detach().float())
            found += [*own[:2], *(name for name, _ in scales), *own[2:]]
        self.__dict__["_weight_names"] = found

    def _hold(self, name: str, value: Tensor) -> None:
        self._parameters.pop(name, None)
        with torch.inference_mode(False):
            self._buffers[name] = value.clone(memory_format=torch.contiguous_format)


class QuantizedGRU(KeepsLowWeights, GRU):
    """A GRU whose weights have few bits, for inference: `fastgru.quantize(model)` makes it of a trained one.

    Its calls and results are those of `fastgru.GRU`, whose options that matter in inference it has; it computes in
    float32 but for the products of the matrices (`fastgru.core.low_precision` defines them), on the CPU kernels where
    these can, and gives no gradients. There are buffers and no parameters: `weight_ih_l0 [3H, I]` int8 and
    `weight_ih_l0_scale [3H]` float32, or bfloat16 without a scale; biases, gains and an initial state are float32.
    `.to(...)` moves it and changes no dtype; train() leaves it in eval.

    >>> import fastgru, torch
    >>> gru = fastgru.quantize(fastgru.GRU(8, 16))
    >>> gru
    QuantizedGRU(8, 16, quantization='int8')
    >>> output, h_n = gru(torch.randn(5, 2, 8), lengths=torch.tensor([5, 3]))
    >>> gru.weight_hh_l0.dtype
    torch.int8
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("make a QuantizedGRU of a trained GRU: fastgru.quantize(gru)")

    def to_float(self) -> GRU:
        """A GRU of float32 weights, which are values * scale."""
        found: GRU = _float_layer(self, GRU)
        return found

    def flatten_parameters(self) -> None:
        """Nothing: cuDNN has no such layers."""

    def _is_steppable(self) -> bool:
        return False

    def _run(self, x: Tensor, h0: Tensor | None, batch: int, steps: Steps) -> tuple[list[Tensor], Tensor]:
        dimensions = 3 if steps is PLAIN else 2 + steps.rows_dim
        if x.dim() != dimensions or x.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.shape[-1]}"
            )
        expected = self._stack().spec.states_shape(batch)
        if h0 is not None:
            self.check_hidden_size(h0, expected)  # type: ignore[arg-type]
        initial = None
        if self.learn_initial_state:
            initial = None if steps.resets is None else self.initial_state
            h0 = self.initial_state[:, None].expand(-1, batch, -1) if h0 is None else h0
        return self._compute(x, h0, steps, initial)


class QuantizedGRUCell(KeepsLowWeights, GRUCell):
    """A GRUCell whose weights have few bits, for inference: as QuantizedGRU.

    >>> import fastgru, torch
    >>> cell = fastgru.quantize(fastgru.GRUCell(8, 16), weights="bf16")
    >>> cell(torch.randn(3, 8)).shape
    torch.Size([3, 16])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("make a QuantizedGRUCell of a trained GRUCell: fastgru.quantize(cell)")

    def to_float(self) -> GRUCell:
        """A GRUCell of float32 weights, which are values * scale."""
        found: GRUCell = _float_layer(self, GRUCell)
        return found

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """One step, as GRUCell's."""
        for name, tensor, size in (("input", input, self.input_size), ("hx", hx, self.hidden_size)):
            if tensor is not None and (tensor.dim() not in (1, 2) or tensor.size(-1) != size):
                raise ValueError(f"{name} must be [B, {size}] or [{size}], got {[*tensor.shape]}")
        is_batched = input.dim() == 2
        x = input if is_batched else input[None]
        h = hx if hx is None or hx.dim() == 2 else hx[None]
        if h is not None and h.size(0) != x.size(0):
            raise ValueError(f"hx must be of the {x.size(0)} rows of the input, got {h.size(0)}")
        h_n = self._compute(x[None], None if h is None else h[None], PLAIN, None)[1][0]
        return h_n if is_batched else h_n[0]


def is_float_layer(part: torch.nn.Module) -> TypeGuard[GRU | GRUCell]:
    """Whether it is a GRU or GRUCell of fastgru that is not quantized."""
    return isinstance(part, GRU | GRUCell) and not isinstance(part, KeepsLowWeights)


def quantize_layer(layer: GRU | GRUCell, weights: str) -> None:
    """Make a float layer a quantized one, in place; `weights`: of QUANTIZATIONS.

    Raises ValueError where its weights are not finite, or int8 sums of so many terms do not fit.
    """
    spec = layer.spec
    names = layer._flat_weights_names if isinstance(layer, GRU) else layer._names()
    if weights == "int8" and max(spec.input_size, *spec.hidden_sizes) > MOST_INT8_TERMS:
        raise ValueError(
            f"int8 sums hold at most {MOST_INT8_TERMS} terms, got {spec.input_size} and {spec.hidden_size}"
        )
    for name in names:
        if not bool(getattr(layer, name).isfinite().all()):
            raise ValueError(f"{name} holds numbers that are not finite")
    layer.__class__ = QuantizedGRU if isinstance(layer, GRU) else QuantizedGRUCell
    made: Any = layer
    made.quantization = weights
    made._take(made, names)
    if getattr(made, "learn_initial_state", False):
        made._hold("initial_state", made.initial_state.detach().float())
    made.eval()


def quantize_layers(model: torch.nn.Module, weights: str) -> list[str]:
    """Make every float GRU and GRUCell of fastgru in a model a quantized one, in place; the paths of them.

    Raises ValueError, which names the path, as quantize_layer does.
    """
    found = []
    for path, part in [*model.named_modules()]:
        if is_float_layer(part):
            try:
                quantize_layer(part, weights)
            except ValueError as error:
                raise ValueError(f"{path}: {error}" if path else str(error)) from error
            found.append(path)
    return found


def round_matrices(model: torch.nn.Module) -> None:
    """Give the matrices of other layers than GRUs, in place, the float32 numbers that their int8 would stand for.

    Raises ValueError where one is not finite.
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if is_other_matrix(name, weight.shape):
                if not bool(weight.isfinite().all()):
                    raise ValueError(f"{name} holds numbers that are not finite")
                values, scale = quantized(weight)
                weight.copy_(values * scale[:, None])


def int8_matrices(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state_dict with the matrices of other layers than GRUs in int8, each with its `name_scale`."""
    found = {**state}
    for name, weight in state.items():
        if weight.is_floating_point() and is_other_matrix(name, weight.shape):
            found[name], found[name + SCALE] = quantized(weight)
    return found


def float_weights(layer: KeepsLowWeights) -> dict[str, Tensor]:
    """The weights as float32, by their names, in the order of a float layer's."""
    found = {}
    for name in layer._low_names:
        if name.endswith(SCALE):
            continue
        value, scale = layer._buffers[name], layer._buffers.get(name + SCALE)
        found[name] = value.float() if scale is None else value.float() * scale[:, None]
    return found


def _float_layer(layer: Any, kind: type[_Float]) -> _Float:
    """A copy of the layer with float32 parameters again."""
    made = copy.copy(layer)
    made.__dict__ = {name: value for name, value in vars(layer).items() if name not in _OWN}
    made.__class__ = kind
    buffers = {**layer._buffers}
    made._parameters, made._buffers = {**layer._parameters}, buffers
    values = float_weights(layer)
    if "initial_state" in buffers:
        values["initial_state"] = buffers["initial_state"]
    for name in (*layer._low_names, "initial_state"):
        buffers.pop(name, None)
    made._parameters.update({name: torch.nn.Parameter(value.clone()) for name, value in values.items()})
    if isinstance(made, GRU):
        made._init_flat_weights()
    return made  # type: ignore[no-any-return]
