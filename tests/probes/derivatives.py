"""torch.func, the modes of autograd, and precision."""

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads
from torch.utils.checkpoint import checkpoint

import fastgru
from probes import AUTOGRAD, FUNC, PRECISION, B, H, I, Kind, T, as_torch, build, draw, probe, results, same


def float64(kind: Kind, **options: object) -> tuple[torch.nn.Module, Tensor]:
    return build(kind, **options).double(), draw(dtype=torch.float64)


def value(layer: torch.nn.Module, x: Tensor) -> Tensor:
    y, h_n = layer(x)
    return y.square().sum() + h_n.sin().sum()


@probe(FUNC, "`grad`, of the input and of the weights")
def grad(kind: Kind) -> None:
    layer, x = float64(kind)
    weights = dict(layer.named_parameters())

    def call(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
        y, h_n = functional_call(layer, weights, (x,))
        return y.square().sum() + h_n.sin().sum()

    dx, dweights = torch.func.grad(call, argnums=(0, 1))(x, weights)
    same([dx, *dweights.values()], results(as_torch(layer), x)[2:])


@probe(FUNC, "`vmap` over inputs")
def vmap_inputs(kind: Kind) -> None:
    layer, _ = float64(kind)
    xs = draw(2, T, B, I, dtype=torch.float64)
    same(vmap(lambda x: layer(x)[0])(xs), torch.stack([as_torch(layer)(x)[0] for x in xs]))


@probe(FUNC, "`vmap` over weights: an ensemble")
def vmap_weights(kind: Kind) -> None:
    layers = [kind(I, H, dtype=torch.float64) for _ in range(3)]
    weights, buffers = stack_module_state(layers)
    x = draw(dtype=torch.float64)
    got = vmap(lambda w, b: functional_call(layers[0], (w, b), (x,))[0])(weights, buffers)
    same(got, torch.stack([layer(x)[0] for layer in layers]))


@probe(FUNC, "per-sample gradients: `vmap(grad)`")
def per_sample(kind: Kind) -> None:
    layer, x = float64(kind)
    weights = dict(layer.named_parameters())

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(layer, weights, (x,))[0].square().sum()

    got = vmap(torch.func.grad(loss), in_dims=(None, 1))(weights, x)
    for b in range(B):
        theirs = as_torch(layer)
        expected = torch.autograd.grad(theirs(x[:, b])[0].square().sum(), list(theirs.parameters()))
        same([gradient[b] for gradient in got.values()], list(expected))


@probe(FUNC, "per-sample gradients by expanded weights (`torch.nn.utils._per_sample_grad`)")
def expanded_weights(kind: Kind) -> None:
    layer, x = build(kind, batch_first=True), draw(B, T, I)
    y, _ = call_for_per_sample_grads(layer, batch_size=B, loss_reduction="sum")(x)
    y.square().sum().backward()
    theirs = as_torch(layer, batch_first=True)
    for b in range(B):
        y, _ = theirs(x[b : b + 1])
        expected = torch.autograd.grad(y.square().sum(), [*theirs.parameters()])
        same([parameter.grad_sample[b] for parameter in layer.parameters()], [*expected])


@probe(FUNC, "`vjp`")
def vjp(kind: Kind) -> None:
    layer, x = float64(kind)
    y, pull = torch.func.vjp(lambda x: layer(x)[0], x)
    leaf = x.clone().requires_grad_()
    expected = as_torch(layer)(leaf)[0]
    same(pull(torch.ones_like(y))[0], torch.autograd.grad(expected.sum(), leaf)[0])


def jacobian(layer: torch.nn.Module, x: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(lambda x: as_torch(layer)(x)[0], x)


@probe(FUNC, "`jacrev`")
def jacrev(kind: Kind) -> None:
    layer, x = float64(kind)
    same(torch.func.jacrev(lambda x: layer(x)[0])(x), jacobian(layer, x))


@probe(FUNC, "`jvp` and `jacfwd`")
def jacfwd(kind: Kind) -> None:
    layer, x = float64(kind)
    expected = jacobian(layer, x)
    _, tangent = torch.func.jvp(lambda x: layer(x)[0], (x,), (torch.ones_like(x),))
    same(tangent, expected.sum(dim=(-1, -2, -3)))
    same(torch.func.jacfwd(lambda x: layer(x)[0])(x), expected)


@probe(FUNC, "`hessian`")
def hessian(kind: Kind) -> None:
    layer, x = float64(kind, num_layers=1)
    x = x[:2, :1]
    expected = torch.autograd.functional.hessian(lambda x: value(as_torch(layer, num_layers=1), x), x)
    same(torch.func.hessian(lambda x: value(layer, x))(x), expected)


@probe(AUTOGRAD, "second derivatives (`create_graph=True`, gradgradcheck)")
def second(kind: Kind) -> None:
    layer, x = float64(kind)
    assert torch.autograd.gradgradcheck(lambda x: layer(x), (x[:3].requires_grad_(),), fast_mode=True)


@probe(AUTOGRAD, "forward mode (dual tensors)")
def dual(kind: Kind) -> None:
    layer, x = float64(kind)
    with forward_ad.dual_level():
        y, _ = layer(forward_ad.make_dual(x, torch.ones_like(x)))
        tangent = forward_ad.unpack_dual(y).tangent
    if tangent is None:
        raise RuntimeError("the output has no tangent")
    same(tangent, jacobian(layer, x).sum(dim=(-1, -2, -3)))


@probe(AUTOGRAD, "a batch of cotangents (`is_grads_batched=True`)")
def batched_cotangents(kind: Kind) -> None:
    layer, x = float64(kind)
    cotangents = draw(3, T, B, 2 * H, dtype=torch.float64)
    x = x.requires_grad_()
    (got,) = torch.autograd.grad(layer(x)[0], x, cotangents, is_grads_batched=True)
    y = as_torch(layer)(x)[0]
    same(got, torch.stack([torch.autograd.grad(y, x, one, retain_graph=True)[0] for one in cotangents]))


@probe(AUTOGRAD, "activation checkpointing")
def checkpointing(kind: Kind) -> None:
    layer, x = build(kind), draw().requires_grad_()
    y, _ = checkpoint(layer, x, use_reentrant=False)
    (dx,) = torch.autograd.grad(y.sum(), x)
    same(dx, torch.autograd.grad(as_torch(layer)(x)[0].sum(), x)[0])


@probe(AUTOGRAD, "saved tensors packed and unpacked by hooks")
def hooks(kind: Kind) -> None:
    layer = build(kind)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.numpy(force=True), torch.from_numpy):
        got = results(layer, draw())
    same(got, results(as_torch(layer), draw()))


@probe(AUTOGRAD, "the output changed in place before backward")
def in_place(kind: Kind) -> None:
    layer, x = build(kind), draw().requires_grad_()
    y, _ = layer(x)
    (dx,) = torch.autograd.grad(y.mul_(2).sum(), x)
    same(dx, 2 * torch.autograd.grad(as_torch(layer)(x)[0].sum(), x)[0])


def near_exact(layer: torch.nn.Module, x: Tensor, got: Tensor, dtype: torch.dtype) -> str | None:
    """None where the error against float64 is below the dtype's own rounding; otherwise how many times it is that."""
    exact = as_torch(layer.double())(x.double())[0]
    error = ((got.double() - exact).norm() / exact.norm()).item() / torch.finfo(dtype).eps
    if got.dtype is not dtype:
        return f"gives {got.dtype}".replace("torch.", "")
    return None if error < 1 else f"yes, with {error:.0f} times the rounding error"


def whole(kind: Kind, dtype: torch.dtype) -> str | None:
    layer = build(kind).to(dtype)
    x = draw().to(dtype)
    got = results(layer, x)
    assert all(tensor.dtype is dtype for tensor in got)
    return near_exact(layer, x, got[0], dtype)


def auto(kind: Kind, dtype: torch.dtype) -> str | None:
    layer, x = build(kind), draw()
    with torch.autocast("cpu", dtype=dtype):
        got = results(layer, x)
    return near_exact(layer, x, got[0], dtype)


@probe(PRECISION, "a float64 layer")
def in_float64(kind: Kind) -> str | None:
    return whole(kind, torch.float64)


@probe(PRECISION, "a bfloat16 layer, forward and backward")
def in_bfloat16(kind: Kind) -> str | None:
    return whole(kind, torch.bfloat16)


@probe(PRECISION, "a float16 layer, forward and backward")
def in_float16(kind: Kind) -> str | None:
    return whole(kind, torch.float16)


@probe(PRECISION, "autocast to bfloat16, forward and backward")
def autocast_bfloat16(kind: Kind) -> str | None:
    return auto(kind, torch.bfloat16)


@probe(PRECISION, "autocast to float16, forward and backward")
def autocast_float16(kind: Kind) -> str | None:
    return auto(kind, torch.float16)


@probe(PRECISION, "int8 by `torch.ao.quantization.quantize_dynamic`")
def quantized(kind: Kind) -> None:
    model = torch.nn.Sequential(build(kind))
    turned = torch.ao.quantization.quantize_dynamic(model, {kind}, dtype=torch.qint8)
    if isinstance(turned[0], torch.nn.GRU | fastgru.GRU):
        raise RuntimeError("the layer is left as it was")
    same(turned(draw())[0], model(draw())[0], rtol=0.1, atol=0.1)
