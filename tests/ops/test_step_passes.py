"""Backward passes through chains of steps, whole, in parts, failing, repeated, watched: gradients are torch's."""

import threading
import warnings
from typing import Any

import pytest
import torch
from step_chains import (
    TOLERANCES,
    B,
    Cell,
    Found,
    Situations,
    T,
    assert_nothing_is_left,
    cell_of,
    chain,
    gradients,
    leaves,
    run,
    weighed,
)
from torch import Tensor

import fastgru
from fastgru.ops import step_training

situation = Situations()


@situation()
def every_state_counts(cell: Cell) -> Found:
    return run(cell, leaves(cell))


@situation()
def the_last_state_counts(cell: Cell) -> Found:
    x, h, _ = leaves(cell)
    chain(cell, x, h)[-1].sum().backward()
    return gradients(cell, x, h)


@situation()
def losses_of_two_states(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    states = chain(cell, x, h)
    torch.autograd.backward([states[2], states[5]], [cotangents[0], cotangents[1]])
    return gradients(cell, x, h)


@situation()
def a_long_chain(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell, steps=1500, batch=1)
    (chain(cell, x, h)[-1] * cotangents[0]).sum().backward()
    return gradients(cell, x, h)


@situation()
def one_sequence(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    states = chain(cell, x[:, 0], h[0])
    weighed(states, cotangents[:, 0]).backward()
    return [*states, *gradients(cell, x, h)]


@situation()
def no_first_state(cell: Cell) -> Found:
    x, _, cotangents = leaves(cell)
    states = chain(cell, x, None)
    weighed(states, cotangents).backward()
    return [*states, *gradients(cell, x)]


@situation()
def a_graph_kept_for_a_second_pass(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    loss = weighed(chain(cell, x, h), cotangents)
    loss.backward(retain_graph=True)
    loss.backward()
    return gradients(cell, x, h)


@situation()
def a_second_pass_without_its_graph(cell: Cell) -> Found:
    x, h, _ = leaves(cell)
    loss = chain(cell, x, h)[-1].sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()
    return gradients(cell, x, h)


@situation()
def gradients_of_inputs_and_then_of_all(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    loss = weighed(chain(cell, x, h), cotangents)
    of_inputs = torch.autograd.grad(loss, [x, h], retain_graph=True)
    assert gradients(cell) == [None] * 4
    assert_nothing_is_left()
    loss.backward()
    return [*of_inputs, *gradients(cell, x, h)]


@situation()
def gradients_of_some_weights(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    loss = weighed(chain(cell, x, h), cotangents)
    of_one = torch.autograd.grad(loss, cell.weight_hh, retain_graph=True)
    of_two = torch.autograd.grad(loss, [cell.get_parameter("bias_ih"), x], retain_graph=True)
    loss.backward(inputs=[cell.weight_ih])
    return [*of_one, *of_two, *gradients(cell)]


@situation()
def gradients_of_states_between(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    states = chain(cell, x, h)
    loss = weighed(states, cotangents)
    of_states = torch.autograd.grad(loss, [states[4], states[7]], retain_graph=True)
    edge = torch.autograd.graph.get_gradient_edge(states[4])
    return [*of_states, *torch.autograd.grad(loss, [edge, torch.autograd.graph.get_gradient_edge(cell.weight_ih)])]


@situation()
def stretches_of_a_stream(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    kept = []
    for first in range(0, T, 4):
        states = chain(cell, x[first : first + 4], h)
        kept.append(states)
        weighed(states, cotangents[first:]).backward()
        h = states[-1].detach()
    return gradients(cell, x)


@situation()
def one_step_a_pass(cell: Cell) -> Found:
    x, state, cotangents = leaves(cell)
    for x_t, cotangent in zip(x, cotangents, strict=True):
        found = cell(x_t, state)
        (found * cotangent).sum().backward()
        state = found.detach()
    return gradients(cell, x)


@situation()
def detached_parts_in_one_pass(cell: Cell) -> Found:
    x, h, _ = leaves(cell)
    first = chain(cell, x[:6], h)
    second = chain(cell, x[6:], first[-1].detach())
    (first[-1].sum() + 2 * second[-1].sum()).backward()
    return gradients(cell, x, h)


@situation()
def passes_that_overlap(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    states = chain(cell, x, h)
    states[5].sum().backward(retain_graph=True)
    (states[11] * cotangents[0]).sum().backward(retain_graph=True)
    states[2].sum().backward()
    return gradients(cell, x, h)


@situation()
def steps_that_lead_nowhere(cell: Cell) -> Found:
    x, h, _ = leaves(cell)
    states = chain(cell, x, h)
    chain(cell, x, states[3])
    cell(x[0], states[1])
    states[-1].sum().backward()
    return gradients(cell, x, h)


@situation()
def passes_over_several_sequences(cell: Cell) -> Found:
    kept = []
    for seed in range(3):
        given = leaves(cell, seed=seed)
        kept.append(run(cell, given))
    return gradients(cell)


@situation()
def all_forward_and_then_all_backward(cell: Cell) -> Found:
    losses = []
    for seed in range(3):
        x, h, cotangents = leaves(cell, seed=seed)
        losses.append(weighed(chain(cell, x, h), cotangents))
    for loss in reversed(losses):
        loss.backward()
    return gradients(cell)


@situation()
def three_chains_in_one_graph(cell: Cell) -> Found:
    x, h, _ = leaves(cell)
    first = chain(cell, x, h)
    second = chain(cell, x.flip(0), first[-1] / 2)
    smaller = chain(cell, x[:3, :2], h[:2])
    (second[-1].sum() + smaller[-1].square().sum() + first[4].sum()).backward()
    return gradients(cell, x, h)


@situation("kernel", "other")
def first_steps_without_gradients(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    with torch.no_grad():
        state = chain(cell, x[:4], h)[-1]
    states = chain(cell, x[4:], state)
    weighed(states, cotangents).backward()
    return [*states, *gradients(cell, x)]


@situation("kernel", "other")
def a_step_between_without_gradients(cell: Cell) -> Found:
    x, state, cotangents = leaves(cell)
    states = []
    for t, x_t in enumerate(x):
        with torch.set_grad_enabled(t != 4):
            state = cell(x_t, state)
        states.append(state)
    weighed(states, cotangents).backward()
    return [*states, *gradients(cell, x)]


@situation()
def sequences_that_begin_anew(cell: Cell) -> Found:
    x, state, cotangents = leaves(cell)
    states = []
    for t, x_t in enumerate(x):
        state = cell(x_t, state)
        states.append(state.clone())
        state[t % B] = 0  # in place, as where one of several episodes has ended
    weighed(states, cotangents).backward()
    return [*states, *gradients(cell, x)]


@situation()
def strided_inputs_and_states_with_gradients(cell: Cell) -> Found:
    x, h, _ = leaves(cell)
    states = chain(cell, x.transpose(0, 1).contiguous().transpose(0, 1), h.t().contiguous().t())
    for state in states:
        state.retain_grad()
    (states[-1].t() @ states[3]).sum().backward()
    return [*gradients(cell, x, h), *(state.grad for state in states)]


@situation("kernel", "layer")
def a_penalty_on_gradients(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell, steps=4)
    loss = weighed(chain(cell, x, h), cotangents)
    dx, dw = torch.autograd.grad(loss, [x, cell.weight_hh], create_graph=True)
    (dx.square().sum() + dw.pow(3).sum() + loss).backward()
    return [dx, dw, *gradients(cell, x, h)]


@situation("kernel", "layer")
def all_gradients_differentiated(cell: Cell) -> Found:
    x, h, _ = leaves(cell, steps=3)
    loss = chain(cell, x, h)[-1].square().sum()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's: a reference cycle, which is undone below
        loss.backward(create_graph=True)
    first = [parameter.grad for parameter in cell.parameters()]
    squares = torch.stack([gradient.square().sum() for gradient in first if gradient is not None]).sum()
    second = torch.autograd.grad(squares, [*cell.parameters(), x, h])
    for leaf in (*cell.parameters(), x, h):
        leaf.grad = None
    return [*first, *second]


@situation()
def an_exception_in_the_middle(cell: Cell) -> Found:
    x, h, _ = leaves(cell)
    states = chain(cell, x, h)

    def fail(_: Tensor) -> None:
        raise ValueError("in the middle")

    hook = states[5].register_hook(fail)
    with pytest.raises(ValueError, match="in the middle"):
        states[-1].sum().backward(retain_graph=True)
    assert gradients(cell) == [None] * 4
    assert_nothing_is_left()
    hook.remove()
    states[-1].sum().backward()
    return gradients(cell, x, h)


@situation()
def a_pass_within_a_pass(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    states = chain(cell, x, h)
    inner: list[Tensor] = []

    @torch.enable_grad()
    def another(_: Tensor) -> None:
        x, h, cotangents = leaves(cell, steps=3, seed=2)
        inner.extend(torch.autograd.grad(weighed(chain(cell, x, h), cotangents), [x, h, *cell.parameters()]))

    states[6].register_hook(another)
    weighed(states, cotangents).backward()
    return [*inner, *gradients(cell, x, h)]


@situation()
def an_input_overwritten_after_its_step(cell: Cell) -> Found:
    x, h, _ = leaves(cell)
    given = x.detach().clone()
    states = chain(cell, given, h)

    def overwrite(_: Tensor) -> None:  # the steps after this one are through
        given.data[3:] = 100.0

    states[2].register_hook(overwrite)
    states[-1].sum().backward()
    return gradients(cell, h)


@situation()
def an_input_written_to_before_backward(cell: Cell) -> Found:
    x, h, _ = leaves(cell)
    given = x.detach().clone()
    states = chain(cell, given, h)
    given.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        states[-1].sum().backward()
    return states


@situation("kernel", "layer")
def nodes_called_by_hand(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell, steps=2)
    states = chain(cell, x, h)
    found = [*torch.autograd.grad(states[0], [x, h], cotangents[0], retain_graph=True)]
    found += torch.autograd.grad(states[1], [x, states[0]], cotangents[1])
    if isinstance(cell, torch.nn.GRUCell):  # whose nodes are others
        return [found[0][0], found[1], found[2][1], found[3]]
    states = chain(cell, x, h)
    with torch.no_grad():
        return [dx_or_dh for t in (0, 1) for dx_or_dh in applied(states[t], cotangents[t])]


def applied(state: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of a step's input and state: they come after those of its graph, results and token."""
    node: Any = state.grad_fn
    _, _, _, dx, dh, *_ = node.apply(cotangent)
    return dx, dh


@situation()
def a_pass_in_another_thread(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    thread = threading.Thread(target=weighed(chain(cell, x, h), cotangents).backward)
    thread.start()
    thread.join()
    return gradients(cell, x, h)


@situation()
def four_passes_of_one_graph_at_once(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    states = chain(cell, x, h)
    found: dict[int, tuple[Tensor, ...]] = {}

    def differentiate(number: int) -> None:
        loss = (states[-1] * cotangents[number]).sum()
        found[number] = torch.autograd.grad(loss, [x, h, *cell.parameters()], retain_graph=True)

    threads = [threading.Thread(target=differentiate, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [gradient for number in range(4) for gradient in found[number]]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", situation.known)
def test_a_pass_gives_torchs_gradients(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    situation.compare(name, dtype, monkeypatch)


def test_steps_leave_something_only_where_weights_want_it() -> None:
    cell = cell_of(fastgru.GRUCell)
    x, h, _ = leaves(cell)
    states = chain(cell, x, h)
    graph = step_training._graphs[id(cell.weight_hh)]
    seen: list[bool] = []
    states[2].register_hook(lambda _: seen.extend(left is not None for left in graph.passes.values()))
    for leaf in (x, cell.weight_hh):
        torch.autograd.grad(states[-1].sum(), leaf, retain_graph=True)
    assert seen == [False, True]
