"""Files with one GRU in them: safetensors and .npz, whose sizes are compared before anything is read."""

import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from fastgru.common.errors import InputError, reason_of
from fastgru.inference.arrays import read_arrays
from fastgru.inference.entries import QUANTIZATIONS
from fastgru.runtime.gru import GRU
from fastgru.runtime.weights import FIELD, spec_of


def load_gru(path: Path, prefix: str, batch_first: bool | None, threads: int, options: Mapping[str, Any]) -> GRU:
    """The GRU under `prefix` in a file. InputError where the file is none, is cut, or holds no such GRU."""
    try:
        names, said = _npz_header(path) if path.suffix == ".npz" else _safetensors_header(path)
    except (OSError, ValueError, SafetensorError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as weights (.safetensors or .npz): {reason_of(error)}") from error
    try:
        given = _options(said, prefix, {**options, **({} if batch_first is None else {"batch_first": batch_first})})
        first, quantization = given.pop("batch_first", False), given.pop("quantization", "")
        spec_of(names, prefix, given)
        wanted = [name for name in names if name.startswith(prefix)]
        bits = wanted if quantization == "bf16" else ()
        arrays = _npz_arrays(path, wanted) if path.suffix == ".npz" else read_arrays(path, wanted, bits)
        return GRU(arrays, prefix=prefix, batch_first=first, threads=threads, **given)
    except (OSError, ValueError, SafetensorError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: {reason_of(error)}") from error


def _options(said: Mapping[str, str], prefix: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the file's metadata and those given, which may only add."""
    own = {name.removeprefix(FIELD + prefix): text for name, text in said.items() if name.startswith(FIELD + prefix)}
    found: dict[str, Any] = {}
    for name, text in own.items():
        if "." in name or name == "version":  # another module's, below this one
            continue
        try:
            is_word = name == "quantization" and text in QUANTIZATIONS
            found[name] = text if is_word else text == "true" if text in ("true", "false") else float(text)
        except ValueError:
            raise InputError(f"its metadata says {FIELD}{prefix}{name}={text!r}, no option of a GRU") from None
    for name, value in given.items():
        if found.get(name, value) != value:
            raise InputError(f"it says {name}={found[name]}, and {name}={value} was given: leave it out")
    return {**found, **given}


def _safetensors_header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    with safe_open(path, framework="numpy") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
        return shapes, file.metadata() or {}


def _npz_header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Raises ValueError where an array promises other bytes than the file holds."""
    shapes = {}
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            name = info.filename.removesuffix(".npy")
            with file.open(info) as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(member)
                if dtype.hasobject or prod(shape) * dtype.itemsize != info.file_size - member.tell():
                    raise ValueError(f"{name} is cut or no array of numbers")
            shapes[name] = shape
    return shapes, {}


def _npz_arrays(path: Path, names: list[str]) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in names}
