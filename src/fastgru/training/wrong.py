"""Wrong answers, and the file that a user reads them in."""

import csv
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from fastgru.common.errors import InputError
from fastgru.common.files import atomic_write

SUFFIXES = (".csv", ".tsv", ".jsonl")


@dataclass(frozen=True)
class WrongAnswer:
    """An input, what is true of it, what the model said instead, and the probability that it gave its answer."""

    input: str
    truth: str
    answer: str
    probability: float


def check_errors_file(path: Path) -> None:
    """InputError where no file of wrong answers can be written to `path`: before anything is measured."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"--errors {path}: the file's name ends in one of {', '.join(SUFFIXES)}")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"--errors {path} cannot be written: name a file in a folder that can")


def write_errors(errors: list[WrongAnswer], path: Path) -> None:
    """Write the table, one row an answer; a reader never meets half of it."""
    rows = [asdict(one) for one in errors]
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        if path.suffix.lower() == ".jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            return
        names = [field.name for field in fields(WrongAnswer)]
        writer = csv.DictWriter(file, names, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
