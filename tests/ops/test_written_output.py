"""The output changed in place before backward: gradients are as if a copy had been, as with torch.nn.GRU on a CPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad
from torch.nn.functional import dropout
from torch.nn.utils.rnn import pack_sequence
from twins import B, H, I, T, twins

import fastgru

WRITES: dict[str, Callable[[Tensor], Any]] = {
    "relu": torch.relu_,
    "add": lambda y: y.add_(1),
    "fill": lambda y: y.masked_fill_(torch.rand_like(y) > 0.5, 7),
    "dropout": lambda y: dropout(y, inplace=True),
    "a part": lambda y: y[..., 1:3].fill_(2),
    "zeros": torch.zero_,
    "twice": lambda y: y.view(-1).mul_(2).add_(1),
}
INPUTS: dict[str, Callable[[Any, Tensor], tuple[Any, Tensor]]] = {
    "padded": lambda gru, x: gru(x),
    "lengths": lambda gru, x: gru(x, lengths=torch.tensor([6, 0, 4])),
    "packed": lambda gru, x: gru(pack_sequence([x[:2, 0], x[:, 1], x[:4, 2]], enforce_sorted=False)),
    "concatenated": lambda gru, x: gru(x.reshape(-1, I), cu_seqlens=torch.tensor([0, 9, 9, T * B])),
    "resets": lambda gru, x: gru(x, resets=torch.rand(T, B) > 0.5),
    "one step": lambda gru, x: gru(x[:1]),
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True, "dropout": 0.5},
    {"memory": "recompute", "num_layers": 2},
    {"memory": "checkpoint", "tbptt": 3},
    {"zoneout": 0.3, "recurrent_dropout": 0.3},
    {"layer_norm": True, "learn_initial_state": True},
    {"reset_after": False},
]


def gradients(gru: Any, write: Callable[[Tensor], Any], form: str, of_copies: bool) -> list[Tensor]:
    """Of a layer whose results, or copies of them, are written to before backward."""
    torch.manual_seed(1)
    x = torch.randn(T, B, I, requires_grad=True)
    output, h_n = INPUTS[form](gru, x)
    results = [output.data if form == "packed" else output, h_n]
    if of_copies:
        results = [result.clone() for result in results]
    for result in results:
        write(result)
    loss = sum((result * torch.randn_like(result)).sum() for result in results)
    return [*torch.autograd.grad(loss, [x, *gru.parameters()])]


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("form", INPUTS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_are_those_of_a_written_copy(options: dict[str, Any], form: str) -> None:
    gru = fastgru.GRU(I, H, **options)
    write = WRITES["twice"]
    same(gradients(gru, write, form, of_copies=False), gradients(gru, write, form, of_copies=True))


@pytest.mark.parametrize("write", WRITES)
def test_gradients_are_torchs(write: str) -> None:
    for gru in (twins(), twins(num_layers=2, bidirectional=True)):
        ours, theirs = (gradients(layer, WRITES[write], "padded", of_copies=False) for layer in gru)
        same(ours, theirs)


def test_a_second_backward_sees_a_later_write_too() -> None:
    gru, _ = twins()
    y, _ = gru(torch.randn(T, B, I))
    expected = torch.autograd.grad(y.sum(), gru.parameters(), retain_graph=True)
    y.detach().mul_(2)
    same([*torch.autograd.grad(y.sum(), gru.parameters(), retain_graph=True)], [*expected])
    y.detach().zero_()
    same([*torch.autograd.grad(y.sum(), gru.parameters())], [*expected])


def test_second_derivatives_do_not_see_the_write() -> None:
    gru, theirs = twins()
    found = []
    for layer in (gru, theirs):
        torch.manual_seed(1)
        x = torch.randn(T, B, I, requires_grad=True)
        y, _ = layer(x)
        y.relu_()
        (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        found.append([dx, *torch.autograd.grad(dx.square().sum(), [x, *layer.parameters()])])
    same(*found)


def test_the_same_holds_where_torch_func_or_a_profiler_looks_on() -> None:
    gru, _ = twins()
    x, weights = torch.randn(T, B, I), {name: weight.detach() for name, weight in gru.named_parameters()}

    def loss(weights: dict[str, Tensor], write: Callable[[Tensor], Tensor]) -> Tensor:
        return write(functional_call(gru, weights, (x,))[0]).sum()

    same([*grad(loss)(weights, torch.relu_).values()], [*grad(loss)(weights, torch.relu).values()])
    expected = gradients(gru, torch.relu_, "padded", of_copies=True)
    with torch.profiler.profile():
        found = gradients(gru, torch.relu_, "padded", of_copies=False)
    same(found, expected)


def test_compiled_code_may_write_to_it() -> None:
    gru, _ = twins()
    x = torch.randn(T, B, I, requires_grad=True)

    def run(x: Tensor) -> Tensor:
        return torch.relu_(gru(x)[0]).sum()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    leaves = [x, *gru.parameters()]
    same([*torch.autograd.grad(compiled(x), leaves)], [*torch.autograd.grad(run(x), leaves)])


def test_what_else_backward_needs_is_still_watched() -> None:
    gru, _ = twins()
    x = torch.randn(T, B, I)
    y, _ = gru(x)
    y.relu_()
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
