"""The user's own data: a table with a text column and a label column, in a file or a Hugging Face dataset."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastgru.data.labelled import LabelledTexts
from fastgru.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

# dtype=str and keep_default_na=False: a text "NA" or "007" stays what the file says.
_READERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("read_csv", {"dtype": str, "keep_default_na": False}),
    ".tsv": ("read_csv", {"dtype": str, "keep_default_na": False, "sep": "\t"}),
    ".parquet": ("read_parquet", {}),
}
FORMATS = ".csv, .tsv, .jsonl, .parquet"


def is_table(source: str) -> bool:
    """Say whether `source` names a table file by its suffix, there or not."""
    return Path(source).suffix.lower() in FORMATS.split(", ")


def read_labelled(source: str, text: str, label: str) -> LabelledTexts:
    """Read texts and labels from the file at `source`; InputError for whatever is wrong with it."""
    frame = read_frame(source)
    return LabelledTexts(read_column(frame, text, source), read_column(frame, label, source)).check(source)


def read_texts(source: str, text: str | None) -> list[str]:
    """Read texts alone: the column `text` of a table file, otherwise each line of a text file that is not blank."""
    if is_table(source):
        if text is None:
            raise InputError(f"{source} is a table: name its column of texts with --text")
        texts = read_column(read_frame(source), text, source)
    else:
        try:
            texts = [line for line in Path(source).read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{source} cannot be read: {_reason(error)}") from error
    if not texts:
        raise InputError(f"{source}: there are no texts in it")
    return texts


def read_frame(source: str) -> "pd.DataFrame":
    """Read the table file at `source` by its suffix."""
    import pandas as pd

    path = Path(source)
    if not path.is_file():
        raise InputError(f"{source}: there is no such file")
    if not is_table(source):
        raise InputError(f"{source}: a data file ends in one of {FORMATS}")
    if path.stat().st_size == 0:
        raise InputError(f"{source}: the file is empty")
    try:
        if path.suffix.lower() == ".jsonl":
            return _read_jsonl(path)
        name, options = _READERS[path.suffix.lower()]
        read: Callable[..., pd.DataFrame] = getattr(pd, name)
        return read(path, **options)
    # json, pandas and pyarrow raise their own kinds of ValueError and OSError for content that they cannot parse.
    except (ValueError, OSError) as error:
        raise InputError(f"{source} cannot be read: {_reason(error)}") from error


def _read_jsonl(path: Path) -> "pd.DataFrame":
    # Not pandas' reader: it guesses types, so that a text "2024-01-01" or "007" changes.
    import pandas as pd

    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("every line has to be a JSON object")
    return pd.DataFrame(rows, dtype=object)


def read_column(frame: "pd.DataFrame", column: str, source: str) -> list[str]:
    """Give one column as strings, missing values as ""; InputError, naming the columns there are, without it."""
    if column not in frame.columns:
        there = ", ".join(map(str, frame.columns))
        raise InputError(f"{source}: there is no column {column!r}; the columns are: {there}")
    return ["" if missing else str(value) for value, missing in zip(frame[column], frame[column].isna(), strict=True)]


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
