"""torch.func on a GRU: every transform, alone and nested, held to the definition; and what runs on the kernels."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, stack_module_state, vjp, vmap
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils._pytree import tree_leaves

import fastgru
from fastgru.backends.cpu import CpuBackend
from fastgru.core.layer import Layer

T, B, I, H, V = 4, 2, 3, 5, 3
Weights = dict[str, Tensor]


class Setting:
    """A layer, its weights, inputs of its form, and V of each."""

    def __init__(self, form: str, **options: bool | int) -> None:
        self.layer = fastgru.GRU(I, H, dtype=torch.float64, **options)
        self.exact = copy.deepcopy(self.layer)
        self.exact.backend = "reference"
        self.packing: tuple[Any, ...] | None = None
        if form == "packed":
            padded = torch.zeros(T, B, I, dtype=torch.float64)
            self.packing = pack_padded_sequence(padded, torch.tensor([3, 4]), enforce_sorted=False)[1:]
        shape = {"batched": (T, B, I), "unbatched": (T, I), "packed": (7, I)}[form]
        states = self.layer.spec.num_layers * self.layer.spec.directions
        self.p = {name: weight.detach() for name, weight in self.layer.named_parameters()}
        self.ps = {name: torch.randn(V, *weight.shape, dtype=torch.float64) for name, weight in self.p.items()}
        self.x, self.xs = torch.randn(shape, dtype=torch.float64), torch.randn(V, *shape, dtype=torch.float64)
        of_h0 = (states, H) if form == "unbatched" else (states, B, H)
        self.h, self.hs = torch.randn(of_h0, dtype=torch.float64), torch.randn(V, *of_h0, dtype=torch.float64)

    def call(self, layer: fastgru.GRU, p: Weights, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.packing is None:
            return functional_call(layer, p, (x, h))
        output, h_n = functional_call(layer, p, (PackedSequence(x, *self.packing), h))
        return output.data, h_n


Run = Callable[..., tuple[Tensor, Tensor]]


def loss(outputs: tuple[Tensor, Tensor]) -> Tensor:
    return outputs[0].sin().sum() + outputs[1].square().sum()


def sample_gradients(run: Run) -> Callable[..., Weights]:
    return vmap(grad(lambda p, x: loss(run(p, x))), in_dims=(None, 0))


def squares(gradients: Weights) -> Tensor:
    return torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum()


# Each takes a layer as a function of weights, x and h0, and the setting.
FIRST: dict[str, Callable[[Run, Setting], Any]] = {
    "grad": lambda run, s: grad(lambda p, x, h: loss(run(p, x, h)), argnums=(0, 1, 2))(s.p, s.x, s.h),
    "vjp": lambda run, s: vjp(lambda x: run(s.p, x), s.x)[1](run(s.p, s.x)),
    "vmap x": lambda run, s: vmap(lambda x: run(s.p, x))(s.xs),
    "vmap h0": lambda run, s: vmap(lambda h: run(s.p, s.x, h))(s.hs),
    "vmap x and h0": lambda run, s: vmap(lambda x, h: run(s.p, x, h))(s.xs, s.hs),
    "vmap x, elsewhere": lambda run, s: vmap(lambda x: run(s.p, x), in_dims=-1, out_dims=1)(s.xs.movedim(0, -1)),
    "vmap vmap x": lambda run, s: vmap(vmap(lambda x: run(s.p, x)))(torch.stack([s.xs, -s.xs])),
    "vmap weights": lambda run, s: vmap(lambda p: run(p, s.x))(s.ps),
    "vmap one weight": lambda run, s: vmap(lambda w: run({**s.p, "weight_hh_l0": w}, s.x))(s.ps["weight_hh_l0"]),
    "vmap weights and x": lambda run, s: vmap(run)(s.ps, s.xs, s.hs),
    "vmap weights, vmap x": lambda run, s: vmap(lambda p: vmap(lambda x: run(p, x))(s.xs))(s.ps),
    "grad of vmap": lambda run, s: grad(lambda p, xs: loss(vmap(lambda x: run(p, x))(xs)), argnums=(0, 1))(s.p, s.xs),
    "sample gradients": lambda run, s: sample_gradients(run)(s.p, s.xs),
    "sample gradients of all": lambda run, s: vmap(
        grad(lambda p, x, h: loss(run(p, x, h)), argnums=(0, 1, 2)), in_dims=(None, 0, 0)
    )(s.p, s.xs, s.hs),
    "sample gradients twice": lambda run, s: vmap(sample_gradients(run), in_dims=(None, 0))(
        s.p, torch.stack([s.xs, -s.xs])
    ),
    "sample gradients of an ensemble": lambda run, s: vmap(sample_gradients(run), in_dims=(0, None))(s.ps, s.xs),
    "gradients of an ensemble": lambda run, s: vmap(grad(lambda p, x: loss(run(p, x))), in_dims=(0, None))(s.ps, s.x),
    "jacrev x": lambda run, s: jacrev(lambda x: run(s.p, x)[0])(s.x),
    "jacrev weights": lambda run, s: jacrev(lambda p: run(p, s.x)[1])(s.p),
}
HIGHER: dict[str, Callable[[Run, Setting], Any]] = {
    "jvp": lambda run, s: jvp(run, (s.p, s.x), ({name: w[0] for name, w in s.ps.items()}, s.xs[0])),
    "jacfwd x": lambda run, s: jacfwd(lambda x: run(s.p, x)[0])(s.x),
    "jacfwd weights": lambda run, s: jacfwd(lambda p: loss(run(p, s.x)))(s.p),
    "vmap of jvp": lambda run, s: vmap(lambda v: jvp(lambda x: run(s.p, x), (s.x,), (v,)))(s.xs),
    "jvp of vmap": lambda run, s: jvp(vmap(lambda x: run(s.p, x)), (s.xs,), (-s.xs,)),
    "jvp of a pullback": lambda run, s: jvp(
        vjp(lambda x: run(s.p, x)[0], s.x)[1], (run(s.p, s.x)[0],), (run(s.p, s.xs[0])[0],)
    ),
    "vjp of a pullback": lambda run, s: vjp(vjp(lambda x: run(s.p, x)[0], s.x)[1], run(s.p, s.x)[0])[1]((s.xs[0],)),
    "grad of grad": lambda run, s: grad(lambda p: squares(grad(lambda p: loss(run(p, s.x)))(p)))(s.p),
    "grad of sample gradients": lambda run, s: grad(
        lambda p, xs: squares(sample_gradients(run)(p, xs)), argnums=(0, 1)
    )(s.p, s.xs),
    "hessian": lambda run, s: hessian(lambda h: loss(run(s.p, s.x, h)))(s.h),
    "jacrev of jacrev": lambda run, s: jacrev(jacrev(lambda h: loss(run(s.p, s.x, h))))(s.h),
    "jacrev of jacfwd": lambda run, s: jacrev(jacfwd(lambda h: loss(run(s.p, s.x, h))))(s.h),
    "jacfwd of jacfwd": lambda run, s: jacfwd(jacfwd(lambda h: loss(run(s.p, s.x, h))))(s.h),
}


def assert_equal(got: Any, expected: Any) -> None:
    got, expected = tree_leaves(got), tree_leaves(expected)
    assert len(got) == len(expected) > 0
    for one, two in zip(got, expected, strict=True):
        assert two.any()
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)


def compare(transform: Callable[[Run, Setting], Any], setting: Setting) -> None:
    got, expected = (
        transform(lambda *arguments, layer=layer: setting.call(layer, *arguments), setting)
        for layer in (setting.layer, setting.exact)
    )
    assert_equal(got, expected)


OPTIONS = [{"bidirectional": True, "num_layers": 2}, {"bias": False}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("form", ["batched", "unbatched", "packed"])
@pytest.mark.parametrize("transform", FIRST)
def test_first_derivatives_and_vmap_run_on_the_kernels(
    transform: str, form: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(form, **options)
    run = FIRST[transform]
    expected = run(lambda *arguments: setting.call(setting.exact, *arguments), setting)
    monkeypatch.setattr("fastgru.core.reference.gru", None)
    got = run(lambda *arguments: setting.call(setting.layer, *arguments), setting)
    assert_equal(got, expected)


@pytest.mark.parametrize("form", ["batched", "unbatched", "packed"])
@pytest.mark.parametrize("transform", HIGHER)
def test_higher_and_forward_derivatives_equal_the_definition(transform: str, form: str) -> None:
    compare(HIGHER[transform], Setting(form, bidirectional=True))


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")  # torch's own linearize
def test_linearize_equals_the_definition() -> None:
    compare(lambda run, s: linearize(lambda x: run(s.p, x), s.x)[1](s.xs[0]), Setting("batched"))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Which pass of the kernels ran, and on how many sequences."""
    seen: list[tuple[str, int]] = []

    def watch(name: str, original: Callable[..., Any]) -> None:
        def watched(self: CpuBackend, given: Layer, *rest: Any, **more: Any) -> Any:
            seen.append((name, given.x.size(1)))
            return original(self, given, *rest, **more)

        monkeypatch.setattr(CpuBackend, name, watched)

    watch("forward", CpuBackend.forward)
    watch("backward", CpuBackend.backward)
    return seen


def test_sample_gradients_take_one_pass_of_the_kernel(calls: list[tuple[str, int]]) -> None:
    setting = Setting("batched")
    sample_gradients(lambda *arguments: setting.call(setting.layer, *arguments))(setting.p, setting.xs)
    assert calls == [("forward", V * B), ("backward", V * B)]


def test_vmap_without_gradients_saves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting("batched")
    saved = []
    forward = CpuBackend.forward

    def watched(*arguments: Any, **options: Any) -> Any:
        results = forward(*arguments, **options)
        saved.append(results[2])
        return results

    monkeypatch.setattr(CpuBackend, "forward", watched)
    with torch.no_grad():
        vmap(lambda x: setting.call(setting.layer, setting.p, x))(setting.xs)
    assert saved == [None]


def test_an_ensemble_equals_its_members(calls: list[tuple[str, int]]) -> None:
    layers = [fastgru.GRU(I, H) for _ in range(V)]
    x = torch.randn(T, B, I)
    parameters, buffers = stack_module_state(layers)
    skeleton = copy.deepcopy(layers[0]).to("meta")
    y, h_n = vmap(lambda p, b: functional_call(skeleton, (p, b), (x,)))(parameters, buffers)
    assert calls == [("forward", B)] * V
    (y.sin().sum() + h_n.sum()).backward()
    for i, layer in enumerate(layers):
        own = layer(x)
        assert torch.equal(y[i], own[0])
        (own[0].sin().sum() + own[1].sum()).backward()
        for name, weight in layer.named_parameters():
            assert torch.equal(parameters[name].grad[i], weight.grad), name


def test_vmap_under_autograd_reaches_the_weights() -> None:
    layer, xs = fastgru.GRU(I, H, dtype=torch.float64), torch.randn(V, T, B, I, dtype=torch.float64)
    found = []
    for y in (vmap(lambda x: layer(x)[0])(xs), torch.stack([layer(x)[0] for x in xs])):
        found.append(torch.autograd.grad(y.sin().sum(), list(layer.parameters())))
    assert_equal(*found)


def test_vmap_over_backwards_of_one_forward() -> None:
    layer, x = fastgru.GRU(I, H), torch.randn(T, B, I, requires_grad=True)
    y, _ = layer(x)
    vs, leaves = torch.randn(V, *y.shape), [x, *layer.parameters()]
    got = vmap(lambda v: torch.autograd.grad(y, leaves, v, retain_graph=True))(vs)
    expected = zip(*(torch.autograd.grad(y, leaves, v, retain_graph=True) for v in vs), strict=True)
    for one, several in zip(got, expected, strict=True):
        torch.testing.assert_close(one, torch.stack(several))


def test_a_pullback_outlives_its_transform() -> None:
    layer, x = fastgru.GRU(I, H), torch.randn(T, B, I)
    y, pullback = vjp(lambda x: layer(x)[0], x)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(layer(leaf)[0], leaf, y)
    for context in (torch.no_grad(), torch.enable_grad()):
        with context:
            torch.testing.assert_close(pullback(y)[0], expected)


def test_dropout_under_vmap_draws_a_mask_for_each_sample() -> None:
    layer = fastgru.GRU(I, H, 2, dropout=0.5)
    same, different = (
        vmap(lambda x: layer(x)[0], randomness=randomness)(torch.randn(T, B, I).expand(V, T, B, I))
        for randomness in ("same", "different")
    )
    assert torch.equal(same[0], same[1])
    assert not torch.equal(different[0], different[1])


@pytest.mark.parametrize("transform", ["vmap x", "vmap weights", "grad", "sample gradients of all", "jacfwd x"])
def test_cell_under_transforms_equals_the_definition(transform: str) -> None:
    cell = fastgru.GRUCell(I, H, dtype=torch.float64)
    exact = copy.deepcopy(cell)
    exact.backend = "reference"
    p = {name: weight.detach() for name, weight in cell.named_parameters()}
    setting = Setting("batched")
    setting.p, setting.x, setting.h = p, torch.randn(B, I).double(), torch.randn(B, H).double()
    setting.ps = {name: torch.randn(V, *weight.shape).double() for name, weight in p.items()}
    setting.xs, setting.hs = torch.randn(V, B, I).double(), torch.randn(V, B, H).double()

    def run(layer: fastgru.GRUCell, *arguments: Any) -> tuple[Tensor, Tensor]:
        h = functional_call(layer, arguments[0], arguments[1:])
        return h, h

    both = {**FIRST, **HIGHER}[transform]
    assert_equal(*(both(lambda *a, layer=layer: run(layer, *a), setting) for layer in (cell, exact)))


@pytest.mark.parametrize("form", ["batched", "packed"])
@pytest.mark.parametrize("options", [{"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str)
def test_gradcheck_in_every_mode(options: dict[str, Any], form: str) -> None:
    setting = Setting(form, **options)
    names = list(setting.p)
    leaves = [leaf.requires_grad_() for leaf in (setting.x, setting.h, *setting.p.values())]

    def run(x: Tensor, h: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        return setting.call(setting.layer, dict(zip(names, weights, strict=True)), x, h)

    modes = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert gradcheck(run, leaves, fast_mode=True, **modes)
    assert gradgradcheck(run, leaves, fast_mode=True, check_fwd_over_rev=True, check_batched_grad=True)
