"""Chains of steps in the modes of torch: checkpoints, hooks, transforms, compilers, profilers, threads, autocast."""

import copy
import threading
import warnings
from collections.abc import Callable

import pytest
import torch
from step_chains import (
    TOLERANCES,
    Cell,
    Found,
    Situations,
    T,
    assert_nothing_is_left,
    assert_same,
    cell_of,
    chain,
    gradients,
    leaves,
    note_ways,
    one_thread,
    run,
    weighed,
)
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.graph import allow_mutation_on_saved_tensors, save_on_cpu, saved_tensors_hooks
from torch.func import functional_call, grad, jvp, vmap
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import fastgru

situation = Situations()
compiled = Situations()


def last_of(cell: Cell) -> Callable[[Tensor, Tensor], Tensor]:
    """From x [T, B, I] and a state to the last state."""
    return lambda x, state: chain(cell, x, state)[-1]


@pytest.mark.parametrize("steps", [1, 4, T])
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_checkpointed_parts_have_torchs_gradients(
    dtype: torch.dtype, reentrant: bool, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(cell: Cell) -> Found:
        x, h, cotangents = leaves(cell)
        state, states = h, []
        for first in range(0, T, steps):
            state = checkpoint(last_of(cell), x[first : first + steps], state, use_reentrant=reentrant)
            states.append(state)
        weighed(states, cotangents).backward()
        return [*states, *gradients(cell, x, h)]

    with one_thread():
        expected = found(cell_of(torch.nn.GRUCell, dtype))
        ways = note_ways(monkeypatch)
        assert_same(found(cell_of(fastgru.GRUCell, dtype)), expected, **TOLERANCES[dtype])
    assert set(ways) == ({"kernel", "other"} if reentrant else {"kernel"})  # reentrant: forward without gradients
    assert_nothing_is_left()


@situation("kernel", "other")
def a_reentrant_checkpoint_between_steps(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    states = chain(cell, x[:4], h)
    states.append(checkpoint(last_of(cell), x[4:8], states[-1], use_reentrant=True))
    states += chain(cell, x[8:], states[-1])
    weighed(states, cotangents).backward()
    return [*states, *gradients(cell, x, h)]


@situation()
def a_checkpoint_between_steps(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    states = chain(cell, x[:4], h)
    states.append(checkpoint(last_of(cell), x[4:8], states[-1], use_reentrant=False))
    states += chain(cell, x[8:], states[-1])
    loss = weighed(states, cotangents)
    loss.backward(retain_graph=True)
    loss.backward()
    return [*states, *gradients(cell, x, h)]


@situation()
def checkpoints_within_a_checkpoint(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)

    def both(x: Tensor, state: Tensor) -> Tensor:
        for part in x.split(T // 2):
            state = checkpoint(last_of(cell), part, state, use_reentrant=False)
        return state

    (checkpoint(both, x, h, use_reentrant=False) * cotangents[0]).sum().backward()
    return gradients(cell, x, h)


@situation()
def saved_tensors_packed_as_arrays(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    with saved_tensors_hooks(lambda tensor: tensor.detach().numpy().copy(), torch.from_numpy):
        states = chain(cell, x, h)
    weighed(states, cotangents).backward()
    return [*states, *gradients(cell, x, h)]


@situation()
def saved_tensors_moved_to_the_cpu(cell: Cell) -> Found:
    with save_on_cpu():
        return run(cell, leaves(cell))


@situation("other")
def saved_tensors_that_may_be_written_to(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    with allow_mutation_on_saved_tensors():
        loss = weighed(chain(cell, x, h), cotangents)
        with torch.no_grad():
            cell.weight_hh.mul_(2)
        loss.backward()
    return gradients(cell, x, h)


@situation()
def one_thread_for_the_engine(cell: Cell) -> Found:
    with torch.autograd.set_multithreading_enabled(False):
        return run(cell, leaves(cell))


@situation()
def a_default_device(cell: Cell) -> Found:
    given = leaves(cell)
    with torch.device("cpu"):
        return run(cell, given)


@situation()
def anomalies_detected(cell: Cell) -> Found:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's: it takes longer
        with torch.autograd.detect_anomaly(check_nan=True):
            return run(cell, leaves(cell))


@situation()
def autocast_in_backward_alone(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    loss = weighed(chain(cell, x, h), cotangents)
    is_theirs = isinstance(cell, torch.nn.GRUCell)  # whose products would be of bfloat16
    with torch.autocast("cpu", torch.bfloat16, enabled=not is_theirs):
        loss.backward()
    return gradients(cell, x, h)


@situation("other")
def transforms(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    x_t, state, tangent = x[0].detach(), h.detach(), cotangents[0]
    own = {name: weight.detach() for name, weight in cell.named_parameters()}

    def loss(own: dict[str, Tensor], x_t: Tensor, state: Tensor) -> Tensor:
        found: Tensor = functional_call(cell, own, (x_t, state))
        return found.square().sum()

    whole = grad(loss, argnums=(0, 1, 2))(own, x_t, state)
    of_samples = vmap(grad(loss), in_dims=(None, 0, 0))(own, x_t[:, None], state[:, None])
    forward = jvp(lambda state: cell(x_t, state), (state,), (tangent,))
    return [*whole[0].values(), *whole[1:], *of_samples.values(), *forward]


@situation("other")
def forward_mode(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell, steps=3)
    with forward_ad.dual_level():
        state = chain(cell, x, forward_ad.make_dual(h.detach(), cotangents[0]))[-1]
        return [*forward_ad.unpack_dual(state)]


@situation("kernel", "definition")
def forward_mode_through_backward(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell, steps=3)
    state = chain(cell, x, h)[-1]
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(cotangents[0], cotangents[1])
        found = torch.autograd.grad(state, [x, h, *cell.parameters()], dual)
        return [part for gradient in found for part in forward_ad.unpack_dual(gradient)]


@situation("kernel", "definition")
def batched_cotangents(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell, steps=3)
    state = chain(cell, x, h)[-1]
    return torch.autograd.grad(state, [x, h, *cell.parameters()], cotangents, is_grads_batched=True)


@situation("kernel", "definition")
def jacobians(cell: Cell) -> Found:
    x, h, _ = leaves(cell, steps=2)
    found: list[object] = []
    for vectorize in (False, True):
        found += torch.autograd.functional.jacobian(last_of(cell), (x, h), vectorize=vectorize)
    return found


@situation("kernel", "layer")
def products_with_a_hessian(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell, steps=2)
    given, vectors = (x.detach(), h.detach()), (x.detach().flip(0), cotangents[1])

    def loss(x: Tensor, state: Tensor) -> Tensor:
        return last_of(cell)(x, state).square().sum()

    value, of_rows = torch.autograd.functional.hvp(loss, given, vectors)
    _, of_columns = torch.autograd.functional.vhp(loss, given, vectors)
    return [value, *of_rows, *of_columns]


@situation("other")
def profiled(cell: Cell) -> Found:
    with torch.profiler.profile():
        return run(cell, leaves(cell))


@situation()
def profiled_in_backward_alone(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell)
    loss = weighed(chain(cell, x, h), cotangents)
    with torch.profiler.profile():
        loss.backward()
    return gradients(cell, x, h)


@situation("kernel", "definition")
def a_dispatch_mode_in_backward_alone(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell, steps=4)
    loss = weighed(chain(cell, x, h), cotangents)
    with FlopCounterMode(display=False):
        loss.backward()
    return gradients(cell, x, h)


@situation("other")
def a_tensor_of_another_class(cell: Cell) -> Found:
    class Marked(Tensor):
        """As a framework's own."""

    x, h, _ = leaves(cell)
    marked = h.detach().as_subclass(Marked).requires_grad_()
    chain(cell, x, marked)[-1].sum().backward()
    return [gradient.as_subclass(Tensor) for gradient in gradients(cell, x, marked) if gradient is not None]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", situation.known)
def test_a_mode_leaves_torchs_gradients(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    situation.compare(name, dtype, monkeypatch)


@compiled("other")
def a_compiled_chain(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell, steps=3)
    state = torch.compile(last_of(cell), backend="aot_eager", fullgraph=True)(x, h)
    (state * cotangents[0]).sum().backward()
    return [state, *gradients(cell, x, h)]


@compiled("other")
def a_compiled_cell(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell, steps=4)
    states = chain(torch.compile(cell, backend="aot_eager"), x, h)
    weighed(states, cotangents).backward()
    return [*states, *gradients(cell, x, h)]


@compiled("other", "kernel")
def a_compiled_chain_in_parts(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell, steps=4)
    alone: Callable[[Tensor, Tensor], Tensor] = torch._dynamo.disable(cell)

    def mixed(x: Tensor, state: Tensor) -> Tensor:
        state = alone(x[1], cell(x[0], state))
        return alone(x[3], cell(x[2], state))

    state = torch.compile(mixed, backend="aot_eager")(x, h)
    (state * cotangents[0]).sum().backward()
    return [state, *gradients(cell, x, h)]


@compiled("kernel", "definition")
def a_compiled_backward(cell: Cell) -> Found:
    x, h, cotangents = leaves(cell, steps=2)
    states = chain(cell, x, h)
    loss = weighed(states, cotangents)
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
        loss.backward()
    return [*states, *gradients(cell, x, h)]


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # dynamo looks at it
@pytest.mark.parametrize("name", compiled.known)
def test_a_compiler_leaves_torchs_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled.compare(name, torch.float64, monkeypatch)


def test_an_autocast_step_is_the_half_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = cell_of(fastgru.GRUCell, torch.float32)
    half = copy.deepcopy(cell).bfloat16()
    x, h, cotangents = leaves(cell)
    ways = note_ways(monkeypatch)
    found = []
    for used, cast in ((cell, Tensor.float), (half, Tensor.bfloat16)):
        x_t, state = (cast(tensor.detach()).requires_grad_() for tensor in (x[0], h))
        with torch.autocast("cpu", torch.bfloat16, enabled=used is cell):
            next_state = used(x_t, state)
        (next_state * cotangents[0].bfloat16()).sum().backward()
        found.append([next_state, *gradients(used, x_t, state)])
    for got, expected in zip(*found, strict=True):
        assert torch.equal(got, expected.to(got.dtype))
    assert set(ways) == {"other"}


def test_threads_add_to_the_same_gradients() -> None:
    cells = cell_of(torch.nn.GRUCell), cell_of(fastgru.GRUCell)
    with one_thread():
        for cell in cells:
            losses = []
            for number in range(4):
                x, h, cotangents = leaves(cell, seed=number)
                losses.append(weighed(chain(cell, x, h), cotangents))
            threads = [threading.Thread(target=loss.backward) for loss in losses]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert_same(gradients(cells[1]), gradients(cells[0]), **TOLERANCES[torch.float64])
