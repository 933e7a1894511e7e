"""Word vectors out of text files: what is read, what is folded, what is refused."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from fastgru.common.errors import InputError
from fastgru.data.vectors import WordVectors, check_vectors, read_vectors

LINES = ["the 1 2 3", "Film 4 5 6", "film 7 8 9", "FILM 0 0 0", "fine -1e-2 .5 2", "caf\u00e9 1 1 1", "other 3 3 3"]


def write(path: Path, lines: list[str], *, header: bool = True) -> str:
    text = "\n".join([f"{len(lines)} 3", *lines] if header else lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def read(source: str, wanted: set[str], most: int = 0) -> WordVectors:
    return read_vectors(source, wanted.__contains__, str.isalpha, most, str.lower)


@pytest.mark.parametrize("name", ["a.vec", "a.txt.gz"])
@pytest.mark.parametrize("header", [True, False])
def test_vectors_are_read_from_each_format(tmp_path: Path, name: str, header: bool) -> None:
    found = read(write(tmp_path / name, LINES, header=header), {"fine", "caf\u00e9", "unseen"})
    assert found.words == ["fine", "caf\u00e9"]
    assert found.size == 3
    np.testing.assert_array_equal(found.values, np.array([[-0.01, 0.5, 2], [1, 1, 1]], np.float32))


def test_the_spelling_that_is_folded_already_goes_first(tmp_path: Path) -> None:
    found = read(write(tmp_path / "a.vec", LINES), {"film"})
    assert (found.words, found.values.tolist()) == (["film"], [[7, 8, 9]])
    found = read(write(tmp_path / "b.vec", [LINES[1], LINES[3]]), {"film"})
    assert found.values.tolist() == [[4, 5, 6]]


def test_the_first_of_the_others_come_too(tmp_path: Path) -> None:
    source = write(tmp_path / "a.vec", ["! 0 0 0", *LINES])
    assert read(source, {"other"}, most=2).words == ["the", "film", "other"]
    assert read(source, set(), most=0).words == []


def test_a_word_with_a_space_is_one(tmp_path: Path) -> None:
    found = read(write(tmp_path / "a.vec", ["at home 1 2 3", "at 4 5 6"]), {"at"})
    assert found.values.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is cut: it promises 0 words and has 0"),
        (b"3 2\nfine 1 2\n", "is cut: it promises 3 words and has 1"),
        (b"1 2\nfine 1\n", "line 2: expected a word and 2 numbers"),
        (b"1 2\nfine 1 nan\n", "line 2: expected a word and 2 numbers"),
        (b"1 2\nfine 1 1e99\n", "line 2: expected a word and 2 numbers"),
        (
            b"2 2\nfine \x00\x01\xff\x80\x9f\x00\n\x00",
            "line 2: expected a word and 2 numbers; the binary format is not",
        ),
        (b"fine\n", "line 1: expected a word and its numbers"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.vec").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(str(tmp_path / "a.vec"), {"fine"})


def test_a_packed_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.vec.gz", [f"word{number} 1 2 3" for number in range(2000)])
    Path(source).write_bytes(Path(source).read_bytes()[:-900])
    with pytest.raises(InputError, match="cannot be read after line"):
        read(source, {"fine"})


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file of word vectors"):
        check_vectors(str(tmp_path / "a.vec"))
