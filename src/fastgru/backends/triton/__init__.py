"""The kernels of this folder on a GPU, written in Triton: all steps of a layer in one launch, with every option.

Nothing is kept for the backward pass beside the input and the output, and nothing waits for the device. With
TRITON_INTERPRET=1 Triton runs them on a CPU, slowly, for tests.
"""

import os
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor
from torch.compiler import is_compiling

from fastgru.backends.aten import AtenBackend
from fastgru.backends.tensors import is_written_down, why_not_tensors
from fastgru.backends.triton.measured import is_measured_faster
from fastgru.backends.triton.plan import Device, Plan, plan
from fastgru.core import reference
from fastgru.core.layer import Layer
from fastgru.core.spec import NORM_NEEDS_RESET_AFTER
from fastgru.core.stack import Stack
from fastgru.core.steps import Steps, batch_of
from fastgru.core.torch_internals import is_forward_mode

_HAS_TRITON = find_spec("triton") is not None
_TAKEN = {torch.float32: "float32", torch.float16: "half precision", torch.bfloat16: "half precision"}
_INTERPRETER = Device(80, 1, 1 << 30)  # one CTA after the other: none may wait for another
_LEAST = 80  # bfloat16 and asynchronous copies
_FORCED = "FASTGRU_GPU"


class TritonBackend:
    """Layers on an NVIDIA GPU, in float32 or half precision, with a float32 state."""

    name = "triton"
    composed: Literal[False] = False
    takes_half = True
    keeps_gates = False

    def why_not(
        self, stack: Stack, x: Tensor, h0: Tensor | None, weights: Sequence[Tensor], steps: Steps
    ) -> str | None:
        """It takes plain tensors of one dtype on a GPU from compute capability 8.0 on, outside of forward mode."""
        if not _HAS_TRITON:
            return "Triton is not installed; pip install 'fastgru[gpu]' brings it"
        reason = why_not_tensors(stack, x, h0, weights, _TAKEN, _is_at_home, "a GPU")
        if reason is not None:
            return reason
        if torch.version.hip is not None:
            return "its kernels are written for NVIDIA's GPUs"
        if stack.spec.layer_norm and not stack.spec.reset_after:
            return NORM_NEEDS_RESET_AFTER
        if is_forward_mode():
            return "forward-mode differentiation is on"
        if is_written_down():  # what values and devices are is seen when the operator runs
            return None
        if steps.batch_sizes is not None:
            problem = reference.why_not_packed(x, steps.batch_sizes)
            if problem is not None:
                return problem
        return _why_not_device(device_of(x), stack, x, steps)

    def why_not_auto(
        self, stack: Stack, x: Tensor, h0: Tensor | None, weights: Sequence[Tensor], steps: Steps
    ) -> str | None:
        """Whether `auto` leaves a layer that it could serve to torch's operator, and why.

        It does where nobody has measured that this is faster. Where torch's operator cannot serve the layer the
        alternative is a loop in Python. The variable FASTGRU_GPU (triton or aten) decides otherwise.
        """
        forced = os.environ.get(_FORCED, "")
        if forced not in ("", "triton", "aten"):
            raise ValueError(f"{_FORCED} must be triton or aten, or not be set, got {forced!r}")
        if forced == "aten":
            return f"{_FORCED}=aten"
        if is_interpreted():
            return "TRITON_INTERPRET=1 is for tests, and slow"
        if forced == "triton" or AtenBackend().why_not(stack, x, h0, weights, steps) is not None:
            return None
        if not is_compiling():
            sizes = (max(stack.spec.hidden_sizes), batch_of(steps, x))
            if is_measured_faster(device_of(x).sm, x.dtype, *sizes, torch.is_grad_enabled()):
                return None
        return "nothing measured says that it is faster than torch's operator here; backend='triton' asks for it"

    def forward(self, given: Layer, save: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """As the protocol says; saved [D, N, 0] has nothing in it."""
        from fastgru.backends.triton.launch import forward

        with torch.cuda.device_of(given.x):  # Triton launches on the current device
            y, h_n = forward(given, _way(given))
        rows = given.x.shape[:-1].numel()
        return y, h_n, given.x.new_empty(given.variant.directions, rows, 0) if save else None

    def check(
        self, given: Layer, y: Tensor | None, dy: Tensor | None, dh_n: Tensor | None, wanted: Sequence[bool]
    ) -> None:
        """Nothing: no pass of it is cut into windows."""

    def backward(
        self,
        given: Layer,
        y: Tensor | None,
        saved: Tensor,
        dy: Tensor | None,
        dh_n: Tensor | None,
        wanted: Sequence[bool],
    ) -> list[Tensor | None]:
        """As the protocol says; where y is None it is computed anew."""
        from fastgru.backends.triton.launch import backward

        with torch.cuda.device_of(given.x):
            return backward(given, y, dy, dh_n, wanted, _way(given))


def is_interpreted() -> bool:
    """Whether Triton runs kernels on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def device_of(x: Tensor) -> Device:
    """The device that a tensor is on."""
    return _device(x.device.index or 0) if x.is_cuda else _INTERPRETER


@lru_cache
def _device(index: int) -> Device:
    found: Any = torch.cuda.get_device_properties(index)
    return Device(found.major * 10 + found.minor, found.multi_processor_count, found.shared_memory_per_block_optin)


def precision_of(x: Tensor) -> str:
    """That of Triton's products: TF32 as torch says for cuDNN's recurrent layers, else three of them for each."""
    if not x.is_cuda:
        return "ieee"
    cudnn: Any = torch.backends.cudnn
    return "tf32" if x.dtype is not torch.float32 or cudnn.rnn.fp32_precision == "tf32" else "tf32x3"


def plan_of(hidden: int, batch: int, directions: int, normed: bool, x: Tensor) -> Plan | None:
    """The plan for a layer on such an input; None where there is none."""
    size = 8 if precision_of(x) == "tf32x3" else x.element_size()
    return plan(hidden, batch, directions, size, normed, device_of(x))


def _way(given: Layer) -> Any:
    from fastgru.backends.triton.launch import Way

    x, device = given.x, device_of(given.x)
    variant, batch = given.variant, batch_of(given.steps, x)
    found = plan_of(given.hidden_size, batch, variant.directions, variant.layer_norm, x)
    if found is None or device.sm < _LEAST:
        raise RuntimeError(f"the kernels do not run H={given.hidden_size} on {x.device}; fastgru.info tells why")
    return Way(found, precision_of(x), device.processors)


def _why_not_device(device: Device, stack: Stack, x: Tensor, steps: Steps) -> str | None:
    if device.sm < _LEAST:
        return f"its kernels need a GPU of compute capability 8.0 or more, and this one has {device.sm / 10}"
    most, batch = max(stack.spec.hidden_sizes), batch_of(steps, x)
    if plan_of(most, batch, stack.spec.directions, stack.spec.layer_norm, x) is None:
        return f"H={most} is too large for {device.processors} multiprocessors"
    return None


def _is_at_home(tensor: Tensor) -> bool:
    return tensor.is_cuda or (tensor.is_cpu and is_interpreted())
