"""fastgru: the GRU for PyTorch.

`fastgru.GRU` and `fastgru.GRUCell` take the place of `torch.nn.GRU` and `torch.nn.GRUCell`.
`import fastgru` itself does not need torch; the names that do are looked up at first use.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastgru.about import info
    from fastgru.backends import batch_invariant, clear_caches
    from fastgru.cell import GRUCell
    from fastgru.convert import accelerate, to_torch
    from fastgru.convert.decompositions import decompositions
    from fastgru.convert.export import export_onnx
    from fastgru.convert.freeze import freeze, unfreeze
    from fastgru.convert.install import install, uninstall
    from fastgru.convert.quantize import quantize, to_float
    from fastgru.convert.save import save
    from fastgru.nn import GRU
    from fastgru.quantized import QuantizedGRU, QuantizedGRUCell
    from fastgru.warming import warm_up

__version__ = "0.1.0"
__all__ = [
    "GRU",
    "GRUCell",
    "QuantizedGRU",
    "QuantizedGRUCell",
    "accelerate",
    "batch_invariant",
    "clear_caches",
    "decompositions",
    "export_onnx",
    "freeze",
    "info",
    "install",
    "quantize",
    "save",
    "to_float",
    "to_torch",
    "unfreeze",
    "uninstall",
    "warm_up",
]

_HOMES = {
    "GRU": "fastgru.nn",
    "GRUCell": "fastgru.cell",
    "QuantizedGRU": "fastgru.quantized",
    "QuantizedGRUCell": "fastgru.quantized",
    "accelerate": "fastgru.convert",
    "batch_invariant": "fastgru.backends",
    "clear_caches": "fastgru.backends",
    "decompositions": "fastgru.convert.decompositions",
    "export_onnx": "fastgru.convert.export",
    "freeze": "fastgru.convert.freeze",
    "info": "fastgru.about",
    "install": "fastgru.convert.install",
    "quantize": "fastgru.convert.quantize",
    "save": "fastgru.convert.save",
    "to_float": "fastgru.convert.quantize",
    "to_torch": "fastgru.convert",
    "unfreeze": "fastgru.convert.freeze",
    "uninstall": "fastgru.convert.install",
    "warm_up": "fastgru.warming",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastgru' has no attribute {name!r}")
    if find_spec("torch") is None:
        raise ImportError(
            f"fastgru.{name} needs PyTorch, which is not installed here. Install it with: pip install 'fastgru[torch]'"
        )
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
