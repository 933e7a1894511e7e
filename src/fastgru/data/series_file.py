"""Files of sequences: `.ts` of the time-series archives, `.npz` with arrays, `.npy` with one sequence."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from fastgru.common.errors import InputError, reason_of
from fastgru.data.sequences import LabelledSequences, Sequence, check_sequence

Arrays = dict[str, npt.NDArray[np.generic]]


def is_series_file(source: str) -> bool:
    """Say whether `source` names a file of many sequences by its suffix, there or not."""
    return Path(source).suffix.lower() in (".ts", ".npz")


def read_labelled_series(source: str) -> LabelledSequences:
    """Read sequences and labels from a .ts or .npz file; InputError for whatever is wrong with it."""
    return read_series(source).check(source)


def read_series(source: str) -> LabelledSequences:
    """Read sequences from a .ts or .npz file, with their labels, which are blank where it has none."""
    return _read_ts(source) if source.lower().endswith(".ts") else _read_npz(source)


def read_npy(source: str) -> Sequence:
    """Read one sequence [T, I] from a .npy file; [T] counts as one feature."""
    try:
        values = np.load(source, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{source} cannot be read as an array: {reason_of(error)}") from error
    return check_sequence(values[:, None] if values.ndim == 1 else values, source)


def _read_npz(source: str) -> LabelledSequences:
    """`x [N, T, I]`, and if there `lengths [N]` (steps of each that count) and `labels [N]`."""
    arrays = _load_npz(source)
    if "x" not in arrays or arrays["x"].ndim != 3:
        there = ", ".join(f"{name} {[*array.shape]}" for name, array in arrays.items())
        raise InputError(f"{source} must hold x [sequences, steps, features], and holds {there or 'nothing'}")
    x = arrays["x"]
    lengths = arrays.get("lengths", np.full(len(x), x.shape[1]))
    labels = arrays.get("labels", np.full(len(x), ""))
    for name, array in (("lengths", lengths), ("labels", labels)):
        if array.shape != (len(x),):
            raise InputError(f"{source}: {name} must be [{len(x)}], one for each sequence, and are {[*array.shape]}")
    if not np.issubdtype(lengths.dtype, np.integer) or (lengths < 1).any() or (lengths > x.shape[1]).any():
        raise InputError(f"{source}: lengths must be whole numbers from 1 to {x.shape[1]}")
    names = [f"{source} (sequence {number})" for number in range(1, len(x) + 1)]
    sequences = [check_sequence(x[row, : int(length)], names[row]) for row, length in enumerate(lengths)]
    return LabelledSequences(sequences, [str(label) for label in labels], names)


def _load_npz(source: str) -> Arrays:
    try:
        with np.load(source, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, BadZipFile, TypeError) as error:
        raise InputError(f"{source} cannot be read as a .npz file: {reason_of(error)}") from error


def _read_ts(source: str) -> LabelledSequences:
    """One line a sequence: the series of each feature, `1.5,2.5,...`, separated by colons, then the label."""
    head, lines = _split_ts(source)
    labelled = head.get("classlabel", "false").lower().startswith("true")
    if head.get("timestamps", "false").lower() == "true":
        raise InputError(f"{source} has time stamps, which are not read: write values alone")
    sequences, labels, names = [], [], []
    for number, line in lines:
        name = f"{source} (line {number})"
        features = line.split(":")
        labels.append(features.pop().strip() if labelled else "")
        sequences.append(_parse(features, name))
        names.append(name)
    return LabelledSequences(sequences, labels, names)


def _split_ts(source: str) -> tuple[dict[str, str], list[tuple[int, str]]]:
    """Give the words of the head, in small letters, and the numbered lines of data."""
    try:
        text = Path(source).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    head: dict[str, str] = {}
    for place, (_, line) in enumerate(lines):
        word, _, value = line.partition(" ")
        if word.lower() == "@data":
            return head, lines[place + 1 :]
        head[word.removeprefix("@").lower()] = value.strip()
    raise InputError(f"{source} is not a .ts file: there is no line @data in it")


def _parse(features: list[str], name: str) -> Sequence:
    try:
        columns = [np.array([float(value) for value in feature.split(",")]) for feature in features]
    except ValueError as error:
        raise InputError(f"{name} has a missing value or one that is no number: {reason_of(error)}") from error
    if not columns or len({len(column) for column in columns}) > 1:
        raise InputError(f"{name} must have series of the same length for every feature")
    return check_sequence(np.stack(columns, axis=1), name)
