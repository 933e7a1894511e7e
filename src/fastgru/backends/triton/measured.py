"""Where the kernels were measured to be faster than torch's operator: what `auto` goes by for layers that both serve.

measured.json is written by `make gpu`: a list of the cases in which they won, each with H and B rounded up to a power
of two. It is empty where no GPU has been measured.
"""

import json
from pathlib import Path
from typing import NamedTuple

import torch

PATH = Path(__file__).with_name("measured.json")


class Case(NamedTuple):
    """sm 90 is compute capability 9.0; hidden and batch are powers of two; passes is "forward" or "both"."""

    sm: int
    dtype: str
    hidden: int
    batch: int
    passes: str


def case_of(sm: int, dtype: torch.dtype, hidden: int, batch: int, is_trained: bool) -> Case:
    """The case that a layer falls into."""
    passes = "both" if is_trained else "forward"
    return Case(sm, str(dtype).removeprefix("torch."), _power(hidden), _power(batch), passes)


def read(path: Path = PATH) -> frozenset[Case]:
    """The table."""
    return frozenset(Case(*case) for case in json.loads(path.read_text()))


def write(cases: frozenset[Case], path: Path = PATH) -> None:
    """Write the table, a case a line."""
    lines = ",\n".join(json.dumps(case) for case in sorted(cases))
    path.write_text(f"[\n{lines}\n]\n" if lines else "[]\n")


def is_measured_faster(sm: int, dtype: torch.dtype, hidden: int, batch: int, is_trained: bool) -> bool:
    """Whether the kernels won in this layer's case."""
    return bool(_TABLE) and case_of(sm, dtype, hidden, batch, is_trained) in _TABLE


def _power(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()


_TABLE = read()
