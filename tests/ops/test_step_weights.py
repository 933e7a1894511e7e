"""The weights of a chain of steps: frozen, written to, replaced, shared, made anew; and whoever uses them beside it."""

import copy
import pickle

import pytest
import torch
from step_chains import (
    TOLERANCES,
    Cell,
    Found,
    H,
    Situations,
    T,
    cell_of,
    chain,
    gradients,
    leaves,
    run,
    weighed,
)
from torch import Tensor
from torch.nn.utils import parametrizations, parametrize

situation = Situations()


@situation()
def no_bias(cell: Cell) -> Found:
    cell = cell_of(type(cell), cell.weight_hh.dtype, bias=False)
    return run(cell, leaves(cell))


@situation()
def each_subset_that_wants_gradients(cell: Cell) -> Found:
    found: list[object] = []
    for subset in range(16):
        for i, parameter in enumerate(cell.parameters()):
            parameter.requires_grad_(bool(subset >> i & 1))
            parameter.grad = None
        found += run(cell, leaves(cell))
    return found


@situation()
def none_that_wants_gradients(cell: Cell) -> Found:
    cell.requires_grad_(False)
    return run(cell, leaves(cell))


@situation()
def one_frozen_and_thawed_within_a_graph(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    states = chain(cell, x[:4], h)
    cell.weight_hh.requires_grad_(False)
    states += chain(cell, x[4:8], states[-1])
    cell.weight_hh.requires_grad_(True)
    states += chain(cell, x[8:], states[-1])
    weighed(states, cotangents).backward()
    return gradients(cell, x, h)


@situation()
def one_frozen_before_backward(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    loss = weighed(chain(cell, x, h), cotangents)
    cell.weight_hh.requires_grad_(False)
    loss.backward()
    return gradients(cell, x, h)


@situation("kernel", "layer")
def one_frozen_before_a_pass_that_is_differentiated(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell, steps=4)
    loss = weighed(chain(cell, x, h), cotangents)
    cell.weight_hh.requires_grad_(False)
    dx, dw = torch.autograd.grad(loss, [x, cell.weight_ih], create_graph=True)
    (dx.sum() + dw.square().sum()).backward()
    return [dx, dw, *gradients(cell, x, h)]


@situation("kernel", "layer")
def one_thawed_before_backward(cell: Cell) -> Found:
    cell.weight_hh.requires_grad_(False)
    x, h, cotangents = leaves(cell, steps=4)
    loss = weighed(chain(cell, x, h), cotangents)
    cell.weight_hh.requires_grad_(True)
    loss.backward(retain_graph=True)
    return [*torch.autograd.grad(loss, [x, cell.weight_ih], create_graph=True), *gradients(cell, x, h)]


@situation()
def written_to_before_backward(cell: Cell) -> Found:
    x, h, _ = leaves(cell)
    states = chain(cell, x, h)
    with torch.no_grad():
        cell.weight_hh.mul_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        states[-1].sum().backward()
    return [*states, *gradients(cell)]


@situation()
def written_to_by_a_hook(cell: Cell) -> Found:
    x, h, _ = leaves(cell)
    states = chain(cell, x, h)

    @torch.no_grad()
    def write(_: Tensor) -> None:
        cell.weight_hh.add_(1)

    states[5].register_hook(write)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        states[-1].sum().backward()
    return [*states, *gradients(cell)]


@situation()
def biases_written_to_before_backward(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    loss = weighed(chain(cell, x, h), cotangents)
    with torch.no_grad():
        cell.get_parameter("bias_ih").add_(1)
        cell.get_parameter("bias_hh").add_(1)
    loss.backward()
    return gradients(cell, x, h)


@situation()
def not_a_number(cell: Cell) -> Found:
    with torch.no_grad():
        cell.weight_hh[0, 0] = torch.nan
    return run(cell, leaves(cell, steps=3))


@situation()
def strided(cell: Cell) -> Found:
    cell.weight_hh.data = cell.weight_hh.data.t().contiguous().t()
    return run(cell, leaves(cell))


@situation()
def an_optimizer_between_stretches(cell: Cell) -> Found:
    optimizer = torch.optim.SGD(cell.parameters(), 0.1)
    x, h, cotangents = leaves(cell)
    kept = []
    for first in range(0, T, 3):
        optimizer.zero_grad()
        states = chain(cell, x[first : first + 3], h)
        kept.append(states)
        weighed(states, cotangents[first:]).backward()
        optimizer.step()
        h = states[-1].detach()
    return [*cell.parameters()]


@situation()
def a_fused_optimizer_beside_graphs_that_live_on(cell: Cell) -> Found:
    optimizer = torch.optim.Adam(cell.parameters(), fused=True)
    kept = []
    for seed in range(3):
        optimizer.zero_grad()
        kept.append(run(cell, leaves(cell, seed=seed)))
        optimizer.step()
    return [*cell.parameters()]


@situation()
def an_optimizer_within_the_pass(cell: Cell) -> Found:
    def update(parameter: Tensor) -> None:
        assert parameter.grad is not None
        parameter.data.add_(parameter.grad, alpha=-0.1)
        parameter.grad = None

    for parameter in cell.parameters():
        parameter.register_post_accumulate_grad_hook(update)
    kept = []
    for seed in range(3):
        x, h, cotangents = leaves(cell, seed=seed)
        states = chain(cell, x, h)
        kept.append(states)
        weighed(states, cotangents).backward()
    return [*cell.parameters()]


@situation()
def optimizers_of_their_own_within_the_pass(cell: Cell) -> Found:
    optimizers = {parameter: torch.optim.SGD([parameter], 0.1) for parameter in cell.parameters()}

    def update(parameter: Tensor) -> None:
        optimizers[parameter].step()  # type: ignore[index]
        optimizers[parameter].zero_grad()  # type: ignore[index]

    for parameter in optimizers:
        parameter.register_post_accumulate_grad_hook(update)
    for seed in range(3):
        run(cell, leaves(cell, seed=seed))
    return [*cell.parameters()]


@situation()
def used_elsewhere_too(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    (weighed(chain(cell, x, h), cotangents) + cell.weight_hh.square().sum()).backward()
    return gradients(cell, x, h)


@situation()
def one_that_two_cells_share(cell: Cell) -> Found:
    other = cell_of(type(cell), cell.weight_hh.dtype)
    other.weight_hh = cell.weight_hh
    x, state, cotangents = leaves(cell)
    states = []
    for x_t in x:
        state = other(x_t, cell(x_t, state))
        states.append(state)
    weighed(states, cotangents).backward()
    return [*states, *gradients(cell, x), *gradients(other)]


@situation()
def one_for_inputs_and_states(cell: Cell) -> Found:
    cell = cell_of(type(cell), cell.weight_hh.dtype, features=H)
    cell.weight_ih = cell.weight_hh
    cell.bias_ih = cell.bias_hh
    return run(cell, leaves(cell))


@situation()
def parameters_as_inputs(cell: Cell) -> Found:
    x, h, _ = leaves(cell)
    x_t, state = torch.nn.Parameter(x[0].detach()), torch.nn.Parameter(h.detach())
    cell(x_t, state).sum().backward()
    return gradients(cell, x_t, state)


@situation()
def replaced_within_a_graph(cell: Cell) -> Found:
    leaf, factor = as_function_of_a_leaf(cell), torch.tensor(2.0, dtype=cell.weight_hh.dtype, requires_grad=True)
    x, h, cotangents = leaves(cell)
    states = chain(cell, x[:1], h)
    cell.weight_hh = cell.weight_hh * factor
    states += chain(cell, x[1:3], states[-1])
    weighed(states, cotangents).backward()
    return [leaf.grad, factor.grad, *gradients(cell, x, h)]


@situation()
def written_to_with_a_gradient_between_graphs(cell: Cell) -> Found:
    leaf = as_function_of_a_leaf(cell)
    x, h, cotangents = leaves(cell)
    before = chain(cell, x[:3], h)
    cell.weight_hh.mul_(2)
    weighed(chain(cell, x[3:], before[-1].detach()), cotangents).backward()
    return [*before, leaf.grad, *gradients(cell, x)]


def as_function_of_a_leaf(cell: Cell) -> Tensor:
    """Let W_hh be no leaf: the leaf that it is made of."""
    leaf = cell.weight_hh.detach().clone().requires_grad_()
    del cell.weight_hh
    cell.weight_hh = leaf * 1.0
    return leaf


@situation()
def made_anew_for_every_step(cell: Cell) -> Found:
    own = {name: (weight.detach() * 1.5).requires_grad_() for name, weight in cell.named_parameters()}
    x, state, cotangents = leaves(cell)
    states = []
    for x_t in x:
        scaled = {name: 0.9 * weight for name, weight in own.items()}
        state = torch.func.functional_call(cell, scaled, (x_t, state))
        states.append(state)
    weighed(states, cotangents).backward()
    return [*states, x.grad, *(weight.grad for weight in own.values())]


@situation()
def normalised_for_every_step(cell: Cell) -> Found:
    cell = parametrizations.weight_norm(cell, "weight_hh")
    return run(cell, leaves(cell))


@situation()
def normalised_for_a_chain(cell: Cell) -> Found:
    cell = parametrizations.weight_norm(cell, "weight_hh")
    x, h, cotangents = leaves(cell)
    with parametrize.cached():
        states = chain(cell, x, h)
    weighed(states, cotangents).backward()
    return [*states, *gradients(cell, x, h)]


@situation()
def of_a_module_that_is_gone(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    parameters = [*cell.parameters()]
    loss = weighed(chain(cell, x, h), cotangents)
    del cell
    loss.backward()
    return [x.grad, h.grad, *(parameter.grad for parameter in parameters)]


@situation()
def copied_and_pickled_within_a_graph(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    states = chain(cell, x[:6], h)
    copied, pickled = copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))
    states += chain(copied, x[6:8], states[-1])
    states += chain(pickled, x[8:10], states[-1])
    states += chain(cell, x[10:], states[-1])
    weighed(states, cotangents).backward()
    return [*states, *gradients(cell, x, h), *gradients(copied), *gradients(pickled)]


@situation("other")
def made_in_inference_mode(cell: Cell) -> Found:
    with torch.inference_mode():
        made = cell_of(type(cell), cell.weight_hh.dtype)
    x, h, _ = leaves(cell)
    with pytest.raises(RuntimeError, match=r"[Ii]nference tensors"):
        made(x[0], h)
    with torch.inference_mode():
        return chain(made, x, h)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", situation.known)
def test_weights_have_torchs_gradients(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    situation.compare(name, dtype, monkeypatch)
