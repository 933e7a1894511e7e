"""A model's weights out of model.safetensors: names, shapes and types are compared before anything is allocated."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from fastgru.inference.arrays import Array, read_arrays, widened
from fastgru.inference.entries import Entry
from fastgru.inference.folder import CONFIG, WEIGHTS

FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
WHOLE = {"I64": "int64"}
LOW = {"int8": {"I8": "int8"}, "bf16": {"BF16": "bfloat16"}}


def read_weights(path: str | Path, entries: Iterable[Entry]) -> dict[str, Array]:
    """Read the weights that a model has, as float32, int64 where they are whole numbers, or quantized as they are.

    `entries`: as the model's configuration gives them. They are gone through one by one, and no further than the file
    has them: a configuration of hostile sizes costs nothing.
    ValueError, naming the weight, where the file is none, has others than these, or numbers that no model can have.
    """
    try:
        with safe_open(path, framework="np") as file:
            checked = _compare(file, entries)
        bits = {entry.name for entry in checked if entry.bits}
        arrays = read_arrays(path, [entry.name for entry in checked], bits)
    except SafetensorError as error:
        raise ValueError(f"{WEIGHTS}: {error}") from error
    return {entry.name: _checked(arrays[entry.name], entry) for entry in checked}


def _compare(file: Any, entries: Iterable[Entry]) -> list[Entry]:
    there, found = {*file.keys()}, []
    for entry in entries:
        if entry.name not in there:
            raise _misfit(entry.name, [*entry.shape], "nothing")
        part = file.get_slice(entry.name)
        if [*part.get_shape()] != [*entry.shape]:
            raise _misfit(entry.name, [*entry.shape], part.get_shape())
        kinds = WHOLE if entry.whole else LOW[entry.bits] if entry.bits else FLOATS
        if part.get_dtype() not in kinds:
            raise _misfit(entry.name, " or ".join(kinds.values()), part.get_dtype())
        there.discard(entry.name)
        found.append(entry)
    for name in sorted(there):
        raise _misfit(name, "nothing", file.get_slice(name).get_shape())
    return found


def _misfit(name: str, expected: object, came: object) -> ValueError:
    return ValueError(f"{WEIGHTS} does not fit {CONFIG}: {name}: expected {expected}, and there is {came}")


def _checked(array: Array, entry: Entry) -> Array:
    if entry.whole or entry.bits == "int8":
        return array
    if entry.bits:
        if not np.isfinite(widened(array)).all():
            raise ValueError(f"{WEIGHTS}: {entry.name} holds numbers that are not finite")
        return array
    with np.errstate(over="ignore"):  # what float32 cannot hold is not finite, and told so
        values = array.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise ValueError(f"{WEIGHTS}: {entry.name} holds numbers that are not finite")
    if entry.positive and not (values > 0).all():
        raise ValueError(f"{WEIGHTS}: {entry.name} must be above 0, and holds {values.min():g}")
    return values
