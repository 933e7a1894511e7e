"""Windows: a layer's steps in parts, each a layer of its own on rows of the whole one's x."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fastgru.core.layer import Layer
from fastgru.core.spec import Variant
from fastgru.core.steps import Steps, batch_of


class Windows:
    """Where a layer's windows begin and end, and which rows of x, y and their gradients they have.

    first: None where sequences are padded; otherwise the row of each step of packed ones, and of each sequence where
        there are offsets. lengths [B]: their steps. spans: the step each window begins with, and that after its last.
    """

    def __init__(self, given: Layer, least_rows: int) -> None:
        x, steps = given.x, given.steps
        self.steps, self.batch = steps, batch_of(steps, x)
        self.first: Tensor | None = None
        if steps.batch_sizes is not None:
            sizes = steps.batch_sizes
            self.first = sizes.cumsum(0) - sizes
            shorter = torch.searchsorted(sizes.flip(0), torch.arange(self.batch, device="cpu"), right=True)
            self.lengths = sizes.size(0) - shorter
        elif steps.offsets is not None:
            offsets = steps.offsets.to("cpu", torch.int64)
            self.first, self.lengths = offsets[:-1], offsets.diff()
        elif steps.lengths is not None:
            self.lengths = steps.lengths.to("cpu", torch.int64)
        else:
            self.lengths = torch.full((self.batch,), x.size(0), device="cpu")
        length = int(self.lengths.max()) if self.batch else 0
        # The root of all steps keeps as many states as there are gates in a window.
        size = max(int(length**0.5), -(-least_rows // max(self.batch, 1)), 1)
        self.spans = _spans(length, size, given.variant.tbptt)

    @property
    def between(self) -> Tensor:
        """The steps t, on the CPU, that each window but the first begins with."""
        return torch.tensor([begin for begin, _ in self.spans[1:]], dtype=torch.int64, device="cpu")

    def crossing(self, t: Tensor) -> Tensor:
        """Which sequences have step t [N], and so t - 1: [N, B]."""
        return self.lengths > t[:, None]

    def rows(self, t: Tensor) -> Tensor:
        """Of steps t [N] the rows [N, B], where a sequence has the step."""
        b = torch.arange(self.batch, device="cpu")
        if self.first is None:
            return t[:, None] * self.batch + b
        return t[:, None] + self.first if self.steps.batch_sizes is None else self.first[t][:, None] + b

    def resets(self, t: int) -> Tensor | None:
        """Which sequences [B] are reset between steps t - 1 and t; None where none ever is."""
        if self.steps.resets is None:
            return None
        at, resets = torch.tensor([t], device="cpu"), self.steps.resets.cpu().flatten()
        found = self.crossing(at)[0]
        found[found.clone()] = resets[self.rows(at)[0][found]]
        return found

    def states(self, given: Layer, y: Tensor) -> Tensor:
        """The states [D, B, W - 1, H] between windows: what follows on from them; h0 where nothing does."""
        directions, hidden, t = given.variant.directions, given.hidden_size, self.between
        found = y.new_zeros(directions, self.batch, t.size(0), hidden)
        if found.numel() == 0:
            return found
        if given.h0 is not None:
            found += given.h0[:, :, None]
        there = self.crossing(t).T
        steps = y if self.first is not None else y.flatten(0, 1)
        for direction in range(directions):
            rows = self.rows(t if is_reverse(given.variant, direction) else t - 1).T[there]
            own = steps.narrow(-1, direction * hidden, hidden)
            found[direction][there.to(y.device)] = own[rows.to(y.device)]
        return found

    def window(self, begin: int, end: int) -> "Window":
        """The steps of one of the spans."""
        resets = self.steps.resets
        if self.steps.batch_sizes is not None:
            assert self.first is not None
            sizes = self.steps.batch_sizes[begin:end]
            return Window((int(self.first[begin]), int(sizes.sum())), Steps(sizes), int(sizes[0]))
        lengths = (self.lengths - begin).clamp(0, end - begin)
        if self.first is not None:
            ends = lengths.cumsum(0)
            offsets = torch.cat([ends.new_zeros(1), ends])
            moved = (self.first + begin - offsets[:-1]).repeat_interleave(lengths)
            rows = torch.arange(moved.size(0), device="cpu") + moved
            own = None if resets is None else resets.cpu()[rows]
            return Window(rows, Steps(offsets=offsets, resets=own), self.batch)
        own = None if resets is None else resets[begin:end]
        some = Steps(lengths=None if self.steps.lengths is None else lengths, resets=own)
        return Window((begin, end - begin), some, self.batch)


@dataclass(frozen=True)
class Window:
    """Rows, a range or one by one; their steps; and how many sequences: the first of all."""

    rows: tuple[int, int] | Tensor
    steps: Steps
    batch: int

    def of(self, tensor: Tensor) -> Tensor:
        """Its rows."""
        if isinstance(self.rows, Tensor):
            return tensor.index_select(0, self.rows.to(tensor.device))
        return tensor.narrow(0, *self.rows)

    def add(self, to: Tensor, rows: Tensor) -> None:
        """Add to its rows."""
        if isinstance(self.rows, Tensor):
            to.index_add_(0, self.rows.to(to.device), rows)
        else:
            to.narrow(0, *self.rows).add_(rows)


def is_reverse(variant: Variant, direction: int) -> bool:
    """Whether a direction runs from the last step to the first."""
    return direction == 1 or variant.reverse


def _spans(length: int, size: int, tbptt: int) -> list[tuple[int, int]]:
    """Windows of at most `size` steps; each begins with a stretch of `tbptt` steps or lies inside of one."""
    stretch = tbptt or max(length, 1)
    unit = stretch * max(size // stretch, 1)
    return [
        (begin, min(begin + size, start + unit, length))
        for start in range(0, length, unit)
        for begin in range(start, min(start + unit, length), size)
    ]
