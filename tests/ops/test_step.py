"""Single steps: a chain of them is one pass, whatever way each takes, and never with weights that are gone."""

import copy
import pickle
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import fastgru
from fastgru import ops

T, I, H = 7, 5, 19

OPTIONS: dict[str, dict[str, object]] = {
    "plain": {},
    "two layers": {"num_layers": 2},
    "without bias": {"num_layers": 2, "bias": False},
    "double": {"dtype": torch.float64},
    "half": {"dtype": torch.bfloat16},
    "batch first": {"batch_first": True},
    "zoneout": {"zoneout": 0.3, "num_layers": 2},
    "noise": {"dropout": 0.4, "recurrent_dropout": 0.4, "weight_dropout": 0.4, "num_layers": 2},
    "learned start": {"learn_initial_state": True, "num_layers": 2},
    "original cell": {"reset_after": False},
    "layer norm": {"layer_norm": True},
    "layer norm without bias": {"layer_norm": True, "bias": False},
    "reference": {"backend": "reference"},
}


def layer(**options: object) -> fastgru.GRU:
    """In eval, with an initial state that is not zero where it is learned."""
    gru = fastgru.GRU(I, H, **options).eval()
    if gru.learn_initial_state:
        torch.nn.init.normal_(gru.initial_state)
    return gru


def chain(gru: fastgru.GRU, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """All steps of x [T, B, I] or [T, I], one after the other."""
    outputs = []
    for x_t in x:
        y_t, state = gru.step(x_t, state)
        outputs.append(y_t)
    assert state is not None
    return torch.stack(outputs), state


def one_pass(gru: fastgru.GRU, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
    """Forward over the whole of a time-major x."""
    if not gru.batch_first or x.dim() == 2:
        return gru(x, state)
    y, h_n = gru(x.transpose(0, 1), state)
    return y.transpose(0, 1), h_n


def assert_same(got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


def count_direct(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each later step is one native call."""
    direct: list[bool] = []
    plain = ops.step

    def counted(*arguments: object) -> object:
        found = plain(*arguments)
        direct.append(found is not None)
        return found

    monkeypatch.setattr(ops, "step", counted)
    return direct


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("batch", [None, 1, 2, 3])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_chain_of_steps_is_one_pass(options: dict[str, object], batch: int | None, with_state: bool) -> None:
    gru = layer(**options)
    dtype = gru.weight_ih_l0.dtype
    sequences = () if batch is None else (batch,)
    x = torch.randn(T, *sequences, I, dtype=dtype)
    state = torch.randn(gru.num_layers, *sequences, H, dtype=dtype) if with_state else None
    given = [tensor.clone() for tensor in (x, state) if tensor is not None]
    expected = one_pass(gru, x, state)
    if dtype is torch.bfloat16:  # a chain rounds the state at every step, one pass at the last alone
        for one, other in zip(chain(gru, x, state), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)
        return
    assert_same(chain(gru, x, state), expected)
    with torch.no_grad():
        assert_same(chain(gru, x, state), expected)
    with torch.inference_mode():
        assert_same(chain(gru, x, state), expected)
    assert all(map(torch.equal, (tensor for tensor in (x, state) if tensor is not None), given))


@pytest.mark.parametrize("sizes", [[1, 2, 4], [3, 4], [6, 1]])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_chunks_are_one_pass(options: dict[str, object], sizes: list[int]) -> None:
    gru = layer(**options)
    if gru.weight_ih_l0.dtype is torch.bfloat16:
        pytest.skip("each chunk rounds its last state to bfloat16")
    x = torch.randn(T, 1, I, dtype=gru.weight_ih_l0.dtype)
    with torch.no_grad():
        expected = one_pass(gru, x, None)
        state, outputs = None, []
        for part in x.split(sizes):
            y, state = one_pass(gru, part, state)
            outputs.append(y)
    assert state is not None
    assert_same((torch.cat(outputs), state), expected)


@pytest.mark.parametrize(
    ("features", "units", "batch"), [(1, 1, 1), (3, 16, 2), (128, 128, 1), (100, 33, 2), (40, 700, 1)]
)
def test_direct_steps_of_many_sizes(features: int, units: int, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    direct = count_direct(monkeypatch)
    gru = fastgru.GRU(features, units, 2).eval()
    x = torch.randn(4, batch, features)
    with torch.no_grad():
        found = chain(gru, x, None)
        assert direct == [True] * 4
        assert_same(found, gru(x))


def test_steps_have_the_gradients_of_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    direct = count_direct(monkeypatch)
    gru = layer(num_layers=2)
    x = torch.randn(T, 2, I, requires_grad=True)
    state = torch.randn(2, 2, H, requires_grad=True)
    leaves = [x, state, *gru.parameters()]
    cotangents = [torch.randn(T, 2, H), torch.randn(2, 2, H)]
    got = torch.autograd.grad(chain(gru, x, state), leaves, cotangents)
    for one, other in zip(got, torch.autograd.grad(gru(x, state), leaves, cotangents), strict=True):
        torch.testing.assert_close(one, other)
    assert not any(direct)
    for parameter in gru.parameters():
        parameter.requires_grad_(False)
    assert gru.step(x[0], state)[0].requires_grad
    assert not gru.step(x[0].detach(), state.detach())[0].requires_grad
    assert direct[-1]


def test_a_step_in_training_draws_its_masks() -> None:
    gru = fastgru.GRU(I, H, 2, dropout=0.5, zoneout=0.3)
    x = torch.randn(1, I)
    with torch.no_grad():
        torch.manual_seed(1)
        stepped = gru.step(x)
        torch.manual_seed(1)
        y, h_n = gru(x[None])
        assert_same(stepped, (y[0], h_n))
        assert not torch.equal(gru.step(x)[0], stepped[0])


def test_a_step_allocates_its_results_alone() -> None:
    """Of torch's operators it runs only the two that make the results."""

    class Seen(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.names: list[str] = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            self.names.append(str(func))
            return func(*args, **(kwargs or {}))

    gru = layer(num_layers=3)
    x, state = torch.randn(1, I), torch.randn(3, 1, H)
    seen = Seen()
    with torch.no_grad(), seen:
        weights = gru.weights()
        found = fastgru._native.step(x, state, weights, 3, 1.0)
    assert found is not None
    assert {name for name in seen.names if "fill" not in name} <= {"aten.new_empty.default", "aten.empty_like.default"}
    assert sum(name.startswith(("aten.new_empty", "aten.empty_like")) for name in seen.names) == 2


CHANGES: dict[str, Callable[[fastgru.GRU], object]] = {
    "in place": lambda gru: gru.weight_hh_l0.detach().mul_(2),
    "through data": lambda gru: gru.weight_hh_l0.data.mul_(2),
    "another storage": lambda gru: setattr(gru.weight_ih_l1, "data", gru.weight_ih_l1.data * 2),
    "same storage, turned": lambda gru: setattr(gru.weight_hh_l0, "data", gru.weight_hh_l0.data.mT.contiguous().mT),
    "same storage, negated": lambda gru: setattr(gru.weight_hh_l0, "data", torch._neg_view(gru.weight_hh_l0.data)),
    "another parameter": lambda gru: setattr(gru, "bias_hh_l0", torch.nn.Parameter(torch.ones(3 * H))),
    "state_dict": lambda gru: gru.load_state_dict(fastgru.GRU(I, H, 2).state_dict()),
    "assigned": lambda gru: gru.load_state_dict(fastgru.GRU(I, H, 2).state_dict(), assign=True),
    "double": lambda gru: gru.double(),
    "weight norm": lambda gru: torch.nn.utils.parametrizations.weight_norm(gru, "weight_hh_l0"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_weights_are_seen(change: Callable[[fastgru.GRU], object]) -> None:
    gru = layer(num_layers=2)
    with torch.no_grad():
        x, state = torch.randn(1, I), torch.randn(2, 1, H)
        before = gru.step(x, state)
        change(gru)
        x, state = x.to(gru.weight_ih_l0.dtype), state.to(gru.weight_ih_l0.dtype)
        expected = torch.nn.GRU(I, H, 2, dtype=x.dtype)
        expected.load_state_dict({name: getattr(gru, name) for name in expected.state_dict()})
        y, h_n = expected(x[None], state)
        assert_same(gru.step(x, state), (y[0], h_n))
    if change is not CHANGES["same storage, turned"] and change is not CHANGES["weight norm"]:
        assert not torch.equal(before[0].to(y), y[0])


def test_strange_inputs_are_copied_and_stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    gru = layer()
    x, state = torch.randn(2, I), torch.randn(1, 2, H)
    with torch.no_grad():
        expected = gru.step(x, state)
        direct = count_direct(monkeypatch)
        assert_same(gru.step(x.t().contiguous().t(), state), expected)
        assert_same(gru.step(torch._neg_view(-x), state), expected)
        assert_same(gru.step(x, state.expand(3, 1, 2, H)[1].transpose(1, 2).contiguous().transpose(1, 2)), expected)
    assert direct == [True] * 3


def test_a_layer_that_has_stepped_is_copied_and_pickled() -> None:
    gru = layer(num_layers=2)
    x = torch.randn(1, I)
    with torch.no_grad():
        expected = gru.step(x)
        for other in (copy.deepcopy(gru), pickle.loads(pickle.dumps(gru))):
            assert_same(other.step(x), expected)
    assert list(gru.state_dict()) == list(torch.nn.GRU(I, H, 2).state_dict())


@pytest.mark.parametrize("units", [H, 512])
def test_threads_step_one_layer(units: int) -> None:
    gru = fastgru.GRU(I, units).eval()
    streams = torch.randn(4, 60, I)
    with torch.no_grad():
        expected = [gru(stream)[0] for stream in streams]
    found: dict[int, Tensor] = {}

    def run(number: int) -> None:
        with torch.no_grad():
            found[number] = chain(gru, streams[number], None)[0]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, y in enumerate(expected):
        torch.testing.assert_close(found[number], y)


def test_steps_in_the_modes_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    gru = layer(num_layers=2)
    x, state = torch.randn(1, I), torch.randn(2, 1, H)
    with torch.no_grad():
        expected = gru.step(x, state)
        direct = count_direct(monkeypatch)
        compiled = torch.compile(gru.step, fullgraph=True, backend="eager")
        assert_same(compiled(x, state), expected)
        xs, states = torch.randn(3, 1, I), torch.randn(3, 2, 1, H)
        many = torch.func.vmap(gru.step)(xs, states)
        assert not any(direct)
        for i in range(3):
            assert_same((many[0][i], many[1][i]), gru.step(xs[i], states[i]))
        with torch.autocast("cpu", torch.bfloat16):
            assert gru.step(x, state)[0].dtype is torch.bfloat16
        with torch.profiler.profile() as profile:
            assert_same(gru.step(x, state), expected)
    assert any(event.key == "fastgru::layer" for event in profile.key_averages())


def test_wrong_steps_are_refused() -> None:
    gru = layer(num_layers=2)
    x, state = torch.randn(1, I), torch.randn(2, 1, H)
    with torch.no_grad():
        with pytest.raises(
            ValueError, match="a bidirectional GRU has no step: its reverse direction begins at the end"
        ):
            fastgru.GRU(I, H, bidirectional=True).step(x)
        with pytest.raises(ValueError, match=r"x_t must be \[B, 5\] or \[5\], got \[1, 1, 5\]"):
            gru.step(x[None], state)
        with pytest.raises(ValueError, match=r"state must be \[L, B, H\] beside x_t \[B, I\], got \[2, 19\]"):
            gru.step(x, state[:, 0])
        with pytest.raises(ValueError, match=r"state must be \[L, H\] beside x_t \[I\], got \[2, 1, 19\]"):
            gru.step(x[0], state)
        with pytest.raises(TypeError, match="x_t must be a tensor"):
            gru.step([1.0] * I, state)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match=r"must be equal to input_size\. Expected 5, got 4"):
            gru.step(x[:, 1:], state)
        with pytest.raises(RuntimeError, match="Expected hidden size"):
            gru.step(x, state[:1])
        with pytest.raises(ValueError, match="dtype"):
            gru.step(x.double(), state.double())


def test_all_layers_outputs_of_a_step() -> None:
    gru = layer(num_layers=2, return_all_layers=True)
    x = torch.randn(1, I)
    outputs, state = gru.step(x)
    assert [*map(torch.Tensor.dim, outputs)] == [2, 2]
    for y, h in zip(outputs, state, strict=True):
        torch.testing.assert_close(y, h)


def test_a_cell_steps_as_torchs() -> None:
    theirs = torch.nn.GRUCell(I, H)
    ours = fastgru.GRUCell(I, H)
    ours.load_state_dict(theirs.state_dict())
    for shape in ((), (1,), (2,), (3,)):
        x, h = torch.randn(*shape, I), torch.randn(*shape, H)
        with torch.no_grad():
            torch.testing.assert_close(ours(x, h), theirs(x, h))
            torch.testing.assert_close(ours(x), theirs(x))
