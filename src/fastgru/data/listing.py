"""Listing: the files of labelled signals, from a folder of folders or from a manifest, a table that names them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fastgru.common.errors import InputError
from fastgru.data.audio import is_audio
from fastgru.data.table import is_table, read_column, read_frame

PARTS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation", "dev": "validation"}
PARTS["test"] = PARTS["testing"] = "test"
SPLIT = "split"  # a manifest's column of parts
NOISE = "_background_noise_"  # a folder of Google's speech commands that is no label
LISTS = {"validation_list.txt": "validation", "testing_list.txt": "test"}  # its own parts
SPEAKER = re.compile(r"^([^_]+)_nohash_")  # in its file names


@dataclass(frozen=True)
class Columns:
    """What is where. `path`, `label`: columns of a manifest.

    `groups`: what keeps together in a split, such as a speaker: a column of a manifest, or for a folder a regular
    expression that is searched in each file's name, whose first group counts, or all of it where it has none.
    """

    path: str = "path"
    label: str = "label"
    groups: str | None = None


@dataclass(frozen=True)
class Listing:
    """N files. `paths`, `labels` [N]; `groups [N]`: who is to be heard in each, where that is known.

    `parts [N]`: "train", "validation" or "test", where the source says.
    """

    paths: list[str]
    labels: list[str]
    groups: list[str] | None = None
    parts: list[str] | None = None


def is_listed(source: str) -> bool:
    """Say whether `source` is a folder, or names a manifest by its suffix."""
    return Path(source).is_dir() or is_table(source)


def list_files(source: str, columns: Columns) -> Listing:
    """List the files of a folder or a manifest; InputError for whatever is wrong with it."""
    found = _in_folder(source, columns.groups) if Path(source).is_dir() else _in_manifest(source, columns)
    for path in found.paths:
        if not is_audio(path) and not path.lower().endswith(".npy"):
            raise InputError(f"{path} is neither a sound file (.wav, .flac, ...) nor an array (.npy): take it away")
    return found


def _in_folder(folder: str, pattern: str | None) -> Listing:
    """The files by label, in the order of their names; what begins with a dot is passed over."""
    entries = sorted(entry for entry in Path(folder).iterdir() if entry.is_dir() and not entry.name.startswith("."))
    labels = [entry for entry in entries if entry.name != NOISE]
    files = [
        (path, label.name) for label in labels for path in sorted(label.iterdir()) if not path.name.startswith(".")
    ]
    if not files:
        raise InputError(f"{folder} must hold a folder for each label, with its files in it, and holds none")
    paths = [str(path) for path, _ in files]
    return Listing(paths, [label for _, label in files], _groups(paths, pattern), _listed_parts(folder, paths))


def _groups(paths: list[str], pattern: str | None) -> list[str] | None:
    """The group of each file by its name; without a pattern, by the speakers that Google's speech commands name."""
    if pattern is None:
        speakers = [SPEAKER.search(Path(path).name) for path in paths]
        return [found[1] for found in speakers if found] if all(speakers) else None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--groups {pattern!r} is no regular expression: {error}") from error
    groups = []
    for path in paths:
        match = expression.search(Path(path).name)
        if match is None:
            raise InputError(f"--groups {pattern!r} is not to be found in the name of {path}")
        groups.append(match[1] if expression.groups else match[0])
    return groups


def _listed_parts(folder: str, paths: list[str]) -> list[str] | None:
    """The part of each file by the lists beside the folders, of lines `label/file`; None where there are none."""
    part_of: dict[str, str] = {}
    for name, part in LISTS.items():
        if (Path(folder) / name).is_file():
            part_of |= dict.fromkeys((Path(folder) / name).read_text(encoding="utf-8").split(), part)
    return [part_of.get("/".join(Path(path).parts[-2:]), "train") for path in paths] if part_of else None


def _in_manifest(source: str, columns: Columns) -> Listing:
    frame = read_frame(source)
    paths, labels = (read_column(frame, name, source) for name in (columns.path, columns.label))
    if not paths:
        raise InputError(f"{source}: there are no rows in it")
    for what, values in ((columns.path, paths), (columns.label, labels)):
        if blank := _blank(values):
            raise InputError(f"{source}, row {blank}: column {what!r} is empty")
    groups = read_column(frame, columns.groups, source) if columns.groups else None
    parts = [_part(name, source) for name in read_column(frame, SPLIT, source)] if SPLIT in frame else None
    files = [str(Path(source).parent / path.strip()) for path in paths]
    return Listing(files, [label.strip() for label in labels], groups, parts)


def _blank(values: Iterable[str]) -> int:
    """The number of the first row that is blank; 0 where none is."""
    return next((row for row, value in enumerate(values, start=1) if not value.strip()), 0)


def _part(name: str, source: str) -> str:
    part = PARTS.get(name.strip().lower())
    if part is None:
        raise InputError(f"{source}: column {SPLIT!r} says train, validation or test, and has {name!r}")
    return part
