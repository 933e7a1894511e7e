"""Steps of which gradients are wanted: their numbers in every form, and what a graph and a backward pass keep."""

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

import fastgru
from fastgru.ops import step_training

I, H, T = 5, 19, 6

FORMS: dict[str, dict[str, object]] = {
    "plain": {},
    "without bias": {"bias": False},
    "original cell": {"reset_after": False},
    "original cell without bias": {"reset_after": False, "bias": False},
    "layer norm": {"layer_norm": True},
    "layer norm without bias": {"layer_norm": True, "bias": False},
    "zoneout": {"zoneout": 0.3},
    "recurrent dropout": {"recurrent_dropout": 0.4},
    "all masks": {"zoneout": 0.3, "recurrent_dropout": 0.4},
    "all masks, original cell": {"zoneout": 0.3, "recurrent_dropout": 0.4, "reset_after": False},
    "all masks, layer norm": {"zoneout": 0.3, "recurrent_dropout": 0.4, "layer_norm": True},
}
STACKS: dict[str, dict[str, object]] = {
    "one layer": {},
    "three layers": {"num_layers": 3},
    "twenty layers": {"num_layers": 20},
    "bidirectional": {"bidirectional": True},
    "three layers, bidirectional": {"num_layers": 3, "bidirectional": True},
    "batch first": {"num_layers": 2, "batch_first": True},
    "learned start": {"num_layers": 2, "learn_initial_state": True},
    "layer norm": {"num_layers": 2, "layer_norm": True, "bidirectional": True},
    "original cell": {"num_layers": 2, "reset_after": False},
    "masks": {"zoneout": 0.3, "recurrent_dropout": 0.4, "bidirectional": True},
    "masks of two layers": {"num_layers": 2, "zoneout": 0.3},
    "dropout between layers": {"num_layers": 2, "dropout": 0.5},
    "dropped weights": {"weight_dropout": 0.5},
    "sizes of layers": {"hidden_size": (7, 9)},
    "all layers": {"num_layers": 2, "return_all_layers": True},
    "recompute": {"num_layers": 2, "memory": "recompute"},
}
GOES_ON = {"masks of two layers", "dropout between layers", "dropped weights", "sizes of layers", "recompute"}


def steps_of(cell: torch.nn.Module, x: Tensor, h: Tensor | None) -> list[Tensor]:
    """The states after each step."""
    states = []
    for x_t in x:
        h = cell(x_t, h)
        states.append(h)
    return states  # type: ignore[return-value]


def twins(cell: Callable[..., torch.nn.Module], **options: object) -> tuple[torch.nn.Module, torch.nn.Module]:
    """One on the kernels and one of the definition, with the same weights, none of them at a special value."""
    ours, reference = cell(backend="cpu", **options), cell(backend="reference", **options)
    with torch.no_grad():
        for weight in ours.parameters():
            weight.copy_(torch.randn_like(weight) * 0.5)
    reference.load_state_dict(ours.state_dict())
    return ours, reference


def assert_same(run: Callable[[torch.nn.Module], list[Tensor]], ours: torch.nn.Module, other: torch.nn.Module) -> None:
    """The same results, and the same gradients of all weights, for the same masks."""
    found = []
    for module in (ours, other):
        torch.manual_seed(3)
        found.append([*run(module), *(p.grad for p in module.parameters())])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8, 9, 40, 513])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_steps_of_a_cell_are_the_definitions(form: str, batch: int, training: bool) -> None:
    def cell(**options: object) -> torch.nn.Module:
        return fastgru.GRUCell(I, H, dtype=torch.float64, **options).train(training)  # type: ignore[arg-type]

    x, h, weights = (torch.randn(*size, dtype=torch.float64) for size in ((T, batch, I), (batch, H), (T, batch, H)))

    def run(cell: torch.nn.Module) -> list[Tensor]:
        given, start = x.clone().requires_grad_(), h.clone().requires_grad_()
        states = torch.stack(steps_of(cell, given, start))
        (states * weights).sum().backward()
        assert given.grad is not None
        assert start.grad is not None
        return [states, given.grad, start.grad]

    assert_same(run, *twins(cell, **FORMS[form]))


@pytest.mark.parametrize("size", [1, 2, 7, 8, 15, 16, 17, 33, 64, 100])
@pytest.mark.parametrize("form", ["plain", "original cell", "layer norm"])
def test_any_number_of_units_and_of_inputs(form: str, size: int) -> None:
    other = 131 - size
    for inputs, hidden in ((size, other), (other, size)):
        ours, reference = (
            fastgru.GRUCell(inputs, hidden, dtype=torch.float64, backend=backend, **FORMS[form])  # type: ignore[arg-type]
            for backend in ("cpu", "reference")
        )
        reference.load_state_dict(ours.state_dict())
        x = torch.randn(2, 4, inputs, dtype=torch.float64)

        def run(cell: torch.nn.Module, x: Tensor = x) -> list[Tensor]:
            given = x.clone().requires_grad_()
            steps_of(cell, given, None)[-1].sin().sum().backward()
            assert given.grad is not None
            return [given.grad]

        if form != "layer norm" or hidden > 4:  # a norm of few numbers is nothing but cancellation
            assert_same(run, ours, reference)


@pytest.mark.parametrize("options", STACKS)
@pytest.mark.parametrize("batch", [1, 3, 40, 513])
def test_calls_over_one_step_are_the_definitions(options: str, batch: int) -> None:
    def layer(**given: object) -> torch.nn.Module:
        return fastgru.GRU(I, **{"hidden_size": H, "dtype": torch.float64, **given})  # type: ignore[arg-type]

    x = torch.randn(T, 1, batch, I, dtype=torch.float64)

    def run(gru: torch.nn.Module) -> list[Tensor]:
        given, state, outputs = x.clone().requires_grad_(), None, []
        for x_t in given:
            y, state = gru(x_t.transpose(0, 1) if gru.batch_first else x_t, state)
            outputs += y if isinstance(y, list) else [y]
        assert state is not None
        (sum(y.sin().sum() for y in outputs) + state.cos().sum()).backward()
        assert given.grad is not None
        return [*outputs, state, given.grad]

    assert_same(run, *twins(layer, **STACKS[options]))


@pytest.mark.parametrize("form", [*FORMS, "two layers", "learned start"])
@pytest.mark.parametrize("shape", [(I,), (1, I), (4, I)], ids=str)
def test_chained_steps_of_a_layer_have_gradients(form: str, shape: tuple[int, ...]) -> None:
    given = {**FORMS, "two layers": {"num_layers": 2}, "learned start": {"learn_initial_state": True}}[form]

    def layer(**options: object) -> torch.nn.Module:
        return fastgru.GRU(I, H, dtype=torch.float64, **options)  # type: ignore[arg-type]

    x = torch.randn(T, *shape, dtype=torch.float64)

    def run(gru: torch.nn.Module) -> list[Tensor]:
        state, outputs = None, []
        for x_t in x:
            y, state = gru.step(x_t, state)
            outputs.append(y)
        torch.stack(outputs).sin().sum().backward()
        return outputs

    assert_same(run, *twins(layer, **given))


def test_what_is_one_call_of_the_kernel() -> None:
    """Not what a kernel of one step cannot do: that goes on as a sequence of one."""
    x = torch.randn(1, 3, I)
    for name, options in STACKS.items():
        gru = fastgru.GRU(I, **{"hidden_size": H, **options})  # type: ignore[arg-type]
        y, _ = gru(x.transpose(0, 1) if gru.batch_first else x)
        y = y[-1] if isinstance(y, list) else y
        names = {node.name() for node in [y.grad_fn, *(edge[0] for edge in y.grad_fn.next_functions)] if node}
        assert ("_StepBackward" in names) == (name not in GOES_ON | {"all layers"}), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2, 7, 100, 700])
def test_many_rows_are_multiplied_in_parts(dtype: torch.dtype, count: int) -> None:
    """700 steps of 3 sequences are 2,100 rows of records, of which 256 are kept at once."""
    theirs, ours = torch.nn.GRUCell(I, H, dtype=dtype), fastgru.GRUCell(I, H, dtype=dtype)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(count, 3, I, dtype=dtype)
    found = []
    for cell in (ours, theirs):
        torch.stack(steps_of(cell, x, None)).sin().sum().backward()  # type: ignore[no-untyped-call]
        found.append([p.grad for p in cell.parameters()])
    bound = 1e-5 if dtype is torch.float32 else 1e-12
    torch.testing.assert_close(*found, rtol=bound, atol=bound * count)


def living(before: Sequence[step_training.StepGraph] = ()) -> list[step_training.StepGraph]:
    """Without those of `before`: another test's may wait for the garbage collector."""
    return [graph for graph in step_training._graphs.values() if all(graph is not other for other in before)]


def chain(cell: torch.nn.Module) -> Tensor:
    return steps_of(cell, torch.randn(T, 3, I), None)[-1].sum()


def test_a_graph_is_held_by_its_steps_alone() -> None:
    """It goes with them, without the garbage collector's help, and so do the weights."""
    gc.collect()
    gc.disable()
    try:
        before = len(living())
        cell = fastgru.GRUCell(I, H)
        weight = weakref.ref(cell.weight_hh)
        loss = chain(cell)
        assert len(living()) == before + 1
        loss.backward(retain_graph=True)
        loss.backward()
        del loss
        assert len(living()) == before
        chain(cell)
        assert len(living()) == before
        cell.zero_grad()
        del cell
        assert weight() is None
    finally:
        gc.enable()


def test_nothing_is_left_of_a_backward_pass_however_it_ends() -> None:
    before, cell = living(), fastgru.GRUCell(I, H)
    states = steps_of(cell, torch.randn(T, 3, I), None)
    (graph,) = living(before)

    def fail(_: Tensor) -> None:
        assert len(graph.passes) == 1
        raise ValueError("no further")

    hook = states[2].register_hook(fail)
    with pytest.raises(ValueError, match="no further"):
        states[-1].sum().backward(retain_graph=True)
    assert graph.passes == {}
    assert all(p.grad is None for p in cell.parameters())
    hook.remove()
    states[-1].sum().backward(retain_graph=True)
    assert graph.passes == {}
    torch.autograd.grad(states[-1].sum(), states[0])
    assert graph.passes == {}


def test_one_step_pays_for_no_token() -> None:
    before, cell = living(), fastgru.GRUCell(I, H)
    state = cell(torch.randn(3, I))
    (graph,) = living(before)
    assert graph.token is None
    state = cell(torch.randn(3, I), state)
    assert graph.token is not None
    assert graph.token.untyped_storage().nbytes() <= 8


def test_steps_of_other_weights_or_modes_are_another_graph() -> None:
    before, cell = living(), fastgru.GRUCell(I, H)
    states = [cell(torch.randn(3, I))]
    (first,) = living(before)
    cell.bias_hh.requires_grad_(False)
    states.append(cell(torch.randn(3, I), states[-1]))
    assert living(before) != [first]
    cell.bias_hh.requires_grad_(True)
    with torch.no_grad():
        cell.weight_hh.mul_(2)
    states.append(cell(torch.randn(3, I), states[-1]))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        states[-1].sum().backward()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda cell: pickle.loads(pickle.dumps(cell))])
def test_copies_have_graphs_of_their_own(copied: Callable[[torch.nn.Module], torch.nn.Module]) -> None:
    cell = fastgru.GRUCell(I, H)
    loss = chain(cell)
    other = copied(cell)
    chain(other).backward()
    assert all(p.grad is None for p in cell.parameters())
    loss.backward()
    assert all(p.grad is not None for p in cell.parameters())


def test_cells_shared_by_threads() -> None:
    """Graphs of several threads may share the weights' token: each backward pass has its own rows."""
    cell, rounds, workers = fastgru.GRUCell(I, H, dtype=torch.float64), 40, 4
    x = torch.randn(workers, T, 3, I, dtype=torch.float64)
    expected = []
    for sequence in x:
        loss = steps_of(cell, sequence, None)[-1].sum()
        expected.append(torch.autograd.grad(loss, list(cell.parameters())))
    begin, wrong = threading.Barrier(workers), []

    def work(number: int) -> None:
        begin.wait()
        for _ in range(rounds):
            loss = steps_of(cell, x[number], None)[-1].sum()
            found = torch.autograd.grad(loss, list(cell.parameters()))
            wrong.extend(1 for one, two in zip(found, expected[number], strict=True) if not torch.allclose(one, two))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert all(not graph.passes for graph in living())


def test_options_of_a_cell() -> None:
    cell = fastgru.GRUCell(I, H, layer_norm=True, zoneout=0.1)
    assert [*cell.state_dict()] == ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "gain_ih", "gain_hh"]
    assert torch.equal(cell.gain_ih, torch.ones(3 * H))
    assert repr(cell) == f"GRUCell({I}, {H}, zoneout=0.1, layer_norm=True)"
    assert repr(fastgru.GRUCell(I, H)) == repr(torch.nn.GRUCell(I, H))
    with pytest.raises(ValueError, match="zoneout must be a probability"):
        fastgru.GRUCell(I, H, zoneout=2)
    with pytest.raises(ValueError, match="layer_norm=True normalises all 3H rows"):
        fastgru.GRUCell(I, H, layer_norm=True, reset_after=False)
    with pytest.raises(RuntimeError, match="aten: torch's operator knows no"):
        fastgru.GRUCell(I, H, zoneout=0.1, backend="aten")(torch.randn(3, I))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_cell_in_inference_is_the_definition(form: str, batch: int) -> None:
    def cell(**options: object) -> torch.nn.Module:
        return fastgru.GRUCell(I, H, dtype=torch.float64, **options).eval()  # type: ignore[arg-type]

    ours, reference = twins(cell, **FORMS[form])
    x, h = torch.randn(batch, I, dtype=torch.float64), torch.randn(batch, H, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x, h), reference(x, h), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ours(x[0]), reference(x[0]), rtol=1e-12, atol=1e-12)


def test_a_cell_has_one_layer_of_one_direction() -> None:
    """Its state has no room for more."""
    for options in ({"num_layers": 2}, {"bidirectional": True}):
        gru = fastgru.GRU(H, H, **options)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="a cell has one layer of one direction"):
            step_training.StepWeights(gru._stack().variant, gru.num_layers, gru.weights(), True)
