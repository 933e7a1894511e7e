"""Keras 3: `keras.layers.GRU`, `GRUCell` and `Bidirectional`, in both forms of the reset.

kernel [I, 3H], recurrent_kernel [H, 3H] and bias [2, 3H] (input row, recurrent row), columns in the order z, r, h.
The numbers are moved, never computed with: there and back is exact. With reset_after=False there is one bias [3H],
which becomes b_ih; the way back adds b_hh to it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastgru.common.errors import InputError
from fastgru.convert.weights import AnyGRU, Array, Weights, as_array, build, layers_of, one_form, reordered
from fastgru.nn import GRU

_COLUMNS, _ROWS = "zrn", "rzn"


def from_keras(*layers: Any, batch_first: bool = True) -> GRU:
    """A GRU of Keras's layers, one a layer of the stack.

    layers: each a Keras layer (GRU, GRUCell, Bidirectional), whose options are then checked, or its `get_weights()`,
    which are kernel, recurrent_kernel and, with biases, bias; of a Bidirectional these of the forward layer and then
    these of the backward one. Of bare weights without biases nobody can tell reset_after, and of none the
    activations: they are taken to be Keras's defaults, reset_after=True among them.

    dropout and recurrent_dropout, which act in training only, and a `stateful` layer's state do not come along.
    Raises InputError for options and weights that fastgru.GRU cannot have.

    >>> import numpy
    >>> from fastgru.convert import from_keras
    >>> weights = [numpy.ones(shape, "float32") for shape in ((8, 48), (16, 48), (2, 48))]  # get_weights()
    >>> from_keras(weights)
    GRU(8, 16, batch_first=True)
    """
    read = [_read(layer, number) for number, layer in enumerate(layers)]
    reset_after = one_form([_resets_after(layer) for layer in layers], "reset_after")
    counts = sorted({len(directions) for directions in read})
    if len(counts) > 1:
        raise InputError("expected layers that are all Bidirectional or all not, got both; convert them one by one")
    return build([each for directions in read for each in directions], counts == [2], batch_first, reset_after)


def to_keras(gru: AnyGRU) -> list[list[Array]]:
    """For each layer what `set_weights` of a Keras GRU takes, or of a Bidirectional where the GRU is bidirectional.

    gru: a GRU or a GRUCell, fastgru's or torch's.

    Gives one item for each layer.
    Raises InputError for options that Keras does not have.

    >>> import fastgru
    >>> (weights,) = fastgru.convert.to_keras(fastgru.GRU(8, 16))  # for layer.set_weights(weights)
    >>> [array.shape for array in weights]
    [(8, 48), (16, 48), (2, 48)]
    """
    reset_after = getattr(gru, "reset_after", True)
    layers = layers_of(gru, reset_before_too=True)
    return [[array for weights in directions for array in _write(weights, reset_after)] for directions in layers]


def _resets_after(layer: Any) -> bool:
    """Which form a layer has, that was read before: its option says, or the shape of its bias."""
    if hasattr(layer, "get_config"):
        config = layer.get_config()
        return bool(config["layer"]["config"]["reset_after"] if "layer" in config else config["reset_after"])
    return len(layer) in (2, 4) or np.ndim(layer[2]) == 2


def _read(layer: Any, number: int) -> list[Weights]:
    """One layer's directions."""
    if hasattr(layer, "get_weights"):
        _check_options(layer.get_config(), number)
        layer = layer.get_weights()
        if not layer:
            raise InputError(f"layer {number} has no weights yet; build it, or call it on an input, first")
    count = {2: 2, 3: 3, 4: 2, 6: 3}.get(len(layer))  # arrays a direction
    if count is None:
        raise InputError(
            f"layer {number}: expected 2 or 3 arrays (kernel, recurrent_kernel, bias), or 4 or 6 of a Bidirectional, "
            f"got {len(layer)}"
        )
    return [_read_direction(layer[first : first + count], number) for first in range(0, len(layer), count)]


def _read_direction(arrays: Sequence[Any], number: int) -> Weights:
    hidden = as_array(arrays[1], f"layer {number}: recurrent_kernel", None, None).shape[0]
    kernel = as_array(arrays[0], f"layer {number}: kernel", None, 3 * hidden)
    recurrent = as_array(arrays[1], f"layer {number}: recurrent_kernel", hidden, 3 * hidden)
    w_ih, w_hh = (reordered(array.T, _COLUMNS, _ROWS) for array in (kernel, recurrent))
    if len(arrays) == 2:
        return Weights(w_ih, w_hh)
    if np.ndim(arrays[2]) == 1:
        bias = as_array(arrays[2], f"layer {number}: bias", 3 * hidden)
        return Weights(w_ih, w_hh, reordered(bias, _COLUMNS, _ROWS), np.zeros_like(bias))
    bias = as_array(arrays[2], f"layer {number}: bias", 2, 3 * hidden)
    return Weights(w_ih, w_hh, *reordered(bias, _COLUMNS, _ROWS, axis=1))


def _write(weights: Weights, reset_after: bool) -> list[Array]:
    arrays = [reordered(array, _ROWS, _COLUMNS).T for array in weights[:2] if array is not None]
    if weights.b_ih is not None and weights.b_hh is not None and not reset_after:
        arrays.append(reordered(weights.b_ih + weights.b_hh, _ROWS, _COLUMNS))
    elif weights.b_ih is not None and weights.b_hh is not None:
        arrays.append(reordered(np.stack([weights.b_ih, weights.b_hh]), _ROWS, _COLUMNS, axis=1))
    return arrays


def _check_options(config: Mapping[str, Any], number: int) -> None:
    """Raise InputError where a layer computes something else; config: its `get_config()`."""
    if "merge_mode" in config:
        if config["merge_mode"] != "concat":
            raise InputError(f"layer {number}: merge_mode must be 'concat', got {config['merge_mode']!r}")
        backward = config.get("backward_layer") or {"config": {**config["layer"]["config"], "go_backwards": True}}
        _check_options({**config["layer"]["config"]}, number)
        _check_options({**backward["config"], "go_backwards": not backward["config"]["go_backwards"]}, number)
        return
    if "reset_after" not in config:
        raise InputError(f"layer {number}: expected a keras GRU, GRUCell or Bidirectional, got {config.get('name')!r}")
    expected = {"activation": "tanh", "recurrent_activation": "sigmoid", "go_backwards": False}
    for option, value in expected.items():
        if config.get(option, value) != value:
            raise InputError(f"layer {number}: {option} must be {value!r}, got {config[option]!r}")
