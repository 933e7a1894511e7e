"""A saved model, read from its folder or from the Hub and checked, before anything is built of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastgru.inference.arrays import Array
from fastgru.inference.entries import SCALE, is_other_matrix, quantized_entries, stored_entries
from fastgru.inference.folder import (
    CONFIG,
    WEIGHTS,
    Config,
    check_folder,
    files_of,
    locate,
    read_config,
    read_quantization,
)
from fastgru.inference.tokens import load_tokenizer
from fastgru.inference.weights import read_weights


class Saved(NamedTuple):
    """What a model is made of: its configuration, its tokenizers as `config.own_files` names them, its weights.

    quantization: of its GRUs, as `read_quantization` says; bfloat16 weights are then their bits, in uint16.
    matrices: what those of its other layers were in the file, "" for floats; they are float32 here.
    """

    config: Config
    tokenizers: list[Any]
    weights: dict[str, Array]
    quantization: str = ""
    matrices: str = ""


def read_saved(
    name: str | Path,
    wanted: type[Config] | None = None,
    *,
    read_tokenizer: Callable[[str, int], Any] = load_tokenizer,
    **options: Any,
) -> Saved:
    """Read the model of this name, of the kind that is wanted, or of any; `options`: of `locate`.

    `read_tokenizer`: takes a tokenizer's path and the size of its vocabulary.
    InputError where a folder lacks one of the files; OSError, ValueError or TypeError where a file cannot be had, or
    what is there is no such model.
    """
    check_folder(str(name), [CONFIG])
    place = locate(name, CONFIG, **options)
    config, (quantization, matrices) = read_config(place, wanted), read_quantization(place)
    check_folder(str(name), files_of(type(config)))
    tokenizers = [
        read_tokenizer(locate(name, file, **options), size)
        for file, size in zip(config.own_files, config.vocabularies, strict=True)
    ]
    entries = stored_entries(quantized_entries(config.entries(), quantization), matrices)
    weights = _widened(read_weights(locate(name, WEIGHTS, **options), entries))
    return Saved(config, tokenizers, weights, quantization, matrices)


def _widened(weights: dict[str, Array]) -> dict[str, Array]:
    """The same, with the int8 matrices of other layers than GRUs as float32, which they are computed in."""
    low = [name for name, array in weights.items() if array.dtype == np.int8 and is_other_matrix(name, array.shape)]
    scales = {name: weights.pop(name + SCALE) for name in low}
    return {**weights, **{name: weights[name] * scale[:, None] for name, scale in scales.items()}}
