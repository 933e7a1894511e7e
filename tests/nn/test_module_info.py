"""torch's own cases for nn.GRU and nn.GRUCell (its ModuleInfo, in the wheel), with our classes in torch's place.

The checks are those of torch's test of all modules, in our words. Those that need a GPU, an `inplace` argument or a
lazy module have no case here.
"""

import copy
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch._subclasses.meta_utils import assert_metadata_eq
from torch.utils._pytree import tree_leaves, tree_map

import fastgru

with patch("torch.backends.disable_global_flags"):  # for the whole process, whose other tests set such flags
    from torch.testing._internal.common_modules import ModuleErrorEnum, module_db
    from torch.testing._internal.common_utils import freeze_rng_state

OURS = {torch.nn.GRU: fastgru.GRU, torch.nn.GRUCell: fastgru.GRUCell}
INFOS = {info.module_cls: info for info in module_db if info.module_cls in OURS}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@dataclass(frozen=True)
class Sample:
    """One of torch's cases: what to build, what to call it with, in which dtype and mode."""

    kind: type
    dtype: torch.dtype
    training: bool
    number: int

    def __str__(self) -> str:
        mode = "train" if self.training else "eval"
        return f"{self.kind.__name__}-{self.number}-{mode}-{self.dtype}".replace("torch.", "")

    def entry(self, requires_grad: bool = False) -> Any:
        """torch's description of it, with fresh inputs."""
        return samples(self.kind, self.dtype, self.training, requires_grad)[self.number]

    def build(self, entry: Any, kind: type | None = None, **more: Any) -> torch.nn.Module:
        """Our module, or another kind's, in this dtype and mode."""
        given = entry.constructor_input
        layer = (kind or OURS[self.kind])(*given.args, **given.kwargs, **more)
        return layer.to("cpu").to(self.dtype).train(self.training)


def samples(kind: type, dtype: torch.dtype, training: bool, requires_grad: bool, **more: bool) -> list[Any]:
    info = INFOS[kind]
    return info.module_inputs_func(
        info, device="cpu", dtype=dtype, requires_grad=requires_grad, training=training, **more
    )


def all_samples() -> Iterator[Sample]:
    for kind, info in INFOS.items():
        for training in (True, False) if info.train_and_eval_differ else (True,):
            for dtype in info.supported_dtypes("cpu"):
                for number in range(len(samples(kind, dtype, training, False))):
                    yield Sample(kind, dtype, training, number)


SAMPLES = list(all_samples())
DOUBLES = [sample for sample in SAMPLES if sample.dtype is torch.float64]
each = pytest.mark.parametrize("sample", SAMPLES, ids=str)


def call(layer: torch.nn.Module, given: Any) -> Any:
    with freeze_rng_state():
        return layer(*given.args, **given.kwargs)


def gradients(outputs: Any, leaves: list[Tensor], cotangents: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(tree_leaves(outputs), leaves, cotangents)


def test_torch_has_the_cases_that_we_count_on() -> None:
    assert {kind.__name__ for kind in INFOS} == {"GRU", "GRUCell"}
    assert len([sample for sample in SAMPLES if sample.kind is torch.nn.GRU]) == 64
    assert len([sample for sample in SAMPLES if sample.kind is torch.nn.GRUCell]) == 4


@each
def test_forward_equals_torchs_reference_and_torch(sample: Sample) -> None:
    entry = sample.entry()
    layer, theirs = sample.build(entry), sample.build(entry, sample.kind)
    theirs.load_state_dict(layer.state_dict())
    given = entry.forward_input
    got = call(layer, given)
    torch.testing.assert_close(got, entry.reference_fn(layer, *given.args, **given.kwargs), **CLOSE)
    torch.testing.assert_close(got, call(theirs, given), **CLOSE)
    {torch.float32: layer.float, torch.float64: layer.double}[sample.dtype]()
    assert {p.dtype for p in layer.parameters()} == {sample.dtype}
    torch.testing.assert_close(call(layer, given), got, rtol=0, atol=0)


@pytest.mark.parametrize("number", range(32))
def test_packed_samples_equal_torch(number: int) -> None:
    entry = samples(torch.nn.GRU, torch.float64, True, False, with_packed_sequence=True)[number]
    sample = Sample(torch.nn.GRU, torch.float64, True, number)
    layer, theirs = sample.build(entry), sample.build(entry, torch.nn.GRU)
    theirs.load_state_dict(layer.state_dict())
    for got, expected in zip(
        tree_leaves(call(layer, entry.forward_input)), tree_leaves(call(theirs, entry.forward_input)), strict=True
    ):
        torch.testing.assert_close(got, expected)


@each
def test_device_and_dtype_reach_every_parameter(sample: Sample) -> None:
    given = sample.entry().constructor_input
    for device in ("cpu", "meta"):
        layer = OURS[sample.kind](*given.args, **given.kwargs, device=device, dtype=sample.dtype)
        assert {(p.device.type, p.dtype) for p in layer.parameters()} == {(device, sample.dtype)}


@each
def test_repr_is_torchs(sample: Sample) -> None:
    entry = sample.entry()
    assert repr(sample.build(entry)) == repr(sample.build(entry, sample.kind))


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
@each
def test_a_copy_gives_the_same_output(sample: Sample, way: str) -> None:
    entry = sample.entry()
    layer = sample.build(entry)
    expected = call(layer, entry.forward_input)
    if way == "deepcopy":
        twin = copy.deepcopy(layer)
    else:
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        twin = torch.load(file, weights_only=False)
    torch.testing.assert_close(call(twin, entry.forward_input), expected, rtol=0, atol=0)


def strided(tensor: Tensor) -> Tensor:
    """The same numbers with a gap after each."""
    return tensor.detach().repeat_interleave(2, dim=-1)[..., ::2].requires_grad_(tensor.requires_grad)


@each
def test_tensors_with_gaps_give_the_same(sample: Sample) -> None:
    entry = sample.entry(requires_grad=True)
    layer, args = sample.build(entry), entry.forward_input.args
    expected = layer(*args)
    cotangents = [torch.randn_like(output) for output in tree_leaves(expected)]
    wanted = gradients(expected, [*args, *layer.parameters()], cotangents)
    for inputs in (args, tree_map(strided, args)):
        for given in (cotangents, tree_map(strided, cotangents)):
            got = layer(*inputs)
            torch.testing.assert_close(got, expected, **CLOSE)
            found = gradients(got, [*inputs, *layer.parameters()], given)
            torch.testing.assert_close(found, wanted, **CLOSE)


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
@pytest.mark.parametrize("sample", DOUBLES, ids=str)
def test_derivatives_are_right(sample: Sample, check: Callable[..., bool]) -> None:
    entry = sample.entry(requires_grad=True)
    layer, args = sample.build(entry), entry.forward_input.args
    names = [name for name, _ in layer.named_parameters()]

    def run(*leaves: Tensor) -> list[Tensor]:
        weights = dict(zip(names, leaves[len(args) :], strict=True))
        return tree_leaves(torch.func.functional_call(layer, weights, leaves[: len(args)]))

    parameters = list(layer.parameters())
    assert check(run, (*args, *parameters), fast_mode=True)
    for parameter in parameters:  # one at a time, and none: then the others' gradients are not made
        parameter.requires_grad_(False)
    assert check(run, (*args, *parameters), fast_mode=True)
    parameters[-1].requires_grad_(True)
    assert check(run, (*args, *parameters), fast_mode=True)


@each
def test_memory_formats_change_nothing(sample: Sample) -> None:
    entry = sample.entry(requires_grad=True)
    layer, args = sample.build(entry), entry.forward_input.args
    expected = layer(*args)
    cotangents = [torch.rand_like(output) for output in tree_leaves(expected)]
    wanted = gradients(expected, [*args, *layer.parameters()], cotangents)
    for memory_format in (torch.preserve_format, torch.contiguous_format):
        layer.to(memory_format=memory_format)
        got = layer(*args)
        found = gradients(got, [*args, *layer.parameters()], cotangents)
        torch.testing.assert_close((got, found), (expected, wanted), **CLOSE)
        assert all(tensor.is_contiguous() for tensor in (*tree_leaves(got), *found))


@each
def test_only_what_may_differ_in_training_asks_for_the_mode(sample: Sample) -> None:
    entry = sample.entry()
    layer = sample.build(entry)
    del layer.training
    if INFOS[sample.kind].train_and_eval_differ:
        with pytest.raises(AttributeError, match="'training'"):
            call(layer, entry.forward_input)
    else:
        call(layer, entry.forward_input)


@each
def test_a_device_context_builds_there(sample: Sample) -> None:
    given = sample.entry().constructor_input
    here = OURS[sample.kind](*given.args, **given.kwargs)
    with torch.device("meta"):
        there = OURS[sample.kind](*given.args, **given.kwargs)

    def equal(one: object, two: object) -> None:
        assert one == two

    for meta, real in zip(there.parameters(), here.parameters(), strict=True):
        assert meta.is_meta
        assert_metadata_eq(equal, meta, real)


def errors() -> Iterator[Any]:
    for kind, info in INFOS.items():
        for dtype in info.supported_dtypes("cpu"):
            given = {"device": "cpu", "dtype": dtype, "requires_grad": False, "training": True}
            for number, entry in enumerate(info.module_error_inputs_func(info, **given)):
                yield pytest.param(kind, entry, id=f"{kind.__name__}-{number}-{dtype}".replace("torch.", ""))


@pytest.mark.parametrize(("kind", "error"), list(errors()))
def test_errors_are_those_that_torch_expects(kind: type, error: Any) -> None:
    given, called = error.module_error_input.constructor_input, error.module_error_input.forward_input
    if error.error_on is ModuleErrorEnum.CONSTRUCTION_ERROR:
        with pytest.raises(error.error_type, match=error.error_regex):
            OURS[kind](*given.args, **given.kwargs)
    else:
        layer = OURS[kind](*given.args, **given.kwargs)
        with pytest.raises(error.error_type, match=error.error_regex):
            layer(*called.args, **called.kwargs)


@pytest.mark.parametrize("swap", [False, True])
@each
def test_moves_between_dtypes_and_devices(sample: Sample, swap: bool) -> None:
    entry = sample.entry()
    layer = sample.build(entry)
    with torch.no_grad():  # torch swaps no parameter that a graph still holds
        expected = call(layer, entry.forward_input)
    other = torch.float64 if sample.dtype is torch.float32 else torch.bfloat16
    before = list(layer.parameters())
    torch.__future__.set_swap_module_params_on_conversion(swap)
    try:
        layer.to(other)
        assert {p.dtype for p in layer.parameters()} == {other}
        if swap:
            assert all(one is two for one, two in zip(layer.parameters(), before, strict=True))
        layer.to("meta").to_empty(device="cpu").to(sample.dtype).reset_parameters()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    layer.load_state_dict(sample.build(entry).state_dict())
    changed = call(layer, entry.forward_input)
    theirs = sample.build(entry, sample.kind)
    theirs.load_state_dict(layer.state_dict())
    torch.testing.assert_close(changed, call(theirs, entry.forward_input), **CLOSE)
    assert not torch.allclose(tree_leaves(changed)[0], tree_leaves(expected)[0])
