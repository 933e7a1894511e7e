"""The grid of options on which a GRU is held to torch.nn.GRU, and the comparison itself."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import fastgru

T, B, I, H = 5, 3, 4, 6


@dataclass(frozen=True)
class Case:
    """One point of the grid: a layer's options and the form of its input."""

    num_layers: int
    bidirectional: bool
    bias: bool
    batch_first: bool
    form: str  # "batched", "unbatched" or "packed"
    with_h0: bool

    @property
    def options(self) -> dict[str, int | bool]:
        return {
            "num_layers": self.num_layers,
            "bidirectional": self.bidirectional,
            "bias": self.bias,
            "batch_first": self.batch_first,
        }

    def inputs(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """The leaves: x and h0, to be differentiated."""
        batched = self.form != "unbatched"
        shape = ((B, T) if self.batch_first else (T, B)) if batched else (T,)
        x = torch.randn(*shape, I, dtype=dtype, requires_grad=True)
        states = self.num_layers * (2 if self.bidirectional else 1)
        h0 = torch.randn(states, *((B,) if batched else ()), H, dtype=dtype, requires_grad=True)
        return x, h0 if self.with_h0 else None

    def feed(self, x: Tensor) -> Tensor | PackedSequence:
        """The input in this case's form; the lengths are unsorted."""
        if self.form != "packed":
            return x
        return pack_padded_sequence(x, torch.tensor([3, 5, 1]), batch_first=self.batch_first, enforce_sorted=False)

    def __str__(self) -> str:
        words = [f"L{self.num_layers}", self.form]
        words += [name for name in ("bidirectional", "bias", "batch_first", "with_h0") if getattr(self, name)]
        return "-".join(words)


CASES = [
    Case(*values)
    for values in itertools.product(
        (1, 2, 3), (False, True), (False, True), (False, True), ("batched", "unbatched", "packed"), (False, True)
    )
]


def pair(case: Case, dtype: torch.dtype, backend: str, **options: float) -> tuple[torch.nn.GRU, fastgru.GRU]:
    """torch's layer and ours, with the same weights."""
    theirs = torch.nn.GRU(I, H, **case.options, **options, dtype=dtype)
    ours = fastgru.GRU(I, H, **case.options, **options, dtype=dtype, backend=backend)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def results(layer: torch.nn.Module, case: Case, x: Tensor, h0: Tensor | None, seed: int = 0) -> dict[str, Tensor]:
    """Output, h_n and every gradient, for random cotangents on both outputs."""
    torch.manual_seed(seed)
    output, h_n = layer(case.feed(x), h0)
    y = output.data if isinstance(output, PackedSequence) else output
    leaves = {"x": x, **({} if h0 is None else {"h0": h0}), **dict(layer.named_parameters())}
    torch.manual_seed(seed + 1)
    cotangents = torch.randn_like(y), torch.randn_like(h_n)
    gradients = torch.autograd.grad((y, h_n), list(leaves.values()), cotangents)
    return {"y": y, "h_n": h_n, **{f"d{name}": grad for name, grad in zip(leaves, gradients, strict=True)}}


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Relative L2 error, against float64; of an all-zero expectation, the absolute one."""
    expected = expected.double()
    scale = expected.norm().item() or 1.0
    return (got.double() - expected).norm().item() / scale
