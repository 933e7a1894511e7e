"""ONNX: any model with GRUs in it as one file, whose GRUs are ONNX's own operator, checked before anybody gets it."""

import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from fastgru.common.eval_mode import eval_mode
from fastgru.common.files import atomic_write
from fastgru.convert.subclasses import twin_of, why_no_twin
from fastgru.nn import GRU, GRUCell

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

    model: with fastgru's or torch.nn's GRUs and GRUCells anywhere inside, or one of these; in float32 on the CPU.
        It is exported as in eval, whatever its mode, and left as it was.
    path: the file, replaced if it is there. It appears whole and checked, or not at all.
    args, kwargs: an example of what the model is called with. Every size in it is dynamic in the file, unless the
        model needs this very size; a size of 0 or 1 stays fixed, so give an example with B >= 2 and T >= 2.
    dynamic_shapes: which sizes are dynamic instead, and their names, as torch.export.export takes them.
    opset_version: of ONNX; torch's choice where it is None.
    rtol, atol: how near onnxruntime's results must be, for the example and for one of other sizes.

    Returns each input's shape in the file: a name where a size is dynamic.
    Raises ImportError without onnxscript or onnxruntime, ValueError where nothing is dynamic or the weights are too
    large for one file, RuntimeError where a GRU is not of float32 on the CPU, has layer_norm or zoneout, or the results
    differ; and what torch.export and torch.onnx raise for the rest of the model.

    >>> import fastgru, torch
    >>> model = fastgru.GRU(8, 16, batch_first=True)
    >>> fastgru.export_onnx(model, "model.onnx", torch.randn(2, 5, 8))
    {'input': ['input_0', 'input_1', 8]}
    """
    _check_packages()
    _check_weights(model)
    given = inspect.signature(model.forward).bind(*((args,) if isinstance(args, Tensor) else args), **(kwargs or {}))
    args, kwargs = given.args, given.kwargs  # now in the order of the model's own signature
    dynamic_shapes = _all_dynamic(given.arguments) if dynamic_shapes is None else dynamic_shapes
    with eval_mode(model), torch.no_grad():
        program = _program(model, args, kwargs, dynamic_shapes)
        converted = _converted(program, dynamic_shapes, opset_version)
        with atomic_write(Path(path), attempt=uuid4().hex) as file:
            converted.save(str(file), external_data=False)
            return _check(model, str(file), [(args, kwargs), _resized(program, args, kwargs)], rtol, atol)


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


def _program(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any
) -> torch.export.ExportedProgram:
    unnamed = tree_map(lambda size: torch.export.Dim.DYNAMIC if isinstance(size, str) else size, dynamic_shapes)
    with _as_operators(model):
        program = torch.export.export(model, args, kwargs, dynamic_shapes=unnamed, strict=False)
    if not any(map(_symbols, _shapes(program).values())):
        raise ValueError(
            "no size of any input is dynamic: the model fixes them all, or the example's are 1; "
            "give an example with B >= 2 and T >= 2"
        )
    return program


def _converted(
    program: torch.export.ExportedProgram, dynamic_shapes: Any, opset_version: int | None
) -> torch.onnx.ONNXProgram:
    converted = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        opset_version=opset_version,
        dynamic_shapes=_names(program, dynamic_shapes),
    )
    assert converted is not None  # it is where torch's older exporter is asked
    _write_numbers(converted)
    return converted


def _all_dynamic(given: dict[str, Any]) -> Any:
    """What torch.export takes for every size that the model leaves open."""
    return tree_map(
        lambda leaf: [torch.export.Dim.AUTO] * leaf.dim() if isinstance(leaf, Tensor) else None, dict(given)
    )


def _shapes(program: torch.export.ExportedProgram) -> dict[str, torch.Size]:
    """By name, the shapes of the tensors that the model is called with; a size may be symbolic."""
    names = set(program.graph_signature.user_inputs)
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    return {node.name: node.meta["val"].shape for node in nodes if isinstance(node.meta.get("val"), Tensor)}


def _symbols(shape: Sequence[int | torch.SymInt]) -> dict[int, Any]:
    """The expressions of a shape's symbolic sizes, by their place."""
    given = {dim: size.node.expr for dim, size in enumerate(shape) if isinstance(size, torch.SymInt)}
    return {dim: expression for dim, expression in given.items() if not expression.is_number}


def _names(program: torch.export.ExportedProgram, dynamic_shapes: Any) -> list[dict[int, str]]:
    """For each input the names of its dynamic sizes, each named once: the caller's, or the input's with a number."""
    wanted = [axes for axes in tree_leaves(dynamic_shapes, is_leaf=_is_axes) if axes is not None]
    seen: set[Any] = set()
    names: list[dict[int, str]] = []
    for (put, shape), axes in zip(_shapes(program).items(), wanted, strict=True):
        names.append({})
        for dim, expression in _symbols(shape).items():
            if expression not in seen:
                axis = axes[dim] if isinstance(axes, list | tuple) else axes.get(dim)
                names[-1][dim] = axis if isinstance(axis, str) else getattr(axis, "__name__", f"{put}_{dim}")
                seen.add(expression)
    return names


def _write_numbers(converted: torch.onnx.ONNXProgram) -> None:
    """Make a size that the model turned out to fix a number, where torch leaves a name such as "4"."""
    for value in (*converted.model.graph.inputs, *converted.model.graph.outputs):
        for dim, size in enumerate(value.shape or ()):
            name = str(getattr(size, "value", size))
            if value.shape is not None and name.isdigit():
                value.shape[dim] = int(name)


def _is_axes(node: Any) -> bool:
    """Whether it says which sizes of one tensor are dynamic, instead of holding such nodes."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else ()
    return (
        len(inner) > 0
        and not any(isinstance(item, dict | list | tuple) for item in inner)
        and (not isinstance(node, dict) or all(isinstance(key, int) for key in node))
    )


def _resized(
    program: torch.export.ExportedProgram, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The example with another size wherever that is dynamic; what it holds is repeated, so that an index stays one."""
    tensors = _tensors((args, kwargs))
    shapes = {id(tensor): _symbols(shape) for tensor, shape in zip(tensors, _shapes(program).values(), strict=True)}
    sizes: dict[Any, int] = {}
    for tensor in tensors:
        for dim, expression in shapes[id(tensor)].items():
            if expression.is_Symbol and expression not in sizes:
                sizes[expression] = _another(tensor.size(dim), program.range_constraints[expression], len(sizes))

    def resize(leaf: Any) -> Any:
        for dim, expression in shapes.get(id(leaf), {}).items():
            leaf = leaf.index_select(dim, torch.arange(int(expression.subs(sizes))) % leaf.size(dim))
        return leaf

    return tree_map(resize, args), tree_map(resize, kwargs)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _another(size: int, bounds: Any, number: int) -> int:
    """A size other than the example's, if there is one, and not that of another symbol's if that can be."""
    larger = size + 1 + number
    if larger <= bounds.upper:
        return larger
    return max(size - 1, int(bounds.lower))


def _check(
    model: torch.nn.Module, file: str, examples: Sequence[tuple[Any, Any]], rtol: float, atol: float
) -> dict[str, list[int | str]]:
    """Run the file on every example beside the model; the inputs' shapes in the file, where all is well."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [put.name for put in session.get_inputs()]
    for args, kwargs in examples:
        tensors = _tensors((args, kwargs))
        feed = {name: tensor.detach().numpy() for name, tensor in zip(names, tensors, strict=True)}
        expected = _tensors(model(*args, **kwargs))
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
