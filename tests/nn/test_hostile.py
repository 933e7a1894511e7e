"""What could break a kernel that trusts its caller: shapes, packed batches that lie, tracers, batches of gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

import fastgru
import fastgru.core.reference

T, B, I, H = 4, 3, 5, 6


def set_weight(name: str, value: Tensor) -> Callable[[torch.nn.Module], object]:
    return lambda layer: setattr(layer, name, torch.nn.Parameter(value))


def set_data(name: str, value: Tensor) -> Callable[[torch.nn.Module], object]:
    return lambda layer: setattr(getattr(layer, name), "data", value)


def set_attribute(name: str, value: object) -> Callable[[torch.nn.Module], object]:
    return lambda layer: setattr(layer, name, value)


def outcome(layer: torch.nn.Module, x: object) -> object:
    """What the layer gives, or the words of the RuntimeError that it raises."""
    try:
        return layer(x)
    except RuntimeError as error:
        return str(error)


CHANGED: dict[str, Callable[[torch.nn.Module], object]] = {
    "fewer rows of W_hh": set_weight("weight_hh_l0", torch.randn(3, H)),
    "wider W_hh": set_weight("weight_hh_l0", torch.randn(3 * H, 2 * H)),
    "narrower W_ih through data": set_data("weight_ih_l0", torch.randn(3 * H, 2)),
    "a bias of one element, which broadcasts": set_weight("bias_hh_l0", torch.randn(1)),
    "a bias of two elements": set_weight("bias_hh_l0", torch.randn(2)),
    "two directions on the weights of one": set_attribute("bidirectional", True),
    "no bias on weights with one": set_attribute("bias", False),
    "two layers on the weights of one": set_attribute("num_layers", 2),
}


@pytest.mark.parametrize("what", CHANGED)
def test_weights_that_do_not_fit_do_what_torch_does(what: str) -> None:
    theirs, ours = torch.nn.GRU(I, H), fastgru.GRU(I, H)
    ours.load_state_dict(theirs.state_dict())
    for layer in (theirs, ours):
        CHANGED[what](layer)
    x = torch.randn(T, B, I)
    expected = outcome(theirs, x)
    if isinstance(expected, str):
        assert outcome(ours, x) == expected
    else:
        torch.testing.assert_close(ours(x), expected)
    ours.backend = "cpu"
    with pytest.raises(RuntimeError, match="its kernels take weights of"):
        ours(x)


LIES = {
    "more steps than rows": (2, [1] * 5),
    "more sequences than rows": (3, [400, 400]),
    "a batch that grows": (5, [2, 3]),
    "a batch that begins empty": (2, [0, 2]),
    "fewer steps than rows": (9, [2, 1]),
    "an empty step at the end": (2, [2, 0]),
    "a step below zero": (2, [2, -1]),
}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lie", LIES)
def test_packed_batches_that_lie_do_what_torch_does(lie: str, bidirectional: bool) -> None:
    theirs, ours = torch.nn.GRU(I, H, bidirectional=bidirectional), fastgru.GRU(I, H, bidirectional=bidirectional)
    ours.load_state_dict(theirs.state_dict())
    rows, sizes = LIES[lie]
    packed = PackedSequence(torch.randn(rows, I), torch.tensor(sizes))
    expected = outcome(theirs, packed)
    if isinstance(expected, str):
        assert outcome(ours, packed) == expected
    else:
        y, h_n = ours(packed)
        torch.testing.assert_close(y.data, expected[0].data)
        torch.testing.assert_close(h_n, expected[1])
    for backend in ("cpu", "reference"):
        ours.backend = backend
        with pytest.raises(RuntimeError, match=rf"{backend}: batch_sizes"):
            ours(packed)


def test_packed_batch_sizes_of_another_dtype_are_refused_in_torchs_words() -> None:
    packed = PackedSequence(torch.randn(3, I), torch.tensor([2, 1], dtype=torch.int32))
    with pytest.raises(RuntimeError, match="expected scalar type Long but found Int"):
        fastgru.GRU(I, H)(packed)


def test_cell_refuses_weights_and_states_of_other_shapes() -> None:
    cell = fastgru.GRUCell(I, H)
    cell.weight_ih = torch.nn.Parameter(torch.randn(3, I))
    with pytest.raises(RuntimeError, match="weight_ih first dim must be 3 \\* hidden_size"):
        cell(torch.randn(B, I))
    with pytest.raises(RuntimeError, match=r"hidden0 must be \[B, 1\], got \[1, 1, 7\]; give one"):
        fastgru.GRUCell(3, 1, backend="cpu")(torch.zeros(3), torch.zeros(1, 7))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("bidirectional", [False, True])
def test_tracers_see_an_operator(bidirectional: bool) -> None:
    gru = fastgru.GRU(I, H, 2, bidirectional=bidirectional, backend="cpu").requires_grad_(False)
    x, other = torch.randn(T, B, I), torch.randn(T, B, I)
    traced = torch.jit.trace(gru, (x,))
    graph = torch.fx.experimental.proxy_tensor.make_fx(gru)(x)
    for program in (traced, graph):
        torch.testing.assert_close(program(other), gru(other), rtol=0, atol=0)


def test_a_symbolic_tracer_keeps_the_operator_for_every_length() -> None:
    gru = fastgru.GRU(I, H, backend="cpu").requires_grad_(False)
    weights = dict(gru.named_parameters())

    def call(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(gru, weights, (x,))[0]

    graph = torch.fx.experimental.proxy_tensor.make_fx(call, tracing_mode="symbolic")(weights, torch.randn(T, B, I))
    other = torch.randn(2 * T, B + 1, I)
    torch.testing.assert_close(graph(weights, other), gru(other)[0], rtol=0, atol=0)


def test_a_fake_mode_meets_no_kernel() -> None:
    gru = fastgru.GRU(I, H, backend="cpu").requires_grad_(False)
    with torch._subclasses.fake_tensor.FakeTensorMode(allow_non_fake_inputs=True):
        none, variant = (None,) * 6, gru.spec.variant
        x, weights = torch.empty(T, B, I), gru.weights()
        y, h_n, _ = torch.ops.fastgru.layer("cpu", x, None, None, weights, *none, *variant, B, False)
    assert y.shape == (T, B, H)
    assert h_n.shape == (1, B, H)


@pytest.mark.parametrize("strict", [False, True])
def test_export_keeps_the_kernel_and_symbolic_sizes(strict: bool) -> None:
    gru = fastgru.GRU(I, H, 2, bidirectional=True, backend="cpu")
    dims = ({0: torch.export.Dim("T", min=2), 1: torch.export.Dim("B", min=2)},)
    program = torch.export.export(gru, (torch.randn(T, B, I),), dynamic_shapes=dims, strict=strict)
    assert [str(n.target) for n in program.graph.nodes if "fastgru" in str(n.target)] == ["fastgru.layer.default"] * 2
    other = torch.randn(2 * T, 2 * B, I)
    torch.testing.assert_close(program.module()(other), gru(other), rtol=0, atol=0)


def test_second_derivatives_after_export() -> None:
    gru = fastgru.GRU(I, H, dtype=torch.float64, backend="cpu")
    x = torch.randn(T, B, I, dtype=torch.float64, requires_grad=True)
    exported = torch.export.export(gru, (x.detach(),), strict=True).module()
    found = []
    for layer in (gru, exported):
        (dx,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(dx.square().sum(), x)[0])
    assert found[0].any()
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("form", ["grads batched", "jacobian", "hessian"])
def test_batched_gradients_go_through_the_reference(form: str) -> None:
    gru = fastgru.GRU(I, H, dtype=torch.float64, backend="cpu")
    exact = fastgru.GRU(I, H, dtype=torch.float64, backend="reference")
    exact.load_state_dict(gru.state_dict())
    x = torch.randn(2, 2, I, dtype=torch.float64, requires_grad=True)
    found = []
    for layer in (gru, exact):
        if form == "grads batched":
            y = layer(x)[0]
            torch.manual_seed(1)
            cotangents = torch.randn(5, *y.shape, dtype=torch.float64)
            found.append(torch.autograd.grad(y, [x, *layer.parameters()], cotangents, is_grads_batched=True))
        elif form == "jacobian":
            found.append(torch.autograd.functional.jacobian(lambda x, g=layer: g(x)[0], x, vectorize=True))
        else:
            found.append(torch.autograd.functional.hessian(lambda x, g=layer: g(x)[0].sum(), x, vectorize=True))
    torch.testing.assert_close(found[0], found[1])


def test_hooks_may_bring_saved_tensors_back_in_another_layout() -> None:
    gru = fastgru.GRU(I, H, bidirectional=True, backend="cpu")
    x = torch.randn(T, B, I, requires_grad=True)
    (expected,) = torch.autograd.grad(gru(x)[0].square().sum(), x)

    def turned(tensor: Tensor) -> Tensor:
        return tensor.movedim(0, -1).contiguous().movedim(-1, 0)

    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, turned):
        (got,) = torch.autograd.grad(gru(x)[0].square().sum(), x)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize("lengths", [[9, 1], [2, -1]], ids=str)
def test_reference_refuses_lengths_that_are_none(lengths: list[int]) -> None:
    weights = [torch.randn(3 * H, I), torch.randn(3 * H, H)]
    spec = fastgru.GRU(I, H, bias=False).spec
    with pytest.raises(ValueError, match="lengths must be from 0 to T=2"):
        fastgru.core.reference.gru(spec, torch.randn(2, 2, I), torch.zeros(1, 2, H), weights, torch.tensor(lengths))
