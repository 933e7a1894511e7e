"""TableFormat: how the bytes of a table file become columns, whatever wrote it."""

import codecs
import csv
import gzip
import io
import json
import logging
import sys
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from fastgru.common.errors import InputError, reason_of

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
RECOGNISED = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SAMPLE = 20  # rows by which a separator is recognised

Columns = dict[str, list[Any]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableFormat:
    """How a table file is written, where that cannot be seen by its name.

    `separator`: of the fields of a .csv or .tsv file; None recognises commas, semicolons, tabs and bars.
    `encoding`: by Python's names; None is UTF-8, or UTF-16 where a file begins with its mark.
    `header`: whether the first row names the columns; otherwise they are called 1, 2, and so on.
    `skip_blank`: leave out rows whose text or label is blank, which are refused otherwise.
    InputError for a separator or an encoding that is none.
    """

    separator: str | None = None
    encoding: str | None = None
    header: bool = True
    skip_blank: bool = False

    def __post_init__(self) -> None:
        if self.separator is not None and (len(self._separator) != 1 or self._separator in '\r\n"'):
            raise InputError(f"--separator takes one character, or 'tab'; got {self.separator!r}")
        try:
            codecs.lookup(self.encoding or "utf-8")
        except LookupError as error:
            raise InputError(f"--encoding {self.encoding}: Python knows no such encoding; try latin-1") from error

    @property
    def _separator(self) -> str:
        return {"tab": "\t", "\\t": "\t"}.get(self.separator or "", self.separator or "")

    def read_columns(self, path: Path) -> Columns:
        """Read a .csv, .tsv, .json or .jsonl file, .gz or not; InputError for whatever is wrong with it."""
        text, kind = self.read_text(path), suffix_of(path)
        try:
            if kind in SEPARATORS:
                return self._separated(text, kind, path)
            return _read_json(text) if kind == ".json" else _by_name(_read_lines(text))
        except (ValueError, csv.Error) as error:  # what csv and json raise for content that they cannot parse
            raise InputError(f"{path} cannot be read: {reason_of(error)}") from error

    def read_text(self, path: Path) -> str:
        """Read and decode a whole file, .gz or not; InputError where that fails."""
        try:
            return self.decode(path.read_bytes(), str(path), zipped=path.suffix.lower() == ".gz")
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error

    def decode(self, content: bytes, source: str, *, zipped: bool = False) -> str:
        """Decode the bytes of `source`; InputError where they are not in the encoding."""
        try:
            content = gzip.decompress(content) if zipped else content
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{source} cannot be unpacked: {reason_of(error)}") from error
        marked = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        encoding = self.encoding or ("utf-16" if marked else "utf-8-sig")
        try:
            return content.decode(encoding)
        except UnicodeError as error:
            where = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
            named = self.encoding or ("UTF-16" if marked else "UTF-8")
            raise InputError(
                f"{source} is not {named}{where}: save it as UTF-8, or name its encoding, such as --encoding latin-1"
            ) from error

    def _separated(self, text: str, kind: str, path: Path) -> Columns:
        # Not pandas' reader: it takes the first field of rows that are too long for an index, without a word.
        csv.field_size_limit(sys.maxsize)
        separator = self._separator or _recognise(text, SEPARATORS[kind])
        if not self.separator and separator != SEPARATORS[kind]:
            _log.info("%s is separated by %s", path, RECOGNISED[separator])
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        first = next(rows, [])
        names = first if self.header else [str(number) for number in range(1, len(first) + 1)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the column {twice[0]!r} is there twice")
        found = list(_checked(rows, len(first), "the header" if self.header else "the first"))
        if not self.header:
            found.insert(0, first)
        return {name: [row[place] for row in found] for place, name in enumerate(names)}


def suffix_of(path: Path) -> str:
    """Give the suffix that says what is in the file: .csv of mail.csv.gz too."""
    inner = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return inner.suffix.lower()


def _checked(rows: Any, fields: int, whose: str) -> Iterable[list[str]]:
    for row in rows:
        if row and len(row) != fields:
            raise ValueError(
                f"line {rows.line_num} has {len(row)} fields and {whose} {fields}: put texts that hold "
                "the separator into quotes, or name another with --separator"
            )
        if row:
            yield row


def _recognise(text: str, usual: str) -> str:
    """Find the separator by which the first rows all have as many fields, two or more; the usual one before others.

    Where none does, the first by which the first row has two fields, so that the message about a row that is wrong
    speaks of the right one.
    """
    candidates = [usual, *(separator for separator in RECOGNISED if separator != usual)]
    widths = {separator: _widths(text, separator) for separator in candidates}
    for separator, found in widths.items():
        if len(set(found)) == 1 and found[0] > 1:
            return separator
    return next((separator for separator, found in widths.items() if found and found[0] > 1), usual)


def _widths(text: str, separator: str) -> list[int]:
    """Count the fields of the first rows; none where they cannot be parsed by this separator."""
    try:
        return [
            len(row) for row in islice(csv.reader(io.StringIO(text), delimiter=separator, strict=True), SAMPLE) if row
        ]
    except csv.Error:
        return []


def _read_json(text: str) -> Columns:
    """Read a list of objects, an object of columns as pandas writes it, or what is JSON lines in truth."""
    try:
        content = json.loads(text)
    except ValueError as error:
        if not str(error).startswith("Extra data"):
            raise
        return _by_name(_read_lines(text))
    if isinstance(content, list):
        for number, row in enumerate(content, start=1):
            if not isinstance(row, dict):
                raise ValueError(f"row {number}: every element of the list has to be an object")
        return _by_name(content)
    if not isinstance(content, dict):
        raise ValueError("expected a list of objects, or an object of columns")
    columns = {name: list(values.values()) if isinstance(values, dict) else values for name, values in content.items()}
    lengths = {len(values) if isinstance(values, list) else -1 for values in columns.values()}
    if lengths == {-1}:  # one object: a file of JSON lines that has a single one
        return _by_name([content])
    if len(lengths) > 1:
        raise ValueError("the columns of the object have to be lists of one length")
    return columns


def _read_lines(text: str) -> list[dict[str, Any]]:
    # Not pandas' reader: it guesses types, so that a text "2024-01-01" or "007" changes.
    rows = []
    for number, line in enumerate(io.StringIO(text), start=1):
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


def _by_name(rows: list[dict[str, Any]]) -> Columns:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
