"""A GRU's arrays by torch's names: found, told apart from others, and checked."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from fastgru.common.errors import InputError
from fastgru.core.spec import GRUSpec, check_options
from fastgru.inference.arrays import widened
from fastgru.inference.entries import MOST_INT8_TERMS, SCALE

# What changes numbers in inference too, and its default.
OPTIONS = {name: GRUSpec._field_defaults[name] for name in ("reset_after", "layer_norm", "zoneout")}
FIELD = "fastgru."  # before an option's name, with the GRU's prefix, in a file's metadata
_KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "gain_ih", "gain_hh")
INITIAL = "initial_state"


def spec_of(shapes: Mapping[str, tuple[int, ...]], prefix: str, options: Mapping[str, Any]) -> GRUSpec:
    """What a GRU is whose arrays have these names, the prefix before them, and shapes.

    InputError where there is none, where names are missing or unknown, and where shapes do not fit together.
    """
    given = {**OPTIONS, **options}
    unknown = sorted({*given} - {*OPTIONS})
    if unknown:
        raise InputError(f"options must be of {', '.join(OPTIONS)}, got {', '.join(unknown)}")
    for name in ("reset_after", "layer_norm"):
        if not isinstance(given[name], bool):
            raise InputError(f"{name} must be True or False, got {given[name]!r}")
    try:
        check_options(recurrent_dropout=0.0, weight_dropout=0.0, tbptt=0, memory="gates", **given)
    except ValueError as error:
        raise InputError(str(error)) from error
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    is_cell = "weight_hh" in own
    if not is_cell and "weight_hh_l0" not in own:
        raise InputError(f"there is no GRU under {prefix!r}: no weight_hh_l0{_where(shapes)}")
    layers = 1
    while f"weight_hh_l{layers}" in own:
        layers += 1
    bidirectional = "weight_hh_l0_reverse" in own
    bias = ("bias_hh" if is_cell else "bias_hh_l0") in own
    first, ends = ("" if is_cell else "_l0"), _ends(layers, bidirectional, is_cell)
    for name in (f"weight_ih{first}", *(f"weight_hh{end}" for end in ends[:: 2 if bidirectional else 1])):
        if len(own.get(name, ())) != 2 or min(own[name]) < 1:
            raise InputError(f"{prefix}{name} must be a matrix, got {_came(own, name)}")
    sizes = tuple(own[f"weight_hh{end}"][1] for end in ends[:: 2 if bidirectional else 1])
    hidden = sizes if len({*sizes}) > 1 else sizes[0]
    spec = GRUSpec(own[f"weight_ih{first}"][1], hidden, layers, bias, bidirectional, **given)
    _check_shapes(own, spec, prefix, is_cell)
    return spec


def names_of(spec: GRUSpec, is_cell: bool = False) -> list[str]:
    """The names of its weights, in the order of `spec.weight_shapes`."""
    kinds = (*_KINDS[:2], *(_KINDS[2:4] if spec.bias else ()), *(_KINDS[4:] if spec.layer_norm else ()))
    return [kind + end for end in _ends(spec.num_layers, spec.bidirectional, is_cell) for kind in kinds]


def arrays_of(weights: Mapping[str, Any], prefix: str, options: Mapping[str, Any]) -> tuple[GRUSpec, list[Any], Any]:
    """A GRU's spec, its arrays in order, and its learned initial state, or None. InputError says what does not fit."""
    spec = spec_of({name: np.shape(array) for name, array in weights.items()}, prefix, options)
    names = [*names_of(spec, prefix + "weight_hh" in weights), *([INITIAL] if prefix + INITIAL in weights else [])]
    if _is_int8({name.removeprefix(prefix) for name in weights if name.startswith(prefix)}):
        names = _with_scales(names)
    found = {name: np.asarray(weights[prefix + name]) for name in names}
    low = _low_dtype(found, prefix)
    floats = {name: array for name, array in found.items() if low is None or array.dtype != low}
    first = np.dtype(np.float32) if low is not None else found[names[0]].dtype
    for name, array in floats.items():
        if array.dtype not in (np.float32, np.float64, np.float16):
            raise InputError(f"{prefix}{name} must be float32, float64 or float16, got {array.dtype}")
        if array.dtype != first:
            raise InputError(f"{prefix}{name} must be {first} as the other weights, got {array.dtype}")
        if not np.isfinite(array).all():
            raise InputError(f"{prefix}{name} holds numbers that are not finite")
    dtype = np.float64 if first == np.float64 else np.float32
    arrays = {name: np.ascontiguousarray(array, dtype if name in floats else low) for name, array in found.items()}
    initial = arrays.pop(INITIAL, None)
    return spec, [*arrays.values()], initial


def _is_int8(own: Collection[str]) -> bool:
    return f"weight_hh_l0{SCALE}" in own or f"weight_hh{SCALE}" in own


def _with_scales(names: list[str]) -> list[str]:
    """The names with each direction's two scales behind its two matrices."""
    found: list[str] = []
    for name in names:
        found.append(name)
        if name.startswith("weight_hh"):
            found += [found[-2] + SCALE, name + SCALE]
    return found


def _low_dtype(found: Mapping[str, Any], prefix: str) -> Any:
    """The dtype of matrices of few bits: int8, uint16 for the bits of bfloat16; None where they are float."""
    matrices = {name: array for name, array in found.items() if array.ndim == 2 and name != INITIAL}
    name, first = next(iter(matrices.items()))
    has_scales = _is_int8(found)
    if first.dtype == np.int8 and not has_scales:
        raise InputError(f"{prefix}{name} is int8, and there is no {prefix}{name}{SCALE}: what a number is worth")
    if first.dtype not in (np.int8, np.uint16) and not has_scales:
        return None
    dtype = np.dtype(np.int8 if has_scales else np.uint16)
    for name, array in matrices.items():
        if array.dtype != dtype:
            raise InputError(f"{prefix}{name} must be {dtype} as the others, got {array.dtype}")
        if dtype == np.int8 and array.shape[1] > MOST_INT8_TERMS:
            raise InputError(f"{prefix}{name}: int8 sums hold at most {MOST_INT8_TERMS} terms, got {array.shape[1]}")
        if dtype == np.uint16 and not np.isfinite(widened(array)).all():
            raise InputError(f"{prefix}{name} holds numbers that are not finite")
    return dtype


def _ends(layers: int, bidirectional: bool, is_cell: bool) -> list[str]:
    if is_cell:
        return [""]
    return [f"_l{layer}{end}" for layer in range(layers) for end in (("", "_reverse") if bidirectional else ("",))]


def _check_shapes(own: Mapping[str, tuple[int, ...]], spec: GRUSpec, prefix: str, is_cell: bool) -> None:
    expected = dict(zip(names_of(spec, is_cell), spec.weight_shapes, strict=True))
    if _is_int8(own):
        expected |= {name + SCALE: shape[:1] for name, shape in expected.items() if len(shape) == 2}
    if INITIAL in own:
        expected[INITIAL] = spec.states_shape()
    for name, shape in expected.items():
        if own.get(name) != shape:
            raise InputError(f"{prefix}{name} must be {[*shape]}, got {_came(own, name)}")
    others = sorted({*own} - {*expected})
    if others:
        hint = "; with layer_norm=True there are gains" if any(name.startswith("gain_") for name in others) else ""
        raise InputError(f"no part of a GRU: {', '.join(prefix + name for name in others[:3])}{hint}{_where(own)}")


def _came(own: Mapping[str, tuple[int, ...]], name: str) -> str:
    return str([*own[name]]) if name in own else "none"


def _where(shapes: Mapping[str, Any]) -> str:
    """Which prefixes have a GRU, in words."""
    found = sorted(
        {name.removesuffix(end) for name in shapes for end in ("weight_hh_l0", "weight_hh") if name.endswith(end)}
        - {""}
    )
    return f"; give prefix, of {', '.join(map(repr, found))}" if found else ""
