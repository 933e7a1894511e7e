"""The CPU kernels as torch sees them: derivatives, second backwards, strides, modes, compilation, memory."""

import copy
import multiprocessing
import threading
from collections.abc import Callable

import pytest
import torch
from grid import relative_error
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import fastgru
from fastgru.backends.cpu import CpuBackend
from fastgru.cli.benchmark import saved_bytes

T, B, I, H = 6, 3, 5, 7


def twins(dtype: torch.dtype = torch.float32, **options: bool | int) -> tuple[fastgru.GRU, torch.nn.GRU]:
    """Our layer on its kernels, and torch's with the same weights in float64."""
    ours = fastgru.GRU(I, H, dtype=dtype, backend="cpu", **options)
    exact = torch.nn.GRU(I, H, dtype=torch.float64, **options)
    exact.load_state_dict(ours.state_dict())
    return ours, exact


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_second_derivatives_go_through_the_reference(bidirectional: bool, bias: bool) -> None:
    gru, _ = twins(torch.float64, bidirectional=bidirectional, bias=bias, num_layers=2)
    names, weights = zip(*gru.named_parameters(), strict=True)
    x = torch.randn(3, 2, I, dtype=torch.float64, requires_grad=True)
    h0 = torch.randn(4 if bidirectional else 2, 2, H, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, h0: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.functional_call(gru, dict(zip(names, weights, strict=True)), (x, h0))

    assert torch.autograd.gradcheck(run, (x, h0, *weights), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, h0, *weights), fast_mode=True)


def test_second_derivatives_of_a_packed_batch() -> None:
    gru, _ = twins(torch.float64, bidirectional=True)

    def run(x: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, torch.tensor([2, 3]), enforce_sorted=False)
        return gru(packed)[0].data

    x = torch.randn(3, 2, I, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(run, (x,))


def test_third_derivative_equals_the_references() -> None:
    gru, _ = twins(torch.float64)
    x = torch.randn(3, 2, I, dtype=torch.float64, requires_grad=True)
    thirds = []
    for layer in (gru, fastgru.GRU(I, H, dtype=torch.float64, backend="reference")):
        layer.load_state_dict(gru.state_dict())
        value = layer(x)[0].sum()
        for _ in range(3):
            (gradient,) = torch.autograd.grad(value, x, create_graph=True)
            value = gradient.sin().sum()
        thirds.append(gradient.detach())
    assert relative_error(*thirds) < 1e-12


def test_a_gradient_penalty_reaches_the_weights() -> None:
    gru, exact = twins(torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    gradients = []
    for layer in (gru, exact):
        (dx,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
        gradients.append(torch.autograd.grad(dx.square().sum(), list(layer.parameters())))
    for got, expected in zip(*gradients, strict=True):
        assert relative_error(got, expected) < 1e-12


def test_retain_graph_and_a_second_backward_give_the_same_gradients() -> None:
    gru, _ = twins(bidirectional=True, num_layers=2)
    x = torch.randn(T, B, I, requires_grad=True)
    y, h_n = gru(x)
    leaves = [x, *gru.parameters()]
    first = torch.autograd.grad(y.sum() + h_n.sum(), leaves, retain_graph=True)
    second = torch.autograd.grad(y.sum() + h_n.sum(), leaves)
    for one, two in zip(first, second, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("only", ["y", "h_n"])
def test_one_output_alone_can_be_differentiated(only: str) -> None:
    gru, exact = twins(bidirectional=True)
    x = torch.randn(T, B, I, requires_grad=True)
    for layer, source in ((gru, x), (exact, x.double())):
        outputs = dict(zip(("y", "h_n"), layer(source), strict=True))
        outputs[only].square().sum().backward()
    for got, expected in zip(gru.parameters(), exact.parameters(), strict=True):
        assert relative_error(got.grad, expected.grad) < 1e-6


def test_gradients_that_nobody_wants_are_not_made() -> None:
    gru, _ = twins()
    gru.weight_hh_l0.requires_grad_(False)
    x = torch.randn(T, B, I)
    gru(x)[0].sum().backward()
    assert x.grad is None
    assert gru.weight_hh_l0.grad is None
    assert gru.weight_ih_l0.grad.any()
    assert not gru.eval().requires_grad_(False)(x)[0].requires_grad


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "batch and time swapped": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "features strided": lambda x: x.repeat_interleave(2, dim=-1)[..., ::2],
    "features first": lambda x: x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    "rows of a wider tensor": lambda x: torch.cat([x, x], dim=-1)[..., :I],
    "one step for all, expanded": lambda x: x[:1].expand_as(x),
    "one sequence for all, expanded": lambda x: x[:, :1].expand_as(x),
    "negated lazily": lambda x: torch.complex(torch.zeros_like(x), -x).conj().imag,
    "an offset in storage": lambda x: torch.cat([torch.zeros(1, *x.shape[1:], dtype=x.dtype), x])[1:],
}


@pytest.mark.parametrize("view", VIEWS)
def test_any_strides_give_the_same_numbers(view: str) -> None:
    gru, _ = twins(bidirectional=True)
    leaf = torch.randn(T, B, I, requires_grad=True)
    same = VIEWS[view](leaf)
    dense = same.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    expected, got = gru(dense)[0], gru(same)[0]
    assert torch.equal(got, expected)
    dy = torch.randn(2 * H, T, B).permute(1, 2, 0)
    for given in (dy, torch.ones(()).expand(T, B, 2 * H)):
        (dx,) = torch.autograd.grad(expected, dense, given.contiguous(), retain_graph=True)
        (same_dx,) = torch.autograd.grad(got, same, given, retain_graph=True)
        torch.testing.assert_close(same_dx, dx, rtol=0, atol=0)


def test_strided_weights_and_state_give_the_same_numbers() -> None:
    gru, _ = twins()
    weights = [w.detach().clone() for w in gru.parameters()]
    strided = [torch.stack([w, w], dim=-1)[..., 0] for w in weights]
    names = [name for name, _ in gru.named_parameters()]
    x, h0 = torch.randn(T, B, I), torch.randn(1, B, H)
    expected = gru(x, h0)
    got = torch.func.functional_call(
        gru, dict(zip(names, strided, strict=True)), (x, h0.transpose(0, 2).contiguous().transpose(0, 2))
    )
    for one, two in zip(got, expected, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_come_out_as_torch_brings_them_out(poison: float) -> None:
    gru, exact = twins()
    x = torch.randn(T, B, I)
    x[2, 1, 3] = poison
    expected = exact.float()(x)
    for got, want in zip(gru(x), expected, strict=True):
        torch.testing.assert_close(got, want, equal_nan=True, rtol=1e-5, atol=1e-6)
        assert torch.equal(got.isnan(), want.isnan())


CHANGES: dict[str, Callable[[fastgru.GRU], object]] = {
    "in place": lambda gru: torch.nn.init.zeros_(gru.weight_hh_l0),
    "one element in place": lambda gru: gru.weight_hh_l0.detach().view(-1)[-1].add_(1),
    "through data": lambda gru: gru.weight_ih_l0.data.mul_(2),
    "one element through data": lambda gru: gru.weight_ih_l0.data[-1, -1].add_(1),
    "two elements swapped through data": lambda gru: gru.weight_hh_l0.data[:2, 0].copy_(
        gru.weight_hh_l0.data[:2, 0].flip(0)
    ),
    "through NumPy": lambda gru: gru.bias_hh_l0.detach().numpy().__setitem__(0, 3.0),
    "data replaced": lambda gru: setattr(gru.weight_hh_l0, "data", torch.randn(3 * H, H)),
    "a new parameter": lambda gru: setattr(gru, "weight_ih_l0", torch.nn.Parameter(torch.randn(3 * H, I))),
    "copy_": lambda gru: gru.weight_hh_l0.detach().copy_(torch.randn(3 * H, H)),
    "load_state_dict": lambda gru: gru.load_state_dict(fastgru.GRU(I, H).state_dict()),
    "load_state_dict, assigned": lambda gru: gru.load_state_dict(fastgru.GRU(I, H).state_dict(), assign=True),
    "tied to another layer": lambda gru: setattr(gru, "weight_hh_l0", fastgru.GRU(H, H).weight_ih_l0),
    "to another dtype and back": lambda gru: gru.double().float().weight_ih_l0.data.add_(1),
    "moved away and back": lambda gru: gru.to("meta").to_empty(device="cpu").reset_parameters(),
}


def step(gru: fastgru.GRU) -> None:
    """One step of an optimiser."""
    optimizer = torch.optim.SGD(gru.parameters(), lr=0.5)
    gru(torch.randn(T, B, I))[0].sum().backward()
    optimizer.step()


@pytest.mark.parametrize("change", [*CHANGES, "an optimiser's step"])
def test_weights_in_inference_are_never_stale(change: str) -> None:
    gru = fastgru.GRU(I, H, backend="cpu")
    x = torch.randn(T, B, I)
    with torch.no_grad():
        before = [gru(x)[0] for _ in range(3)][-1]
    {**CHANGES, "an optimiser's step": step}[change](gru)
    twin = torch.nn.GRU(I, H)
    twin.load_state_dict(gru.state_dict())
    with torch.no_grad():
        after = gru(x)[0]
        torch.testing.assert_close(after, twin(x)[0])
    assert not torch.allclose(after, before)


def test_operators_pass_torchs_own_checks() -> None:
    gru = fastgru.GRU(I, H, bidirectional=True)
    x = torch.randn(T, B, I, requires_grad=True)
    h0 = torch.randn(2, B, H, requires_grad=True)
    layer, every, variant = torch.ops.fastgru.layer, (None,) * 6, gru.spec.variant
    torch.library.opcheck(layer, ("cpu", x, h0, None, [*gru.parameters()], *every, *variant, B, True))
    noise = (torch.rand(2, B, H).round() * 2, torch.rand(T, B, 2 * H).round())
    some = (None, None, torch.arange(B), torch.rand(T, B) < 0.5, *noise)
    initial = torch.randn(2, H, requires_grad=True)
    # Not by values: nothing is written of what is saved for steps that do not exist.
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(
        layer, ("cpu", x, h0, initial, [*gru.parameters()], *some, *variant, B, True), test_utils=checks
    )
    weights = [*gru.state_dict().values()]
    torch.library.opcheck(layer, ("cpu", x.detach(), None, None, weights, *every, *variant, B, False))


def test_forward_mode_goes_to_torchs_operators() -> None:
    gru, x = fastgru.GRU(I, H), torch.randn(T, B, I)
    theirs = torch.nn.GRU(I, H)
    theirs.load_state_dict(gru.state_dict())
    with torch.autograd.forward_ad.dual_level():
        got, expected = gru(x), theirs(x)
        assert fastgru.info(gru, x).backend == "aten"
    for one, two in zip(got, expected, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("directions", [1, 2])
def test_memory_kept_for_backward(directions: int) -> None:
    gru = fastgru.GRU(32, 64, bidirectional=directions == 2, backend="cpu")
    x = torch.randn(20, 8, 32, requires_grad=True)
    assert saved_bytes(gru, x) <= 16 * 20 * 8 * 64 * directions


def test_inference_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    forward = CpuBackend.forward

    def watched(self: CpuBackend, *args: object, save: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        result = forward(self, *args, save)
        kept.append(result[2])
        return result

    monkeypatch.setattr(CpuBackend, "forward", watched)
    gru, x = fastgru.GRU(I, H, backend="cpu"), torch.randn(T, B, I)
    with torch.no_grad():
        gru(x)
    gru.requires_grad_(False)(x)
    assert kept == [None, None]
    gru.requires_grad_(True)(x)
    assert kept[2].shape == (1, T * B, 4 * H)


def test_several_python_threads_may_call_at_once() -> None:
    gru = fastgru.GRU(64, 64, bidirectional=True, backend="cpu")
    twin = copy.deepcopy(gru)  # whose packed weights the threads do not find ready
    xs = [torch.randn(30, 4 + i, 64) for i in range(4)]
    with torch.no_grad():
        expected = [twin(x)[0] for x in xs]
    wrong = []

    def work(x: Tensor, want: Tensor) -> None:
        with torch.no_grad():
            wrong.extend(n for n in range(20) if not torch.equal(gru(x)[0], want))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(xs, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def _child(gru: fastgru.GRU, x: Tensor, pipe: multiprocessing.connection.Connection) -> None:
    with torch.no_grad():
        pipe.send(gru(x)[0][-1].tolist())  # small: torch's own threads hang after a fork


def test_a_forked_process_can_run_layers() -> None:
    gru, x = fastgru.GRU(64, 64, backend="cpu"), torch.randn(30, 16, 64)
    with torch.no_grad():
        expected = gru(x)[0][-1].tolist()  # starts this process's threads, which a fork does not take along
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_child, args=(gru, x, theirs))
    child.start()
    try:
        assert ours.poll(60), "the forked process hangs"
        assert ours.recv() == expected
    finally:
        child.kill()
        child.join()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_numbers_from_run_to_run(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        gru = fastgru.GRU(48, 80, bidirectional=True, backend="cpu")
        x = torch.randn(40, 5, 48, requires_grad=True)
        runs = []
        for _ in range(3):
            y, h_n = gru(x)
            runs.append([y, h_n, *torch.autograd.grad(y.sum() + h_n.sum(), [x, *gru.parameters()])])
    finally:
        torch.set_num_threads(before)
    for run in runs[1:]:
        for one, two in zip(run, runs[0], strict=True):
            assert torch.equal(one, two)


def test_an_unbuilt_native_module_leaves_the_layer_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgru.backends.cpu._native", None)
    gru = fastgru.GRU(I, H)
    assert fastgru.info(gru).backend == "aten"
    assert fastgru.info(gru).verdict("cpu").startswith("cannot: the native module is not built")
    theirs, x = torch.nn.GRU(I, H), torch.randn(T, B, I)
    theirs.load_state_dict(gru.state_dict())
    torch.testing.assert_close(gru(x), theirs(x))
