"""Arrays out of a safetensors file."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import deserialize, safe_open

Array = npt.NDArray[Any]


def read_arrays(path: str | Path, names: Sequence[str], bits: Collection[str] = ()) -> dict[str, Array]:
    """Read these weights as they are, bfloat16 as float32, or where `bits` has the name as its bits, in uint16.

    SafetensorError where the file is none.
    """
    with safe_open(path, framework="np") as file:
        narrow = {name for name in names if file.get_slice(name).get_dtype() == "BF16"}
        arrays = {name: file.get_tensor(name) for name in names if name not in narrow}
    if narrow:
        # NumPy knows no bfloat16: its 16 bits are the upper ones of a float32
        parts = dict(deserialize(Path(path).read_bytes()))  # type: ignore[no-untyped-call]
        for name in narrow:
            array = np.frombuffer(parts[name]["data"], "<u2").reshape(parts[name]["shape"])
            arrays[name] = array.astype(np.uint16) if name in bits else widened(array)
    return arrays


def widened(bits: Array) -> Array:
    """bfloat16, which comes as its bits in uint16, as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
