"""GRU's options beside what users of torch.nn.GRU write for them: a loop over the steps, or layers one by one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout, layer_norm, linear

import fastgru
from benchmarks.feature import Feature, Run, pair
from fastgru.cli.benchmark import Shape

CELLS: list[tuple[str, float]] = [
    ("layer_norm", True),
    ("reset_after", False),
    ("recurrent_dropout", 0.25),
    ("zoneout", 0.1),
    ("weight_dropout", 0.5),
]


def cells(shape: Shape, option: str, value: float) -> Feature:
    """An option that changes each step, beside a loop over the steps in torch's operations.

    In inference both run in eval; in training both draw masks, which are none of each other's.
    """
    ours, theirs, x = pair(shape, **{option: value})
    plain = fastgru.GRU(shape.input_size, shape.hidden_size)
    plain.load_state_dict(theirs.state_dict())
    loop = _Loop(ours, option, value)
    runs: dict[str, tuple[torch.nn.Module, Run]] = {
        "fastgru.GRU": (ours, lambda x: ours(x)[0]),
        "the plain kernel": (plain, lambda x: plain(x)[0]),
        "a loop over the steps": (loop, loop),
    }
    return Feature(f"{option}={value}, {shape}", x, torch.ones(x.shape[:2], dtype=torch.bool), runs)


class _Loop(torch.nn.Module):
    """What users write where torch.nn.GRU has no such option: the input's product at once, then a step at a time."""

    def __init__(self, like: fastgru.GRU, option: str, value: float) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList(weight.detach().clone() for weight in like.weights())
        self.given = {option: value}

    def forward(self, x: Tensor) -> Tensor:
        """All states."""
        w_ih, w_hh, b_ih, b_hh, *gains = self.weights
        h = x.new_zeros(x.size(1), w_hh.size(1))
        mask = dropout(torch.ones_like(h), self._of("recurrent_dropout"), self.training)
        w_hh = dropout(w_hh, self._of("weight_dropout"), self.training)
        gx = layer_norm(x @ w_ih.T, b_ih.shape, gains[0], b_ih) if gains else linear(x, w_ih, b_ih)
        states = []
        for gx_t in gx:
            h = self._kept(h, self._step(gx_t, h, h * mask, w_hh, b_hh, gains))
            states.append(h)
        return torch.stack(states)

    def _of(self, option: str) -> float:
        return self.given.get(option, 0)

    def _kept(self, h: Tensor, new: Tensor) -> Tensor:
        """Zoneout."""
        p = self._of("zoneout")
        if not p:
            return new
        if not self.training:
            return p * h + (1 - p) * new
        return torch.where(torch.rand_like(h) < p, h, new)

    def _step(self, gx: Tensor, h: Tensor, seen: Tensor, w_hh: Tensor, b_hh: Tensor, gains: list[Tensor]) -> Tensor:
        i_r, i_z, i_n = gx.chunk(3, 1)
        if self.given.get("reset_after", True):
            gh = layer_norm(seen @ w_hh.T, b_hh.shape, gains[1], b_hh) if gains else linear(seen, w_hh, b_hh)
            h_r, h_z, h_n = gh.chunk(3, 1)
            n = torch.tanh(i_n + torch.sigmoid(i_r + h_r) * h_n)
        else:
            units = h.size(1)
            h_r, h_z = linear(seen, w_hh[: 2 * units], b_hh[: 2 * units]).chunk(2, 1)
            n = torch.tanh(i_n + linear(torch.sigmoid(i_r + h_r) * seen, w_hh[2 * units :], b_hh[2 * units :]))
        z = torch.sigmoid(i_z + h_z)
        return n + z * (h - n)


def stacks(shape: Shape, name: str, **options: Any) -> Feature:
    """An option of a stack of two layers, beside two of torch.nn.GRU with what they need in between."""
    torch.manual_seed(0)
    sizes = options.pop("hidden_size", [shape.hidden_size] * 2)
    ours = fastgru.GRU(shape.input_size, sizes, **options)
    plain = fastgru.GRU(shape.input_size, shape.hidden_size, 2, dropout=options.get("dropout", 0.0))
    today = _Chain(ours, sizes, options)
    x = torch.randn(shape.steps, shape.batch, shape.input_size)
    every = options.get("return_all_layers", False)
    runs: dict[str, tuple[torch.nn.Module, Run]] = {
        "fastgru.GRU": (ours, lambda x: torch.cat(ours(x)[0], -1) if every else ours(x)[0]),
        "the plain kernel": (plain, lambda x: plain(x)[0]),
        "layers of torch.nn.GRU": (today, today),
    }
    return Feature(f"{name}, L=2 {shape}", x, torch.ones(x.shape[:2], dtype=torch.bool), runs)


class _Chain(torch.nn.Module):
    """Layers of torch.nn.GRU one after the other."""

    def __init__(self, like: fastgru.GRU, sizes: Sequence[int], options: dict[str, Any]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList()
        for number, (inputs, size) in enumerate(zip([like.input_size, *sizes], sizes, strict=False)):
            layer = torch.nn.GRU(inputs, size)
            layer.load_state_dict({n: getattr(like, n.replace("l0", f"l{number}")) for n in layer.state_dict()})
            self.layers.append(layer)
        if options.get("learn_initial_state"):
            self.initial = torch.nn.Parameter(like.initial_state.detach().clone())
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        """The last output, or all of them side by side."""
        learned, outputs = self.options.get("learn_initial_state"), []
        for number, layer in enumerate(self.layers):
            if number and self.options.get("variational"):
                x = x * dropout(x.new_ones(x.shape[1:]), self.options["dropout"], self.training)
            x = layer(x, self.initial[number].expand(1, x.size(1), -1).contiguous() if learned else None)[0]
            outputs.append(x)
        return torch.cat(outputs, -1) if self.options.get("return_all_layers") else x
