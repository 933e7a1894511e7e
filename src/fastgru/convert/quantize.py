"""quantize: a copy of a trained model whose GRUs have weights of few bits, and what it did to them."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from fastgru.common.errors import InputError
from fastgru.common.eval_mode import eval_mode
from fastgru.convert.modules import accelerate, check_module, check_own_weights, shown_path
from fastgru.inference.entries import MATRICES, QUANTIZATIONS
from fastgru.quantized import KeepsLowWeights, float_weights, is_float_layer, quantize_layers, round_matrices

_Module = TypeVar("_Module", bound=torch.nn.Module)


@dataclass(frozen=True)
class LayerReport:
    """What quantization did to one layer.

    weights: by name, the relative error of a matrix: the root of the mean square of what changed over that of the
        weights. The others are of the batches of `check`, None without: output_rms and output_max, the root mean
        square and the largest absolute difference of its outputs; drift, the root mean square of that of its last
        states.
    """

    weights: Mapping[str, float]
    output_rms: float | None = None
    output_max: float | None = None
    drift: float | None = None

    @property
    def error(self) -> float:
        """By which layers are compared: of its outputs where they are known, otherwise the largest of its weights."""
        return max(self.weights.values()) if self.output_rms is None else self.output_rms


@dataclass(frozen=True)
class QuantizationReport:
    """What `quantize` did to a model.

    weights: "int8" or "bf16". megabytes: of parameters and buffers, before and after, in 10^6 bytes. layers: by their
    paths in the model. left: GRUs that are as they were, each with the reason. alike, examples: of so many answers to
    `check`, how many are the float model's; None where the model has none (see `quantize`).

    >>> import fastgru, torch
    >>> reports = []
    >>> small = fastgru.quantize(torch.nn.ModuleDict({"rnn": fastgru.GRU(8, 16)}), report=reports.append)
    >>> [*reports[0].layers]
    ['rnn']
    """

    weights: str
    megabytes: tuple[float, float]
    layers: Mapping[str, LayerReport]
    left: Mapping[str, str] = field(default_factory=dict)
    alike: int | None = None
    examples: int | None = None

    @property
    def weakest(self) -> str:
        """The path of the layer with the largest error."""
        return max(self.layers, key=lambda path: self.layers[path].error)

    @property
    def share_alike(self) -> float | None:
        """alike over examples."""
        return None if self.alike is None or not self.examples else self.alike / self.examples

    def __str__(self) -> str:
        before, after = self.megabytes
        lines = [f"{self.weights}: {before:.2f} MB before, {after:.2f} MB after"]
        for path, layer in self.layers.items():
            errors = ", ".join(f"{name} {error:.2%}" for name, error in layer.weights.items())
            lines.append(f"{shown_path(path)}: relative error of {errors}")
            if layer.output_rms is not None:
                lines.append(
                    f"  outputs: rms {layer.output_rms:.1e}, largest {layer.output_max:.1e}; "
                    f"states at the last step: rms {layer.drift:.1e}"
                )
        if len(self.layers) > 1:
            lines.append(f"weakest: {shown_path(self.weakest)}")
        lines += [f"left {shown_path(path)}: {reason}" for path, reason in self.left.items()]
        if self.alike is not None:
            lines.append(f"answers alike: {self.alike} of {self.examples}")
        return "\n".join(lines)


def quantize(
    model: _Module,
    weights: str = "int8",
    *,
    matrices: str | None = None,
    check: Iterable[Any] | None = None,
    at_least: float | None = None,
    report: Callable[[QuantizationReport], object] | None = None,
) -> _Module:
    """Copy a trained model, with every GRU and GRUCell in it quantized, for inference that is smaller and faster.

    model: any module in which there are GRUs or GRUCells, fastgru's or torch's, or one itself; it stays as it is. The
        copy is in eval, and its other parts are as they were.
    weights: "int8", a quarter of the size, with activations of 8 bits inside the products; or "bf16", half the size
        and more exact.
    matrices: "int8" for the matrices of the other layers too, of a model of `fastgru.models`: embeddings and linear
        layers. Their numbers are rounded, they are computed in float32, and `save_pretrained` writes them in int8.
    check: batches to compare the two models on: each is what the model is called with, a tensor or a tuple of
        arguments, or for a model of `fastgru.models` whatever its `predict` takes, a list of texts say.
    at_least: the share of answers on `check` that must be alike, from 0 to 1. An answer is what `predict` gives of a
        model of ours, otherwise the largest of the last dimension of the model's (first) output.
    report: is called with the QuantizationReport; `report=print` shows it.

    The layers are `QuantizedGRU` and `QuantizedGRUCell`, of buffers and no parameters, which are saved, copied,
    exported and compiled as others are. `fastgru.to_float` goes back.

    Raises TypeError for what is no module, InputError, a ValueError, where it has no GRU, where weights are not finite
    or computed of others (torch.nn.utils.parametrizations), for an option that is none, and where fewer answers are
    alike than `at_least`.

    >>> import fastgru, torch
    >>> model = torch.nn.Sequential(torch.nn.GRU(8, 16))
    >>> small = fastgru.quantize(model, check=[torch.randn(20, 4, 8)], at_least=0.9)
    >>> small
    Sequential(
      (0): QuantizedGRU(8, 16, quantization='int8')
    )
    """
    check_module(model)
    if weights not in QUANTIZATIONS:
        raise InputError(f"weights must be one of {', '.join(map(repr, QUANTIZATIONS))}, got {weights!r}")
    if matrices is not None and (matrices not in MATRICES or not hasattr(model, "save_pretrained")):
        raise InputError(
            f"matrices is 'int8', for a model of fastgru.models, got {matrices!r} and a {type(model).__name__}"
        )
    if at_least is not None and (check is None or not 0 <= at_least <= 1):
        raise InputError(
            f"at_least is a share of the answers to check, from 0 to 1, got {at_least!r} and check={check!r}"
        )
    batches = None if check is None else [*check]
    small, left = _of_fastgru(model)
    exact = copy.deepcopy(small)
    try:
        paths = quantize_layers(small, weights)
        if matrices is not None:
            round_matrices(small)
            small.matrices = matrices  # type: ignore[assignment]
    except ValueError as error:
        raise InputError(str(error)) from error
    small.eval()
    for part in small.modules():
        if hasattr(part, "save_pretrained"):  # config.json tells
            part.quantization = weights  # type: ignore[assignment]
    found = _report(exact, small, weights, paths, left, batches)
    if report is not None:
        report(found)
    share = found.share_alike
    if at_least is not None and (share is None or share < at_least):
        told = "no answers to compare" if share is None else f"{found.alike} of {found.examples} answers alike"
        raise InputError(f"quantized to {weights} there are {told}, and at_least={at_least}; weakest: {found.weakest}")
    return small


def to_float(model: _Module) -> _Module:
    """Copy a model, with every quantized layer made a float32 layer again, of weights values * scale.

    It can be trained, converted and exported as any. Raises TypeError for what is no module, and InputError where it
    has no quantized layer.

    >>> import fastgru, torch
    >>> small = fastgru.quantize(fastgru.GRU(8, 16))
    >>> fastgru.to_float(small)
    GRU(8, 16)
    """
    check_module(model)
    made = copy.deepcopy(model)
    for part in made.modules():
        if hasattr(part, "save_pretrained"):
            part.quantization = part.matrices = ""  # type: ignore[assignment]
    paths = [path for path, part in made.named_modules() if isinstance(part, KeepsLowWeights)]
    if not paths:
        raise InputError(f"{type(model).__name__} has no quantized layer in it")
    for path in paths:
        part = made.get_submodule(path).to_float()  # type: ignore[operator]
        if path == "":
            return part  # type: ignore[no-any-return]
        _replace(made, path, part)
    return made


def _of_fastgru(model: _Module) -> tuple[_Module, dict[str, str]]:
    """A copy whose GRUs are fastgru's, and why some are not. InputError where there are none."""
    made = copy.deepcopy(model)
    left = dict(accelerate(made).left)
    grus = [(path, part) for path, part in made.named_modules() if is_float_layer(part)]
    if not grus:
        told = "; ".join(f"{shown_path(path)}: {reason}" for path, reason in left.items())
        raise InputError(f"{type(model).__name__} has no GRU or GRUCell that can be quantized{told and '; ' + told}")
    for path, part in grus:
        check_own_weights(shown_path(path), part)
    return made, left


def _replace(model: torch.nn.Module, path: str, part: torch.nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, part)


def _report(
    exact: torch.nn.Module,
    small: torch.nn.Module,
    weights: str,
    paths: list[str],
    left: Mapping[str, str],
    batches: list[Any] | None,
) -> QuantizationReport:
    errors = {path: _weight_errors(exact.get_submodule(path), small.get_submodule(path)) for path in paths}
    layers = {path: LayerReport(error) for path, error in errors.items()}
    alike = examples = None
    if batches is not None:
        with eval_mode(exact), torch.no_grad():
            expected = _Watch(exact, paths).answers(batches)
            got = _Watch(small, paths).answers(batches)
        layers = {path: LayerReport(errors[path], *_differences(expected, got, path)) for path in paths}
        examples = len(expected.said)
        alike = sum(one == other for one, other in zip(expected.said, got.said, strict=True))
    return QuantizationReport(weights, (_megabytes(exact), _megabytes(small)), layers, left, alike, examples)


def _weight_errors(exact: Any, small: Any) -> dict[str, float]:
    """The relative error of each matrix."""
    found = {}
    for name, value in float_weights(small).items():
        if value.dim() == 2:
            weight = getattr(exact, name).detach().double()
            norm = float(weight.norm())
            found[name] = float((value.double() - weight).norm()) / norm if norm else 0.0
    return found


class _Watch:
    """A model's answers to batches, and what its layers gave on the way: outputs and last states."""

    def __init__(self, model: torch.nn.Module, paths: list[str]) -> None:
        self.model, self.paths = model, paths
        self.outputs: dict[str, list[Tensor]] = {path: [] for path in paths}
        self.states: dict[str, list[Tensor]] = {path: [] for path in paths}
        self.said: list[Any] = []

    def answers(self, batches: list[Any]) -> "_Watch":
        hooks = [self.model.get_submodule(path).register_forward_hook(self._hook(path)) for path in self.paths]
        try:
            for batch in batches:
                self.said += self._answer(batch)
        finally:
            for hook in hooks:
                hook.remove()
        return self

    def _hook(self, path: str) -> Any:
        def keep(module: torch.nn.Module, given: Any, result: Any) -> None:
            outputs, state = result if isinstance(result, tuple) else (result, result)
            outputs = outputs[-1] if isinstance(outputs, list) else outputs
            self.outputs[path].append(_values(outputs))
            self.states[path].append(_values(state))

        return keep

    def _answer(self, batch: Any) -> list[Any]:
        if isinstance(batch, Tensor | tuple):
            result = self.model(*batch) if isinstance(batch, tuple) else self.model(batch)
            while isinstance(result, tuple | list):
                result = result[0]
            values = _values(result)
            found: list[Any] = values.flatten(0, -2).argmax(-1).tolist() if values.dim() > 1 else [values.tolist()]
            return found
        predict: Any = getattr(self.model, "predict", None)
        if predict is None:
            raise InputError(
                f"check must hold what {type(self.model).__name__} is called with, tensors or tuples of arguments, got "
                f"a {type(batch).__name__}"
            )
        return [_said(one) for one in predict(batch)]


def _said(answer: Any) -> Any:
    """A prediction's label, or the text of the best of those generated."""
    best = answer[0] if isinstance(answer, list) and answer else answer
    return getattr(best, "label", getattr(best, "text", best))


def _values(result: Any) -> Tensor:
    data = result.data if isinstance(result, torch.nn.utils.rnn.PackedSequence) else result
    return (data.values() if data.is_nested else data).detach().double()


def _differences(expected: _Watch, got: _Watch, path: str) -> tuple[float, float, float]:
    """The root mean square and the largest of its outputs, and that of its states."""
    pairs = [*zip(expected.outputs[path], got.outputs[path], strict=True)]
    same = [(one, other) for one, other in pairs if one.shape == other.shape]
    states = [
        (one, other)
        for one, other in zip(expected.states[path], got.states[path], strict=True)
        if one.shape == other.shape
    ]
    return _rms(same), max((float((a - b).abs().max()) for a, b in same if a.numel()), default=0.0), _rms(states)


def _rms(pairs: list[tuple[Tensor, Tensor]]) -> float:
    count = sum(one.numel() for one, _ in pairs)
    return math.sqrt(sum(float((a - b).square().sum()) for a, b in pairs) / count) if count else 0.0


def _megabytes(model: torch.nn.Module) -> float:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers())) / 1e6
