"""Steps whose backward is differentiated or batched, or of one output alone: the definition's, in every form."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import fastgru

T, B, I, H = 3, 2, 3, 5

FORMS: dict[str, dict[str, object]] = {
    "plain": {},
    "without bias": {"bias": False},
    "original cell": {"reset_after": False},
    "layer norm": {"layer_norm": True},
    "masks": {"zoneout": 0.3, "recurrent_dropout": 0.4},
    "masks, layer norm": {"zoneout": 0.3, "recurrent_dropout": 0.4, "layer_norm": True},
}
STACKS: dict[str, dict[str, object]] = {
    **FORMS,
    "three layers": {"num_layers": 3},
    "bidirectional": {"num_layers": 2, "bidirectional": True},
    "bidirectional original cell": {"bidirectional": True, "reset_after": False},
    "bidirectional masks": {"bidirectional": True, "zoneout": 0.3, "recurrent_dropout": 0.4},
}
Steps = Callable[[Tensor, Tensor], tuple[list[Tensor], Tensor]]  # from x and a state: outputs, and the last state


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def first_states(form: str) -> Tensor:
    """[L*D, B, H] of a stack."""
    options = STACKS[form]
    directions = 2 if options.get("bidirectional") else 1
    return drawn(int(str(options.get("num_layers", 1))) * directions, B, H)


def steps_of_a_cell(backend: str, **options: object) -> tuple[fastgru.GRUCell, Steps]:
    torch.manual_seed(2)
    cell = fastgru.GRUCell(I, H, dtype=torch.float64, backend=backend, **options)  # type: ignore[arg-type]

    def run(x: Tensor, state: Tensor) -> tuple[list[Tensor], Tensor]:
        torch.manual_seed(3)
        states = []
        for x_t in x:
            state = cell(x_t, state)
            states.append(state)
        return states, state

    return cell, run


def steps_of_a_stack(backend: str, **options: object) -> tuple[fastgru.GRU, Steps]:
    torch.manual_seed(2)
    gru = fastgru.GRU(I, H, dtype=torch.float64, backend=backend, **options)  # type: ignore[arg-type]

    def run(x: Tensor, state: Tensor) -> tuple[list[Tensor], Tensor]:
        torch.manual_seed(3)
        outputs = []
        for x_t in x:
            y, state = gru(x_t[None], state)
            outputs.append(y)
        return outputs, state

    return gru, run


def served_by_kernel(outputs: list[Tensor]) -> bool:
    node = outputs[-1].grad_fn
    return node is not None and node.name() == "_StepBackward"


def twice(run: Steps, x: Tensor, state: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """First and second derivatives, by all inputs."""
    leaves = [x, state, *weights]
    outputs, last = run(x, state)
    loss = torch.stack([output.sin().sum() for output in outputs]).sum() + last.cos().sum()
    first = torch.autograd.grad(loss, leaves, create_graph=True)
    squares = torch.stack([gradient.square().sum() for gradient in first]).sum()
    return [*first, *torch.autograd.grad(squares, leaves)]


@pytest.mark.parametrize("form", FORMS)
def test_second_derivatives_of_a_cell(form: str) -> None:
    x, h = drawn(T, B, I), drawn(B, H)
    found = []
    for backend in ("cpu", "reference"):
        cell, run = steps_of_a_cell(backend, **FORMS[form])
        assert served_by_kernel(run(x, h)[0]) == (backend == "cpu")
        found.append(twice(run, x, h, [*cell.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("shape", [(), (1,), (3,)], ids=["no batch", "one", "three"])
@pytest.mark.parametrize("with_state", [True, False], ids=["state", "no state"])
def test_second_derivatives_of_one_step_that_lies_elsewise(shape: tuple[int, ...], with_state: bool) -> None:
    x = torch.randn(*shape, 2 * I, dtype=torch.float64)[..., ::2].requires_grad_()
    h = torch.randn(H, dtype=torch.float64).expand(*shape, H).requires_grad_()
    found = []
    for backend in ("cpu", "reference"):
        cell, _ = steps_of_a_cell(backend)
        first = torch.autograd.grad(cell(x, h if with_state else None).sin().sum(), x, create_graph=True)
        leaves = [x, *([h] if with_state else []), cell.weight_ih, cell.weight_hh]
        found.append([*first, *torch.autograd.grad(first[0].exp().sum(), leaves)])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("vectorize", [False, True])
def test_a_hessian_of_a_cell(vectorize: bool) -> None:
    x, h = drawn(B, I).detach(), drawn(B, H).detach()
    found = []
    for backend in ("cpu", "reference"):
        cell, _ = steps_of_a_cell(backend)

        def loss(x: Tensor, h: Tensor, cell: fastgru.GRUCell = cell) -> Tensor:
            return cell(cell(x.sin(), h)[..., :I], h).cos().sum()

        found.append(torch.autograd.functional.hessian(loss, (x, h), vectorize=vectorize))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)


def test_second_derivatives_of_some_weights_alone() -> None:
    x, h = drawn(T, B, I), drawn(B, H)
    for names in (["weight_ih"], ["bias_hh"], ["weight_hh", "bias_ih"]):
        found = []
        for backend in ("cpu", "reference"):
            cell, run = steps_of_a_cell(backend)
            weights = [cell.get_parameter(name) for name in names]
            for steps in (1, T):  # the first step takes the weights themselves, others a token
                loss = run(x[:steps], h)[1].sin().sum()
                first = torch.autograd.grad(loss, weights, create_graph=True)
                squares = torch.stack([gradient.square().sum() for gradient in first]).sum()
                found.append([*first, *torch.autograd.grad(squares, [x, h, *cell.parameters()])])
        torch.testing.assert_close(found[0], found[2], rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(found[1], found[3], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("form", STACKS)
def test_second_derivatives_of_a_stack(form: str) -> None:
    x, h = drawn(T, B, I), first_states(form)
    found = []
    for backend in ("cpu", "reference"):
        gru, run = steps_of_a_stack(backend, **STACKS[form])
        assert served_by_kernel(run(x, h)[0]) == (backend == "cpu")
        found.append(twice(run, x, h, [*gru.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_finite_differences(form: str) -> None:
    cell, run = steps_of_a_cell("cpu", **FORMS[form])
    x, h = drawn(2, 1, I), drawn(1, H)

    def outputs(x: Tensor, h: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        return tuple(run(x, h)[0])

    inputs = (x, h, *cell.parameters())
    assert gradcheck(outputs, inputs, fast_mode=True)
    assert gradgradcheck(outputs, inputs, fast_mode=True)


@pytest.mark.parametrize("form", STACKS)
@pytest.mark.parametrize("of", ["output", "state", "output of one step", "state of one step"])
def test_gradients_of_one_output_alone(of: str, form: str) -> None:
    x, h = drawn(T, B, I), first_states(form)
    found = []
    for backend in ("cpu", "reference"):
        gru, run = steps_of_a_stack(backend, **STACKS[form])
        outputs, state = run(x[:1] if "one" in of else x, h)
        loss = outputs[-1].sin().sum() if "output" in of else state.cos().sum()
        found.append(torch.autograd.grad(loss, [x, h, *gru.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("form", STACKS)
def test_gradients_of_batched_cotangents(form: str) -> None:
    (gru, run), x, h = steps_of_a_stack("cpu", **STACKS[form]), drawn(T, B, I), first_states(form)
    outputs, _ = run(x, h)
    cotangents = torch.randn(4, *outputs[-1].shape, dtype=torch.float64)
    leaves = [x, h, *gru.parameters()]
    found = torch.autograd.grad(outputs[-1], leaves, cotangents, is_grads_batched=True, retain_graph=True)
    each = [torch.autograd.grad(outputs[-1], leaves, cotangent, retain_graph=True) for cotangent in cotangents]
    for got, expected in zip(found, zip(*each, strict=True), strict=True):
        torch.testing.assert_close(got, torch.stack(expected), rtol=1e-9, atol=1e-11)
