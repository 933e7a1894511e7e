"""What is compiled at the first call, compiled before it: Triton's kernels on a GPU, seconds each."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call


def warm_up(module: torch.nn.Module, *inputs: Any) -> None:
    """Run a module once as it will be run, so that the first call that counts finds its kernels compiled.

    It runs without gradients and, in training, also forward and back. On a GPU that compiles the kernels of backend
    "triton", once a machine: Triton keeps them in its cache. They are the same for all T, but batches of up to 8 have
    kernels of their own, and so have lengths, packed sequences, resets and each dtype: give an input of each kind.
    Before CUDA graphs are captured it is needed, as nothing can be compiled then.

    module: a GRU, or a model that holds some. inputs: what it is called with.

    Nothing of the module changes, gradients and buffers among it, nor do torch's generators.

    >>> import torch, fastgru
    >>> gru = fastgru.GRU(8, 16)
    >>> fastgru.warm_up(gru, torch.zeros(5, 2, 8))
    """
    devices = {tensor.device.index for tensor in module.parameters() if tensor.is_cuda}
    with torch.random.fork_rng(devices=[index for index in devices if index is not None]):
        with torch.no_grad():
            _run(module, inputs)
        if module.training:
            with torch.enable_grad():
                _run_back(module, inputs)
    for index in devices:
        torch.cuda.synchronize(index)


def _run(module: torch.nn.Module, inputs: tuple[Any, ...]) -> Any:
    """The module's output; what it writes to its buffers is written to copies."""
    return functional_call(module, {name: buffer.clone() for name, buffer in module.named_buffers()}, inputs)


def _run_back(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    outputs = [tensor for tensor in _tensors(_run(module, inputs)) if tensor.requires_grad]
    if weights and outputs:
        zeros = [torch.zeros_like(tensor) for tensor in outputs]
        torch.autograd.grad(outputs, weights, zeros, allow_unused=True)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of an output, in tuples, lists and mappings too."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors([*value.values()])
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
