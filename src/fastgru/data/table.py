"""The user's own data: a table with a text column and a label column, in a file."""

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgru.common.errors import InputError, reason_of
from fastgru.data.labelled import LabelledTexts
from fastgru.data.table_format import SUFFIXES, Columns, TableFormat, suffix_of
from fastgru.data.targets import Targets

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ", ".join(SUFFIXES)
PLAIN = TableFormat()
STDIN = "-"

_log = logging.getLogger(__name__)


def is_table(source: str) -> bool:
    """Say whether `source` names a table file by its suffix, there or not."""
    return suffix_of(Path(source)) in SUFFIXES


def read_labelled(
    source: str, text: str, label: str, table: TableFormat = PLAIN, targets: Targets | None = None
) -> LabelledTexts:
    """Read texts and labels from the file at `source`; InputError for whatever is wrong with it.

    `targets`: what the column of labels holds, where that is not one label; they are brought into its form.
    """
    frame = read_frame(source, table)
    separator = targets.separator if targets else None
    texts, names = read_column(frame, text, source), read_column(frame, label, source, joined=separator)
    rows = LabelledTexts(texts, [name.strip() for name in names])
    rows = _without_headers(rows, (text, label), source) if table.header else rows
    rows = rows.check(source, skip_blank=table.skip_blank, blank_labels=separator is not None)
    return rows if targets is None else replace(rows, labels=targets.read(rows.labels, source))


def _without_headers(rows: LabelledTexts, header: tuple[str, str], source: str) -> LabelledTexts:
    """Leave out rows that repeat the header, as tables that were put together have them, and tell it."""
    found = [place for place, row in enumerate(zip(rows.texts, rows.labels, strict=True)) if row == header]
    if not found:
        return rows
    told = (source, len(found), len(rows), found[0] + 1)
    _log.info("%s: left out what repeats the header: %d of %d rows, the first is row %d", *told)
    return rows.take(sorted(set(range(len(rows))).difference(found)))


def read_texts(source: str, text: str | None, table: TableFormat = PLAIN) -> list[str]:
    """Read texts alone: the column `text` of a table file, otherwise each line of a text file that is not blank.

    `source`: "-" is standard input, a text file.
    """
    if is_table(source):
        if text is None:
            raise InputError(f"{source} is a table: name its column of texts with --text")
        texts = read_column(read_frame(source, table), text, source)
        texts = [value for value in texts if value.strip()] if table.skip_blank else texts
    else:
        content = _read_stdin(table) if source == STDIN else table.read_text(Path(source))
        texts = [line for line in content.splitlines() if line.strip()]
    if not texts:
        raise InputError(f"{source}: there are no texts in it")
    return texts


def _read_stdin(table: TableFormat) -> str:
    return table.decode(sys.stdin.buffer.read(), "standard input")


def read_frame(source: str, table: TableFormat = PLAIN) -> "Columns | pd.DataFrame":
    """Read the table file at `source` by its suffix. Only Parquet needs pandas, which takes long to import."""
    path = Path(source)
    if not is_table(source):
        raise InputError(f"{source}: a data file ends in one of {FORMATS}, or these and .gz")
    if path.is_dir():
        raise InputError(f"{source} is a folder: name a file in it")
    if not path.is_file():
        raise InputError(f"{source}: there is no such file")
    if path.stat().st_size == 0:
        raise InputError(f"{source}: the file is empty")
    return _read_parquet(path) if suffix_of(path) == ".parquet" else table.read_columns(path)


def _read_parquet(path: Path) -> "pd.DataFrame":
    import pandas as pd

    if path.suffix.lower() == ".gz":
        raise InputError(f"{path}: unpack it; Parquet is packed in itself")
    try:
        return pd.read_parquet(path)
    # pyarrow raises its own kinds of ValueError and OSError for content that it cannot parse.
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {reason_of(error)}") from error


def read_column(frame: "Columns | pd.DataFrame", column: str, source: str, *, joined: str | None = None) -> list[str]:
    """Give one column as strings, missing values as ""; InputError, naming the columns there are, without it.

    Whole numbers read the same from every format, and so do truth values; a list or an object is no text, but where
    lists are to be `joined` with what is given.
    """
    if column not in frame:
        there = ", ".join(repr(str(name)) for name in frame)
        raise InputError(f"{source}: there is no column {column!r}; the columns are: {there}")
    values = frame[column]
    if joined is not None:
        values = [_joined(value, joined) for value in values]
    absent = [value is None or value != value for value in values] if isinstance(values, list) else values.isna()
    return [
        "" if missing else _string(value, f"{source}, row {row}")
        for row, (value, missing) in enumerate(zip(values, absent, strict=True), 1)
    ]


def _joined(value: Any, between: str) -> Any:
    """A list of labels as one text; anything else as it is."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return between.join(map(str, value)) if isinstance(value, list | tuple) else value


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
