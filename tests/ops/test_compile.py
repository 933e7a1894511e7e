"""torch.compile: one graph without breaks, eager's numbers, and no compilation for each new length."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils._pytree import tree_leaves

import fastgru

T, B, I, H = 6, 3, 5, 7
COMPILERS = ["eager", "aot_eager", "inductor"]
# torch's own, when inductor runs for the first time
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled(function: Callable[..., Any], compiler: str = "aot_eager") -> tuple[Any, CompileCounterWithBackend]:
    """The function compiled without breaks, and what counts its compilations."""
    counter = CompileCounterWithBackend(compiler)
    return torch.compile(function, backend=counter, fullgraph=True), counter


def outcome(function: Callable[..., Any], layer: torch.nn.Module, *inputs: Any) -> list[Tensor]:
    """Outputs and, where gradients are on, the gradients of the weights and of inputs that want one."""
    outputs = [leaf for leaf in tree_leaves(function(*inputs)) if leaf.is_floating_point()]
    if not torch.is_grad_enabled():
        return outputs
    leaves = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor) and leaf.requires_grad]
    loss = torch.stack([output.sin().sum() for output in outputs]).sum()
    return [*outputs, *torch.autograd.grad(loss, [*leaves, *layer.parameters()])]


def assert_equal(got: list[Tensor], expected: list[Tensor], compiler: str, is_loop: bool = False) -> None:
    assert len(got) == len(expected)
    for one, two in zip(got, expected, strict=True):
        if compiler == "inductor" or is_loop:  # which fuses what surrounds the layers; which sums in another order
            torch.testing.assert_close(one, two)
        else:
            assert torch.equal(one, two)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_compiled_layers_give_eagers_numbers(compiler: str, training: bool) -> None:
    layer = fastgru.GRU(I, H, 2, bidirectional=True, batch_first=True)
    fast, _ = compiled(layer, compiler)
    x, h0 = torch.randn(B, T, I, requires_grad=training), torch.randn(4, B, H, requires_grad=training)
    with torch.set_grad_enabled(training):
        for inputs in ((x,), (x, h0), (x.detach()[0],)):
            assert_equal(outcome(fast, layer, *inputs), outcome(layer, layer, *inputs), compiler)


@pytest.mark.parametrize("training", [False, True])
def test_new_sizes_compile_once_for_each_dimension(training: bool) -> None:
    layer = fastgru.GRU(I, H, 2, bidirectional=True)
    fast, counter = compiled(layer)
    with torch.set_grad_enabled(training):
        for sizes, expected in (((T, B), 1), ((9, B), 2), ((9, 4), 3), ((30, 5), 3), ((7, 2), 3), ((200, 11), 3)):
            x = torch.randn(*sizes, I)
            assert_equal(outcome(fast, layer, x), outcome(layer, layer, x), "aot_eager")
            assert counter.frame_count == expected, sizes


@pytest.mark.parametrize("marked", [False, True])
def test_dimensions_said_to_be_dynamic_compile_once(marked: bool) -> None:
    layer = fastgru.GRU(I, H)
    counter = CompileCounterWithBackend("aot_eager")
    fast = torch.compile(layer, backend=counter, fullgraph=True, dynamic=None if marked else True)
    counts = []
    for sizes in ((T, B), (9, 4), (50, 2)):
        x = torch.randn(*sizes, I)
        if marked:
            torch._dynamo.mark_dynamic(x, 0)
            torch._dynamo.mark_dynamic(x, 1)
        assert torch.equal(fast(x)[0], layer(x)[0])
        counts.append(counter.frame_count)
    assert counts[0] == counts[2]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_compile_time_does_not_depend_on_the_length(compiler: str) -> None:
    layer, counts = fastgru.GRU(I, H), []
    for length in (T, 1500):
        torch.compiler.reset()
        fast, counter = compiled(layer, compiler)
        x = torch.randn(length, B, I)
        began = time.perf_counter()
        got = outcome(fast, layer, x)
        taken = time.perf_counter() - began
        assert_equal(got, outcome(layer, layer, x), compiler)
        counts.append(counter.op_count)
    assert counts[0] == counts[1]
    assert taken < 10  # of the long one; the first also pays for what a compiler starts up with


@pytest.mark.parametrize(
    ("enforce_sorted", "with_h0", "compiler"),
    [*itertools.product((False, True), (False, True), ("aot_eager",)), (False, False, "inductor")],
)
def test_compiled_packed_sequences(enforce_sorted: bool, with_h0: bool, compiler: str) -> None:
    layer = fastgru.GRU(I, H, bidirectional=True)

    def run(function: Callable[..., Any], packed: PackedSequence, h0: Tensor | None) -> tuple[Tensor, Tensor]:
        output, h_n = function(packed, h0)
        assert isinstance(output, PackedSequence)
        return output.data, h_n

    fast, counter = compiled(layer, compiler)
    for lengths in ([5, 3, 1], [6, 2, 2, 1], [9, 3, 3, 3, 1]):
        order = lengths if enforce_sorted else lengths[::-1]
        x = torch.randn(max(lengths), len(lengths), I)
        packed = pack_padded_sequence(x, torch.tensor(order), enforce_sorted=enforce_sorted)
        h0 = torch.randn(2, len(lengths), H, requires_grad=True) if with_h0 else None
        results = [
            outcome(lambda packed, h0, f=function: run(f, packed, h0), layer, packed, h0) for function in (fast, layer)
        ]
        assert_equal(*results, compiler)
    assert counter.frame_count <= 3


def test_compiled_packed_sequences_refuse_a_state_of_another_batch() -> None:
    layer = fastgru.GRU(I, H)
    fast, _ = compiled(layer)
    packed = pack_padded_sequence(torch.randn(T, B, I), torch.tensor([6, 4, 4]))
    fast(packed, torch.randn(1, B, H))
    with pytest.raises(RuntimeError, match="the initial state is of 2 sequences, and the packed ones are 3"):
        fast(packed, torch.randn(1, B - 1, H))


@pytest.mark.parametrize("compiler", COMPILERS)
def test_compiled_cell_in_a_loop(compiler: str) -> None:
    cell = fastgru.GRUCell(I, H)

    def loop(x: Tensor, h: Tensor) -> Tensor:
        for x_t in x:
            h = cell(x_t, h)
        return h

    fast, counter = compiled(loop, compiler)
    x, h = torch.randn(4, B, I, requires_grad=True), torch.randn(B, H, requires_grad=True)
    assert_equal(outcome(fast, cell, x, h), outcome(loop, cell, x, h), compiler, is_loop=True)
    assert counter.frame_count == 1


@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])  # inductor draws from a generator of its own
def test_compiled_dropout_draws_eagers_masks(compiler: str) -> None:
    layer = fastgru.GRU(I, H, 3, dropout=0.5)
    fast, _ = compiled(layer, compiler)
    x = torch.randn(T, B, I, requires_grad=True)
    results = []
    for function in (fast, layer):
        torch.manual_seed(3)
        results.append(outcome(function, layer, x))
    assert_equal(*results, compiler)
    assert not torch.equal(fast(x)[0], fast(x)[0])
    layer.eval()
    assert torch.equal(fast(x)[0], layer(x)[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_compiled_dtypes(dtype: torch.dtype) -> None:
    layer = fastgru.GRU(I, H, bidirectional=True, dtype=dtype)
    fast, _ = compiled(layer)
    x = torch.randn(T, B, I, dtype=dtype, requires_grad=True)
    assert_equal(outcome(fast, layer, x), outcome(layer, layer, x), "aot_eager")


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("inside", [False, True])
def test_compiled_autocast(inside: bool, compiler: str) -> None:
    layer = fastgru.GRU(I, H, 2)

    def cast(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return layer(x)

    x = torch.randn(T, B, I)
    fast, _ = compiled(cast if inside else layer, compiler)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not inside):
        got = fast(x)
    for one, two in zip(got, cast(x), strict=True):
        assert one.dtype is torch.bfloat16
        if compiler == "inductor":  # which leaves out casts to bfloat16 and back
            torch.testing.assert_close(one, two, rtol=0.02, atol=0.02)
        else:
            assert torch.equal(one, two)


TRANSFORMS: dict[str, Callable[[Callable[[dict[str, Tensor], Tensor], Tensor], dict[str, Tensor], Tensor], Any]] = {
    "grad": lambda run, p, xs: grad(lambda p: run(p, xs[0]).sin().sum())(p),
    "vmap": lambda run, p, xs: vmap(lambda x: run(p, x))(xs),
    "sample gradients": lambda run, p, xs: vmap(grad(lambda p, x: run(p, x).sin().sum()), in_dims=(None, 0))(p, xs),
    "jvp": lambda run, p, xs: jvp(lambda x: run(p, x), (xs[0],), (xs[1],)),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_compiled_transforms_go_to_the_reference(transform: str) -> None:
    layer = fastgru.GRU(I, H)
    p = {name: weight.detach() for name, weight in layer.named_parameters()}

    def whole(p: dict[str, Tensor], xs: Tensor) -> Any:
        return TRANSFORMS[transform](lambda p, x: functional_call(layer, p, (x,))[0], p, xs)

    fast, _ = compiled(whole, "eager")
    xs = torch.randn(2, 3, B, I)
    for one, two in zip(tree_leaves(fast(p, xs)), tree_leaves(whole(p, xs)), strict=True):
        torch.testing.assert_close(one, two)
