"""The user's own data: a table with a text column and a label column, in a file or a Hugging Face dataset."""

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgru.common.errors import InputError, reason_of
from fastgru.data.labelled import LabelledTexts

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = {".csv": ",", ".tsv": "\t"}
FORMATS = ".csv, .tsv, .jsonl, .parquet"


def is_table(source: str) -> bool:
    """Say whether `source` names a table file by its suffix, there or not."""
    return Path(source).suffix.lower() in FORMATS.split(", ")


def read_labelled(source: str, text: str, label: str) -> LabelledTexts:
    """Read texts and labels from the file at `source`; InputError for whatever is wrong with it."""
    frame = read_frame(source)
    texts, names = read_column(frame, text, source), read_column(frame, label, source)
    return LabelledTexts(texts, [name.strip() for name in names]).check(source)


def read_texts(source: str, text: str | None) -> list[str]:
    """Read texts alone: the column `text` of a table file, otherwise each line of a text file that is not blank."""
    if is_table(source):
        if text is None:
            raise InputError(f"{source} is a table: name its column of texts with --text")
        texts = read_column(read_frame(source), text, source)
    else:
        try:
            texts = [line for line in Path(source).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise InputError(f"{source} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
        except OSError as error:
            raise InputError(f"{source} cannot be read: {error.strerror}") from error
    if not texts:
        raise InputError(f"{source}: there are no texts in it")
    return texts


def read_frame(source: str) -> "pd.DataFrame":
    """Read the table file at `source` by its suffix."""
    import pandas as pd

    path = Path(source)
    if not is_table(source):
        raise InputError(f"{source}: a data file ends in one of {FORMATS}")
    if path.is_dir():
        raise InputError(f"{source} is a folder: name a file in it")
    if not path.is_file():
        raise InputError(f"{source}: there is no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{source}: the file is empty")
    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path)
        read = _read_jsonl if path.suffix.lower() == ".jsonl" else _read_separated
        return pd.DataFrame(read(path), dtype=object)
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    # csv, json and pyarrow raise their own kinds of ValueError and OSError for content that they cannot parse.
    except (ValueError, OSError, csv.Error) as error:
        raise InputError(f"{source} cannot be read: {reason_of(error)}") from error


def _read_separated(path: Path) -> dict[str, list[str]]:
    # Not pandas' reader: it takes the first field of rows that are too long for an index, without a word.
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=SEPARATORS[path.suffix.lower()], strict=True)
        names = next(rows, [])
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the column {twice[0]!r} is there twice")
        columns: dict[str, list[str]] = {name: [] for name in names}
        for row in rows:
            if not row:
                continue
            if len(row) != len(names):
                raise ValueError(
                    f"line {rows.line_num} has {len(row)} fields and the header {len(names)}: put texts that hold "
                    "the separator into quotes"
                )
            for name, value in zip(names, row, strict=True):
                columns[name].append(value)
    return columns


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    # Not pandas' reader: it guesses types, so that a text "2024-01-01" or "007" changes.
    rows = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number} is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: every line has to be a JSON object")
            rows.append(row)
    return rows


def read_column(frame: "pd.DataFrame", column: str, source: str) -> list[str]:
    """Give one column as strings, missing values as ""; InputError, naming the columns there are, without it.

    Whole numbers read the same from every format, and so do truth values; a list or an object is no text.
    """
    if column not in frame.columns:
        there = ", ".join(repr(str(name)) for name in frame.columns)
        raise InputError(f"{source}: there is no column {column!r}; the columns are: {there}")
    values = zip(frame[column], frame[column].isna(), strict=True)
    return ["" if missing else _string(value, f"{source}, row {row}") for row, (value, missing) in enumerate(values, 1)]


def _string(value: Any, where: str) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, list | dict | tuple) or (hasattr(value, "shape") and value.shape):
        raise InputError(f"{where}: expected a text or a number, got {type(value).__name__}")
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where} holds a text that no encoding can hold: {ascii(text)[:60]}") from error
    return text
