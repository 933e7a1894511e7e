"""How a layer is cut into CTAs: a pure function of its sizes and of the device.

T is no part of it, and B has four kernels at most: none is compiled anew for a new batch. Nothing here was timed yet:
what decides is what fits into shared memory and registers (seen by compiling for each architecture), and then how many
launches it takes.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Device(NamedTuple):
    """A GPU: its compute capability as a number (9.0: 90), its multiprocessors, the bytes of shared memory of a CTA."""

    sm: int
    processors: int
    shared: int


class Plan(NamedTuple):
    """What a CTA does, in the words of tiles.py, and its warps."""

    BH: int
    BB: int
    K: int
    KS: int
    PARTS: int
    RESIDENT: bool
    warps: int

    @property
    def peers(self) -> int:
        """PARTS, as a power of two."""
        return 1 << (self.PARTS - 1).bit_length()


_ALONE = 128  # units of a CTA that has all of them, at most: more do not fit into registers
_ROW = 2048  # bytes of a row of W_hh in shared memory, at most
_SPARE = 8192  # bytes beside weights and what is told: sums over warps, and changes of layout
_TOLD = 3  # tensors that the backward pass tells, the most


def plan(hidden: int, batch: int, directions: int, size: int, normed: bool, device: Device) -> Plan | None:
    """The plan for H units, B sequences and D directions; None where the device has too few multiprocessors.

    size: bytes that an element of a product has in shared memory: 2 in half precision, 4 in float32, 8 where it stands
    there as two TF32 numbers. normed: layer norm, which takes more registers.

    - All units in one CTA, which then waits for nobody, where W_hh fits into its shared memory.
    - Otherwise some CTAs with 16 or 32 units each, and their rows of W_hh.
    - Otherwise each reads its rows from L2 at every step; with 64 units each, which spills registers, as a last resort.
    """
    some = (16,) if normed and size > 2 else (16, 32)
    for candidates in (
        _alone(hidden, batch, size),
        _resident(hidden, batch, size, normed, some),
        _streaming(hidden, batch, size, normed, some),
        _streaming(hidden, batch, size, normed, (64,)),
    ):
        able = [one for one in candidates if device.processors >= one.PARTS and _bytes(one, size) <= device.shared]
        if able:
            return min(able, key=lambda one: _rounds(one, batch * directions, device))
    return None


def _alone(hidden: int, batch: int, size: int) -> Iterator[Plan]:
    width = _power(hidden)
    if width <= _ALONE:
        sequences = 8 if batch <= 8 or width == _ALONE or size > 2 else 16
        yield Plan(width, sequences, width, 1, 1, True, 8 if width >= 64 else 4)


def _resident(hidden: int, batch: int, size: int, normed: bool, some: Sequence[int]) -> Iterator[Plan]:
    width = _power(hidden)
    parts = min(max(width // 32, 1), 8)
    for units in some if width * size <= _ROW else ():
        sequences = 8 if batch <= 8 or width * size > 1024 or normed or units > 16 else 16
        if units <= width:
            yield Plan(units, sequences, width, parts, -(-hidden // units), True, max(parts, 4))


def _streaming(hidden: int, batch: int, size: int, normed: bool, some: Sequence[int]) -> Iterator[Plan]:
    width = -(-hidden // 64) * 64
    columns, few = (64, 4) if size == 2 else (128 // size, 8)
    for units in some:
        sequences = 8 if batch <= 8 or size > 2 or normed or units > 32 else 16
        yield Plan(units, sequences, width, columns, -(-hidden // units), False, few if units == 16 else 8)


def _power(hidden: int) -> int:
    """The power of two from H on; the least is the least that a product takes."""
    return max(1 << (hidden - 1).bit_length(), 16)


def _bytes(one: Plan, size: int) -> int:
    """Shared memory that a CTA takes, at most."""
    if not one.RESIDENT:
        return one.KS * (3 * one.BH + _TOLD * one.BB) * size + _SPARE
    return (3 * one.BH + _TOLD * one.BB) * one.K * size + _SPARE


def _rounds(one: Plan, sequences: int, device: Device) -> int:
    """Launches that it takes, each with as many slices as there is room for."""
    slices, at_once = -(-sequences // one.BB), device.processors // one.PARTS
    return -(-slices // at_once)
