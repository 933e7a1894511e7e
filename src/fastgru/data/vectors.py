"""Word vectors that others have trained: the text format of word2vec, fastText and GloVe."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastgru.common.errors import InputError, reason_of

LARGEST = float(np.finfo(np.float32).max)

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class WordVectors:
    """Words and their vectors, `values [N, D] float32`, in the order of the file: the frequent ones first."""

    words: list[str]
    values: Values

    @property
    def size(self) -> int:
        """D, the features of a vector."""
        return int(self.values.shape[1])


def check_vectors(source: str) -> None:
    """InputError where there is no file to read vectors from: before anything else is done."""
    if not Path(source).is_file():
        raise InputError(f"{source}: there is no such file of word vectors")


def read_vectors(
    source: str, wanted: Callable[[str], bool], others: Callable[[str], bool], most: int, fold: Callable[[str], str]
) -> WordVectors:
    """Read the vectors of all words that are `wanted`, and of the first `most` of the `others`.

    `source`: a text file, .gz or not, with a word and its numbers a line; a first line of two numbers, as word2vec and
    fastText write it, says how many words and features there are. It is read line by line and never held whole.
    `fold`: what makes spellings of a word one, such as lower case; the spelling that is folded already goes first.
    InputError, naming the line, for whatever is wrong with it.
    """
    found: dict[str, tuple[bool, list[float]]] = {}
    left, size = most, 0
    for number, word, line, promised in _lines(source):
        size = size or promised or len(line.split()) - 1
        key = fold(word)
        exact = key == word
        if key in found and (found[key][0] or not exact):
            continue
        if not wanted(key):
            if key in found or left == 0 or not others(key):
                continue
            left -= 1
        found[key] = (exact, _numbers(line, size, f"{source}, line {number}"))
    if not found:
        return WordVectors([], np.zeros((0, max(size, 1)), np.float32))
    return WordVectors(list(found), np.array([values for _, values in found.values()], np.float32))


def _lines(source: str) -> Iterator[tuple[int, str, bytes, int]]:
    """Give number, word and content of each line, and the features that a header promises, or 0.

    InputError for what is cut, empty, or cannot be read.
    """
    promised = size = count = number = 0
    try:
        with _open(source) as file:
            for number, line in enumerate(file, start=1):
                word, _, rest = line.rstrip(b"\r\n").partition(b" ")
                if number == 1 and word.isdigit() and rest.strip().isdigit():
                    promised, size = int(word), int(rest)
                elif line.strip():
                    count += 1
                    yield number, word.decode(errors="replace"), line, size
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{source} cannot be read after line {number}: {reason_of(error)}") from error
    if not count or count < promised:
        raise InputError(f"{source} is cut: it promises {promised:,} words and has {count:,}")


def _open(source: str) -> "gzip.GzipFile | BufferedReader":
    return gzip.open(source) if source.lower().endswith(".gz") else Path(source).open("rb")


def _numbers(line: bytes, size: int, where: str) -> list[float]:
    # A word may hold spaces: the numbers are the last ones of the line.
    parts = line.rsplit(maxsplit=size)[1:] if size else []
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if (
        not size or len(values) != size or not all(abs(value) <= LARGEST for value in values)
    ):  # nor what is not a number
        raise InputError(
            f"{where}: expected a word and {size or 'its'} numbers; the binary format is not read, the text format is"
        )
    return values
