"""Arrays out of a safetensors file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import deserialize, safe_open

Array = npt.NDArray[Any]


def read_arrays(path: str | Path, names: Sequence[str]) -> dict[str, Array]:
    """Read these weights as they are, bfloat16 as float32; SafetensorError where the file is none."""
    with safe_open(path, framework="np") as file:
        narrow = {name for name in names if file.get_slice(name).get_dtype() == "BF16"}
        arrays = {name: file.get_tensor(name) for name in names if name not in narrow}
    if narrow:
        # NumPy knows no bfloat16: its 16 bits are the upper ones of a float32
        parts = dict(deserialize(Path(path).read_bytes()))  # type: ignore[no-untyped-call]
        arrays |= {name: _widened(parts[name]) for name in narrow}
    return arrays


def _widened(part: Mapping[str, Any]) -> Array:
    bits = np.frombuffer(part["data"], "<u2").astype(np.uint32) << 16
    return bits.view(np.float32).reshape(part["shape"])
