"""A case of operators: fastgru::layer and fastgru::layer_backward with wrong arguments.

They raise a Python exception, or give what the definition gives for these very arguments, and never do they read or
write where they must not: tensors lie between pages that must not be touched.

Where the definition cannot say what should come out, that they live is all that is asked: for tensors without memory or
on meta, and for gradients of other arguments than those of the forward pass that they are told to have had.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from fastgru import _native
from fastgru.core import reference
from fastgru.core.layer import Layer, layer_of
from fastgru.core.spec import Variant
from fuzz.faults import FAULTS, KIND_OF
from fuzz.guard import guarded, has_memory
from fuzz.operator_case import OperatorCase

Arguments = dict[str, Any]  # of an operator, by name, in its order
Define = Callable[[Arguments], list[Tensor]]  # what the definition makes of them
_FIXED = ("batch_sizes", "offsets", "lengths", "resets", "recurrent", "zoneout")
_BOUNDS = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def warm_up() -> None:
    """Have torch import what its first call of an operator imports, in seconds; on meta, where no thread begins."""
    x, w = torch.empty(1, 1, 1, device="meta", requires_grad=True), torch.empty(3, 1, device="meta")
    y, _, _ = torch.ops.fastgru.layer("cpu", x, None, None, [w, w], *(None,) * 6, *Variant(bias=False), 1, True)
    torch.autograd.grad(y, x, torch.ones_like(y))


def check(case: OperatorCase) -> list[str]:
    """What is wrong, in words."""
    _native.force_instruction_set(case.isa)
    torch.set_num_threads(case.threads)
    valid, generator = _valid(case)
    if case.call == "layer_backward":
        return _check_backward(case, valid, generator)
    given = _faulty(case, valid | {"batch": case.B, "save": case.draws % 4 > 0})
    wanted = _want(case, given) if case.call == "gradient" else []
    cotangents: list[Tensor] = []

    def run() -> list[Tensor]:
        found = [*torch.ops.fastgru.layer(*given.values())[:2]]
        if wanted and all(output.requires_grad for output in found):
            cotangents[:] = [_drawn(generator, output.shape, output.dtype) for output in found]
            leaves = [_layer(given).leaves[i] for i in wanted]
            found += torch.autograd.grad(found, leaves, cotangents, materialize_grads=True)
        return found

    numbers = not any(fault == "bytes" for _, fault in case.faults)
    return _tried(case, given, run, numbers, lambda exact: _defined(exact, wanted, cotangents))


def _check_backward(case: OperatorCase, valid: Arguments, generator: torch.Generator) -> list[str]:
    y, h_n, saved = torch.ops.fastgru.layer(*valid.values(), case.B, True)
    leaves = _layer(valid).leaves
    wanted = [leaf is not None and (not case.wanted or i in case.wanted) for i, leaf in enumerate(leaves)]
    dy, dh_n = _drawn(generator, y.shape, y.dtype), _drawn(generator, h_n.shape, y.dtype)
    whole = valid | {"y": y, "saved": saved, "dy": dy, "dh_n": dh_n, "wanted": wanted}
    given = _faulty(case, whole)

    def run() -> list[Tensor]:
        return [*torch.ops.fastgru.layer_backward(*given.values())]

    return _tried(case, given, run, _is_comparable(case, whole, given), _defined_backward)


def _is_comparable(case: OperatorCase, valid: Arguments, given: Arguments) -> bool:
    """Whether the definition says which numbers gradients must have: those of the layer that ran forward."""
    for name, fault in case.faults:
        if fault == "another layout" or name in ("kernel", "wanted", "dy", "dh_n"):
            continue
        if name not in ("y", "saved"):
            return False
        is_form_kept = given[name] is not None and given[name].shape == valid[name].shape
        if is_form_kept and given[name].dtype == valid[name].dtype:  # other numbers
            return False
    return True


def _tried(
    case: OperatorCase, given: Arguments, run: Callable[[], list[Tensor]], numbers: bool, define: Define
) -> list[str]:
    """What is wrong with a call's results, with what it wrote, or with the exception that it raised."""
    before = [(tensor, tensor.detach().clone()) for tensor in _tensors(given) if _is_copied(tensor)]
    try:
        found = run()
    except Exception as error:
        problems = [] if case.faults else [f"refused what is valid: {type(error).__name__}: {error}"]
    else:
        problems = _judge(given, found, numbers, define)
    if not all(torch.equal(tensor.nan_to_num(), copied.nan_to_num()) for tensor, copied in before):
        problems.append("wrote to an argument")
    return problems


def _tensors(given: Arguments) -> list[Tensor]:
    return [value for value in [*given.values(), *given["weights"]] if isinstance(value, Tensor)]


def _is_copied(tensor: Tensor) -> bool:
    """Whether a copy of it can be had."""
    return has_memory(tensor) and tensor.numel() < 10**7


def _valid(case: OperatorCase) -> tuple[Arguments, torch.Generator]:
    """The layer's arguments before anything is made wrong."""
    generator = torch.Generator().manual_seed(case.draws)
    dtype = getattr(torch, case.dtype)
    variant = Variant(**case.variant)  # type: ignore[arg-type]
    directions, hidden = variant.directions, case.H
    least = 1 if case.steps == "batch_sizes" else 0
    lengths = torch.randint(least, case.T + 1, (case.B,), generator=generator)
    index = torch.int32 if case.int32 else torch.int64
    rows = [int(lengths.sum())] if case.steps in ("batch_sizes", "offsets") else [case.T, case.B]
    own = [(3 * hidden, case.I), (3 * hidden, hidden), *[(3 * hidden,)] * (variant.weights_per_direction - 2)]
    drawn: Arguments = {
        "h0": _drawn(generator, (directions, case.B, hidden), dtype),
        "initial": _drawn(generator, (directions, hidden), dtype),
        "resets": torch.rand(rows, generator=generator) < 0.3,
        "recurrent": (torch.rand(directions, case.B, hidden, generator=generator) < 0.7).to(dtype) * 1.25,
        "zoneout": (torch.rand(*rows, directions * hidden, generator=generator) < 0.7).to(dtype),
    }
    steps: Arguments = {
        "batch_sizes": (torch.arange(int(lengths.max()) if case.B else 0)[:, None] < lengths).sum(1),
        "offsets": torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).to(index),
        "lengths": lengths.to(index),
    }
    there = {name: value for name, value in drawn.items() if name in case.extra} | {case.steps: steps.get(case.steps)}
    weights = [_drawn(generator, shape, dtype) * hidden**-0.5 for shape in own * directions]
    x = _drawn(generator, (*rows, case.I), dtype)
    leaves: Arguments = {"kernel": "cpu", "x": x, "h0": there.get("h0"), "initial": there.get("initial")}
    fixed = {name: there.get(name) for name in _FIXED}
    return {**leaves, "weights": weights, **fixed, **case.variant}, generator


def _drawn(generator: torch.Generator, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64).to(dtype)


def _faulty(case: OperatorCase, valid: Arguments) -> Arguments:
    """The arguments with their faults, in guarded memory."""
    rng = Random(case.draws)
    given = {**valid, "weights": [*valid["weights"]]}
    for name, fault in case.faults:
        word, _, place = name.partition(" ")
        holder: Any = given["weights"] if place else given
        key: Any = int(place) if place else word
        if place and key >= len(holder):
            continue
        change = FAULTS[KIND_OF.get(name, "tensor")][fault]
        try:
            holder[key] = change(rng, holder[key])
        except Exception:  # of None, or after another fault, it has no meaning
            continue
    copies: dict[int, Tensor] = {}
    return {name: _each(value, lambda t: copies.setdefault(id(t), guarded(rng, t))) for name, value in given.items()}


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """An argument with its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    return [_each(one, change) for one in value] if isinstance(value, list) else value


def _layer(given: Arguments) -> Layer:
    variant = Variant(*(given[name] for name in Variant._fields))
    fixed = [given[name] for name in _FIXED]
    return layer_of(variant, [*fixed, given["x"], given["h0"], given["initial"], *given["weights"]])


def _want(case: OperatorCase, given: Arguments) -> list[int]:
    """Which of the leaves are to be differentiated for: they ask for it from now on."""
    wanted = []
    for i, leaf in enumerate(_layer(given).leaves):
        if leaf is not None and leaf.is_floating_point() and (not case.wanted or i in case.wanted):
            leaf.requires_grad_()
            wanted.append(i)
    return wanted


def _judge(given: Arguments, found: list[Tensor], numbers: bool, define: Define) -> list[str]:
    """What is wrong with results: they are to be the definition's where it has any, with its numbers if `numbers`."""
    tensors = _tensors(given)
    if any(not has_memory(t) and t.layout is torch.strided and not t._is_zerotensor() for t in tensors):
        return []
    copies: dict[int, Tensor] = {}
    try:
        exact = {name: _each(value, lambda t: copies.setdefault(id(t), _exact(t))) for name, value in given.items()}
        expected = define(exact)
    except Exception as error:
        return [f"gave a result where the definition says: {type(error).__name__}: {error}"]
    if len(expected) != len(found):
        return [f"gave {len(found)} results, not {len(expected)}"]
    rounded = [torch.bfloat16] if given["bf16"] else []
    bound = max(_BOUNDS.get(dtype, 0.0) for dtype in [*rounded, *(t.dtype for t in tensors)])
    problems = []
    for number, (got, want) in enumerate(zip(found, expected, strict=True)):
        if got.shape != want.shape:
            problems.append(f"result {number} is {[*got.shape]}, not {[*want.shape]}")
        elif numbers and not (error := _error(got, want)) <= bound:
            problems.append(f"result {number} {[*got.shape]} has a relative error of {error:.1e}")
    return problems


def _exact(tensor: Tensor) -> Tensor:
    """The same in float64, on its own."""
    dense = tensor.detach() if tensor.layout is torch.strided else tensor.detach().to_dense()
    copied = dense.double() if dense.is_floating_point() else dense
    return torch.zeros(copied.shape, dtype=copied.dtype) if copied._is_zerotensor() else copied.clone()


def _error(got: Tensor, want: Tensor) -> float:
    if got.numel() == 0:
        return 0.0
    got, want = got.detach().double(), want.detach().double()
    if not torch.equal(got.isfinite(), want.isfinite()):
        return torch.inf
    got, want = got.nan_to_num(0, 0, 0), want.nan_to_num(0, 0, 0)
    return (got - want).norm().item() / max(want.norm().item(), 0.1 * want.numel() ** 0.5)


def _defined(exact: Arguments, wanted: list[int], cotangents: list[Tensor]) -> list[Tensor]:
    leaves = [leaf for i, leaf in enumerate(_layer(exact).leaves) if i in wanted and leaf is not None]
    for leaf in leaves if cotangents else []:
        leaf.requires_grad_()
    results = [*reference.layer(_layer(exact))]
    if not cotangents:
        return results
    given = [cotangent.double() for cotangent in cotangents]
    return [*results, *torch.autograd.grad(results, leaves, given, materialize_grads=True)]


def _defined_backward(exact: Arguments) -> list[Tensor]:
    leaves, wanted = _layer(exact).leaves, exact["wanted"]
    if len(wanted) != len(leaves):
        raise ValueError(f"{len(wanted)} flags for {len(leaves)} leaves")
    chosen = [leaf for leaf, want in zip(leaves, wanted, strict=True) if want and leaf is not None]
    for leaf in chosen:
        leaf.requires_grad_()
    pairs = zip(reference.layer(_layer(exact)), (exact["dy"], exact["dh_n"]), strict=True)
    given = [(output, cotangent) for output, cotangent in pairs if cotangent is not None and output.requires_grad]
    if not given:
        return [torch.zeros_like(leaf) for leaf in chosen]
    if not chosen:
        return []
    outputs, cotangents = zip(*given, strict=True)
    return [*torch.autograd.grad(outputs, chosen, cotangents, materialize_grads=True)]
