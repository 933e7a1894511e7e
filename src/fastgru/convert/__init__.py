"""From and to other GRUs: torch.nn's modules inside a model, and the weights of other frameworks as plain arrays.

`accelerate` and `to_torch` swap the modules of a whole model. Every `from_x` builds a `fastgru.GRU`, every `to_x` gives
the arrays that the framework's own layer takes, one item a layer; no framework is imported. What cannot be converted
to the same numbers is refused with `fastgru.common.errors.InputError`.
"""

from fastgru.convert.folded import from_equinox, from_flax, from_mlx, to_equinox, to_flax, to_mlx
from fastgru.convert.g2p_en import from_g2p_en
from fastgru.convert.keras import from_keras, to_keras
from fastgru.convert.modules import Swapped, accelerate, to_torch
from fastgru.convert.onnx import from_onnx, to_onnx_weights

__all__ = [
    "Swapped",
    "accelerate",
    "from_equinox",
    "from_flax",
    "from_g2p_en",
    "from_keras",
    "from_mlx",
    "from_onnx",
    "to_equinox",
    "to_flax",
    "to_keras",
    "to_mlx",
    "to_onnx_weights",
    "to_torch",
]
