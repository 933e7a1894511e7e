"""ONNX: any model with GRUs in it as one file, whose GRUs are ONNX's own operator, checked before anybody gets it."""

import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from fastgru.common.eval_mode import eval_mode
from fastgru.common.files import atomic_write
from fastgru.convert.quantize import to_float
from fastgru.convert.sizes import Arguments, all_open, file_names, open_axes, resized, tensors_of, tied, unnamed
from fastgru.convert.subclasses import twin_of, why_no_twin
from fastgru.nn import GRU, GRUCell
from fastgru.ops import onnx
from fastgru.ops.library import layer_of_arguments
from fastgru.quantized import KeepsLowWeights

_OURS: list[tuple[type[torch.nn.Module], type[torch.nn.Module]]] = [(kind.torch_class, kind) for kind in (GRU, GRUCell)]
_LIMIT = 2**31 - 2**20  # bytes of weights: a file of ONNX holds 2 GiB, its graph included


def export_onnx(
    model: torch.nn.Module,
    path: str | os.PathLike[str],
    args: Sequence[Any] | Tensor,
    kwargs: dict[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    opset_version: int | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> dict[str, list[int | str]]:
    """Write a model as an ONNX file, and only if onnxruntime computes with it what the model computes.

    model: with fastgru's or torch.nn's GRUs and GRUCells anywhere inside, or one of these; in float32 on the CPU, or
        quantized: the file then has the int8 weights, a DequantizeLinear before each GRU, and float32 activations. It
        is exported as in eval, whatever its mode, and left as it was.
    path: the file, replaced if it is there. It appears whole and checked, or not at all.
    args, kwargs: an example of what the model is called with. Every size in it is dynamic in the file, unless the
        model needs this very size; a size of 0 or 1 stays fixed, so give an example with B >= 2 and T >= 2. Sizes that
        the model takes equal alone are one size, with one name.
    dynamic_shapes: which sizes are dynamic instead, and their names, as torch.export.export takes them. Where a name
        occurs twice, the two are one size.
    opset_version: of ONNX; torch's choice where it is None.
    rtol, atol: how near onnxruntime's results must be, for the example and for one of other sizes.

    Returns each input's shape in the file: a name where a size is dynamic.
    Raises ImportError without onnxscript or onnxruntime, ValueError where nothing is dynamic, the model fixes a size
    that has a name or takes no other sizes, or the weights are too large for one file, RuntimeError where a GRU is not
    of float32 on the CPU, has layer_norm or zoneout, or the results differ; and what torch.export and torch.onnx raise
    for the rest of the model.

    >>> import fastgru, torch
    >>> model = fastgru.GRU(8, 16, batch_first=True)
    >>> fastgru.export_onnx(model, "model.onnx", torch.randn(2, 5, 8))
    {'input': ['input_0', 'input_1', 8]}
    """
    _check_packages()
    _check_weights(model)
    given = inspect.signature(model.forward).bind(*((args,) if isinstance(args, Tensor) else args), **(kwargs or {}))
    example = given.args, given.kwargs  # now in the order of the model's own signature
    dynamic_shapes = all_open(given.arguments) if dynamic_shapes is None else dynamic_shapes
    with eval_mode(model), torch.no_grad():
        program = _program(model, example, dynamic_shapes)
        axes = open_axes(program, given.arguments, dynamic_shapes)
        resize = partial(resized, axes, bounds=program.range_constraints, example=example)
        tensors = tensors_of(example)
        groups = tied(axes, tensors, lambda groups: _refusal(model, resize(groups)))
        converted = _converted(program, file_names(axes, groups, len(tensors)), opset_version)
        with atomic_write(Path(path), attempt=uuid4().hex) as file:
            converted.save(str(file), external_data=False)
            expected = to_float(model) if any(isinstance(part, KeepsLowWeights) for part in model.modules()) else model
            return _check(expected, str(file), (example, resize(groups)), rtol, atol)


def _check_packages() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"export_onnx needs {' and '.join(missing)}, not installed here. Install with: pip install 'fastgru[onnx]'"
        )


def _check_weights(model: torch.nn.Module) -> None:
    size = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    if size > _LIMIT:
        raise ValueError(f"a file of ONNX holds at most {_LIMIT} bytes of weights, and this model has {size}")
    for name, layer in model.named_modules():
        weight = next(layer.parameters(), None)
        if weight is None or not issubclass(_as_ours(type(layer)), GRU | GRUCell):
            continue
        for option in ("layer_norm", "zoneout"):
            if given := getattr(layer, option, False):
                raise RuntimeError(f"the GRU {name!r} has {option}={given}, which ONNX's operator GRU does not have")
        if weight.dtype is not torch.float32 or not weight.is_cpu:
            kind = f"{weight.dtype} on {weight.device}".removeprefix("torch.")
            raise RuntimeError(
                f"the GRU {name!r} is of {kind}, and onnxruntime's of float32: export model.float().cpu()"
            )


@contextmanager
def _as_operators(model: torch.nn.Module) -> Iterator[None]:
    """Every GRU of the model one whose layers a tracer sees as an operator, whatever its length; then as before.

    torch.nn's own would be unrolled to the example's length, as a subclass of theirs is that cannot be accelerated.
    """
    before = [
        (layer, layer.__class__, layer.__dict__.get("backend"))
        for layer in model.modules()
        if issubclass(_as_ours(type(layer)), GRU | GRUCell)
    ]
    try:
        for layer, kind, _ in before:
            layer.__class__ = _as_ours(kind)
            layer.backend = "cpu"  # type: ignore[assignment]
        yield
    finally:
        for layer, kind, backend in before:
            layer.__class__ = kind
            del layer.backend
            if backend is not None:
                layer.backend = backend


def _as_ours(kind: type) -> type:
    """A class with our forward in the place of torch.nn's; itself, where that is not what it runs."""
    for theirs, ours in _OURS:
        if getattr(kind, "forward", None) is theirs.forward:
            return type(kind.__name__, (ours, kind), {})
        if issubclass(kind, theirs) and not issubclass(kind, ours) and why_no_twin(kind) is None:
            return twin_of(kind)
    return kind


def _program(model: torch.nn.Module, example: Arguments, dynamic_shapes: Any) -> torch.export.ExportedProgram:
    args, kwargs = example
    with _as_operators(model):
        program = torch.export.export(model, args, kwargs, dynamic_shapes=unnamed(dynamic_shapes), strict=False)
    for node in program.graph.nodes:  # as they are called: kernel, a layer, batch, save; a layer, batch
        if node.target is torch.ops.fastgru.layer.default:
            onnx.check(layer_of_arguments(node.args[1:-2]))
        elif node.target is torch.ops.fastgru.low_layer.default:
            onnx.check(layer_of_arguments(node.args[:-1]))
    return program


def _refusal(model: torch.nn.Module, example: Arguments) -> Exception | None:
    """What to say where the model does not take an example, whatever it raises then."""
    args, kwargs = example
    try:
        model(*args, **kwargs)
    except Exception as error:
        shapes = ", ".join(str([*tensor.shape]) for tensor in tensors_of(example))
        found = ValueError(
            f"torch.export leaves sizes open, and the model takes no inputs of {shapes}: {str(error).strip()}; "
            "say by dynamic_shapes which sizes are open, and give those that are one size one name"
        )
        found.__cause__ = error
        return found
    return None


def _converted(
    program: torch.export.ExportedProgram, names: list[dict[int, str]], opset_version: int | None
) -> torch.onnx.ONNXProgram:
    converted = torch.onnx.export(
        program, dynamo=True, verbose=False, opset_version=opset_version, dynamic_shapes=names
    )
    assert converted is not None  # it is where torch's older exporter is asked
    _write_numbers(converted)
    return converted


def _write_numbers(converted: torch.onnx.ONNXProgram) -> None:
    """Make a size that the model turned out to fix a number, where torch leaves a name such as "4"."""
    for value in (*converted.model.graph.inputs, *converted.model.graph.outputs):
        for dim, size in enumerate(value.shape or ()):
            name = str(getattr(size, "value", size))
            if value.shape is not None and name.isdigit():
                value.shape[dim] = int(name)


def _check(
    model: torch.nn.Module, file: str, examples: Sequence[Arguments], rtol: float, atol: float
) -> dict[str, list[int | str]]:
    """Run the file on every example beside the model; the inputs' shapes in the file, where all is well."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [put.name for put in session.get_inputs()]
    for args, kwargs in examples:
        tensors = tensors_of((args, kwargs))
        feed = {name: tensor.detach().numpy() for name, tensor in zip(names, tensors, strict=True)}
        expected = tensors_of(model(*args, **kwargs))
        for number, (got, wanted) in enumerate(zip(session.run(None, feed), expected, strict=True)):
            given = f"output {number} for inputs of {[tuple(tensor.shape) for tensor in tensors]}"
            if got.shape != wanted.shape:
                raise RuntimeError(f"onnxruntime gives {given} the shape {got.shape}, the model {tuple(wanted.shape)}")
            if not torch.allclose(torch.from_numpy(got), wanted, rtol, atol, equal_nan=True):
                off = (torch.from_numpy(got) - wanted).abs().max().item()
                raise RuntimeError(
                    f"onnxruntime's {given} is up to {off:.3g} away from the model's (rtol={rtol}, atol={atol}); "
                    "nothing was written"
                )
    return {put.name: list(put.shape) for put in session.get_inputs()}
