"""save: a module's weights in a file from which `fastgru.runtime` takes its GRUs, without torch."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from fastgru.cell import GRUCell
from fastgru.common.errors import InputError
from fastgru.common.files import atomic_write, open_to_others
from fastgru.nn import GRU
from fastgru.quantized import KeepsLowWeights
from fastgru.runtime.weights import FIELD, OPTIONS

_KINDS = (GRU, GRUCell, torch.nn.GRU, torch.nn.GRUCell)


def save(module: torch.nn.Module, path: str | Path) -> None:
    """Write a module's weights to a safetensors file, and beside them what its GRUs' options are.

    module: a GRU or GRUCell, fastgru's or torch's, or any module that has such parts. Names are those of its
        state_dict, so that `load_state_dict(safetensors.torch.load_file(path))` takes them back. Weights that are
        computed of others, as by torch.nn.utils.parametrizations, are written as they are now, under their own names.
    path: ends in .safetensors. The file is whole or not there.

    For each GRU the file's metadata has `fastgru.{prefix}{option}` for batch_first, reset_after, layer_norm and
    zoneout, with which `fastgru.runtime.load(path, prefix=...)` and the C library compute the same numbers.

    Raises TypeError for what is no module, and InputError, a ValueError, for a module without GRUs or another ending.

    >>> import os, tempfile, fastgru, torch
    >>> from fastgru import runtime
    >>> model = torch.nn.ModuleDict({"rnn": fastgru.GRU(3, 4, layer_norm=True)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     fastgru.save(model, path)
    ...     gru = runtime.load(path, prefix="rnn.")
    >>> gru
    GRU(3, 4, num_layers=1, layer_norm=True, dtype=float32)
    """
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"save takes a torch.nn.Module, got a {type(module).__name__}")
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a file of weights ends in .safetensors")
    grus = {f"{name}." if name else "": part for name, part in module.named_modules() if isinstance(part, _KINDS)}
    if not grus:
        raise InputError(
            f"{type(module).__name__} has no GRU or GRUCell in it; for one of torch's LSTM or RNN there is "
            "no runtime here"
        )
    metadata = {"format": "pt"}
    for prefix, gru in grus.items():
        options = {"batch_first": getattr(gru, "batch_first", False)}
        options |= {name: getattr(gru, name, default) for name, default in OPTIONS.items()}
        metadata |= {f"{FIELD}{prefix}{name}": _word(value) for name, value in options.items()}
        if isinstance(gru, KeepsLowWeights):
            metadata[f"{FIELD}{prefix}quantization"] = gru.quantization
    with atomic_write(path) as temporary:
        save_file(_tensors(module, grus), temporary, metadata)
        open_to_others(temporary)


def _word(value: bool | float) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(float(value))


def _tensors(module: torch.nn.Module, grus: Mapping[str, torch.nn.Module]) -> dict[str, torch.Tensor]:
    """Its state_dict, with each GRU's weights as they take part, and no memory that two of them share."""
    found = {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    for prefix, gru in grus.items():
        if not torch.nn.utils.parametrize.is_parametrized(gru):
            continue
        for name in gru.parametrizations:  # type: ignore[union-attr]
            found = {
                key: value for key, value in found.items() if not key.startswith(f"{prefix}parametrizations.{name}.")
            }
            found[prefix + name] = getattr(gru, name).detach()
    return {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in found.items()}
