from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastgru.common.errors import InputError
from fastgru.data.parquet import RowRange, cut, cut_groups, find_parquet, read, read_schema, whole


def write(path: Path, rows: int, first: int = 0, group: int = 7) -> str:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"n": range(first, first + rows), "text": ["x"] * rows}), path, row_group_size=group)
    return str(path)


def numbers(row_range: RowRange, batch_rows: int = 3) -> list[int]:
    return list(chain.from_iterable(batch["n"].to_pylist() for batch in read(row_range, batch_rows)))


def test_find_a_file_a_folder_and_a_pattern(tmp_path: Path) -> None:
    inner, outer = write(tmp_path / "a" / "1.parquet", 1), write(tmp_path / "2.parquet", 1)
    write(tmp_path / "_hidden.parquet", 1)
    write(tmp_path / ".part" / "3.parquet", 1)
    assert find_parquet(outer) == [outer]
    assert find_parquet(str(tmp_path)) == [outer, inner]
    assert find_parquet(f"{tmp_path}/**/[0-9].parquet") == [outer, inner]


@pytest.mark.parametrize("nothing", ["", "none.parquet", "*.parquet"])
def test_find_nothing(tmp_path: Path, nothing: str) -> None:
    with pytest.raises(InputError, match="expected a Parquet file, a folder or a pattern of them, and there is none"):
        find_parquet(f"{tmp_path}/{nothing}")


@pytest.mark.parametrize("rows", [1, 6, 7, 8, 50])
def test_row_ranges_hold_every_row_once_and_in_order(tmp_path: Path, rows: int) -> None:
    files = [write(tmp_path / "1.parquet", 23), write(tmp_path / "2.parquet", 0), write(tmp_path / "3.parquet", 9, 23)]
    ranges = cut(files, rows)
    assert max(map(len, ranges)) <= rows
    assert [numbers(row_range) for row_range in ranges] == [
        [*range(23)[first : first + rows]] for first in range(0, 23, rows)
    ] + [[*range(23, 32)[first : first + rows]] for first in range(0, 9, rows)]


def test_read_gives_batches_of_the_columns_asked_for(tmp_path: Path) -> None:
    batches = list(read(RowRange(write(tmp_path / "1.parquet", 23), 5, 18), 4, ["text"]))
    assert all(batch.schema.names == ["text"] and 0 < len(batch) <= 4 for batch in batches)
    assert sum(map(len, batches)) == 13


def test_schema_of_files_that_differ(tmp_path: Path) -> None:
    first, other = write(tmp_path / "1.parquet", 3), str(tmp_path / "2.parquet")
    pq.write_table(pa.table({"n": ["1"], "text": ["x"]}), other)
    assert read_schema([first], ["n"]).names == ["n", "text"]
    with pytest.raises(InputError, match=r"2\.parquet: its columns differ from those of .*1\.parquet"):
        read_schema([first, other])
    with pytest.raises(InputError, match="there is no column 'body'; the columns are: 'n', 'text'"):
        read_schema([first], ["body"])


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "1.parquet").write_text("text,label\n")
    with pytest.raises(InputError, match=r"1\.parquet cannot be read as Parquet"):
        read_schema(find_parquet(str(tmp_path)))


def test_a_file_that_is_cut(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "1.parquet", 5000, group=5000))
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"1\.parquet cannot be read"):
        numbers(cut([str(path)], 5000)[0])


@pytest.mark.parametrize(("parts", "least", "longest"), [(1, 1, 7), (3, 1, 3), (100, 1, 1), (100, 5, 5)])
def test_row_groups_are_cut_and_never_joined(tmp_path: Path, parts: int, least: int, longest: int) -> None:
    files = [write(tmp_path / "1.parquet", 23), write(tmp_path / "2.parquet", 0), write(tmp_path / "3.parquet", 9, 23)]
    ranges = cut_groups(files, parts, least)
    assert list(chain.from_iterable(map(numbers, ranges))) == [*range(32)]
    assert max(map(len, ranges)) == longest
    assert all(row_range.start // 7 == (row_range.stop - 1) // 7 for row_range in ranges)
    assert list(chain.from_iterable(map(numbers, whole(files)))) == [*range(32)]
