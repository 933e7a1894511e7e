"""What is installed, and which backend serves a layer."""

import platform
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor

import fastgru
from fastgru.backends import BACKENDS
from fastgru.core.steps import PLAIN
from fastgru.core.torch_internals import torch_lacks
from fastgru.nn import GRU
from fastgru.ops import low_precision
from fastgru.quantized import KeepsLowWeights


@dataclass(frozen=True)
class Info:
    """The answer of `info`; `str` of it is a page for people.

    versions: of fastgru, torch and Python.
    torch_lacks: what this torch is too old for, None where nothing.
    native: the state of the native module: whether it is built, the instruction sets here, and the one in use.
    layer: the layer asked about, its dtype and its device, in words.
    backend: the name of the backend that serves it, None where its own `backend` cannot.
    reasons: for each backend in order of preference, None where it could serve, otherwise why not.
    declined: for backends that could, why `auto` leaves the layer to one after them.
    """

    versions: dict[str, str]
    torch_lacks: str | None
    native: str
    layer: str
    backend: str | None
    reasons: dict[str, str | None]
    declined: dict[str, str]

    def verdict(self, backend: str) -> str:
        """What the named backend does for this layer, in words."""
        reason = self.reasons[backend]
        if backend == self.backend:
            return "serves this layer"
        if reason is not None:
            return f"cannot: {reason}"
        if backend in self.declined:
            return f"could; {self.declined[backend]}"
        return f"could; {self.backend} was chosen before it" if self.backend else "could, but was not asked"

    def __str__(self) -> str:
        width = max(map(len, ("layer", "native", *self.versions, *self.reasons)))
        versions = dict(self.versions)
        versions["torch"] += f" ({self.torch_lacks})" if self.torch_lacks else ""
        rows = [
            *versions.items(),
            ("native", self.native),
            ("layer", self.layer),
            *((name, self.verdict(name)) for name in self.reasons),
        ]
        return "\n".join(f"{key:<{width}}  {value}" for key, value in rows)


def info(layer: GRU | None = None, x: Tensor | None = None) -> Info:
    """Tell which backend would serve a layer, and why the others would not.

    layer: a GRU; a plain one of 128 features and 128 units where it is None.
    x: an input such as the layer will get; one like its weights where it is None.

    Raises TypeError for anything but a fastgru.GRU, and ValueError, as the layer itself does, where FASTGRU_ISA names
    an instruction set that is not there.

    >>> import fastgru
    >>> found = fastgru.info(fastgru.GRU(8, 16, backend="reference"))
    >>> found.backend, found.verdict("reference")
    ('reference', 'serves this layer')
    """
    layer = GRU(128, 128) if layer is None else layer
    if not isinstance(layer, GRU):
        raise TypeError(f"info tells of a fastgru.GRU, not of a {type(layer).__name__}")
    weights = layer.weights()
    weight = weights[0]
    x = weight.new_empty(1, 1, layer.input_size) if x is None else x
    asked = (layer._stack(), x, None, weights, PLAIN)
    is_low = isinstance(layer, KeepsLowWeights)
    reasons = {
        backend.name: low_precision.why_not(backend.name, x) if is_low else backend.why_not(*asked)
        for backend in BACKENDS
    }
    asked_for = [backend for backend in BACKENDS if layer.backend in ("auto", backend.name)]
    able = [backend for backend in asked_for if reasons[backend.name] is None]
    declined: dict[str, str] = {}
    for backend in able if layer.backend == "auto" else []:
        if backend.why_not_auto is not None and (reason := backend.why_not_auto(*asked)) is not None:
            declined[backend.name] = reason
    chosen = [backend.name for backend in able if backend.name not in declined]
    return Info(
        versions={"fastgru": fastgru.__version__, "torch": torch.__version__, "python": platform.python_version()},
        torch_lacks=torch_lacks(),
        native=_native_state(),
        layer=f"{layer}, {weight.dtype} on {weight.device}".replace("torch.", ""),
        backend=chosen[0] if chosen else None,
        reasons=reasons,
        declined=declined,
    )


def _native_state() -> str:
    """The native module's state, in words."""
    if find_spec("fastgru._native") is None:
        return "not built; install fastgru with a C++17 compiler and Python's headers to have it"
    from fastgru import _native

    steps = "; single steps are batch-invariant" if _native.is_batch_invariant() else ""
    return f"built; of {', '.join(_native.instruction_sets())} it uses {_native.instruction_set()}{steps}"
