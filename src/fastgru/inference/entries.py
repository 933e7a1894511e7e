"""Entries: the weights that a model of a configuration has, by name and shape, before any of them is there."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

Shape = tuple[int, ...]


class Entry(NamedTuple):
    """One weight in a model's file. `whole`: int64 in place of floats. `positive`: each number is above 0.

    `bits`: "int8" or "bf16", of a quantized matrix, "" of others.
    """

    name: str
    shape: Shape
    whole: bool = False
    positive: bool = False
    bits: str = ""


SCALE = "_scale"  # after the name of an int8 matrix: what a whole number is worth in each row
QUANTIZATIONS = ("int8", "bf16")
MATRICES = ("int8",)  # what the matrices of other layers may be in a file
MOST_INT8_TERMS = 1 << 17  # of a sum of int8 products: int32 holds it; gru.h has it as kMostInt8Terms
_MATRIX = re.compile(r"weight_[ih]h(_l\d+(_reverse)?)?")


def quantized_entries(entries: Iterable[Entry], quantization: str) -> Iterator[Entry]:
    """The weights of the model whose GRUs are quantized so; "": not at all."""
    for entry in entries:
        if not quantization or not _MATRIX.fullmatch(entry.name.rpartition(".")[2]):
            yield entry
            continue
        yield entry._replace(bits=quantization)
        if quantization == "int8":
            yield Entry(entry.name + SCALE, entry.shape[:1], positive=True)


def is_other_matrix(name: str, shape: Shape) -> bool:
    """Whether a weight is a matrix of a model's other layers than GRUs: of an embedding, say, or a linear layer."""
    return len(shape) == 2 and not _MATRIX.fullmatch(name.rpartition(".")[2])


def stored_entries(entries: Iterable[Entry], matrices: str) -> Iterator[Entry]:
    """The weights as a file has them whose other matrices are int8 where `matrices` is that, and floats where ""."""
    for entry in entries:
        if not matrices or entry.whole or not is_other_matrix(entry.name, entry.shape):
            yield entry
            continue
        yield entry._replace(bits=matrices)
        yield Entry(entry.name + SCALE, entry.shape[:1], positive=True)


def gru_entries(
    prefix: str, input_size: int, hidden_size: int, layers: int = 1, directions: int = 1
) -> Iterator[Entry]:
    """The weights of a GRU, layer by layer."""
    for layer in range(layers):
        features = input_size if layer == 0 else directions * hidden_size
        for suffix in ("", "_reverse")[:directions]:
            end = f"_l{layer}{suffix}"
            yield from cell_entries(prefix, features, hidden_size, end)


def cell_entries(prefix: str, input_size: int, hidden_size: int, end: str = "") -> Iterator[Entry]:
    """The weights of one direction of a layer, or of a GRUCell."""
    yield Entry(f"{prefix}.weight_ih{end}", (3 * hidden_size, input_size))
    yield Entry(f"{prefix}.weight_hh{end}", (3 * hidden_size, hidden_size))
    yield Entry(f"{prefix}.bias_ih{end}", (3 * hidden_size,))
    yield Entry(f"{prefix}.bias_hh{end}", (3 * hidden_size,))


def ngram_entries(prefix: str, ngrams: int, embedding_size: int) -> Iterator[Entry]:
    """The weights of n-grams beside those of an embedding's tokens; none where there are no n-grams."""
    if ngrams:
        features = ngram_size(embedding_size)
        yield Entry(f"{prefix}.ngram_vectors", (ngrams, features))
        yield Entry(f"{prefix}.ngram_codes", (ngrams,), whole=True)
        yield from linear_entries(f"{prefix}.project", features, embedding_size, bias=False)


def ngram_size(embedding_size: int) -> int:
    """Features of an n-gram's vector."""
    return max(1, embedding_size // 2)


def linear_entries(prefix: str, in_features: int, out_features: int, *, bias: bool = True) -> Iterator[Entry]:
    """The weights of a linear layer."""
    yield Entry(f"{prefix}.weight", (out_features, in_features))
    if bias:
        yield Entry(f"{prefix}.bias", (out_features,))
