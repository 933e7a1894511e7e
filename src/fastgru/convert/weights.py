"""`Weights`: one layer and direction of a GRU as NumPy arrays, through which every conversion passes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from fastgru.common.errors import InputError
from fastgru.core.spec import GRUSpec
from fastgru.nn import GRU, GRUCell

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
AnyGRU: TypeAlias = GRU | GRUCell | torch.nn.GRU | torch.nn.GRUCell

_DTYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}


class Weights(NamedTuple):
    """One layer and direction, rows in the order r, z, n.

    w_ih [3H, I] (in a layer above the first [3H, D*H]), w_hh [3H, H], b_ih [3H] and b_hh [3H]; no biases: both None.
    """

    w_ih: Array
    w_hh: Array
    b_ih: Array | None = None
    b_hh: Array | None = None


def build(weights: Sequence[Weights], bidirectional: bool, batch_first: bool, reset_after: bool = True) -> GRU:
    """A GRU of these weights, layer by layer, forward before reverse. Raises InputError where they do not fit."""
    given = [[array for array in each if array is not None] for each in weights]
    spec = _spec(given, bidirectional)
    dtypes = {array.dtype.name for each in given for array in each}
    if len(dtypes) > 1:
        raise InputError(f"expected weights of one dtype, got {' and '.join(sorted(dtypes))}; convert them first")
    options: dict[str, Any] = {"batch_first": batch_first, "bidirectional": bidirectional, "reset_after": reset_after}
    options["dtype"] = _DTYPES[dtypes.pop()]
    # "meta" draws no initial weights, so torch's generator stays as it is
    gru = GRU(spec.input_size, spec.hidden_size, spec.num_layers, spec.bias, device="meta", **options)
    arrays = [array for each in given for array in each]
    gru.to_empty(device="cpu")
    gru.load_state_dict({name: torch.tensor(array) for name, array in zip(gru.state_dict(), arrays, strict=True)})
    return gru


def _spec(given: Sequence[Sequence[Array]], bidirectional: bool) -> GRUSpec:
    """What the arrays of each layer and direction are together."""
    if not given:
        raise InputError("expected the weights of at least one layer, got none")
    directions = 2 if bidirectional else 1
    if len(given) % directions:
        raise InputError(f"expected a forward and a reverse direction for each layer, got {len(given)} in all")
    count = len(given[0])
    sizes = tuple(arrays[1].shape[-1] for arrays in given[::directions])
    hidden = sizes if len(set(sizes)) > 1 else sizes[0]
    features = given[0][0].shape[-1]
    spec = GRUSpec(features, hidden, len(sizes), bias=count == 4, bidirectional=bidirectional)
    for index, arrays in enumerate(given):
        expected = spec.weight_shapes[index * count : (index + 1) * count]
        shapes = [array.shape for array in arrays]
        if shapes != expected:
            raise InputError(
                f"layer {index // directions} must have weights and biases of the shapes {expected} (gates x inputs), "
                f"as the H of each layer are {[*sizes]} and the first one's I={features}, got {shapes}"
            )
    return spec


def weights_of(gru: AnyGRU, reset_before_too: bool = False) -> list[Weights]:
    """Copies of a layer's weights, layer by layer, forward before reverse; a cell is one layer.

    reset_before_too: whether the framework has the form reset_after=False as well.
    Raises TypeError for anything else, InputError for weights in a dtype that NumPy does not have, and for a form that
    the framework has not.
    """
    if not reset_before_too and not getattr(gru, "reset_after", True):
        raise InputError("this GRU has reset_after=False, a form that the framework does not have")
    for option in ("zoneout", "learn_initial_state", "layer_norm"):  # what changes its numbers in eval too
        if getattr(gru, option, False):
            raise InputError(f"this GRU has {option}={getattr(gru, option)}, which the framework does not have")
    if isinstance(gru, GRU | torch.nn.GRU):
        names = [name for group in gru._all_weights for name in group]
    elif isinstance(gru, GRUCell | torch.nn.GRUCell):
        names = ["weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if gru.bias else ())]
    else:
        raise TypeError(f"expected a GRU or GRUCell, of fastgru or torch.nn, got {type(gru).__name__}")
    arrays = [as_array(getattr(gru, name), name).copy() for name in names]
    count = 4 if gru.bias else 2
    return [Weights(*arrays[first : first + count]) for first in range(0, len(arrays), count)]


def layers_of(gru: AnyGRU, reset_before_too: bool = False) -> list[list[Weights]]:
    """`weights_of`, the directions of each layer together."""
    weights = weights_of(gru, reset_before_too)
    directions = 2 if getattr(gru, "bidirectional", False) else 1
    return [weights[first : first + directions] for first in range(0, len(weights), directions)]


def as_array(value: Any, name: str, *shape: int | None) -> Array:
    """Any framework's array as NumPy's. shape: what it must be, None for any size; nothing is checked without one.

    Raises InputError, with the array's name, for another shape and for dtypes but float16, float32 and float64.
    """
    array = value if isinstance(value, torch.Tensor) else np.asarray(value)
    dtype = str(array.dtype).removeprefix("torch.")
    if dtype not in _DTYPES:
        raise InputError(f"{name} must be float16, float32 or float64, got {dtype}; convert it first")
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu().numpy()
    if shape and not _fits(array.shape, shape):
        wanted = str(shape).replace("None", "any")
        raise InputError(f"{name} must have the shape {wanted}, got {array.shape}")
    return array


def _fits(got: tuple[int, ...], wanted: Sequence[int | None]) -> bool:
    return len(got) == len(wanted) and all(size in (None, own) for size, own in zip(wanted, got, strict=True))


def entries(source: Any, what: str, required: Sequence[str], optional: Sequence[str] = ()) -> list[Any]:
    """The named entries of a mapping, or attributes of an object; an optional one that is missing is None.

    what: what was expected, for the InputError where a required one is missing.
    """
    is_mapping = isinstance(source, Mapping)
    found = {name: source.get(name) if is_mapping else getattr(source, name, None) for name in (*required, *optional)}
    missing = [name for name in required if found[name] is None]
    if missing:
        came = f"the keys {', '.join(map(str, source)) or '(none)'}" if is_mapping else f"a {type(source).__name__}"
        raise InputError(f"expected {what}: {', '.join(missing)} missing, got {came}")
    return list(found.values())


def reordered(array: Array, come: str, want: str, axis: int = 0) -> Array:
    """Gates that come along an axis in one order, such as "zrn", in another."""
    gates = dict(zip(come, np.split(array, 3, axis), strict=True))
    return np.concatenate([gates[gate] for gate in want], axis)


def one_form(forms: Sequence[bool], option: str) -> bool:
    """The `reset_after` that all layers have. Raises InputError, naming the framework's option, where they differ."""
    if len(set(forms)) > 1:
        raise InputError(f"expected layers of one {option}, got both; convert them one by one")
    return forms[0] if forms else True
