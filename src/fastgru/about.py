"""What is installed, and which backend serves a layer."""

import platform
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor

import fastgru
from fastgru.backends import BACKENDS
from fastgru.nn import GRU


@dataclass(frozen=True)
class Info:
    """The answer of `info`; `str` of it is a page for people.

    versions: of fastgru, torch and Python.
    instruction_sets: those that the native module found here, slowest first; None where it is not built.
    layer: the layer asked about, its dtype and its device, in words.
    backend: the name of the backend that serves it, None where its own `backend` cannot.
    reasons: for each backend in order of preference, None where it could serve, otherwise why not.
    """

    versions: dict[str, str]
    instruction_sets: tuple[str, ...] | None
    layer: str
    backend: str | None
    reasons: dict[str, str | None]

    @property
    def native(self) -> str:
        """The native module's state, in words."""
        if self.instruction_sets is None:
            return "not built; install fastgru with a C++17 compiler and Python's headers to have it"
        return f"built; this machine runs {', '.join(self.instruction_sets)}"

    def verdict(self, backend: str) -> str:
        """What the named backend does for this layer, in words."""
        reason = self.reasons[backend]
        if backend == self.backend:
            return "serves this layer"
        if reason is not None:
            return f"cannot: {reason}"
        return f"could; {self.backend} was chosen before it" if self.backend else "could, but was not asked"

    def __str__(self) -> str:
        width = max(map(len, ("layer", "native", *self.versions, *self.reasons)))
        rows = [
            *self.versions.items(),
            ("native", self.native),
            ("layer", self.layer),
            *((name, self.verdict(name)) for name in self.reasons),
        ]
        return "\n".join(f"{key:<{width}}  {value}" for key, value in rows)


def info(layer: GRU | None = None, x: Tensor | None = None) -> Info:
    """Tell which backend would serve a layer, and why the others would not.

    layer: a GRU; a plain one of 128 features and 128 units where it is None.
    x: an input such as the layer will get; one like its weights where it is None.
    """
    layer = GRU(128, 128) if layer is None else layer
    weights = list(layer.parameters())
    weight = weights[0]
    x = weight.new_empty(1, 1, layer.input_size) if x is None else x
    reasons = {backend.name: backend.why_not(x, None, weights) for backend in BACKENDS}
    able = [name for name, reason in reasons.items() if reason is None and layer.backend in ("auto", name)]
    return Info(
        versions={"fastgru": fastgru.__version__, "torch": torch.__version__, "python": platform.python_version()},
        instruction_sets=_instruction_sets(),
        layer=f"{layer}, {weight.dtype} on {weight.device}".replace("torch.", ""),
        backend=able[0] if able else None,
        reasons=reasons,
    )


def _instruction_sets() -> tuple[str, ...] | None:
    if find_spec("fastgru._native") is None:
        return None
    from fastgru import _native

    return tuple(_native.instruction_sets())
