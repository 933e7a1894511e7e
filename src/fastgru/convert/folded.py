"""Frameworks that keep one bias for r and z: Equinox, MLX and Flax linen.

They hold `b [3H]`, in which `b_ih + b_hh` of r and z are one number, and `b_n [H]`, the recurrent bias of n that r
multiplies. From them, b_hh of r and z is 0: the same function. To them, the two biases are added, which rounds once;
it is the same function again, but the two are not found back.

A stack is given, and comes back, as one item for each layer and direction: layer by layer, forward before reverse.
None of the three frameworks has a bidirectional layer; `bidirectional=True` reads the items as such pairs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastgru.common.errors import InputError
from fastgru.convert.weights import AnyGRU, Array, Weights, as_array, build, entries, weights_of
from fastgru.nn import GRU

_FLAX = "the params of a flax.linen.GRUCell"
_DENSES = {  # what each of its dense layers has
    "ir": ("kernel", "bias"),
    "iz": ("kernel", "bias"),
    "in": ("kernel", "bias"),
    "hr": ("kernel",),
    "hz": ("kernel",),
    "hn": ("kernel", "bias"),
}


class _Folded(NamedTuple):
    """w_ih [3H, I], w_hh [3H, H], b [3H] and b_n [H] or neither, rows in the order r, z, n."""

    w_ih: Array
    w_hh: Array
    b: Array | None
    b_n: Array | None


def from_equinox(*cells: Any, bidirectional: bool = False, batch_first: bool = False) -> GRU:
    """A GRU of `equinox.nn.GRUCell`s, or of mappings with the keys `weight_ih weight_hh bias bias_n`.

    cells: one for each layer, from the first; with bidirectional two, the forward one and then the reverse.
    bidirectional, batch_first: of the GRU that is made.

    Raises InputError where arrays are missing or their shapes do not fit together.

    >>> import equinox, jax
    >>> from fastgru.convert import from_equinox
    >>> from_equinox(equinox.nn.GRUCell(8, 16, key=jax.random.key(0)))
    GRU(8, 16)
    """
    what = "an equinox.nn.GRUCell or a mapping of its arrays"
    names = ("weight_ih", "weight_hh", "bias", "bias_n")
    return _build([_read(cell, what, names) for cell in cells], bidirectional, batch_first)


def to_equinox(gru: AnyGRU) -> list[dict[str, Array]]:
    """The arrays of `equinox.nn.GRUCell`, by attribute.

    gru: a GRU or a GRUCell, fastgru's or torch's.

    Gives one item for each layer; where the GRU is bidirectional two, the forward one and then the reverse.
    Raises InputError for options that it does not have.

    >>> import fastgru
    >>> (cell,) = fastgru.convert.to_equinox(fastgru.GRU(8, 16))
    >>> {name: array.shape for name, array in cell.items()}
    {'weight_ih': (48, 8), 'weight_hh': (48, 16), 'bias': (48,), 'bias_n': (16,)}
    """
    return [_present(folded, ("weight_ih", "weight_hh", "bias", "bias_n")) for folded in _folded(gru)]


def from_mlx(*layers: Any, bidirectional: bool = False, batch_first: bool = True) -> GRU:
    """A GRU of `mlx.nn.GRU`s, or of mappings with the keys `Wx Wh b bhn`.

    layers: one for each layer, from the first; with bidirectional two, the forward one and then the reverse.
    bidirectional, batch_first: of the GRU that is made.

    Raises InputError where arrays are missing or their shapes do not fit together.

    >>> import mlx.nn
    >>> from fastgru.convert import from_mlx
    >>> from_mlx(mlx.nn.GRU(8, 16))
    GRU(8, 16, batch_first=True)
    """
    what = "an mlx.nn.GRU or a mapping of its arrays"
    return _build([_read(layer, what, ("Wx", "Wh", "b", "bhn")) for layer in layers], bidirectional, batch_first)


def to_mlx(gru: AnyGRU) -> list[dict[str, Array]]:
    """The arrays of `mlx.nn.GRU`, by name.

    gru: a GRU or a GRUCell, fastgru's or torch's.

    Gives one item for each layer; where the GRU is bidirectional two, the forward one and then the reverse.
    Raises InputError for options that it does not have.

    >>> import fastgru
    >>> (layer,) = fastgru.convert.to_mlx(fastgru.GRU(8, 16))
    >>> {name: array.shape for name, array in layer.items()}
    {'Wx': (48, 8), 'Wh': (48, 16), 'b': (48,), 'bhn': (16,)}
    """
    return [_present(folded, ("Wx", "Wh", "b", "bhn")) for folded in _folded(gru)]


def from_flax(*params: Mapping[str, Any], bidirectional: bool = False, batch_first: bool = True) -> GRU:
    """A GRU of `flax.linen.GRUCell`s' params: `ir iz in hr hz hn`, each a `kernel` and, but for hr and hz, a `bias`.

    params: one for each layer, from the first; with bidirectional two, the forward one and then the reverse.
    bidirectional, batch_first: of the GRU that is made.

    Raises InputError where arrays are missing or their shapes do not fit together.

    >>> import flax.linen, jax
    >>> from fastgru.convert import from_flax
    >>> key, h, x = jax.random.key(0), jax.numpy.zeros((1, 16)), jax.numpy.zeros((1, 8))
    >>> from_flax(flax.linen.GRUCell(16).init(key, h, x)["params"])
    GRU(8, 16, batch_first=True)
    """
    return _build([_read_flax(each) for each in params], bidirectional, batch_first)


def to_flax(gru: AnyGRU) -> list[dict[str, dict[str, Array]]]:
    """The params of `flax.linen.GRUCell`, which always has biases: zeros for a GRU without.

    gru: a GRU or a GRUCell, fastgru's or torch's.

    Gives one item for each layer; where the GRU is bidirectional two, the forward one and then the reverse.
    Raises InputError for options that it does not have.

    >>> import fastgru
    >>> (params,) = fastgru.convert.to_flax(fastgru.GRU(8, 16))
    >>> params["hn"]["kernel"].shape, params["hn"]["bias"].shape
    ((16, 16), (16,))
    """
    return [_write_flax(folded) for folded in _folded(gru)]


def _read(source: Any, what: str, names: Sequence[str]) -> _Folded:
    """The four arrays under a framework's own names, the biases both or neither."""
    w_ih, w_hh, b, b_n = entries(source, what, names[:2], names[2:])
    if (b is None) != (b_n is None):
        raise InputError(f"expected {what} with both {names[2]} and {names[3]} or neither, got only one of them")
    w_hh = as_array(w_hh, names[1], None, None)
    hidden = w_hh.shape[1]
    return _Folded(
        as_array(w_ih, names[0], 3 * hidden, None),
        as_array(w_hh, names[1], 3 * hidden, hidden),
        None if b is None else as_array(b, names[2], 3 * hidden),
        None if b_n is None else as_array(b_n, names[3], hidden),
    )


def _read_flax(params: Mapping[str, Any]) -> _Folded:
    """Dense layers, one for each side and gate."""
    denses = dict(zip(_DENSES, entries(params, _FLAX, list(_DENSES)), strict=True))
    features, hidden = as_array(entries(denses["in"], f"{_FLAX}, in", ["kernel"])[0], "in.kernel", None, None).shape
    i_r, i_z, i_n = (_dense(name, denses[name], features, hidden) for name in ("ir", "iz", "in"))
    h_r, h_z, h_n = (_dense(name, denses[name], hidden, hidden) for name in ("hr", "hz", "hn"))
    w_ih, b = (np.concatenate(gates) for gates in zip(i_r, i_z, i_n, strict=True))
    return _Folded(w_ih, np.concatenate([h_r[0], h_z[0], h_n[0]]), b, h_n[1])


def _dense(name: str, dense: Mapping[str, Any], inputs: int, hidden: int) -> list[Array]:
    """One kernel, transposed to [H, inputs], and its bias [H] where this one has a bias."""
    parts = _DENSES[name]
    if set(dense) != set(parts):
        raise InputError(f"expected {_FLAX}: {name} must have {' and '.join(parts)}, got {', '.join(map(str, dense))}")
    kernel = as_array(dense["kernel"], f"{name}.kernel", inputs, hidden).T
    return [kernel, *(as_array(dense[part], f"{name}.{part}", hidden) for part in parts[1:])]


def _write_flax(folded: _Folded) -> dict[str, dict[str, Array]]:
    hidden = folded.w_hh.shape[1]
    b = np.zeros(3 * hidden, folded.w_hh.dtype) if folded.b is None else folded.b
    b_n = np.zeros(hidden, folded.w_hh.dtype) if folded.b_n is None else folded.b_n
    gates = zip("rzn", np.split(folded.w_ih, 3), np.split(folded.w_hh, 3), np.split(b, 3), strict=True)
    params = {}
    for gate, w_ih, w_hh, bias in gates:
        params[f"i{gate}"] = {"kernel": w_ih.T, "bias": bias}
        params[f"h{gate}"] = {"kernel": w_hh.T}
    params["hn"]["bias"] = b_n
    return params


def _build(layers: Sequence[_Folded], bidirectional: bool, batch_first: bool) -> GRU:
    return build([_unfold(folded) for folded in layers], bidirectional, batch_first)


def _unfold(folded: _Folded) -> Weights:
    if folded.b is None or folded.b_n is None:
        return Weights(folded.w_ih, folded.w_hh)
    nothing = np.zeros_like(folded.b_n)
    return Weights(folded.w_ih, folded.w_hh, folded.b, np.concatenate([nothing, nothing, folded.b_n]))


def _folded(gru: AnyGRU) -> list[_Folded]:
    return [_fold(weights) for weights in weights_of(gru)]


def _fold(weights: Weights) -> _Folded:
    if weights.b_ih is None or weights.b_hh is None:
        return _Folded(weights.w_ih, weights.w_hh, None, None)
    r, z, n = np.split(weights.b_hh, 3)
    return _Folded(weights.w_ih, weights.w_hh, weights.b_ih + np.concatenate([r, z, np.zeros_like(n)]), n)


def _present(folded: _Folded, names: Sequence[str]) -> dict[str, Array]:
    """The arrays that there are, under a framework's own names."""
    return {name: array for name, array in zip(names, folded, strict=True) if array is not None}
