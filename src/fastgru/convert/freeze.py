"""freeze and unfreeze: layers whose kernels trust the weights from call to call."""

from typing import TypeVar

import torch

from fastgru.backends.cpu import packed_weights
from fastgru.cell import OWN_STATE, GRUCell
from fastgru.common.errors import InputError
from fastgru.convert.modules import check_module, check_own_weights
from fastgru.core.layer import Layer
from fastgru.core.noise import NO_NOISE
from fastgru.core.steps import PLAIN
from fastgru.nn import GRU
from fastgru.ops.precision import HALF, cast_layer
from fastgru.quantized import is_float_layer

_Module = TypeVar("_Module", bound=torch.nn.Module)


def freeze(model: _Module) -> _Module:
    """Make a trained model faster where it only predicts: its GRUs' weights are packed once, and trusted.

    Without it the CPU kernels prove at every call that the weights are those that they have packed, which at few
    sequences takes up to a tenth of the time, and read a single step's as they lie. The whole model is put into eval
    and asks for no gradients of its parameters any more (gradients of inputs are there); a frozen layer stays in eval,
    whatever `model.train()` says. Numbers change by rounding alone.

    A change of a frozen layer's weights (by an optimiser, load_state_dict, `.to(...)`, an assignment) is a RuntimeError
    at the next call; one that torch does not count, as by `weight.data`, within 64 calls. Copies and pickles of a
    frozen model are not frozen. `torch.compile` and exported programs compute as before.

    model: any module, changed in place and returned. Layers of torch.nn are left: `fastgru.accelerate` them first.

    Raises TypeError for what is no module, InputError, a ValueError, where it has no GRU or GRUCell of fastgru, or one
    whose weights are computed of others (as by torch.nn.utils.parametrizations), and RuntimeError where the native
    module is not built.

    >>> import fastgru, torch
    >>> model = fastgru.freeze(torch.nn.Sequential(fastgru.GRU(8, 16)))
    >>> output, h_n = model(torch.randn(5, 1, 8))
    >>> with torch.no_grad():
    ...     model[0].weight_hh_l0.zero_()[0, 0]
    tensor(0.)
    >>> model(torch.randn(5, 1, 8))
    Traceback (most recent call last):
        ...
    RuntimeError: the weights of a frozen layer have changed; call fastgru.unfreeze(model) before, and freeze it again
    """
    layers = _layers_of(model)
    for name, layer in layers.items():
        check_own_weights(name or type(layer).__name__, layer)
    if packed_weights(1) == [None]:
        raise RuntimeError("freeze tells the native module, which is not built; install it as README.md says")
    model.eval().requires_grad_(False)
    for layer in layers.values():
        _freeze(layer)
    return model


def unfreeze(model: _Module) -> _Module:
    """Let the weights of a frozen model be changed again; it stays in eval, and asks for no gradients.

    model: changed in place and returned. Raises TypeError for what is no module, InputError where it has no layer of
    fastgru.

    >>> import fastgru
    >>> gru = fastgru.unfreeze(fastgru.freeze(fastgru.GRU(8, 16)))
    >>> _ = gru.load_state_dict(fastgru.GRU(8, 16).state_dict())
    """
    for layer in _layers_of(model).values():
        _thaw(layer)
    return model


def _layers_of(model: torch.nn.Module) -> dict[str, GRU | GRUCell]:
    check_module(model)
    # Those of quantized layers are trusted anyway.
    layers = {name: module for name, module in model.named_modules() if is_float_layer(module)}
    if not layers:
        raise InputError(
            f"{type(model).__name__} has no GRU or GRUCell of fastgru in it; fastgru.accelerate(model) makes those of "
            "torch.nn such"
        )
    return layers


def _thaw(layer: GRU | GRUCell) -> None:
    for name in OWN_STATE:
        vars(layer).pop(name, None)


def _freeze(layer: GRU | GRUCell) -> None:
    """Pack its weights; elsewhere than on a CPU nothing is packed."""
    _thaw(layer)
    weights = layer.weights() if isinstance(layer, GRU) else layer._weights()
    if weights[0].device.type != "cpu" or layer.backend not in ("auto", "cpu"):
        return
    stack = layer._stack()
    for number, owner in enumerate(stack.packed):
        own = weights[number * stack.each : (number + 1) * stack.each]
        x = own[0].new_zeros(1, 1, own[0].size(1))
        given = Layer(stack.variant, PLAIN, NO_NOISE, x, None, None, own, owner)
        given = cast_layer(torch.float32, given) if x.dtype in HALF else given
        given.packed.freeze(given)
    vars(layer)["_frozen"] = [*stack.packed]
